# SPDX-License-Identifier: LGPL-2.1-or-later
"""Source videos: anything FFmpeg reads, y4m and raw planar yuv, files and pipes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from math import floor
from pathlib import Path
from typing import Any

import av
from av.format import Flags
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from .._tds import MAX_SIZE
from ..closing import Closing
from ..errors import InputError
from .along import Along
from .decoding import frames
from .extent import file_size, has_index, said_end
from .hdr import HDR, hdr_of
from .opening import (
    RawFormat,
    Silence,
    choose_video,
    has_flag,
    is_pair,
    is_read_once,
    open_container,
    reason,
)
from .pictures import RGB_MATRIX, FilterChain, crop_to_even, display_matrix, is_yuv, to_planar
from .pipes import PipeReader
from .planar import most_bits, nearest_chroma
from .times import BestEffort, PictureTimes, Ratio, SourceClock, TimedPackets, exact

MAX_RATE = 1000  # frames a second; the paired file's metadata takes no more
HALF = Fraction(1, 2)
LATE = 3600
"""Seconds; a first frame that is shown later is worth a notice."""


@dataclass(frozen=True)
class ColorTags:
    """FFmpeg's names, "" where the source does not say (H.273 code points)."""

    range: str = ""
    primaries: str = ""
    transfer: str = ""
    matrix: str = ""


def color_tags(stream: VideoStream) -> ColorTags:
    """What a stream of an open file says."""
    c = stream.codec_context
    return ColorTags(
        {1: "tv", 2: "pc"}.get(int(c.color_range), ""),
        _PRIMARIES.get(int(c.color_primaries), ""),
        _TRANSFER.get(int(c.color_trc), ""),
        MATRIX.get(int(c.colorspace), ""),
    )


def parse_size(text: str) -> tuple[int, int]:
    """ "416x240" -> (416, 240). Raises InputError."""
    try:
        w, h = (int(x) for x in text.lower().split("x"))
        if not (0 < w <= MAX_SIZE and 0 < h <= MAX_SIZE):
            raise ValueError
    except ValueError:
        raise InputError(f"a size is WIDTHxHEIGHT, as in 1920x1080, not {text!r}") from None
    return w, h


def parse_rate(text: str) -> Fraction:
    """ "30000/1001", "29.97" or "25" -> frames a second. Raises InputError.

    Decimals that mean an NTSC rate (23.976, 29.97, 59.94) become it, as in FFmpeg."""
    try:
        rate = Fraction(text)
        if not 0 < rate <= 1000:
            raise ValueError
    except (ValueError, ZeroDivisionError):
        raise InputError(
            f"a rate is frames a second, as in 25 or 30000/1001, not {text!r}"
        ) from None
    if rate.denominator not in (1, 1001):
        for nominal in (24, 30, 48, 60, 120):
            ntsc = Fraction(nominal * 1000, 1001)
            if abs(rate - ntsc) < Fraction(1, 200):
                return ntsc
    return rate


def check_even(what: str, width: int, height: int) -> None:
    """Even sizes are what 4:2:0, the engine and the paper have."""
    if width % 2 or height % 2:
        raise InputError(
            f"{what} is {width}x{height}; TDS needs an even width and height: crop it first, "
            f"for example with ffmpeg -vf crop={width // 2 * 2}:{height // 2 * 2}"
        )


