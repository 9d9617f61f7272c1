# SPDX-License-Identifier: LGPL-2.1-or-later
"""The file of a pair, MP4 or another of forms.py: HR first and default, LR second, the source's
own times.

Specification: docs/container.md. The two tracks are written as they were coded,
only with their true times: encoders are fed at a constant rate, and here each
packet's display rank gives it back the time of its source frame.
"""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from math import ceil
from pathlib import Path
from types import TracebackType
from typing import Any

import av
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from .._tds import Times, frame_rate, scale_of
from ..codecs.base import CodedSegment
from ..display import SHOWN, page_table, strip
from ..errors import ExternalError, InputError
from ..media.extent import file_size, has_index, indexed_end, said_end
from ..media.extras import Extras, decoding_time, not_before
from ..media.objects import NamedSource, Source
from ..media.opening import (
    ffmpeg_name,
    is_read_once,
    open_container,
    packets_of,
    video_streams,
)
from ..media.planar import depth_of
from ..media.times import SourceClock, exact
from ..plan import Role
from .forms import MP4, Form
from .metadata import KEY, Metadata, container_tag, is_plain, read_tag
from .times import common_unit, ratio, rescale

# ------------------------------------------------------------------ writing --


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
        role: [rescale(t, time_base, form.tick or time_base) for t in coded.times[: 2 * _FIRST]]
        for role, coded in ((Role.HR, hr), (Role.LR, lr))
    }
    times, found = Times(None, unit, unit, unit), {role: list[int]() for role in Role}
    try:
        for role, ticks in known.items():
            for tick in ticks[: _FIRST // 4]:  # those a reader knows before it decodes
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
        source = template.streams.video[0]
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


# ------------------------------------------------------------------ reading --

_FIRST = 32  # packets of each track that are looked at when a file is opened


@dataclass(frozen=True)
class Track:
    """One of the two tracks, as its header says it.

    indexed: packets by the file's index; 0 where it has none of all.
    """

    role: Role
    index: int
    codec: str
    width: int
    height: int
    bit_depth: int
    time_base: Fraction
    indexed: int


@dataclass(frozen=True)
class Packets:
    """What is in a track. times: at which its pictures are shown, in the file's ``time_base``,
    in order; without those that an edit list hides or that nothing before lets decode."""

    count: int
    bytes: int
    times: list[int]


def is_one_stream(path: str) -> bool:
    """Whether a file has one video track and the tag of a plain stream.

    Raises InputError for one track that is a part of a pair, or is of any other video."""
    if is_read_once(path):
        return False
    with open_container(path) as container:
        videos = video_streams(container)
        text = container_tag(container)
    if len(videos) != 1:
        return False
    if not text:
        raise InputError(
            f"{path} has one video track and no TDS tag: it is a video like any other; tds enhance "
            "makes its pictures better, and tds encode makes a TDS file of it"
        )
    if not is_plain(read_tag(text, path).groups):
        raise InputError(
            f"{path} has one video track, and its tag speaks of two, HR and LR: the other one was "
            "left out when the file was copied; get the whole file (ffmpeg -map 0 -c copy keeps "
            "both), or make better what is there with tds enhance"
        )
    return True


class PairedFile:
    """A file with an HR and an LR track, read tolerantly: the tracks are told
    apart by size, and a file whose metadata a remux has dropped still pairs.

    path: its name, or an object to read it from, which is copied; as a context manager
    that copy goes at the end.

    Raises InputError for anything that is not such a file, or is cut short.
    """

    def __init__(self, path: Source, allow_truncated: bool = False) -> None:
        self._named = NamedSource(path)
        self.path = path = self._named.path
        if is_read_once(path):
            raise InputError(
                f"{path} can be read only once, and a paired file is read in two places at a "
                "time, one a track; name a file"
            )
        with self.open() as container:
            videos = video_streams(container)
            if len(videos) < 2:
                raise InputError(
                    f"{path} has {_count(len(videos), 'video track')}, and a TDS file has two, "
                    "HR and LR; make one with tds encode, or use tds enhance for two files"
                )
            text = container_tag(container)
            self.tag = read_tag(text, path) if text else None
            self.metadata = Metadata.of(self.tag) if self.tag else None
            hr, lr = sorted(videos[:2], key=_area, reverse=True)
            if _area(hr) == _area(lr):
                hr, lr = videos[0], videos[1]
            tracks = {
                role: _track_of(role, stream, path, container)
                for role, stream in ((Role.HR, hr), (Role.LR, lr))
            }
            end = indexed_end((hr, lr)) if has_index(container) else said_end(path, container)
            self.hr, self.lr = tracks[Role.HR], tracks[Role.LR]
        self._first = self._demux(_FIRST)
        times = [t for packets in self._first.values() for t in packets.times]
        self.rate = (
            self.metadata.timeline.rate
            if self.metadata
            else Fraction(*frame_rate(times, ratio(self.time_base)))
        )
        size = file_size(path)
        size = end if size is None else size
        self.missing_bytes = max(0, end - size)
        if self.missing_bytes and not allow_truncated:
            raise InputError(
                f"{path} is cut short: it has {size} bytes and its index speaks of {end}; get the "
                "whole file, or decode what is there with --allow-truncated"
            )
        self.scale = self._check_scale()

    def _check_scale(self) -> int:
        hr, lr = self.hr, self.lr
        scale = scale_of(hr.width, hr.height, lr.width, lr.height)
        if scale == 0:
            raise InputError(
                f"{self.path}: HR is {hr.width}x{hr.height} and LR is {lr.width}x{lr.height}, "
                "which is no ratio of 1, 2 or 4; these two tracks do not belong together"
            )
        if self.metadata is not None and self.metadata.scale != scale:
            raise InputError(
                f"{self.path}: its metadata says k = {self.metadata.scale}, its tracks "
                f"({hr.width}x{hr.height} and {lr.width}x{lr.height}) say {scale}"
            )
        if hr.bit_depth != lr.bit_depth:
            raise InputError(
                f"{self.path}: HR has {hr.bit_depth} bits and LR has {lr.bit_depth}; "
                "code both with the same"
            )
        return scale

    def open(self) -> InputContainer:
        return open_container(self.path)

    def close(self) -> None:
        """Nothing stays open between calls; what was copied of an object goes."""
        self._named.close()

    def __enter__(self) -> PairedFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        m = self.metadata
        coded = f" {m.codec} {m.config} QP {m.hr_qp}, {m.timeline.frames} frames," if m else ""
        return (
            f"<tds.PairedFile {self.path!r}{coded} HR {self.hr.width}x{self.hr.height}, "
            f"LR {self.lr.width}x{self.lr.height}>"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows: HR and LR in time, and what is known of them."""
        m = self.metadata
        rows: list[tuple[str, object]] = [
            ("HR", f"{self.hr.width}x{self.hr.height}, {self.hr.codec}"),
            ("LR", f"{self.lr.width}x{self.lr.height}, {self.lr.codec}, k = {self.scale}"),
            ("bits a sample", self.hr.bit_depth),
            ("frames a second", f"{float(self.rate):g}"),
        ]
        drawn = ""
        if m is not None:
            rows += [
                ("frames", m.timeline.frames),
                ("groups", f"of {m.group}, {m.boundaries.value}"),
                ("coded", f"{m.encoder}, {m.config}, QP {m.hr_qp} and {m.lr_qp}"),
            ]
            drawn = strip(
                list(islice(m.roles(), SHOWN + 1)), self.hr.width / self.hr.height, self.scale
            )
        return page_table(f"TDS pair {Path(self.path).name}", rows, drawn)

    def track(self, role: Role) -> Track:
        return self.hr if role is Role.HR else self.lr

    @property
    def time_base(self) -> Fraction:
        """A unit in which the times of both tracks are whole numbers."""
        return common_unit((self.hr.time_base, self.lr.time_base))

    def packets(self) -> dict[Role, Packets]:
        """What is in both tracks; reads the file from one end to the other."""
        return self._demux(None)

    def shown(self) -> dict[Role, list[int]]:
        """Times at which the tracks are known to have pictures without reading all of the file:
        the first ones, and the last one where the index has as many as the tag tells of."""
        shown = {role: list(packets.times) for role, packets in self._first.items()}
        tag = self.tag
        if tag is not None and tag.times_known and tag.n_frames and all(shown.values()):
            told = {Role.HR: tag.n_hr, Role.LR: tag.n_lr + tag.n_leads}
            if all(self.track(role).indexed == told[role] for role in Role):
                unit = Fraction(*tag.time_base)
                begun = min(shown[Role.HR][0], shown[Role.LR][0])
                shown[Role.HR].append(begun + rescale(tag.end - tag.start, unit, self.time_base))
        return shown

    def _demux(self, most: int | None) -> dict[Role, Packets]:
        """most: stop when both tracks have so many packets, or one has many more."""
        with self.open() as container:
            streams = {self.track(role).index: role for role in Role}
            counts = {role: _Counting(self.track(role).time_base, self.time_base) for role in Role}
            demuxed = packets_of(container, [container.streams[index] for index in streams])
            with contextlib.suppress(av.error.FFmpegError):  # a file that ends inside a packet
                for packet in demuxed:
                    if packet.size:
                        counts[streams[packet.stream.index]].add(packet)
                    seen = [c.count for c in counts.values()]
                    if most is not None and (min(seen) >= most or max(seen) >= 64 * most):
                        break
        return {role: counting.packets(most) for role, counting in counts.items()}


class _Counting:
    """The packets of one track as they come."""

    def __init__(self, clock: Fraction, unit: Fraction) -> None:
        self._clock, self._unit = clock, unit
        self.count = self._bytes = 0
        self._begun: int | None = None  # display time of the first random-access picture
        self._times: list[int] = []

    def add(self, packet: Packet[Any]) -> None:
        self.count += 1
        self._bytes += packet.size
        if packet.pts is None:
            return
        if self._begun is None and packet.is_keyframe:
            self._begun = packet.pts
        if packet.is_discard:
            return
        # Pictures before it in display order have lost their references in a cut.
        if self._begun is not None and packet.pts >= self._begun:
            self._times.append(rescale(packet.pts, self._clock, self._unit))

    def packets(self, most: int | None) -> Packets:
        """most: packets were asked for; of their times, which come in coded order, those that
        have all others before them."""
        return Packets(self.count, self._bytes, sorted(self._times)[: most and most // 4])


def _track_of(role: Role, stream: VideoStream, path: str, container: InputContainer) -> Track:
    return Track(
        role,
        stream.index,
        stream.codec_context.codec.canonical_name,
        stream.codec_context.width,
        stream.codec_context.height,
        _bits(stream, path),
        exact(stream.time_base or 1),
        len(stream.index_entries) if has_index(container) else 0,
    )


def plain_track(path: str) -> tuple[Track, Packets]:
    """The one video track of a file, and what is in it; reads all of it."""
    with open_container(path) as container:
        stream = video_streams(container)[0]
        track = _track_of(Role.HR, stream, path, container)
        counting = _Counting(track.time_base, track.time_base)
        with contextlib.suppress(av.error.FFmpegError):  # a file that ends inside a packet
            for packet in container.demux(stream):
                if packet.size:
                    counting.add(packet)
    return track, counting.packets(None)


def _area(stream: VideoStream) -> int:
    return int(stream.codec_context.width * stream.codec_context.height)


def _count(n: int, what: str) -> str:
    return f"no {what}" if n == 0 else f"{n} {what}{'s' if n > 1 else ''}"


def _bits(stream: VideoStream, path: str) -> int:
    name = stream.codec_context.pix_fmt
    depth = depth_of(name)
    if not depth:
        raise InputError(
            f"{path}: its track {stream.index} is {name or 'of an unknown format'}; "
            "TDS tracks are 8 or 10 bit 4:2:0"
        )
    return depth
