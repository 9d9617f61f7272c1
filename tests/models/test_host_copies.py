# SPDX-License-Identifier: LGPL-2.1-or-later
"""Models of contract 2 copy nothing between host and device (docs/model.md): no value is read
back, none is brought from a Python number to a tensor. A CUDA graph could not capture either."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tds.models.export import script

# Of the operations that a run goes through: .item() and bool(tensor); torch.tensor(...).
COPIES = ("_local_scalar_dense", "lift_fresh", "is_nonzero", "nonzero")
# Of the script, which makes its tensors without those.
SCRIPTED = ("aten::tensor", "aten::item", "aten::nonzero", "prim::NumToTensor", "aten::as_tensor")


class Watch(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if any(name in str(function) for name in COPIES):
            self.found.append(str(function))
        return function(*args, **(kwargs or {}))


def copies(model: torch.nn.Module, references: int) -> list[str]:
    """The host copies of a run of ``model`` and of its script."""
    pictures = torch.rand(1, 1 + references, 6, 32, 48)
    side = torch.ones(1, 1 + references, 7)
    with torch.no_grad(), Watch() as watch:
        model(pictures, side)
    scripted = script(model)
    kinds = set()
    for method in ("features", "enhance", "forward"):
        graph = getattr(scripted, method).inlined_graph  # owns its nodes
        todo = [graph]
        while todo:
            for node in todo.pop().nodes():
                todo += list(node.blocks())
                # A number that is read from a tensor, whatever the conversion is called.
                to_number = node.kind() in ("aten::Int", "aten::Float", "aten::Bool")
                if node.kind() in SCRIPTED or (
                    to_number and any(str(i.type()) == "Tensor" for i in node.inputs())
                ):
                    kinds.add(f"{method}: {node.kind()}")
    return watch.found + sorted(kinds)


class Careless(torch.nn.Module):
    @torch.jit.export
    def features(self, picture: torch.Tensor, side: torch.Tensor) -> list[torch.Tensor]:
        return [picture * torch.tensor([2.0]).to(picture.device)]

    @torch.jit.export
    def enhance(
        self,
        target: torch.Tensor,
        target_features: list[torch.Tensor],
        references: list[torch.Tensor],
        reference_features: list[list[torch.Tensor]],
        side: torch.Tensor,
    ) -> torch.Tensor:
        return target + float(side[0, 0, 6].item())

    def forward(self, pictures: torch.Tensor, side: torch.Tensor) -> torch.Tensor:
        found = self.features(pictures[:, 0], side[:, 0, 2:6])
        return self.enhance(pictures[:, 0], found, [pictures[:, 1]], [found], side)


def test_host_copies_are_found() -> None:
    found = " ".join(copies(Careless(), 1))
    for name in ("_local_scalar_dense", "lift_fresh", "features: aten::tensor", "enhance: aten::"):
        assert name in found


def test_the_family_makes_no_host_copies() -> None:
    family = pytest.importorskip("tds.models.family")
    assert copies(family.FamilyEnhancer(), 4) == []
