# SPDX-License-Identifier: LGPL-2.1-or-later
"""Modulated deformable convolution (Zhu et al. 2019, "DCNv2"), by grid sampling.

Scripts and runs wherever ``grid_sample`` does. Where torchvision is installed its fused
operator does the same in eager mode, faster and with less memory; the two agree.
"""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def deformable_convolution(
    x: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    groups: int,
) -> Tensor:
    """A 3x3 convolution, stride 1, each of whose taps is fetched from where it is told.

    ``x [B, C, H, W]``; ``offset [B, groups * 18, H, W]``, for each group and tap (row by row)
    y then x, in samples, as torchvision and EDVR order them; ``mask [B, groups * 9, H, W]``
    multiplies each tap; ``weight [O, C, 3, 3]``. A group is C / groups input channels.
    Positions outside are zero, bilinear between. Returns ``[B, O, H, W]``.
    """
    b, c, h, w = x.shape[0], x.shape[1], x.shape[2], x.shape[3]
    each = c // groups
    ys = torch.arange(h, dtype=torch.float32, device=x.device)
    xs = torch.arange(w, dtype=torch.float32, device=x.device)
    source = x.reshape(b * groups, each, h, w)
    moves = offset.reshape(b * groups, 9, 2, h, w).float()
    strength = mask.reshape(b * groups, 9, h, w)
    out = torch.zeros([b, weight.shape[0], h, w], dtype=x.dtype, device=x.device)
    for tap in range(9):
        py = moves[:, tap, 0] + (ys + float(tap // 3 - 1))[:, None]
        px = moves[:, tap, 1] + (xs + float(tap % 3 - 1))[None, :]
        grid = torch.stack([px * (2.0 / max(w - 1, 1)) - 1.0, py * (2.0 / max(h - 1, 1)) - 1.0], 3)
        fetched = F.grid_sample(
            source.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=True
        ).to(x.dtype)
        fetched = (fetched * strength[:, tap, None]).reshape(b, c, h, w)
        kernel = weight[:, :, tap // 3, tap % 3]
        out = out + torch.einsum("oc,bchw->bohw", kernel, fetched)
    if bias is not None:
        out = out + bias.view(1, -1, 1, 1)
    return out


class DeformableConv(nn.Module):
    """A 3x3 deformable convolution whose offsets and masks come from other features (DCNv2).

    ``guide`` features give them through a convolution that starts at zero: no motion, every
    tap at half strength. ``forward(x, guide)``: both ``[B, C, H, W]``.
    """

    def __init__(self, channels: int, groups: int = 8) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        self.offset = nn.Conv2d(channels, groups * 27, 3, padding=1)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)  # type: ignore[arg-type]
        self.fused = importlib.util.find_spec("torchvision") is not None and not os.environ.get(
            "TDS_NO_FUSED_DEFORM"
        )

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        both = self.offset(guide)
        moves, strength = both[:, : self.groups * 18], both[:, self.groups * 18 :].sigmoid()
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            return deformable_convolution(x, moves, strength, self.weight, self.bias, self.groups)
        return self.eager(x, moves, strength)

    @torch.jit.unused
    def eager(self, x: Tensor, moves: Tensor, strength: Tensor) -> Tensor:
        if self.fused:
            from torchvision.ops import deform_conv2d

            call: Any = deform_conv2d
            return call(
                x,
                moves.to(x.dtype),
                self.weight.to(x.dtype),
                self.bias.to(x.dtype),
                padding=1,
                mask=strength.to(x.dtype),
            )
        return deformable_convolution(x, moves, strength, self.weight, self.bias, self.groups)
