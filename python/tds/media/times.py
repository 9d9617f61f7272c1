# SPDX-License-Identifier: LGPL-2.1-or-later
"""When the packets and pictures of a source are shown: one rule for all its streams.

What joined recordings, cut files and old containers say of their times is not always
usable as it is. All that is done about it is done here: SourceClock moves the packets of
picture, sound and text together, so that they stay as far apart as the file has them, and
PictureTimes gives each decoded picture a time of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Generic, Protocol, TypeVar

from av.container import InputContainer
from av.format import Flags
from av.packet import Packet
from av.stream import Stream

from .opening import has_flag, packets_of

Frame = TypeVar("Frame")

# As the ffmpeg program has them (ts_discontinuity in fftools/ffmpeg_demux.c), in seconds.
BACK = Fraction(1, 10)
AHEAD = Fraction(10)
# So far from where a stream should go on, what was true before the latest leap is tried again.
FAR = Fraction(1, 2)

# Pictures that a time may be ahead of where it is due before it is looked at twice.
FAR_AHEAD = 8

# Packets read ahead to see how many pictures come before the first that has a time.
LOOK_AHEAD = 1000


class Ratio(Protocol):
    """What PyAV has times' units and rates in, by its version another class."""

    @property
    def numerator(self) -> int: ...
    @property
    def denominator(self) -> int: ...


def exact(value: Ratio) -> Fraction:
    """PyAV's ratio, or a whole number, as a fraction."""
    return Fraction(value.numerator, value.denominator)


class SourceClock:
    """Moves the times of a source's packets, which are given to it in the order of the file.

    Where the times of a stream go back, as in recordings that were joined, all streams go on
    from there; in formats whose clock may be set anew at any time (transport streams) also
    where they leap by 10 s or more ahead of all streams. A lone packet whose time is wrong moves
    only itself. The same packets give the same times: sound that is read from the file once
    more, by a clock of ``again``, is moved as the pictures were.

    shift: seconds added to all times.
    """

    def __init__(self, may_leap: bool, shift: Fraction = Fraction(0)) -> None:
        self._may_leap = may_leap
        self.shift = shift
        self._offset = self._other = Fraction(0)
        self._last: dict[int, Fraction] = {}  # each stream's latest decoding time, moved
        self._due: dict[int, Fraction] = {}  # where it ends, and so where the next one belongs
        self._due_before: dict[int, Fraction] = {}  # likewise, but for a packet far ahead of it
        self.joints = 0
        """Places where the streams were moved."""

    @classmethod
    def of(cls, container: InputContainer) -> SourceClock:
        return cls(has_flag(container, Flags.ts_discont))

    def again(self, shift: Fraction = Fraction(0)) -> SourceClock:
        """A clock for a second reading of the same file."""
        return SourceClock(self._may_leap, shift)

    def move(self, packet: Packet[Any]) -> None:
        """Corrects ``pts`` and ``dts`` of the file's next packet, of whatever stream; ``opaque``
        then has the ticks that were added, where that is not 0."""
        base = packet.time_base
        if packet.dts is not None and packet.stream.type in ("audio", "video"):
            self._follow(packet.stream.index, packet.dts * base, (packet.duration or 0) * base)
        ticks = round((self._offset + self.shift) / base) if base else 0
        if packet.dts is not None:
            packet.dts += ticks
        if packet.pts is not None:
            packet.pts += ticks
        if ticks:
            packet.opaque = ticks

    def _follow(self, stream: int, dts: Fraction, duration: Fraction) -> None:
        due = self._due.get(stream, dts + self._offset)
        leaps = self._leaps(stream, dts + self._offset)
        far = leaps or abs(dts + self._offset - due) > FAR
        if far and abs(dts + self._other - due) <= BACK:
            # From the other side of a joint, or after a lone packet whose time was wrong.
            self._offset, self._other = self._other, self._offset
        elif leaps and not self._follows_a_lone_one(stream, dts + self._offset):
            self._offset, self._other = due - dts, self._offset
            self.joints += 1
        if dts + self._offset > due + FAR:
            self._due_before[stream] = due
        else:
            self._due_before.pop(stream, None)
        self._last[stream] = dts + self._offset
        self._due[stream] = dts + self._offset + duration

    def _follows_a_lone_one(self, stream: int, dts: Fraction) -> bool:
        """Whether it goes on where the packet before it, which was far ahead, did not."""
        return stream in self._due_before and abs(dts - self._due_before[stream]) <= FAR

    def _leaps(self, stream: int, dts: Fraction) -> bool:
        if stream in self._last and dts < self._last[stream] - BACK:
            return True
        return self._may_leap and stream in self._due and dts > max(self._due.values()) + AHEAD


