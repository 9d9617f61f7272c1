# SPDX-License-Identifier: LGPL-2.1-or-later
"""The least of D + lambda R, and of bits at equal quality, in numbers alone.

In all-intra a picture costs the same bits in every plan, and an LR picture comes out the same in
every plan that has its group. So uniform plans of a few N are measured, and the plan is the
cheapest way along their groups from one end of a segment to the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Group:
    """From the HR picture ``first`` to the HR picture ``last`` of a segment; what is counted are
    the pictures after ``first``. distortion: squared error. bits: of both streams."""

    first: int
    last: int
    distortion: int
    bits: int

    def cost(self, slope: float) -> float:
        return self.distortion + slope * self.bits


def uniform(length: int, group: int) -> list[tuple[int, int]]:
    """The groups of N = ``group`` from picture 0 to picture ``length``, both HR; the last may be
    shorter."""
    ends = [*range(0, length, group - 1), length]
    return list(pairwise(ends))


def cheapest(length: int, groups: Iterable[Group], slope: float) -> list[Group]:
    """The way from picture 0 to picture ``length``. Of equal ones the one with fewer, larger
    groups."""
    ending: dict[int, list[Group]] = {}
    for known in groups:
        ending.setdefault(known.last, []).append(known)
    best: list[tuple[float, int, Group | None]] = [(0.0, 0, None)]
    for last in range(1, length + 1):
        ways = [
            (best[g.first][0] + g.cost(slope), best[g.first][1] + 1, g)
            for g in ending.get(last, ())
        ]
        # A picture at which no group ends is reached by none.
        best.append(min(ways, key=lambda way: way[:2]) if ways else (float("inf"), 0, None))
    way: list[Group] = []
    at = length
    while at:
        group = best[at][2]
        assert group is not None
        way.append(group)
        at = group.first
    return way[::-1]


def slope_between(
    finer: tuple[int, int], coarser: tuple[int, int], otherwise: float = 0.0
) -> float:
    """lambda: squared error a bit, of (bits, squared error) at two neighbouring QPs. ``otherwise``
    where a finer QP costs no more or is no better."""
    bits, error = finer[0] - coarser[0], coarser[1] - finer[1]
    return error / bits if bits > 0 and error > 0 else otherwise


STEPS = (1.0, 2**0.5, 2.0, 2 * 2**0.5)
"""Of lambda, at which ways are looked for: a pair is far from the plain stream's point on its
curve, which is steeper where fewer bits are spent."""

# How much faster bits fall than errors rise, in logarithms, where no slope is known.
_USUAL = 0.9


def at_equal_quality(
    bits: float, error: float, plain_bits: float, plain_error: float, slope: float
) -> float:
    """Bits against those of the plain stream at the same squared error; 1: as many. slope: lambda
    at the plain stream's point, through which its curve is taken to be straight in logarithms."""
    ratio = bits / plain_bits
    if error <= 0 or plain_error <= 0:
        return ratio
    exponent = plain_error / (slope * plain_bits) if slope > 0 else _USUAL
    return float(ratio * (error / plain_error) ** min(max(exponent, 0.3), 2.0))


def strongest(errors: Sequence[Sequence[int]]) -> list[int]:
    """For each picture the strength in halves (0, 1, 2), of which ``errors`` has the squared
    errors, that has the least; of equal ones the strongest, since most pictures have that."""
    return [min((2, 1, 0), key=lambda halves: of_one[halves]) for of_one in errors]
