# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands that are killed at every stage, and starved (`make torture` runs it too).

Stages are seen from outside: a file that is open, a line that was written, a process that runs.
What must hold after a signal: the status it stands for, one sentence (none after SIGKILL), the
output whole or absent, nothing else left behind (after SIGKILL a file whose name begins with a dot
may stay), no process left, and the same command then does its work. Starved of disk, memory or
descriptors a command ends by itself, with a sentence, and leaves nothing. Also: each end of a live
chain is killed, two commands share a cache, and the clock is set while they run.

    python tests/torture/hardship.py [--record FILE] [--only WORD]

Needs root for small disks and memory groups, and a C compiler for the clock; a trial that this
machine does not let be done says so.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import av

from torture import PAIRS, ROOT

TDS = [sys.executable, "-m", "tds"]
SECONDS = 120.0
COMES = 600.0  # for a stage to come, and for work to be done, on a machine that others use too
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
    silent: bool = False  # what it starts uses no pipe, so that nothing tells it of our end
    resumes: bool = False  # what is there of it is gone on with, and only then is it whole


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


TRAINING = """\
network: {preset: fast, scale: 2}
data: {folders: [data], cache: decoded}
samples: {patch: 48, border: 8}
optimizer: {batch: 2, threads: 1, deterministic: true}
stages: [{steps: 12, warmup: 2}]
log: {every: 1, tensorboard: false, checkpoint_minutes: 1.0e-6}
"""


@functools.cache
def data_set() -> tempfile.TemporaryDirectory[str]:
    """A data set of few pictures, made once and kept to the end."""
    made = tempfile.TemporaryDirectory(prefix="tds-data-")
    command = [*TDS, "dataset", CITY, "-o", Path(made.name) / "data", "--codec", "hevc", "--qp"]
    command += ["32", "--preset", "ultrafast", "--group", "1", "--max-frames", "5", "--quiet"]
    subprocess.run(list(map(str, command)), check=True)
    return made


def training(folder: Path) -> None:
    (folder / "data").symlink_to(Path(data_set().name) / "data")
    (folder / "train.yaml").write_text(TRAINING)


@functools.cache
def weights_undisturbed() -> bytes:
    """Of the same training when nothing is done to it."""
    with tempfile.TemporaryDirectory(prefix="tds-hardship-") as name:
        training(Path(name))
        command = [*TDS, "train", "train.yaml", "--out", "run", "--quiet"]
        subprocess.run(command, cwd=name, check=True, stdout=subprocess.DEVNULL)
        return weights(Path(name) / "run" / "checkpoint.pt")


def weights(checkpoint: Path) -> bytes:
    import torch

    state = torch.load(checkpoint, weights_only=True)["model"]
    return b"".join(state[name].numpy().tobytes() for name in sorted(state))


def trained(path: Path) -> None:
    if weights(path) != weights_undisturbed():
        raise Broken("its weights are not those of a training that nobody killed")


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
            [*TDS, "postdec", "--decoder", "sh -c 'exec sleep 600' {input}", "--hr",
             "hevc.hr.265", "--lr", "hevc.lr.265", "--sidecar", "hevc.json", "out.y4m", *decoded,
             "--quiet"], "",
            {"decoders run": lambda r: r.children() >= 2}, lambda path: None, pair,
            keeps=("log.csv",), silent=True,
        ),
        "evaluate": Job(
            [*TDS, "evaluate", "job.yaml", "--out", "out"], "out/results.json",
            {
                "clips read": lambda r: r.opened("city.mkv"),
                "a job runs": lambda r: r.children() > 0,
            },
            lambda path: None, evaluation, keeps=("out",), again=False,
        ),
        "train": Job(
            [*TDS, "train", "train.yaml", "--out", "run"], "run/checkpoint.pt",
            {
                "data read": lambda r: (r.folder / "decoded").is_dir(),
                "first step": lambda r: r.lines("run/log.csv") > 1,
                "a checkpoint begun": lambda r: r.part(),
                "in the middle": lambda r: r.lines("run/log.csv") > 6,
            },
            trained, training, keeps=("decoded",), resumes=True,
        ),
    }  # fmt: skip


# ------------------------------------------------------------------------------ killed --


