# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is read once, as it comes: a pair from standard input, a FIFO, an address at which it is
being sent, a playlist that is still written. One thread reads both tracks; each is decoded by
itself.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import av
from av.packet import Packet
from av.stream import Discard
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ._tds import RATE_PICTURES, frame_rate
from .closing import Closing
from .container.metadata import Hints, Metadata, container_tag, is_plain, read_tag
from .container.paired import Track, scale_between, track_of, two_videos
from .container.times import common_unit, ratio, rescale
from .errors import ExternalError, InputError
from .media.along import Along
from .media.decoding import bit_depth, in_process
from .media.opening import (
    is_live_playlist,
    is_read_once,
    open_container,
    packets_of,
    video_streams,
)
from .media.pipes import PipeReader, is_pipe
from .media.sources import color_tags
from .media.times import AHEAD, BACK, exact
from .pair import Pair, Planned
from .plain import PlainStream
from .plan import Role
from .sinks import Origin
from .tracks import check_shape, shape

_MOST_WAITING = 4096  # packets of one track while the other has none
_KNOWN = 256  # packets of a track whose times are kept, from the first
_LOOK = 0.1  # seconds after which a thread that waits looks whether it is to end


# Packets are whole pictures as they come: FFmpeg's parsers would hold each back until the next of
# its track.
_OPTIONS = {"fflags": "noparse+nofillin"}
# Seconds that FFmpeg looks at before anything is shown: a few pictures of each track tell all that
# is asked. Sound may begin later, and a file has to know when it begins of all that it will hold;
# who looks at a pipe does not wait for that.
AT_ONCE, FOR_A_FILE = 1, 5


def is_streamed(path: str) -> bool:
    """Whether a file is to be read from one end to the other, once."""
    return is_read_once(path) or is_live_playlist(path)


def open_streamed(
    path: str, sound: bool = False, looked_at: int = AT_ONCE
) -> LivePair | PlainStream:
    """What ``tds encode`` wrote, two streams or one, as it comes. sound: it comes along too;
    looked_at: where it begins within so many seconds. Raises as these two do."""
    pipe = PipeReader(path, keep=True) if is_pipe(path) else None
    try:
        return LivePair(path, sound, pipe, looked_at)
    except OneStream:
        if pipe is not None:
            pipe.again()
        return PlainStream(path, pipe=pipe, sound=sound, sent=True)


class OneStream(InputError):
    """The tag is of one stream, not of a pair."""


