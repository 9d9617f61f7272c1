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

from .arrivals import Arrivals
from .container.metadata import Hints
from .container.mp4 import PairedFile
from .errors import ExternalError, InputError
from .pair import Lost, Pair
from .plan import Role
from .session import Picture, Session
from .tracks import pair_of

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
    full_range (whether samples use all codes), model (a few words for a person).
    """

    def __init__(self, pair: Pair, settings: EnhanceSettings | None = None) -> None:
        self.width, self.height = pair.width, pair.height
        self.bit_depth, self.scale = pair.bit_depth, pair.scale
        self.time_base, self.rate, self.regular = pair.time_base, pair.rate, pair.regular
        self.sample_aspect_ratio, self.full_range = pair.sample_aspect_ratio, pair.full_range
        self._notices: list[str] = []
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
        self._arrivals = Arrivals(pair)

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
            self._notices.append(f"{why}: LR pictures are up-sampled by bicubic")
            return "bicubic", None
        if wanted.model is not None:
            # A hash in the file is of the model it names, whoever asks for that model.
            sha256 = hints.model_sha256 if wanted.model == hints.model else None
            return "torchscript", str(models.find(wanted.model, self.scale, sha256).path)
        if hints.model is not None:
            try:
                found = models.find_named(hints.model, self.scale, hints.model_sha256)
            except FileNotFoundError:
                self._notices.append(
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
        self._notices.append(
            f"no model for k = {self.scale} is installed: LR pictures are up-sampled by bicubic; "
            "name a TorchScript file with --model to enhance them"
        )
        return "bicubic", None

    @property
    def notices(self) -> list[str]:
        """Sentences about what is not as asked for or as the tag tells; complete at the end."""
        return [*self._notices, *self._arrivals.notices]

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
            taken = self._session.send(role.value, frame, item.pts, corrupt=item.is_corrupt)
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


def check_complete(decoder: Decoder, name: str) -> None:
    """Raises ExternalError when nothing at all came out."""
    info = decoder.session.info
    if info.passed + info.enhanced + info.upsampled + info.refined == 0:
        raise ExternalError(f"{name}: not one picture of it decodes")
