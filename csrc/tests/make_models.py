# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes the tiny models that test_torchscript.cpp runs into a folder."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import torch
from torch import Tensor


class Mix(torch.nn.Module):
    """(first + 2 target + 4 last) / 7, the target up-sampled by repetition: what went in can
    be told from what came out. No learned weight, so float32 gives it on every machine."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, first: Tensor, target: Tensor, last: Tensor, side: Tensor) -> Tensor:
        up = target.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)
        return (first + 2 * up + 4 * last) / 7


class Features(Mix):
    """The same with features: a reference is kept as two halves that sum up to it."""

    @torch.jit.export
    def reference(self, picture: Tensor) -> list[Tensor]:
        return [picture * 0.25, picture * 0.75]

    @torch.jit.export
    def enhance(
        self, first: list[Tensor], target: Tensor, last: list[Tensor], side: Tensor
    ) -> Tensor:
        up = target.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)
        return (first[0] + first[1] + 2 * up + 4 * (last[0] + last[1])) / 7

    def forward(self, first: Tensor, target: Tensor, last: Tensor, side: Tensor) -> Tensor:
        return self.enhance(self.reference(first), target, self.reference(last), side)


class Side(Mix):
    """Paints ``side`` into the picture: luma phases 0 to 3 are its first four values, the
    chroma planes the size of the batch and the mean of what stands in for ``first``."""

    def forward(self, first: Tensor, target: Tensor, last: Tensor, side: Tensor) -> Tensor:
        out = torch.zeros_like(first)
        for i in range(3):
            out[:, i] = side[:, i, None, None]
        out[:, 3] = (side[:, 3, None, None] + 1) / 64
        out[:, 4] = (side[:, 4, None, None] + 1) / 64
        out[:, 5] = first.mean((1, 2, 3))[:, None, None]
        return out


class Wrong(Mix):
    """Gives a picture of the LR size."""

    def forward(self, first: Tensor, target: Tensor, last: Tensor, side: Tensor) -> Tensor:
        return target


class Raises(Mix):
    def forward(self, first: Tensor, target: Tensor, last: Tensor, side: Tensor) -> Tensor:
        assert target.numel() < 0, "this model always fails"
        return first


class Hungry(Mix):
    """Wants more memory than there is for more than ``most`` pictures at once."""

    def __init__(self, scale: int, most: int) -> None:
        super().__init__(scale)
        self.most = most

    def forward(self, first: Tensor, target: Tensor, last: Tensor, side: Tensor) -> Tensor:
        if target.size(0) > self.most:
            target = target + torch.empty(1 << 50).sum()
        up = target.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)
        return (first + 2 * up + 4 * last) / 7


def save(folder: Path, name: str, module: torch.nn.Module, **about: object) -> None:
    about = {"tds_model": 1, "name": name, "version": "1", "scale": 2, **about}
    script = torch.jit.script(module.eval())
    torch.jit.save(script, str(folder / f"{name}.pt"), _extra_files={"tds.json": json.dumps(about)})


def main() -> None:
    warnings.simplefilter("ignore")  # torch calls TorchScript deprecated
    folder = Path(sys.argv[1])
    save(folder, "mix", Mix(2), bit_depths=[8, 10])
    save(folder, "mix4", Mix(4), scale=4)
    save(folder, "aligned", Mix(2), alignment=32)
    save(folder, "features", Features(2), features=True)
    save(folder, "side", Side(2), no_reference=True)
    save(folder, "wrong", Wrong(2))
    save(folder, "raises", Raises(2))
    save(folder, "hungry", Hungry(2, 1))
    save(folder, "starving", Hungry(2, 0))
    save(folder, "promises", Mix(2), features=True)


if __name__ == "__main__":
    main()
