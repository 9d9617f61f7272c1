# SPDX-License-Identifier: LGPL-2.1-or-later
"""``tds evaluate``: rate-distortion figures of many clips and settings, as a report."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..evaluation.execution import Executor


def add_parser(subparsers: Any) -> None:
    p = subparsers.add_parser(
        "evaluate",
        help="measure BD-rates against the plain stream and write a report",
        description="Code every clip with every codec, configuration, QP and plan of a "
        "configuration, decode and enhance it, and compare it with the plain full-size stream "
        "of the same encoder: BD-rate and BD-PSNR over the whole stream and per frame type. "
        "Finished work is kept in a cache, so a run that was stopped goes on where it was. Given "
        "a results.json in the place of the configuration, its report is written again.",
    )
    p.add_argument(
        "config", type=Path, help="a YAML file (docs/evaluation.md), the name of one that comes "
        "along (quick, full, paper/table1, ...), or the results.json of a report"
    )  # fmt: skip
    p.add_argument(
        "--out", type=Path, help="folder of the report (default out/NAME-OF-CONFIG, or where the "
        "results.json is)"
    )  # fmt: skip
    p.add_argument(
        "--clips", type=Path, nargs="+", metavar="PATH", help="files and folders in the place of "
        "the configuration's clips; demo: the clip that comes along"
    )  # fmt: skip
    p.add_argument(
        "--cache", type=Path, help="folder of finished jobs (default OUT/cache); may be shared"
    )
    p.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="use what the cache has (default); --no-resume does everything anew in a fresh cache",
    )
    p.add_argument(
        "--partial",
        action="store_true",
        help="run nothing: write the report of what is finished so far, and say what is not",
    )
    where = p.add_mutually_exclusive_group()
    where.add_argument(
        "--workers", type=int, help="jobs at once on this machine (default: its cores)"
    )
    where.add_argument(
        "--ray", metavar="ADDRESS", help="hand the jobs to a Ray cluster: its address, or auto"
    )
    p.add_argument(
        "--profile", metavar="NAME", help="how much to run of a configuration with parts, such as "
        "paper/all: small or full"
    )  # fmt: skip
    p.add_argument(
        "--hours", type=float, help="what such a run may take, in place of its profile's own limit"
    )
    p.add_argument("--quiet", "-q", action="store_true", help="no progress")
    p.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    _check_installed()
    from ..bundled import configuration, demo_clip
    from ..errors import InputError
    from ..evaluation.cache import Cache
    from ..evaluation.clips import find_clips
    from ..evaluation.config import load
    from ..evaluation.graph import find_enhancers
    from ..evaluation.report import read_report, report_of, write_report
    from ..evaluation.run import evaluate
    from ..evaluation.suite import is_suite

    if args.config.name.endswith((".json", ".json.gz")):
        return _written(*write_report(read_report(args.config), args.out or args.config.parent))
    if args.partial and not args.resume:
        raise InputError("--partial reports what the cache has, and --no-resume puts it aside")
    args.config = configuration(args.config)
    if args.clips == [Path("demo")] and not args.clips[0].exists():
        args.clips = [demo_clip()]
    if is_suite(args.config):
        return _run_suite(args)
    for name in ("profile", "hours"):
        if getattr(args, name) is not None:
            raise InputError(f"--{name} is for a configuration with parts, such as paper/all")
    evaluation = load(args.config, args.clips)
    out: Path = args.out or Path("out") / args.config.stem
    folder: Path = args.cache or out / "cache"
    executor = _executor(args)
    if not args.resume:
        find_enhancers(evaluation)  # what fails at once is to leave the old cache where it is
        find_clips([clip.path for clip in evaluation.clips])
        _put_aside(folder)
    cache = Cache(folder)

    def say(text: str) -> None:
        if not args.quiet:
            print(f"tds: {text}", file=sys.stderr)

    try:
        with _progress(args.quiet) as progress:
            outcome = evaluate(evaluation, cache, executor, progress, say, args.partial)
    except BaseException:
        if not args.partial:
            command = "the same command" if args.resume else "the command without --no-resume"
            say(f"what was finished is kept in {folder}; {command} goes on from there")
        raise
    for mark in outcome.results.marks:
        say(f"note: {mark}")
    return _written(*write_report(report_of(outcome), out))


def _run_suite(args: argparse.Namespace) -> int:
    """All parts of one profile, one after the other."""
    from ..errors import InputError
    from ..evaluation.cache import Cache
    from ..evaluation.suite import load_suite, run_suite

    suite = load_suite(args.config)
    if args.profile is None:
        raise InputError(
            f"{args.config} is run by a profile: --profile {' or --profile '.join(suite.profiles)}"
        )
    if args.hours is not None and args.hours <= 0:
        raise InputError("--hours is above 0")
    out: Path = args.out or Path("out") / f"{args.config.parent.name}-{args.profile}"
    folder: Path = args.cache or out / "cache"
    executor = _executor(args)
    if not args.resume:
        _put_aside(folder)

    def say(text: str) -> None:
        if not args.quiet:
            print(f"tds: {text}", file=sys.stderr, flush=True)

    with _progress(args.quiet) as progress:
        page, table = run_suite(
            suite,
            args.config,
            args.profile,
            out,
            Cache(folder),
            executor,
            progress,
            say,
            args.clips,
            args.hours,
            getattr(executor, "slots", 1) if not args.ray else 1,
            args.partial,
        )
    print(table)
    print(f"Written: {page}, paper.json and the report of each part beside it")
    return 0


def _put_aside(cache: Path) -> None:
    if cache.is_dir() and any(cache.iterdir()):
        aside = cache.with_name(f"{cache.name}-before-{time.strftime('%Y%m%d-%H%M%S')}")
        cache.rename(aside)
        print(f"tds: the old cache is now {aside}", file=sys.stderr)


def _written(page: Path, table: str) -> int:
    print(table)
    print(f"Written: {page} (open it in a browser), and CSV, JSON and PNG beside it")
    return 0


def _check_installed() -> None:
    """Before hours of work: what the figures and the report need at the end."""
    from ..errors import MissingError

    missing = [n for n in ("bjontegaard", "scipy", "matplotlib", "PIL") if find_spec(n) is None]
    if missing:
        raise MissingError(
            f"tds evaluate needs {', '.join(missing)}: pip install 'tds-codec[evaluate]'"
        )


def _executor(args: argparse.Namespace) -> Executor:
    from ..errors import InputError
    from ..evaluation.execution import LocalExecutor, RayExecutor

    if args.ray:
        return RayExecutor(args.ray)
    workers = args.workers if args.workers is not None else os.cpu_count() or 1
    if workers < 1:
        raise InputError("--workers is 1 or more")
    return LocalExecutor(workers)


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[int, int, float, str], None]]:
    """A bar with the time left; a line now and then where there is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.fields[left]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
    )
    bar = Progress(*columns, console=console, disable=quiet or not console.is_terminal)
    begun, said = time.monotonic(), time.monotonic()
    with bar:
        task = bar.add_task("", total=None, left="")

        def update(done: int, total: int, share: float, label: str) -> None:
            nonlocal begun, said
            now = time.monotonic()
            if not done:
                begun = now
            left = _duration((now - begun) * (1 - share) / share) if share else "-:--"
            bar.update(task, completed=done, total=total, description=label, left=f"{left} left")
            if not quiet and not console.is_terminal and (now - said > 30 or done == total):
                said = now
                print(f"tds: {done} of {total} jobs, {left} left", file=sys.stderr, flush=True)

        yield update


def _duration(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
