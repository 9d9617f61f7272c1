# SPDX-License-Identifier: LGPL-2.1-or-later
"""Packing of 4:2:0 and re-sampling by fixed filters, as modules that script."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def pack(luma: Tensor, chroma: Tensor) -> Tensor:
    """``[B, 1, H, W]`` and ``[B, 2, H/2, W/2]`` -> packed 4:2:0 ``[B, 6, H/2, W/2]``."""
    return torch.cat([F.pixel_unshuffle(luma, 2), chroma], 1)


def luma_of(packed: Tensor) -> Tensor:
    """``[B, 6, H/2, W/2]`` -> luma ``[B, 1, H, W]``."""
    return F.pixel_shuffle(packed[:, :4], 2)


def cubic_weights(position: float, a: float) -> list[float]:
    """Keys' cubic kernel at the taps -1, 0, 1, 2 for a sample ``position`` (0..1) after tap 0."""

    def kernel(x: float) -> float:
        x = abs(x)
        if x < 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        if x < 2:
            return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
        return 0.0

    return [kernel(position - tap) for tap in (-1, 0, 1, 2)]


class BicubicUp(nn.Module):
    """Bicubic up-sampling by ``scale``, centre-aligned, edges repeated.

    ``a`` is -0.6, FFmpeg's default for its bicubic scaler. ``[B, C, h, w]`` ->
    ``[B, C, scale h, scale w]``.
    """

    def __init__(self, scale: int, a: float = -0.6) -> None:
        super().__init__()
        self.scale = scale
        # Explicit sums, not a convolution: autocast must not lower their precision.
        taps: list[list[float]] = []
        for phase in range(scale):
            position = (phase + 0.5) / scale - 0.5
            before = position < 0
            weights = cubic_weights(position + 1 if before else position, a)
            taps.append([*weights, 0.0] if before else [0.0, *weights])
        self.taps = taps

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, h, w]`` -> ``[B, C, scale h, scale w]``."""
        if self.scale == 1:
            return x
        b, c, h, w = x.shape[0], x.shape[1], x.shape[2], x.shape[3]
        x = F.pad(x, [2, 2, 2, 2], mode="replicate")
        rows: list[Tensor] = []
        for weights in self.taps:
            row = torch.zeros_like(x[:, :, :h])
            for tap, weight in enumerate(weights):
                if weight != 0.0:
                    row = row + x[:, :, tap : tap + h] * weight
            rows.append(row)
        x = torch.stack(rows, 3).reshape(b, c, h * self.scale, w + 4)
        columns: list[Tensor] = []
        for weights in self.taps:
            column = torch.zeros_like(x[:, :, :, :w])
            for tap, weight in enumerate(weights):
                if weight != 0.0:
                    column = column + x[:, :, :, tap : tap + w] * weight
            columns.append(column)
        return torch.stack(columns, 4).reshape(b, c, h * self.scale, w * self.scale)


class BicubicDown(nn.Module):
    """Bicubic down-sampling by ``scale``: the same kernel, stretched; edges repeated."""

    def __init__(self, scale: int, a: float = -0.6) -> None:
        super().__init__()
        self.scale = scale
        taps = torch.zeros(4 * scale)
        for i in range(4 * scale):
            # Distance from the middle of the output sample, in output samples.
            distance = (i + 0.5) / scale - 2.0
            whole = int(distance // 1)
            taps[i] = cubic_weights(distance - whole, a)[1 - whole] if -2 <= whole <= 1 else 0.0
        taps = taps / taps.sum()
        self.register_buffer("rows", taps.view(1, 1, -1, 1).clone(), persistent=False)
        self.register_buffer("columns", taps.view(1, 1, 1, -1).clone(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.scale == 1:
            return x
        b, c, h, w = x.shape[0], x.shape[1], x.shape[2], x.shape[3]
        p = (3 * self.scale) // 2
        x = F.pad(x.reshape(b * c, 1, h, w), [p, p, p, p], mode="replicate")
        x = F.conv2d(x, self.rows.to(x.dtype), stride=[self.scale, 1])  # type: ignore[arg-type]
        x = F.conv2d(x, self.columns.to(x.dtype), stride=[1, self.scale])  # type: ignore[arg-type]
        return x.reshape(b, c, h // self.scale, w // self.scale)
