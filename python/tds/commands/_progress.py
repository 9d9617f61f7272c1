# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bar that commands show. Rich is slow to load: what is to start soon imports this late."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class _Rate(ProgressColumn):
    """Frames a second so far."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} fps" if speed else "- fps", style="progress.data.speed")


@contextmanager
def progress_lines(what: str) -> Iterator[Callable[[int, int], None]]:
    """A line of JSON on standard error each half second at most, and the last: what, done, total
    (0: not known), seconds so far, seconds_left (null: not known)."""
    begun = time.monotonic()
    said, last = -math.inf, (0, 0)

    def say(done: int, total: int) -> None:
        seconds = time.monotonic() - begun
        left = seconds * (total - done) / done if done and total >= done else None
        line = {
            "what": what,
            "done": done,
            "total": total,
            "seconds": round(seconds, 2),
            "seconds_left": None if left is None else round(left, 2),
        }
        print(json.dumps(line), file=sys.stderr, flush=True)

    def update(done: int, total: int) -> None:
        nonlocal said, last
        last = done, total
        if time.monotonic() - said >= 0.5:
            said = time.monotonic()
            say(done, total)

    yield update
    say(*last)


@contextmanager
def progress_bar(what: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar with rate and time left on standard error; nothing when it is no terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, disable=quiet or not console.is_terminal, transient=True
    ) as bar:
        task = bar.add_task(what, total=None)

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total or None)

        yield update
