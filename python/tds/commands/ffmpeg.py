# SPDX-License-Identifier: LGPL-2.1-or-later
"""``tds ffmpeg``: the FFmpeg that was built with the tds_enhance filter."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from ..errors import MissingError


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "ffmpeg",
        help="run the ffmpeg that has the tds_enhance filter",
        description="Runs the ffmpeg that ffmpeg_filter/build made, with all arguments handed "
        "on: tds ffmpeg -i clip.mp4 -vf tds_enhance out.mp4. It is looked for at "
        "$TDS_FILTER_FFMPEG, in build/ffmpeg/current of the source tree and of the current "
        "folder, and on PATH.",
        add_help=False,
        prefix_chars="\0",
    )
    parser.add_argument("arguments", nargs="*", help="of ffmpeg")
    parser.set_defaults(func=run)


def find() -> Path:
    """The program. Raises MissingError when there is none with the filter."""
    if given := os.environ.get("TDS_FILTER_FFMPEG"):
        if not os.access(given, os.X_OK):
            raise MissingError(f"{given}: TDS_FILTER_FFMPEG names no program")
        return Path(given)
    for root in (Path(__file__).resolve().parents[3], Path.cwd()):
        program = root / "build" / "ffmpeg" / "current" / "bin" / "ffmpeg"
        if program.is_file():
            return program
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        program = Path(folder) / "ffmpeg"
        if folder and os.access(program, os.X_OK) and _has_filter(program):
            return program
    raise MissingError(
        "no ffmpeg with the tds_enhance filter is here; build it with ffmpeg_filter/build in the "
        "source tree, or name one with TDS_FILTER_FFMPEG"
    )


def _has_filter(program: Path) -> bool:
    try:
        done = subprocess.run(
            [program, "-hide_banner", "-filters"], capture_output=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return b" tds_enhance " in done.stdout


def run(args: argparse.Namespace) -> int:
    program = find()
    sys.stdout.flush()
    # In our place: signals, the terminal and the exit status are ffmpeg's own.
    os.execv(program, [str(program), *args.arguments])
