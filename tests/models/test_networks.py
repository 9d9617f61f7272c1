# SPDX-License-Identifier: LGPL-2.1-or-later
"""What docs/model.md asks of a network, for each of the three."""

from __future__ import annotations

import json
import warnings
import zipfile

import pytest
import torch

from tds.models.build import build
from tds.models.export import example, export, script
from tds.models.resample import luma_of
from tds.training.trainer import bicubic

SMALL_PAPER = {
    "preset": "quality-paper",
    "channels": 16,
    "front_blocks": 1,
    "back_blocks": 1,
    "groups": 4,
    "iqem_layers": 3,
    "iqem_channels": 16,
}
NETWORKS = {
    "fast": {"preset": "fast"},
    "standard": {"preset": "standard", "channels": 16, "blocks": 1},
    "paper": SMALL_PAPER,
    "paper without MTSA": {**SMALL_PAPER, "fusion": "tsa"},
}


def lively(network: dict, scale: int) -> torch.nn.Module:
    """A network whose outputs are not the zeros they start from."""
    model = build({**network, "scale": scale}).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise * 0.02 if parameter.abs().max() > 0 else noise * 0.01)
    return model


@pytest.fixture(params=sorted(NETWORKS))
def network(request):
    return NETWORKS[request.param]


@pytest.fixture(params=[2, 4])
def scale(request):
    return request.param


def test_a_fresh_network_is_bicubic(network, scale):
    model = build({**network, "scale": scale}).eval()
    first, target, last, side = example(scale)
    with torch.no_grad():
        got = model(first, target, last, side)
    assert got.shape == first.shape
    assert torch.allclose(got, bicubic(target, scale), atol=1e-5)


def test_forward_is_enhance_of_reference(network, scale):
    model = lively(network, scale)
    first, target, last, side = example(scale)
    with torch.no_grad():
        whole = model(first, target, last, side)
        parts = model.enhance(model.reference(first), target, model.reference(last), side)
    assert torch.equal(whole, parts)
    assert not torch.allclose(whole, bicubic(target, scale), atol=1e-3)


def test_features_have_the_batch_first(network):
    first = example(2, batch=3)[0]
    for feature in build({**network, "scale": 2}).eval().reference(first):
        assert feature.shape[0] == 3


def test_scripted_is_the_same_at_any_size_and_batch(network, scale):
    model = lively(network, scale)
    scripted = script(model)
    for height, width, batch in ((64, 96, 1), (48, 32, 3), (16, 16, 2)):
        arguments = example(scale, height, width, batch)
        with torch.no_grad():
            assert torch.allclose(scripted(*arguments), model(*arguments), atol=1e-5)


def test_pictures_of_a_batch_do_not_touch_each_other(network):
    model = lively(network, 2)
    several = [example(2, seed=i)[:3] for i in range(3)]
    sides = torch.tensor([[1, 1, 0.5, 30, 30], [1, 1, 0.25, -1, -1], [0, 1, 0.5, 22, 27]])
    several = [(*s, sides[i : i + 1]) for i, s in enumerate(several)]
    with torch.no_grad():
        both = model(*[torch.cat(parts) for parts in zip(*several, strict=True)])
        alone = torch.cat([model(*one) for one in several])
    assert torch.allclose(both, alone, atol=1e-4)


def test_exported_archive_has_its_metadata_and_no_warning(network, tmp_path):
    about = {"tds_model": 1, "name": "x", "version": "7", "scale": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export(lively(network, 2), about, tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        name = next(n for n in archive.namelist() if n.endswith("extra/tds.json"))
        found = json.loads(archive.read(name))
    assert found["version"] == "7" and found["precision"] == "float32"
    assert found["torch"] == torch.__version__
    assert [p.name for p in tmp_path.iterdir()] == ["x.pt"]


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_reduced_precision_runs_and_is_near(network, precision, tmp_path):
    model = lively(network, 2)
    export(model, {"name": "x", "scale": 2}, tmp_path / "x.pt", precision)
    loaded = torch.jit.load(str(tmp_path / "x.pt"))
    assert {p.dtype for p in loaded.parameters()} == {getattr(torch, precision)}
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def multiply_adds(network: dict, scale: int) -> float:
    """Of all learned layers, per luma sample of the full size."""
    model = build({**network, "scale": scale}).eval()
    total = 0

    def count(module, arguments, output):
        nonlocal total
        total += module.weight[0].numel() * output.numel()

    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        model(*example(scale, 64, 96))
    return total / (64 * 96)


def test_fast_and_standard_keep_their_budgets(scale):
    assert multiply_adds({"preset": "fast"}, scale) <= 4_000
    assert multiply_adds({"preset": "standard"}, scale) <= 60_000


@pytest.mark.parametrize("name", ["fast", "standard"])
def test_every_parameter_of_light_networks_learns(name):
    model = lively(NETWORKS[name], 2).train()
    first, target, last, side = example(2)
    model(first, target, last, side).sum().backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_a_missing_reference_is_told_by_side_only(network):
    model = lively(network, 2)
    first, target, _, _ = example(2)
    for side in ([1, 0, 0.5, -1, -1], [0, 1, 0.5, 30, 30], [0, 0, 0.5, -1, -1]):
        with torch.no_grad():
            got = model(first, target, first, torch.tensor([side], dtype=torch.float32))
        assert torch.isfinite(got).all()


def test_through_a_reference_that_stands_for_both_nothing_moves_straight():
    model = build({**NETWORKS["standard"], "scale": 2}).eval()
    first, target, last, side = example(2)
    a, b = model.reference(first), model.reference(last)
    alone = model.flows(a, target, a, torch.tensor([[1.0, 0.0, 0.5, -1.0, -1.0]]))
    flow = model.motion(luma_of(target), a[2])
    full = torch.nn.functional.interpolate(flow, scale_factor=2.0, mode="bilinear") * 2.0
    assert torch.allclose(alone[2], full.repeat(2, 1, 1, 1), atol=1e-4)
    both = model.flows(a, target, b, side)
    assert not torch.allclose(both[2], alone[2], atol=0.1)
    assert len(both) == 4 and all(f.shape == (2, 2, 64, 96) for f in both)


def test_settling_is_for_motion_of_the_lr_size():
    with pytest.raises(ValueError, match="settle"):
        build({"preset": "standard", "scale": 2, "settle": [2]})
    plain, settled = (
        build({"preset": "fast", "scale": 2, "settle": s}).alignment() for s in ([], [2, 2])
    )
    assert plain != settled  # cached alignments of one are not those of the other


def test_hypotheses_need_the_full_search():
    with pytest.raises(ValueError, match="full_search"):
        build({"preset": "fast", "scale": 2, "hypotheses": 4})


def test_unknown_settings_are_refused_with_what_there_is():
    with pytest.raises(
        ValueError, match="fast, standard, quality, quality-tsa, quality-small, quality-paper"
    ):
        build({"preset": "slow", "scale": 2})
    with pytest.raises(ValueError, match="light, paper, quality"):
        build({"kind": "heavy", "scale": 2})
    with pytest.raises(ValueError, match="bogus"):
        build({"preset": "fast", "scale": 2, "bogus": 1})
    with pytest.raises(ValueError, match="2 or 4"):
        build({"preset": "fast", "scale": 3})
