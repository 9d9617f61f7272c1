# SPDX-License-Identifier: LGPL-2.1-or-later
"""From two streams back to one video: decode, pair, enhance, in display order.

The session says which stream it needs next, so memory is bounded whatever the interleaving.
"""

from __future__ import annotations

import operator
from base64 import b64encode
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isfinite
from numbers import Real
from typing import TYPE_CHECKING, Any, Protocol, SupportsIndex, Unpack, overload

import numpy as np
from av.video.frame import VideoFrame

from ._tds import Tag
from .arrivals import Arrivals
from .closing import Closing
from .container.paired import PairedFile, is_one_stream
from .display import Colors, batch, page_table, png, tensors
from .errors import ExternalError, InputError, MissingError, worded
from .media.hdr import untrained
from .media.objects import NamedSource, Source
from .media.opening import wait_at_most
from .options import EnhanceOptions
from .pair import Lost, Pair
from .plan import Role
from .session import Picture, Session
from .tracks import pair_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from .live import LivePair
    from .plain import PlainStream


class SupportsClose(Protocol):
    def close(self) -> None: ...


BACKENDS = ("auto", "bicubic", "torchscript")
HR = ("auto", "pass", "refine")


@dataclass(frozen=True)
class EnhanceSettings:
    """Which enhancer, and where it runs.

    backend: "auto", "bicubic" or "torchscript". model: a TorchScript file or a
    model's name; None: the one the file names if it is here, else the default
    for this k and device, else bicubic. device: "auto", "cpu", "cuda", "cuda:N".
    precision: "auto", "float32", "float16", "bfloat16". threads: of the backend
    on the CPU, 0: all. strength: of the model's changes, 0 (none) to 1; what the file tells
    of single pictures is multiplied by it. causal: each picture is made from those before it
    alone. hr: whether the HR pictures of a pair, or the pictures of a plain stream, are enhanced
    too: "auto" (as the file tells; a plain file without a tag is), "pass" or "refine". hr_qp,
    lr_qp: QPs, 0 to 63, that the streams were coded with, on the scale that VVC, HEVC and H.264
    share; -1: what the file tells. A model that is told does better, by a third in random access.
    """

    backend: str = "auto"
    model: str | None = None
    device: str = "auto"
    precision: str = "auto"
    threads: int = 0
    strength: float = 1.0
    causal: bool = False
    hr: str = "auto"
    hr_qp: int = -1
    lr_qp: int = -1

    def __post_init__(self) -> None:
        """Raises InputError for what is no such number, in a person's words; what is left the
        session checks."""
        for name, most in (("threads", 1024), ("hr_qp", 63), ("lr_qp", 63)):
            value, least = getattr(self, name), 0 if name == "threads" else -1
            if not hasattr(value, "__index__") or not least <= operator.index(value) <= most:
                option = "--" + name.replace("_", "-")
                raise InputError(f"{option} is a whole number from {least} to {most}, not {value}")
        if not isinstance(self.strength, Real) or not 0 <= self.strength <= 1:
            raise InputError(f"--strength is a number from 0 to 1, not {self.strength}")


@dataclass(frozen=True)
class Chosen:
    """What a session runs; of_tag: the very model that the file's tag speaks of."""

    backend: str
    model: str | None = None
    hr_model: str | None = None
    of_tag: bool = False


