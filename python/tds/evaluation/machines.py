# SPDX-License-Identifier: LGPL-2.1-or-later
"""Task metrics: what a machine that looks at the result still finds of what it finds in the source.

A task is made anew for each sequence and called once a frame, in display order, with the luma of
the source and of what is shown, 8 bit each. It gives that frame's figure (more is better), or None
where there is nothing to say of it, as in a frame without anything to find. So it may look back.
``TASKS`` has those that come along; ``module:name`` in a configuration names anybody else's.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import InputError, MissingError
from ..files import sha256_of
from ..media.planar import Plane

MOST = 400  # corners of a frame
QUALITY = 0.01  # of a corner, of the best one's
APART = 7  # samples between corners
NEAR = 1.5  # samples within which a corner is the same, and a point is still followed
STRETCH = 16  # frames after which points are chosen anew
WINDOW = 15  # samples a side, of the tracker
OVERLAP = 0.5  # of two boxes, intersection over union, from which they show the same


class Task(Protocol):
    """See the module."""

    def __call__(self, source: Plane, shown: Plane) -> float | None: ...


@dataclass(frozen=True)
class TaskKind:
    """title: in reports. make: a task for one sequence. version: changes with what it gives."""

    title: str
    make: Callable[[], Task]
    version: str


@functools.cache
def _opencv() -> Any:
    try:
        import cv2
    except ImportError:
        raise MissingError(
            "the task metrics need OpenCV: pip install 'tds-codec[machines]'"
        ) from None
    cv2.setNumThreads(1)  # jobs run side by side
    return cv2


def _corners(luma: Plane) -> np.ndarray:
    """``[n, 2]``, x and y in samples."""
    found = _opencv().goodFeaturesToTrack(luma, MOST, QUALITY, APART)
    return np.zeros((0, 2), np.float32) if found is None else np.asarray(found[:, 0])


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.norm(a[:, None].astype(float) - b[None], axis=2))


class Corners:
    """Corner repeatability: percent of corners that source and picture share, of those that either
    has (the harmonic mean of both parts), within NEAR samples."""

    def __call__(self, source: Plane, shown: Plane) -> float | None:
        a, b = _corners(source), _corners(shown)
        if not len(a):
            return None
        if not len(b):
            return 0.0
        near = _distances(a, b) <= NEAR
        return 200.0 * float(_matched(near)) / (len(a) + len(b))


def _matched(near: np.ndarray) -> int:
    """How many pairs can be made at most, none of them in two."""
    from scipy.optimize import linear_sum_assignment

    return int(near[linear_sum_assignment(near, maximize=True)].sum())


class Tracks:
    """Track length: points are chosen in the source every STRETCH frames and followed by KLT, in
    the source and in what is shown. Percent of the source's tracks that are still followed, within
    NEAR samples and without a gap, a frame; so its mean is the mean length, of the source's."""

    def __init__(self) -> None:
        self.frame = 0
        self.before: tuple[Plane, Plane] | None = None
        self.points = np.zeros((0, 2), np.float32)  # of the source
        self.seen = np.zeros((0, 2), np.float32)  # of what is shown
        self.followed = np.zeros(0, bool)

    def __call__(self, source: Plane, shown: Plane) -> float | None:
        before, self.before = self.before, (source.copy(), shown.copy())
        first = self.frame % STRETCH == 0
        self.frame += 1
        if before is None:
            self._choose(source)
            return None
        self._follow(before, (source, shown))
        share = 100.0 * float(self.followed.mean()) if len(self.points) else None
        if first:
            self._choose(source)
        return share

    def _choose(self, source: Plane) -> None:
        self.points = _corners(source)
        self.seen = self.points.copy()
        self.followed = np.ones(len(self.points), bool)

    def _follow(self, before: tuple[Plane, Plane], now: tuple[Plane, Plane]) -> None:
        points, alive = _moved(before[0], now[0], self.points)
        back, returned = _moved(now[0], before[0], points)
        # Tracks of the source that do not lead back are none.
        alive &= returned & (np.abs(back - self.points).max(1, initial=0.0) <= 0.5)
        seen, found = _moved(before[1], now[1], self.seen)
        off = np.sqrt(((seen.astype(float) - points) ** 2).sum(1))
        self.followed = (self.followed & found & (off <= NEAR))[alive]
        self.points, self.seen = points[alive], seen[alive]


