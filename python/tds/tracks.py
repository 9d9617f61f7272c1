# SPDX-License-Identifier: LGPL-2.1-or-later
"""The pair in a paired file: its two tracks, decoded, with what the tag tells of them."""

from __future__ import annotations

import contextlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cached_property

import av
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from .container.metadata import Hints
from .container.paired import PairedFile, Track
from .container.times import rescale
from .errors import InputError
from .media.decoding import frames
from .media.planar import chroma_of, depth_of
from .media.sources import color_tags
from .media.times import exact
from .pair import Pair, Planned
from .plan import Role


def pair_of(file: PairedFile) -> Pair:
    """The pair in an open PairedFile."""
    m = file.metadata
    with file.open() as container:
        stream = container.streams[file.hr.index]
        aspect, full_range = shape(stream)
        assert isinstance(stream, VideoStream)
        colors = color_tags(stream)
    return Pair(
        {role: TrackPictures(file, role) for role in Role},
        width=file.hr.width,
        height=file.hr.height,
        bit_depth=file.hr.bit_depth,
        chroma=file.hr.chroma,
        scale=file.scale,
        time_base=file.time_base,
        rate=file.rate,
        regular=m is None or m.timeline.regular,
        sample_aspect_ratio=aspect,
        full_range=full_range,
        plan=planned(file),
        hints=m.hints if m else Hints(),
        matrix=colors.matrix,
        transfer=colors.transfer,
        source=PairedSource(file),
        notices=lambda: _cut_short(file),
    )


def _cut_short(file: PairedFile) -> list[str]:
    missing = file.missing_bytes
    return [f"{file.path} is cut short: {missing} bytes are missing at its end"] if missing else []


def planned(file: PairedFile) -> Planned:
    """What the tag, if there is one, tells of the times of an open PairedFile."""
    clocks = {role: file.track(role).time_base for role in Role}
    return Planned(file.path, file.tag, clocks, file.shown())


class PairedSource:
    """A paired file that is read again from a place in it. Its packets are looked at once."""

    # HR pictures before a target from which it may be made: of models of contract 1 the group's
    # own; those of contract 2 look farther, and the one before tells them where a scene begins.
    _HR_BEFORE = 3

    def __init__(self, file: PairedFile) -> None:
        self._file = file

    def times(self) -> Sequence[int]:
        return self._times

    def again(self, time: int) -> Pair:
        pair = pair_of(self._file)
        at = bisect_right(self._hr, time) - self._HR_BEFORE
        if at <= 0:
            return replace(pair, source=self)
        start = self._hr[at]
        begins = {role: self._begin(role, start) for role in Role}
        plan = pair.plan
        if plan is not None:
            shown = {r: [t for t, _ in self._events[r] if t >= begins[r]] for r in Role}
            plan = replace(plan, shown=shown, offset=self._offset)
        streams = {role: TrackPictures(self._file, role, begins[role]) for role in Role}
        return replace(pair, streams=streams, plan=plan, source=self)

    def _begin(self, role: Role, start: int) -> int:
        """The time in the file of a track's first picture that a session gets at ``start`` or
        later; one after its end where there is none."""
        events = self._events[role]
        at = bisect_left(events, start, key=lambda event: event[1])
        return events[at][0] if at < len(events) else (events[-1][0] + 1 if events else 0)

    @cached_property
    def _read(self) -> tuple[dict[Role, list[tuple[int, int]]], list[int], int]:
        """Of each track its pictures' times in the file and in the session; the times of all
        that comes out; what the file's times are behind those of the tag."""
        found = {role: packets.times for role, packets in self._file.packets().items()}
        times = planned(self._file).times(self._file.time_base)
        for role in Role:
            for time in found[role]:
                times.push(role, time)
            times.end(role)
        events: dict[Role, list[tuple[int, int]]] = {role: [] for role in Role}
        out = set()
        for role in Role:
            own = iter(found[role])
            while event := times.next(role):
                lost, pts, _, _ = event
                out.add(pts)
                if not lost:
                    events[role].append((next(own), pts))
        return events, sorted(out), times.report()["shift_hr"]

    @property
    def _events(self) -> dict[Role, list[tuple[int, int]]]:
        return self._read[0]

    @property
    def _times(self) -> list[int]:
        return self._read[1]

    @property
    def _offset(self) -> int:
        return self._read[2]

    @cached_property
    def _hr(self) -> list[int]:
        """Times of the HR pictures, as the session gets them."""
        return [pts for _, pts in self._events[Role.HR]]


class TrackPictures:
    """The pictures of one track of a paired file, decoded, in display order.

    Times are in the file's ``time_base``. ``damaged`` counts packets that did not decode.
    begin: time of the first that is wanted; None: all are.
    """

    def __init__(self, file: PairedFile, role: Role, begin: int | None = None) -> None:
        self._file, self._role, self._begin = file, role, begin
        self.damaged = 0

    def _damage(self) -> None:
        self.damaged += 1

    def __iter__(self) -> Iterator[VideoFrame]:
        if self._begin is None:
            yield from self._frames(None)
            return
        # Where a remuxed file's index leads behind the place, it is read from its beginning.
        for sought in (self._begin, None):
            for number, frame in enumerate(self._frames(sought)):
                assert frame.pts is not None
                if number == 0 and sought is not None and frame.pts > sought:
                    break
                if frame.pts >= self._begin:
                    yield frame
            else:
                return

    def _frames(self, sought: int | None) -> Iterator[VideoFrame]:
        """From the random-access picture at or before ``sought``; None: all."""
        track = self._file.track(self._role)
        base = self._file.time_base
        with self._file.open() as container:
            stream = container.streams[track.index]
            assert isinstance(stream, VideoStream)
            clock = exact(stream.time_base or 1)
            if sought is not None:
                with contextlib.suppress(av.error.FFmpegError):  # then it is read from the front
                    container.seek(rescale(sought, base, clock), stream=stream)
            last: int | None = None
            for frame in frames(self._file.path, container, stream, self._damage):
                if frame.pts is None:
                    self.damaged += 1
                    continue
                frame.pts = rescale(frame.pts, clock, base)
                check_shape(self._file.path, track, frame)
                if last is not None and frame.pts <= last:  # a decoder repeating itself
                    self.damaged += 1
                    continue
                last = frame.pts
                yield frame


def check_shape(path: str, track: Track, frame: VideoFrame) -> None:
    """Raises InputError for a picture of another size or format than its track began with."""
    if (frame.width, frame.height) != (track.width, track.height):
        raise InputError(
            f"{path}: its {track.role.name} track changes size from "
            f"{track.width}x{track.height} to {frame.width}x{frame.height}"
        )
    name = frame.format.name
    if (depth_of(name), chroma_of(name)) != (track.bit_depth, track.chroma):
        raise InputError(
            f"{path}: its {track.role.name} track changes to {name}; TDS tracks are of one depth "
            "and chroma"
        )


def shape(stream: Stream) -> tuple[Fraction | None, bool]:
    """(sample aspect ratio, whether samples use the full range) of a video stream, for a
    Decoder's attributes of the same names."""
    assert isinstance(stream, VideoStream)
    context = stream.codec_context
    full = context.color_range == ColorRange.JPEG or (context.pix_fmt or "").startswith("yuvj")
    aspect = stream.sample_aspect_ratio
    return (exact(aspect) if aspect else None), full
