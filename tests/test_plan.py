# SPDX-License-Identifier: LGPL-2.1-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tds.plan import Boundaries, Planned, Planner, PlanSettings, Role, roles_of_groups, run_lengths

ODD = st.integers(1, 8).map(lambda n: 2 * n + 1)


def plan(count: int, cuts: set[int], settings: PlanSettings) -> tuple[list[Planned[int]], Planner]:
    planner: Planner[int] = Planner(settings)
    out = []
    for i in range(count):
        out += planner.push(i, i in cuts)
    return out + planner.finish(), planner


def letters(count: int, cuts: set[int] | None = None, **options: object) -> str:
    planned, _ = plan(count, cuts or set(), PlanSettings(**options))  # type: ignore[arg-type]
    return "".join(p.role.name[0] for p in planned)


@given(
    st.integers(0, 80), st.sets(st.integers(0, 80)), ODD, st.sampled_from(Boundaries),
    st.integers(0, 40),
)  # fmt: skip
def test_every_frame_comes_out_once_in_order_and_groups_tell_the_roles(
    count: int, cuts: set[int], group: int, boundaries: Boundaries, restart: int
) -> None:
    planned, planner = plan(count, cuts, PlanSettings(group, boundaries, restart))
    assert [p.frame for p in planned] == list(range(count))
    roles = [p.role for p in planned]
    assert list(roles_of_groups(run_lengths(planner.groups), boundaries)) == roles
    # A run of LR frames is never longer than a group holds and always between two HR frames.
    assert "L" * (group - 1) not in "".join(r.name[0] for r in roles)
    if roles:
        assert roles[0] is roles[-1] is Role.HR
        assert planned[0].restarts
    for p in planned:
        assert not p.restarts or (p.role is Role.HR and p.starts_group)
    for cut in cuts:
        if 0 < cut < count:  # a scene cut has HR on both sides
            assert roles[cut - 1] is roles[cut] is Role.HR


def test_the_paper_s_groups_have_both_ends_to_themselves() -> None:
    assert letters(12) == "HLLLHHLLLHHH"


def test_shared_boundaries_serve_two_groups() -> None:
    assert letters(12, boundaries=Boundaries.SHARED) == "HLLLHLLLHLLH"


def test_a_scene_cut_ends_a_group() -> None:
    assert letters(10, {3}) == "HLHHLLLHHH"
    assert letters(10, {3}, boundaries=Boundaries.SHARED) == "HLHHLLLHLH"


def test_streams_restart_at_the_first_group_after_the_period() -> None:
    planned, _ = plan(40, set(), PlanSettings(5, Boundaries.INDEPENDENT, 16))
    assert [p.frame for p in planned if p.restarts] == [0, 20]
    planned, _ = plan(40, set(), PlanSettings(5, Boundaries.SHARED, 16))
    assert [p.frame for p in planned if p.restarts] == [0, 16, 32]


@pytest.mark.parametrize("group", [0, 1, 2, 4, 67, -5])
def test_a_group_is_odd_and_of_three_frames_or_more(group: int) -> None:
    with pytest.raises(ValueError, match="odd number"):
        PlanSettings(group)
