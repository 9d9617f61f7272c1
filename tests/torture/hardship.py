# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands that are killed at every stage, and starved (`make torture` runs it too).

Stages are seen from outside: a file that is open, a line that was written, a process that runs.
What must hold after a signal: the status it stands for, one sentence (none after SIGKILL), the
output whole or absent, nothing else left behind (after SIGKILL a file whose name begins with a dot
may stay), no process left, and the same command then does its work. Starved of disk, memory or
descriptors a command ends by itself, with a sentence, and leaves nothing.

    python tests/torture/hardship.py [--record FILE] [--only WORD]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av

from torture import PAIRS, ROOT

TDS = [sys.executable, "-m", "tds"]
SECONDS = 120.0
CITY = ROOT / "tests" / "data" / "city.mkv"


class Broken(AssertionError):
    """What must hold does not."""


# ------------------------------------------------------------------------ what is seen --


def family(pid: int) -> list[int]:
    """A process and all that it has started."""
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        with suppress(OSError):
            for task in Path(f"/proc/{found[-1]}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
    return found


def running_in(folder: Path) -> list[str]:
    """Command lines of processes that name a folder, or work in it."""
    out = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                line = (
                    (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
                if str(folder) in line or (entry / "cwd").resolve() == folder:
                    out.append(line)
    return out


@dataclass
class Run:
    """A command at work in a folder of its own."""

    folder: Path
    process: subprocess.Popen[str]

    def opened(self, name: str) -> bool:
        for pid in family(self.process.pid):
            with suppress(OSError):
                for entry in Path(f"/proc/{pid}/fd").iterdir():
                    with suppress(OSError):
                        if entry.readlink().name == name:
                            return True
        return False

    def part(self, size: int = 0) -> bool:
        """A hidden file is there, of this size or more."""
        with suppress(OSError):
            return any(p.stat().st_size >= size for p in self.folder.rglob(".*") if p.is_file())
        return False

    def children(self) -> int:
        return len(family(self.process.pid)) - 1

    def said(self, word: str) -> bool:
        return word in (self.folder / "said.txt").read_text(errors="replace")

    def lines(self, name: str) -> int:
        path = self.folder / name
        return len(path.read_text().splitlines()) if path.is_file() else 0


Stage = Callable[[Run], bool]


@dataclass(frozen=True)
class Job:
    """A command, its stages in their order, and the output that is to be whole."""

    command: list[Any]
    output: str
    stages: dict[str, Stage] = field(default_factory=dict)
    check: Callable[[Path], None] = lambda path: None
    prepare: Callable[[Path], None] = lambda folder: None
    keeps: tuple[str, ...] = ()  # what may stay: a log, a folder to go on from
    again: bool = True  # whether it is called once more; it takes minutes, where not


def pictures(count: int) -> Callable[[Path], None]:
    def check(path: Path) -> None:
        with av.open(str(path)) as container:
            for stream in container.streams.video[:1]:
                got = sum(1 for p in container.demux(stream) if p.size)
                if got != count:
                    raise Broken(f"{path.name} has {got} pictures, not {count}")

    return check


def y4m(count: int) -> Callable[[Path], None]:
    def check(path: Path) -> None:
        got = path.read_bytes().count(b"FRAME\n")
        if got != count:
            raise Broken(f"{path.name} has {got} pictures, not {count}")

    return check


def source(folder: Path) -> None:
    (folder / "in.mkv").symlink_to(CITY)


def pair(folder: Path) -> None:
    for path in PAIRS.glob("hevc.*"):
        (folder / path.name).symlink_to(path)
    with tempfile.TemporaryDirectory() as name:  # long enough to be killed in the middle
        listed = Path(name) / "again.txt"
        listed.write_text(f"file '{PAIRS / 'hevc.mp4'}'\n" * 30)
        make = [filter_or_plain(), "-v", "error", "-nostdin", "-f", "concat", "-safe", "0", "-i"]
        make += [listed, "-map", "0", "-c", "copy", folder / "long.mkv"]
        subprocess.run(make, check=True)


def filter_or_plain() -> str:
    import imageio_ffmpeg

    return str(imageio_ffmpeg.get_ffmpeg_exe())


def evaluation(folder: Path) -> None:
    source(folder)
    (folder / "job.yaml").write_text(
        "title: t\nclips: [in.mkv]\nframes: 5\ncodecs: [{codec: hevc, preset: ultrafast}]\n"
        "configs: [ai]\nqps: [32, 42]\nplans: [{group: 5, boundaries: shared}, {kind: plain}]\n"
        "models: []\n"
    )


def jobs() -> dict[str, Job]:
    slow = ("--preset", "medium", "--codec", "hevc", "--config", "ai", "--qp", "30")
    encode = [*TDS, "encode", "in.mkv", "out.mp4", *slow, "--progress", "json"]
    decoded = ["--backend", "bicubic", "--log", "log.csv"]
    return {
        "encode, a pair": Job(
            [*encode, "--plan", "tds"], "out.mp4",
            {
                "source open": lambda r: r.opened("city.mkv"),
                "output begun": lambda r: r.part(),
                "first frames": lambda r: r.said('"done"'),
                "coding": lambda r: r.part(2000),
            },
            pictures(7), source,
        ),
        "encode, what pays": Job(
            [*encode, "--plan", "auto", "--effort", "1"], "out.mp4",
            {
                "source open": lambda r: r.opened("city.mkv"),
                "a try": lambda r: r.children() > 0,
            },
            lambda path: None, source, keeps=("out.mp4.tds-state",), again=False,
        ),
        "decode": Job(
            [*TDS, "decode", "long.mkv", "out.mkv", *decoded, "--quiet"], "out.mkv",
            {
                "file open": lambda r: r.opened("long.mkv"),
                "output begun": lambda r: r.part(),
                "first picture": lambda r: r.lines("log.csv") > 1,
                "in the middle": lambda r: r.lines("log.csv") > 100,
            },
            lambda path: None, pair, keeps=("log.csv",),
        ),
        "postdec": Job(
            [*TDS, "postdec", "--decoder", "ffmpeg", "--hr", "hevc.hr.265", "--lr", "hevc.lr.265",
             "--sidecar", "hevc.json", "out.y4m", *decoded, "--quiet"], "out.y4m",
            {
                "decoders run": lambda r: r.children() >= 2,
                "output begun": lambda r: r.part(),
            },
            y4m(13), pair, keeps=("log.csv",),
        ),
        "postdec, a decoder that gives nothing": Job(
            [*TDS, "postdec", "--decoder", "sleep 600 {input}", "--hr", "hevc.hr.265", "--lr",
             "hevc.lr.265", "--sidecar", "hevc.json", "out.y4m", *decoded, "--quiet"], "",
            {"decoders run": lambda r: r.children() >= 2}, lambda path: None, pair,
            keeps=("log.csv",),
        ),
        "evaluate": Job(
            [*TDS, "evaluate", "job.yaml", "--out", "out"], "out/results.json",
            {
                "clips read": lambda r: r.opened("city.mkv"),
                "a job runs": lambda r: r.children() > 0,
            },
            lambda path: None, evaluation, keeps=("out",), again=False,
        ),
    }  # fmt: skip


# ------------------------------------------------------------------------------ killed --


@contextmanager
def at_work(job: Job, folder: Path) -> Iterator[Run]:
    with (folder / "said.txt").open("w") as said:
        process = subprocess.Popen(
            list(map(str, job.command)), cwd=folder, stdout=said, stderr=said, text=True,
            stdin=subprocess.DEVNULL, preexec_fn=_default_signals,
            env={**os.environ, "TDS_CACHE": str(folder.parent / "cache"), "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        try:
            yield Run(folder, process)
        finally:
            process.kill()
            process.wait()


def _default_signals() -> None:
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def left(job: Job, folder: Path, before: set[str]) -> set[str]:
    names = {p.name for p in folder.iterdir()} - before - {"said.txt", *job.keeps}
    return names - {job.output.partition("/")[0]}


def kill(job: Job, stage: str, number: signal.Signals) -> str:
    """Kills a command at a stage; "whole" or "absent", what its output then is, or "over", where
    it was done before."""
    with tempfile.TemporaryDirectory(prefix="tds-hardship-") as name:
        folder = Path(name).resolve() / "work"
        folder.mkdir()
        job.prepare(folder)
        before = {p.name for p in folder.iterdir()}
        with at_work(job, folder) as run:
            begun = time.monotonic()
            while run.process.poll() is None and not job.stages[stage](run):
                if time.monotonic() - begun > SECONDS:
                    raise Broken("the stage never came")
                time.sleep(0.002)
            over = run.process.poll() is not None
            run.process.send_signal(number)
            try:
                status = run.process.wait(SECONDS / 4)
            except subprocess.TimeoutExpired:
                raise Broken("it did not end") from None
        said = (folder / "said.txt").read_text(errors="replace")
        if status == 0:
            return "over"
        if over:
            raise Broken(f"it ended before, with {status}: {said[-400:]}")
        expected = -number if number == signal.SIGKILL else 128 + number
        # While Python and what a command needs are loaded, a signal simply ends the process.
        if status not in (expected, -number):
            raise Broken(f"status {status}, not {expected}: {said[-400:]}")
        if "Traceback" in said:
            raise Broken(f"a traceback: {said[-400:]}")
        if (
            status == 128 + number
            and len(re.findall(r"^tds: (interrupted|ended)", said, re.M)) != 1
        ):
            raise Broken(f"no sentence: {said[-400:]}")
        time.sleep(0.3)  # what it started ends on its own, since its pipe is gone
        if names := running_in(folder):
            raise Broken(f"still running: {names}")
        kept = left(job, folder, before)
        if number == signal.SIGKILL:
            kept = {n for n in kept if n[0] != "."}
        if kept:
            raise Broken(f"left behind: {sorted(kept)}")
        there = bool(job.output) and (folder / job.output).exists()
        if there:
            job.check(folder / job.output)
        if not job.output or not job.again:
            return "whole" if there else "absent"
        if there:
            return "whole"
        (folder / "log.csv").unlink(missing_ok=True)  # a log stays as far as it came
        with at_work(job, folder) as run:
            if run.process.wait(SECONDS) != 0:
                said = (folder / "said.txt").read_text(errors="replace")
                raise Broken(f"it did not work afterwards: {said[-400:]}")
        job.check(folder / job.output)
        return "absent"


# ----------------------------------------------------------------------------- starved --


def starved(job: Job, limit: Callable[[], None] | None, folder: Path, word: str = "") -> str:
    """Runs a command under a limit: "done", or "refused" in a sentence with nothing left."""
    before = {p.name for p in folder.iterdir()}
    done = subprocess.run(
        list(map(str, job.command)), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL, preexec_fn=limit, timeout=SECONDS, text=True, errors="replace",
    )  # fmt: skip
    said = done.stdout
    if done.returncode == 0:
        job.check(folder / job.output)
        return "done"
    if done.returncode != 1 or not said.strip() or "Traceback" in said:
        raise Broken(f"status {done.returncode}: {said[-600:]}")
    if word not in said:
        raise Broken(f"does not speak of {word}: {said[-300:]}")
    if kept := {p.name for p in folder.iterdir()} - before - set(job.keeps):
        raise Broken(f"left behind: {sorted(kept)}")
    return "refused"


def limits() -> Iterator[tuple[str, Callable[[], None]]]:
    for megabytes in (60, 100, 150, 250, 350, 450, 600):
        size = megabytes << 20
        yield (
            f"memory {megabytes} MB",
            lambda s=size: resource.setrlimit(  # type: ignore
                resource.RLIMIT_AS, (s, s)
            ),
        )
    for count in (7, 9, 12, 16, 24):
        yield (
            f"descriptors {count}",
            lambda n=count: resource.setrlimit(  # type: ignore
                resource.RLIMIT_NOFILE, (n, n)
            ),
        )
    for size in (0, 1000, 20000):
        yield (
            f"file size {size}",
            lambda s=size: resource.setrlimit(  # type: ignore
                resource.RLIMIT_FSIZE, (s, s)
            ),
        )


@contextmanager
def small_disk(kilobytes: int, read_only: bool = False) -> Iterator[Path | None]:
    """A file system of this size; None where none may be mounted."""
    with tempfile.TemporaryDirectory(prefix="tds-disk-") as name:
        place = Path(name)
        options = f"size={kilobytes}k"
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True
        )
        if made.returncode:
            yield None
            return
        try:
            (place / "work").mkdir()
            for path in (PAIRS / "hevc.mp4", CITY):
                (place / "work" / path.name).symlink_to(path)
            if read_only:
                subprocess.run(["mount", "-o", "remount,ro", place], check=True)
            yield place / "work"
        finally:
            subprocess.run(["umount", "-l", place], check=False)


def two_at_once(job: Job, count: int) -> str:
    """Two of the same command, into one output: whole, by one of them or the other."""
    with tempfile.TemporaryDirectory(prefix="tds-hardship-") as name:
        folder = Path(name).resolve() / "work"
        folder.mkdir()
        job.prepare(folder)
        before = {p.name for p in folder.iterdir()}
        with at_work(job, folder) as one, at_work(job, folder) as other:
            statuses = {one.process.wait(SECONDS), other.process.wait(SECONDS)}
        if not statuses <= {0, 1} or 0 not in statuses:
            raise Broken(f"statuses {statuses}")
        job.check(folder / job.output)
        if kept := left(job, folder, before):
            raise Broken(f"left behind: {sorted(kept)}")
    return "whole"


def all_hardships() -> Iterator[tuple[str, str, Callable[[], str]]]:
    """(what, how, the trial)."""
    every = jobs()
    for name, job in every.items():
        for stage in job.stages:
            for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
                how = f"{number.name} at: {stage}"
                yield name, how, lambda j=job, s=stage, n=number: kill(j, s, n)  # type: ignore
    short = {
        "encode": Job([*TDS, "encode", "city.mkv", "out.mp4", "--plan", "tds", "--codec", "hevc",
                       "--config", "ai", "--qp", "30", "--preset", "ultrafast", "--quiet"],
                      "out.mp4", check=pictures(7)),
        "decode": Job([*TDS, "decode", "hevc.mp4", "out.mkv", "--backend", "bicubic", "--quiet"],
                      "out.mkv", check=pictures(13)),
    }  # fmt: skip
    for name, job in short.items():
        for how, limit in limits():
            yield name, how, lambda j=job, limit=limit: in_fresh(j, limit)  # type: ignore
        for kilobytes in (4, 8, 16):
            yield name, f"a disk of {kilobytes} kB", lambda j=job, k=kilobytes: on_disk(j, k)  # type: ignore
        yield name, "a read-only disk", lambda j=job: on_disk(j, 1000, True)  # type: ignore
        again = Job(job.command, job.output, {}, job.check, links)
        yield name, "two at once, one output", lambda j=again: two_at_once(j, 2)  # type: ignore


def links(folder: Path) -> None:
    for path in (PAIRS / "hevc.mp4", CITY):
        (folder / path.name).symlink_to(path)


def in_fresh(job: Job, limit: Callable[[], None]) -> str:
    with tempfile.TemporaryDirectory(prefix="tds-hardship-") as name:
        links(Path(name))
        return starved(job, limit, Path(name))


def on_disk(job: Job, kilobytes: int, read_only: bool = False) -> str:
    with small_disk(kilobytes, read_only) as folder:
        if folder is None:
            return "not tried: no file system may be mounted here"
        return starved(job, None, folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="whose name has this word")
    parser.add_argument("--record", type=Path)
    arguments = parser.parse_args()
    table: dict[str, dict[str, str]] = {}
    faults = 0
    for what, how, trial in all_hardships():
        if arguments.only not in f"{what}: {how}":
            continue
        begun = time.monotonic()
        try:
            outcome = trial()
        except (Broken, subprocess.TimeoutExpired) as error:
            outcome = f"BROKEN: {error}"
            faults += 1
        table.setdefault(what, {})[how] = outcome
        print(f"{what}: {how}: {outcome} ({time.monotonic() - begun:.1f} s)", flush=True)
    if arguments.record:
        record = json.loads(arguments.record.read_text()) if arguments.record.is_file() else {}
        record["hardship"] = table
        arguments.record.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
