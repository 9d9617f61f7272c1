# SPDX-License-Identifier: LGPL-2.1-or-later
"""``tds export``: weights into the archive that the engine loads."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    p = subparsers.add_parser(
        "export",
        help="make a model's TorchScript archive from its weights",
        description="Make the archive that the engine, the FFmpeg filter and the decoders' "
        "helpers load, from a .safetensors file or a model's name.",
    )
    p.add_argument("model", help="a .safetensors file, or the name of a model")
    p.add_argument("--scale", "-k", type=int, choices=[1, 2, 4], help="which k, for a name (2)")
    p.add_argument("--out", "-o", type=Path, required=True, help="the archive to write (.pt)")
    p.add_argument(
        "--precision",
        choices=["float32", "float16", "bfloat16"],
        default="float32",
        help="of the stored weights (float32)",
    )
    p.add_argument(
        "--name",
        help="the name in its metadata (default: that of the weights, with the beginning of "
        "their sha256 where a model that comes along is called so too)",
    )
    p.add_argument("--overwrite", action="store_true")
    p.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    from ..files import check_output, sha256_of
    from ..models.export import export
    from ..models.registry import load, metadata, own_name, weights

    check_output(args.out, args.overwrite)
    path = weights(args.model, args.scale or 2)
    about = metadata(path)
    about["name"] = args.name or own_name(path, about)
    export(load(path), {**about, "weights_sha256": sha256_of(path)}, args.out, args.precision)
    print(f"{args.out}: {about['name']} {about['version']}, k = {about['scale']}, {args.precision}")
    return 0