class Decoder(Iterator[Picture], Closing):
    """Iterates over the pictures of a pair, every one once, in display order. A pair without an
    LR stream is a plain one, whose pictures are made better from their neighbours.

    A context manager; one that is never closed ends with its last reference.
    Attributes: width, height, bit_depth, chroma (420, 422 or 444), scale, time_base (of each
    picture's ``pts``), rate (nominal), sample_aspect_ratio (of HR; None: not said),
    full_range (whether samples use all codes), model (a few words for a person), plain
    (whether it is one stream of full-size pictures, without LR), frames (how many there
    will be, about; 0: not known).

    What comes from a file that can be read again is a sequence too: ``len``, ``times``,
    ``duration``, ``seek``, and indexing by number and by time. A whole number counts pictures;
    any other number is seconds from the first picture, and the picture is the one shown then.
    A slice is a list; neither it nor an index moves the place where iterating goes on::

        pictures[10], pictures[-1]            # tds.Picture
        pictures[10:20:2]                     # five of them
        pictures[0.5:1.0]                     # those shown from 0.5 s on and before 1 s
        pictures.to_rgb(10, 20)               # of the same, RGB: [10, height, width, 3], uint8
        pictures.to_tensor(0.5, 1.0)          # torch: [N, 3, height, width], uint8

    Each is the picture that it would be in its turn, for which those before it are decoded and
    enhanced that it is made from.
    """

    def __init__(
        self,
        pair: Pair,
        settings: EnhanceSettings | None = None,
        chosen: Chosen | None = None,
    ) -> None:
        """chosen: None: by the settings and the tag."""
        self.width, self.height = pair.width, pair.height
        self.bit_depth, self.chroma, self.scale = pair.bit_depth, pair.chroma, pair.scale
        self.time_base, self.rate, self.regular = pair.time_base, pair.rate, pair.regular
        self.sample_aspect_ratio, self.full_range = pair.sample_aspect_ratio, pair.full_range
        self._notices: list[str] = []
        wanted = settings or EnhanceSettings()
        self.plain = Role.LR not in pair.streams
        chosen = chosen or self._choose(wanted, pair.hints.tag)
        if chosen.model is not None:
            self._notices += untrained(pair.transfer)
        self._strength = wanted.strength
        self._of_tag = chosen.of_tag
        self._session = Session(
            pair.width,
            pair.height,
            pair.scale,
            bit_depth=pair.bit_depth,
            chroma=pair.chroma,
            backend=chosen.backend,
            model=chosen.model,
            device=wanted.device,
            precision=wanted.precision,
            threads=wanted.threads,
            hr_qp=wanted.hr_qp if wanted.hr_qp >= 0 else pair.hints.hr_qp,
            lr_qp=wanted.lr_qp if wanted.lr_qp >= 0 else pair.hints.lr_qp,
            max_group=pair.max_group,
            kind="plain" if self.plain else "pair",
            hr_model=chosen.hr_model,
            causal=wanted.causal,
            strength=wanted.strength,
        )
        self.frames = pair.frames
        self._session.colors = Colors(pair.matrix, pair.full_range)
        self._source = pair.source
        self._handed: int | None = None  # time of the last picture that the session gave
        self._iterated: int | None = None  # and of the last one that iterating gave
        self._said = pair.notices
        self._with: list[SupportsClose] = []
        self._arrivals = Arrivals(pair)

    def _choose(self, wanted: EnhanceSettings, tag: Tag | None) -> Chosen:
        """What the session runs. A plain stream needs a model; a pair does without."""
        if wanted.backend not in BACKENDS:
            raise InputError(f"no backend {wanted.backend!r}; there are {', '.join(BACKENDS)}")
        if wanted.hr not in HR:
            raise InputError(f"HR pictures can be {', '.join(HR)}, not {wanted.hr!r}")
        refine = wanted.hr == "refine" or (
            wanted.hr == "auto" and (tag.refine_hr if tag is not None else self.plain)
        )
        from . import models

        if wanted.backend == "bicubic":
            if wanted.model is not None:
                raise InputError("--backend bicubic takes no model; leave --model out")
            if self.plain and refine and tag is None:
                raise InputError(
                    "pictures of full size need no up-sampling; a plain stream is enhanced by a "
                    "model alone: leave --backend out"
                )
            return Chosen("bicubic")
        if self.plain and not refine:
            return Chosen("bicubic")  # which passes pictures of full size
        told = tag is not None or not self.plain
        optional = wanted.backend == "auto" and wanted.model is None and told
        instead = (
            "its pictures pass as they are"
            if self.plain
            else "LR pictures are up-sampled by bicubic"
        )
        if optional and (why := models.unusable()):
            self._notices.append(f"{why}: {instead}")
            return Chosen("bicubic")
        try:
            choice = models.choose(
                self.scale,
                wanted.model,
                tag=tag,
                device=wanted.device,
                refine_hr=refine and not self.plain,
            )
        except MissingError:
            if not optional:
                raise
            self._notices.append(
                f"no model for k = {self.scale} is installed: {instead}; name a TorchScript file "
                "with --model to enhance them"
            )
            return Chosen("bicubic")
        self._notices += choice.notices
        return Chosen(
            "torchscript",
            str(choice.path),
            str(choice.hr_path) if choice.hr_path else None,
            choice.of_tag,
        )

    @property
    def notices(self) -> list[str]:
        """Sentences about what is not as asked for or as the tag tells; complete at the end."""
        said = self._said() if self._said is not None else ()
        said = [*self._notices, *self._arrivals.notices, *said]
        return list(dict.fromkeys(map(worded, said)))

    @property
    def session(self) -> Session:
        return self._session

    @property
    def model(self) -> str:
        """ "bicubic", "no model", or the model's name and where it runs."""
        info = self._session.info
        if info.backend == "bicubic":
            return "no model" if self.plain else "bicubic (built in)"
        return f"{info.model_name} ({info.precision} on {info.device})"

    @property
    def damaged(self) -> dict[Role, int]:
        """Packets that did not decode, so far."""
        return self._arrivals.damaged

    def __next__(self) -> Picture:
        if self._handed != self._iterated:  # an index was asked for in between
            after = 0 if self._iterated is None else bisect_right(self.times, self._iterated)
            if after == len(self.times):
                raise StopIteration
            picture = self._at(after)
        else:
            picture = self._receive()
        self._iterated = picture.pts
        return picture

    def _receive(self) -> Picture:
        """The session's next picture. Raises StopIteration at the end."""
        session = self._session
        while True:
            picture = session.receive()
            if picture is not None:
                self._handed = picture.pts
                return picture
            if session.ended:
                raise StopIteration
            for role in (Role.HR, Role.LR):
                if role.value in session.wants:
                    self._send(role)

    # ------------------------------------------------------ as a sequence --

    _NEAR = 8  # pictures that are made and passed over rather than read anew for

    @property
    def times(self) -> Sequence[int]:
        """When the pictures are shown, increasing, in ``time_base``. The file's packets are read
        for it once. Raises TypeError where what is decoded can be read only once."""
        if self._source is None:
            raise TypeError(
                "these pictures come but once, from a pipe, two files or a decoder of your own: "
                "iterate over them"
            )
        return self._source.times()

    def __len__(self) -> int:
        return len(self.times)

    def __bool__(self) -> bool:
        return True  # and not whether it has pictures, which would read the file

    @property
    def duration(self) -> Fraction:
        """Seconds, from the first picture to the end of the last, which is shown for 1 / rate."""
        times = self.times
        if not times:
            return Fraction(0)
        return (times[-1] - times[0]) * self.time_base + 1 / self.rate

    def seek(self, place: SupportsIndex | float | Fraction) -> None:
        """Iterating goes on with the picture of this number, or the one shown at this time, seconds
        from the first picture. Raises IndexError for a place that is not in the video."""
        at = self._number(place)
        self._iterated = self.times[at - 1] if at else None

    @overload
    def __getitem__(self, place: SupportsIndex | float | Fraction) -> Picture: ...
    @overload
    def __getitem__(self, place: slice) -> list[Picture]: ...
    def __getitem__(
        self, place: SupportsIndex | float | Fraction | slice
    ) -> Picture | list[Picture]:
        if isinstance(place, slice):
            return [self._at(i) for i in self._numbers(place)]
        return self._at(self._number(place))

    def to_rgb(
        self,
        start: float | Fraction | None = None,
        stop: float | Fraction | None = None,
        step: int | None = None,
    ) -> NDArray[np.uint8]:
        """Pictures of a slice as RGB: [pictures, height, width, 3], uint8. Without arguments: all,
        and all of them in memory."""
        return batch(self[start:stop:step])

    def to_tensor(
        self,
        start: float | Fraction | None = None,
        stop: float | Fraction | None = None,
        step: int | None = None,
    ) -> Tensor:
        """Pictures of a slice as RGB in a torch tensor, [pictures, 3, height, width], uint8, on the
        CPU."""
        return tensors(self[start:stop:step])

    def _numbers(self, place: slice) -> range:
        ends = slice(self._end(place.start), self._end(place.stop), place.step)
        numbers = range(*ends.indices(len(self)))
        if numbers.step < 0:
            raise ValueError("pictures are made forwards: reverse the list that a slice gives")
        return numbers

    def _end(self, place: Any) -> int | None:
        """An end of a slice: of a time, the number of the first picture shown then or later."""
        if place is None or hasattr(place, "__index__"):
            return None if place is None else operator.index(place)
        times = self.times
        return (
            bisect_left(times, times[0] + round(_seconds(place) / self.time_base)) if times else 0
        )

    def _number(self, place: Any) -> int:
        times = self.times
        if hasattr(place, "__index__"):
            at = operator.index(place)
            if not -len(times) <= at < len(times):
                raise IndexError(f"there is no picture {at}, of {len(times)}")
            return at % len(times)
        seconds = _seconds(place)
        if not 0 <= seconds < self.duration:
            raise IndexError(
                f"no picture is shown at {float(seconds):g} s; the video lasts "
                f"{float(self.duration):g} s"
            )
        return bisect_right(times, times[0] + round(seconds / self.time_base)) - 1

    def _at(self, number: int) -> Picture:
        """Picture ``number``, by the shortest way there."""
        times = self.times
        done = 0 if self._handed is None else bisect_right(times, self._handed)
        if self._session.ended or not 0 <= number - done <= self._NEAR:
            self._restart(number)
        try:
            while True:
                picture = self._receive()
                if picture.pts >= times[number]:
                    return picture
        except StopIteration:
            raise ExternalError(
                f"picture {number} does not decode, nor does any after it"
            ) from None

    def _restart(self, number: int) -> None:
        """The session begins anew, at picture ``number`` or before, so that it gives that one as it
        does in its turn."""
        assert self._source is not None
        pair = self._source.again(self.times[number])
        self._notices = self.notices
        self._arrivals.close()
        self._session.flush()
        self._said = pair.notices
        self._arrivals = Arrivals(pair)
        self._handed = None

    def __repr__(self) -> str:
        what = "plain" if self.plain else f"k = {self.scale}"
        try:
            made_by = self.model
        except ValueError:
            made_by = "closed"
        return (
            f"<tds.Decoder {self.width}x{self.height} {self.bit_depth} bit, {what}, "
            f"{float(self.rate):g} frames/s, {made_by}>"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows: the first picture, and what is known of them all."""
        rows: list[tuple[str, object]] = [
            ("size", f"{self.width}x{self.height}, {self.bit_depth} bit"),
            ("frames a second", f"{float(self.rate):g}"),
            ("made by", self.model),
        ]
        drawn = ""
        if self._source is not None:
            rows.append(("pictures", f"{len(self)}, {float(self.duration):g} s"))
            if self.times:
                data = b64encode(png(self[0])).decode()
                drawn = (
                    "<img style='max-width:100%;display:block' alt='its first picture' "
                    f"src='data:image/png;base64,{data}'>"
                )
        title = "A plain stream, enhanced" if self.plain else f"HR and LR, k = {self.scale}"
        return page_table(title, rows, drawn)

    def _send(self, role: Role) -> None:
        """Sends one picture of a stream; it stays for next time when the session is full."""
        item = self._arrivals.peek(role)
        if item is None:
            self._session.end(role.value)
            return
        if isinstance(item, Lost):
            taken = self._session.send_lost(role.value, item.pts)
        else:
            frame = item if isinstance(item, VideoFrame) else item.planes
            told = self._arrivals.strength(role) if self._of_tag else -1.0
            taken = self._session.send(
                role.value,
                frame,
                item.pts,
                corrupt=item.is_corrupt,
                strength=told * self._strength if told >= 0 else None,
            )
        if taken:
            self._arrivals.take(role)

    def __iter__(self) -> Decoder:
        return self

    def close(self) -> None:
        """Ends the threads that read, and with them their files. Again is allowed."""
        self._arrivals.close()
        self._session.close()
        for other in self._with:
            other.close()

    def closes(self, *others: SupportsClose) -> None:
        """What is read by these pictures and is to be closed with them."""
        self._with += others


def _seconds(place: Any) -> Fraction:
    if not isinstance(place, Real):
        raise TypeError(
            f"a place is a picture's number or a time in seconds, not {type(place).__name__}"
        )
    if not isfinite(place):
        raise ValueError(f"{place} is no time")
    return Fraction(float(place)) if not isinstance(place, Fraction) else place


def make_settings(settings: EnhanceSettings | None, options: EnhanceOptions) -> EnhanceSettings:
    """Settings, or their fields as keywords."""
    if settings is None:
        return EnhanceSettings(**options)
    if options:
        raise TypeError("give settings or keywords, not both")
    return settings


def decode(
    path: Source,
    *,
    settings: EnhanceSettings | None = None,
    allow_truncated: bool = False,
    timeout: float | None = None,
    **options: Unpack[EnhanceOptions],
) -> Decoder:
    """Opens a paired file and iterates over its pictures at full size.

    path: an MP4 written by ``tds.encode`` (or any file with an HR and an LR track; for a video that
    is none of these there is ``tds.enhance``), or an object with ``read`` that gives its bytes,
    which are copied to a temporary file; or an address, also of an HLS playlist or a DASH manifest.
    timeout: seconds that a server may keep silent, for all addresses that this process reads from
    now on (30 until told). settings, or its fields as keywords (``model="fast"``,
    ``device="cpu"``). Each item is a ``tds.Picture``: ``planes`` (numpy, uint8 or uint16), ``pts``
    (ticks of the decoder's ``time_base``), ``status``, ``reason``.

    Raises InputError or MissingError with a sentence, RuntimeError from the backend.

        with tds.decode("clip.mp4") as pictures:
            for picture in pictures:
                y, u, v = picture.planes
    """
    settings = make_settings(settings, options)
    if timeout is not None:
        wait_at_most(timeout)
    named = NamedSource(path)
    file: PairedFile | PlainStream | LivePair
    from .live import is_streamed, open_streamed

    if is_streamed(named.path):
        file = open_streamed(named.path)
    elif is_one_stream(named.path):
        from .plain import PlainStream

        file = PlainStream(named.path)
    else:
        file = PairedFile(named.path, allow_truncated)
    decoder = decoder_of(file, settings)
    decoder.closes(named)
    return decoder


def decoder_of(
    file: PairedFile | PlainStream | LivePair, settings: EnhanceSettings | None = None
) -> Decoder:
    """A Decoder of an open file; what stays open is closed when there can be none."""
    if isinstance(file, PairedFile):
        return Decoder(pair_of(file), settings)
    try:
        decoder = Decoder(file.pair, settings)
        decoder.closes(file)
        return decoder
    except BaseException:
        file.close()
        raise


def check_complete(decoder: Decoder, name: str) -> None:
    """Raises ExternalError when nothing at all came out."""
    info = decoder.session.info
    if info.passed + info.enhanced + info.upsampled + info.refined == 0:
        raise ExternalError(f"{name}: not one picture of it decodes")
