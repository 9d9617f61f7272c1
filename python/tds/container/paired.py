# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is in a file that TDS wrote: the two tracks of a pair, or one stream with its tag.

Whatever the container (forms.py), and whatever a remux has left of it; specification:
docs/container.md.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from .._tds import frame_rate, scale_of
from ..closing import Closing
from ..display import SHOWN, page_table, strip
from ..errors import InputError
from ..media.extent import file_size, has_index, indexed_end, said_end
from ..media.manifests import manifest_kind
from ..media.objects import NamedSource, Source
from ..media.opening import is_read_once, open_container, packets_of, video_streams
from ..media.planar import chroma_name, chroma_of, depth_of
from ..media.times import exact
from ..plan import Role
from .metadata import Metadata, container_tag, is_plain, read_tag
from .times import common_unit, ratio, rescale

FIRST = 32
"""Packets of each track that are looked at when a file is opened."""


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
    chroma: int
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
        if manifest_kind(path):
            raise InputError(
                f"{path} is of a pair, and one of its two video tracks cannot be read; see that "
                "the playlists and the first segments of both, HR and LR, are there"
            )
        raise InputError(
            f"{path} has one video track, and its tag speaks of two, HR and LR: the other one was "
            "left out when the file was copied; get the whole file (ffmpeg -map 0 -c copy keeps "
            "both), or make better what is there with tds enhance"
        )
    return True


class PairedFile(Closing):
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
                "time, one a track; name a file, or see tds decode"
            )
        with self.open() as container:
            hr, lr = two_videos(path, container)
            text = container_tag(container)
            self.tag = read_tag(text, path) if text else None
            self.metadata = Metadata.of(self.tag) if self.tag else None
            self.hr = track_of(Role.HR, hr, path, container)
            self.lr = track_of(Role.LR, lr, path, container)
            end = indexed_end((hr, lr)) if has_index(container) else said_end(path, container)
        self._first = self._demux(FIRST)
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
        self.scale = scale_between(path, self.hr, self.lr, self.metadata)

    def open(self) -> InputContainer:
        return open_container(self.path)

    def close(self) -> None:
        """Nothing stays open between calls; what was copied of an object goes."""
        self._named.close()

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
            ("bits a sample", f"{self.hr.bit_depth}, {chroma_name(self.hr.chroma)}"),
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


def two_videos(path: str, container: InputContainer) -> tuple[VideoStream, VideoStream]:
    """HR and LR of an open file, told apart by size. Raises InputError."""
    videos = video_streams(container)
    if len(videos) < 2:
        raise InputError(
            f"{path} has {_count(len(videos), 'video track')}, and a TDS file has two, "
            "HR and LR; make one with tds encode, or use tds enhance for two files"
        )
    hr, lr = sorted(videos[:2], key=_area, reverse=True)
    return (hr, lr) if _area(hr) != _area(lr) else (videos[0], videos[1])


def scale_between(path: str, hr: Track, lr: Track, metadata: Metadata | None) -> int:
    """k. Raises InputError for two tracks that do not belong together."""
    scale = scale_of(hr.width, hr.height, lr.width, lr.height)
    if scale == 0:
        raise InputError(
            f"{path}: HR is {hr.width}x{hr.height} and LR is {lr.width}x{lr.height}, "
            "which is no ratio of 1, 2 or 4; these two tracks do not belong together"
        )
    if metadata is not None and metadata.scale != scale:
        raise InputError(
            f"{path}: its metadata says k = {metadata.scale}, its tracks "
            f"({hr.width}x{hr.height} and {lr.width}x{lr.height}) say {scale}"
        )
    if hr.bit_depth != lr.bit_depth:
        raise InputError(
            f"{path}: HR has {hr.bit_depth} bits and LR has {lr.bit_depth}; code both with the same"
        )
    if hr.chroma != lr.chroma:
        raise InputError(
            f"{path}: HR is {chroma_name(hr.chroma)} and LR is {chroma_name(lr.chroma)}; code both "
            "with the same"
        )
    return scale


def track_of(role: Role, stream: VideoStream, path: str, container: InputContainer) -> Track:
    return Track(
        role,
        stream.index,
        stream.codec_context.codec.canonical_name,
        stream.codec_context.width,
        stream.codec_context.height,
        *_format(stream, path),
        exact(stream.time_base or 1),
        len(stream.index_entries) if has_index(container) else 0,
    )


def plain_track(path: str) -> tuple[Track, Packets]:
    """The one video track of a file, and what is in it; reads all of it."""
    with open_container(path) as container:
        stream = video_streams(container)[0]
        track = track_of(Role.HR, stream, path, container)
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


def _format(stream: VideoStream, path: str) -> tuple[int, int]:
    """Bits and chroma."""
    name = stream.codec_context.pix_fmt
    depth = depth_of(name)
    if not depth:
        raise InputError(
            f"{path}: its track {stream.index} is {name or 'of an unknown format'}; "
            "TDS tracks are 8 or 10 bit 4:2:0, 4:2:2 or 4:4:4"
        )
    return depth, chroma_of(name)
