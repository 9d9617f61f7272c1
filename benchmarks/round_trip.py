#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The whole grid: codecs, configurations, k, N, boundaries, on real clips.

For each: every frame comes out once, at its source time, and HR frames are what FFmpeg
decodes from the HR track alone (hash). tests/test_round_trip.py has a part of it.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
CLIPS = ("davis_breakdance", "park_joy_480x256_10f", "jct_KristenAndSara", "jct_Cactus")


def one(job: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """Runs one cell of the grid; "" or what went wrong."""
    import tds
    import test_round_trip
    import tools

    clip, codec, config, scale, group, boundaries = job
    data = Path(os.environ.get("TDS_DATA", ROOT.parent / "shared" / "data"))
    source = data / "eval" / f"{clip}.mkv"
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = tds.encode(
                source, Path(folder) / "o.mp4", codec=codec, config=config, scale=int(scale),
                group=int(group), boundaries=boundaries, qp=37, preset=tools.FASTEST[codec],
                intra_period=16,
            )  # fmt: skip
            test_round_trip.check(source, result)
        except Exception as e:
            return job, f"{type(e).__name__}: {e}"
    return job, ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--clips", nargs="+", default=CLIPS)
    args = parser.parse_args()
    grid = list(
        itertools.product(
            args.clips,
            ("hevc", "vvc"),
            ("ai", "ldp", "ra"),
            ("2", "4"),
            ("3", "5", "7", "11"),
            ("independent", "shared"),
        )
    )
    bad = 0
    with ProcessPoolExecutor(args.workers) as pool:
        for i, (job, fault) in enumerate(pool.map(one, grid), 1):
            if fault:
                bad += 1
                print(f"FAILED {' '.join(job)}: {fault}", flush=True)
            if i % 24 == 0:
                print(f"{i} of {len(grid)} done, {bad} failed", flush=True)
    print(f"{len(grid) - bad} passed, {bad} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
