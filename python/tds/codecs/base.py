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
from ..media.hdr import HDR
from ..media.planar import picture_size, pix_fmt_of
from ..media.sources import ColorTags


class Codec(Enum):
    """What streams are coded with (docs/container.md), also by the standards' other names."""

    VVC = "vvc"
    HEVC = "hevc"
    H264 = "h264"
    AV1 = "av1"

    @classmethod
    def _missing_(cls, value: object) -> Codec | None:
        return _CODEC_NAMES.get(str(value).lower())

    @property
    def max_qp(self) -> int:
        return 63 if self in (Codec.VVC, Codec.AV1) else 51


_CODEC_NAMES = {
    **dict.fromkeys(("vvc", "h266", "h.266"), Codec.VVC),
    **dict.fromkeys(("hevc", "h265", "h.265"), Codec.HEVC),
    **dict.fromkeys(("h264", "h.264", "avc"), Codec.H264),
    "av1": Codec.AV1,
}


class Config(Enum):
    """The configurations of the common test conditions and of the paper."""

    AI = "ai"  # all intra
    LDP = "ldp"  # low delay, P pictures
    RA = "ra"  # random access, hierarchical B pictures


@dataclass(frozen=True)
class StreamSettings:
    """One stream: size in luma samples, bits, frames a second, fixed QP; chroma: 420, 422 or 444.

    period: most frames from one random-access point to the next inside a
        segment (RA only).
    crf: the constant rate factor to code with instead of the QP; None: the QP counts.
    options: the encoder's own, in order, each with its value. hdr: what goes along beside colors.
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
    crf: float | None = None
    options: tuple[tuple[str, str], ...] = ()
    hdr: HDR = field(default_factory=HDR)
    chroma: int = 420

    @property
    def pix_fmt(self) -> str:
        return pix_fmt_of(self.bit_depth, self.chroma)

    @property
    def frame_bytes(self) -> int:
        """Of one planar picture; 16 bits a sample above 8 bits."""
        return picture_size(self.width, self.height, self.bit_depth, self.chroma)


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
    stands_alone: ClassVar[bool] = False
    """Whether in AI every packet decodes, in a stream with any others of the same settings, to what
    it would be among its neighbours, and such a stream is what the codec's standard allows: IDR
    pictures of HEVC and VVC, key frames of AV1. Not of H.264, where IDR pictures in a row must
    differ in idr_pic_id and encoders number by turns, so that those of every second picture are
    the same."""
    takes_options: ClassVar[bool] = False
    """Whether it has options to be given by name."""

    def __init__(self, settings: StreamSettings, path: Path) -> None:
        self.settings = settings
        self.path = path
        self.check(settings)

    @classmethod
    def check(cls, settings: StreamSettings) -> None:
        """Raises InputError for settings this encoder does not have."""
        cls.check_preset(settings.preset)
        if settings.crf is not None:
            bounds = cls.crf_range()
            if bounds is None:
                raise InputError(f"{cls.name} has no constant rate factor; give --qp, not --crf")
            if not bounds[0] <= settings.crf <= bounds[1]:
                raise InputError(
                    f"a CRF of {cls.name} is {bounds[0]:g} to {bounds[1]:g}, not {settings.crf:g}"
                )
            return
        least, most = cls.qp_range()
        if not least <= settings.qp <= most:
            named = cls.codec.value.upper()
            named = named if (least, most) == (0, cls.codec.max_qp) else cls.name
            raise InputError(f"a QP of {named} is {least} to {most}, not {settings.qp}")

    @classmethod
    def check_preset(cls, preset: str) -> None:
        if preset not in cls.presets:
            raise InputError(
                f"{cls.name} has no preset {preset!r}; it has {', '.join(cls.presets)}"
            )

    @classmethod
    def qp_range(cls) -> tuple[int, int]:
        return 0, cls.codec.max_qp

    @classmethod
    def crf_range(cls) -> tuple[float, float] | None:
        """None: it has no constant rate factor."""
        return None

    @classmethod
    def chromas(cls, bit_depth: int) -> frozenset[int]:
        """Of 420, 422 and 444 those that it codes."""
        return frozenset({420})

    @classmethod
    def takes_hdr(cls) -> bool:
        """Whether StreamSettings.hdr gets into its streams, or beside them into their files."""
        return False

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
        """One picture, planar without padding, ``settings.frame_bytes`` long."""

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
