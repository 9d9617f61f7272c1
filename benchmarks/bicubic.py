# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bicubic backend's speed against FFmpeg's own bicubic scaler, same sizes, same threads.

    python benchmarks/bicubic.py [--size 1920x1080] [--frames 300] [--runs 5]

Of the ffmpeg program, the time without the scaler is taken off; of the session,
nothing: sending and receiving from Python is in it. Runs alternate; medians.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import time

import numpy as np

from common import FFMPEG
from tds import Session
from tds._tds import lr_size
from tds.media.planar import pix_fmt_of


def by_session(width: int, height: int, scale: int, depth: int, threads: int, frames: int) -> float:
    lw, lh = lr_size(width, scale), lr_size(height, scale)
    rng = np.random.default_rng(0)
    dtype = np.uint8 if depth == 8 else np.uint16
    sizes = ((lh, lw), (lh // 2, lw // 2), (lh // 2, lw // 2))
    planes = [rng.integers(0, 1 << depth, s).astype(dtype) for s in sizes]
    with Session(width, height, scale, depth, threads=threads) as session:
        session.end("hr")
        start = time.perf_counter()
        for i in range(frames):
            session.send("lr", planes, i)
            session.receive()
        return time.perf_counter() - start


def by_ffmpeg(width: int, height: int, scale: int, depth: int, threads: int, frames: int) -> float:
    size = f"{lr_size(width, scale)}x{lr_size(height, scale)}"
    pix_fmt = pix_fmt_of(depth)

    def run(chain: str) -> float:
        command = [FFMPEG, "-hide_banner", "-benchmark", "-filter_threads", str(threads)]
        source = f"color=gray:s={size}:r=25,format={pix_fmt}"
        command += ["-f", "lavfi", "-i", source, "-frames:v", str(frames), "-vf", chain]
        done = subprocess.run([*command, "-f", "null", "-"], capture_output=True, text=True)
        found = re.search(r"rtime=([\d.]+)", done.stderr)
        assert found, done.stderr
        return float(found[1])

    return run(f"scale={width}:{height}:flags=bicubic:threads={threads}") - run("null")


def main() -> None:
    parser = argparse.ArgumentParser(description="Bicubic up-sampling, engine against FFmpeg.")
    parser.add_argument("--size", default="1920x1080", help="HR width x height (1920x1080)")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    width, height = (int(n) for n in args.size.split("x"))
    print(f"frames a second up to {width}x{height}")
    print("bits  k  threads   engine   ffmpeg   ratio")
    for depth in (8, 10):
        for scale in (2, 4):
            for threads in (1, 2):
                what = (width, height, scale, depth, threads, args.frames)
                taken = [(by_session(*what), by_ffmpeg(*what)) for _ in range(args.runs)]
                ours = args.frames / statistics.median(t for t, _ in taken)
                theirs = args.frames / statistics.median(t for _, t in taken)
                case = f"{depth:4}  {scale}  {threads:7}"
                print(f"{case} {ours:8.0f} {theirs:8.0f} {ours / theirs:7.2f}")


if __name__ == "__main__":
    main()
