# SPDX-License-Identifier: LGPL-2.1-or-later
"""Training of the family: what a sample shows, what is repeated exactly, what comes out of it."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml

from tds import cli
from tds.codecs import Codec, Config
from tds.errors import InputError
from tds.files import sha256_of
from tds.models.build import build as build_network
from tds.models.registry import load, metadata
from tds.models.resample import luma_of
from tds.session import Session
from tds.training.bank import Bank, Source, Track
from tds.training.config import SampleSettings, load_config
from tds.training.dataset import Job, build, load_manifest
from tds.training.family import judge_loss, motion_loss, picture_loss, schedule
from tds.training.growing import grow
from tds.training.pictures import Yuv, read
from tds.training.samples import load_pairs
from tds.training.trainer import Trainer, bicubic
from tds.training.windows import WindowSamples, in_slots, shown

SLOTS = ["-1", "+1", "full-before", "full-after"]
LR_SLOTS = ["full-before", "full-after", "-1", "+1"]


@pytest.fixture(scope="module")
def family_set(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plain streams in random access, and pairs for k = 2: of every frame, and in groups of 5."""
    folder = tmp_path_factory.mktemp("family")
    jobs = []
    for clip in sorted(clips.iterdir()):
        one = Job(clip, Codec.HEVC, Config.AI, 2, 1, 32, 32, "ultrafast")
        jobs += [
            dataclasses.replace(one, qp=37, lr_qp=37),
            one,
            dataclasses.replace(one, config=Config.RA, scale=1, qp=27, lr_qp=27),
            dataclasses.replace(one, config=Config.LDP, group=5),
        ]
    build(jobs, folder)
    return folder


@pytest.fixture
def bank(family_set, tmp_path) -> Bank:
    return Bank([family_set], tmp_path / "cache", lambda e: True)


def of(bank: Bank, config: str, qp: int, scale: int) -> Source:
    return next(
        s
        for s in bank.sources
        if (s.track.clip, s.track.config, s.track.qp, s.track.scale) == ("one", config, qp, scale)
    )


# -- data


def test_a_plain_stream_of_a_data_set_has_every_frame_and_no_lr(family_set, clips):
    (entry,) = (e for e in load_manifest(family_set) if e.scale == 1 and e.clip == "one")
    assert (entry.config, entry.lr, entry.lr_frames, entry.lr_bytes) == ("ra", "", (), 0)
    assert entry.hr_frames == tuple(range(9)) and len(read(family_set / entry.hr)) == 9
    with pytest.raises(InputError, match="no pair for k = 1"):
        load_pairs([family_set], family_set / "cache", 1)


def test_plain_streams_have_no_groups(clips, tmp_path, capsys):
    command = ["dataset", str(clips), "-o", str(tmp_path), "--scale", "1"]
    assert cli.main([*command, "--group", "5"]) != 0
    assert "are for pairs" in capsys.readouterr().err
    assert cli.main([*command, "--qp", "37", "--preset", "ultrafast", "--max-frames", "3"]) == 0
    assert "0 pairs of streams and 2 plain streams" in capsys.readouterr().out
    assert all(e.group == 1 for e in load_manifest(tmp_path))


def test_the_bank_has_the_pictures_of_all_streams(bank, family_set, clips):
    # Of each clip: 2 LR and 2 HR streams of every frame, a plain one, a pair.
    assert len(bank.sources) == 2 * 7
    for entry in load_manifest(family_set):
        if entry.clip != "one":
            continue
        hr = read(family_set / entry.hr)
        source = of(bank, entry.config, entry.hr_qp, 1)
        for i, frame in enumerate(entry.hr_frames):
            want = hr.packed(i).float() / 255
            assert torch.equal(bank.cut(source.track, frame, 0, 0, hr.height, hr.width), want)
            original = read(clips / "one.mkv").packed(frame, 8, 16, 32, 48).float() / 255
            assert torch.equal(bank.cut(source.original, frame, 8, 16, 32, 48), original)
    low = of(bank, "ldp", 32, 2)
    (entry,) = (e for e in load_manifest(family_set) if e.config == "ldp" and e.clip == "one")
    # The lead is no frame of its own.
    want = bicubic(read(family_set / entry.lr).packed(1)[None].float() / 255, 2).clamp(0, 1)[0]
    assert torch.allclose(bank.cut(low.track, 1, 0, 0, 64, 96), want)
    assert low.partner is not None and set(low.partner.places) == {0, 4, 8}


