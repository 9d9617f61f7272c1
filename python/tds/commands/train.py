# SPDX-License-Identifier: LGPL-2.1-or-later
"""``tds train``: trains a network by a configuration file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..training.trainer import Trainer


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
    p.add_argument(
        "--bundle",
        type=Path,
        metavar="FOLDER",
        help="train nothing; pack all that it takes into files of at most 60 MiB, for a machine "
        "with a graphics card, torch, numpy and PyAV, and no network (docs/training.md)",
    )
    p.add_argument(
        "--bundle-python",
        metavar="VERSION",
        help="that of the machine, as in 3.12 (this one's)",
    )
    p.add_argument(
        "--resume",
        type=Path,
        metavar="FOLDER",
        help="go on from a run that came back from there (its folder, or the checkpoint.pt in it), "
        "if it is further; with --stop-after 0 only take it",
    )
    p.add_argument("--overwrite", action="store_true", help="replace the bundle")
    p.add_argument("--quiet", "-q", action="store_true")
    p.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    from ..bundled import configuration
    from ..errors import InputError
    from ..training import bundle
    from ..training.config import load_config
    from ..training.trainer import Trainer

    config = load_config(configuration(args.config, "training"), args.set)
    out = args.out or (Path(config.out) if config.out else None)
    if out is None:
        raise InputError(f"{args.config} has no `out`; give --out FOLDER")
    trainer = Trainer(config, out, args.quiet)
    if args.resume is not None:
        taken = bundle.take(trainer, args.resume)
        if not args.quiet and trainer.rank == 0:
            which = f"taken as {out}" if taken else f"not taken, {out} is as far"
            print(f"{args.resume} is {which}: step {trainer.step}", file=sys.stderr)
    if args.bundle is not None:
        return _bundle(args, trainer)
    if args.resume is None or args.stop_after != 0:
        trainer.run(args.stop_after)
    return 0


def _bundle(args: argparse.Namespace, trainer: Trainer) -> int:
    from ..training import bundle

    packed = bundle.pack(trainer, args.bundle, args.overwrite, args.bundle_python)
    if not args.quiet:
        mib = (f"{kind} {size / 2**20:.1f}" for kind, size in packed.sizes.items())
        print(
            f"{args.bundle}: {packed.parts} parts of {packed.streams} files, MiB: "
            f"{', '.join(mib)}. There: sh train.sh SECONDS; here, with the folder `run` that it "
            "makes, this command again with --resume run in place of --bundle"
        )
    return 0
