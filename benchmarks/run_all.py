#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs the benchmarks one after the other, each side by side in one run (``make bench``).

Machines differ and drift: read the ratios, not the seconds.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tds.commands.ffmpeg import find
from tds.errors import MissingError

HERE = Path(__file__).resolve().parent
# Minutes each on two cores; the long ones (round_trip.py, ...) are run by name.
QUICK = ("engine_overhead.py", "memory.py", "decode_speed.py", "training_start.py")


def chosen() -> tuple[str, ...]:
    """The quick ones, and that of the filter where an ffmpeg is built."""
    try:
        find()
    except MissingError:
        return QUICK
    return (*QUICK, "ffmpeg_filter.py")


def main() -> int:
    failed = []
    for name in chosen():
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, HERE / name], check=False).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