class VideoSource(Closing):
    """One video track of a file, frame by frame in display order.

    track: its number among the file's video streams, from 0, as in FFmpeg's ``0:v:N``;
    None: of those that are meant to be shown first, the largest.

    Attributes: container (open; its tags, chapters and other streams), index (of the
    track among all streams), is_pair (the file is a TDS pair), width, height (luma samples),
    bit_depth (8 or 10: deeper sources are coded at 10), pix_fmt (of the first pictures),
    own_chroma (420, 422 or 444, into which its chroma goes whole), chroma (as which ``planar``
    gives its pictures; may be set), rate (nominal, frames a second), time_base (of the frames'
    times; never finer than 10^-7 s), colors, hdr, sample_aspect_ratio, frames (an estimate, 0
    when not known).
    along: holds the sound and text that are read with the frames, after ``hold_along``.
    Known once frames were read: display_matrix (media.pictures.display_matrix), and what
    ``clock`` needs to know. Known once all were: notices, sentences about what is wrong with
    the file. silence_ends may be set, of what is being sent: that nothing comes for too long is the
    end, with a notice, and no fault.

    chroma: None: own_chroma. lenient: odd sizes lose their last column or row, and what does not
    decode is passed over with a notice. pipe: reads the file, where it is a pipe.

    Raises InputError for a file that ends before its own index says.
    """

    def __init__(
        self,
        path: str,
        raw: RawFormat | None = None,
        track: int | None = None,
        *,
        chroma: int | None = 420,
        lenient: bool = False,
        pipe: PipeReader | None = None,
    ) -> None:
        self.path = path
        self.raw = raw
        self.display_matrix: tuple[int, ...] | None = None
        self.notices: list[str] = []
        self._lenient, self._damaged = lenient, 0
        self.silence_ends = False
        self._reading = threading.Lock()  # held while FFmpeg reads
        self._hdr: HDR | None = None
        self.along: Along | None = None
        self._ahead: Iterator[VideoFrame] | None = None
        self.container = open_container(path, raw, pipe=pipe)
        self._clock = SourceClock.of(self.container)
        self._shift = 0  # ticks added to the frames' times
        try:
            self._open_stream(track)
        except BaseException:
            self.close()
            raise
        self.chroma = chroma if chroma is not None else self.own_chroma

    def _open_stream(self, track: int | None) -> None:
        path = self.path
        self._check_end()
        self._stream = choose_video(path, self.container, track)
        self.index = self._stream.index
        self.is_pair = is_pair(self.container)
        context = self._stream.codec_context
        self.width, self.height = context.width, context.height
        if not self.width or not self.height:
            raise InputError(f"{path}: its video has no size; it holds no picture that decodes")
        self._coded = (self.width, self.height)
        if self._lenient:
            self.width, self.height = self.width // 2 * 2, self.height // 2 * 2
        check_even(path, self.width, self.height)
        self.pix_fmt = context.pix_fmt or "yuv420p"
        self.bit_depth = 8 if most_bits(self.pix_fmt) <= 8 else 10
        self.own_chroma = nearest_chroma(self.pix_fmt)
        self.rate = self._rate()
        own = exact(self._stream.time_base or 1 / self.rate)
        # MP4 counts in 32 bits, also the sixteenths of a frame that decoding times need.
        self.time_base = own if own.denominator <= 10_000_000 else Fraction(1, 1_000_000)
        self.sample_aspect_ratio = exact(self._stream.sample_aspect_ratio or 1)
        context.thread_type = "AUTO"

    def _rate(self) -> Fraction:
        stream = self._stream
        rates: list[Ratio | None]
        rates = [stream.average_rate, stream.guessed_rate, stream.base_rate]
        if self._untimed:
            # FFmpeg makes up an average of 25; what is coded in the stream is the guessed one.
            rates = [self.raw.rate] if self.raw is not None else [stream.guessed_rate, *rates]
        known = (exact(rate) for rate in rates if rate)
        return next((rate for rate in known if 0 < rate <= MAX_RATE), Fraction(25))

    @property
    def _untimed(self) -> bool:
        """Whether the format holds no times at all: raw streams."""
        return has_flag(self.container, Flags.no_timestamps)

    @property
    def frames(self) -> int:
        """How many there will be, for a progress bar; 0 when not known."""
        if self._stream.frames:
            return int(self._stream.frames)
        seconds = 0.0
        if self._stream.duration and self._stream.time_base:
            seconds = float(self._stream.duration * self._stream.time_base)
        elif self.container.duration:
            seconds = self.container.duration / av.time_base
        return floor(seconds * self.rate + 0.5)

    def _check_end(self) -> None:
        size, end = file_size(self.path), said_end(self.path, self.container)
        if size is not None and end > size:
            raise InputError(
                f"{self.path} is cut short: it has {size} bytes and says itself that it ends at "
                f"{end}; get the whole file, or keep what is there with "
                f"ffmpeg -i {self.path} -c copy WHOLE{Path(self.path).suffix} and encode that"
            )
        if self.raw is not None and self.raw.size is not None and size is not None:
            width, height = self.raw.size
            whole = _first_packet_size(self.path, self.raw)
            if whole and size % whole:
                raise InputError(
                    f"{self.path}: {_count(size % whole, 'byte')} left over after "
                    f"{_count(size // whole, 'frame')} of {width}x{height} {self.raw.pix_fmt}, "
                    f"{whole} bytes each; check --size and --pix-fmt, or cut them off"
                )

    def hold_along(self) -> None:
        """Has sound and text wait in ``along`` for who takes them while frames are read; before the
        first is."""
        self.along = Along(self.container, [self.index], parsed=True)

    def _but_along(self, packets: Iterator[Packet[Any]]) -> Iterator[Packet[Any]]:
        """Without those for ``along``, which are put there."""
        along = self.along
        if along is None:
            yield from packets
            return
        try:
            for packet in packets:
                if packet.stream.index not in along.streams or not packet.size:
                    yield packet
                    continue
                along.put(packet)
                while along.full:
                    notice = f"{self.path}: {along.lose()}"
                    if notice not in self.notices:
                        self.notices.append(notice)
        finally:
            along.end()

    def _while_sent(self, packets: Iterator[Packet[Any]]) -> Iterator[Packet[Any]]:
        try:
            while True:
                with self._reading:
                    packet = next(packets, None)
                if packet is None:
                    return
                yield packet
        except Silence as e:
            if not self.silence_ends:
                raise
            self.notices.append(f"{e}; what came before is shown")
            last: Packet[Any] = Packet()  # with which a decoder gives what it holds
            last.stream = self._stream
            yield last

    def __iter__(self) -> Iterator[VideoFrame]:
        """Decoded frames; ``pts`` strictly increasing in ``time_base`` ticks.

        Raises InputError when a frame changes size or the file is damaged."""
        ahead, self._ahead = self._ahead, None
        return self._decoded() if ahead is None else ahead

    @property
    def hdr(self) -> HDR:
        """As the first frame says it, which is decoded for that; raises what ``__iter__`` does."""
        if self._hdr is None:
            frames = self._decoded()
            first = next(frames, None)
            self._ahead = frames if first is None else chain([first], frames)
            self._hdr = self._hdr or HDR()
        return self._hdr

    def _decoded(self) -> Iterator[VideoFrame]:
        count = 0
        corrupt: list[int] = []
        interlaced = False
        try:
            for frame, time in self._timed(TimedPackets(self.container, self._stream, self._clock)):
                if (frame.width, frame.height) != self._coded:
                    raise InputError(
                        f"{self.path}: its size changes from {self._coded[0]}x{self._coded[1]} to "
                        f"{frame.width}x{frame.height}; split it where it does"
                    )
                if count == 0:
                    own = self._own(frame)
                    self.display_matrix = display_matrix(own)
                    self._hdr = hdr_of(own)
                    self._begin(time)
                frame.pts = time + self._shift
                if frame.is_corrupt:
                    corrupt.append(count)
                interlaced |= bool(frame.interlaced_frame)
                count += 1
                yield frame
        except av.error.FFmpegError as e:
            raise InputError(
                f"{self.path}: damaged after {_count(count, 'frame')} ({reason(e)}); get the "
                f"whole file, or keep what decodes with ffmpeg -i {self.path} -c:v ffv1 WHOLE.mkv"
            ) from e
        self._check_all(count, corrupt, interlaced)

    def _timed(self, packets: TimedPackets) -> Iterator[tuple[VideoFrame, int]]:
        """Each frame with its time in ticks, increasing; not yet moved to 0 or later."""
        factor = exact(self._stream.time_base or self.time_base) / self.time_base
        best = BestEffort(self.container.format.name == "avi")
        times = PictureTimes[VideoFrame](round(1 / (self.rate * self.time_base)))
        untimed = 0 if self._untimed else packets.untimed
        step = 1 / (self.rate * self.time_base)
        left_out = 0
        damage = self._count_damage if self._lenient else None
        others = self._but_along(self._while_sent(packets))
        for frame in frames(self.path, self.container, self._stream, damage, packets=others):
            raw = None if self._untimed else best(frame.pts, frame.dts)
            time = None if raw is None else floor(raw * factor + HALF)
            if time is None and untimed and packets.first is not None:
                time = floor(packets.first * factor - untimed * step + HALF)
                untimed -= 1
                if time < 0:  # Matroska has no times below 0, and players show no such picture
                    left_out += 1
                    continue
            elif time is not None:
                untimed = 0
            yield from times.push(frame, time)
        yield from times.finish()
        if left_out:
            self.notices.append(
                f"{self.path}: {_count(left_out, 'frame')} before its time 0, as a cut leaves "
                "them, are left out"
            )

    def _begin(self, first: int) -> None:
        """The time of the first frame: one below 0 moves all streams."""
        self._shift = max(0, -first)
        if self._shift:
            early = float(self._shift * self.time_base)
            self.notices.append(
                f"{self.path}: its times begin {early:.3f} s before 0; picture and sound are moved "
                "together to begin at 0"
            )
        if first * self.time_base > LATE:
            hours = float(first * self.time_base / 3600)
            self.notices.append(
                f"{self.path} says that its first frame is shown after {hours:.1f} hours, and so "
                f"will the pair; ffmpeg -i {self.path} -map 0 -c copy NAME makes it begin at 0"
            )

    def _count_damage(self) -> None:
        self._damaged += 1

    def clock(self) -> SourceClock:
        """What moves the file's other streams, read from its beginning, as the frames were."""
        return self._clock.again(self._shift * self.time_base)

    def _check_all(self, count: int, corrupt: list[int], interlaced: bool) -> None:
        """Once all that decodes was read: was it all there is?"""
        if self._clock.joints:
            places = _count(self._clock.joints, "place")
            self.notices.append(
                f"{self.path}: its times leap at {places}; picture and sound go on together there"
            )
        self._check_end()  # the index of a fragmented MP4 is known only now
        expected = self._frames_of_index(count)
        if count < expected:
            said = (
                f"{self.path}: its index speaks of {_count(expected, 'frame')} to show, and "
                f"{count} of them decode"
            )
            # A packet may be one field of a frame.
            if not interlaced and not self._lenient:
                raise InputError(
                    f"{said}; it is damaged: get the whole file, or keep what decodes with "
                    f"ffmpeg -i {self.path} -c:v ffv1 WHOLE.mkv and encode that"
                )
            self.notices.append(said)
        if self._damaged:
            self.notices.append(
                f"{self.path}: {_count(self._damaged, 'packet')} did not decode and are passed over"
            )
        if corrupt:
            self.notices.append(
                f"{self.path}: {_count(len(corrupt), 'frame')} of {count} are damaged, the first "
                f"is frame {corrupt[0]}; they are coded as FFmpeg conceals them"
            )
        left = self._bytes_after_last_frame()
        if left:
            self.notices.append(
                f"{self.path} ends inside a frame: what is left after {_count(count, 'frame')} "
                f"({_count(left, 'byte')}) is left out"
            )

    def _frames_of_index(self, count: int) -> int:
        """How many frames the file's index says are shown, if it has one that says so; 0 else.

        count: so many decoded. Packets may be there that are not shown: those that an edit list
        discards, and pictures before the first random-access point in display order, whose
        references were cut off. A second look at the packets, only where they matter,
        tells them from lost ones."""
        if is_read_once(self.path) or not has_index(self.container):
            return 0
        if count >= sum(not e.is_discard for e in self._stream.index_entries):
            return 0
        with open_container(self.path) as container:
            packets = [
                (p.pts, p.is_keyframe, p.is_discard)
                for p in container.demux(container.streams[self._stream.index])
                if p.size and p.pts is not None
            ]
        first = next((pts for pts, key, _ in packets if key), 0)
        return sum(pts >= first and not discarded for pts, _, discarded in packets)

    def _bytes_after_last_frame(self) -> int:
        """Of a y4m file, which is nothing but frames; 0 for others."""
        size = file_size(self.path)
        if size is None or self.container.format.name != "yuv4mpegpipe":
            return 0
        with open(self.path, "rb") as file:
            header = len(file.readline())
        end = 0
        with open_container(self.path) as container:
            for packet in container.demux(video=0):
                if packet.size and packet.pos is not None:
                    end = packet.pos + packet.size
                if (size - header) % (end - header or 1) == 0:
                    return 0  # frames like the first one fill it; no need to read on
        return size - end

    def _own(self, first: VideoFrame) -> VideoFrame:
        """The first frame with what the file says of it: another program may have decoded
        ``first``, and raw pictures have no side data."""
        if self._stream.codec_context.name != "vvc" or is_read_once(self.path):
            return first
        with open_container(self.path) as container:
            own = next(container.decode(container.streams[self.index]), None)
            return own if isinstance(own, VideoFrame) else first

    def planar(self, detect_cuts: bool = False) -> FilterChain:
        """The filters through which its frames go to the encoders (media.pictures.to_planar)."""
        full_range = self.colors.range == "pc"
        even = crop_to_even(*self._coded)
        return FilterChain(
            lambda frame: (
                even + to_planar(frame, self.bit_depth, full_range, detect_cuts, self.chroma)
            ),
            self.time_base,
        )

    @property
    def colors(self) -> ColorTags:
        """Of the pictures as they are coded: what is not YUV becomes it on the way."""
        tags = color_tags(self._stream)
        return tags if is_yuv(self.pix_fmt) else replace(tags, range="tv", matrix=RGB_MATRIX)

    def close(self) -> None:
        """What another thread waits for inside FFmpeg is left to end by itself."""
        if self._reading.acquire(blocking=False):
            self.container.close()
            self._reading.release()


