#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Does training work: `fast` from nothing for ten minutes gains more than 1.5 dB at QP 32.

    python benchmarks/training_start.py [--minutes 10]

Makes a small all-intra HEVC data set from the training clips (if it is not there), trains with
the shipped configuration, and validates on the clips that it holds out. Exits with 1 when the
gain is not reached.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("TDS_DATA", ROOT.parent / "shared" / "data")) / "train"
WANTED = 1.5


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--minutes", type=float, default=10.0)
    p.add_argument("--work", type=Path, default=ROOT / "out" / "training-start")
    args = p.parse_args()
    if not DATA.is_dir():
        print(f"skipped: no training clips in {DATA}; set TDS_DATA", file=sys.stderr)
        return 0
    tds = [sys.executable, "-m", "tds"]
    data, run = args.work / "data", args.work / "run"
    make = [*tds, "dataset", DATA, "-o", data, "--group", "1", "--qp", "27", "32", "37", "42"]
    subprocess.run([*make, "--preset", "veryfast", "--quiet"], check=True)
    (run / "checkpoint.pt").unlink(missing_ok=True)  # else it would go on from there
    train = [*tds, "train", ROOT / "configs" / "training" / "fast-k2.yaml", "--out", run]
    for setting in (
        f"data.folders=[{data}]",
        f"data.cache={args.work / 'cache'}",
        f"optimizer.minutes={args.minutes}",
        "validation.every=1000000",
    ):
        train += ["--set", setting]
    subprocess.run(train, check=True)
    with (run / "validation.csv").open() as file:
        gains = {int(r["qp"]): float(r["gain"]) for r in csv.DictReader(file)}
    print(", ".join(f"QP {qp}: {gain:+.2f} dB" for qp, gain in sorted(gains.items())))
    return 0 if gains[32] > WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
