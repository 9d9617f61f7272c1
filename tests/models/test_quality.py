# SPDX-License-Identifier: LGPL-2.1-or-later
"""`quality`: the paper's modules at a size that can be trained; and its training."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from scenes import scene

from tds.errors import InputError
from tds.evaluation.complexity import count_family
from tds.models.build import build, settings
from tds.models.export import export, script, window_example
from tds.models.family import FamilyEnhancer
from tds.models.quality import BOUNDARIES, QualityEnhancer
from tds.models.registry import load, metadata
from tds.models.resample import luma_of, pack
from tds.session import Session
from tds.training.bank import Bank
from tds.training.config import SampleSettings, load_config
from tds.training.growing import grow
from tds.training.pictures import down_sample
from tds.training.quality import QualityStep
from tds.training.samples import collate
from tds.training.trainer import Trainer, bicubic, freeze, validate_windows
from tds.training.windows import WindowSamples, middle_of, shown

TREE = Path(__file__).resolve().parents[2]
TINY = {
    "preset": "quality-small",
    "channels": 8,
    "heads": 4,
    "back_blocks": 1,
    "iqem_layers": 3,
    "scale": 2,
    "references": BOUNDARIES,
}


def tiny(**settings) -> QualityEnhancer:
    made = build({**TINY, **settings})
    assert isinstance(made, QualityEnhancer)
    return made.eval()


def lively(**settings) -> QualityEnhancer:
    """With weights that do something: as they start, the last layer is zero."""
    net = tiny(**settings)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if not name.startswith("motion."):
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(noise * (0.02 if parameter.abs().max() > 0 else 0.01))
    return net


def run(net, *arguments):
    with torch.no_grad():
        return net(*arguments)


# -- the network


@pytest.mark.parametrize("preset, most", [("quality", 300), ("quality-small", 100)])
def test_it_keeps_its_budget_and_untrained_gives_the_target_back(preset, most):
    net = build({"preset": preset, "scale": 2, "references": BOUNDARIES}).eval()
    pictures, side = window_example(2, BOUNDARIES)
    assert torch.equal(run(net, pictures, side), pictures[:, 0])
    assert 0.8 * most < count_family(net, 2, 128)["kmac_per_pixel"] <= most


@pytest.mark.parametrize("aggregation", ["mtsa", "tsa", "none"])
@pytest.mark.parametrize("iqem, recurrence", [(True, True), (False, False)])
def test_each_form_of_the_ablation_scripts_and_learns(aggregation, iqem, recurrence):
    net = lively(aggregation=aggregation, iqem=iqem, recurrence=recurrence)
    pictures, side = window_example(2, BOUNDARIES, batch=2)
    want = run(net, pictures, side)
    assert not torch.equal(want, pictures[:, 0])
    assert torch.allclose(run(script(net), pictures, side), want, atol=1e-5)
    # Pictures of a batch do not mix.
    assert torch.allclose(run(net, pictures[:1], side[:1]), want[:1], atol=1e-5)
    net.train()(pictures, side).square().sum().backward()
    idle = {n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()}
    # The motion is taught by what it is taken from; softmax takes a key's bias out again.
    assert {n for n in idle if not n.startswith("motion.") and not n.endswith("key.bias")} == set()


def test_strength_scales_the_change_and_an_absent_slot_adds_no_pixels():
    net = lively()
    pictures, side = window_example(2, BOUNDARIES)
    whole = run(net, pictures, side) - pictures[:, 0]
    side[:, 0, 6] = 0.5
    assert torch.allclose(run(net, pictures, side) - pictures[:, 0], whole / 2, atol=1e-6)
    net = tiny()
    with torch.no_grad():
        net.iqem.last.bias[12:] = 1.0  # the gate of the second slot alone
    taken = run(net, pictures, side)
    assert not torch.equal(taken, pictures[:, 0])
    side[:, 2] = torch.tensor([0.0, 0.0, 2.0, 0.0, -1.0, -1.0, 0.0])
    assert torch.equal(run(net, pictures, side), pictures[:, 0])


def test_half_precision_runs_and_is_near(tmp_path):
    about = {"tds_model": 2, "name": "x", "version": "1", "scale": 2, "references": BOUNDARIES}
    export(lively(), about, tmp_path / "x.pt", "bfloat16")


def test_settings_that_do_not_fit_are_refused_with_why():
    for wrong, why in (
        ({"aggregation": "sum"}, "mtsa, tsa, none"),
        ({"references": ["-1", "+1"]}, "full-before and full-after"),
        ({"scale": 1}, "recurrence is for pairs"),
        ({"references": ["-1"], "recurrence": False}, "2 references"),
        ({"channels": 9}, "multiple"),
    ):
        with pytest.raises(ValueError, match=why):
            tiny(**wrong)
    assert tiny(references=["-1", "+1"], recurrence=False).recurrence is False


def test_its_motion_is_the_family_s():
    family = build({"preset": "family-fast", "references": ["-1", "+1"], "scale": 1}).eval()
    assert isinstance(family, FamilyEnhancer)
    net = tiny()
    grow(family, net)
    pictures, side = window_example(2, BOUNDARIES)
    found = [family.features(pictures[:, i], side[:, i, 2:6]) for i in range(3)]
    own = [torch.cat([x, x]) for x in found[0]]
    theirs = [torch.cat(x) for x in zip(*found[1:], strict=True)]
    references = torch.cat([pictures[:, 1], pictures[:, 2]])
    flow, _ = family.flow(own, theirs, [])
    want = family.move(pictures[:, 0], references, flow)
    assert torch.equal(run(net.motion, pictures[:, 0], references, own, theirs), want)
    with pytest.raises(InputError, match="of the same sizes"):
        grow(build({"preset": "family-standard", "references": ["-1"], "scale": 1}), net)


# -- the recurrence


@pytest.mark.parametrize(
    "distances, want",
    [
        ([-1, 3], (1, 1)),  # the first of three, from its boundary and the middle
        ([-2, 2], None),  # the middle
        ([-3, 1], (-1, 0)),
        ([-1, 4], (1, 1)),  # of four the second
        ([-1, 1], None),
        ([None, 2], None),
    ],
)
def test_the_middle_of_a_run_is_enhanced_first(distances, want):
    assert middle_of(distances) == want


def by_hand(net, source, low) -> list[torch.Tensor]:
    """The three LR pictures between two HR ones, with QPs 32 and 35."""

    def padded(packed):
        """To multiples of 16, as the engine does once LR pictures have full size."""
        right, bottom = (-2 * v % 16 for v in (packed.shape[3], packed.shape[2]))
        luma, chroma = luma_of(packed), packed[:, 4:]
        luma = F.pad(luma, [0, right, 0, bottom], mode="replicate")
        chroma = F.pad(chroma, [0, right // 2, 0, bottom // 2], mode="replicate")
        return pack(luma, chroma)

    def codes(video, index):
        return video.packed(index)[None].float() / 255.0

    ups = {t: padded(bicubic(codes(low, t), 2).clamp(0, 1)) for t in (1, 2, 3)}
    seen = {0: (padded(codes(source, 0)), 1, 0, 32), 4: (padded(codes(source, 4)), 1, 0, 32)}
    made = {}
    for t, a, b in ((2, 0, 4), (1, 0, 2), (3, 2, 4)):
        rows = [[1.0, 0, 2, 0, 35, -1, 1]]
        for r in (a, b):
            rows.append([1.0, r - t, *seen[r][1:], -1, 0])
        pictures = torch.stack([ups[t], seen[a][0], seen[b][0]], 1)
        made[t] = run(net, pictures, torch.tensor([rows])).clamp(0, 1)
        seen[t] = (made[t], 1, 1, 35)
    return [made[t] for t in (1, 2, 3)]


def test_the_engine_runs_it_with_the_paper_s_recurrence(tmp_path):
    net = lively()
    about = {"tds_model": 2, "name": "x", "version": "1", "scale": 2, "alignment": 16}
    about |= {"references": BOUNDARIES, "recurrence": True}
    export(net, about, tmp_path / "x.pt")
    source = scene(5, 104, 72)
    low = down_sample(source, 2)
    with Session(104, 72, 2, model=tmp_path / "x.pt", hr_qp=32, lr_qp=35, device="cpu") as session:
        for t in range(5):
            video, role = (source, "hr") if t % 4 == 0 else (low, "lr")
            assert session.send(role, [np.ascontiguousarray(p) for p in video.planes(t)], pts=t)
        session.end("hr")
        session.end("lr")
        got = list(session)
        assert session.info.enhanced == 3
    assert [p.status for p in got] == ["passed", *["enhanced"] * 3, "passed"]
    for picture, tensor in zip(got[1:4], by_hand(net, source, low), strict=True):
        luma = luma_of(tensor)[0, 0, :72, :104]
        off = np.abs(picture.planes[0].astype(int) - (luma * 255).round().numpy().astype(int))
        assert off.max() <= 1


def test_an_archive_whose_slots_have_no_recurrence_is_refused(tmp_path):
    net = lively(references=["-1", "+1"], recurrence=False)
    about = {"tds_model": 2, "name": "x", "version": "1", "scale": 2, "alignment": 16}
    export(net, {**about, "references": ["-1", "+1"], "recurrence": True}, tmp_path / "x.pt")
    with pytest.raises((InputError, ValueError), match='"recurrence", which is for k = 2 and 4'):
        Session(96, 64, 2, model=tmp_path / "x.pt")


# -- training


@pytest.fixture
def bank(pair_set, tmp_path) -> Bank:
    return Bank([pair_set], tmp_path / "cache", lambda e: True)


def test_samples_show_the_enhanced_middle_where_the_recurrence_has_it(bank):
    settings = SampleSettings(
        patch=32, border=0, missing=0, unrelated=0, causal=0, recurrent=0.8, unknown_qp=0.5
    )
    samples = WindowSamples(bank, BOUNDARIES, 2, settings, 1, recurrence=True)
    counts = [0, 0, 0]
    for s in map(samples, range(120)):
        which = int(s["recurrent"])
        counts[which] += 1
        if not which:
            assert (s["side"][:, 3] == 0).all()
            continue
        row, other = s["side"][which], s["side"][3 - which]
        assert row[[0, 2, 3]].tolist() == [1, 1, 1] and abs(row[1]) < abs(other[1] - row[1])
        assert row[4] == s["side"][0, 4]
        # Its middle lies between the boundaries, one of which is the target's too.
        distances = s["middle_side"][1:, 1]
        assert float(distances[2 - which]) == float(other[1] - row[1])
        assert distances[0] < 0 < distances[1] and abs(int(distances.sum())) <= 1
        assert torch.equal(s["middle"][0], s["pictures"][which])
        assert torch.equal(s["middle"][3 - which], s["pictures"][3 - which])
        assert (s["fits"] == 1).all()
    assert min(counts) > 10
    # One draw a sample more; without it the family's samples are what they were.
    plain = WindowSamples(bank, BOUNDARIES, 2, settings, 1)(3)
    assert "recurrent" not in plain


def test_a_step_sees_the_middle_as_the_network_makes_it(bank):
    settings = SampleSettings(patch=32, border=0, missing=0, unrelated=0, causal=0, recurrent=1.0)
    samples = WindowSamples(bank, BOUNDARIES, 2, settings, 1, recurrence=True)
    batch = collate(list(itertools.islice(map(samples, range(40)), 6)))
    rows = batch["recurrent"].nonzero()[:, 0]
    assert 0 < len(rows)
    net = lively()
    step = QualityStep(net, None, "cpu", load_config(TREE / CONFIGS[0]).loss, 0)
    seen = step._seen(batch)
    made = run(net, batch["middle"], batch["middle_side"]).clamp(0, 1)
    for i in range(6):
        which = int(batch["recurrent"][i])
        for slot in range(3):
            want = made[i] if which and slot == which else batch["pictures"][i, slot]
            assert torch.allclose(seen[i, slot], want, atol=1e-5)


def test_validation_goes_by_the_recurrence(bank):
    source = next(
        s
        for s in bank.sources
        if (s.track.clip, s.track.config, s.track.scale) == ("one", "ldp", 2)
    )
    net = lively()
    shown_to = list(shown(bank, source, BOUNDARIES, 4, 8, net.forward))
    rows = [side[0, 1:, [1, 3]].tolist() for _, side, _ in shown_to[:3]]
    assert rows == [[[-1, 0], [1, 1]], [[-2, 0], [2, 0]], [[-1, 1], [1, 0]]]
    middle = run(net, *shown_to[1][:2])
    assert torch.allclose(shown_to[0][0][:, 2], middle, atol=1e-6)
    assert torch.allclose(shown_to[2][0][:, 1], middle, atol=1e-6)
    gains = validate_windows(net, bank, 2, BOUNDARIES, 5, 2)
    assert set(gains) == {("hevc ldp", 32), ("hevc ai", 32), ("hevc ai", 37)}


CONFIGS = [f"configs/training/{n}.yaml" for n in ("quality-k2", "quality-k4", "quality-small-k2")]


@pytest.mark.parametrize("name", CONFIGS)
def test_shipped_configurations_have_their_motion_and_two_stages(name):
    config = load_config(TREE / name)
    net = build(config.network)
    grow(load(TREE / config.init), net)
    first, second = config.stages
    one, two = set(freeze(net, first, 0.0)), set(freeze(net, second, 0.0))
    late = set(freeze(net, second, 0.9)) - two
    assert {n.split(".")[0] for n in late} == {"pcd"}
    assert not any(n.startswith("motion.") for n in one | two | late)
    assert any(n.startswith("pcd.") for n in one) and not any(n.startswith("pcd.") for n in two)
    assert any("mta.attentions" in n for n in two) and not any("mta.attentions" in n for n in one)
    assert all(any(n.startswith(p) for n in two) for p in ("fusion.psa.", "iqem."))


@pytest.mark.parametrize("k", [2, 4])
def test_the_configuration_without_mtsa_differs_in_nothing_else(k):
    folder = TREE / "configs" / "training"
    whole, without = (load_config(folder / f"{n}-k{k}.yaml") for n in ("quality", "quality-tsa"))
    one, other = settings(whole.network), settings(without.network)
    assert other == {**one, "aggregation": "tsa"} and whole.init == without.init
    for name in ("data", "samples", "optimizer", "loss", "validation"):
        assert getattr(whole, name) == getattr(without, name)
    with torch.device("meta"):
        net = build(without.network)
    for a, b in zip(whole.stages, without.stages, strict=True):
        assert dataclasses.replace(a, freeze=b.freeze) == b
        assert b.freeze == [p for p in a.freeze if "mta" not in p]
        assert freeze(net, b, 0.9)


def run_of(pair_set: Path, folder: Path) -> dict:
    """What runs of a tiny network have in common."""
    return {
        "network": TINY,
        "init": str(TREE / "models" / "fast-k1.safetensors"),
        "data": {
            "folders": [str(pair_set)],
            "cache": str(folder / "decoded"),
            "held_out": ["two"],
        },
        "samples": {"patch": 32, "border": 0, "recurrent": 0.7},
    }


def test_stopped_and_resumed_gives_the_same_weights(pair_set, tmp_path):
    """With the samples, the stages and the validation of `quality`; and what comes out is a model
    that asks for the recurrence."""
    values = {
        **run_of(pair_set, tmp_path),
        "optimizer": {"batch": 2, "threads": 1, "clip": 8.0, "deterministic": True},
        "stages": [
            {"steps": 3, "warmup": 1, "freeze": ["motion.", "fusion.mta.attentions."]},
            {"steps": 3, "warmup": 1, "freeze": ["motion.", "pcd."]},
        ],
        "validation": {"every": 6},
        "log": {"every": 2, "tensorboard": False},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))

    def train(out: Path, stop_after: int | None = None) -> dict:
        trainer = Trainer(load_config(path), out, quiet=True)
        trainer.run(stop_after)
        state = torch.load(out / "checkpoint.pt", weights_only=True)
        return {**state["model"], **{f"average {k}": v for k, v in state["average"].items()}}

    whole = train(tmp_path / "whole")
    train(tmp_path / "parts", 2)
    torch.rand(100)  # whatever happens in between
    parts = train(tmp_path / "parts")
    assert [k for k in whole if not torch.equal(whole[k], parts[k])] == []
    family = load(TREE / "models" / "fast-k1.safetensors").state_dict()
    motion = {k.removeprefix("motion."): v for k, v in whole.items() if k.startswith("motion.")}
    assert motion and all(torch.equal(v, family[k]) for k, v in motion.items())
    about = metadata(tmp_path / "whole" / "weights.safetensors")
    assert about["tds_model"] == 2 and about["name"] == "quality-small"
    assert about["recurrence"] is True and about["references"] == BOUNDARIES
    assert (tmp_path / "whole" / "validation.csv").is_file()
    # Weights go back to their network, whose settings have references.
    assert load(tmp_path / "whole" / "weights.safetensors").recurrence is True