def _first_packet_size(path: str, raw: RawFormat) -> int:
    """Bytes of a frame. Raises InputError for a file that holds less than one."""
    with open_container(path, raw) as container:
        packet = next(container.demux(video=0))
    if packet.is_corrupt:
        width, height = raw.size or (0, 0)
        raise InputError(
            f"{path} has {_count(packet.size, 'byte')}, less than one frame of "
            f"{width}x{height} {raw.pix_fmt}; check --size and --pix-fmt"
        )
    return packet.size


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' if n != 1 else ''}"


# H.273 code points by FFmpeg's option names; 2 is "unspecified".
_PRIMARIES = {
    1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "film",
    9: "bt2020", 10: "smpte428", 11: "smpte431", 12: "smpte432", 22: "jedec-p22",
}  # fmt: skip
_TRANSFER = {
    1: "bt709", 4: "gamma22", 5: "gamma28", 6: "smpte170m", 7: "smpte240m", 8: "linear",
    9: "log100", 10: "log316", 11: "iec61966-2-4", 12: "bt1361e", 13: "iec61966-2-1",
    14: "bt2020-10", 15: "bt2020-12", 16: "smpte2084", 17: "smpte428", 18: "arib-std-b67",
}  # fmt: skip
MATRIX = {
    0: "gbr", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "ycgco",
    9: "bt2020nc", 10: "bt2020c", 11: "smpte2085", 14: "ictcp",
}  # fmt: skip
