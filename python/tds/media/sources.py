# SPDX-License-Identifier: LGPL-2.1-or-later
"""Source videos: anything FFmpeg reads, y4m and raw planar yuv, files and pipes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ..errors import InputError
from .decoding import frames
from .extent import file_size, has_index, said_end
from .opening import RawFormat, is_read_once, open_container, reason, video_streams
from .pictures import RGB_MATRIX, is_yuv
from .planar import most_bits


@dataclass(frozen=True)
class ColorTags:
    """FFmpeg's names, "" where the source does not say (H.273 code points)."""

    range: str = ""
    primaries: str = ""
    transfer: str = ""
    matrix: str = ""


def parse_size(text: str) -> tuple[int, int]:
    """ "416x240" -> (416, 240). Raises InputError."""
    try:
        w, h = (int(x) for x in text.lower().split("x"))
        if not (0 < w <= 16384 and 0 < h <= 16384):
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
    """4:2:0 with even sizes is what the engine and the paper have."""
    if width % 2 or height % 2:
        raise InputError(
            f"{what} is {width}x{height}; 4:2:0 needs an even width and height: crop it first, "
            f"for example with ffmpeg -vf crop={width // 2 * 2}:{height // 2 * 2}"
        )


class VideoSource:
    """The first video stream of a file, frame by frame in display order.

    Attributes: width, height (luma samples), bit_depth (8 or 10: deeper sources
    are coded at 10), pix_fmt, rate (nominal, frames a second), time_base, colors,
    sample_aspect_ratio, frames (an estimate, 0 when not known); metadata and chapters
    (the file's own), audio and subtitles (the codecs' names, one a stream). Known once
    frames were read: rotation (degrees, as FFmpeg's display matrix). Known once all
    were: notices, sentences about what is wrong with the file.

    Raises InputError for a file that ends before its own index says.
    """

    def __init__(self, path: str, raw: RawFormat | None = None) -> None:
        self.path = path
        self.raw = raw
        self.rotation = 0
        self.notices: list[str] = []
        self._container = open_container(path, raw)
        try:
            self._open_stream()
        except BaseException:
            self.close()
            raise

    def _open_stream(self) -> None:
        path = self.path
        videos = video_streams(self._container)
        if not videos:
            raise InputError(f"{path} has no video stream")
        self._check_end()
        self._stream: VideoStream = videos[0]
        context = self._stream.codec_context
        self.width, self.height = context.width, context.height
        if not self.width or not self.height:
            raise InputError(f"{path}: its video has no size; it holds no picture that decodes")
        check_even(path, self.width, self.height)
        self.pix_fmt = context.pix_fmt or "yuv420p"
        self.bit_depth = 8 if most_bits(self.pix_fmt) <= 8 else 10
        rate = self._stream.average_rate or self._stream.guessed_rate or self._stream.base_rate
        self.rate = Fraction(rate) if rate else Fraction(25)
        self.time_base = Fraction(self._stream.time_base or 1 / self.rate)
        self.sample_aspect_ratio = Fraction(self._stream.sample_aspect_ratio or 1)
        self.metadata = dict(self._container.metadata)
        self.chapters = [dict(c) for c in self._container.chapters()]
        self.audio = [s.codec_context.name for s in self._container.streams.audio]
        self.subtitles = [s.codec_context.name for s in self._container.streams.subtitles]
        context.thread_type = "AUTO"

    @property
    def frames(self) -> int:
        """How many there will be, for a progress bar; 0 when not known."""
        if self._stream.frames:
            return int(self._stream.frames)
        seconds = 0.0
        if self._stream.duration and self._stream.time_base:
            seconds = float(self._stream.duration * self._stream.time_base)
        elif self._container.duration:
            seconds = self._container.duration / av.time_base
        return math.floor(seconds * self.rate + 0.5)

    def _check_end(self) -> None:
        size, end = file_size(self.path), said_end(self.path, self._container)
        if size is not None and end > size:
            raise InputError(
                f"{self.path} is cut short: it has {size} bytes and says itself that it ends at "
                f"{end}; get the whole file, or keep what is there with "
                f"ffmpeg -i {self.path} -c copy WHOLE{Path(self.path).suffix} and encode that"
            )
        if self.raw is not None and size is not None:
            whole = _first_packet_size(self.path, self.raw)
            if whole and size % whole:
                width, height = self.raw.size
                raise InputError(
                    f"{self.path}: {_count(size % whole, 'byte')} left over after "
                    f"{_count(size // whole, 'frame')} of {width}x{height} {self.raw.pix_fmt}, "
                    f"{whole} bytes each; check --size and --pix-fmt, or cut them off"
                )

    def __iter__(self) -> Iterator[VideoFrame]:
        """Decoded frames; ``pts`` strictly increasing in ``time_base`` ticks.

        Raises InputError when a frame changes size or the file is damaged."""
        step = max(1, round(1 / (self.rate * self.time_base)))
        last: int | None = None
        count = 0
        corrupt: list[int] = []
        interlaced = False
        try:
            for frame in frames(self.path, self._container, self._stream):
                if (frame.width, frame.height) != (self.width, self.height):
                    raise InputError(
                        f"{self.path}: its size changes from {self.width}x{self.height} to "
                        f"{frame.width}x{frame.height}; split it where it does"
                    )
                pts = frame.pts
                if pts is None or (last is not None and pts <= last):
                    # Broken or missing times: go on at the nominal rate, losing no frame.
                    pts = 0 if last is None else last + step
                frame.pts = last = pts
                if count == 0:
                    self.rotation = self._rotation_of(frame)
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

    def _check_all(self, count: int, corrupt: list[int], interlaced: bool) -> None:
        """Once all that decodes was read: was it all there is?"""
        self._check_end()  # the index of a fragmented MP4 is known only now
        expected = self._frames_of_index(count)
        if count < expected:
            said = (
                f"{self.path}: its index speaks of {_count(expected, 'frame')} to show, and "
                f"{count} of them decode"
            )
            # A packet may be one field of a frame.
            if not interlaced:
                raise InputError(
                    f"{said}; it is damaged: get the whole file, or keep what decodes with "
                    f"ffmpeg -i {self.path} -c:v ffv1 WHOLE.mkv and encode that"
                )
            self.notices.append(said)
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
        if is_read_once(self.path) or not has_index(self._container):
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
        if size is None or self._container.format.name != "yuv4mpegpipe":
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

    def _rotation_of(self, first: VideoFrame) -> int:
        if self._stream.codec_context.name != "vvc" or is_read_once(self.path):
            return first.rotation
        # Another program may have decoded this one, and raw pictures have no side data.
        with open_container(self.path) as container:
            own = next(container.decode(container.streams.video[0]), None)
            return own.rotation if own is not None else 0

    @property
    def colors(self) -> ColorTags:
        """Of the pictures as they are coded: what is not YUV becomes it on the way."""
        c = self._stream.codec_context
        tags = ColorTags(
            {1: "tv", 2: "pc"}.get(int(c.color_range), ""),
            _PRIMARIES.get(int(c.color_primaries), ""),
            _TRANSFER.get(int(c.color_trc), ""),
            _MATRIX.get(int(c.colorspace), ""),
        )
        return tags if is_yuv(self.pix_fmt) else replace(tags, range="tv", matrix=RGB_MATRIX)

    def close(self) -> None:
        self._container.close()

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _first_packet_size(path: str, raw: RawFormat) -> int:
    """Bytes of a frame. Raises InputError for a file that holds less than one."""
    with open_container(path, raw) as container:
        packet = next(container.demux(video=0))
    if packet.is_corrupt:
        raise InputError(
            f"{path} has {_count(packet.size, 'byte')}, less than one frame of "
            f"{raw.size[0]}x{raw.size[1]} {raw.pix_fmt}; check --size and --pix-fmt"
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
_MATRIX = {
    0: "gbr", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "ycgco",
    9: "bt2020nc", 10: "bt2020c", 11: "smpte2085", 14: "ictcp",
}  # fmt: skip
