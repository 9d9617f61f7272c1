#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a picture costs a model, counted, so that no GPU is needed to know it.

    python benchmarks/model_operations.py                   # the family's presets
    python benchmarks/model_operations.py models/standard-k1.safetensors --at-most 40 400

Of presets (python/tds/models/build.py) with fresh weights, and of models of contract 2: thousand
multiply-adds a luma sample of the full size, of one enhanced picture where the features of every
picture are computed once, and the operations that are run for it and are not views. On a GPU
small pictures take as long as their operations, each of which is started by itself. `--by-name`
lists which they are. `--at-most KMAC OPERATIONS` fails (exit status 1) where one is above.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tds import models
from tds._tds import model_metadata
from tds.evaluation.complexity import COUNTED_AT, Operations, count_family, counted_picture
from tds.models.build import build


def found(name: str, scale: int) -> tuple[Any, int]:
    """A network of contract 2 and the number of its references. Raises ValueError for another."""
    import torch

    if not Path(name).suffix:
        module = build({"preset": name, "scale": scale}).eval()
        if not hasattr(module, "features"):
            raise ValueError(f"{name} is a network of contract 1; tds complexity counts those")
        return module, int(module.count)  # type: ignore[arg-type]
    path = models.find(name, scale).path
    about = model_metadata(path)
    if about["tds_model"] != 2:
        raise ValueError(f"{name} is a model of contract 1; tds complexity counts those")
    return torch.jit.load(str(path), map_location="cpu").eval().float(), len(about["references"])


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("models", nargs="*", default=["family-fast", "family-standard", "family-large"])
    p.add_argument("--scale", "-k", type=int, default=1, choices=[1, 2, 4])
    p.add_argument("--size", type=int, default=COUNTED_AT, help="luma samples a side (%(default)s)")
    p.add_argument("--by-name", action="store_true", help="also which operations they are")
    p.add_argument("--at-most", nargs=2, type=float, metavar=("KMAC", "OPERATIONS"))
    args = p.parse_args()

    above = 0
    print("| model | k | references | parameters (M) | kMAC a sample | operations a picture |")
    print("|---|---|---|---|---|---|")
    details: list[tuple[str, Operations]] = []
    for name in args.models:
        try:
            module, references = found(name, args.scale)
        except (ValueError, OSError) as e:
            print(f"{name}: {e}", file=sys.stderr)
            return 1
        row = count_family(module, references, args.size)
        kmac, operations = row["kmac_per_pixel_group"], row["operations"]
        print(
            f"| {Path(name).stem} | {args.scale} | {references} | {row['parameters_m']:.3f} | "
            f"{kmac:.2f} | {operations} |"
        )
        if args.at_most and (kmac > args.at_most[0] or operations > args.at_most[1]):
            above += 1
        if args.by_name:
            details.append((name, counted_picture(module, references, args.size)))
    for name, operations_of in details:
        listed = ", ".join(f"{n} {k}" for k, n in operations_of.by_name.items())
        print(f"\n{Path(name).stem}: {listed}")
    return 1 if above else 0


if __name__ == "__main__":
    sys.exit(main())