class LivePair(Closing):
    """An open pair of which nothing is read twice: ``pair`` for a Decoder, ``origin`` for a sink.

    sound: its sound and text are for that sink, which takes them as they come. looked_at: seconds
    in which it is seen what there is.

    Where its times begin anew, as of a sender that was started again, both tracks go on from where
    they were. Where nothing comes for too long, that is the end, with a notice.

    pipe: reads it, where it is one (None: one is made).

    Raises OneStream, InputError for what is no pair, ExternalError when no HR picture decodes."""

    def __init__(
        self,
        path: str,
        sound: bool = False,
        pipe: PipeReader | None = None,
        looked_at: int = AT_ONCE,
    ) -> None:
        self.path = path
        self._sound, self._looked_at = sound, looked_at
        self._pipe = PipeReader(path) if pipe is None and is_pipe(path) else pipe
        self._ended = threading.Event()
        self._said: list[str] = []
        self.decoding = False  # whether somebody takes the pictures
        # FFmpeg waits where no signal ends it; here the thread that is to have them does not.
        opened: queue.Queue[BaseException | None] = queue.Queue()
        threading.Thread(target=self._open, args=(opened,), name="open", daemon=True).start()
        try:
            fault = opened.get()
        except BaseException:
            self.interrupt()
            raise
        if fault is not None:
            raise fault
        self._thread = threading.Thread(target=self._read, name="read", daemon=True)

    def _open(self, opened: queue.Queue[BaseException | None]) -> None:
        try:
            options = {**_OPTIONS, "analyzeduration": str(self._looked_at * 1_000_000)}
            self._container = open_container(self.path, options=options, pipe=self._pipe)
            try:
                self._begin()
            except BaseException:
                self._container.close()
                raise
        except BaseException as e:
            opened.put(e)
        else:
            opened.put(None)

    def _begin(self) -> None:
        path, container = self.path, self._container
        text = container_tag(container)
        self.tag = read_tag(text, path) if text else None
        if self.tag is not None and is_plain(self.tag.groups) and len(video_streams(container)) < 2:
            raise OneStream(f"{path} is one stream, and no pair; tds enhance reads it")
        if self._pipe is not None:
            self._pipe.forget()
        streams = dict(zip(Role, two_videos(path, container), strict=True))
        self.hr, self.lr = (track_of(role, streams[role], path, container) for role in Role)
        self.metadata = Metadata.of(self.tag) if self.tag else None
        self.scale = scale_between(path, self.hr, self.lr, self.metadata)
        self.time_base = common_unit((self.hr.time_base, self.lr.time_base))
        self._clock = _Clock()
        self._tracks: dict[Role, _Track] = {}
        for track in (self.hr, self.lr):
            stream = streams[track.role]
            if stream.codec_context.name == "vvc" and not in_process(bit_depth(stream)):
                raise InputError(
                    f"{self.path}: this PyAV's FFmpeg decodes {bit_depth(stream)}-bit VVC wrongly, "
                    "and another program would have to read it again; name a file"
                )
            # Threads that take a picture each would keep as many back.
            stream.codec_context.thread_type = "SLICE"
            self._tracks[track.role] = _Track(self, stream, track)
        video = (self.hr.index, self.lr.index)
        self._along = Along(container, video, parsed=False) if self._sound else None
        for other in container.streams:
            if other.index not in (*video, *(self._along.streams if self._along else ())):
                other.discard = Discard.all
        self._by_index = {self.hr.index: Role.HR, self.lr.index: Role.LR}
        self._packets = packets_of(self._container)
        while not self._begun() and self._next():
            pass
        ahead = self._tracks[Role.HR].ahead
        ahead += self._tracks[Role.HR].decoded(wait=False)
        while not ahead and self._next():
            ahead += self._tracks[Role.HR].decoded(wait=False)
        ahead += self._tracks[Role.HR].decoded(wait=False)  # what a decoder gives at the end
        if not ahead:
            raise ExternalError(f"{self.path}: not one HR picture of it decodes")
        self._first = ahead[0]
        times = [t for track in self._tracks.values() for t in track.times]
        self.rate = (
            Fraction(*self.tag.rate)
            if self.tag
            else Fraction(*frame_rate(sorted(times)[: 2 * RATE_PICTURES], ratio(self.time_base)))
        )

    def _begun(self) -> bool:
        """Whether the times that have come tell the rate."""
        times = [track.times for track in self._tracks.values()]
        return min(map(len, times)) >= 2 and sum(map(len, times)) >= 3 * RATE_PICTURES

    def _next(self) -> bool:
        """Reads a packet; False at the end."""
        try:
            packet = next(self._packets, None)
        except InputError as e:
            if self._ended.is_set():
                return self._end()
            self._say(f"{e}; what came before is shown")
            return self._end()
        except av.error.FFmpegError:  # it ends inside a packet
            return self._end()
        if packet is None:
            return self._end()
        role = self._by_index.get(packet.stream.index)
        if role is None:
            self._bring(packet)
        elif packet.size:
            joints = self._clock.joints
            self._clock.move(packet)
            if self._clock.joints > joints:
                self._say(
                    f"{self.path}: its times begin anew on the way, as of a sender that was "
                    "started again; the pictures follow one another"
                )
            self._tracks[role].put(packet)
        return True

    def _bring(self, packet: Packet[Any]) -> None:
        """Has a packet of another stream wait for the sink."""
        along = self._along
        if along is not None and packet.stream.index in along.streams and packet.size:
            self._hold(along, along.parts(packet))

    def _hold(self, along: Along, parts: Iterable[Packet[Any]]) -> None:
        for part in parts:
            if not self._clock.follow(part):
                self._say(f"{self.path}: sound whose times do not go with the pictures is left out")
                continue
            along.put(part)
            while along.full and not self.ending:
                if self.decoding and not any(track.empty for track in self._tracks.values()):
                    time.sleep(_LOOK)  # it is decoding that is slow
                    continue
                self._say(f"{self.path}: {along.lose()}")

    def _say(self, notice: str) -> None:
        if notice not in self._said:
            self._said.append(notice)

    def _end(self) -> bool:
        along = self._along
        try:
            if along is not None and not along.ended:
                self._hold(along, along.last_parts())
        finally:
            if along is not None:
                along.end()
            for track in self._tracks.values():
                track.end(None)
        return False

    def _read(self) -> None:
        try:
            while not self._ended.is_set() and self._next():
                pass
        except BaseException as e:
            for track in self._tracks.values():
                track.end(e)
        finally:
            self._end()

    @property
    def pair(self) -> Pair:
        stream = self._tracks[Role.HR].stream
        aspect, full_range = shape(stream)
        colors = color_tags(stream)
        plan = None
        if self.tag is not None:
            clocks = {Role.HR: self.hr.time_base, Role.LR: self.lr.time_base}
            shown = {
                role: sorted(track.times)[: len(track.times) // 2]
                for role, track in self._tracks.items()
            }
            plan = Planned(self.path, self.tag, clocks, shown)
        pair = Pair(
            self._tracks,
            width=self.hr.width,
            height=self.hr.height,
            bit_depth=self.hr.bit_depth,
            chroma=self.hr.chroma,
            scale=self.scale,
            time_base=self.time_base,
            rate=self.rate,
            sample_aspect_ratio=aspect,
            full_range=full_range,
            plan=plan,
            hints=self.metadata.hints if self.metadata else Hints(),
            interrupt=self.interrupt,
            notices=lambda: self._said,
            matrix=colors.matrix,
            transfer=colors.transfer,
        )
        self.decoding = True
        self._thread.start()
        return pair

    @property
    def origin(self) -> Origin:
        indices = (self.hr.index, self.lr.index)
        return Origin(self.path, indices, None, self._container, self._first, self._along)

    @property
    def ending(self) -> bool:
        return self._ended.is_set()

    def lacks_other(self, track: _Track) -> bool:
        """Whether nothing waits of the track that is not this one."""
        return all(t.empty for t in self._tracks.values() if t is not track)

    def interrupt(self) -> None:
        """Ends reading; from any thread, and again."""
        self._ended.set()
        if self._pipe is not None:
            self._pipe.interrupt()

    def close(self) -> None:
        """Ends reading. What waits for a server inside FFmpeg is left to end by itself."""
        self.interrupt()
        if self._thread.ident is not None:
            self._thread.join(2 * _LOOK)
        if not self._thread.is_alive():
            self._container.close()


class _Clock:
    """Moves both tracks together: where one of them goes back, or leaps far ahead of all that is
    read, what follows begins where the later of them ended."""

    def __init__(self) -> None:
        self._offset = Fraction(0)
        self._last: dict[int, Fraction] = {}  # decoding time of each stream's latest, moved
        self._end: Fraction | None = None  # of what was shown
        self._followed: dict[int, Fraction] = {}  # of the streams beside
        self._step = Fraction(1, 25)  # the least from one picture to the next
        self.joints = 0

    def follow(self, packet: Packet[Any]) -> bool:
        """Moves a packet of another stream likewise; False for one whose time does not go on, which
        is from the other side of a joint."""
        base = exact(packet.time_base)
        time = packet.dts if packet.dts is not None else packet.pts
        if time is None or not base:
            return False
        index, moved = packet.stream.index, time * base + self._offset
        back = moved < self._last.get(index, moved) - BACK
        if back or moved > max(self._last.values(), default=moved) + AHEAD:
            return False
        self._last[index] = self._followed[index] = moved
        ticks = round(self._offset / base)
        if packet.dts is not None:
            packet.dts += ticks
        if packet.pts is not None:
            packet.pts += ticks
        return True

    def move(self, packet: Packet[Any]) -> None:
        base = exact(packet.time_base)
        dts = packet.dts if packet.dts is not None else packet.pts
        if dts is None or not base:
            return
        index, time = packet.stream.index, dts * base
        last = self._last.get(index)
        if last is not None and self._end is not None:
            # Without decoding times, pictures of one group may be out of order.
            back = time + self._offset < last - (BACK if packet.dts is not None else 1)
            ahead = time + self._offset > max(self._last.values()) + AHEAD
            if back or ahead:
                self._offset = max([self._end, *self._followed.values()]) + self._step - time
                self.joints += 1
        self._last[index] = time + self._offset
        ticks = round(self._offset / base)
        if packet.dts is not None:
            packet.dts += ticks
        if packet.pts is not None:
            packet.pts += ticks
            shown = packet.pts * base
            if self._end is not None and shown > self._end:
                self._step = min(self._step, shown - self._end)
            self._end = shown if self._end is None else max(self._end, shown)


class _Track:
    """The pictures of one track, in the pair's ``time_base``: an iterator for a Decoder.

    times: of the packets that came before the pair was known. ``damaged`` counts packets that did
    not decode."""

    def __init__(self, live: LivePair, stream: VideoStream, track: Track) -> None:
        self._live, self.stream, self._track = live, stream, track
        self._queue: queue.Queue[Packet[Any] | BaseException | None] = queue.Queue()
        self._over = False
        self.times: list[int] = []
        self.ahead: list[VideoFrame] = []
        self.damaged = 0

    def put(self, item: Packet[Any]) -> None:
        if item.pts is not None and len(self.times) < _KNOWN:
            self.times.append(rescale(item.pts, exact(item.time_base), self._live.time_base))
        while self._queue.qsize() > _MOST_WAITING and not self._live.ending:
            if not self._live.decoding or self._live.lacks_other(self):
                name = self._track.role.name
                raise InputError(
                    f"{self._live.path}: {_MOST_WAITING} pictures of its {name} track wait for the "
                    "other one, of which nothing comes; see that both are sent"
                )
            time.sleep(_LOOK)  # it is decoding that is slow
        self._queue.put(item)

    @property
    def empty(self) -> bool:
        return self._queue.empty()

    def end(self, why: BaseException | None) -> None:
        self._queue.put(why)

    def decoded(self, wait: bool = True) -> Iterator[VideoFrame]:
        """Of the packets that are there, or of all that come."""
        while not self._over:
            try:
                item = self._queue.get(timeout=_LOOK) if wait else self._queue.get_nowait()
            except queue.Empty:
                if not wait or self._live.ending:
                    return
                continue
            if isinstance(item, BaseException):
                raise item
            self._over = item is None
            try:
                yield from self.stream.decode(item)
            except av.error.EOFError:
                return
            except av.error.FFmpegError:
                self.damaged += 1

    def __iter__(self) -> Iterator[VideoFrame]:
        clock, base = self._track.time_base, self._live.time_base
        last: int | None = None
        ahead, self.ahead = self.ahead, []
        for frames in (iter(ahead), self.decoded()):
            for frame in frames:
                if frame.pts is None:
                    self.damaged += 1
                    continue
                frame.pts = rescale(frame.pts, clock, base)
                check_shape(self._live.path, self._track, frame)
                if last is not None and frame.pts <= last:
                    self.damaged += 1
                    continue
                last = frame.pts
                yield frame
