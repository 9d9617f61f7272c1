#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Peak resident memory of ``tds decode`` on 600 frames against 60 frames of the same size."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from common import CITY, looped


def peak(command: list[str]) -> int:
    """Kilobytes, as the operating system counted for the finished process."""
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command} failed")
    return usage.ru_maxrss


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="832x480")
    parser.add_argument("--config", default="ai")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--decode", nargs=argparse.REMAINDER, default=["--backend", "bicubic"],
                        help="arguments for tds decode, last")  # fmt: skip
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        peaks = {}
        for frames in (60, 600):
            source = looped(CITY, Path(folder) / f"{frames}.mkv", frames, args.size)
            out = Path(folder) / f"{frames}.mp4"
            # In a process of its own: a child's peak counts what its parent held when it began.
            encode = [
                sys.executable,
                "-m",
                "tds",
                "encode",
                str(source),
                str(out),
                "--quiet",
                "--plan",
                "tds",
            ]
            encode += ["--codec", "hevc", "--config", args.config, "--preset", "ultrafast"]
            subprocess.run(encode, check=True)
            command = [sys.executable, "-m", "tds", "decode", str(out), "/dev/null", "--format"]
            command += ["yuv", "--quiet", "--overwrite", *args.decode]
            peaks[frames] = statistics.median(peak(command) for _ in range(args.runs))
    print(f"hevc {args.config} {args.size}, tds decode {' '.join(args.decode)}, peak resident:")
    for frames, kilobytes in peaks.items():
        print(f"  {frames:4d} frames  {kilobytes / 1024:7.1f} MiB")
    print(f"  ratio        {peaks[600] / peaks[60]:7.3f}  (wanted: 1.05 or less)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
