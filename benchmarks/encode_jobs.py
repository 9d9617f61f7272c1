#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What two workers of `tds encode` save, and what a run that was killed does again.

    python benchmarks/encode_jobs.py --kills 10 --out docs/encoding.md

The bundled clip, forwards and backwards up to --frames frames at 240x136, is coded by libx265 and
measured by `fast`, in segments of 32 frames. First with one worker and with two in turn; then it is
killed (SIGKILL) at random moments, called again, and the file compared with that of an undisturbed
run.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from common import CITY, FFMPEG, alternate

MARK = re.compile(r"(<!-- made by benchmarks/encode_jobs.py -->\n).*?(\n<!-- end -->)", re.S)
COMMAND = [sys.executable, "-m", "tds", "encode", "--overwrite", "--codec", "hevc", "--qp", "37"]
COMMAND += [
    "--preset",
    "ultrafast",
    "--model",
    "fast",
    "--effort",
    "1",
    "--progress",
    "none",
    "-vv",
]


def source(folder: Path, frames: int) -> Path:
    out = folder / "in.mkv"
    graph = (
        f"scale=240:136,split[a][b];[b]reverse[b];[a][b]concat,loop=-1:50,trim=end_frame={frames}"
    )
    command = [FFMPEG, "-nostdin", "-v", "error", "-y", "-i", CITY]
    subprocess.run([*command, "-vf", f"{graph},setpts=N/25/TB", "-c:v", "ffv1", out], check=True)
    return out


def run(clip: Path, out: Path, workers: int, kill_after: float | None = None) -> dict[int, str]:
    """What was said of each segment last: "begins", "measured", or "done before"."""
    said: dict[int, str] = {}
    command = [*COMMAND, "--workers", str(workers), str(clip), str(out)]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        try:
            process.wait(kill_after)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        else:
            if process.returncode:
                log.seek(0)
                raise SystemExit(log.read())
        log.seek(0)
        for line in log:
            if found := re.search(r"segment (\d+) .*: (begins|measured|done before)", line):
                said[int(found[1])] = found[2]
    return said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=192, help="of the source (192: 6 segments)")
    parser.add_argument("--runs", type=int, default=3, help="of one and of two workers (3)")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="the page (.md) to write the table into")
    args = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip, out = source(folder, args.frames), folder / "out.mp4"
        segments = len(run(clip, out, 2))
        one, two = alternate(lambda: run(clip, out, 1), lambda: run(clip, out, 2), args.runs)
        print(f"one worker {one:.1f} s, two {two:.1f} s: {one / two:.2f} times", flush=True)
        whole = out.read_bytes()
        moments = random.Random(args.seed)
        lines = [
            "| killed after | measured by then | measured again | bytes |",
            "|---|---|---|---|",
        ]
        for _ in range(args.kills):
            out.unlink()
            after = moments.uniform(0, two)
            before = run(clip, out, 2, after)
            if out.exists():
                measured, again = "all, and the file was there", ""
            else:
                later = run(clip, out, 2)
                done = {i for i, last in before.items() if last == "measured"}
                under_way = sum(last == "begins" for last in before.values())
                measured = f"{len(done)}, {under_way} under way"
                lost = sum(later[i] != "done before" for i in done)
                again = f"{lost} of the {len(done)}"
            same = "the same" if out.read_bytes() == whole else "**others**"
            left = [
                path.name for path in folder.iterdir() if path.name not in ("in.mkv", "out.mp4")
            ]
            same += f", and {', '.join(left)}" if left else ""
            lines.append(f"| {after:.1f} s | {measured} | {again} | {same} |")
            print(lines[-1], flush=True)
    text = (
        f"{args.frames} frames in {segments} segments, {os.cpu_count()} cores: one worker "
        f"{one:.1f} s, "
        f"two {two:.1f} s, {one / two:.2f} times as fast.\n\n" + "\n".join(lines)
    )
    if args.out is not None:
        page = args.out.read_text(encoding="utf-8")
        args.out.write_text(MARK.sub(lambda m: m[1] + text + m[2], page), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