@contextmanager
def at_work(job: Job, folder: Path, said_in: str = "said.txt", **variables: str) -> Iterator[Run]:
    own = {"TDS_CACHE": str(folder.parent / "cache"), "PYTHONUNBUFFERED": "1", **variables}
    with (folder / said_in).open("w") as said:
        process = subprocess.Popen(
            list(map(str, job.command)), cwd=folder, stdout=said, stderr=said, text=True,
            stdin=subprocess.DEVNULL, preexec_fn=_default_signals, env={**os.environ, **own},
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
    """Kills a command at a stage; "whole" or "absent", what its output then is, "resumed", where
    it went on to what it would have been, or "over", where it was done before."""
    with tempfile.TemporaryDirectory(prefix="tds-hardship-") as name:
        folder = Path(name).resolve() / "work"
        folder.mkdir()
        job.prepare(folder)
        before = {p.name for p in folder.iterdir()}
        with at_work(job, folder) as run:
            begun = time.monotonic()
            while run.process.poll() is None and not job.stages[stage](run):
                if time.monotonic() - begun > COMES:
                    raise Broken("the stage never came")
                time.sleep(0.002)
            over = run.process.poll() is not None
            started = family(run.process.pid)[1:]
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
            for pid in started:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if number != signal.SIGKILL or not job.silent:
                raise Broken(f"still running: {names}")
        kept = left(job, folder, before)
        if number == signal.SIGKILL:
            kept = {n for n in kept if n[0] != "."}
        if kept:
            raise Broken(f"left behind: {sorted(kept)}")
        there = bool(job.output) and (folder / job.output).exists()
        if there and not job.resumes:
            job.check(folder / job.output)
        if not job.output or not job.again:
            return ("whole" if there else "absent") + ("; its decoders ran on" if names else "")
        if there and not job.resumes:
            return "whole"
        (folder / "log.csv").unlink(missing_ok=True)  # a log stays as far as it came
        with at_work(job, folder) as run:
            if run.process.wait(COMES) != 0:
                said = (folder / "said.txt").read_text(errors="replace")
                raise Broken(f"it did not work afterwards: {said[-400:]}")
        job.check(folder / job.output)
        return "resumed" if there else "absent"


# ------------------------------------------------------------------------ a live chain --


def chain(whom: str, number: signal.Signals, output: str) -> str:
    """Kills one of: who sends a live pair, the command that rebuilds it from pipes, who reads its
    pipe. All of them end, and what was being written is whole or absent.

    output: "-", to a reader, or a file's name."""
    with tempfile.TemporaryDirectory(prefix="tds-hardship-") as name, ExitStack() as stack:
        folder = Path(name).resolve()
        for track in ("hr", "lr"):
            os.mkfifo(folder / track)

        def start(what: str, command: list[Any], **pipes: Any) -> subprocess.Popen[str]:
            said = stack.enter_context((folder / f"{what}.txt").open("w"))
            process = subprocess.Popen(
                list(map(str, command)), cwd=folder, stderr=said, preexec_fn=_default_signals,
                text=True, **{"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, **pipes},
            )  # fmt: skip
            stack.callback(process.kill)
            return process

        ffmpeg = [filter_or_plain(), "-v", "error", "-y"]
        copied = ["-c", "copy", "-flush_packets", "1", "-f", "matroska"]
        sender = start(
            "sender", [*ffmpeg, "-re", "-stream_loop", "-1", "-i", PAIRS / "hevc.mkv",
                       "-map", "0:v:0", *copied, "hr", "-map", "0:v:1", *copied, "lr"],
        )  # fmt: skip
        piped = output == "-"
        enhance = [*TDS, "enhance", "--hr", "hr", "--lr", "lr", output, "--backend", "bicubic"]
        tds = start(
            "tds", enhance,
            stdout=subprocess.PIPE if piped else subprocess.DEVNULL,
        )  # fmt: skip
        processes = {"sender": sender, "tds": tds}
        if tds.stdout is not None:
            read = [*ffmpeg, "-f", "yuv4mpegpipe", "-i", "-", "-flush_packets", "1"]
            read += ["-f", "framecrc", "seen.txt"]
            processes["reader"] = start("reader", read, stdin=tds.stdout)
            tds.stdout.close()  # the reader's alone, so that its end is seen
        run = Run(folder, tds)
        begun = time.monotonic()
        while not (run.lines("seen.txt") > 20 if piped else run.part(4000)):
            if time.monotonic() - begun > SECONDS or tds.poll() is not None:
                raise Broken(f"no pictures came: {(folder / 'tds.txt').read_text()[-400:]}")
            time.sleep(0.01)
        processes[whom].send_signal(number)
        for what, process in processes.items():
            try:
                process.wait(SECONDS / 4)
            except subprocess.TimeoutExpired:
                raise Broken(f"{what} did not end") from None
        said = (folder / "tds.txt").read_text()
        there = not piped and (folder / output).exists()
        if "Traceback" in said:
            raise Broken(f"a traceback: {said[-400:]}")
        if whom == "tds":
            if tds.returncode not in (-number, 128 + number):
                raise Broken(f"status {tds.returncode}: {said[-400:]}")
        elif whom == "reader" and tds.returncode == 128 + signal.SIGPIPE:
            pass  # as of any program whose reader is gone
        elif tds.returncode not in (0, 1) or (tds.returncode == 1 and not said.strip()):
            raise Broken(f"status {tds.returncode}: {said[-400:]}")
        if there != (not piped and tds.returncode == 0):
            raise Broken(f"status {tds.returncode}, and {output} is {'' if there else 'not '}there")
        if there and (said_so := re.search(r"(\d+) frames", said)):
            pictures(int(said_so[1]))(folder / output)
        names = {p.name for p in folder.iterdir()} - {"hr", "lr", output}
        if number == signal.SIGKILL:
            names = {n for n in names if n[0] != "."}
        if kept := {n for n in names if not n.endswith(".txt")}:
            raise Broken(f"left behind: {sorted(kept)}")
    return "all ended" if piped else "whole" if there else "absent"


# ------------------------------------------------------------------------ two together --


def together(work: list[Job], done: Callable[[Path], None] = lambda folder: None) -> str:
    """Commands at once in one folder, with one cache of models: each does all of its work."""
    with tempfile.TemporaryDirectory(prefix="tds-hardship-") as name, ExitStack() as stack:
        folder = Path(name).resolve() / "work"
        folder.mkdir()
        work[0].prepare(folder)
        at = [stack.enter_context(at_work(j, folder, f"said{i}.txt")) for i, j in enumerate(work)]
        for i, (job, run) in enumerate(zip(work, at, strict=True)):
            if run.process.wait(COMES):
                raise Broken(f"status {run.process.returncode}: "
                             + (folder / f"said{i}.txt").read_text()[-400:])  # fmt: skip
            job.check(folder / job.output)
        done(folder)
        if kept := [p for p in folder.parent.rglob(".*") if p.is_file()]:
            raise Broken(f"left behind: {[p.name for p in kept]}")
    return "both whole"


def one_archive(folder: Path) -> None:
    made = list((folder.parent / "cache").rglob("*.pt"))
    if len(made) != 1:
        raise Broken(f"archives in the cache: {[p.name for p in made]}")


def same_figures(folder: Path) -> None:
    def of(name: str) -> Any:
        found = json.loads((folder / name / "results.json").read_text())
        return [{k: v for k, v in p.items() if "seconds" not in k} for p in found["points"]]

    if of("one") != of("two"):
        raise Broken("two evaluations of one cache have other figures")


def pairs_together() -> Iterator[tuple[str, Callable[[], str]]]:
    decode = [*TDS, "decode", "hevc.mp4"]
    models = [
        Job([*decode, f"{n}.mkv", "--model", "fast", "--quiet"], f"{n}.mkv",
            check=pictures(13), prepare=links)
        for n in ("one", "two")
    ]  # fmt: skip
    yield "two that export one model", lambda: together(models, one_archive)
    evaluations = [
        Job([*TDS, "evaluate", "job.yaml", "--out", n, "--cache", "shared", "--workers", "1"],
            f"{n}/results.json", prepare=evaluation)
        for n in ("one", "two")
    ]  # fmt: skip
    yield "two evaluations", lambda: together(evaluations, same_figures)


# --------------------------------------------------------------------- a clock that is set --

DAY = 86400


@functools.cache
def clock_library() -> tempfile.TemporaryDirectory[str] | None:
    """The folder of clock.so, by which a program's time of day can be set; None without a
    compiler. (libfaketime 0.9.10 breaks waiting by the monotonic clock.)"""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    made = tempfile.TemporaryDirectory(prefix="tds-clock-")
    code = ROOT / "tests" / "torture" / "clock.c"
    out = Path(made.name) / "clock.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", out, code, "-ldl"], check=True)
    return made


