# SPDX-License-Identifier: LGPL-2.1-or-later
"""A synthetic scene whose motion is known."""

from __future__ import annotations

import numpy as np

from tds.training.pictures import Yuv


def scene(frames: int, width: int, height: int, seed: int = 0) -> Yuv:
    """Blocks and fine noise that move by (2, 1) samples a frame, as 8-bit 4:2:0."""
    rng = np.random.default_rng(seed)
    big = rng.random((height + 2 * frames + 8, width + 4 * frames + 8))
    coarse = rng.random((big.shape[0] // 8 + 1, big.shape[1] // 8 + 1))
    big += 4 * np.kron(coarse, np.ones((8, 8)))[: big.shape[0], : big.shape[1]]
    for axis in (0, 1):
        big = (np.roll(big, 1, axis) + 2 * big + np.roll(big, -1, axis)) / 4
    big = (big - big.min()) / (big.max() - big.min()) * 200 + 28
    data = []
    for t in range(frames):
        y = big[t : t + height, 2 * t : 2 * t + width]
        c = y.reshape(height // 2, 2, width // 2, 2).mean((1, 3)) / 4 + 96
        data.append(np.concatenate([y.ravel(), c.ravel(), (224 - c).ravel()]).round())
    return Yuv(np.stack(data).astype(np.uint8), width, height)
