#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""``tds decode --backend bicubic`` against ffmpeg decoding both tracks and scaling LR.

Both write raw pictures to /dev/null, from the same file, in turn, in one run. ffmpeg does
less: it neither pairs nor orders the pictures. Prints medians and their ratio.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import tds
from common import CITY, FFMPEG, alternate, looped


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--size", default="832x480")
    parser.add_argument("--codec", choices=("hevc", "vvc"), default="hevc")
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = looped(CITY, Path(folder) / "source.mkv", args.frames, args.size)
        preset = {"hevc": "ultrafast", "vvc": "faster"}[args.codec]
        paired = Path(folder) / "paired.mp4"
        tds.encode(source, paired, codec=args.codec, preset=preset, qp=32, boundaries="shared")
        ours = [sys.executable, "-m", "tds", "decode", str(paired), "/dev/null", "--format", "yuv"]
        ours += ["--backend", "bicubic", "--quiet", "--overwrite"]
        size = args.size.replace("x", ":")
        theirs = [FFMPEG, "-nostdin", "-loglevel", "error", "-y", "-i", str(paired)]
        theirs += ["-map", "0:v:0", "-fps_mode", "passthrough", "-f", "rawvideo", "/dev/null"]
        theirs += ["-map", "0:v:1", "-vf", f"scale={size}:flags=bicubic"]
        theirs += ["-fps_mode", "passthrough", "-f", "rawvideo", "/dev/null"]
        a, b = alternate(
            lambda: subprocess.run(ours, check=True),
            lambda: subprocess.run(theirs, check=True),
            args.runs,
        )
    print(f"{args.codec} AI QP 32, {args.size}, {args.frames} frames, whole processes, median:")
    print(f"  tds decode --backend bicubic  {a:6.2f} s  {args.frames / a:7.1f} frames/s")
    print(f"  ffmpeg, both tracks, scaled   {b:6.2f} s  {args.frames / b:7.1f} frames/s")
    print(f"  speed of tds against ffmpeg   {b / a:6.2f}  (wanted: 0.8 or more)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