def clock_set(job: Job, stage: str, by: int) -> str:
    """The time of day is set, by so many seconds, at a stage of a command: it does its work."""
    library = clock_library()
    if library is None:
        return "not tried: there is no C compiler"
    with tempfile.TemporaryDirectory(prefix="tds-hardship-") as name:
        folder = Path(name).resolve() / "work"
        folder.mkdir()
        job.prepare(folder)
        clock = folder.parent / "clock"
        clock.write_bytes(bytes(8))
        faked = {"LD_PRELOAD": f"{library.name}/clock.so", "TDS_CLOCK": str(clock)}
        with at_work(job, folder, **faked) as run:
            begun = time.monotonic()
            while run.process.poll() is None and not job.stages[stage](run):
                if time.monotonic() - begun > COMES:
                    raise Broken("the stage never came")
                time.sleep(0.002)
            if run.process.poll() is not None:
                raise Broken(f"it ended before: {(folder / 'said.txt').read_text()[-400:]}")
            with clock.open("r+b") as seconds:
                seconds.write(struct.pack("=q", by))
            at = time.monotonic()
            status = run.process.wait(COMES)
        said = (folder / "said.txt").read_text(errors="replace")
        if not job.output:  # it waits for what never comes, for as long as it was told
            waited = time.monotonic() - at
            if status != 1 or "Traceback" in said or not WAITS * 0.6 < waited < WAITS + 20:
                raise Broken(f"status {status} after {waited:.0f} s: {said[-400:]}")
            return "refused"
        if status:
            raise Broken(f"status {status}: {said[-400:]}")
        job.check(folder / job.output)
    return "done"


