# SPDX-License-Identifier: LGPL-2.1-or-later
"""Small pairs of every encoder in every container, for the tests of all readers; and those of
the ffmpeg program alone."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import tds
import tools
from tds.container.forms import FORMS

RATE = Fraction(30000, 1001)
FRAMES = 11
FASTEST = {"libx264": "ultrafast", "libx265": "ultrafast", "libvvenc": "faster", "libsvtav1": "12"}
SUFFIX = {"mp4": ".mp4", "fmp4": ".mp4", "mkv": ".mkv", "ts": ".ts"}

# Every encoder in every container that holds its codec, and every configuration in each.
GRID = [
    ("libx264", "mp4", "ra"),
    ("libx264", "fmp4", "ai"),
    ("libx264", "mkv", "ldp"),
    ("libx264", "ts", "ra"),
    ("libx265", "mp4", "ai"),
    ("libx265", "fmp4", "ra"),
    ("libx265", "mkv", "ra"),
    ("libx265", "ts", "ldp"),
    ("libvvenc", "mp4", "ldp"),
    ("libvvenc", "fmp4", "ra"),
    ("libvvenc", "mkv", "ra"),
    ("libvvenc", "ts", "ai"),
    ("libsvtav1", "mp4", "ra"),
    ("libsvtav1", "fmp4", "ldp"),
    ("libsvtav1", "mkv", "ai"),
]


@dataclass(frozen=True)
class Written:
    form: str
    result: tds.EncodeResult

    @property
    def times(self) -> list[Fraction]:
        """Of the source's frames, as this container's clock has them."""
        tick = next(form.tick for form in FORMS if form.name == self.form)
        exact = [i / RATE for i in range(FRAMES)]
        return exact if tick is None else [round(time / tick) * tick for time in exact]


def encode(small: Path, folder: Path, encoder: str, form: str, config: str) -> Written:
    """The first pictures of ``small``, at a rate that few clocks hold, in ``folder``."""
    raw = tools.raw_yuv(folder / "in.yuv", small, FRAMES)
    result = tds.encode(
        *(raw, folder / f"out{SUFFIX[form]}"), raw=tds.RawFormat((128, 72), RATE), format=form,
        encoder=encoder, config=config, preset=FASTEST[encoder], intra_period=6, scene_cut=0,
        plan="tds",
    )  # fmt: skip
    return Written(form, result)


PAGE = Path(__file__).resolve().parent.parent / "docs" / "pair-with-ffmpeg.md"
BLOCK = re.search(r"runs this block.*?```sh\n(.*?)```", PAGE.read_text(), re.S)
assert BLOCK
PLAIN = BLOCK[1]
"""The command of docs/pair-with-ffmpeg.md: pair.mp4 of in.mp4."""


def run(folder: Path, command: str) -> None:
    """As a shell runs it, with the ffmpeg that comes with imageio-ffmpeg."""
    program = folder / "ffmpeg"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(tools.FFMPEG)} -v error -nostdin "$@"\n')
    program.chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
