# SPDX-License-Identifier: LGPL-2.1-or-later
"""BD-rate and BD-PSNR: published worked examples, known ratios, an independent computation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.interpolate
from hypothesis import given
from hypothesis import strategies as st

from tds.evaluation.bd import METHODS, bd_quality, bd_rate, mean_over_clips

# VCEG-M33 (Bjontegaard, Austin 2001), the document that defines the measure; the results
# are those of the ETRO add-in's C++ version, which uses the same numbers as its example.
M33_A = [(90.33, 27.95), (181.03, 31.17), (332.99, 34.44), (547.79, 38.11)]
M33_B = [(127.1719, 29.9286), (186.14, 32.4165), (307.2924, 34.7013), (481.5588, 37.4561)]
# JCTVC-E137, reached through the tests of Netflix's VMAF tools (piecewise, as the common
# test conditions' sheet has it).
E137_1 = (
    [(108048.8736, 43.6471), (61279.976, 40.3953), (33905.6656, 37.247), (18883.6928, 34.2911)],
    [(108061.2784, 43.6768), (61299.9936, 40.4232), (33928.7472, 37.2761), (18910.912, 34.3147)],
)
E137_2 = (
    [(40433.8848, 37.5761), (7622.7456, 35.3756), (2394.488, 33.8977), (1017.6184, 32.0603)],
    [(40370.12, 37.5982), (7587.0024, 35.4025), (2390.0944, 33.9194), (1017.0984, 32.0822)],
)
CURVE = [(400.0, 30.0), (900.0, 33.1), (2100.0, 36.4), (5000.0, 39.6), (9000.0, 41.9)]


def test_cubic_agrees_with_vceg_m33():
    assert bd_rate(M33_A, M33_B, "cubic").value == pytest.approx(-13.261773, abs=0.005)
    assert bd_quality(M33_A, M33_B, "cubic").value == pytest.approx(0.800713, abs=0.005)


@pytest.mark.parametrize(
    ("curves", "percent"), [(E137_1, -0.465215420752807), (E137_2, -1.8779823450567612)]
)
def test_piecewise_agrees_with_jctvc_e137(curves, percent):
    assert bd_rate(*curves, "pchip").value == pytest.approx(percent, abs=0.005)


@pytest.mark.parametrize("method", METHODS)
def test_equal_curves_give_zero(method):
    assert bd_rate(CURVE, CURVE, method).value == pytest.approx(0, abs=1e-9)
    assert bd_quality(CURVE, CURVE, method).value == pytest.approx(0, abs=1e-9)
    assert bd_rate(CURVE, CURVE, method).overlap == 1


@pytest.mark.parametrize("method", METHODS)
@given(ratio=st.floats(0.3, 3.0))
def test_a_curve_shifted_by_a_ratio_gives_that_ratio(method, ratio):
    shifted = [(rate * ratio, quality) for rate, quality in CURVE]
    assert bd_rate(CURVE, shifted, method).value == pytest.approx(100 * (ratio - 1), abs=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_curve_shifted_in_quality_gives_that_difference(method):
    shifted = [(rate, quality + 0.7) for rate, quality in CURVE]
    assert bd_quality(CURVE, shifted, method).value == pytest.approx(0.7, abs=1e-9)


def _independent(anchor, test, method):
    """BD-rate by numerical integration of freshly made interpolators."""
    curves = []
    for points in (anchor, test):
        rates, qualities = (np.array(x) for x in zip(*sorted(points), strict=True))
        log_rate = np.log(rates)
        if method == "cubic":
            # Lagrange's form: exact through four points, no least squares involved.
            curve = scipy.interpolate.lagrange(qualities, log_rate)
        elif method == "pchip":
            curve = scipy.interpolate.PchipInterpolator(qualities, log_rate)
        else:
            curve = scipy.interpolate.Akima1DInterpolator(qualities, log_rate)
        curves.append((qualities, curve))
    low = max(q.min() for q, _ in curves)
    high = min(q.max() for q, _ in curves)
    grid = np.linspace(low, high, 200_001)
    difference = scipy.integrate.trapezoid(curves[1][1](grid) - curves[0][1](grid), grid)
    return 100 * (math.exp(difference / (high - low)) - 1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("curves", [(M33_A, M33_B), E137_1, E137_2])
def test_agrees_with_an_independent_computation(curves, method):
    assert bd_rate(*curves, method).value == pytest.approx(_independent(*curves, method), abs=1e-3)


def test_points_may_come_in_any_order():
    assert bd_rate(M33_A[::-1], M33_B, "pchip") == bd_rate(M33_A, M33_B[::-1], "pchip")


def test_overlap_is_stated_and_a_small_one_is_not_trusted():
    higher = [(rate, quality + 6) for rate, quality in CURVE]
    delta = bd_rate(CURVE, higher)
    assert delta.overlap == pytest.approx((41.9 - 36) / (47.9 - 30))
    assert not delta.trusted
    assert "33%" in delta.note
    assert bd_rate(CURVE, [(r * 0.9, q) for r, q in CURVE]).trusted


def test_curves_apart_have_no_figure():
    apart = [(rate, quality + 50) for rate, quality in CURVE]
    delta = bd_rate(CURVE, apart)
    assert math.isnan(delta.value)
    assert delta.note == "the curves do not overlap"


def test_a_curve_that_falls_has_no_figure():
    falling = [(400.0, 30.0), (900.0, 29.0), (2100.0, 36.4), (5000.0, 39.6)]
    delta = bd_rate(CURVE, falling)
    assert math.isnan(delta.value)
    assert "does not rise" in delta.note


def test_too_few_points_for_a_cubic():
    delta = bd_rate(CURVE[:3], CURVE[:3], "cubic")
    assert math.isnan(delta.value)
    assert "4 points" in delta.note
    assert bd_rate(CURVE[:3], CURVE[:3], "pchip").value == 0


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="no BD method"):
        bd_rate(CURVE, CURVE, "linear")


def test_bootstrap_interval_holds_the_mean_and_repeats():
    values = [-17.2, -34.4, -7.6, -12.1, -20.5, -15.0]
    mean = mean_over_clips(values)
    assert mean.value == pytest.approx(np.mean(values))
    assert mean.low < mean.value < mean.high
    assert min(values) <= mean.low and mean.high <= max(values)
    assert mean == mean_over_clips(values) == mean_over_clips(values[::-1])
    assert mean_over_clips([*values, math.nan]) == mean


def test_bootstrap_width_is_that_of_the_standard_error():
    values = np.random.default_rng(1).normal(-20, 5, 200).tolist()
    mean = mean_over_clips(values)
    assert (mean.high - mean.low) == pytest.approx(2 * 1.96 * np.std(values) / 200**0.5, rel=0.1)


def test_two_clips_have_no_interval():
    mean = mean_over_clips([1.0, 3.0])
    assert mean.value == 2 and math.isnan(mean.low) and mean.clips == 2
