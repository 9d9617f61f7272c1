# SPDX-License-Identifier: LGPL-2.1-or-later
"""Charbonnier loss on packed 4:2:0, and on RGB as in the paper."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.colour import to_rgb


def charbonnier(
    got: Tensor,
    want: Tensor,
    epsilon: float = 1e-3,
    chroma: float = 0.15,
    space: str = "yuv",
    border: int = 0,
) -> Tensor:
    """mean sqrt(d^2 + epsilon^2) of two packed pictures, ``border`` luma samples left out.

    ``space`` "rgb" is the paper's preparation: ``want`` as 8-bit RGB, BT.709 limited range.
    """
    if border:
        b = border // 2
        got, want = got[:, :, b:-b, b:-b], want[:, :, b:-b, b:-b]
    got = got.float()
    if space == "rgb":
        target = (to_rgb(want).clamp(0.0, 1.0) * 255.0).round() / 255.0
        return torch.sqrt((to_rgb(got) - target) ** 2 + epsilon**2).mean()
    each = torch.sqrt((got - want) ** 2 + epsilon**2)
    return each[:, :4].mean() + chroma * each[:, 4:].mean()
