# SPDX-License-Identifier: LGPL-2.1-or-later
"""``tds doctor``: what this machine has, and what to do about what is missing."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..doctor import bundle, examine
from ..files import whole_file
from ._arguments import add_overwrite


def add_parser(subparsers: Any) -> None:
    p = subparsers.add_parser(
        "doctor",
        help="say what this machine has and what is missing",
        description="Say what this machine has (codecs, devices, backends, versions) and what to "
        "do about what is missing. Exits with 1 when something is.",
    )
    p.add_argument("--json", action="store_true", help="print JSON")
    p.add_argument(
        "--bundle",
        metavar="FILE",
        type=Path,
        help="also write what a bug report needs, as JSON without names of folders and people",
    )
    add_overwrite(p)
    p.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    findings = examine()
    if args.bundle is not None:
        with whole_file(args.bundle, args.overwrite) as beside:
            beside.write_text(json.dumps(bundle(findings), indent=1) + "\n", encoding="utf-8")
    if args.json:
        print(json.dumps([asdict(f) for f in findings], indent=1))
    else:
        width = max(len(f.name) for f in findings)
        for f in findings:
            print(f"{'ok' if f.ok else '--'}  {f.name:{width}}  {f.value}")
            if f.advice:
                print(f"    {'':{width}}  -> {f.advice}")
    return 0 if all(f.ok for f in findings) else 1
