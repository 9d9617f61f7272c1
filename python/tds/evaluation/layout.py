# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which frames each stream of a plan codes, and where its segments begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..codecs import Config
from ..errors import InputError
from ..plan import Planned, Planner, Role
from .config import LR_ONLY, PLAIN, Plan


@dataclass(frozen=True)
class Segment:
    """One encoder run: frames by index, and the boundary whose down-sampled copy goes
    first without being shown (LDP and RA; paper, section 3.2)."""

    frames: tuple[int, ...]
    lead: int | None = None

    def coded(self) -> list[int]:
        return ([] if self.lead is None else [self.lead]) + list(self.frames)


Segments = tuple[Segment, ...]


@dataclass(frozen=True)
class Layout:
    """A plan worked out for one clip.

    roles: of every frame; of a plain stream all are LR, those that are to be enhanced.
    hr, lr: what the two streams code; empty where the plan has no such stream.
    plain: what the full-size stream codes that goes with it: every frame, restarted where
    the pair restarts, so that random access costs both the same.
    """

    roles: tuple[Role, ...]
    hr: Segments
    lr: Segments
    plain: Segments

    def frames(self, role: Role) -> list[int]:
        return [i for i, r in enumerate(self.roles) if r is role]


def lay_out(
    frames: int, cuts: Sequence[bool], plan: Plan, config: Config, intra_period: int
) -> Layout:
    """The layout tds.encode would choose for these frames.

    Raises InputError when there is nothing to down-sample."""
    restart = intra_period if config is Config.RA else 0
    if plan.kind in (LR_ONLY, PLAIN):
        starts = [i for i in range(frames) if i == 0 or (restart and i % restart == 0)]
        every = _segments(frames, starts)
        return Layout((Role.LR,) * frames, (), every if plan.kind == LR_ONLY else (), every)
    planner: Planner[int] = Planner(plan.settings(restart))
    planned: list[Planned[int]] = []
    for i in range(frames):
        planned += planner.push(i, cuts[i])
    planned += planner.finish()
    assert [p.frame for p in planned] == list(range(frames))
    roles = tuple(p.role for p in planned)
    if Role.LR not in roles:
        raise InputError(f"{frames} frames hold no group with a frame between two boundaries")
    starts = [p.frame for p in planned if p.restarts]
    plain = _segments(frames, starts)
    hr, lr = [], []
    for segment in plain:
        of = {role: tuple(i for i in segment.frames if roles[i] is role) for role in Role}
        if of[Role.HR]:
            hr.append(Segment(of[Role.HR]))
        if of[Role.LR]:
            lr.append(Segment(of[Role.LR], None if config is Config.AI else segment.frames[0]))
    return Layout(roles, tuple(hr), tuple(lr), plain)


def _segments(frames: int, starts: list[int]) -> Segments:
    ends = [*starts[1:], frames]
    return tuple(Segment(tuple(range(a, b))) for a, b in zip(starts, ends, strict=True))


def to_plain(segments: Segments) -> list[Any]:
    """For a job's description."""
    return [[s.lead, list(s.frames)] for s in segments]


def from_plain(value: list[Any]) -> Segments:
    return tuple(Segment(tuple(frames), lead) for lead, frames in value)
