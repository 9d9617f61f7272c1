# SPDX-License-Identifier: LGPL-2.1-or-later
"""The pictures of a pair as they arrive: each stream decoded by a thread of its own into a
short queue, and what the plan of the tag says of their times."""

from __future__ import annotations

import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterable

from .errors import InputError
from .pair import Decoded, Item, Lost, Pair
from .plan import Role


class Arrivals:
    """Both streams of a pair, one picture at a time, at the times that a session gets.

    Lost stands for what the plan has within the span of the streams and none of them gives.
    One that is let go without being closed leaves no threads.
    """

    def __init__(self, pair: Pair) -> None:
        self._times = pair.plan.times(pair.time_base) if pair.plan is not None else None
        self._where = pair.plan.where if pair.plan is not None else ""
        self._strengths = pair.strengths
        self._feeds = {
            role: _Feed(role, items, pair.queued) for role, items in pair.streams.items()
        }
        if self._times is not None:
            for role in Role:
                if role not in pair.streams:  # a plain stream has no LR
                    self._times.end(role)
        self._waiting: dict[Role, deque[Decoded]] = {role: deque() for role in Role}
        self._heads: dict[Role, tuple[Item, float] | None] = {}
        # The threads hold their feeds and nothing of this object.
        self._end = weakref.finalize(self, _stop, tuple(self._feeds.values()), pair.interrupt)
        for feed in self._feeds.values():
            feed.start()

    @property
    def damaged(self) -> dict[Role, int]:
        """Packets that did not decode, so far."""
        return {role: feed.damaged for role, feed in self._feeds.items()}

    @property
    def notices(self) -> list[str]:
        """What the times show that the plan does not tell; complete at the end."""
        return self._times.notices if self._times is not None else []

    @property
    def report(self) -> dict[str, int]:
        """Of _tds.Times, so far; empty without a plan."""
        return self._times.report() if self._times is not None else {}

    def peek(self, role: Role) -> Item | None:
        """The next picture of a stream, or None at its end; the same until it is taken."""
        if role not in self._heads:
            self._heads[role] = self._next(role)
        head = self._heads[role]
        return head[0] if head is not None else None

    def strength(self, role: Role) -> float:
        """What the tag tells of the picture that peek gives; -1: nothing."""
        head = self._heads.get(role)
        return head[1] if head is not None else -1.0

    def take(self, role: Role) -> None:
        """The picture that peek gave is done with."""
        del self._heads[role]

    def _next(self, role: Role) -> tuple[Item, float] | None:
        if self._times is None:
            item = self._feeds[role].take()
            if item is None:
                return None
            time = item.pts
            return item, self._strengths.get(time, -1.0) if time is not None else -1.0
        while True:
            event = self._event(role)
            if event is None:
                return None
            if event:
                lost, pts, _, strength = event
                if lost:
                    return Lost(pts), strength
                picture = self._waiting[role].popleft()
                picture.pts = pts
                return picture, strength
            for wanted in self._times.wants(role):
                self._push(Role(wanted))

    def _event(self, role: Role) -> tuple[()] | tuple[bool, int, int, float] | None:
        assert self._times is not None
        try:
            return self._times.next(role)
        except ValueError as e:
            raise InputError(f"{self._where}: {e}") from e

    def _push(self, role: Role) -> None:
        assert self._times is not None
        item = self._feeds[role].take()
        if item is None:
            self._times.end(role)
            return
        assert not isinstance(item, Lost) and item.pts is not None
        self._times.push(role, item.pts)
        self._waiting[role].append(item)

    def close(self) -> None:
        """Ends the threads that read, and with them their files. Again is allowed."""
        self._end()
        for feed in self._feeds.values():
            feed.join()


def _stop(feeds: Collection[_Feed], interrupt: Callable[[], None] | None) -> None:
    for feed in feeds:
        feed.stop()
    if interrupt is not None:
        interrupt()


class _Feed:
    """Runs an iterator of pictures in a thread, a few pictures ahead."""

    def __init__(self, role: Role, items: Iterable[Item], queued: int) -> None:
        self._items = items
        self._queue: queue.Queue[Item | BaseException | None] = queue.Queue(queued)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"decode {role.value}", daemon=True)

    @property
    def damaged(self) -> int:
        return int(getattr(self._items, "damaged", 0))

    def start(self) -> None:
        self._thread.start()

    def _put(self, item: Item | BaseException | None) -> None:
        while not self._stopping.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def _run(self) -> None:
        try:
            for item in self._items:
                self._put(item)
                if self._stopping.is_set():
                    return
            self._put(None)
        except BaseException as e:
            self._put(e)
        finally:
            close = getattr(self._items, "close", None)
            if close is not None:  # a generator holds a file, or another feed waits for its end
                close()

    def take(self) -> Item | None:
        """The next picture; None at the end, once."""
        item = self._queue.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def stop(self) -> None:
        """Lets the thread end soon; waits for nothing, so that any thread may call it."""
        self._stopping.set()

    def join(self) -> None:
        self._thread.join(10)
