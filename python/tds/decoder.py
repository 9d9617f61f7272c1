# SPDX-License-Identifier: LGPL-2.1-or-later
"""From two streams back to one video: decode, pair, enhance, in display order.

Each stream is decoded by a thread of its own into a short queue; the session
says which stream it needs next, so memory is bounded whatever the interleaving.
"""

from __future__ import annotations

import os
import queue
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import Any

from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from .container.metadata import Hints
from .container.mp4 import PairedFile
from .errors import ExternalError, InputError
from .media.decoding import frames
from .pair import Decoded, Item, Lost, Pair
from .plan import Role
from .session import Picture, Session

BACKENDS = ("auto", "bicubic", "torchscript")


@dataclass(frozen=True)
class EnhanceSettings:
    """Which enhancer, and where it runs.

    backend: "auto", "bicubic" or "torchscript". model: a TorchScript file or a
    model's name; None: the one the file names if it is here, else the default
    for this k and device, else bicubic. device: "auto", "cpu", "cuda", "cuda:N".
    precision: "auto", "float32", "float16", "bfloat16". threads: of the backend
    on the CPU, 0: all.
    """

    backend: str = "auto"
    model: str | None = None
    device: str = "auto"
    precision: str = "auto"
    threads: int = 0


class Decoder(Iterator[Picture]):
    """Iterates over the pictures of a pair, every one once, in display order.

    A context manager; one that is never closed ends with its last reference.
    Attributes: width, height, bit_depth, scale, time_base (of each picture's
    ``pts``), rate (nominal), sample_aspect_ratio (of HR; None: not said),
    full_range (whether samples use all codes), model (a few words for a person),
    notices (sentences about what is not as asked for).
    """

    def __init__(self, pair: Pair, settings: EnhanceSettings | None = None) -> None:
        self.width, self.height = pair.width, pair.height
        self.bit_depth, self.scale = pair.bit_depth, pair.scale
        self.time_base, self.rate, self.regular = pair.time_base, pair.rate, pair.regular
        self.sample_aspect_ratio, self.full_range = pair.sample_aspect_ratio, pair.full_range
        self.notices: list[str] = []
        wanted = settings or EnhanceSettings()
        backend, model = self._choose(wanted, pair.hints)
        self._session = Session(
            pair.width,
            pair.height,
            pair.scale,
            bit_depth=pair.bit_depth,
            backend=backend,
            model=model,
            device=wanted.device,
            precision=wanted.precision,
            threads=wanted.threads,
            hr_qp=pair.hints.hr_qp,
            lr_qp=pair.hints.lr_qp,
            max_group=pair.max_group,
        )
        self._feeds = {
            role: _Feed(role, items, pair.queued) for role, items in pair.streams.items()
        }
        # A decoder that is let go without being closed leaves no threads: they hold their
        # feeds and nothing of this object.
        self._end = weakref.finalize(self, _stop, tuple(self._feeds.values()), pair.interrupt)
        for feed in self._feeds.values():
            feed.start()

    def _choose(self, wanted: EnhanceSettings, hints: Hints) -> tuple[str, str | None]:
        """(backend, model file) for the session."""
        if wanted.backend not in BACKENDS:
            raise InputError(f"no backend {wanted.backend!r}; there are {', '.join(BACKENDS)}")
        if wanted.backend == "bicubic":
            if wanted.model is not None:
                raise InputError("--backend bicubic takes no model; leave --model out")
            return "bicubic", None
        from . import models

        if wanted.backend == "auto" and wanted.model is None and (why := models.unusable()):
            self.notices.append(f"{why}: LR pictures are up-sampled by bicubic")
            return "bicubic", None
        if wanted.model is not None:
            # A hash in the file is of the model it names, whoever asks for that model.
            sha256 = hints.model_sha256 if wanted.model == hints.model else None
            return "torchscript", str(models.find(wanted.model, self.scale, sha256).path)
        if hints.model is not None:
            try:
                found = models.find_named(hints.model, self.scale, hints.model_sha256)
            except FileNotFoundError:
                self.notices.append(
                    f"the file asks for the model {hints.model}, which is not here; using another"
                )
            else:
                return "torchscript", str(found.path)
        default = models.default(self.scale, wanted.device)
        if default is not None:
            return "torchscript", str(default.path)
        if wanted.backend == "torchscript":
            raise InputError(
                f"no model for k = {self.scale} is installed; name a TorchScript file with --model"
            )
        self.notices.append(
            f"no model for k = {self.scale} is installed: LR pictures are up-sampled by bicubic; "
            "name a TorchScript file with --model to enhance them"
        )
        return "bicubic", None

    @property
    def session(self) -> Session:
        return self._session

    @property
    def model(self) -> str:
        """ "bicubic", or the model's name and where it runs."""
        info = self._session.info
        if info.backend == "bicubic":
            return "bicubic (built in)"
        return f"{info.model_name} ({info.precision} on {info.device})"

    @property
    def damaged(self) -> dict[Role, int]:
        """Packets that did not decode, so far."""
        return {role: feed.damaged for role, feed in self._feeds.items()}

    def __next__(self) -> Picture:
        session = self._session
        while True:
            picture = session.receive()
            if picture is not None:
                return picture
            if session.ended:
                raise StopIteration
            for role in (Role.HR, Role.LR):
                if role.value in session.wants:
                    self._feed(role)

    def _feed(self, role: Role) -> None:
        """Sends one picture of a stream; keeps it for next time when the session is full."""
        item = self._feeds[role].peek()
        if item is None:
            self._session.end(role.value)
            return
        if isinstance(item, Lost):
            taken = self._session.send_lost(role.value, item.pts)
        else:
            frame = item if isinstance(item, VideoFrame) else item.planes
            taken = self._session.send(role.value, frame, item.pts, corrupt=item.is_corrupt)
        if taken:
            self._feeds[role].take()

    def __iter__(self) -> Decoder:
        return self

    def close(self) -> None:
        """Ends the threads that read, and with them their files. Again is allowed."""
        self._end()
        for feed in self._feeds.values():
            feed.join()
        self._session.close()

    def __enter__(self) -> Decoder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _stop(feeds: Collection[_Feed], interrupt: Callable[[], None] | None) -> None:
    for feed in feeds:
        feed.stop()
    if interrupt is not None:
        interrupt()


