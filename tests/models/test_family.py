# SPDX-License-Identifier: LGPL-2.1-or-later
"""The family of enhancers: what holds whatever the weights, and what the shipped ones do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tds.models.build import build
from tds.models.export import script, window_example
from tds.models.family import FamilyEnhancer, LeastSquares, Settle, costs, finer, grid_of, warp

SLOTS = ["-1", "+1", "full-before", "full-after"]
SIZES = ["family-fast", "family-standard", "family-large"]


def network(size: str, slots: list[str], scale: int = 1) -> FamilyEnhancer:
    made = build({"preset": size, "references": slots, "scale": scale})
    assert isinstance(made, FamilyEnhancer)
    return made.eval()


def disturbed(net: FamilyEnhancer) -> FamilyEnhancer:
    """With weights that do something: as they start, the last layer is zero."""
    with torch.no_grad():
        net.tail.weight.normal_(std=0.05)
        net.tail.bias.normal_(std=0.05)
    return net


def run(net: FamilyEnhancer, pictures: Tensor, side: Tensor) -> Tensor:
    with torch.no_grad():
        return net(pictures, side)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_untrained_it_gives_the_target_back_exactly(size: str, scale: int) -> None:
    pictures, side = window_example(scale, SLOTS)
    assert torch.equal(run(network(size, SLOTS, scale), pictures, side), pictures[:, 0])


@pytest.mark.parametrize("size", SIZES)
def test_the_scripted_network_is_the_same(size: str) -> None:
    net = disturbed(network(size, SLOTS))
    pictures, side = window_example(1, SLOTS, batch=2)
    want = run(net, pictures, side)
    with torch.no_grad():
        got = script(net)(pictures, side)
    assert torch.allclose(got, want, atol=1e-5)
    assert not torch.equal(want, pictures[:, 0])


def test_strength_scales_the_change() -> None:
    net = disturbed(network("family-fast", SLOTS[:2]))
    pictures, side = window_example(1, SLOTS[:2])
    whole = run(net, pictures, side) - pictures[:, 0]
    side[:, 0, 6] = 0.5
    half = run(net, pictures, side) - pictures[:, 0]
    assert torch.allclose(half, whole / 2, atol=1e-6)


def test_a_slot_that_is_not_present_takes_no_pixels() -> None:
    # Only the gate of the absent slot is open: what it gates must be nothing.
    net = network("family-fast", SLOTS[:2])
    with torch.no_grad():
        net.tail.bias[24 + 24 :] = 1.0
    pictures, side = window_example(1, SLOTS[:2])
    moved = run(net, pictures, side)
    assert not torch.equal(moved, pictures[:, 0])
    pictures[:, 2] = pictures[:, 0]
    side[:, 2] = torch.tensor([0.0, 0.0, 1.0, 0.0, -1.0, -1.0, 0.0])
    assert torch.equal(run(net, pictures, side), pictures[:, 0])


def test_pictures_of_a_batch_do_not_mix() -> None:
    net = disturbed(network("family-standard", SLOTS))
    one, side = window_example(1, SLOTS, seed=1)
    other, _ = window_example(1, SLOTS, seed=2)
    both = run(net, torch.cat([one, other]), torch.cat([side, side]))
    assert torch.allclose(both[:1], run(net, one, side), atol=1e-5)
    assert torch.allclose(both[1:], run(net, other, side), atol=1e-5)


def test_the_search_finds_a_shift() -> None:
    """Untrained, motion is a search alone: it finds how far a smooth scene has moved."""
    net = network("family-standard", ["-1"])
    pictures, side = window_example(1, ["-1"], height=128, width=192)
    found = [net.features(pictures[:, i], side[:, i, 2:6]) for i in range(2)]
    levels: list[Tensor] = []
    with torch.no_grad():
        flow, _ = net.flow(found[0], found[1], levels)
    # The reference shows the scene one place before: its content is 3 to the right, 1 down.
    inner = flow[0, :, 8:-8, 8:-8] * 4
    assert abs(float(inner[0].median()) - 3.0) < 0.5
    assert abs(float(inner[1].median()) - 1.0) < 0.5


def test_warping_by_whole_samples_moves_them() -> None:
    picture = torch.arange(48.0).view(1, 1, 6, 8)
    flow = torch.zeros(1, 2, 6, 8)
    flow[:, 0] = 1.0
    moved = warp(picture, flow, grid_of(picture))
    assert torch.allclose(moved[..., :-1], picture[..., 1:], atol=1e-4)
    assert torch.allclose(moved[..., -1], picture[..., -1], atol=1e-4)  # the edge is repeated


def test_least_squares_stays_where_there_is_nothing_to_see() -> None:
    flat = torch.full((1, 1, 16, 16), 0.5)
    flow = torch.full((1, 2, 16, 16), 0.25)
    solved = LeastSquares(3, 2)(flat, flat, flow, grid_of(flat))
    assert torch.allclose(solved, flow, atol=1e-4)


def test_mixed_precision_solves_for_motion_in_float32() -> None:
    """Along an edge the determinant is next to nothing: of slopes in halves it is zero."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    luma = (((x + y) % 16 - 8).abs() * 0.1)[None, None]
    flow = torch.zeros(1, 2, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        solved = LeastSquares(3, 2)(luma, luma.roll(1, 3), flow, grid_of(luma))
        settled = Settle([2, 2])(luma, luma.roll(1, 3), flow[:, :, :16, :16], grid_of(luma))
    assert solved.isfinite().all() and settled.isfinite().all()


def smooth_scene(height: int, width: int, right: float) -> Tensor:
    """``[1, 1, H, W]``, the same scene moved to the right by so many samples."""
    y = torch.arange(height, dtype=torch.float32)[:, None]
    x = torch.arange(width, dtype=torch.float32)[None, :] - right
    return (0.5 + 0.2 * torch.sin(x * 0.35 + y * 0.11) + 0.2 * torch.cos(y * 0.29 - x * 0.13))[
        None, None
    ]


def test_a_flow_settles_to_a_part_of_a_sample() -> None:
    target, reference = smooth_scene(64, 96, 0.0), smooth_scene(64, 96, 1.3)
    flow = torch.zeros(1, 2, 16, 24)
    found = 4.0 * Settle([2, 2])(target, reference, flow, grid_of(target))[0, :, 3:-3, 3:-3]
    assert (found[0] - 1.3).abs().max() < 0.1
    assert found[1].abs().max() < 0.1


def test_a_flow_that_fits_already_stays() -> None:
    # The right half of the reference shows something else: no step of its windows fits better
    # than the true motion, which the flow has.
    target, reference = smooth_scene(64, 96, 0.0), smooth_scene(64, 96, 2.0)
    torch.manual_seed(0)
    reference[..., 48:] = torch.rand(1, 1, 64, 48)
    flow = torch.zeros(1, 2, 16, 24)
    flow[:, 0] = 0.5
    settled = Settle([2, 2])(target, reference, flow, grid_of(target))
    assert (settled - flow)[..., 3:-3, 3:10].abs().max() < 0.02
    fits = [
        float((warp(reference, finer(f, 4), grid_of(target)) - target).abs().mean())
        for f in (settled, flow)
    ]
    assert fits[0] <= fits[1]


def test_costs_are_lowest_at_the_displacement() -> None:
    torch.manual_seed(0)
    scene = torch.rand(1, 1, 24, 24)
    cost = costs(scene[..., 2:18, 2:18], scene[..., 3:19, 1:17], 2)
    # The reference begins one row lower and one column to the left: its content is up, right.
    assert int(cost[0, :, 8, 8].argmin()) == (2 - 1) * 5 + (2 + 1)


def test_a_finer_flow_points_as_far() -> None:
    flow = torch.full((1, 2, 4, 4), 1.5)
    assert torch.allclose(finer(flow, 4), torch.full((1, 2, 16, 16), 6.0))


def judging(size: str = "family-fast") -> FamilyEnhancer:
    made = build({"preset": size, "references": SLOTS, "scale": 1, "judge": 8})
    assert isinstance(made, FamilyEnhancer)
    return disturbed(made.eval())


def test_a_qp_that_is_not_told_is_the_one_that_was_seen() -> None:
    net = judging()
    pictures, side = window_example(1, SLOTS)
    pictures = torch.rand_like(pictures)
    side[:, :, 4] = -1.0
    side[:, 1, 2] = 2.0  # an LR neighbour, which shows another QP
    side[:, 2, 0] = 0.0
    found = [net.features(p, side[:, 0, 2:6]) for p in pictures.unbind(1)]
    untold = net.told(side, found)
    want = sum(found[i][7] for i in (0, 3, 4)) / 3
    assert (untold[..., 6] == 1).all()
    assert torch.allclose(untold[..., 7], want[:, None].expand(-1, 5), atol=2e-3)
    side[:, :, 4] = 37.0
    side[:, 1, 4] = 40.0
    told = net.told(side, found)
    assert told[0, :, 7].tolist() == [v / 16.0 for v in (5.0, 8.0, 5.0, 5.0, 5.0)]


def test_what_is_seen_does_not_hang_on_the_size_of_a_picture() -> None:
    judge = judging().judge
    part = torch.rand(1, 1, 64, 64)
    mosaic = part.repeat(1, 1, 6, 6)
    with torch.no_grad():
        assert torch.allclose(judge(part), judge(mosaic), atol=0.02)


def test_a_judging_network_scripted_is_the_same() -> None:
    net = judging("family-standard")
    pictures, side = window_example(1, SLOTS, batch=2)
    side[:, :, 4] = -1.0
    with torch.no_grad():
        assert torch.allclose(script(net)(pictures, side), run(net, pictures, side), atol=1e-5)


@pytest.mark.parametrize("slots", [[], ["-1"] * 9])
def test_too_few_or_too_many_slots_are_refused(slots: list[str]) -> None:
    with pytest.raises(ValueError, match="1 to 8 references"):
        FamilyEnhancer(references=slots)
