# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs the FFmpeg under test and reads what it made."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import tds
import tools

BICUBIC = "tds_enhance=backend=bicubic"
# The filter's own times, not those rounded to a frame rate.
EXACT = ("-fps_mode", "passthrough", "-enc_time_base", "filter")

Frames = list[tuple[Fraction, str]]


@dataclass(frozen=True)
class Ran:
    """What one run of ffmpeg said (log) and did (status)."""

    status: int
    log: str
    output: str


@dataclass(frozen=True)
class Program:
    """The ffmpeg that ffmpeg_filter/build made."""

    path: Path
    environment: dict[str, str]

    def __call__(self, *arguments: Any, status: int | None = 0, **variables: str) -> Ran:
        """Runs it. No run may hang; ``status`` None: anything but success."""
        done = subprocess.run(
            [self.path, "-hide_banner", "-nostdin", "-v", "warning", "-y", *map(str, arguments)],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=120,
            env={**self.environment, **variables},
        )
        assert done.returncode >= 0, f"killed by signal {-done.returncode}\n{done.stderr}"
        if status is None:
            assert done.returncode != 0, done.stderr
        else:
            assert done.returncode == status, done.stderr
        return Ran(done.returncode, done.stderr, done.stdout)

    def frames(self, *arguments: Any, **variables: str) -> Frames:
        """(time in seconds, MD5 of the samples) of each frame, in the framemd5 format."""
        return framemd5(self(*arguments, *EXACT, "-an", "-f", "framemd5", "-", **variables).output)

    def probe(self, *arguments: Any) -> str:
        done = subprocess.run(
            [self.path.with_name("ffprobe"), "-v", "error", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
            env=self.environment,
        )
        return done.stdout


def framemd5(text: str) -> Frames:
    base = re.search(r"^#tb 0: (\S+)$", text, re.M)
    assert base, text
    rows = [line.split(",") for line in text.splitlines() if line and line[0] != "#"]
    return [(int(row[2]) * Fraction(base[1]), row[5].strip()) for row in rows]


def decoded(path: Path, **settings: Any) -> Frames:
    """The same of the Python decoder: what the filter has to give."""
    settings.setdefault("backend", "bicubic")
    with tds.decode(path, **settings) as pictures:
        return [(p.pts * pictures.time_base, tools.digest(p.planes)) for p in pictures]


def retagged(ffmpeg: Program, source: Path, out: Path, tag: str | None) -> Path:
    """A copy of a file with another text in its tag ``tds``, or without the tag."""
    given = ("-movflags", "use_metadata_tags", "-metadata", f"tds={tag}") if tag else ()
    ffmpeg("-i", source, "-map", 0, "-c", "copy", *given, out)
    return out


def tag_of(ffmpeg: Program, path: Path, **changes: Any) -> str:
    """The text of a file's tag ``tds``, with some values changed."""
    text = ffmpeg.probe("-show_entries", "format_tags=tds", "-of", "default=nw=1:nk=1", path)
    return json.dumps({**json.loads(text), **changes})


Coded = Callable[..., tds.EncodeResult]
