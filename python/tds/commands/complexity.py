# SPDX-License-Identifier: LGPL-2.1-or-later
"""``tds complexity``: what each model costs on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

COLUMNS = {
    "model": "model",
    "scale": "k",
    "size": "size",
    "parameters_m": "parameters (M)",
    "kmac_per_pixel": "kMAC/pixel",
    "kmac_per_pixel_group": "features once",
    "operations": "operations",
    "bytes_per_pixel": "bytes/pixel",
    "memory_mib": "peak memory (MiB)",
    "fps": "frames/s",
    "device": "device",
    "precision": "precision",
    "note": "",
}


def add_parser(subparsers: Any) -> None:
    p = subparsers.add_parser(
        "complexity",
        help="parameters, arithmetic, memory and speed of each model",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="""\
The paper's Table 5 for the models at hand, on this machine.

  parameters       millions
  kMAC/pixel       thousand multiply-adds of convolutions and matrix products for one
                   enhanced frame, per pixel of the full size, all references included;
                   warping and element-wise work are not in it
  features once    the same where the features of a picture are computed once, as the
                   engine does it (models of contract 1: in a group of 5)
  operations       that are run for a frame then and are no views, at whatever size: what
                   a GPU's speed on small pictures depends on
  bytes/pixel      what all operations read and write in float32, none of them fused
  peak memory      while groups of 5 are enhanced by the engine: weights and pictures, on
                   the CPU without the libraries, on CUDA what PyTorch has allocated
  frames/s         enhanced ones, through the engine, pictures in and out included""",
    )
    p.add_argument("model", nargs="*", help="names or files (default: every model installed)")
    p.add_argument("--scale", type=int, choices=(1, 2, 4), help="only models of this k")
    p.add_argument(
        "--size", action="append", metavar="WxH",
        help="picture size, may be repeated (default 416x240 832x480 1280x720 1920x1080)",
    )  # fmt: skip
    p.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    p.add_argument(
        "--precision", choices=("auto", "float32", "float16", "bfloat16"), default="auto"
    )
    p.add_argument(
        "--limit", type=float, default=120.0,
        help="seconds after which a size is given up (default %(default)g)",
    )  # fmt: skip
    p.add_argument("--json", action="store_true", help="JSON in place of the table")
    p.add_argument("--quiet", "-q", action="store_true", help="no progress")
    p.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    from ..evaluation.complexity import SIZES, examine_models, parse_sizes
    from ..evaluation.graph import find_models
    from ..evaluation.run import machine

    sizes = parse_sizes(args.size or SIZES)
    scales = [args.scale] if args.scale else [1, 2, 4]
    models = find_models(args.model or ["all"], scales)
    if not models:
        print("tds: no model is installed; name a TorchScript file", file=sys.stderr)
        return 1

    def say(text: str) -> None:
        if not args.quiet:
            print(f"tds: {text}", file=sys.stderr)

    rows: list[Mapping[str, Any]] = [
        *examine_models(models, sizes, args.device, args.precision, say, args.limit)
    ]
    if args.json:
        print(json.dumps({"machine": machine(), "rows": rows}, indent=1))
        return 0
    from rich.console import Console
    from rich.table import Table

    m = machine()
    table = Table(title=f"{m['processor']}, {m['cores']} cores")
    shown = {k: t for k, t in COLUMNS.items() if any(row[k] not in ("", None) for row in rows)}
    for key, title in shown.items():
        left = key in ("model", "size", "device", "precision", "note")
        table.add_column(title, justify="left" if left else "right")
    for row in rows:
        table.add_row(*("–" if row[k] is None else str(row[k]) for k in shown))
    Console(width=160).print(table)
    return 0
