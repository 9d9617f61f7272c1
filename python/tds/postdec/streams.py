# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pictures from a descriptor: the TDS picture protocol, y4m, or raw planar yuv.

Which of the three it is shows in the first bytes. Every read has a time limit,
so a decoder that stops writing is an error and not a hang.
"""

from __future__ import annotations

import os
import re
import select
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from .._tds import MAX_SIZE
from ..errors import ExternalError, InputError
from ..media.planar import Plane, picture_size, planes_in
from ..plan import Role
from . import protocol
from .protocol import MessageType, ProtocolError

_SNIFF = 10


@dataclass(frozen=True)
class Format:
    """Of raw yuv, which says nothing of itself: luma size and bits (8 or 10)."""

    width: int
    height: int
    bit_depth: int

    @property
    def size(self) -> int:
        return picture_size(self.width, self.height, self.bit_depth)

    def __str__(self) -> str:
        return f"{self.width}x{self.height}, {self.bit_depth} bits"


@dataclass
class Picture:
    """One decoded picture: planar 4:2:0 without padding, 16-bit little-endian above 8 bits.

    pts: ticks, set by whoever knows the plan.
    """

    format: Format
    data: NDArray[np.uint8]
    is_corrupt: bool = False
    pts: int | None = None

    @property
    def planes(self) -> list[Plane]:
        """Y, Cb and Cr as views of ``data``: uint8, or uint16 above 8 bits."""
        return planes_in(self.data, self.format.width, self.format.height, self.format.bit_depth)


class StreamEnded(Exception):
    """The bytes ended where they may not; ``clean`` when between two pictures."""

    def __init__(self, clean: bool) -> None:
        super().__init__()
        self.clean = clean


class Stopped(Exception):
    """Interrupt was asked for."""


class PictureStream:
    """Pictures of one decoder in output order, read from a descriptor.

    fd: readable; closed by ``close``. name: for messages ("the HR decoder
    (DecoderApp)"). timeout: seconds without a byte before it counts as hanging.
    format: what raw yuv is; None when that cannot come. role: what a
    decoder that says its role must say.

    Iterating raises ExternalError naming the decoder when it hangs or sends what
    it may not, and StreamEnded when the bytes end before the stream did (only
    the caller knows how the process ended, and so what to say).
    """

    def __init__(
        self,
        fd: int,
        name: str,
        timeout: float,
        format: Format | None = None,
        role: Role | None = None,
    ) -> None:
        self.name = name
        self.count = 0
        """Pictures read so far."""
        self.rate: Fraction | None = None
        """Frames a second, where y4m says it."""
        self.sample_aspect_ratio: Fraction | None = None
        self.full_range = False
        """As y4m says it; the other forms do not."""
        self.program = ""
        """What a decoder that speaks the protocol calls itself."""
        self.is_raw = False
        """Its pictures are raw yuv, of which somebody else has said what they are."""
        self._fd = fd
        self.timeout = timeout
        self._format = format
        self._role = role
        self._start = b""
        self._hello: protocol.Hello | None = None
        self._wake, self._waker = os.pipe()
        self._open = True
        self._closing = threading.Lock()
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)

    def interrupt(self) -> None:
        """Makes the iteration end with Stopped; from any thread, and also once closed."""
        # Descriptors that are closed may be someone else's by now.
        with self._closing:
            if self._open:
                os.write(self._waker, b"x")

    def close(self) -> None:
        """Lets go of its descriptors. Again is allowed."""
        with self._closing:
            if not self._open:
                return
            self._open = False
            for fd in (self._fd, self._wake, self._waker):
                with suppress(OSError):
                    os.close(fd)

    def handshake(self) -> Role:
        """Reads the first message of a decoder that speaks the protocol; its role."""
        self._start = self._read_some(_SNIFF)
        if not self._start:
            raise StreamEnded(clean=True)
        try:
            if self._start[:4] != protocol.MAGIC:
                raise ProtocolError("its bytes are not the TDS picture protocol")
            self._hello = self._read_hello(self._start)
        except ProtocolError as e:
            raise ExternalError(f"{self.name}: {e}") from e
        self.program = self._hello.program
        return self._hello.role

    def __iter__(self) -> Iterator[Picture]:
        start = self._start or self._read_some(_SNIFF)
        if start[:4] == protocol.MAGIC:
            yield from self._protocol(start)
        elif start[:9] == b"YUV4MPEG2":
            yield from self._y4m(start)
        elif not start:
            raise StreamEnded(clean=True)
        elif len(start) < _SNIFF and self._format is None:
            raise StreamEnded(clean=False)
        else:
            yield from self._yuv(start)

    # -- the three forms ---------------------------------------------------

    def _protocol(self, start: bytes) -> Iterator[Picture]:
        try:
            hello = self._hello or self._read_hello(start)
            self.program = hello.program
            if self._role is not None and hello.role is not self._role:
                raise ProtocolError(
                    f"it says it is {hello.role.name} and was started as {self._role.name}"
                )
            while True:
                head = self._read_some(protocol.HEAD.size)
                if len(head) < protocol.HEAD.size:
                    raise StreamEnded(clean=not head)
                kind, size = protocol.parse_head(head)
                if kind is MessageType.END:
                    (sent,) = protocol.END.unpack(self._exactly(size))
                    if sent != self.count:
                        raise ProtocolError(f"it sent {sent} pictures and {self.count} arrived")
                    return
                if kind is MessageType.FAIL:
                    sentence = self._exactly(size).decode("utf-8", "replace")
                    raise ExternalError(f"{self.name} gave up: {sentence}")
                if kind is not MessageType.PICTURE:
                    raise ProtocolError(f"it sent {kind.name} in the middle of its pictures")
                picture = protocol.parse_picture(self._exactly(protocol.PICTURE.size), size)
                if picture.ordinal != self.count:
                    raise ProtocolError(f"its picture {self.count} says it is {picture.ordinal}")
                data = np.empty(picture.size, np.uint8)  # not zeroed first, as bytes would be
                self._into(data.data)
                self.count += 1
                format = Format(picture.width, picture.height, picture.bit_depth)
                yield Picture(format, data, picture.corrupt)
        except ProtocolError as e:
            raise ExternalError(f"{self.name}: {e}") from e

    def _read_hello(self, start: bytes) -> protocol.Hello:
        kind, size = protocol.parse_head(start + self._exactly(protocol.HEAD.size - len(start)))
        if kind is not MessageType.HELLO:
            raise ProtocolError(f"its first message is {kind.name}, not HELLO")
        return protocol.parse_hello(self._exactly(size))

    def _y4m(self, start: bytes) -> Iterator[Picture]:
        header = self._line(start, 1024)
        format, self.rate = parse_y4m_header(header, self.name)
        self.sample_aspect_ratio, self.full_range = y4m_shape(header)
        while True:
            line = self._read_some(6)
            if not line:
                return
            line = self._line(line, 256)
            if not line.startswith(b"FRAME"):
                raise ExternalError(f"{self.name}: what follows its picture {self.count} is no y4m")
            data = np.empty(format.size, np.uint8)
            self._into(data.data)
            self.count += 1
            yield Picture(format, data)

    def _yuv(self, start: bytes) -> Iterator[Picture]:
        format = self._format
        if format is None:
            raise InputError(
                f"{self.name} writes raw yuv, which says nothing of its size; give --sidecar, or "
                "--size and --bit-depth, or let the decoder write y4m"
            )
        self.is_raw = True
        while True:
            data = np.empty(format.size, np.uint8)
            data[: len(start)] = np.frombuffer(start, np.uint8)
            got = len(start) + self._fill(data.data[len(start) :])
            if got == 0:
                return
            if got < len(data):
                raise StreamEnded(clean=False)
            start = b""
            self.count += 1
            yield Picture(format, data)

    # -- bytes -------------------------------------------------------------

    def _fill(self, view: memoryview) -> int:
        """Reads until ``view`` is full or the bytes end; how many there were."""
        done = 0
        while done < len(view):
            deadline = time.monotonic() + self.timeout
            while True:
                ready = self._poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
                if any(fd == self._wake for fd, _ in ready):
                    raise Stopped
                if not ready:
                    where = (
                        f"in the middle of picture {self.count}"
                        if done
                        else (
                            f"after {self.count} picture{'s' * (self.count > 1)}"
                            if self.count
                            else "before its first picture"
                        )
                    )
                    raise ExternalError(
                        f"{self.name} wrote nothing for {self.timeout:g} s, {where}; it was ended "
                        "(--timeout gives it longer)"
                    )
                try:
                    got = os.readv(self._fd, [view[done:]])
                    break
                except BlockingIOError:
                    continue
                except ConnectionResetError:
                    got = 0
                    break
            if got == 0:
                break
            done += got
        return done

    def _into(self, view: memoryview) -> None:
        if self._fill(view) < len(view):
            raise StreamEnded(clean=False)

    def _read_some(self, size: int) -> bytes:
        """``size`` bytes, or fewer where the stream ends."""
        data = bytearray(size)
        return bytes(data[: self._fill(memoryview(data))])

    def _exactly(self, size: int) -> bytes:
        data = bytearray(size)
        self._into(memoryview(data))
        return bytes(data)

    def _line(self, start: bytes, limit: int) -> bytes:
        line = bytearray(start)
        while not line.endswith(b"\n"):
            if len(line) > limit:
                raise ExternalError(f"{self.name}: its y4m has a line of over {limit} bytes")
            line += self._exactly(1)
        return bytes(line[:-1])


def parse_y4m_header(header: bytes, name: str) -> tuple[Format, Fraction | None]:
    """Format and rate of a y4m stream's first line (without its end of line).

    Raises InputError for what is not progressive 4:2:0 of 8 or 10 bits."""
    fields = {f[:1]: f[1:].decode("ascii", "replace") for f in header.split(b" ")[1:] if f}
    # The header's X fields are comments; of several only the colour space matters here.
    chroma = fields.get(b"C", "420jpeg")
    depth = {"p10": 10, "": 8}.get(re.sub(r"^420(jpeg|mpeg2|paldv)?", "", chroma))
    if not chroma.startswith("420") or depth is None:
        raise InputError(f"{name} gives {chroma} pictures; TDS takes 4:2:0 of 8 or 10 bits")
    if fields.get(b"I", "p") not in ("p", "?"):
        raise InputError(f"{name} gives interlaced pictures; TDS takes progressive ones")
    try:
        width, height = int(fields[b"W"]), int(fields[b"H"])
        if not (2 <= width <= MAX_SIZE and 2 <= height <= MAX_SIZE):
            raise ValueError
        rate = None
        if b"F" in fields:
            over, under = fields[b"F"].split(":")
            rate = Fraction(int(over), int(under)) if int(over) and int(under) else None
    except (KeyError, ValueError):
        raise InputError(f"{name}: its y4m header is damaged") from None
    if width % 2 or height % 2:
        raise InputError(f"{name} gives pictures of {width}x{height}; 4:2:0 needs even sizes")
    return Format(width, height, depth), rate


def y4m_shape(header: bytes) -> tuple[Fraction | None, bool]:
    """(sample aspect ratio, whether samples use the full range) by a y4m stream's first line;
    a ratio that is none counts as not said, since it concerns no sample."""
    words = header.split(b" ")
    ratio = next((re.fullmatch(rb"A(\d+):(\d+)", w) for w in words[1:] if w[:1] == b"A"), None)
    over, under = (int(n) for n in ratio.groups()) if ratio else (0, 0)
    return (Fraction(over, under) if over and under else None), b"XCOLORRANGE=FULL" in words
