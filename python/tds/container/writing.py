# SPDX-License-Identifier: LGPL-2.1-or-later
"""Coded streams into a file of any form of forms.py: a pair, HR first and default, LR second, or
one stream, with the source's own times.

Specification: docs/container.md. Tracks are written as they were coded, only with their true times:
encoders are fed at a constant rate, and here each packet's display rank gives it back the time of
its source frame.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import av
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from .._tds import Times
from ..codecs.base import CodedSegment
from ..errors import ExternalError, InputError
from ..media.extras import Extras, decoding_time, not_before
from ..media.opening import ffmpeg_name
from ..media.times import SourceClock
from ..plan import Role
from .forms import MP4, Form
from .metadata import KEY, Metadata
from .paired import FIRST
from .times import ratio, rescale


@dataclass
class CodedStream:
    """A coded stream: its segments, and the display time of each of its pictures.

    times: ticks, strictly increasing, as many as the segments have pictures.
    """

    segments: list[CodedSegment]
    times: Sequence[int]

    def bits(self) -> int:
        """Of all packets, and once of the parameter sets kept beside them."""
        total = 0
        for i, segment in enumerate(self.segments):
            with av.open(ffmpeg_name(segment.path)) as container:
                stream = container.streams.video[0]
                total += sum(p.size for p in container.demux(stream) if p.size)
                total += len(stream.codec_context.extradata or b"") if i == 0 else 0
        return 8 * total


def write_paired(
    path: Path,
    hr: CodedStream,
    lr: CodedStream | None,
    metadata: Metadata,
    extras: Extras,
    clock: SourceClock | None = None,
    display_matrix: Sequence[int] | None = None,
    form: Form = MP4,
) -> None:
    """Writes the paired file, or without ``lr`` the one stream. ``path`` must be fresh
    (files.whole_file).

    extras: planned for the form's muxer and options. clock: moves their times. display_matrix:
    of both tracks, as of media.pictures.display_matrix.

    Raises ExternalError when a segment does not hold what it says, OSError when
    it cannot be written."""
    time_base = metadata.timeline.time_base
    nominal = max(1, round(1 / (metadata.timeline.rate * time_base)))
    if form.tick is not None:
        _check_tick({*hr.times, *(lr.times if lr is not None else ())}, time_base, form)
    if not form.tag and lr is not None:
        _check_untagged(hr, lr, time_base, form)
    options = form.options_for(time_base)
    with av.open(ffmpeg_name(path), "w", format=form.muxer, options=options) as out:
        if form.tag:
            out.metadata[KEY] = metadata.to_json()
        sources = []
        for role, coded in ((Role.HR, hr), (Role.LR, lr)):
            if coded is None:
                continue
            stream = add_video(out, coded.segments[0].path)
            if form.track_name and lr is not None:
                stream.metadata[form.track_name] = f"TDS {role.name}"
            stream.disposition = Disposition.default if role is Role.HR else Disposition(0)
            stream.set_display_matrix(display_matrix)
            sources.append(_timed_packets(coded, stream, time_base, nominal, form.tick))
        others = extras.add_to(out, clock)
        if form.tick is not None:
            begun = [coded.times[0] for coded in (hr, lr) if coded is not None]
            begin = min(0, *begun) * time_base
            others = not_before(others, lambda: begin)
        sources.append(others)
        for packet in heapq.merge(*sources, key=decoding_time):
            out.mux(packet)


def _check_untagged(hr: CodedStream, lr: CodedStream, time_base: Fraction, form: Form) -> None:
    """Raises InputError where readers, who have the times alone, would not find them right: of
    two tracks that begin at one time with irregular ones they suspect that it was made so."""
    unit = ratio(form.tick or time_base)
    known = {
        role: [rescale(t, time_base, form.tick or time_base) for t in coded.times[: 2 * FIRST]]
        for role, coded in ((Role.HR, hr), (Role.LR, lr))
    }
    times, found = Times(None, unit, unit, unit), {role: list[int]() for role in Role}
    try:
        for role, ticks in known.items():
            for tick in ticks[: FIRST // 4]:  # those a reader knows before it decodes
                times.show(role, tick)
        for role, ticks in known.items():
            for tick in ticks:
                times.push(role, tick)
            times.end(role)
        for role in Role:
            while event := times.next(role):
                found[role].append(event[1])
    except ValueError:
        found.clear()
    if found != known:
        raise InputError(
            f"{form.called} holds no tag, and without it the times of this video, which are "
            "irregular, do not tell readers where each track begins; write MP4 or Matroska, or "
            "code all-intra"
        )


def _check_tick(times: Collection[int], time_base: Fraction, form: Form) -> None:
    """Raises InputError where pictures of different times would come to be at one."""
    assert form.tick is not None
    if len({rescale(time, time_base, form.tick) for time in times}) < len(times):
        raise InputError(
            f"two frames of the source are closer than {form.called} tells apart ({form.tick} s); "
            "write an MP4 file"
        )


def add_video(out: OutputContainer, path: Path) -> VideoStream:
    """A stream of ``out`` for packets copied from the video of ``path``."""
    with av.open(ffmpeg_name(path)) as template:
        return add_copy(out, template.streams.video[0])


def add_copy(out: OutputContainer, source: VideoStream) -> VideoStream:
    """The same for packets of a stream of an open file."""
    # PyAV's FFmpeg has no VVC encoder, so the stream is added without one.
    stream = out.add_stream_from_template(source, opaque=True)
    if source.codec_context.codec_tag == "hvc1":  # else the muxer takes hev1
        stream.codec_context.codec_tag = "hvc1"
    if source.sample_aspect_ratio:  # VVC's is in the container alone
        stream.codec_context.sample_aspect_ratio = source.sample_aspect_ratio
    return stream


def _timed_packets(
    coded: CodedStream,
    stream: VideoStream,
    time_base: Fraction,
    nominal: int,
    tick: Fraction | None,
) -> Iterator[Packet[Any]]:
    """Packets in coded order with the source's times.

    Decoding times are as late as they can be: increasing, and never after a display
    time. So a random-access picture has the same of both, and a reader that seeks by
    decoding times (FFmpeg's) does not land behind the time it was asked for.
    """
    ranks = _display_ranks(coded.segments)
    if len(ranks) != len(coded.times):
        raise ExternalError(
            f"{coded.segments[0].path.name}: {len(ranks)} packets for {len(coded.times)} frames"
        )
    times = coded.times
    fine = 16  # packets that must precede others by decoding time do so by 1/16 frame
    if time_base * nominal < Fraction(1, 500):
        fine = 1
    due = _decoding_times([times[rank] * fine for rank in ranks], nominal)
    if tick is not None and due[0] < times[0] * fine:
        # No decoding time before all display times where there are no edit lists.
        due = _decoding_times([times[rank] * fine for rank in ranks], ceil(tick * fine / time_base))
    header: bytes | None = None
    i = 0
    for segment in coded.segments:
        with av.open(ffmpeg_name(segment.path)) as container:
            source = container.streams.video[0]
            extradata = source.codec_context.extradata
            header = extradata if header is None else header
            if extradata != header:
                raise ExternalError(
                    f"{segment.path.name}: its parameter sets differ from the first segment's"
                )
            for packet in container.demux(source):
                if not packet.size:
                    continue
                rank = ranks[i]
                packet.stream = stream
                packet.time_base = time_base / fine
                packet.pts = times[rank] * fine
                packet.dts = due[i]
                after = times[rank + 1] if rank + 1 < len(times) else times[rank] + nominal
                packet.duration = (after - times[rank]) * fine
                yield packet
                i += 1


def _decoding_times(shown: list[int], step: int) -> list[int]:
    """For display times in coded order: as late as can be, ``step`` apart or more."""
    due = [*shown]
    for j in range(len(due) - 2, -1, -1):
        due[j] = min(due[j], due[j + 1] - step)
    return due


def _display_ranks(segments: Sequence[CodedSegment]) -> list[int]:
    """For each packet in coded order its place in display order, over all segments."""
    ranks: list[int] = []
    for segment in segments:
        with av.open(ffmpeg_name(segment.path)) as container:
            stream = container.streams.video[0]
            pts = [p.pts for p in container.demux(stream) if p.size]
        if None in pts or len(set(pts)) != len(pts):
            raise ExternalError(f"{segment.path.name}: its packets have no usable times")
        order = {time: rank for rank, time in enumerate(sorted(t for t in pts if t is not None))}
        base = len(ranks)
        ranks += [base + order[t] for t in pts if t is not None]
    return ranks
