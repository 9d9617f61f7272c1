# SPDX-License-Identifier: LGPL-2.1-or-later
"""When the pictures of two files are shown: arguments of the commands that pair files."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..container.metadata import Metadata
from ..container.sidecar import read_sidecar
from ..media.sources import parse_rate
from ..plan import Boundaries
from ..two_files import RegularPlan


def add_times(parser: argparse.ArgumentParser, title: str) -> argparse._ArgumentGroup:
    """A sidecar, or a regular plan in its place."""
    group = parser.add_argument_group(title)
    group.add_argument("--sidecar", help="JSON or YAML file with the plan (docs/container.md)")
    group.add_argument("--group", type=int, help="N of a regular plan, without a sidecar")
    group.add_argument(
        "--boundaries",
        choices=[b.value for b in Boundaries],
        default="independent",
        help="of a regular plan",
    )
    group.add_argument(
        "--lead",
        action="store_true",
        help="the LR stream starts with the down-sampled first HR frame (LDP and RA)",
    )
    return group


def times_of(args: argparse.Namespace) -> tuple[Metadata | None, RegularPlan | None]:
    """(sidecar, regular plan) as the arguments of add_times and --rate say."""
    sidecar = read_sidecar(Path(args.sidecar)) if args.sidecar else None
    plan = None
    if args.group is not None:
        rate = parse_rate(args.rate or "25")
        plan = RegularPlan(args.group, Boundaries(args.boundaries), rate, args.lead)
    return sidecar, plan
