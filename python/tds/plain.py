# SPDX-License-Identifier: LGPL-2.1-or-later
"""A plain stream: a pair without LR, from any file that FFmpeg reads. One that ``tds encode`` wrote
has a tag, which says how strongly each picture is to be changed.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from math import floor

from av.format import Flags
from av.video.frame import VideoFrame

from ._tds import Tag
from .container.metadata import Hints, container_tag, is_plain, read_tag
from .container.times import rescale
from .errors import ExternalError, InputError
from .media.extent import has_index
from .media.opening import RawFormat, has_flag, is_read_once, open_container, packets_of
from .media.pictures import is_yuv
from .media.pipes import PipeReader, is_pipe
from .media.planar import pix_fmt_of
from .media.sources import HALF, VideoSource
from .media.times import exact
from .pair import Pair, Planned
from .plan import Role
from .sinks import Origin


class PlainStream:
    """The video of a file, open: ``pair`` for a Decoder, ``origin`` for a sink.

    path: anything FFmpeg reads, ``-`` being standard input. raw: what a raw file does not say.
    track: which of its video tracks, from 0; None: the one that is shown by default. begin: time
    of the first picture that is wanted; None: all are. offset: as of a Planned, where it begins
    so. pipe: reads the file, where it is one (None: one is made). sound: of what is read once, its
    sound and text are for the sink too. sent: it is being sent or written, and where nothing comes
    for too long, that is the end. Odd sizes and RGB are converted, with a notice. tag: of the file,
    where it is of one such stream; a tag of a pair, of which this is a part, is none.

    Raises MissingError, InputError, or ExternalError when no picture decodes. Reading is ended
    by what takes the pair.
    """

    def __init__(
        self,
        path: str,
        raw: RawFormat | None = None,
        track: int | None = None,
        begin: int | None = None,
        offset: int | None = None,
        pipe: PipeReader | None = None,
        sound: bool = False,
        sent: bool = False,
    ) -> None:
        self._begin, self._offset, self.track = begin, offset, track
        self._pipe = PipeReader(path) if pipe is None and is_pipe(path) else pipe
        self.source = VideoSource(path, raw, track, lenient=True, pipe=self._pipe)
        self._once = self.source.silence_ends = sent or is_read_once(path)
        if sound and self._once:
            self.source.hold_along()
        if is_yuv(self.source.pix_fmt):
            self.source.chroma = self.source.own_chroma
        self._interlaced = False
        try:
            if self.source.is_pair:
                raise InputError(
                    f"{path} is a TDS pair, of which each track alone is a part; tds decode makes "
                    "one video of both"
                )
            self._frames = iter(self.source)
            first = next(self._frames, None)
            if first is None:
                raise ExternalError(f"{path}: not one picture of it decodes")
            self._first = first
            self.tag = self._tag()
        except BaseException:
            self.close()
            raise
        self._converted = self._conversion()

    def _tag(self) -> Tag | None:
        source = self.source
        with suppress(InputError):  # any video may have a key of that name
            tag = read_tag(container_tag(source.container) or "", source.path)
            if is_plain(tag.groups) and (tag.width, tag.height) == (source.width, source.height):
                return tag
        return None

    def planned(self) -> Planned | None:
        """What the tag tells of the times; both ends where the index has as many pictures."""
        source, tag = self.source, self.tag
        if tag is None:
            return None
        clocks = dict.fromkeys(Role, source.time_base)
        shown: list[int] = []
        if self._begin is not None:
            return Planned(source.path, tag, clocks, {Role.HR: shown, Role.LR: []}, self._offset)
        begun = self._first.pts
        whole = has_index(source.container) and source.frames == tag.n_frames
        if begun is not None and tag.times_known and whole:
            length = rescale(tag.end - tag.start, Fraction(*tag.time_base), source.time_base)
            shown = sorted({begun, begun + length})
        return Planned(source.path, tag, clocks, {Role.HR: shown, Role.LR: []})

    def _conversion(self) -> list[str]:
        source, first = self.source, self._first
        changes = []
        target = pix_fmt_of(source.bit_depth, source.chroma)
        if first.format.name not in (target, target.replace("yuv", "yuvj")):
            changes.append(f"{first.format.name} to {target}")
        if (first.width, first.height) != (source.width, source.height):
            sizes = f"{first.width}x{first.height} to {source.width}x{source.height}"
            changes.append(f"{sizes}, since an even width and height is needed")
        return [f"{source.path}: its pictures are converted from {change}" for change in changes]

    @property
    def pair(self) -> Pair:
        source = self.source
        colors = source.colors
        aspect = source.sample_aspect_ratio
        tag = self.tag
        once = self._once
        return Pair(
            # What is read once stays open after its last picture, for the sink.
            {Role.HR: iter(self) if once else self},
            width=source.width,
            height=source.height,
            bit_depth=source.bit_depth,
            chroma=source.chroma,
            scale=1,
            time_base=source.time_base,
            rate=source.rate,
            sample_aspect_ratio=aspect if aspect != 1 else None,
            full_range=colors.range == "pc" or source.pix_fmt.startswith("yuvj"),
            frames=source.frames,
            interrupt=self._pipe.interrupt if self._pipe is not None else None,
            notices=self._notices,
            plan=self.planned(),
            hints=Hints(tag.hr_qp, -1, tag) if tag is not None else Hints(),
            matrix=colors.matrix,
            transfer=colors.transfer,
            source=None if once else PlainSource(self),
        )

    @property
    def origin(self) -> Origin | None:
        """For what comes along beside the pictures; None for raw planar video."""
        source = self.source
        if source.raw is not None and source.raw.size is not None:
            return None
        return Origin(
            source.path,
            (source.index,),
            source.clock(),
            source.container if self._once else None,
            self._first if self._once else None,
            source.along,
        )

    def _notices(self) -> list[str]:
        said = [*self._converted, *self.source.notices]
        if self._interlaced:
            said.append(f"{self.source.path} is interlaced; its frames are treated as whole ones")
        return said

    def __iter__(self) -> Iterator[VideoFrame]:
        planar = self.source.planar()
        for frame in itertools.chain([self._first], self._frames):
            self._interlaced |= bool(frame.interlaced_frame)
            assert frame.pts is not None
            if self._begin is None or frame.pts >= self._begin:
                yield planar(frame)

    def close(self) -> None:
        self.source.close()


class PlainSource:
    """A plain file that is read again; a place in it is found by decoding up to there, which
    costs little beside enhancing, and no file's index need be believed."""

    # Pictures before a target that its model may see (docs/model.md), and one more, which tells
    # where a scene begins.
    _BEFORE = 9

    def __init__(self, stream: PlainStream) -> None:
        # Not the stream itself: what is told to read again must not hold what reads now.
        source = stream.source
        self._path, self._raw, self._track = source.path, source.raw, stream.track
        self._plan, self._unit = stream.planned(), source.time_base

    def times(self) -> Sequence[int]:
        return self._times

    @property
    def _times(self) -> list[int]:
        return self._read[0]

    @cached_property
    def _read(self) -> tuple[list[int], int | None]:
        """The times of all that comes out, and what they are behind those of the tag."""
        found = self._found()
        if self._plan is None:
            return found, None
        times = self._plan.times(self._unit)
        for time in found:
            times.push(Role.HR, time)
        for role in Role:
            times.end(role)
        out = []
        while event := times.next(Role.HR):
            out.append(event[1])
        return out, times.report()["shift_hr"]

    def _found(self) -> list[int]:
        """Of the pictures that the file has."""
        with VideoSource(self._path, self._raw, self._track, lenient=True) as source:
            times = _times_of_packets(source)
            if times is not None:
                return times
            return [frame.pts for frame in source if frame.pts is not None]

    def again(self, time: int) -> Pair:
        at = bisect_left(self._times, time) - self._BEFORE
        begin = self._times[at] if at > 0 else None
        stream = PlainStream(self._path, self._raw, self._track, begin, self._read[1])
        return replace(stream.pair, source=self)


def _times_of_packets(source: VideoSource) -> list[int] | None:
    """When the pictures of an open source are shown, as its packets say it; None: they do not, or
    not so that it can be relied on (VideoSource then finds times by rules of its own)."""
    container = source.container
    if (
        has_flag(container, Flags.no_timestamps | Flags.ts_discont)
        or container.format.name == "avi"
    ):
        return None
    with open_container(source.path) as again:
        stream = again.streams[source.index]
        coded = (packet for packet in packets_of(again, stream) if packet.size)
        packets = [(p.pts, p.is_keyframe, p.is_discard) for p in coded]
        factor = exact(stream.time_base or source.time_base) / source.time_base
    first = next((pts for pts, key, _ in packets if key), None)
    shown = [pts for pts, _, discarded in packets if not discarded]
    if first is None or None in shown:
        return None
    times = sorted(floor(pts * factor + HALF) for pts in shown if pts is not None and pts >= first)
    times = [time + max(0, -times[0]) for time in times]
    return times if all(a < b for a, b in pairwise(times)) else None
