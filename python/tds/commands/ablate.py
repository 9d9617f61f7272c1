# SPDX-License-Identifier: LGPL-2.1-or-later
"""``tds ablate``: variants of a network, trained alike, side by side."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    p = subparsers.add_parser(
        "ablate",
        help="train variants of a network alike, several seeds each, and compare them",
        description="Train every variant of a configuration with every seed, for the same steps on "
        "the same samples, and write what each gains on the clips held out, as means over seeds "
        "with intervals. Runs that are done are kept; one that was stopped goes on.",
    )
    p.add_argument(
        "config", type=Path, help="a YAML file (docs/training.md), or the name of one that comes "
        "along (mtsa)"
    )  # fmt: skip
    p.add_argument("--out", "-o", type=Path, help="the folder (the configuration's `out`)")
    p.add_argument("--steps", type=int, help="of every run, in place of the configuration's")
    p.add_argument("--seeds", type=int, nargs="+", help="in place of the configuration's")
    p.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="of the training, as `tds train` takes it; may be repeated",
    )
    p.add_argument("--quiet", "-q", action="store_true")
    p.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from ..bundled import configuration
    from ..errors import InputError
    from ..training.ablation import ablate, load_ablation

    ablation = load_ablation(configuration(args.config, "ablation"))
    changes: dict[str, Any] = {"set": [*ablation.set, *args.set]}
    if args.steps is not None:
        if args.steps < 1:
            raise InputError("--steps is 1 or more")
        changes["steps"] = args.steps
    if args.seeds:
        changes["seeds"], changes["seeds_of"] = args.seeds, {}
    ablation = replace(ablation, **changes)
    out = args.out or (Path(ablation.out) if ablation.out else None)
    if out is None:
        raise InputError(f"{args.config} has no `out`; give --out FOLDER")

    def say(text: str) -> None:
        if not args.quiet:
            print(f"tds: {text}", file=sys.stderr, flush=True)

    if not ablate(ablation, out, say, args.quiet):
        say("stopped; the same command goes on from here")
        return 130
    print((out / "ablation.md").read_text(), end="")
    print(f"Written: {out / 'ablation.md'}, and ablation.json beside it")
    return 0
