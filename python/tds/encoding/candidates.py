# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the whole video would be with each candidate, of segments that were measured.

How LR is coded (k, QP, HR refined or not) is one choice a file, since a track has one size and the
tag one QP for it; which groups a segment has, plain stretches among them, and how strongly each
picture is changed are choices a segment, a group and a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..container.metadata import Metadata
from .choosing import at_equal_quality
from .measured import SegmentRecord, WayRecord
from .tries import LR

PLAIN = "one stream"
"""The name of that choice, beside str(LR)."""


@dataclass(frozen=True)
class Pair:
    """A way to code the whole video as a pair. step: of STEPS of lambda, in all segments: each at
    its own would trade quality between segments at different prices."""

    lr: LR
    step: int


@dataclass(frozen=True)
class Measured:
    """A segment that was measured, without its pictures. times: of its frames, a lead's
    included."""

    times: tuple[int, ...]
    lead: bool
    folder: Path
    record: SegmentRecord

    @property
    def own(self) -> range:
        return range(int(self.lead), len(self.times))

    def way(self, pair: Pair) -> WayRecord:
        """As measured; of a segment that is too short for LR pictures: all of them are HR."""
        pairs = self.record["pairs"]
        if str(pair.lr) in pairs:
            return pairs[str(pair.lr)][pair.step]
        passed = self.record["passed"]
        return {
            "groups": [(0, 1)] if len(self.times) > 1 else [],
            "bits": [0] * len(passed),
            "errors": list(passed),
        }

    def hr(self, pair: Pair) -> list[int]:
        """Places of the segment's own HR pictures."""
        places = {0, *(last for _, last in self.way(pair)["groups"])}
        return [i for i in self.own if i in places]

    def totals(self, pair: Pair | None) -> tuple[int, int]:
        """Bits and squared error of the segment's own frames; None: of one stream."""
        bits = self.record["bits"]
        if pair is None:
            return sum(bits[i] for i in self.own), sum(self.record["enhanced"][i] for i in self.own)
        way, hr = self.way(pair), set(self.hr(pair))
        spent = sum(bits[i] if i in hr else way["bits"][i] for i in self.own)
        return spent, sum(way["errors"][i] for i in self.own)


@dataclass(frozen=True)
class Choice:
    """What was tried and chosen, for people.

    effort: of the settings. model: that measured. tried: bits of each choice at equal quality,
    against the plain stream as it is, in percent. chosen: of these. frames: for each frame of the
    video its role ("HR", "LR", "plain"), group (frames of it), strength (halves), bits, and squared
    luma errors, as chosen and of the plain stream."""

    effort: int
    model: str
    tried: dict[str, float]
    chosen: str
    segments: list[dict[str, Any]]
    frames: list[dict[str, Any]]

    def for_tag(self) -> dict[str, Any]:
        return {"effort": self.effort, "chosen": self.chosen, "tried": self.tried}


def against_plain(done: Sequence[Measured], pair: Pair | None, more: int) -> float:
    """Bits of all segments, and ``more``, at equal quality, the plain stream's being 1."""
    bits, error = (sum(column) for column in zip(*(m.totals(pair) for m in done), strict=True))
    plain = [
        (sum(m.record["bits"][i] for i in m.own), sum(m.record["passed"][i] for i in m.own))
        for m in done
    ]
    plain_bits, plain_error = (max(1, sum(column)) for column in zip(*plain, strict=True))
    # One point a QP, of all segments at that QP.
    curve = [
        (
            sum(b * point[0] for (b, _), point in zip(plain, points, strict=True)) / plain_bits,
            sum(e * point[1] for (_, e), point in zip(plain, points, strict=True)) / plain_error,
        )
        for points in zip(*(m.record["curve"] for m in done), strict=True)
    ]
    return at_equal_quality((bits + more) / plain_bits, error / plain_error, curve)


def groups_of(done: Sequence[Measured], pair: Pair) -> list[int]:
    """As the tag has them, with shared boundaries: sizes, below 0 where the first HR picture is not
    the group before's."""
    sizes: list[int] = []
    for m in done:
        own = [last - first + 1 for first, last in m.way(pair)["groups"]]
        if not m.lead:
            own = [-own[0], *own[1:]] if own else [-1]
        sizes += own
    return sizes


def told(
    done: Sequence[Measured], pair: Pair | None, metadata: Metadata
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What a Choice tells of segments and frames."""
    parts: list[dict[str, Any]] = []
    frames: list[dict[str, Any]] = []
    strengths = [halves for halves, count in metadata.strengths for _ in range(count)]
    for m in done:
        r = m.record
        parts.append({"first": len(frames), "frames": len(m.own), "slope": r["slope"]})
        way = m.way(pair) if pair is not None else None
        hr = set(m.hr(pair)) if pair is not None else set(m.own)
        size = {}
        for first, last in way["groups"] if way is not None else ():
            size.update(dict.fromkeys(range(first, last + 1), last - first + 1))
        for i in m.own:
            refined = pair is not None and pair.lr.refine
            halves = strengths[len(frames)] if strengths else 2 * (i not in hr or refined)
            whole = {0: r["passed"][i], 1: r["enhanced"][i], 2: r["enhanced"][i]}
            frames.append(
                {
                    "role": "plain" if way is None else "HR" if i in hr else "LR",
                    "group": size.get(i, 1),
                    "strength": halves / 2,
                    "bits": r["bits"][i] if way is None or i in hr else way["bits"][i],
                    "error": whole[halves] if way is None else way["errors"][i],
                    "plain_bits": r["bits"][i],
                    "plain_error": r["passed"][i],
                }
            )
    return parts, frames
