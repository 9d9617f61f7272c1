# SPDX-License-Identifier: LGPL-2.1-or-later
"""``tds train``: trains a network by a configuration file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    p = subparsers.add_parser(
        "train",
        help="train a network by a configuration file",
        description="Train by a YAML configuration. A run that was stopped or killed goes on "
        "from its last checkpoint when started again. Under torchrun it uses all processes.",
    )
    p.add_argument(
        "config", type=Path, help="a YAML file (docs/training.md), or the name of one that comes "
        "along (standard-k1, ...)"
    )  # fmt: skip
    p.add_argument("--out", "-o", type=Path, help="the run's folder (the configuration's `out`)")
    p.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="overrides the configuration, as in optimizer.batch=4; may be repeated",
    )
    p.add_argument("--stop-after", type=int, metavar="STEP", help="end after so many steps in all")
    p.add_argument("--quiet", "-q", action="store_true")
    p.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    from ..bundled import configuration
    from ..errors import InputError
    from ..training.config import load_config
    from ..training.trainer import Trainer

    config = load_config(configuration(args.config, "training"), args.set)
    out = args.out or (Path(config.out) if config.out else None)
    if out is None:
        raise InputError(f"{args.config} has no `out`; give --out FOLDER")
    Trainer(config, out, args.quiet).run(args.stop_after)
    return 0
