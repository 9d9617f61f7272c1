# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an encoder adapter takes and gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

from ..errors import InputError
from ..media.planar import picture_size, pix_fmt_of
from ..media.sources import ColorTags


class Codec(Enum):
    VVC = "vvc"
    HEVC = "hevc"
    H264 = "h264"  # plain streams, to be enhanced and compared with

    @property
    def max_qp(self) -> int:
        return 63 if self is Codec.VVC else 51


PAIRED = (Codec.VVC, Codec.HEVC)
"""What pairs are coded with (docs/container.md)."""


class Config(Enum):
    """The configurations of the common test conditions and of the paper."""

    AI = "ai"  # all intra
    LDP = "ldp"  # low delay, P pictures
    RA = "ra"  # random access, hierarchical B pictures


@dataclass(frozen=True)
class StreamSettings:
    """One stream: size in luma samples, bits, frames a second, fixed QP.

    period: most frames from one random-access point to the next inside a
        segment (RA only).
    """

    width: int
    height: int
    bit_depth: int
    rate: Fraction
    config: Config
    qp: int
    preset: str
    period: int = 64
    colors: ColorTags = field(default_factory=ColorTags)
    sample_aspect_ratio: Fraction = Fraction(1)

    @property
    def pix_fmt(self) -> str:
        return pix_fmt_of(self.bit_depth)

    @property
    def frame_bytes(self) -> int:
        """Of one picture as planar 4:2:0; 16 bits a sample above 8 bits."""
        return picture_size(self.width, self.height, self.bit_depth)


@dataclass(frozen=True)
class CodedSegment:
    """A file that starts with a random-access point and refers to nothing before it.

    path: any file PyAV demuxes, with exact packet order and times that sort
    into display order. frames: how many pictures went in.
    """

    path: Path
    frames: int


class EncoderAdapter(ABC):
    """One encoder run: ``write`` each picture, ``finish`` once, or ``abort``.

    Every run is one segment. Adapters raise ExternalError with the encoder's
    own words when it fails, and when it gives fewer packets than frames.
    """

    name: ClassVar[str]
    codec: ClassVar[Codec]
    presets: ClassVar[tuple[str, ...]]
    default_preset: ClassVar[str]
    least_side: ClassVar[int] = 2
    """Luma samples; it does not code pictures that are less wide or high."""

    def __init__(self, settings: StreamSettings, path: Path) -> None:
        self.settings = settings
        self.path = path
        self.check(settings)

    @classmethod
    def check(cls, settings: StreamSettings) -> None:
        """Raises InputError for settings this encoder does not have."""
        if settings.preset not in cls.presets:
            raise InputError(
                f"{cls.name} has no preset {settings.preset!r}; it has {', '.join(cls.presets)}"
            )
        if not 0 <= settings.qp <= cls.codec.max_qp:
            raise InputError(
                f"a QP of {cls.codec.value.upper()} is 0 to {cls.codec.max_qp}, not {settings.qp}"
            )

    @classmethod
    @abstractmethod
    def version(cls) -> str:
        """Name and exact version, for the metadata and for reports.

        Raises MissingError with what to install when the encoder is not there."""

    @classmethod
    def fingerprint(cls) -> str:
        """``version``, and whatever else changes what the same settings code."""
        return cls.version()

    @abstractmethod
    def write(self, picture: bytes | memoryview) -> None:
        """One picture, planar 4:2:0 without padding, ``settings.frame_bytes`` long."""

    @abstractmethod
    def finish(self) -> CodedSegment:
        """Waits for the encoder and checks that packets == pictures."""

    @abstractmethod
    def abort(self) -> None:
        """Stops the encoder; never raises."""

    @classmethod
    @abstractmethod
    def describe(cls, settings: StreamSettings) -> str:
        """The command line that codes such a stream, for reports."""
