# SPDX-License-Identifier: LGPL-2.1-or-later
"""``tds package``: a TDS file as HLS and DASH."""

from __future__ import annotations

import argparse
from typing import Any

from ..container.manifests import MANIFEST, MASTER
from ..container.segments import package
from ..media.opening import wait_at_most
from ._arguments import add_overwrite, add_timeout, remark


def add_parser(subparsers: Any) -> None:
    p = subparsers.add_parser(
        "package",
        help="a TDS file as HLS and DASH, for a web server",
        description="Cut a file of tds encode into segments, copied as they are, with an HLS "
        f"playlist ({MASTER}) and a DASH manifest ({MANIFEST}) over them: HR, LR and sound as a "
        "track each. A plain player shows HR; tds decode and the filter play both.",
    )
    p.add_argument("input", help="a file written by tds encode, or any pair")
    p.add_argument("output", metavar="folder", help="the folder to write")
    p.add_argument(
        "--seconds",
        type=float,
        default=2.0,
        metavar="S",
        help="a segment lasts so long, and on to where the next group begins (default 2)",
    )
    add_timeout(p)
    add_overwrite(p.add_argument_group("output"))
    p.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    wait_at_most(args.timeout)
    done = package(args.input, args.output, args.seconds, args.overwrite)
    for notice in done.notices:
        remark(args, notice)
    many = f"{done.segments} segment{'s' * (done.segments != 1)} a track"
    longest = f"the longest {done.seconds:.2f} s"
    remark(args, f"{args.output}: {MASTER} and {MANIFEST}, {many}, {longest}")
    return 0
