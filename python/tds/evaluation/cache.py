# SPDX-License-Identifier: LGPL-2.1-or-later
"""Jobs and what they left behind, by the hash of everything that determines it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from ..files import sha256_of_text
from .records import MeasureRecord, StreamRecord

RECORD = "record.json"

# Raised when a kind of job comes to give other results for the same description.
VERSIONS = {"stream": 1, "measure": 1, "crop": 1, "segment": 3, "trial": 1}


Spec = TypeVar("Spec", bound=Mapping[str, object])


@dataclass(frozen=True)
class Job(Generic[Spec]):
    """One piece of work that depends on nothing but what it says.

    kind: of work. spec: plain values that determine the result together with the jobs in
    ``inputs`` (by the part they play) and the files in ``files`` (clips by sha256, models by
    what makes them). cost: a guess of its share of the work, for the time left. label: a few
    words for a person.
    """

    kind: str
    spec: Spec
    inputs: Mapping[str, Job[Any]] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    cost: float = 1.0
    label: str = ""

    @property
    def key(self) -> str:
        """64 hex digits; equal for equal work."""
        cached = self.__dict__.get("_key")
        if cached is None:
            value = {
                "kind": self.kind,
                "version": VERSIONS[self.kind],
                "spec": self.spec,
                "inputs": {name: job.key for name, job in self.inputs.items()},
                "files": sorted(self.files),
            }
            text = json.dumps(value, sort_keys=True, separators=(",", ":"))
            cached = sha256_of_text(text)
            object.__setattr__(self, "_key", cached)
        return str(cached)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and other.key == self.key


class Cache:
    """A folder of finished jobs: ``KIND/KE/KEY/record.json`` and the files beside it.

    A job's folder appears whole or not at all, so one that is there is done, whatever
    happened to the process that made it. Several processes may share a cache.
    """

    def __init__(self, folder: Path, tidy: bool = True) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        if tidy:
            self._remove_abandoned()

    def path(self, job: Job[Any]) -> Path:
        return self.folder / job.kind / job.key[:2] / job.key

    def has(self, job: Job[Any]) -> bool:
        return (self.path(job) / RECORD).is_file()

    def record(self, job: Job[Any]) -> dict[str, Any]:
        """What the job found out. Raises FileNotFoundError when it was not run."""
        value: dict[str, Any] = json.loads((self.path(job) / RECORD).read_text())
        return value

    def stream(self, job: Job[Any]) -> StreamRecord:
        """``record`` of a job that coded a stream."""
        return cast(StreamRecord, self.record(job))

    def measure(self, job: Job[Any]) -> MeasureRecord:
        """``record`` of a job that measured."""
        return cast(MeasureRecord, self.record(job))

    @contextmanager
    def making(self, job: Job[Any]) -> Iterator[Path]:
        """A fresh folder for a job's results; kept under its key when all went well."""
        work = self.folder / f"{_making()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        work.mkdir()
        try:
            yield work
            _to_disk(work)
            target = self.path(job)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.rename(work, target)
            except OSError:
                if not self.has(job):  # else another process was quicker, with the same result
                    raise
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _remove_abandoned(self) -> None:
        """Removes what processes of this machine left that are no more."""
        for path in self.folder.glob("making-*-*-*"):
            machine, pid, _ = path.name.rsplit("-", 2)
            if machine != _making():
                continue
            try:
                os.kill(int(pid), 0)
            except ProcessLookupError:
                shutil.rmtree(path, ignore_errors=True)
            except (ValueError, PermissionError):
                continue


def _making() -> str:
    return f"making-{socket.gethostname()}"


def _to_disk(folder: Path) -> None:
    """Else a power cut may leave a folder under its final name with empty files in it."""
    for path in folder.iterdir():
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    (folder / RECORD).write_text(json.dumps(record))
