# SPDX-License-Identifier: LGPL-2.1-or-later
"""Running jobs: on the cores of this machine, or on a Ray cluster.

Both do the same: jobs whose inputs are there are handed out in the order given, results go
into the cache, and the first failure ends the run (what is finished stays in the cache).
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from types import FrameType
from typing import Any

from ..errors import ExternalError, MissingError
from .cache import Cache, Job
from .work import Place, run

Done = Callable[[Job[Any]], None]


def left_to_do(jobs: Iterable[Job[Any]], cache: Cache) -> list[Job[Any]]:
    """Those that the cache has not; each once, inputs before what needs them."""
    out: dict[str, Job[Any]] = {}

    def visit(job: Job[Any]) -> None:
        if job.key in out or cache.has(job):
            return
        for needed in job.inputs.values():
            visit(needed)
        out[job.key] = job

    for job in jobs:
        visit(job)
    return list(out.values())


class Executor(ABC):
    """Hands jobs to workers."""

    def run(self, jobs: list[Job[Any]], cache: Cache, files: dict[str, Path], done: Done) -> None:
        """Runs all ``jobs``; calls ``done`` after each, in this thread.

        Raises what the first job that failed raised, as ExternalError with its label."""
        waiting = {job.key: job for job in jobs}
        running: dict[Any, Job[Any]] = {}
        try:
            self.start(cache, files)
            while waiting or running:
                for job in list(waiting.values()):
                    if len(running) >= self.slots:
                        break
                    if all(cache.has(x) for x in job.inputs.values()):
                        del waiting[job.key]
                        running[self.submit(job)] = job
                if not running:
                    raise ExternalError("jobs are left whose inputs were never made")
                for handle in self.wait(list(running)):
                    job = running.pop(handle)
                    try:
                        self.finish(handle, job)
                    except (OSError, ValueError, RuntimeError, MemoryError) as e:
                        raise ExternalError(f"{job.label}: {e}") from e
                    done(job)
        except BaseException:
            self.stop(at_once=True)
            raise
        self.stop()

    slots: int

    @abstractmethod
    def start(self, cache: Cache, files: dict[str, Path]) -> None: ...

    @abstractmethod
    def submit(self, job: Job[Any]) -> Any: ...

    @abstractmethod
    def wait(self, handles: list[Any]) -> list[Any]: ...

    @abstractmethod
    def finish(self, handle: Any, job: Job[Any]) -> None: ...

    @abstractmethod
    def stop(self, at_once: bool = False) -> None:
        """at_once: work that is under way is given up."""


# ------------------------------------------------------------ this machine --


class LocalExecutor(Executor):
    """``workers`` processes of this machine."""

    def __init__(self, workers: int) -> None:
        self.slots = workers
        self._threads = max(1, (os.cpu_count() or 1) // workers)
        self._pool: ProcessPoolExecutor | None = None

    def start(self, cache: Cache, files: dict[str, Path]) -> None:
        self._cache, self._files = cache, files
        self._pool = ProcessPoolExecutor(
            self.slots, multiprocessing.get_context("spawn"), initializer=_prepare_worker
        )

    def submit(self, job: Job[Any]) -> Future[None]:
        assert self._pool is not None
        files = {sha: self._files[sha] for sha in job.files}
        return self._pool.submit(_run_here, self._cache.folder, job, files, self._threads)

    def wait(self, handles: list[Any]) -> list[Any]:
        return list(wait(handles, return_when=FIRST_COMPLETED).done)

    def finish(self, handle: Future[None], job: Job[Any]) -> None:
        handle.result()

    def stop(self, at_once: bool = False) -> None:
        pool, self._pool = self._pool, None
        if pool is None:
            return
        if not at_once:
            pool.shutdown()
            return
        processes = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(10)


_at_work = threading.Event()  # of a worker: a job is under way


def _run_here(folder: Path, job: Job[Any], files: dict[str, Path], threads: int) -> None:
    try:
        _at_work.set()
        try:
            _run_job(folder, job, files, threads)
        finally:
            _at_work.clear()
    except SystemExit as e:  # which the pool would take for the job's result, and go on
        os._exit(int(e.code or 0))


def _run_job(folder: Path, job: Job[Any], files: dict[str, Path], threads: int) -> None:
    cache = Cache(folder, tidy=False)
    with cache.making(job) as out:
        scratch = out / "scratch"
        scratch.mkdir()
        inputs = {name: cache.path(x) for name, x in job.inputs.items()}
        run(job.kind, job.spec, Place(files, inputs, scratch, threads), out)
        scratch.rmdir()


def _prepare_worker() -> None:
    """Workers end in order when told to, and when the process that started them is gone."""

    def terminate(number: int, frame: FrameType | None) -> None:
        if _at_work.is_set():
            sys.exit(128 + number)  # unwinds, so encoders are stopped and temporary folders go
        os._exit(128 + number)

    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="watch parent", daemon=True).start()


# --------------------------------------------------------------------- Ray --


class RayExecutor(Executor):
    """A Ray cluster. Clips, models and results travel through Ray's object store, so the
    nodes need this package and the same encoders, and no common folder."""

    def __init__(self, address: str) -> None:
        try:
            import ray
        except ImportError as e:
            raise MissingError("--ray needs Ray: pip install 'tds-codec[ray]'") from e
        self._ray, self._address = ray, address
        self._refs: dict[str, Any] = {}
        self._connect()  # before hours of work: whether there is a cluster at all

    def _connect(self) -> None:
        ray = self._ray
        if not ray.is_initialized():
            _answers(self._address)
            try:
                ray.init(address=self._address, log_to_driver=False)
            except (ConnectionError, ValueError, RuntimeError) as e:
                raise ExternalError(f"no Ray cluster answers at {self._address} ({e})") from e
        self.slots = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._task = self.task(_run_there)

    def task(self, function: Callable[..., Any]) -> Any:
        """``.remote(...)`` of it runs the function on a node; ``result`` waits for it."""
        return self._ray.remote(num_cpus=1, max_retries=1)(function)

    def put(self, value: Any) -> Any:
        """The value in the object store, for any number of tasks."""
        return self._ray.put(value)

    def result(self, handle: Any) -> Any:
        """Raises ExternalError in words of what went wrong on the node, or with the cluster."""
        try:
            return self._ray.get(handle)
        except self._ray.exceptions.RayTaskError as e:
            raise ExternalError(str(e.cause if getattr(e, "cause", None) else e)) from e
        except self._ray.exceptions.RayError as e:
            raise ExternalError(f"Ray: {e}") from e

    def start(self, cache: Cache, files: dict[str, Path]) -> None:
        self._cache, self._files = cache, files
        self._connect()  # again after a stop: without it Ray starts a cluster of its own

    def _ref(self, key: str, make: Callable[[], Any]) -> Any:
        if key not in self._refs:
            self._refs[key] = self.put(make())
        return self._refs[key]

    def submit(self, job: Job[Any]) -> Any:
        names = list(job.inputs)
        folders = [
            self._ref(x.key, lambda x=x: pack(self._cache.path(x)))  # type: ignore[misc]
            for x in job.inputs.values()
        ]
        files = [
            self._ref(sha, lambda sha=sha: self._files[sha].read_bytes())  # type: ignore[misc]
            for sha in job.files
        ]
        suffixes = [self._files[sha].suffix for sha in job.files]
        return self._task.remote(job.kind, job.spec, names, job.files, suffixes, *folders, *files)

    def wait(self, handles: list[Any]) -> list[Any]:
        return list(self._ray.wait(handles, num_returns=1)[0])

    def finish(self, handle: Any, job: Job[Any]) -> None:
        packed = self.result(handle)
        with self._cache.making(job) as out:
            unpack(packed, out)

    def stop(self, at_once: bool = False) -> None:
        self._refs.clear()
        self._ray.shutdown()


def _answers(address: str) -> None:
    """Raises ExternalError when nothing listens at HOST:PORT; Ray itself tries for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return  # auto, local
    try:
        socket.create_connection((host.strip("[]"), int(port)), 10).close()
    except OSError as e:
        raise ExternalError(
            f"no Ray cluster answers at {address} ({e.strerror or e}); start one with "
            "`ray start --head`, or give its address"
        ) from e


def pack(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def unpack(packed: dict[str, bytes], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, data in packed.items():
        (folder / name).write_bytes(data)


def _run_there(
    kind: str,
    spec: dict[str, Any],
    names: list[str],
    hashes: tuple[str, ...],
    suffixes: list[str],
    *data: Any,
) -> dict[str, bytes]:
    """On a node: lays the inputs out in a folder, works, gives the results back."""
    folders, files = data[: len(names)], data[len(names) :]
    with tempfile.TemporaryDirectory(prefix="tds-evaluate-") as temporary:
        top = Path(temporary)
        for name in ("out", "scratch"):
            (top / name).mkdir()
        for name, packed in zip(names, folders, strict=True):
            unpack(packed, top / name)
        place = {}
        for sha, suffix, content in zip(hashes, suffixes, files, strict=True):
            place[sha] = top / f"{uuid.uuid4().hex}{suffix}"
            place[sha].write_bytes(content)
        inputs = {name: top / name for name in names}
        run(kind, spec, Place(place, inputs, top / "scratch", 1), top / "out")
        return pack(top / "out")
