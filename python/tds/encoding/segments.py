# SPDX-License-Identifier: LGPL-2.1-or-later
"""The parts of a video that are coded and chosen for by themselves.

They end where the plain stream has a random-access point anyway, so that no choice costs an extra
restart: in all-intra anywhere, at scene cuts first; in RA after each intra period.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..codecs import Config, StreamSettings
from ..container.metadata import MAX_FRAMES
from ..errors import InputError
from ..files import sha256_of_parts
from ..media.pictures import FilterChain, down_sample, scene_score
from ..media.planar import Plane, picture_bytes, planes_in
from ..media.sources import VideoSource
from .settings import EncodeSettings

AI_FRAMES = 32
"""Frames of an all-intra segment at most: twice the steps of the largest N."""
KEPT_BYTES = 256 << 20
"""Of source pictures in a segment, above which all-intra segments have half as many frames."""


@dataclass(frozen=True)
class Frame:
    """A source frame as it goes to the encoders. smaller: by k."""

    pts: int
    full: bytes
    smaller: dict[int, bytes]


@dataclass(frozen=True)
class Segment:
    """A run of frames that belong together.

    index: of the segment. lead: ``frames`` begins with the last frame of the segment before, whose
    HR picture it shares; that one is not counted here.
    """

    index: int
    frames: tuple[Frame, ...]
    lead: bool

    @property
    def label(self) -> str:
        return f"segment {self.index} ({len(self.own)} frames)"

    @property
    def own(self) -> range:
        """Places in ``frames`` of those that are the segment's own."""
        return range(int(self.lead), len(self.frames))

    def luma(self, stream: StreamSettings) -> list[Plane]:
        """Of every frame's source. stream: the full-size one."""
        return [
            planes_in(frame.full, stream.width, stream.height, stream.bit_depth, stream.chroma)[0]
            for frame in self.frames
        ]

    def digest(self) -> str:
        """Of all pictures."""
        return sha256_of_parts(frame.full for frame in self.frames)


def segments(
    video: VideoSource,
    settings: EncodeSettings,
    scales: set[int],
    shares: bool,
    read: Callable[[int], None],
) -> Iterator[Segment]:
    """All of a video, read once. scales: k of the smaller pictures that are wanted. shares:
    segments within a scene share an HR picture. read: called with the number of frames read so
    far."""
    full = video.planar(detect_cuts=settings.scene_cut > 0)
    lower = {
        k: FilterChain(down_sample(video.width, video.height, k), video.time_base) for k in scales
    }
    intra = settings.config is Config.AI
    most = AI_FRAMES if intra else settings.intra_period
    kept: list[Frame] = []
    lead = False
    count = index = 0

    def close(scene_ends: bool) -> Iterator[Segment]:
        nonlocal kept, lead, index
        if len(kept) > lead:
            yield Segment(index, tuple(kept), lead)
            index += 1
        lead = shares and not scene_ends and bool(kept)
        kept = kept[-1:] if lead else []

    for decoded in video:
        picture = full(decoded)
        assert picture.pts is not None
        if count >= MAX_FRAMES:
            raise InputError(f"{video.path} has over {MAX_FRAMES} frames; split it")
        cut = count > 0 and 0 < settings.scene_cut <= scene_score(picture)
        if cut and intra:
            yield from close(scene_ends=True)
        data = picture_bytes(picture)
        if intra and len(data) * AI_FRAMES > KEPT_BYTES:
            most = AI_FRAMES // 2
        smaller = {k: picture_bytes(chain(picture)) for k, chain in lower.items()}
        kept.append(Frame(picture.pts, data, smaller))
        count += 1
        read(count)
        # The first of a scene has both ends to itself.
        if len(kept) == most + (1 if shares else 0):
            yield from close(scene_ends=False)
    yield from close(scene_ends=True)
