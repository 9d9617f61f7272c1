# SPDX-License-Identifier: LGPL-2.1-or-later
"""Packed 4:2:0 to RGB and back: BT.709, limited range, as the paper prepares its pictures."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def to_rgb(packed: Tensor) -> Tensor:
    """Packed 4:2:0 ``[B, 6, H/2, W/2]``, BT.709 limited range -> RGB ``[B, 3, H, W]``, 0..1.

    Not clamped. Chroma is up-sampled bilinearly, centre-sited.
    """
    y = (F.pixel_shuffle(packed[:, :4], 2) * 255.0 - 16.0) / 219.0
    chroma = F.interpolate(packed[:, 4:], scale_factor=2.0, mode="bilinear", align_corners=False)
    cb, cr = ((chroma * 255.0 - 128.0) / 224.0).split(1, 1)
    r = y + 1.5748 * cr
    g = y - 0.187324 * cb - 0.468124 * cr
    b = y + 1.8556 * cb
    return torch.cat([r, g, b], 1)


def from_rgb(rgb: Tensor) -> Tensor:
    """The inverse of :func:`to_rgb`, chroma averaged over 2x2."""
    r, g, b = rgb.split(1, 1)
    y = 0.2126 * r + 0.7152 * g + 0.0722 * b
    chroma = F.avg_pool2d(torch.cat([(b - y) / 1.8556, (r - y) / 1.5748], 1), 2)
    luma = (y * 219.0 + 16.0) / 255.0
    return torch.cat([F.pixel_unshuffle(luma, 2), (chroma * 224.0 + 128.0) / 255.0], 1)
