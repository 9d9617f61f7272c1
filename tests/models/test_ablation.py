# SPDX-License-Identifier: LGPL-2.1-or-later
"""`tds ablate`: variants trained alike, with several seeds, and what each is worth."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from test_quality import run_of

from tds import cli
from tds.errors import InputError
from tds.training import ablation
from tds.training.ablation import configuration_of, folder_of, interval, load_ablation, rates, runs
from tds.training.trainer import Trainer

TREE = Path(__file__).resolve().parents[2]


@pytest.fixture
def config(pair_set, tmp_path) -> Path:
    base = {
        **run_of(pair_set, tmp_path),
        "optimizer": {"batch": 1, "threads": 1, "clip": 8.0, "deterministic": True},
        "stages": [
            {"steps": 10, "freeze": ["motion.", "fusion.mta.attentions."]},
            {"steps": 30, "freeze": ["motion.", "pcd."], "thaw": ["pcd.l1_"], "lr": 1e-2},
        ],
        "log": {"every": 2, "tensorboard": False},
    }
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))
    values = {
        "base": str(tmp_path / "base.yaml"),
        "steps": 4,
        "seeds": [1, 2],
        "variants": {"MTSA": {}, "TSA": {"aggregation": "tsa"}},
        "pairs": [["MTSA", "TSA"]],
    }
    path = tmp_path / "ablation.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_a_stopped_ablation_goes_on_and_ends_with_its_tables(config, tmp_path, capsys):
    out = tmp_path / "out"
    one = load_ablation(config)
    first = configuration_of(one, "MTSA", 1)
    folder_of(out, "TSA", 1).mkdir(parents=True)  # one was stopped before its key was there
    # One run was stopped in its middle.
    folder = folder_of(out, "MTSA", 1)
    folder.mkdir(parents=True)
    (folder / "key.txt").write_text(ablation._key(first))
    Trainer(first, folder, quiet=True).run(stop_after=2)
    assert cli.main(["ablate", str(config), "--out", str(out), "--quiet"]) == 0
    table = capsys.readouterr().out
    assert "| MTSA | " in table and "| MTSA against TSA | " in table and "HEVC AI" in table
    found = json.loads((out / "ablation.json").read_text())
    assert [v["name"] for v in found["variants"]] == ["MTSA", "TSA"] and found["clips"] == ["two"]
    assert all(len(v["gains"]) == 2 and v["half"] is not None for v in found["variants"])
    assert set(found["pairs"][0]["rate"]) == {"hevc ai"}  # the other has one QP
    reached = {
        run: json.loads((folder_of(out, *run) / "psnr.json").read_text()) for run in runs(one)
    }
    assert all(r["steps"] == 4 for r in reached.values())
    assert all(row["bytes"] > 0 and row["before"] > 15 for row in reached["TSA", 2]["rows"])
    # As a run that nothing stopped has it.
    straight = Trainer(first, tmp_path / "straight", quiet=True)
    straight.run()
    state = torch.load(folder / "checkpoint.pt", weights_only=True)["average"]
    assert all(torch.equal(v, state[k]) for k, v in straight.average.state_dict().items())

    # What is done is not done again, and other settings do not mix with it.
    before = {p: p.stat().st_mtime_ns for p in out.rglob("checkpoint.pt")}
    assert len(before) == 4
    assert cli.main(["ablate", str(config), "--out", str(out)]) == 0
    assert "done before" in capsys.readouterr().err
    assert before == {p: p.stat().st_mtime_ns for p in out.rglob("checkpoint.pt")}
    assert cli.main(["ablate", str(config), "--out", str(out), "--steps", "5"]) == 1
    assert "was made by other settings" in capsys.readouterr().err


def test_variants_differ_in_what_they_say_and_train_alike(config):
    one = load_ablation(config)
    mtsa, tsa = (configuration_of(one, variant, 2) for variant in one.variants)
    assert tsa.network == {**mtsa.network, "aggregation": "tsa"}
    assert [s.steps for s in mtsa.stages] == [s.steps for s in tsa.stages] == [1, 3]
    # TSA has no MTA to leave out.
    assert mtsa.stages[0].freeze == ["motion.", "fusion.mta.attentions."]
    assert tsa.stages[0].freeze == ["motion."]
    assert mtsa.optimizer == tsa.optimizer and mtsa.optimizer.seed == 2


def test_variants_may_have_fewer_seeds(config, tmp_path):
    values = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({**values, "seeds_of": {"TSA": [2]}}))
    one = load_ablation(config)
    assert runs(one) == [("MTSA", 1), ("MTSA", 2), ("TSA", 2)]
    for (variant, seed), gain in zip(runs(one), (1.0, 3.0, 2.5), strict=True):
        row = {"stream": "hevc ai", "clip": "two", "qp": 32, "bytes": 1000, "before": 30.0}
        reached = {"rows": [{**row, "after": 30.0 + gain}], "steps": 4, "minutes": 0.1,
                   "parameters_m": 0.1, "kmac_per_pixel": 9.0}  # fmt: skip
        folder_of(tmp_path, variant, seed).mkdir()
        (folder_of(tmp_path, variant, seed) / "psnr.json").write_text(json.dumps(reached))
    found = ablation.summary(one, tmp_path)
    assert [(v["mean"], v["seeds"]) for v in found["variants"]] == [(2.0, [1, 2]), (2.5, [2])]
    assert found["pairs"][0]["gain"] == {"mean": 0.5, "half": None}
    table = ablation.tables(found)
    assert "| TSA | 0.10 | 9 | 1 | +2.50 |" in table
    assert "| MTSA against TSA | 1 | +0.50 | – |" in table


def test_the_shipped_ablation_is_valid():
    one = load_ablation(TREE / "configs" / "ablation" / "mtsa.yaml")
    configs = [configuration_of(one, *run) for run in runs(one)]
    assert len(configs) == 9
    assert one.seeds_for("MTSA", "TSA") == [1, 2, 3] and one.seeds_for("MTSA", "no IQEM") == [1]
    assert {sum(s.steps for s in c.stages) for c in configs} == {one.steps}


@pytest.mark.parametrize(
    "change, why",
    [
        ({"pairs": [["MTSA", "TAS"]]}, "no variant 'TAS'"),
        ({"seeds": [1, 1]}, "twice"),
        ({"seeds_of": {"TSA": [2, 2]}}, "twice"),
        ({"seeds_of": {"TSA": [3]}}, "no seed in common"),
        ({"seeds_of": {"TAS": [2]}}, "no variant 'TAS'"),
        ({"variants": {"MTSA": {}}}, "2 or more"),
        ({"base": "nothing-there"}, "no configuration of that name"),
        (
            {"variants": {"a": {}, "b": {"aggregation": "sum"}}, "pairs": []},
            "variant 'b'.*mtsa, tsa",
        ),
        ({"set": ["data.held_out=[]"]}, "holds no clips out"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_trained(config, tmp_path, change, why):
    config.write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()), **change}))
    with pytest.raises((InputError, OSError), match=why):
        ablation.ablate(load_ablation(config), tmp_path / "out", lambda text: None)
    assert not (tmp_path / "out").exists()


def test_intervals_are_student_s_and_rates_those_of_equal_bits():
    assert interval([1.0]) == {"mean": 1.0, "half": None}
    found = interval([1.0, 2.0, 3.0])
    assert found["mean"] == 2.0 and found["half"] == pytest.approx(4.303 / 3**0.5, abs=1e-3)
    rows = [{"stream": "hevc ai", "clip": "a", "qp": q, "bytes": b, "after": p}
            for q, b, p in ((42, 100, 30.0), (37, 200, 33.0), (32, 400, 36.0))]  # fmt: skip
    better = [{**r, "after": r["after"] + 3.0} for r in rows]
    assert rates(better, rows)["hevc ai"] == pytest.approx(-50, abs=0.1)