class TimedPackets:
    """All packets of a source in the order of the file, moved by a clock.

    Pictures before the first one with a time, which cut Matroska files have, are counted
    ahead: untimed says how many packets of ``video`` they are, and first the time, in
    its ticks, of the picture after them (None: no picture near the beginning has any).
    """

    def __init__(self, container: InputContainer, video: Stream, clock: SourceClock) -> None:
        self._packets = packets_of(container)
        self._video, self._clock = video, clock
        self._ahead: deque[Packet[Any]] = deque()
        self.untimed = 0
        self.first: int | None = None
        if not has_flag(container, Flags.no_timestamps):
            self._look_ahead()

    def _look_ahead(self) -> None:
        timed = 0
        # After the first that has one, those of the same group that are shown before it.
        while timed < 16 and len(self._ahead) < LOOK_AHEAD:
            packet = next(self._packets, None)
            if packet is None:
                return
            self._clock.move(packet)
            self._ahead.append(packet)
            if packet.stream.index != self._video.index or not packet.size:
                continue
            if packet.pts is not None or packet.dts is not None:
                if not self.untimed:
                    return
                timed += 1
                time = packet.dts if packet.pts is None else packet.pts
                assert time is not None
                self.first = time if self.first is None else min(self.first, time)
            else:
                self.untimed += 1

    def __iter__(self) -> Iterator[Packet[Any]]:
        return self

    def __next__(self) -> Packet[Any]:
        if self._ahead:
            return self._ahead.popleft()
        packet = next(self._packets)
        self._clock.move(packet)
        return packet


class BestEffort:
    """FFmpeg's own guess at a picture's time (libavcodec's best_effort_timestamp): the
    presentation time, or the decoding time where that one is faulty less often."""

    def __init__(self, only_dts: bool) -> None:
        """only_dts: of AVI, which knows of no other, as the ffmpeg program has it."""
        self._only_dts = only_dts
        self._last_pts: int | None = None
        self._last_dts: int | None = None
        self._faulty_pts = self._faulty_dts = 0

    def __call__(self, pts: int | None, dts: int | None) -> int | None:
        if self._only_dts:
            return dts
        if dts is not None:
            self._faulty_dts += self._last_dts is not None and dts <= self._last_dts
            self._last_dts = dts
        elif pts is not None:
            self._last_dts = pts
        if pts is not None:
            self._faulty_pts += self._last_pts is not None and pts <= self._last_pts
            self._last_pts = pts
        elif dts is not None:
            self._last_pts = dts
        if pts is not None and (self._faulty_pts <= self._faulty_dts or dts is None):
            return pts
        return dts


class PictureTimes(Generic[Frame]):
    """Times that increase, one a picture, and never push the good ones that follow.

    A time far ahead of the one before it counts once the next one is behind it: else it is
    a lone one that is wrong. step: ticks from one picture to the next, nominally.
    """

    def __init__(self, step: int) -> None:
        self._step = max(1, step)
        self._held: tuple[Frame, int | None] | None = None
        self._raw: int | None = None  # the latest time as the file has it
        self._last: int | None = None

    def push(self, frame: Frame, time: int | None) -> list[tuple[Frame, int]]:
        """The pictures whose times are decided: all but at most this one."""
        out = []
        if self._held is not None:
            out.append(self._decide(time))
        if (
            time is not None
            and (self._last is None or time > self._last)
            and not self._far_ahead(time)
        ):
            out.append((frame, self._set(time)))
        else:
            self._held = (frame, time)
        return out

    def finish(self) -> list[tuple[Frame, int]]:
        return [] if self._held is None else [self._decide(None)]

    def _decide(self, after: int | None) -> tuple[Frame, int]:
        """The picture that waits; after: the next one's time."""
        assert self._held is not None
        (held, own), self._held = self._held, None
        if own is not None and self._far_ahead(own) and (after is None or after > own):
            return held, self._set(own)
        return held, self._repaired(own, after)

    def _far_ahead(self, time: int) -> bool:
        return self._last is not None and time > self._last + FAR_AHEAD * self._step

    def _set(self, time: int) -> int:
        self._raw = self._last = time
        return time

    def _repaired(self, own: int | None, after: int | None) -> int:
        """For a picture without a usable time; after: the next one's."""
        if self._last is None:
            time = 0 if after is None else after - self._step
        elif after is not None and after > self._last + 1:
            time = self._last + max(1, min(self._step, (after - self._last) // 2))
        elif own is not None and self._raw is not None and own > self._raw:
            time = self._last + max(1, self._step // 4)  # repairs ran ahead: let it catch up
        else:
            time = self._last + self._step
        if own is not None:
            self._raw = own
        self._last = time
        return time