@pytest.mark.parametrize("y, x", [(0, 0), (16, 20), (32, 48)])
def test_a_cut_of_an_lr_picture_is_of_the_whole_one_brought_up(bank, y, x):
    track = of(bank, "ai", 32, 2).track
    whole = bank.picture(track, 3)
    part = bank.cut(track, 3, y, x, 32, 48)
    assert torch.allclose(part, whole[:, y // 2 : y // 2 + 16, x // 2 : x // 2 + 24], atol=1e-6)


def test_the_error_of_a_stream_is_measured(bank):
    errors = {qp: of(bank, "ai", qp, 1).track.error for qp in (32, 37)}
    assert 1e-5 < errors[32] < errors[37] < 1e-2
    assert of(bank, "ai", 32, 2).track.error > errors[32]


def test_streams_are_decoded_once(bank, family_set, tmp_path, monkeypatch):
    def refuse(path, most=None):
        raise AssertionError("decoded again")

    monkeypatch.setattr("tds.training.bank.read", refuse)
    again = Bank([family_set], tmp_path / "cache", lambda e: True)
    assert again.sources == bank.sources
    with pytest.raises(InputError, match="no stream in"):
        Bank([family_set], tmp_path / "cache", lambda e: False)


def test_a_stream_that_is_not_what_its_entry_says_is_refused(clips, tmp_path):
    job = Job(clips / "one.mkv", Codec.HEVC, Config.AI, 1, 1, 37, 37, "ultrafast")
    build([job], tmp_path / "set")
    manifest = tmp_path / "set" / "manifest.json"
    values = json.loads(manifest.read_text())
    values["entries"][0]["hr_frames"] = [0, 1]
    manifest.write_text(json.dumps(values))
    with pytest.raises(InputError, match="manifest says 2 of 96x64; make the data set again"):
        Bank([tmp_path / "set"], tmp_path / "cache", lambda e: True)
    assert not list((tmp_path / "cache").iterdir())


# -- samples


def test_slots_give_what_the_contract_says():
    def track(scale):
        return Track("", "", "", 0, scale, 16, 16, {}, 0, True)

    full, low = track(1), track(2)

    def plain(d):
        return (full, d) if -2 <= d <= 9 else None

    def pair(d):
        return (full if (d + 1) % 4 == 0 else low, d)

    assert in_slots(SLOTS, plain) == [-1, 1, -2, 2]
    assert in_slots(LR_SLOTS, plain) == [-1, 1, None, None]
    assert in_slots(SLOTS, lambda d: (low if d % 4 else full, d)) == [-1, 1, -4, 4]
    assert in_slots(LR_SLOTS, pair) == [-1, 3, None, 1]
    assert in_slots(["-3", "full-before"], plain) == [None, -1]
    assert in_slots(["full-before", "full-after"], lambda d: (low, d)) == [None, None]


@pytest.mark.parametrize("scale, slots", [(1, SLOTS), (2, LR_SLOTS)])
def test_a_sample_depends_on_seed_and_index_alone(bank, family_set, tmp_path, scale, slots):
    settings = SampleSettings(patch=48, border=0)
    again = Bank([family_set], tmp_path / "other", lambda e: True)
    one = WindowSamples(bank, slots, scale, settings, 5)
    two = WindowSamples(again, slots, scale, settings, 5)
    for index in (7, 3, 7):
        a, b = one(index), two(index)
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    other = WindowSamples(bank, slots, scale, settings, 6)
    assert any(not torch.equal(one(i)["originals"], other(i)["originals"]) for i in range(4))


@pytest.mark.parametrize("scale, slots", [(1, SLOTS), (2, LR_SLOTS)])
def test_samples_show_each_kind_of_window(bank, scale, slots):
    settings = SampleSettings(patch=48, border=0, missing=0.1, unrelated=0.1, unknown_qp=0.5)
    samples = WindowSamples(bank, slots, scale, settings, 1)
    seen: Counter[tuple] = Counter()
    for index in range(300):
        s = samples(index)
        side = s["side"]
        assert side[0, :4].tolist() == [1, 0, scale, 0] and side[0, 6] == 1
        assert (side[1:, 6] == 0).all() and (side[:, 5] == -1).all()
        absent = side[1:, 0] == 0
        assert (side[1:][absent][:, 1] == 0).all() and (s["fits"][absent] == 0).all()
        assert all(
            torch.equal(s["pictures"][i + 1], s["pictures"][0]) for i in absent.nonzero()[:, 0]
        )
        # Where the scene is the target's, a reference is near its own original, not the target's.
        for i in s["fits"].nonzero()[:, 0].tolist():
            own = (s["pictures"][i + 1] - s["originals"][i + 1])[:4].abs().mean()
            assert own < 0.06, (index, i)
        distances = side[1:, 1].tolist()
        seen["causal"] += max(distances) <= 0
        seen["unrelated"] += int(((side[1:, 0] == 1) & (s["fits"] == 0)).sum())
        seen["all"] += not absent.any()
        seen["qp"] += bool((side[:, 4] >= 0).all())
        seen["lr neighbours"] += bool((side[1:, 2] > 1).any())
        seen["hr neighbours"] += bool(((side[1:, 2] == 1) & (side[1:, 0] == 1)).any())
    assert all(seen[k] > 8 for k in ("causal", "unrelated", "all", "lr neighbours")), seen
    assert seen["hr neighbours"] > 150 and 100 < seen["qp"] < 200, seen


def test_a_network_without_its_streams_is_told_so(family_set, tmp_path):
    bank = Bank([family_set], tmp_path, lambda e: e.scale == 1)
    with pytest.raises(InputError, match="no stream for k = 2"):
        WindowSamples(bank, LR_SLOTS, 2, SampleSettings(patch=48, border=0), 1)


def test_validation_shows_whole_pictures_and_their_originals(bank):
    seen = list(shown(bank, of(bank, "ai", 32, 2), LR_SLOTS, 4, 8))
    assert len(seen) == 6
    assert [side[0, 1:, 1].tolist() for _, side, _ in seen][:3] == [
        [-1, 3, 0, 1],
        [-2, 2, -1, 1],
        [-3, 1, -1, 0],
    ]
    real = list(shown(bank, of(bank, "ldp", 32, 2), LR_SLOTS, 4, 8))
    assert [s[0, 1:, :3].tolist() for _, s, _ in real] == [
        s[0, 1:, :3].tolist() for _, s, _ in seen
    ]
    assert len(list(shown(bank, of(bank, "ldp", 32, 1), SLOTS, 4, 8))) == 3
    for pictures, _, original in seen:
        assert pictures.shape == (1, 5, 6, 32, 48) and original.shape == (1, 6, 32, 48)


# -- losses


def test_motion_is_taught_by_where_originals_fit():
    """The true flow costs least; what shows another scene costs nothing."""
    torch.manual_seed(0)
    scene = F.avg_pool2d(torch.rand(1, 1, 104, 104), 9, 1)
    target, moved = scene[..., 8:72, 8:72], scene[..., 8:72, 16:80]

    def packed(luma):
        return torch.cat([F.pixel_unshuffle(luma, 2), torch.zeros(1, 2, 32, 32)], 1)

    originals = torch.stack([packed(target), packed(moved)], 1)
    weight = torch.tensor([1e3])

    def cost(x, fits=1.0):
        levels = [torch.zeros(1, 2, 64 // n, 64 // n) for n in (16, 8, 4)]
        for flow, n in zip(levels, (16, 8, 4), strict=True):
            flow[:, 0] = x / n
        return float(motion_loss(levels, originals, torch.tensor([[fits]]), weight))

    costs = {x: cost(x) for x in (-16, -12, -8, -4, 0, 8)}
    assert min(costs, key=costs.__getitem__) == -8
    assert cost(0, 0.0) < 1e-6


def test_the_picture_s_loss_is_its_formula():
    torch.manual_seed(0)
    target, original = torch.rand(2, 2, 6, 16, 16).unbind()
    weight = torch.tensor([2.0, 3.0])
    made = original + 0.1
    loss, hinge, gain = picture_loss(made, target, original, weight, 1.0, 1 / 3)
    assert float(loss) == pytest.approx(0.01 * 2.5, rel=1e-3) and float(hinge) == 0
    theirs = (target - original)[:, :4].square().mean((1, 2, 3))
    assert float(gain) == pytest.approx(float((10 * torch.log10(theirs / 0.01)).mean()), rel=1e-3)
    # One block of one picture is worse than before, by 0.25.
    made = target.clone()
    made[0, :4, 4:8, 8:12] = original[0, :4, 4:8, 8:12] + 0.8
    before = (target - original)[0, :4, 4:8, 8:12].square().mean()
    _, hinge, _ = picture_loss(made, target, original, weight, 0.0, 1 / 3)
    assert float(hinge) == pytest.approx(float(0.64 - before) * 2 / 32, rel=1e-3)


def test_what_is_seen_is_taught_by_the_qp():
    qp = torch.tensor([[32.0, 32.0, 48.0]])
    right = torch.tensor([[0.0, 0.0, 1.0]])
    assert [float(v) for v in judge_loss(right, qp)] == [0.0, 0.0]
    for change, want in ((0.5, 0.375), (-0.5, 0.25)):  # too strong counts half as much again
        loss, off = judge_loss(right + change, qp)
        assert float(loss) == pytest.approx(want) and float(off) == pytest.approx(8)


def test_motion_leads_and_squares_follow():
    assert schedule(0.0) == (1.0, 0.0) and schedule(1.0) == (0.1, 1.0)
    motion, squared = zip(*(schedule(i / 10) for i in range(11)), strict=True)
    assert list(motion) == sorted(motion, reverse=True) and list(squared) == sorted(squared)


# -- training


@pytest.fixture
def configuration(family_set, tmp_path):
    def write(scale=1, **sections) -> Path:
        values = {
            "network": {
                "preset": "family-fast",
                "scale": scale,
                "references": ["-1", "+1"] if scale == 1 else ["full-before", "full-after"],
            },
            "data": {"folders": [str(family_set)], "cache": str(tmp_path / "decoded")},
            "samples": {"patch": 48, "border": 0, "unknown_qp": 0.75},
            "optimizer": {"batch": 2, "threads": 1, "clip": 8.0, "deterministic": True},
            "stages": [{"steps": 6, "warmup": 2}],
            "log": {"every": 2, "tensorboard": False},
            **sections,
        }
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    return write


def train(path: Path, out: Path, stop_after: int | None = None) -> Trainer:
    trainer = Trainer(load_config(path), out, quiet=True)
    trainer.run(stop_after)
    return trainer


def weights_of(folder: Path) -> dict:
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    return {**state["model"], **{f"average {k}": v for k, v in state["average"].items()}}


@pytest.mark.parametrize("scale, workers, amp", [(1, 0, "float32"), (2, 2, "bfloat16")])
def test_stopped_and_resumed_gives_the_same_weights(configuration, tmp_path, scale, workers, amp):
    path = configuration(scale)
    values = yaml.safe_load(path.read_text())
    values["data"]["workers"] = workers
    values["optimizer"]["amp"] = amp
    path.write_text(yaml.safe_dump(values))
    train(path, tmp_path / "whole")
    train(path, tmp_path / "parts", stop_after=2)
    torch.rand(100)  # whatever happens in between
    train(path, tmp_path / "parts")
    whole, parts = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert [k for k in whole if not torch.equal(whole[k], parts[k])] == []
    fresh = Trainer(load_config(path), tmp_path / "other", quiet=True).model.state_dict()
    assert {k for k in fresh if torch.equal(fresh[k], whole[k])} <= {
        k for k in fresh if k.startswith("again4.")
    }, "not all was trained"


def test_a_run_says_where_it_starts_from(configuration, tmp_path, capsys):
    shipped = Path(__file__).resolve().parents[2] / "models" / "fast-k1.safetensors"
    path = configuration(init=str(shipped), stages=[{"steps": 0}])
    Trainer(load_config(path), tmp_path / "run").run()
    # Whose network has a judge; this one does without.
    told = f"from fast {metadata(shipped)['version']} for k = 1 in {shipped}"
    assert f"{told} (sha256 {sha256_of(shipped)[:8]})" in capsys.readouterr().err


def test_a_judge_may_come_later(tmp_path):
    small, large = (
        build_network({"preset": "family-fast", "references": SLOTS, **more})
        for more in ({}, {"judge": 8})
    )
    torch.nn.init.normal_(small.tail.weight)
    first = large.judge.first.weight.clone()
    grow(small, large)
    assert torch.equal(large.tail.weight, small.tail.weight)
    assert torch.equal(large.judge.first.weight, first)
    other = build_network({"preset": "family-standard", "references": SLOTS})
    with pytest.raises(InputError, match="of the same sizes"):
        grow(small, other)


def test_from_clips_to_a_model_that_the_engine_runs(
    configuration, family_set, clips, tmp_path, capsys
):
    """It gets better than the target in few steps, says so, and what is exported does the same."""
    path = configuration(
        data={
            "folders": [str(family_set)],
            "cache": str(tmp_path / "decoded"),
            "held_out": ["two"],
        },
        samples={"patch": 48, "border": 0, "pairs": 0.1},
        optimizer={"batch": 4, "threads": 1, "clip": 8.0, "ema": 0.9},
        stages=[{"steps": 60, "lr": 3e-3, "min_lr": 1e-4, "warmup": 5}],
        validation={"every": 60, "qps": [37], "groups": 2},
        log={"every": 10, "tensorboard": False},
    )
    out = tmp_path / "run"
    assert cli.main(["train", str(path), "--out", str(out), "--quiet"]) == 0
    with (out / "validation.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["config"], row["qp"]) == ("hevc ai", "37")
    assert float(row["gain"]) > 0.1
    with (out / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {"loss", "gain", "motion", "hinge", "norm"} <= rows[0].keys()
    about = metadata(out / "weights.safetensors")
    assert about["tds_model"] == 2 and about["name"] == "fast"
    assert about["references"] == ["-1", "+1"] and about["scale"] == 1
    seen = {e.source_sha256 for e in load_manifest(family_set) if e.clip == "one"}
    assert about["training"]["sources"] == sorted(seen)

    archive = tmp_path / "own.pt"
    weights = out / "weights.safetensors"
    assert cli.main(["export", str(weights), "--out", str(archive)]) == 0
    # A name that tells it from the model of that name which comes along.
    assert metadata(archive)["name"] == f"fast-{sha256_of(weights)[:8]}"
    entry = next(
        e for e in load_manifest(family_set) if (e.clip, e.config, e.hr_qp) == ("two", "ai", 37)
    )
    coded, original = read(family_set / entry.hr), read(clips / "two.mkv")
    got = []
    with Session(coded.width, coded.height, 1, model=archive, kind="plain", device="cpu") as s:
        for i in range(len(coded)):
            assert s.send("hr", [np.ascontiguousarray(p) for p in coded.planes(i)], pts=i)
            while (picture := s.receive()) is not None:
                got.append(picture)
        s.end("hr")
        got += list(s)
    assert [p.status for p in got] == ["refined"] * 9

    def error(i, luma):
        return np.square(luma.astype(float) - original.planes(i)[0]).mean()

    before = np.mean([error(i, coded.planes(i)[0]) for i in range(9)])
    after = np.mean([error(i, p.planes[0]) for i, p in enumerate(got)])
    assert after < before
    # And they are the pictures of the network itself.
    t = 4
    pictures = torch.stack([whole(coded, i) for i in (t, t - 1, t + 1)])[None]
    side = torch.tensor([[[1.0, d, 1, 0, -1, -1, d == 0] for d in (0, -1, 1)]])
    with torch.no_grad():
        want = load(weights)(pictures, side)
    luma = (luma_of(want)[0, 0] * 255).round()[: coded.height, : coded.width].numpy()
    assert np.abs(got[t].planes[0].astype(int) - luma.astype(int)).max() <= 1


def whole(video: Yuv, index: int) -> torch.Tensor:
    w, h = (-(-v // 16) * 16 for v in (video.width, video.height))
    return video.take([index]).padded(w, h).packed(0).float() / 255.0


def test_what_is_not_for_the_family_is_refused(configuration, tmp_path, family_set):
    data = {"folders": [str(family_set)], "cache": str(tmp_path / "decoded")}
    network = {"preset": "family-fast", "scale": 1, "references": ["-1", "+1"]}
    for sections, words in (
        ({"data": {**data, "alignment": "cached"}}, "alignment: cached is not for networks of"),
        ({"data": {**data, "enhancer": "x"}}, "data.enhancer is not for"),
        ({"loss": {"space": "rgb"}}, "space: rgb is not for"),
        ({"network": {k: v for k, v in network.items() if k != "references"}}, "references is mis"),
        ({"samples": {"patch": 96, "border": 0}}, "smaller than samples.patch"),
    ):
        with pytest.raises(InputError, match=words):
            train(configuration(**sections), tmp_path / "run")


@pytest.mark.parametrize("size", ["fast", "standard", "large"])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_shipped_configurations_are_of_the_family(size, scale):
    folder = Path(__file__).resolve().parents[2] / "configs" / "training"
    own = folder / f"{size}-k{scale}.yaml"
    beside = folder / f"family-{size}-k{scale}.yaml"
    config = load_config(beside if beside.is_file() else own)
    assert config.network["preset"] == f"family-{size}" and config.network["scale"] == scale
    network = build_network(config.network)
    first = ("-1", "+1") if scale == 1 else ("full-before", "full-after")
    assert tuple(config.network["references"][:2]) == first
    assert network.count == (2 if size == "fast" else 4)
