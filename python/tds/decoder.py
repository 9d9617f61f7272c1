# SPDX-License-Identifier: LGPL-2.1-or-later
"""From two streams back to one video: decode, pair, enhance, in display order.

The session says which stream it needs next, so memory is bounded whatever the interleaving.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from av.video.frame import VideoFrame

from ._tds import Tag
from .arrivals import Arrivals
from .container.mp4 import PairedFile
from .errors import ExternalError, InputError, MissingError
from .pair import Lost, Pair
from .plan import Role
from .session import Picture, Session
from .tracks import pair_of

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
    alone. hr: whether the HR pictures of a pair are enhanced too: "auto" (as the file tells),
    "pass" or "refine".
    """

    backend: str = "auto"
    model: str | None = None
    device: str = "auto"
    precision: str = "auto"
    threads: int = 0
    strength: float = 1.0
    causal: bool = False
    hr: str = "auto"


@dataclass(frozen=True)
class _Chosen:
    """What a session runs; of_tag: the very model that the file's tag speaks of."""

    backend: str
    model: str | None = None
    hr_model: str | None = None
    of_tag: bool = False


class Decoder(Iterator[Picture]):
    """Iterates over the pictures of a pair, every one once, in display order. A pair without an
    LR stream is a plain one, whose pictures are made better from their neighbours.

    A context manager; one that is never closed ends with its last reference.
    Attributes: width, height, bit_depth, scale, time_base (of each picture's
    ``pts``), rate (nominal), sample_aspect_ratio (of HR; None: not said),
    full_range (whether samples use all codes), model (a few words for a person), plain
    (whether it is one stream of full-size pictures, without LR), frames (how many there
    will be, about; 0: not known).
    """

    def __init__(self, pair: Pair, settings: EnhanceSettings | None = None) -> None:
        self.width, self.height = pair.width, pair.height
        self.bit_depth, self.scale = pair.bit_depth, pair.scale
        self.time_base, self.rate, self.regular = pair.time_base, pair.rate, pair.regular
        self.sample_aspect_ratio, self.full_range = pair.sample_aspect_ratio, pair.full_range
        self._notices: list[str] = []
        wanted = settings or EnhanceSettings()
        self.plain = Role.LR not in pair.streams
        chosen = self._choose(wanted, pair.hints.tag)
        self._strength = wanted.strength
        self._of_tag = chosen.of_tag
        self._session = Session(
            pair.width,
            pair.height,
            pair.scale,
            bit_depth=pair.bit_depth,
            backend=chosen.backend,
            model=chosen.model,
            device=wanted.device,
            precision=wanted.precision,
            threads=wanted.threads,
            hr_qp=pair.hints.hr_qp,
            lr_qp=pair.hints.lr_qp,
            max_group=pair.max_group,
            kind="plain" if self.plain else "pair",
            hr_model=chosen.hr_model,
            causal=wanted.causal,
            strength=wanted.strength,
        )
        self.frames = pair.frames
        self._said = pair.notices
        self._arrivals = Arrivals(pair)

    def _choose(self, wanted: EnhanceSettings, tag: Tag | None) -> _Chosen:
        """What the session runs. A plain stream needs a model; a pair does without."""
        if wanted.backend not in BACKENDS:
            raise InputError(f"no backend {wanted.backend!r}; there are {', '.join(BACKENDS)}")
        if wanted.hr not in HR:
            raise InputError(f"HR pictures can be {', '.join(HR)}, not {wanted.hr!r}")
        refine = wanted.hr == "refine" or (
            wanted.hr == "auto" and tag is not None and tag.refine_hr
        )
        from . import models

        if wanted.backend == "bicubic":
            if wanted.model is not None:
                raise InputError("--backend bicubic takes no model; leave --model out")
            if self.plain:
                raise InputError(
                    "pictures of full size need no up-sampling; a plain stream is enhanced by a "
                    "model alone: leave --backend out"
                )
            return _Chosen("bicubic")
        optional = wanted.backend == "auto" and wanted.model is None and not self.plain
        if optional and (why := models.unusable()):
            self._notices.append(f"{why}: LR pictures are up-sampled by bicubic")
            return _Chosen("bicubic")
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
                f"no model for k = {self.scale} is installed: LR pictures are up-sampled by "
                "bicubic; name a TorchScript file with --model to enhance them"
            )
            return _Chosen("bicubic")
        self._notices += choice.notices
        return _Chosen(
            "torchscript",
            str(choice.path),
            str(choice.hr_path) if choice.hr_path else None,
            choice.of_tag,
        )

    @property
    def notices(self) -> list[str]:
        """Sentences about what is not as asked for or as the tag tells; complete at the end."""
        said = self._said() if self._said is not None else ()
        return [*self._notices, *self._arrivals.notices, *said]

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
        return self._arrivals.damaged

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
                    self._send(role)

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

    def __enter__(self) -> Decoder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def make_settings(settings: EnhanceSettings | None, options: dict[str, Any]) -> EnhanceSettings:
    """Settings, or their fields as keywords."""
    if settings is None:
        return EnhanceSettings(**options)
    if options:
        raise TypeError("give settings or keywords, not both")
    return settings


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
    settings = make_settings(settings, options)
    file = PairedFile(os.fspath(path), allow_truncated)
    return decoder_of(file, settings)


def decoder_of(file: PairedFile, settings: EnhanceSettings | None = None) -> Decoder:
    """A Decoder of an open PairedFile."""
    return Decoder(pair_of(file), settings)


def check_complete(decoder: Decoder, name: str) -> None:
    """Raises ExternalError when nothing at all came out."""
    info = decoder.session.info
    if info.passed + info.enhanced + info.upsampled + info.refined == 0:
        raise ExternalError(f"{name}: not one picture of it decodes")
