#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `tds encode --plan auto` saves against the plain stream, whole stream, luma BD-rate by clip.

    python benchmarks/auto_plan.py --model standard --out docs/auto-gain.md
    python benchmarks/auto_plan.py --clips jct_RaceHorses vid4_foliage --efforts 1 2 3

Every clip is coded by auto at each QP. Bits and errors are those that the encoder measured of the
plain stream and of what it chose, which a decoder shows with the same model
(tests/test_encoding.py). Points are kept in --work and not made again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import tds
from tds.evaluation.bd import bd_rate, mean_over_clips
from tds.files import sha256_of_text, whole_file

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("TDS_DATA", ROOT.parent / "shared" / "data"))
CLIPS = ("jct_BasketballPass", "jct_RaceHorses", "vid4_foliage", "park_joy_480x256_10f")


def point(clip: str, work: Path, **options: Any) -> dict[str, Any]:
    """(bits, mean PSNR) of the plain stream and of the chosen one, and what was chosen."""
    kept = work / f"{sha256_of_text(repr((clip, sorted(options.items()))))[:24]}.json"
    if kept.is_file():
        found: dict[str, Any] = json.loads(kept.read_text())
        return found
    path = Path(clip) if Path(clip).exists() else DATA / "eval" / f"{clip}.mkv"
    begun = time.perf_counter()
    result = tds.encode(path, work / "o.mp4", overwrite=True, plan="auto", **options)
    choice, m = result.choice, result.metadata
    assert choice is not None
    peak = ((1 << m.bit_depth) - 1) ** 2 * m.width * m.height

    def of(bits: str, error: str) -> list[float]:
        quality = [10 * math.log10(peak / max(1, f[error])) for f in choice.frames]
        return [sum(f[bits] for f in choice.frames), sum(quality) / len(quality)]

    value = {
        "plain": of("plain_bits", "plain_error"),
        "auto": of("bits", "error"),
        "chosen": choice.chosen,
        "groups": m.groups,
        "seconds": round(time.perf_counter() - begun, 1),
    }
    with whole_file(kept, overwrite=True) as beside:
        beside.write_text(json.dumps(value))
    return value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", nargs="+", default=CLIPS)
    parser.add_argument("--qps", nargs="+", type=int, default=[27, 32, 37, 42])
    parser.add_argument("--efforts", nargs="+", type=int, default=[2])
    parser.add_argument("--codec", default="hevc")
    parser.add_argument("--config", default="ai")
    parser.add_argument("--preset")
    parser.add_argument("--model", default="standard")
    parser.add_argument("--work", type=Path, default=ROOT / "out" / "auto")
    parser.add_argument("--out", type=Path, help="the table in Markdown, with the command")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    lines = [
        "| clip | effort | BD-rate | " + " | ".join(f"QP {qp}" for qp in args.qps) + " | seconds |",
        "|---|---|---|" + "---|" * len(args.qps) + "---|",
    ]
    for effort in args.efforts:
        deltas = []
        for clip in args.clips:
            options = {"codec": args.codec, "config": args.config, "preset": args.preset}
            points = [
                point(clip, args.work, qp=qp, effort=effort, model=args.model, **options)
                for qp in args.qps
            ]
            delta = bd_rate([p["plain"] for p in points], [p["auto"] for p in points])
            deltas.append(delta.value)
            cells = [p["chosen"] for p in points]
            seconds = sum(p["seconds"] for p in points)
            lines.append(
                f"| {Path(clip).stem} | {effort} | {delta.value:+.1f} % | {' | '.join(cells)} | "
                f"{seconds:.0f} |"
            )
            print(lines[-1], flush=True)
        mean = mean_over_clips(deltas)
        empty = " | " * len(args.qps)
        lines.append(f"| **mean of {mean.clips}** | {effort} | **{mean.value:+.1f} %** | {empty}|")
        print(lines[-1], flush=True)
    if args.out is not None:
        told = shlex.join(["python", "benchmarks/auto_plan.py", *sys.argv[1:]])
        args.out.write_text("\n".join([f"`{told}`", "", *lines]) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
