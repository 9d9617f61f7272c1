# SPDX-License-Identifier: LGPL-2.1-or-later
"""The recurrence of a group (SRFR, the paper's section 3.3) in plain Python.

For validation while training, and as an independent check of the engine's own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def side_of(
    first: float | None, position: float, last: float | None, hr_qp: float, lr_qp: float
) -> Tensor:
    """The ``side`` row ``[1, 5]`` for a target at ``position`` between two times."""
    whole = first is not None and last is not None
    between = (position - first) / (last - first) if whole else 0.5  # type: ignore[operator]
    row = [float(first is not None), float(last is not None), between, hr_qp, lr_qp]
    return torch.tensor([row])


@torch.no_grad()
def enhance_run(
    model: nn.Module,
    first: Tensor,
    targets: list[Tensor],
    last: Tensor,
    hr_qp: float = -1.0,
    lr_qp: float = -1.0,
) -> list[Tensor]:
    """Enhances the LR pictures between two HR ones; all packed 4:2:0, ``[1, 6, h, w]``.

    The middle one first, from both boundaries; those before it from (first boundary, middle),
    those after it from (middle, last boundary). Results are clamped to 0..1.
    """
    n = len(targets)
    middle = (n - 1) // 2
    end = n + 1

    def one(i: int, a: Tensor, ta: int, b: Tensor, tb: int) -> Tensor:
        side = side_of(ta, i + 1, tb, hr_qp, lr_qp).to(first)
        return model(a, targets[i].to(first), b, side).clamp(0.0, 1.0)

    found: dict[int, Tensor] = {}
    found[middle] = one(middle, first, 0, last, end)
    for i in range(n):
        if i < middle:
            found[i] = one(i, first, 0, found[middle], middle + 1)
        elif i > middle:
            found[i] = one(i, found[middle], middle + 1, last, end)
    return [found[i] for i in range(n)]
