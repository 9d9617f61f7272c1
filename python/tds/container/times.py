# SPDX-License-Identifier: LGPL-2.1-or-later
"""Times from one unit to another."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction

MOST = (1 << 31) - 1  # what FFmpeg and libtds count in: the parts of a time base


def rescale(ticks: int, unit: Fraction, to: Fraction) -> int:
    """``ticks`` of ``unit`` seconds in ticks of ``to``; halves away from zero, as FFmpeg."""
    value = abs(ticks) * unit / to
    whole = (2 * value.numerator + value.denominator) // (2 * value.denominator)
    return -whole if ticks < 0 else whole


def common_unit(bases: Iterable[Fraction]) -> Fraction:
    """A unit in which times of all these are whole numbers; where that would be finer than
    times of 64 bits can count, the finest of them."""
    known = list(bases)
    exact = Fraction(1, math.lcm(*(base.denominator for base in known)))
    return exact if exact.denominator <= MOST else min(known)


def ratio(value: Fraction) -> tuple[int, int]:
    """As libtds takes a fraction."""
    return value.numerator, value.denominator
