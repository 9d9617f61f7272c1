# SPDX-License-Identifier: LGPL-2.1-or-later
"""The least of D + lambda R, and of bits at equal quality, in numbers alone.

In all-intra a picture costs the same bits in every plan, and an LR picture comes out the same in
every plan that has its group. So uniform plans of a few N are measured, and the plan is the
cheapest way along their groups from one end of a segment to the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
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


def climb(sizes: Sequence[int], first: int, cost: Callable[[int], float]) -> Iterator[int]:
    """Sizes to be tried, from ``first`` on upwards as long as that gets cheaper, or else downwards.
    cost: of one that was tried."""
    yield first
    best = first
    above = sorted(size for size in sizes if size > first)
    below = sorted((size for size in sizes if size < first), reverse=True)
    for way in (above, below):
        for size in way:
            yield size
            if cost(size) >= cost(best):
                break
            best = size
        if best != first:
            return


def slope_between(
    finer: tuple[int, int], coarser: tuple[int, int], otherwise: float = 0.0
) -> float:
    """lambda: squared error a bit, of (bits, squared error) at two neighbouring QPs. ``otherwise``
    where a finer QP costs no more or is no better."""
    bits, error = finer[0] - coarser[0], coarser[1] - finer[1]
    return error / bits if bits > 0 and error > 0 else otherwise


STEPS = (1.0, 2**0.5, 2.0, 2 * 2**0.5, 4.0)
"""Of lambda, at which ways are looked for: a pair is far from the plain stream's point on its
curve, which is steeper where fewer bits are spent."""

Curve = Sequence[tuple[float, float]]
"""The plain stream's (bits, squared error) at some QPs, against those at the QP that is asked for;
(1, 1), that one's own point, need not be among them."""

# By which power bits fall as errors rise: where nothing was measured, and the least and the most
# beyond what was.
_USUAL, _LEAST, _MOST = 0.9, 0.3, 2.0


def at_equal_quality(bits: float, error: float, curve: Curve) -> float:
    """Bits against those of the plain stream at the same squared error; 1: as many. bits, error:
    against those of the plain stream as it is. The curve is straight in logarithms between its
    points, and goes on as between the last two."""
    return bits / _bits_at(max(error, 1e-9), curve)


def _bits_at(error: float, curve: Curve) -> float:
    finer, coarser = [(1.0, 1.0)], [(1.0, 1.0)]
    # A finer QP that costs no more, or is no better, tells nothing.
    for b, e in sorted(curve, key=lambda point: point[1]):
        if b < coarser[-1][0] and e > coarser[-1][1]:
            coarser.append((b, e))
    for b, e in sorted(curve, key=lambda point: -point[1]):
        if b > finer[-1][0] and 0 < e < finer[-1][1]:
            finer.append((b, e))
    points = [*finer[:0:-1], *coarser]
    if len(points) == 1:
        return float(error**-_USUAL)
    at = next((i for i, (_, e) in enumerate(points[1:-1], 1) if error <= e), len(points) - 1)
    (b0, e0), (b1, e1) = points[at - 1], points[at]
    power = math.log(b0 / b1) / math.log(e1 / e0)
    if not e0 <= error <= e1:
        power = min(max(power, _LEAST), _MOST)
    b, e = (b0, e0) if error < e1 else (b1, e1)
    return float(b * (error / e) ** -power)


def strongest(errors: Sequence[Sequence[int]]) -> list[int]:
    """For each picture the strength in halves (0, 1, 2), of which ``errors`` has the squared
    errors, that has the least; of equal ones the strongest, since most pictures have that."""
    return [min((2, 1, 0), key=lambda halves: of_one[halves]) for of_one in errors]
