# SPDX-License-Identifier: LGPL-2.1-or-later
"""Several evaluations as one, beside the paper's figures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

import tools
from tds import cli
from tds.evaluation.cache import Cache
from tds.evaluation.suite import (
    estimate,
    evaluation_of,
    is_suite,
    load_suite,
    page_of,
    prepare,
)

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "configs" / "paper" / "all.yaml"


@pytest.fixture(scope="module")
def suite(city, tmp_path_factory) -> Path:
    """Two parts and a clip that is too short for the second one's groups."""
    folder = tmp_path_factory.mktemp("suite")
    (folder / "clips").mkdir()
    for name, frames in (("long", 7), ("short", 5)):
        target = folder / "clips" / f"{name}.mkv"
        tools.ffmpeg(
            *("-i", city, "-vf", "crop=160:96", "-frames:v", frames, "-c:v", "ffv1", target)
        )
    part = {
        "clips": ["nowhere.mkv"],
        "codecs": [{"codec": "hevc", "preset": "slow"}],
        "configs": ["ai"],
        "qps": [24, 30, 36, 42],
        "models": [],
        "crops": 0,
    }
    for name, group in (("one", 5), ("two", 7)):
        values = {**part, "title": f"Table {name}", "plans": [{"group": group}]}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(values))
    claims = [
        {"config": "ai", "model": "quality", "row": "all of it", "paper": -24.884},
        {"config": "ai", "model": "bicubic", "row": "plain", "paper": "in words"},
    ]
    values = {
        "title": "A suite",
        "parts": [{"file": "one.yaml", "claims": claims}, {"file": "two.yaml", "note": "Longer."}],
        "profiles": {
            "small": {
                "hours": 1,
                "presets": {"hevc": "ultrafast"},
                "settings": {"clips": ["clips"], "perceptual": False, "anchor_qps": [46, 50]},
            }
        },
    }
    (folder / "all.yaml").write_text(yaml.safe_dump(values))
    return folder / "all.yaml"


def test_all_parts_are_run_by_one_command_and_beside_the_papers_figures(suite, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["evaluate", str(suite), "--profile", "small", "--out", str(out), "--workers", "1"]
    assert cli.main(command) == 0
    said = capsys.readouterr()
    # An estimate before it begins; what is left out, and what was not run.
    assert re.search(r"2 parts, about 0\.0 h with 1 jobs at once \(\d+ streams to code", said.err)
    assert "two: left out: short (5 frames, and a group has 7)" in said.err
    assert "one: 2 curves; not run: quality" in said.out
    page = (out / "paper.md").read_text()
    why = "not run: quality is untrained so far: `tds train quality-k2` trains it"
    row = "| AI | N=5 independent, k=2 | all of it: `quality` | -24.884 % | small |"
    assert f"{row} {why} | not run |" in page
    assert re.search(
        r"\| plain: `bicubic` \| in words \| small \| [+-][\d.]+ %.* \| [+-][\d.]+ %.* \|", page
    )
    assert "| AI | N=5 independent, k=2 | `lanczos` | | small |" in page
    assert "Left out of `small`: short (5 frames, and a group has 7)." in page
    assert "[The report](one/index.html)" in page and (out / "one" / "index.html").is_file()
    found = json.loads((out / "paper.json").read_text())
    assert found["clips"] == ["long", "short"] and set(found["parts"]) == {"one", "two"}
    (seen,) = {r["whole"]["clips"] for r in found["parts"]["two"]["rows"]}
    assert seen == 1

    # The same command has nothing to do, and makes the same page.
    assert cli.main(command) == 0
    assert "(0 streams to code and 0 results to measure" in capsys.readouterr().err
    assert (out / "paper.md").read_text() == page
    assert cli.main([*command, "--partial"]) == 0


def test_what_takes_too_long_is_said_before_it_begins(suite, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["evaluate", str(suite), "--profile", "small", "--out", str(out), "--workers", "1"]
    assert cli.main([*command, "--hours", "0.0000001"]) == 1
    said = capsys.readouterr().err
    assert "is for 1e-07 h and takes about" in said and "or allow it: --hours 1" in said
    assert not list(out.rglob("*.json")) and not (out / "paper.md").exists()


def test_the_estimate_falls_with_workers_and_with_what_is_done(suite, tmp_path):
    what = load_suite(suite)
    parts = prepare(what, suite, what.profiles["small"])
    cache = Cache(tmp_path / "cache")
    one, two = (estimate(parts, cache, n)[0] for n in (1, 2))
    assert 0 < two == pytest.approx(one / 2)
    assert estimate(parts[:1], cache, 1)[0] < one


@pytest.mark.parametrize(
    "arguments, why",
    [
        ([str(SHIPPED)], "is run by a profile: --profile small or --profile full"),
        (["quick", "--profile", "small"], "--profile is for a configuration with parts"),
        (["quick", "--hours", "3"], "--hours is for a configuration with parts"),
        ([str(SHIPPED), "--profile", "tiny"], "has no profile 'tiny'; it has small, full"),
    ],
)
def test_a_profile_and_parts_go_together(arguments, why, tmp_path, capsys):
    assert cli.main(["evaluate", *arguments, "--out", str(tmp_path / "out")]) == 1
    assert why in capsys.readouterr().err


def test_the_paper_s_suite_has_all_its_tables_and_figures_and_claims_nothing_unrun():
    what = load_suite(SHIPPED)
    assert is_suite(SHIPPED) and not is_suite(SHIPPED.with_name("table1.yaml"))
    names = [part.name for part in what.parts]
    assert names == [*(f"table{i}" for i in range(1, 9)), *(f"figure{i}" for i in range(5, 10))]
    for part in what.parts:
        small = evaluation_of(SHIPPED, part, what.profiles["small"], None)
        assert small.frames == 22 and not small.perceptual
        assert all(c.preset in ("faster", "veryfast") for c in small.codecs)
        assert all(claim.plan < len(small.plans) for claim in part.claims)
    page = page_of(what, SHIPPED, [], "")
    rows = [line for line in page.splitlines() if line.startswith("| ") and "`quality" in line]
    assert len(rows) == sum(len(part.claims) for part in what.parts)
    for row in rows:
        assert re.search(r"\| \| not run: .*`tds train quality-.* \| not run \|$", row)
