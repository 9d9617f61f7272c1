# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the benchmarks share: sources, and timing two things in turn."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
CITY = Path(__file__).resolve().parent.parent / "tests" / "data" / "city.mkv"


def looped(source: Path, out: Path, frames: int, size: str) -> Path:
    """``source`` played again and again up to ``frames`` frames, scaled to ``size``, lossless."""
    command = [FFMPEG, "-nostdin", "-loglevel", "error", "-y", "-stream_loop", "-1", "-i", source]
    command += ["-frames:v", str(frames), "-vf", f"scale={size.replace('x', ':')},setpts=N/25/TB"]
    subprocess.run([*command, "-c:v", "ffv1", out], check=True)
    return out


def alternate(
    first: Callable[[], object], second: Callable[[], object], runs: int
) -> tuple[float, float]:
    """Median seconds of two calls, made in turn after one warm-up of each: the machine's
    speed may drift, and then drifts for both."""
    taken: tuple[list[float], list[float]] = ([], [])
    for i in range(runs + 1):
        for call, times in zip((first, second), taken, strict=True):
            start = time.perf_counter()
            call()
            if i:
                times.append(time.perf_counter() - start)
    return statistics.median(taken[0]), statistics.median(taken[1])
