# SPDX-License-Identifier: LGPL-2.1-or-later
"""PSNR as the field counts it: per picture and plane, then the mean over pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..media.planar import Plane

IDENTICAL = 100.0  # dB given to a plane without any error, as FFmpeg's and VTM's tables cap it


def psnr(a: Plane, b: Plane, bit_depth: int = 8) -> float:
    """Of one plane, in dB; ``IDENTICAL`` when there is no difference.

    a, b: 2-D arrays of code values, equal shapes. Peak: 2^bit_depth - 1, as in
    FFmpeg's psnr filter (VTM's own peak is 255 << (bit_depth - 8)).
    Raises ValueError when the shapes differ."""
    if a.shape != b.shape:
        raise ValueError(f"planes of different size: {a.shape} and {b.shape}")
    difference = a.astype(np.int32) - b.astype(np.int32)
    error = float(np.mean(np.square(difference, dtype=np.int64)))
    if error == 0:
        return IDENTICAL
    return min(IDENTICAL, 10 * math.log10((2**bit_depth - 1) ** 2 / error))


@dataclass
class PSNR:
    """A running mean over pictures, per plane."""

    y: list[float] = field(default_factory=list)
    u: list[float] = field(default_factory=list)
    v: list[float] = field(default_factory=list)

    def add(self, a: Sequence[Plane], b: Sequence[Plane], bit_depth: int = 8) -> None:
        for values, pa, pb in zip((self.y, self.u, self.v), a, b, strict=True):
            values.append(psnr(pa, pb, bit_depth))

    @property
    def luma(self) -> float:
        """Mean luma PSNR in dB; NaN when there was no picture."""
        return float(np.mean(self.y)) if self.y else math.nan

    @property
    def chroma(self) -> float:
        """Mean of both chroma planes' PSNR in dB."""
        return float(np.mean(self.u + self.v)) if self.u else math.nan