class _Feed:
    """Runs an iterator of pictures in a thread, a few pictures ahead."""

    def __init__(self, role: Role, items: Iterable[Item], queued: int) -> None:
        self._items = items
        self._queue: queue.Queue[Item | BaseException | None] = queue.Queue(queued)
        self._stopping = threading.Event()
        self._head: list[Item | None] = []
        self._thread = threading.Thread(target=self._run, name=f"decode {role.value}", daemon=True)

    @property
    def damaged(self) -> int:
        return int(getattr(self._items, "damaged", 0))

    def start(self) -> None:
        self._thread.start()

    def _put(self, item: Item | BaseException | None) -> None:
        while not self._stopping.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def _run(self) -> None:
        try:
            for item in self._items:
                self._put(item)
                if self._stopping.is_set():
                    return
            self._put(None)
        except BaseException as e:
            self._put(e)
        finally:
            close = getattr(self._items, "close", None)
            if close is not None:  # a generator holds a file, or another feed waits for its end
                close()

    def peek(self) -> Item | None:
        if not self._head:
            item = self._queue.get()
            if isinstance(item, BaseException):
                raise item
            self._head.append(item)
        return self._head[0]

    def take(self) -> None:
        self._head.clear()

    def stop(self) -> None:
        """Lets the thread end soon; waits for nothing, so that any thread may call it."""
        self._stopping.set()

    def join(self) -> None:
        self._thread.join(10)


