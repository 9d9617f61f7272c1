# SPDX-License-Identifier: LGPL-2.1-or-later
"""The commands in docs/ffmpeg.md work as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from filter_tools import Program

import tds
import tools

ROOT = Path(__file__).resolve().parent.parent.parent
BLOCK = re.search(
    r"of_the_filter.py runs.*?```sh\n(.*?)```", (ROOT / "docs/ffmpeg.md").read_text(), re.S
)
assert BLOCK
COMMANDS = BLOCK[1].splitlines()


@pytest.fixture(scope="module")
def folder(ffmpeg: Program, city: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the commands name."""
    here = tmp_path_factory.mktemp("docs")
    source = here / "original.mkv"
    tools.ffmpeg("-i", city, "-f", "lavfi", "-i", "sine=d=1", "-vf", "scale=128:72",
                 "-c:v", "ffv1", "-c:a", "aac", source)  # fmt: skip
    tds.encode(source, here / "clip.mp4", codec="hevc", config="ra", preset="ultrafast", plan="tds")
    for track, name in enumerate(("hr.mp4", "lr.mp4")):
        ffmpeg("-copyts", "-i", here / "clip.mp4", "-map", f"0:v:{track}", "-c", "copy",
               "-copyts", "-movie_timescale", 90000, here / name)  # fmt: skip
    return here


def test_there_are_twelve() -> None:
    assert len(COMMANDS) == 12


@pytest.mark.parametrize("command", COMMANDS)
def test_command(ffmpeg: Program, folder: Path, command: str) -> None:
    environment = {
        **ffmpeg.environment,
        "TDS_FILTER_FFMPEG": str(ffmpeg.path),
        "PYTHONPATH": str(Path(tds.__file__).parent.parent),
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
    }
    program = folder / "tds"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tds "$@"\n')
    program.chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", command.replace("tds ffmpeg", "tds ffmpeg -y -nostdin -hide_banner", 1)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    for out in re.findall(r"\b(?:out|part|large|small)\.\w+", command):
        path = folder / out
        assert len(tools.digests(path)) == (10 if out == "part.mp4" else 25)
        path.unlink()
    if "psnr" in command:
        found = re.search(r"average:([\d.]+)", done.stderr)
        assert found and float(found[1]) > 20
