# SPDX-License-Identifier: LGPL-2.1-or-later
"""The filter reads and writes nothing that is not there, and leaves nothing behind."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from filter_tools import BICUBIC, Coded, Program

import tools

# What docs/ffmpeg.md gives.
VALGRIND = ("valgrind", "--leak-check=full", "--errors-for-leak-kinds=definite,indirect,possible",
            "--error-exitcode=9")  # fmt: skip


@pytest.mark.skipif(not shutil.which("valgrind"), reason="there is no valgrind")
@pytest.mark.parametrize("cut", [(), ("-ss", "0.48", "-t", "1.2")], ids=["whole", "part"])
def test_valgrind(
    ffmpeg: Program, city: Path, coded: Coded, tmp_path: Path, cut: tuple[str, ...]
) -> None:
    """60 frames: no error and no leak. Without a model, since torch has reports of its own."""
    source = tmp_path / "source.mkv"
    tools.ffmpeg("-stream_loop", -1, "-i", city, "-vf", "scale=128:72,setpts=N/25/TB",
                 "-frames:v", 60, "-c:v", "ffv1", source)  # fmt: skip
    path = coded(source, config="ra", intra_period=8).path
    done = subprocess.run(
        [*VALGRIND, ffmpeg.path, "-v", "error", "-nostdin", *cut, "-i", path, "-vf", BICUBIC,
         "-f", "framemd5", "-"],
        capture_output=True, text=True, check=False, timeout=300, env=ffmpeg.environment,
    )  # fmt: skip
    assert done.returncode == 0 and "ERROR SUMMARY: 0 errors" in done.stderr, done.stderr
    assert len(re.findall(r"^0,", done.stdout, re.M)) == (30 if cut else 60)


def test_memory_while_seeking(ffmpeg: Program, tmp_path: Path) -> None:
    """LR frames that come while the start is looked for do not pile up: 230 MB of them here."""
    path = tmp_path / "long.mkv"
    ffmpeg("-f", "lavfi", "-i", "color=s=640x384:r=5:d=100", "-f", "lavfi", "-i",
           "color=s=320x192:r=25:d=100", "-map", 0, "-map", 1, "-c:v", "ffv1", path)  # fmt: skip

    def peak(options: str) -> int:
        ran = ffmpeg("-v", "info", "-benchmark", "-i", path, "-vf", BICUBIC + options,
                     "-f", "null", "-")  # fmt: skip
        found = re.search(r"maxrss=(\d+)KiB", ran.log)
        assert found
        return int(found[1])

    assert peak(":start_time=95") < peak(":duration=5") + 100_000
