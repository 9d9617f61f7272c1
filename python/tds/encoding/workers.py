# SPDX-License-Identifier: LGPL-2.1-or-later
"""Segments measured side by side: on the cores of this machine, or on a Ray cluster."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from ..closing import Closing
from ..errors import ExternalError
from ..evaluation.cache import Cache, Job, write_record
from ..evaluation.execution import RayExecutor, pack, unpack
from .measured import Measuring
from .rebuilding import Enhancers, Rebuilder
from .segments import Segment

_log = logging.getLogger("tds.encoding")


class Workers(Closing, ABC):
    """Measure segments into a cache. A context manager, at whose end work that is under way is
    given up."""

    slots: int
    """Segments at once."""

    @abstractmethod
    def submit(self, job: Job[Any], segment: Segment) -> Callable[[], None]:
        """What is returned waits for the end of the work, and raises what went wrong."""

    @abstractmethod
    def close(self) -> None: ...


def _measure(measuring: Measuring, segment: Segment, rebuilder: Rebuilder, out: Path) -> None:
    record = measuring.measure(segment, rebuilder, out)
    write_record(out, cast(dict[str, Any], record))


class LocalWorkers(Workers):
    """Threads of this process: encoders are processes, and models leave Python's lock."""

    def __init__(self, measuring: Measuring, cache: Cache, slots: int) -> None:
        self.slots = slots
        self._measuring, self._cache = measuring, cache
        self._threads = max(1, (os.cpu_count() or 1) // slots)
        self._stop = threading.Event()
        self._own = threading.local()
        self._opened: list[Rebuilder] = []
        self._pool = ThreadPoolExecutor(slots, thread_name_prefix="measure")

    def submit(self, job: Job[Any], segment: Segment) -> Callable[[], None]:
        return self._pool.submit(self._run, job, segment).result

    def _run(self, job: Job[Any], segment: Segment) -> None:
        _log.debug("%s: begins", job.label)
        if not hasattr(self._own, "rebuilder"):
            self._own.rebuilder = self._measuring.rebuilder(self._threads, self._stop)
            self._opened.append(self._own.rebuilder)
        with self._cache.making(job) as out:
            _measure(self._measuring, segment, self._own.rebuilder, out)
        _log.info("%s: measured", job.label)

    def close(self) -> None:
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for rebuilder in self._opened:
            rebuilder.close()


class RayWorkers(Workers):
    """Tasks of one processor each. Pictures, models and what was coded travel through Ray's object
    store, so the nodes need this package and the same encoder, and no common folder."""

    def __init__(self, measuring: Measuring, cache: Cache, cluster: RayExecutor) -> None:
        self.slots = cluster.slots
        self._cluster, self._cache = cluster, cache
        self._task = cluster.task(_measure_there)
        paths = measuring.enhancers.paths
        self._same = (
            cluster.put(measuring),
            cluster.put({path: Path(path).read_bytes() for path in paths}),
        )

    def submit(self, job: Job[Any], segment: Segment) -> Callable[[], None]:
        _log.debug("%s: is sent", job.label)
        handle = self._task.remote(*self._same, segment)

        def finish() -> None:
            made = self._cluster.result(handle)
            with self._cache.making(job) as out:
                unpack(made, out)
            _log.info("%s: measured", job.label)

        return finish

    def close(self) -> None:
        self._cluster.stop(at_once=True)


def _measure_there(
    measuring: Measuring, archives: Mapping[str, bytes], segment: Segment
) -> dict[str, bytes]:
    """On a node."""
    here = measuring.settings.adapter().fingerprint()
    if here != measuring.encoder:
        raise ExternalError(
            f"a node has {here} and the video is coded by {measuring.encoder}: parts of different "
            "encoders are no one stream; install the same everywhere"
        )
    with tempfile.TemporaryDirectory(prefix="tds-encode-") as temporary:
        top = Path(temporary)
        (top / "out").mkdir()
        moved = {}
        for i, (path, data) in enumerate(archives.items()):
            moved[path] = str(top / f"{i}{Path(path).suffix}")
            Path(moved[path]).write_bytes(data)
        measuring = replace(measuring, enhancers=_moved(measuring.enhancers, moved))
        with measuring.rebuilder(1, threading.Event()) as rebuilder:
            _measure(measuring, segment, rebuilder, top / "out")
        return pack(top / "out")


def _moved(enhancers: Enhancers, to: Mapping[str, str]) -> Enhancers:
    return replace(
        enhancers,
        plain=to[enhancers.plain],
        pairs={k: to[path] for k, path in enhancers.pairs.items()},
        hr=None if enhancers.hr is None else to[enhancers.hr],
    )
