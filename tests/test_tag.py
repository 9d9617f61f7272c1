# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tag, its tracks' times and the model's choice by libtds, as Python sees them.

What they do is tested in C++ (csrc/tests/test_tag.cpp, test_model_file.cpp)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tds._tds import ModelChoice, Tag, Times, choose_model, frame_rate
from tds.plan import Role

VALUE = {
    "tds": 1,
    "scale": 2,
    "width": 64,
    "height": 48,
    "boundaries": "shared",
    "groups": [[-5, 1], [5, 3]],
    "timeline": {"time_base": "1/25", "start": 3, "frames": 17, "rate": "25"},
    "leads": [[4, 2]],
    "strengths": [[2, 16], [1, 1]],
}


def test_a_tag_says_what_its_text_says() -> None:
    tag = Tag(json.dumps(VALUE), "a.mp4")
    assert (tag.rate, tag.time_base, tag.groups) == ((25, 1), (1, 25), [(-5, 1), (5, 3)])
    assert (tag.n_frames, tag.n_hr, tag.n_lr, tag.n_leads) == (17, 5, 12, 2)
    assert tag.model is None and not tag.refine_hr and tag.has_strengths and tag.shared
    times, lr, leads, strengths = tag.frames()
    assert times.tolist() == list(range(3, 20))
    assert [i for i, small in enumerate(lr) if not small] == [0, 4, 8, 12, 16]
    assert leads.nonzero()[0].tolist() == [4, 8]
    assert strengths.tolist() == [1.0] * 16 + [0.5]
    assert tag.frames(15, 9)[0].tolist() == [18, 19]


def test_what_is_refused_names_the_file() -> None:
    with pytest.raises(ValueError, match=r"^a\.mp4: its TDS metadata is damaged \(scale is 3"):
        Tag(json.dumps({**VALUE, "scale": 3}), "a.mp4")
    with pytest.raises(NotImplementedError, match="is version 2"):
        Tag(json.dumps({**VALUE, "tds": 2}), "a.mp4")


def test_times_against_the_plan() -> None:
    times = Times(Tag(json.dumps(VALUE), "a.mp4"), (1, 25), (1, 25), (1, 25))
    assert times.next(Role.HR) == () and times.wants("hr") == {"hr", "lr"}
    shown = {"hr": [3, 7, 15, 19], "lr": [4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 18]}
    for role, all_of_it in shown.items():
        for pts in all_of_it:
            times.push(role, pts)
        times.end(role)
    with pytest.raises(ValueError, match="after the end"):
        times.push("hr", 30)
    given = []
    while event := times.next("hr"):
        given.append(event[:3])
    assert event is None
    assert given == [(False, 3, 0), (False, 7, 4), (True, 11, 8), (False, 15, 12), (False, 19, 16)]
    while times.next(Role.LR):
        pass
    assert times.report()["lost_hr"] == 1 and times.report()["lost_lr"] == 0
    assert len(times.notices) == 1


def test_the_frame_rate_needs_both_streams() -> None:
    assert frame_rate([0, 4, 8, 12, 1, 2, 3], (1, 25)) == (25, 1)
    assert frame_rate([0, 3003, 6006], (1, 90000)) == (30000, 1001)


def test_the_model_is_chosen_by_libtds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TDS_CACHE", str(tmp_path))
    monkeypatch.delenv("TDS_MODEL_PATH", raising=False)
    weights = str(Path(__file__).parents[1] / "models")
    tag = Tag(json.dumps({**VALUE, "model": "standard", "model_sha256": "0" * 64}), "a.mp4")
    choice = choose_model(2, tag=tag, folders=[weights], weights=True)
    assert isinstance(choice, ModelChoice)
    assert (choice.name, choice.path) == ("standard", f"{weights}/standard-k2.safetensors")
    assert not choice.of_tag and "another version" in choice.notices[0]
    assert "strengths" in choice.notices[1]
    with pytest.raises(FileNotFoundError, match="no model"):
        choose_model(2, "nowhere", folders=[weights], weights=True)
    with pytest.raises(ValueError, match="sha256"):
        choose_model(2, "fast", sha256="0" * 64, folders=[weights], weights=True)
