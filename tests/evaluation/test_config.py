# SPDX-License-Identifier: LGPL-2.1-or-later
"""A configuration is checked whole, and each fault is named, before anything is run."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tds.codecs import Codec, Config
from tds.errors import InputError, MissingError
from tds.evaluation.config import LR_ONLY, PLAIN, load
from tds.plan import Boundaries

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted(
    [ROOT / "configs" / f"{name}.yaml" for name in ("quick", "full", "machines")]
    + [p for p in (ROOT / "configs" / "paper").glob("*.yaml") if p.stem != "all"]
)

GOOD = {
    "clips": ["a.mkv", {"path": "b.mkv", "class": "D", "frames": 9}],
    "codecs": ["vvc", {"codec": "hevc", "preset": "fast"}],
    "configs": ["ai", "ldp", "ra"],
    "qps": [37, 22, 27, 32],
    "plans": [{}, {"boundaries": "shared", "lr_qp_offset": -2}, "lr-only", "plain"],
}


def _write(folder, **changes):
    path = folder / "c.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **changes}))
    return path


def test_every_key_is_read(tmp_path):
    e = load(_write(tmp_path, frames=17, models=["fast", "bicubic"], crops=0))
    assert e.clips[0].path == tmp_path / "a.mkv"
    assert (e.clips[1].group, e.clips[1].frames) == ("D", 9)
    assert [c.codec for c in e.codecs] == [Codec.VVC, Codec.HEVC]
    assert [c.preset for c in e.codecs] == ["fast", "fast"]
    assert e.configs == (Config.AI, Config.LDP, Config.RA)
    assert e.qps == (22, 27, 32, 37)
    assert [p.kind for p in e.plans] == ["tds", "tds", LR_ONLY, PLAIN]
    assert [p.scale for p in e.plans] == [2, 2, 2, 1]
    assert e.plans[1].boundaries is Boundaries.SHARED
    assert e.models == ("fast",)  # the baselines are run anyway


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"clip": []}, "did you mean clips"),
        ({"qps": [32]}, "qps should be a list with 2 or more in it"),
        ({"qps": [22, 57]}, "HEVC has QPs up to 51"),
        ({"qps": "22"}, 'qps should be a list, not "22"'),
        ({"configs": ["intra"]}, "configs[0] should be 'ai', 'ldp' or 'ra', not \"intra\""),
        ({"codecs": [{"codec": "vvc", "preset": "turbo"}]}, "has no preset 'turbo'"),
        ({"codecs": [{"codec": "vvc", "encoder": "libx265"}]}, "no vvc encoder 'libx265'"),
        ({"plans": [{"group": 6}]}, "odd number of frames"),
        ({"plans": [{"scale": 3}]}, "scale is 2 or 4"),
        ({"plans": [{"scale": 4, "base_scale": 2}]}, "base_scale times scale"),
        ({"plans": [{}, {}]}, "two are"),
        ({"plans": [{"kind": "plain", "scale": 2}]}, "one stream"),
        ({"plans": [{"lr_qp_offset": 40}]}, "brings QPs out of"),
        ({"plans": [{"boundary": "shared"}]}, "did you mean boundaries"),
        ({"frames": True}, "frames should be a whole number, not true"),
        ({"plans": [{"group": "5"}]}, 'plans[0].group should be a whole number, not "5"'),
        ({"clips": [{"class": "D"}]}, "clips[0].path is missing"),
        ({"plans": ["both"]}, "plans[0].kind should be 'tds'"),
        ({"frames": -1}, "frames should be at least 0, not -1"),
        ({"models": "fast"}, 'models should be a list, not "fast"'),
        ({"complexity": ["1920x1081"]}, "complexity[0]: the size 1920x1081"),
        ({"device": "gpu"}, "device should be such as auto, cpu, cuda, cuda:0, not 'gpu'"),
        ({"precision": "int8"}, "precision should be 'auto', 'float32', 'float16' or 'bfloat16'"),
    ],
)
def test_a_fault_is_named(tmp_path, changes, says):
    with pytest.raises(InputError, match=r"c\.yaml") as error:
        load(_write(tmp_path, **changes))
    assert says in str(error.value)


def test_a_file_that_is_not_there_or_no_yaml(tmp_path):
    with pytest.raises(MissingError):
        load(tmp_path / "none.yaml")
    bad = tmp_path / "bad.yaml"
    bad.write_text("clips: [a\nqps: }")
    with pytest.raises(InputError, match="not YAML"):
        load(bad)


def test_clips_can_be_replaced(tmp_path):
    e = load(_write(tmp_path), [Path("/elsewhere/c.mkv")])
    assert [c.path for c in e.clips] == [Path("/elsewhere/c.mkv")]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_configurations_are_valid(path):
    e = load(path)
    assert e.title and len(e.qps) >= 4


def test_every_table_and_figure_of_the_paper_has_a_configuration_and_all_have_one():
    names = {p.stem for p in (ROOT / "configs" / "paper").glob("*.yaml")}
    wanted = {f"table{i}" for i in range(1, 9)} | {f"figure{i}" for i in range(5, 10)} | {"all"}
    assert names == wanted