def _moved(a: Plane, b: Plane, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where points of one picture are in another, and whether they were found."""
    if not len(points):
        return points, np.zeros(0, bool)
    found, status, _ = _opencv().calcOpticalFlowPyrLK(
        a, b, points[:, None], None, winSize=(WINDOW, WINDOW), maxLevel=3
    )
    return found[:, 0], status[:, 0].astype(bool)


class People:
    """Detection: people whom OpenCV's HOG detector (Dalal and Triggs 2005, the weights that it
    comes with) finds, percent of those in source and picture that both have (the harmonic mean of
    both parts). None where the source has none."""

    def __init__(self) -> None:
        cv2 = _opencv()
        if not hasattr(cv2, "HOGDescriptor"):
            raise MissingError(
                f"OpenCV {cv2.__version__} has no HOG detector, which the task people needs: "
                "pip install 'opencv-python-headless<5'"
            )
        self.detector = cv2.HOGDescriptor()
        self.detector.setSVMDetector(cv2.HOGDescriptor_getDefaultPeopleDetector())

    def __call__(self, source: Plane, shown: Plane) -> float | None:
        a = self._find(source)
        if not len(a):
            return None
        b = self._find(shown)
        return 200.0 * _matched(_overlaps(a, b) >= OVERLAP) / (len(a) + len(b))

    def _find(self, luma: Plane) -> np.ndarray:
        """Boxes ``[n, 4]``: x, y, width, height."""
        boxes, _ = self.detector.detectMultiScale(luma, winStride=(8, 8), scale=1.05)
        return np.asarray(boxes, float).reshape(-1, 4)


def _overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes, ``[len(a), len(b)]``."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum((a[:, :2] + a[:, 2:])[:, None], (b[:, :2] + b[:, 2:])[None])
    both = np.clip(high - low, 0, None).prod(2)
    areas = (a[:, 2] * a[:, 3])[:, None] + (b[:, 2] * b[:, 3])[None]
    return np.asarray(both / (areas - both))


TASKS = {
    "corners": TaskKind("corners kept (%)", Corners, "1"),
    "tracks": TaskKind("tracks kept (%)", Tracks, "1"),
    "people": TaskKind("people found (%)", People, "1"),
}


def task(name: str) -> TaskKind:
    """By its name in TASKS, or as ``module:name``: a callable without arguments that makes a task.

    Raises InputError or MissingError."""
    if known := TASKS.get(name):
        return known
    module, _, attribute = name.partition(":")
    if not (module and attribute):
        raise InputError(
            f"there is no task metric {name!r}; there are {', '.join(TASKS)}, and module:name for "
            "one of your own"
        )
    try:
        make = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(f"the task metric {name} cannot be had: {error}") from None
    if not callable(make):
        raise InputError(f"the task metric {name} is not callable, and has to make a task")
    source = inspect.getsourcefile(sys.modules[module])
    version = sha256_of(Path(source))[:12] if source else ""
    return TaskKind(name.partition(":")[2], make, version)


def versions(names: Sequence[str]) -> dict[str, str]:
    """What each of the tasks is here, for the keys of jobs. Raises InputError or MissingError."""
    out = {}
    for name in names:
        kind = task(name)
        by = f", OpenCV {_opencv().__version__}" if name in TASKS else ""
        if name == "people":
            kind.make()  # whether it is there at all
        out[name] = kind.version + by
    return out


class Tasks:
    """All of an evaluation's tasks, over one sequence."""

    def __init__(self, names: Sequence[str], bit_depth: int) -> None:
        self.shift = bit_depth - 8
        self.made = {name: task(name).make() for name in names}
        self.values: dict[str, list[float | None]] = {name: [] for name in names}

    def add(self, source: Plane, shown: Plane) -> None:
        """The next frame's luma, at the sequence's bit depth."""
        if not self.made:
            return
        a, b = (np.ascontiguousarray(x >> self.shift).astype(np.uint8) for x in (source, shown))
        for name, one in self.made.items():
            value = one(a, b)
            self.values[name].append(None if value is None else round(float(value), 4))
