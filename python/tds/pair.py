# SPDX-License-Identifier: LGPL-2.1-or-later
"""A pair: two streams of decoded pictures that belong together, and all that is known of them.

Whatever the streams come from (a paired file, two files, two decoders, an evaluation) makes one
of these, and a ``Decoder`` takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol

from av.video.frame import VideoFrame

from ._tds import DEFAULT_MAX_GROUP, Tag, Times
from .container.metadata import Hints
from .container.times import ratio
from .errors import InputError
from .plan import Role

QUEUED_PICTURES = 4  # decoded pictures that wait, per stream


@dataclass(frozen=True)
class Lost:
    """Stands for a picture of one stream that should be there and is not."""

    pts: int


class DecodedPicture(Protocol):
    """A picture of a decoder that is not FFmpeg. planes: Y, Cb, Cr, numpy."""

    pts: int | None
    is_corrupt: bool

    @property
    def planes(self) -> Sequence[Any]: ...


Decoded = VideoFrame | DecodedPicture
Item = Decoded | Lost


@dataclass(frozen=True)
class Planned:
    """The plan of a tag, for streams that have times of their own (tds.h, tds_times).

    where: the file, for messages. tag: None: it has none, and its times alone tell where its
    tracks begin. clocks: the time base of each track, seconds. shown: times,
    in the pair's ``time_base``, at which a track is known to have a picture, whether it decodes
    or not. offset: what their times are behind those of the tag, where it is known because a
    whole file is read from a place in it.
    """

    where: str
    tag: Tag | None
    clocks: Mapping[Role, Fraction]
    shown: Mapping[Role, Sequence[int]]
    offset: int | None = None

    def times(self, unit: Fraction) -> Times:
        """What says which picture is which, and which is lost.

        Raises InputError for times that cannot be counted."""
        hr, lr = (ratio(self.clocks[role]) for role in Role)
        try:
            times = Times(self.tag, ratio(unit), hr, lr, self.offset)
            for role in Role:
                for pts in self.shown[role]:
                    times.show(role, pts)
        except ValueError as e:
            raise InputError(f"{self.where}: {e}") from e
        return times


class Rereadable(Protocol):
    """A pair that can be read again, from any place on."""

    def times(self) -> Sequence[int]:
        """Of all pictures that come out, increasing, in the pair's ``time_base``; without
        decoding where the packets tell."""

    def again(self, time: int) -> Pair:
        """The pair with streams that begin where they must for the picture at ``time``, one of
        ``times``, to be made from all that it is made from in the whole."""


@dataclass(frozen=True)
class Pair:
    """Both streams' pictures in display order, with times, and what they are.

    streams: HR and LR, or, scale being 1, HR alone: a plain stream. Iterated once each, by a
    thread of its own; one with a ``close`` is closed at its end. width, height: of HR, luma
    samples. scale: k. time_base: of the pictures' ``pts``, seconds. rate: nominal, frames a
    second. regular: whether all times follow from the rate. sample_aspect_ratio: of HR; None:
    not said. full_range: samples use all codes. frames: how many there will be, about; 0: not
    known. plan: what the tag tells of their times; None: the streams have none of their own, or
    are one. hints: what the metadata says to the enhancer. strengths: where there is no plan, what
    it says of the pictures of these times. max_group: the longest run of LR pictures enhanced as
    one group. queued: decoded pictures that wait, per stream.
    interrupt: ends what the streams may be waiting for, so that their threads can end;
    called from any thread, and again. notices: what is to be said of the streams, so far.
    chroma: 420, 422 or 444. matrix, transfer: of the samples, FFmpeg's names; "": not said.
    source: where the pair comes from, where it can be read again; None: it cannot.
    """

    streams: Mapping[Role, Iterable[Item]]
    width: int
    height: int
    bit_depth: int
    scale: int
    time_base: Fraction
    rate: Fraction
    chroma: int = 420
    regular: bool = True
    sample_aspect_ratio: Fraction | None = None
    full_range: bool = False
    frames: int = 0
    plan: Planned | None = None
    hints: Hints = field(default_factory=Hints)
    strengths: Mapping[int, float] = field(default_factory=dict)
    max_group: int = DEFAULT_MAX_GROUP
    queued: int = QUEUED_PICTURES
    interrupt: Callable[[], None] | None = None
    notices: Callable[[], Sequence[str]] | None = None
    matrix: str = ""
    transfer: str = ""
    source: Rereadable | None = None
