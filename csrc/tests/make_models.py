# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes the tiny models that the tests of the TorchScript backend run into a folder."""

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
    """Wants more memory than there is when it is called the ``begin``-th to ``end``-th time."""

    def __init__(self, scale: int, begin: int, end: int) -> None:
        super().__init__(scale)
        self.calls = 0
        self.begin = begin
        self.end = end

    def forward(self, first: Tensor, target: Tensor, last: Tensor, side: Tensor) -> Tensor:
        self.calls += 1
        if self.begin <= self.calls and self.calls <= self.end:
            target = target + torch.empty(1 << 50).sum()
        up = target.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)
        return (first + 2 * up + 4 * last) / 7


class Neighbours(torch.nn.Module):
    """Contract 2: adds a part of each reference's difference to the target, a mean of 3x3 of its
    change, and what the features say of a picture: all of it shows in the pixels."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.blur = torch.nn.AvgPool2d(3, 1, 1, count_include_pad=False)
        self.weight = torch.nn.Parameter(torch.full((1,), 0.25))

    @torch.jit.export
    def features(self, picture: Tensor, side: Tensor) -> list[Tensor]:
        said = side[:, 0] / 64 + side[:, 1] / 128 + side[:, 2] / 1024 + side[:, 3] / 256
        return [picture * 0.5, said[:, None, None, None]]

    @torch.jit.export
    def enhance(
        self,
        target: Tensor,
        target_features: list[Tensor],
        references: list[Tensor],
        reference_features: list[list[Tensor]],
        side: Tensor,
    ) -> Tensor:
        change = target_features[1] * torch.ones_like(target)
        for r in range(self.count):
            row = side[:, 1 + r]
            half = reference_features[r][0] - target_features[0]
            share = (row[:, 0] * (r + 1) + row[:, 1] / 8)[:, None, None, None] / 8
            change = change + share * self.blur(half + (references[r] - target) * 0.5)
            change = change + reference_features[r][1] * row[:, 0, None, None, None] / 2
        change = change * self.weight.to(change.dtype) * 4
        return target + side[:, 0, 6, None, None, None] * change

    def forward(self, pictures: Tensor, side: Tensor) -> Tensor:
        features = [self.features(pictures[:, i], side[:, i, 2:6]) for i in range(self.count + 1)]
        references = [pictures[:, i] for i in range(1, self.count + 1)]
        return self.enhance(pictures[:, 0], features[0], references, features[1:], side)


class HungryNeighbours(Neighbours):
    """Wants more memory than there is for the features of more than ``most`` samples."""

    def __init__(self, count: int, most: int) -> None:
        super().__init__(count)
        self.most = most

    @torch.jit.export
    def features(self, picture: Tensor, side: Tensor) -> list[Tensor]:
        if picture.size(2) * picture.size(3) * 4 > self.most:
            picture = picture + torch.empty(1 << 50).sum()
        said = side[:, 0] / 64 + side[:, 1] / 128 + side[:, 2] / 1024 + side[:, 3] / 256
        return [picture * 0.5, said[:, None, None, None]]


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
    save(folder, "hungry", Hungry(2, 2, 2))
    save(folder, "starving", Hungry(2, 1, 1 << 30))
    save(folder, "promises", Mix(2), features=True)
    slots = ["-1", "+1", "full-before"]
    about = {"tds_model": 2, "references": slots, "cpu_precision": "bfloat16"}
    save(folder, "neighbours", Neighbours(3), **about)
    save(folder, "neighbours1", Neighbours(3), scale=1, alignment=32, **about)
    small = {**about, "scale": 1, "alignment": 16, "halo": 2}
    save(folder, "hungry2", HungryNeighbours(3, 128 * 128), **small)
    save(folder, "starving2", HungryNeighbours(3, 0), **small)
    save(folder, "promises2", Mix(2), **about)


if __name__ == "__main__":
    main()
