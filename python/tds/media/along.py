# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sound and text of what is read once, beside its pictures: held from when they come until a sink
takes them.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from fractions import Fraction
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from .times import exact

# Formats whose packets, unless FFmpeg's parsers cut them, are of as many frames as fit.
_PACKED = ("mpegts", "rtp")
_MOST = 32 << 20  # bytes that are held
_BESIDE = 1 << 10  # those that a packet takes beside its data


class Along:
    """Packets of the sound and text of an open container, in the order of the file. One thread
    reads and puts, another takes.

    container: is being read, and stays open until all is taken; parsed: by FFmpeg's parsers.
    streams: indices of those that come along; in transport streams that are not parsed sound
    alone. ended: nothing more comes.
    """

    def __init__(self, container: InputContainer, video: Collection[int], parsed: bool) -> None:
        self.container = container
        packed = not parsed and container.format.name in _PACKED
        kinds = ("audio",) if packed else ("audio", "subtitle")
        others = [
            s
            for s in container.streams
            if s.type in kinds and s.index not in video and s.codec_context is not None
        ]
        self.streams = frozenset(s.index for s in others)
        self._frames: dict[int, _Frames] = {}
        if packed:
            for stream in others:
                with contextlib.suppress(ValueError):  # no parser: its packets are whole
                    self._frames[stream.index] = _Frames(stream)
        self._lock = threading.Lock()
        self._held: deque[Packet[Any]] = deque()
        self._bytes = 0
        self.ended = False

    def parts(self, packet: Packet[Any]) -> Iterable[Packet[Any]]:
        """What a packet of the file is put as: each frame of sound by itself."""
        frames = self._frames.get(packet.stream.index)
        return [packet] if frames is None else frames.of(packet)

    def last_parts(self) -> Iterator[Packet[Any]]:
        """What there is beside, at the end of the file."""
        for frames in self._frames.values():
            yield from frames.last()

    def put(self, packet: Packet[Any]) -> None:
        with self._lock:
            self._held.append(packet)
            self._bytes += packet.size + _BESIDE

    def end(self) -> None:
        self.ended = True

    @property
    def full(self) -> bool:
        return self._bytes > _MOST

    def lose(self) -> str:
        """Drops what came first; what is to be said of that."""
        with self._lock:
            self._take()
        return "sound came for so long without pictures that some of it is lost"

    def _take(self) -> Packet[Any] | None:
        if not self._held:
            return None
        packet = self._held.popleft()
        self._bytes -= packet.size + _BESIDE
        return packet

    def first(self, index: int, count: int) -> list[Packet[Any]]:
        """Of a stream, of those that are held; they stay."""
        with self._lock:
            return [p for p in self._held if p.stream.index == index][:count]

    def packets(self) -> Iterator[Packet[Any] | None]:
        """As they come, until the end; None: there is none now."""
        while True:
            ended = self.ended
            with self._lock:
                packet = self._take()
            if packet is None and ended:
                return
            yield packet


class _Frames:
    """The frames of one stream of sound, cut out of packets that have several."""

    def __init__(self, stream: Stream) -> None:
        """Raises ValueError for a codec whose frames FFmpeg does not know to cut."""
        assert isinstance(stream, AudioStream)
        # The stream's own context may be decoding in another thread.
        self._parser = av.CodecContext.create(stream.codec_context.name, "r")
        self._parser.parse(None)
        self._stream = stream
        self._base = exact(stream.time_base or 1)
        # What a packet says is of the first frame that begins in it: (its place, seconds).
        self._said: deque[tuple[int, Fraction]] = deque()
        self._read = self._place = 0  # bytes: what came, and where the next frame begins
        self._due: Fraction | None = None  # when that is heard, seconds

    def of(self, packet: Packet[Any]) -> Iterator[Packet[Any]]:
        if packet.pts is not None:
            self._said.append((self._read, packet.pts * self._base))
        self._read += packet.size
        for frame in self._parser.parse(bytes(packet)):
            yield from self._timed(frame)

    def last(self) -> Iterator[Packet[Any]]:
        for frame in self._parser.parse(None):
            yield from self._timed(frame)

    def _timed(self, frame: Packet[Any]) -> list[Packet[Any]]:
        context = self._stream.codec_context
        samples = frame.duration or context.frame_size
        length = Fraction(samples, context.sample_rate) if context.sample_rate else Fraction(0)
        while self._said:
            place, said = self._said[0]
            # After damage there are bytes of no frame, and the time tells.
            if place > self._place and (self._due is None or self._due < said - length / 2):
                break
            self._said.popleft()
            self._due, self._place = said, max(self._place, place)
        self._place += frame.size
        if self._due is None:
            return []
        frame.time_base, frame.stream = self._base, self._stream
        frame.pts = frame.dts = round(self._due / self._base)
        frame.duration = round(length / self._base)
        frame.is_keyframe = True
        self._due += length
        return [frame]
