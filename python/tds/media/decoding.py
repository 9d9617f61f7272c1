# SPDX-License-Identifier: LGPL-2.1-or-later
"""Decoded pictures that can be trusted to be what the standard says.

PyAV decodes in this process, and that is what is used wherever it is right. It
is not always: FFmpeg 8.1's VVC decoder, which PyAV 18 carries, gives wrong
pictures for 8-bit streams on processors with AVX2 (its adaptive loop filter; off
by up to 20 code values and more, against VTM and FFmpeg 9). So before a VVC stream is
decoded, a small stream with a known answer is, once a process. Where PyAV fails
it, an ffmpeg program that passes decodes instead and hands raw pictures over by
a pipe, with their times.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import subprocess
from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from importlib.resources import as_file, files
from typing import Any

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ..errors import InputError, MissingError
from .opening import input_of_program, is_read_once, packets_of
from .pipes import Interrupted
from .planar import PicturesMD5, most_bits
from .programs import candidates
from .times import exact

# MD5 of all pictures of data/vvc-*bit.266 as planar yuv, from VTM 23.13's decoder.
KNOWN = {8: "8da3b88e6847a584867deb1b61a851cc", 10: "f8a8e38593bce7f015998fa750074c14"}


def frames(
    path: str,
    container: InputContainer,
    stream: VideoStream,
    damaged: Callable[[], None] | None = None,
    packets: Iterator[Packet[Any]] | None = None,
) -> Iterator[VideoFrame]:
    """Decodes a stream of an open container; ``pts`` in the stream's time base.

    path: of the file, for when another program must decode it. damaged: called for
    each packet that does not decode, which is then passed over; None: the first
    one raises FFmpegError. packets: of the container (those of other streams are passed
    over), their times moved as SourceClock does; None: as the file has them.
    Raw Annex-B has no times, and none should be read from it.
    """
    depth = bit_depth(stream)
    if stream.codec_context.name != "vvc" or in_process(depth):
        stream.codec_context.thread_type = "AUTO"
        yield from _decode(packets or packets_of(container, stream), stream, damaged)
        return
    timed = container.format.name not in ("vvc", "hevc")
    with _by_program(path, stream.index, depth) as (decoded, times):
        unit = exact(stream.time_base or 1)
        moved = _MovedTimes(packets, stream) if packets is not None else None
        raw = decoded.streams.video[0]
        for frame in _decode(decoded.demux(raw), raw, damaged):
            time = next(times, None) if timed else None
            frame.dts = None
            frame.pts = None if time is None else round(time / unit)
            if frame.pts is not None and moved is not None:
                frame.pts = moved(frame.pts)
            yield frame


_REORDERED = 64  # packets among which that of the next picture is; no codec reorders as many


class _MovedTimes:
    """The moved times of pictures that come with those of the file, in display order."""

    def __init__(self, packets: Iterator[Packet[Any]], stream: VideoStream) -> None:
        self._packets, self._stream = packets, stream
        self._waiting: deque[tuple[int, int]] = deque(maxlen=_REORDERED)  # (time, ticks added)
        self._ticks = 0

    def __call__(self, pts: int) -> int:
        for _ in range(_REORDERED):
            if pts in (own for own, _ in self._waiting) or not self._read():
                break
        for entry in self._waiting:
            if entry[0] == pts:
                self._waiting.remove(entry)
                self._ticks = entry[1]
                break
        return pts + self._ticks

    def _read(self) -> bool:
        for packet in self._packets:
            if packet.stream.index == self._stream.index and packet.pts is not None:
                ticks = int(packet.opaque or 0)  # type: ignore[call-overload]
                self._waiting.append((packet.pts - ticks, ticks))
                return True
        return False


def bit_depth(stream: VideoStream) -> int:
    """8 or 10, by the stream's pixel format; deeper ones count as 10."""
    pix_fmt = stream.codec_context.pix_fmt
    return 10 if pix_fmt is not None and most_bits(pix_fmt) > 8 else 8


def _decode(
    packets: Iterator[Packet[Any]], stream: VideoStream, damaged: Callable[[], None] | None
) -> Iterator[VideoFrame]:
    try:
        yield from _decode_packets(packets, stream, damaged)
    except Interrupted as e:  # of a pipe
        raise e.pending from None


