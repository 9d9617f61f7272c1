# SPDX-License-Identifier: LGPL-2.1-or-later
"""Source videos: anything FFmpeg reads, y4m and raw planar yuv, files and pipes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ..errors import InputError
from .decoding import frames
from .opening import RawFormat, open_container, reason


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
    sample_aspect_ratio, rotation (degrees, as FFmpeg's display matrix), frames
    (an estimate, 0 when not known), has_times (False for raw formats, whose
    times are counted).
    """

    def __init__(self, path: str, raw: RawFormat | None = None) -> None:
        self.path = path
        self._container = open_container(path, raw)
        try:
            self._open_stream()
        except BaseException:
            self.close()
            raise

    def _open_stream(self) -> None:
        path = self.path
        videos = [
            s
            for s in self._container.streams.video
            if not s.disposition & s.disposition.attached_pic
        ]
        if not videos:
            raise InputError(f"{path} has no video stream")
        self._stream: VideoStream = videos[0]
        context = self._stream.codec_context
        self.width, self.height = context.width, context.height
        if not self.width or not self.height:
            raise InputError(f"{path}: its video has no size; it holds no picture that decodes")
        check_even(path, self.width, self.height)
        self.pix_fmt = context.pix_fmt or "yuv420p"
        self.bit_depth = 8 if _depth(self.pix_fmt) <= 8 else 10
        rate = self._stream.average_rate or self._stream.guessed_rate or self._stream.base_rate
        self.rate = Fraction(rate) if rate else Fraction(25)
        self.time_base = Fraction(self._stream.time_base or 1 / self.rate)
        self.sample_aspect_ratio = Fraction(self._stream.sample_aspect_ratio or 1)
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

    def __iter__(self) -> Iterator[VideoFrame]:
        """Decoded frames; ``pts`` strictly increasing in ``time_base`` ticks.

        Raises InputError when a frame changes size or the file is damaged."""
        step = max(1, round(1 / (self.rate * self.time_base)))
        last: int | None = None
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
                yield frame
        except av.error.FFmpegError as e:
            raise InputError(f"{self.path}: damaged after {last or 0} ticks ({reason(e)})") from e

    @property
    def colors(self) -> ColorTags:
        c = self._stream.codec_context
        return ColorTags(
            {1: "tv", 2: "pc"}.get(int(c.color_range), ""),
            _PRIMARIES.get(int(c.color_primaries), ""),
            _TRANSFER.get(int(c.color_trc), ""),
            _MATRIX.get(int(c.colorspace), ""),
        )

    def close(self) -> None:
        self._container.close()

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _depth(pix_fmt: str) -> int:
    return max(c.bits for c in av.VideoFormat(pix_fmt).components)


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
