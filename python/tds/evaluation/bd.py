# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bjontegaard deltas between two rate-distortion curves, and their mean over clips.

The integration is the ``bjontegaard`` library's (Herglotz et al., arXiv 2202.12565).
Its methods: ``cubic``, one third-order polynomial through all points (VCEG-M33, the
paper's section 4.2); ``pchip``, piecewise cubic Hermite (the common test conditions'
sheet, JCTVC-L1100); ``akima``. What is added here says how far a figure can be trusted:
the overlap of the curves, and a bootstrap interval over clips.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

METHODS = ("cubic", "pchip", "akima")
MIN_OVERLAP = 0.75  # the library's own threshold for its warning
_FEWEST = {"cubic": 4, "pchip": 2, "akima": 3}  # points below which a method means nothing

Curve = Sequence[tuple[float, float]]
"""(rate, quality) points in any order; rate above 0, in any unit, quality higher is better."""


@dataclass(frozen=True)
class Delta:
    """One Bjontegaard delta.

    value: percent of bits for a BD-rate (negative: bits saved), the metric's unit for a
    BD-quality (positive: better); NaN when there is none, and ``note`` says why.
    overlap: 0 to 1, the part of the range that either curve spans that both span.
    """

    value: float
    overlap: float
    note: str = ""

    @property
    def trusted(self) -> bool:
        return not math.isnan(self.value) and self.overlap >= MIN_OVERLAP


def bd_rate(anchor: Curve, test: Curve, method: str = "pchip") -> Delta:
    """Mean difference in bits at equal quality, in percent."""
    return _delta(anchor, test, method, by_rate=False)


def bd_quality(anchor: Curve, test: Curve, method: str = "pchip") -> Delta:
    """Mean difference in quality at equal bits (BD-PSNR for PSNR), in the metric's unit."""
    return _delta(anchor, test, method, by_rate=True)


def _delta(anchor: Curve, test: Curve, method: str, by_rate: bool) -> Delta:
    """by_rate: integrate quality over log10(rate); otherwise log10(rate) over quality."""
    if method not in METHODS:
        raise ValueError(f"no BD method {method!r}; there are {', '.join(METHODS)}")
    curves = []
    for name, points in (("anchor", _beside(anchor, test, by_rate)), ("test", test)):
        ordered = sorted((float(r), float(q)) for r, q in points)
        if any(not (r > 0 and math.isfinite(r) and math.isfinite(q)) for r, q in ordered):
            return Delta(math.nan, 0.0, f"the {name}'s curve has a rate or quality that is none")
        if len(ordered) < _FEWEST[method]:
            return Delta(
                math.nan,
                0.0,
                f"{method} needs {_FEWEST[method]} points and the {name}'s curve has "
                f"{len(ordered)}",
            )
        rates, qualities = (np.array(x) for x in zip(*ordered, strict=True))
        if np.any(np.diff(rates) <= 0) or np.any(np.diff(qualities) <= 0):
            return Delta(
                math.nan, 0.0, f"the {name}'s curve does not rise: more bits, less quality"
            )
        curves.append((np.log10(rates), qualities))
    (rate_a, quality_a), (rate_t, quality_t) = curves
    bases = (rate_a, rate_t) if by_rate else (quality_a, quality_t)
    overlap = _overlap(*bases)
    if overlap == 0:
        return Delta(math.nan, 0.0, "the curves do not overlap")
    import bjontegaard

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the overlap is in the result
        if by_rate:
            value = bjontegaard.bd_psnr(
                10**rate_a, quality_a, 10**rate_t, quality_t, method, False, min_overlap=0
            )
        else:
            value = bjontegaard.bd_rate(
                10**rate_a, quality_a, 10**rate_t, quality_t, method, False, min_overlap=0
            )
    note = ""
    if overlap < MIN_OVERLAP:
        note = f"the curves overlap in {overlap:.0%} only"
    return Delta(float(value), overlap, note)


def _beside(anchor: Curve, test: Curve, by_rate: bool) -> Curve:
    """The points of an anchor that has more of them than the test: those next to each other, as
    many as the test has or more, whose range is most nearly the test's. What lies beyond is not
    integrated over, and would only make the overlap look smaller than it need be."""
    fewest = len(test)
    if len(anchor) <= fewest:
        return anchor
    axis = 0 if by_rate else 1
    ordered = sorted(anchor)

    def along(points: Curve) -> np.ndarray:
        values = np.array([p[axis] for p in points], dtype=float)
        return np.log10(values) if by_rate else values

    if not all(np.all(np.isfinite(along(points))) for points in (ordered, test)):
        return anchor
    runs = [
        ordered[i:j]
        for i in range(len(ordered) - fewest + 1)
        for j in range(i + fewest, len(ordered) + 1)
    ]
    return max(runs, key=lambda run: _overlap(along(run), along(test)))


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    union = max(a.max(), b.max()) - min(a.min(), b.min())
    both = min(a.max(), b.max()) - max(a.min(), b.min())
    return float(max(both, 0.0) / union) if union > 0 else 0.0


@dataclass(frozen=True)
class Mean:
    """The mean of a figure over clips, with a bootstrap interval.

    low, high: the 2.5 and 97.5 percentiles of the mean over resampled sets of clips;
    NaN with fewer than three clips. clips: how many went in.
    """

    value: float
    low: float
    high: float
    clips: int


def mean_over_clips(values: Sequence[float], samples: int = 10_000, seed: int = 0) -> Mean:
    """Mean and percentile bootstrap interval (95 %); the same every time for the same values,
    in whatever order the clips come.

    NaNs are left out; they are clips for which there is no figure."""
    given = np.array(sorted(v for v in values if not math.isnan(v)), dtype=float)
    if not len(given):
        return Mean(math.nan, math.nan, math.nan, 0)
    mean = float(given.mean())
    if len(given) < 3:
        return Mean(mean, math.nan, math.nan, len(given))
    random = np.random.default_rng(seed)
    means = given[random.integers(0, len(given), (samples, len(given)))].mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return Mean(mean, float(low), float(high), len(given))
