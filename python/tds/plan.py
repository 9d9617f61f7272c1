# SPDX-License-Identifier: LGPL-2.1-or-later
"""The plan: which source frames are HR, which are LR, and where streams restart.

A *group* is a run of source frames whose first and last are HR and whose
others are LR (paper, section 3.2). Groups have N frames (odd); a scene cut or
the end of the video ends one early. With ``independent`` boundaries, the
paper's, every group has both ends to itself (0..N-1, N..2N-1, ...); with
``shared`` boundaries the last frame of a group is the first of the next
(0..N-1, N-1..2N-2, ...).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from typing import Generic, TypeVar

from .errors import InputError

T = TypeVar("T")


class Role(Enum):
    """Which of the two streams a source frame goes to."""

    HR = "hr"
    LR = "lr"


class Boundaries(Enum):
    INDEPENDENT = "independent"
    SHARED = "shared"


class Plan(Enum):
    """What a video is coded as.

    AUTO: what measures best. TDS: HR and LR throughout, in groups of one size. PLAIN: one stream
    of full-size pictures. PLAIN_ENHANCED: the same, its pictures to be made better by a model.
    """

    AUTO = "auto"
    TDS = "tds"
    PLAIN = "plain"
    PLAIN_ENHANCED = "plain-enhanced"


@dataclass(frozen=True)
class PlanSettings:
    """How source frames are divided.

    group: N, frames from one boundary to the other, both counted; odd, 3 to 65.
    boundaries: see the module's text.
    restart: source frames after which both streams restart at the next group
        (aligned random-access points); 0: never.
    """

    group: int = 5
    boundaries: Boundaries = Boundaries.INDEPENDENT
    restart: int = 0

    def __post_init__(self) -> None:
        if not 3 <= self.group <= 65 or self.group % 2 == 0:
            raise InputError(
                f"a group has an odd number of frames from 3 to 65 (the paper uses 5, 7 and 11), "
                f"not {self.group}"
            )
        if self.restart < 0:
            raise InputError("restart is a number of frames, 0 or more")


@dataclass(frozen=True)
class Planned(Generic[T]):
    """One source frame and what becomes of it.

    starts_group: it is HR and the first frame of a group.
    restarts: both streams restart with this frame (always an HR frame).
    """

    frame: T
    role: Role
    starts_group: bool
    restarts: bool


class Planner(Generic[T]):
    """Divides a stream of frames as they come, looking ahead one group at most.

    ``push`` and ``finish`` return the frames that are decided, in source order:
    every pushed frame comes out exactly once.
    """

    def __init__(self, settings: PlanSettings) -> None:
        self._settings = settings
        self._pending: list[T] = []
        self._carried = False  # the open group's first frame has come out already (shared)
        self._since_restart: int | None = None
        self.groups: list[int] = []
        """Frames of each closed group, for roles_of_groups: both boundaries counted,
        negative when, in shared mode, the first one is not the group before's."""

    def push(self, frame: T, cut: bool = False) -> list[Planned[T]]:
        """The next source frame; ``cut``: a new scene begins with it."""
        out = self._close(last_of_scene=True) if cut else []
        self._pending.append(frame)
        if len(self._pending) + self._carried == self._settings.group:
            out += self._close(last_of_scene=False)
        return out

    def finish(self) -> list[Planned[T]]:
        """The end of the video."""
        return self._close(last_of_scene=True)

    def _close(self, last_of_scene: bool) -> list[Planned[T]]:
        frames, carried = self._pending, self._carried
        shared = self._settings.boundaries is Boundaries.SHARED
        if frames:
            size = len(frames) + carried
            self.groups.append(-size if shared and not carried else size)
        out = []
        last = len(frames) - 1
        for i, frame in enumerate(frames):
            first = i == 0 and not carried
            hr = first or i == last
            # In shared mode the group's last frame starts the next one, unless the scene ends.
            starts = first or (shared and i == last and not last_of_scene)
            out.append(self._planned(frame, hr, starts))
        self._pending = []
        self._carried = shared and not last_of_scene and (bool(frames) or carried)
        return out

    def _planned(self, frame: T, hr: bool, starts: bool) -> Planned[T]:
        restarts = False
        if self._since_restart is None or (
            starts and self._settings.restart and self._since_restart >= self._settings.restart
        ):
            restarts = True
        self._since_restart = 1 if restarts else (self._since_restart or 0) + 1
        return Planned(frame, Role.HR if hr else Role.LR, starts, restarts)


def roles_of_groups(groups: Iterable[tuple[int, int]], boundaries: Boundaries) -> Iterator[Role]:
    """The role of every source frame, from run-length coded group sizes.

    groups: (size, count) pairs, as the container's metadata keeps them. In shared
    mode a negative size says that the group shares no boundary with the one
    before (the first group, and the first of a new scene).
    """
    for size, count in groups:
        for _ in range(count):
            n = abs(size)
            if size < 0 or boundaries is Boundaries.INDEPENDENT:
                yield Role.HR
            if n > 1:
                yield from [Role.LR] * (n - 2)
                yield Role.HR


def run_lengths(values: Iterable[int]) -> list[tuple[int, int]]:
    """(value, count) pairs of equal neighbours."""
    return [(value, sum(1 for _ in run)) for value, run in groupby(values)]
