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

from .container.metadata import Hints
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
class Pair:
    """Both streams' pictures in display order, with times, and what they are.

    streams: iterated once each, by a thread of its own; one with a ``close`` is closed at
    its end. width, height: of HR, luma samples. scale: k. time_base: of the pictures'
    ``pts``, seconds. rate: nominal, frames a second. regular: whether all times follow
    from the rate. sample_aspect_ratio: of HR; None: not said. full_range: samples use all
    codes. hints: what the metadata says to the enhancer. max_group: the longest run of LR
    pictures enhanced as one group. queued: decoded pictures that wait, per stream. interrupt: ends
    what the streams may be waiting for, so that their threads can end; called from any thread,
    and again.
    """

    streams: Mapping[Role, Iterable[Item]]
    width: int
    height: int
    bit_depth: int
    scale: int
    time_base: Fraction
    rate: Fraction
    regular: bool = True
    sample_aspect_ratio: Fraction | None = None
    full_range: bool = False
    hints: Hints = field(default_factory=Hints)
    max_group: int = 64
    queued: int = QUEUED_PICTURES
    interrupt: Callable[[], None] | None = None
