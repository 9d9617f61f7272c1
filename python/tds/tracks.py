# SPDX-License-Identifier: LGPL-2.1-or-later
"""The pair in a paired file: its two tracks, decoded, with what the tag tells of them."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from .container.metadata import Hints
from .container.mp4 import PairedFile
from .container.times import rescale
from .errors import InputError
from .media.decoding import frames
from .media.times import exact
from .pair import Pair, Planned
from .plan import Role


def pair_of(file: PairedFile) -> Pair:
    """The pair in an open PairedFile."""
    m = file.metadata
    with file.open() as container:
        aspect, full_range = shape(container.streams[file.hr.index])
    return Pair(
        {role: TrackPictures(file, role) for role in Role},
        width=file.hr.width,
        height=file.hr.height,
        bit_depth=file.hr.bit_depth,
        scale=file.scale,
        time_base=file.time_base,
        rate=file.rate,
        regular=m is None or m.timeline.regular,
        sample_aspect_ratio=aspect,
        full_range=full_range,
        plan=planned(file),
        hints=m.hints if m else Hints(),
    )


def planned(file: PairedFile) -> Planned | None:
    """What the tag tells of the times of an open PairedFile."""
    if file.tag is None:
        return None
    clocks = {role: file.track(role).time_base for role in Role}
    return Planned(file.path, file.tag, clocks, file.shown())


class TrackPictures:
    """The pictures of one track of a paired file, decoded, in display order.

    Times are in the file's ``time_base``. ``damaged`` counts packets that did not decode.
    """

    def __init__(self, file: PairedFile, role: Role) -> None:
        self._file, self._role = file, role
        self.damaged = 0

    def _damage(self) -> None:
        self.damaged += 1

    def __iter__(self) -> Iterator[VideoFrame]:
        track = self._file.track(self._role)
        base = self._file.time_base
        with self._file.open() as container:
            stream = container.streams[track.index]
            assert isinstance(stream, VideoStream)
            clock = exact(stream.time_base or 1)
            last: int | None = None
            for frame in frames(self._file.path, container, stream, self._damage):
                if frame.pts is None:
                    self.damaged += 1
                    continue
                frame.pts = rescale(frame.pts, clock, base)
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


def shape(stream: Stream) -> tuple[Fraction | None, bool]:
    """(sample aspect ratio, whether samples use the full range) of a video stream, for a
    Decoder's attributes of the same names."""
    assert isinstance(stream, VideoStream)
    context = stream.codec_context
    full = context.color_range == ColorRange.JPEG or (context.pix_fmt or "").startswith("yuvj")
    aspect = stream.sample_aspect_ratio
    return (exact(aspect) if aspect else None), full