WAITS = 8  # seconds, that a decoder is waited for


def clocks() -> Iterator[tuple[str, str, Callable[[], str]]]:
    every = jobs()
    silent = every["postdec, a decoder that gives nothing"]
    silent = replace(silent, command=[*silent.command, "--timeout", WAITS])
    trials = [
        ("encode, a pair", every["encode, a pair"], "first frames"),
        ("decode", every["decode"], "in the middle"),
        ("postdec", every["postdec"], "decoders run"),
        ("postdec, a decoder that gives nothing", silent, "decoders run"),
    ]
    for what, job, stage in trials:
        for how, by in (("a day ahead", DAY), ("a day back", -DAY)):
            yield what, f"the clock is set {how}", functools.partial(clock_set, job, stage, by)


# ----------------------------------------------------------------------------- starved --


def starved(
    job: Job, limit: Callable[[], None] | None, folder: Path, word: str = "", killable: bool = False
) -> str:
    """Runs a command under a limit: "done", or "refused" in a sentence with nothing left.

    killable: the limit's way is to kill."""

    def names() -> set[str]:
        return {p.name for p in folder.iterdir()}

    before = names()
    done = subprocess.run(
        list(map(str, job.command)), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL, preexec_fn=limit, timeout=SECONDS, text=True, errors="replace",
    )  # fmt: skip
    said = done.stdout
    if done.returncode == 0:
        job.check(folder / job.output)
        return "done"
    if killable and done.returncode == -signal.SIGKILL:
        if kept := {n for n in names() - before - set(job.keeps) if n[0] != "."}:
            raise Broken(f"left behind: {sorted(kept)}")
        return "killed by the kernel"
    if done.returncode != 1 or not said.strip() or "Traceback" in said:
        raise Broken(f"status {done.returncode}: {said[-600:]}")
    if word not in said:
        raise Broken(f"does not speak of {word}: {said[-300:]}")
    if kept := names() - before - set(job.keeps):
        raise Broken(f"left behind: {sorted(kept)}")
    return "refused"


@contextmanager
def memory_group(megabytes: int) -> Iterator[Callable[[], None] | None]:
    """What puts a process into a cgroup with this much memory; None where none may be made."""
    old, new = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    base, limit = (old, "memory.limit_in_bytes") if old.is_dir() else (new, "memory.max")
    group = base / f"tds-hardship-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        yield None
        return
    try:
        try:
            (group / limit).write_text(str(megabytes << 20))
        except OSError:  # cgroup2 without the memory controller
            yield None
            return

        def enter() -> None:
            (group / "cgroup.procs").write_text(str(os.getpid()))

        yield enter
    finally:
        for _ in range(50):
            try:
                group.rmdir()
                break
            except OSError:  # what was in it is still ending
                time.sleep(0.1)


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
        for megabytes in (20, 30, 40, 60, 100, 200):
            how = f"memory of a group {megabytes} MB"
            yield name, how, functools.partial(in_group, job, megabytes)
        yield name, "a read-only disk", lambda j=job: on_disk(j, 1000, True)  # type: ignore
        again = Job(job.command, job.output, {}, job.check, links)
        yield name, "two at once, one output", lambda j=again: two_at_once(j, 2)  # type: ignore
    for whom, output in (("sender", "-"), ("tds", "-"), ("reader", "-"), ("sender", "out.mkv"),
                         ("tds", "out.mkv")):  # fmt: skip
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
            what = "a live chain" + (", into a file" if output != "-" else "")
            how = f"{number.name} at: its {whom}"
            yield what, how, functools.partial(chain, whom, number, output)
    for how, trial in pairs_together():
        yield "one cache", how, trial
    yield from clocks()


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


def in_group(job: Job, megabytes: int) -> str:
    with memory_group(megabytes) as enter, tempfile.TemporaryDirectory(prefix="tds-hardship-") as n:
        if enter is None:
            return "not tried: no memory group may be made here"
        links(Path(n))
        return starved(job, enter, Path(n), killable=True)


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
        if arguments.only:
            for what, trials in table.items():
                record.setdefault("hardship", {}).setdefault(what, {}).update(trials)
        else:
            record["hardship"] = table
        arguments.record.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
