# SPDX-License-Identifier: LGPL-2.1-or-later
"""``tds mux``: two raw streams and their sidecar as one paired file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..container.annexb import mux_raw_pair, raw_paths
from ..container.sidecar import read_sidecar
from ..files import check_output
from ._arguments import add_form, add_overwrite, remark


def add_parser(subparsers: Any) -> None:
    p = subparsers.add_parser(
        "mux",
        help="two raw streams and their sidecar as one file",
        description="Mux a pair of raw streams (.266, .265 or .264, from VTM, HM or tds encode) "
        "into one file. The streams hold no times; the sidecar gives them back.",
    )
    p.add_argument("sidecar", help="JSON or YAML file with the plan (docs/container.md)")
    p.add_argument("output", help="the file to write: .mp4, .mkv or .ts")
    p.add_argument("--hr", help="the HR stream (default: NAME.hr.266 or .265 beside NAME.json)")
    p.add_argument("--lr", help="the LR stream, likewise")
    group = p.add_argument_group("output")
    add_form(group)
    add_overwrite(group)
    p.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    sidecar = Path(args.sidecar)
    metadata = read_sidecar(sidecar)
    check_output(args.output, args.overwrite, [sidecar])
    hr, lr = args.hr, args.lr
    if hr is None or lr is None:
        beside = raw_paths(sidecar, metadata.codec)
        hr, lr = hr or beside[0], lr or beside[1]
    result = mux_raw_pair(
        Path(hr), Path(lr), metadata, args.output, args.overwrite, format=args.format
    )
    remark(args, f"{args.output}: {result[0]} HR and {result[1]} LR pictures")
    return 0
