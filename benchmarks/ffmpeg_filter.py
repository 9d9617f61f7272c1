#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The ffmpeg filter against what it replaces, side by side on one build.

    python benchmarks/ffmpeg_filter.py [--frames 150] [--model FILE]

1. ``-vf tds_enhance=backend=bicubic`` against the same ffmpeg decoding both tracks and scaling
   LR with ``scale=flags=bicubic``, null output, 1080p. Wanted: at least 0.8 of its speed.
2. The filter with a TorchScript model against the Python decoder with the same model: the same
   pixels, in at most 1.05 times its processor time, each as a process of its own from its start.
   By processor time, since seconds by the clock say little on a machine that does other work.
   Without --model, with `fast`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import tds
from common import CITY, alternate, looped
from tds.commands.ffmpeg import find

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "models" / "fast-k2.safetensors"
SLOWER = 1.05  # the filter's time over Python's, at most

DECODE = """
import sys, tds
with tds.decode(sys.argv[1], model=sys.argv[2], device=sys.argv[3]) as pictures:
    for picture in pictures:
        pass
"""


def run(*arguments: object) -> bytes:
    command = [find(), "-hide_banner", "-nostdin", "-v", "error", *arguments]
    return subprocess.run([str(a) for a in command], check=True, stdout=subprocess.PIPE).stdout


def against_scale(pair: Path, frames: int, runs: int) -> bool:
    scale = "[0:v:0]null[a];[0:v:1]scale=1920:1080:flags=bicubic[b]"
    null = ("-fps_mode", "passthrough", "-enc_time_base", "filter", "-f", "null", "-")
    filtered, scaled = alternate(
        lambda: run("-i", pair, "-vf", "tds_enhance=backend=bicubic", *null),
        lambda: run("-i", pair, "-filter_complex", scale, "-map", "[a]", "-map", "[b]", *null),
        runs,
    )
    ratio = scaled / filtered
    print(f"1080p, {frames} frames, bicubic: tds_enhance {frames / filtered:.1f} fps, decode and "
          f"scale {frames / scaled:.1f} fps; ratio {ratio:.2f} (wanted: 0.80 or more)")  # fmt: skip
    return ratio >= 0.8


def processor_time(call: Callable[[], object]) -> float:
    """Seconds of processor time that the processes a call starts and awaits take."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    call()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def against_python(pair: Path, frames: int, model: Path, device: str, runs: int) -> bool:
    def by_filter(output: tuple[str, ...] = ("-f", "null", "-")) -> bytes:
        graph = f"tds_enhance=model={model}:device={device}"
        return run("-i", pair, "-vf", graph, "-an", *output)

    def by_python() -> None:
        subprocess.run([sys.executable, "-c", DECODE, pair, model, device], check=True)

    md5 = hashlib.md5()
    with tds.decode(pair, model=str(model), device=device) as pictures:
        for picture in pictures:
            for plane in picture.planes:
                md5.update(plane.tobytes())
    same = md5.hexdigest() in by_filter(("-f", "md5", "-")).decode()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        for call, taken in zip((by_filter, by_python), times, strict=True):
            taken.append(processor_time(call))
    filtered, python = (statistics.median(taken) for taken in times)
    ratio = filtered / python
    print(f"{model.name} on {device}, {frames} frames, processor time: tds_enhance "
          f"{filtered:.2f} s, Python {python:.2f} s; ratio {ratio:.2f} (wanted: {SLOWER} or "
          f"less); same pixels: {'yes' if same else 'NO'}")  # fmt: skip
    return same and ratio <= SLOWER


def exported(folder: Path) -> Path:
    """The repository's ``fast`` as an archive."""
    out = folder / "fast-k2.pt"
    subprocess.run([sys.executable, "-m", "tds", "export", MODEL, "--out", out], check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    return out


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--model", type=Path, help="a TorchScript archive for k = 2")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    # Threads of torch that wait burn processor time (24 s for 1.6 s of work on a busy machine).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    print(f"{os.cpu_count()} processors;", run("-version").decode().splitlines()[0])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        large = looped(CITY, folder / "large.mkv", args.frames, "1920x1080")
        options = {"codec": "hevc", "config": "ra", "qp": 37, "preset": "ultrafast"}
        options["plan"] = "tds"
        pair = tds.encode(large, folder / "large.mp4", **options).path  # type: ignore[arg-type]
        ok = against_scale(pair, args.frames, args.runs)
        small = looped(CITY, folder / "small.mkv", args.frames, "416x240")
        pair = tds.encode(small, folder / "small.mp4", **options).path  # type: ignore[arg-type]
        model = args.model or exported(folder)
        ok = against_python(pair, args.frames, model, args.device, args.runs) and ok
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