class TrackPictures:
    """The pictures of one track of a paired file, decoded, in display order.

    Times are in ``time_base`` ticks. Where the metadata expects a picture and
    none decodes, ``Lost`` stands for it, so that no frame of the source is missing.
    ``damaged`` counts packets that did not decode.
    """

    def __init__(self, file: PairedFile, role: Role, expected: list[int]) -> None:
        self._file, self._role, self._expected = file, role, expected
        self.damaged = 0

    def _damage(self) -> None:
        self.damaged += 1

    def __iter__(self) -> Iterator[Item]:
        return fill_lost(self._decode(), self._expected)

    def _decode(self) -> Iterator[VideoFrame]:
        track = self._file.track(self._role)
        base = self._file.time_base
        with self._file.open() as container:
            stream = container.streams[track.index]
            assert isinstance(stream, VideoStream)
            factor = Fraction(stream.time_base or 1) / base
            last: int | None = None
            for frame in frames(self._file.path, container, stream, self._damage):
                if frame.pts is None:
                    self.damaged += 1
                    continue
                frame.pts = round(frame.pts * factor)
                if (frame.width, frame.height) != (track.width, track.height):
                    raise InputError(
                        f"{self._file.path}: its {self._role.name} track changes size from "
                        f"{track.width}x{track.height} to {frame.width}x{frame.height}"
                    )
                if last is not None and frame.pts <= last:  # a decoder repeating itself
                    self.damaged += 1
                    continue
                last = frame.pts
                yield frame


def fill_lost(decoded: Iterable[Decoded], expected: list[int]) -> Iterator[Item]:
    """``decoded`` with ``Lost`` at every expected time none of them has.

    Frames at other times (the LR stream's down-sampled boundaries) stay."""
    due = 0
    for frame in decoded:
        assert frame.pts is not None
        while due < len(expected) and expected[due] < frame.pts:
            yield Lost(expected[due])
            due += 1
        if due < len(expected) and expected[due] == frame.pts:
            due += 1
        yield frame
    for pts in expected[due:]:
        yield Lost(pts)


def decode(
    path: str | os.PathLike[str],
    *,
    settings: EnhanceSettings | None = None,
    allow_truncated: bool = False,
    **options: Any,
) -> Decoder:
    """Opens a paired file and iterates over its pictures at full size.

    path: an MP4 written by ``tds.encode`` (or any file with an HR and an LR
    track). settings, or its fields as keywords (``model="fast"``,
    ``device="cpu"``). Each item is a ``tds.Picture``: ``planes`` (numpy, uint8 or
    uint16), ``pts`` (ticks of the decoder's ``time_base``), ``status``, ``reason``.

    Raises InputError or MissingError with a sentence, RuntimeError from the backend.

        with tds.decode("clip.mp4") as pictures:
            for picture in pictures:
                y, u, v = picture.planes
    """
    if settings is None:
        settings = EnhanceSettings(**options)
    elif options:
        raise TypeError("give settings or keywords, not both")
    file = PairedFile(os.fspath(path), allow_truncated)
    return decoder_of(file, settings)


def decoder_of(file: PairedFile, settings: EnhanceSettings | None = None) -> Decoder:
    """A Decoder of an open PairedFile."""
    return Decoder(pair_of(file), settings)


def pair_of(file: PairedFile) -> Pair:
    """The pair in an open PairedFile."""
    expected = file.expected()
    m = file.metadata
    with file.open() as container:
        aspect, full_range = shape(container.streams[file.hr.index])
    return Pair(
        {role: TrackPictures(file, role, expected[role]) for role in Role},
        width=file.hr.width,
        height=file.hr.height,
        bit_depth=file.hr.bit_depth,
        scale=file.scale,
        time_base=file.time_base,
        rate=file.rate,
        regular=m is None or m.timeline.regular,
        sample_aspect_ratio=aspect,
        full_range=full_range,
        hints=m.hints if m else Hints(),
    )


def shape(stream: Stream) -> tuple[Fraction | None, bool]:
    """(sample aspect ratio, whether samples use the full range) of a video stream, for a
    Decoder's attributes of the same names."""
    assert isinstance(stream, VideoStream)
    context = stream.codec_context
    full = context.color_range == ColorRange.JPEG or (context.pix_fmt or "").startswith("yuvj")
    aspect = stream.sample_aspect_ratio
    return (Fraction(aspect) if aspect else None), full


def check_complete(decoder: Decoder, name: str) -> None:
    """Raises ExternalError when nothing at all came out."""
    info = decoder.session.info
    if info.passed + info.enhanced + info.upsampled == 0:
        raise ExternalError(f"{name}: not one picture of it decodes")