def _decode_packets(
    packets: Iterator[Packet[Any]], stream: VideoStream, damaged: Callable[[], None] | None
) -> Iterator[VideoFrame]:
    if damaged is None:
        for packet in packets:
            if packet.stream.index == stream.index:
                yield from packet.decode()
        return
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.error.FFmpegError:  # a file that ends inside a packet
            damaged()
            return
        if packet.stream.index != stream.index:
            continue
        try:
            yield from packet.decode()
        except av.error.EOFError:
            return
        except av.error.FFmpegError:
            damaged()


@contextlib.contextmanager
def _by_program(
    path: str, index: int, depth: int
) -> Iterator[tuple[InputContainer, Iterator[Fraction | None]]]:
    """The pictures as raw video, and the file's time of each in seconds (None: it has none).

    The times come by a pipe of their own, since what carries pictures holds none below 0 and
    none that go back."""
    program = program_that_decodes(depth)
    if program is None:
        raise MissingError(
            f"{path}: this PyAV's FFmpeg decodes {depth}-bit VVC wrongly, and no ffmpeg program "
            "that does it right was found: pip install -U imageio-ffmpeg, or set TDS_FFMPEG"
        )
    if is_read_once(path):
        raise InputError(
            f"{path}: this PyAV's FFmpeg decodes {depth}-bit VVC wrongly, and a pipe cannot be "
            "read again by another program; name a file"
        )
    with contextlib.ExitStack() as stack:
        reading, writing = os.pipe()
        stack.callback(os.close, reading)
        times, times_writing = os.pipe()
        file = stack.enter_context(open(times, encoding="ascii"))
        with contextlib.suppress(OSError):  # whole pictures at a time, where the system allows it
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 1 << 20)
        command = [program, "-hide_banner", "-nostdin", "-loglevel", "quiet", "-copyts"]
        command += ["-noautorotate", *stack.enter_context(input_of_program(path))]
        command += ["-map", f"0:{index}", "-fps_mode", "passthrough", "-vf", "setpts=N/25/TB"]
        command += ["-stats_enc_pre:v", f"pipe:{times_writing}"]
        command += ["-stats_enc_pre_fmt", "{ptsi} {tbi}"]
        command += ["-c:v", "rawvideo", "-f", "nut", "-write_index", "0", "pipe:1"]
        try:
            process = subprocess.Popen(
                command, stdout=writing, pass_fds=[times_writing], start_new_session=True
            )
        finally:
            os.close(writing)
            os.close(times_writing)
        stack.callback(process.wait)
        stack.callback(process.kill)
        try:
            container = av.open(
                f"pipe:{reading}", format="nut", options={"probesize": "32", "analyzeduration": "0"}
            )
        except av.error.FFmpegError as e:
            raise InputError(f"{path}: not one picture of its track {index} decodes") from e
        yield stack.enter_context(container), map(_time, file)


def _time(line: str) -> Fraction | None:
    ticks, base = line.split()
    return None if int(ticks) == -(1 << 63) else int(ticks) * Fraction(base)


# ------------------------------------------------------------- known answers --


@functools.cache
def in_process(depth: int) -> bool:
    """Whether PyAV's own FFmpeg decodes VVC of this bit depth (8 or 10) right."""
    digest = PicturesMD5()
    try:
        with as_file(files(__package__) / "data" / f"vvc-{depth}bit.266") as path:
            with av.open(str(path), format="vvc") as container:
                for frame in container.decode(video=0):
                    digest.add(frame)
    except av.error.FFmpegError:
        return False
    return digest.hexdigest() == KNOWN[depth]


@functools.cache
def program_that_decodes(depth: int) -> str | None:
    """The first ffmpeg program at hand that decodes VVC of this bit depth right."""
    with as_file(files(__package__) / "data" / f"vvc-{depth}bit.266") as path:
        for program in candidates():
            command = [program, "-nostdin", "-loglevel", "quiet", "-f", "vvc", "-i", str(path)]
            command += ["-f", "rawvideo", "pipe:1"]
            try:
                done = subprocess.run(command, capture_output=True, check=False, timeout=60)
            except (OSError, subprocess.SubprocessError):
                continue
            digest = PicturesMD5()
            digest.add(done.stdout)
            if digest.hexdigest() == KNOWN[depth]:
                return program
    return None
