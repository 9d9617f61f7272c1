# SPDX-License-Identifier: LGPL-2.1-or-later
"""Task metrics: what a machine still finds in what is shown."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

import tools
from tds.errors import InputError
from tds.evaluation.cache import Cache
from tds.evaluation.config import load
from tds.evaluation.execution import LocalExecutor
from tds.evaluation.machines import Corners, People, Tasks, Tracks, _matched, _overlaps, versions
from tds.evaluation.report import render, report_of
from tds.evaluation.results import metrics_of, value_of
from tds.evaluation.run import evaluate
from tds.media.planar import planes_of
from tds.media.sources import VideoSource

pytest.importorskip("cv2", reason="the task metrics need OpenCV")


@pytest.fixture(scope="module")
def lumas(city):
    with VideoSource(str(city)) as video:
        return [planes_of(frame)[0].copy() for _, frame in zip(range(18), video, strict=False)]


def softened(luma: np.ndarray, times: int) -> np.ndarray:
    x = luma.astype(float)
    for _ in range(times):
        for axis in (0, 1):
            x = (np.roll(x, 1, axis) + 2 * x + np.roll(x, -1, axis)) / 4
    return x.round().astype(np.uint8)


def test_corners_that_are_kept_are_counted(lumas):
    task, luma = Corners(), lumas[0]
    assert task(luma, luma) == 100.0
    soft, softer = (task(luma, softened(luma, n)) for n in (1, 8))
    assert soft is not None and softer is not None and 0 < softer < soft < 100
    assert task(luma, np.roll(luma, 5, 1)) < 50 < task(luma, np.roll(luma, 1, 1))
    flat = np.full_like(luma, 128)
    assert task(flat, luma) is None and task(luma, flat) == 0.0


def test_tracks_end_where_what_is_shown_does_not_move_as_the_source(lumas):
    same, frozen, damaged = Tracks(), Tracks(), Tracks()
    whole = [same(x, x) for x in lumas]
    assert whole[0] is None and whole[1:] == [100.0] * 17
    still = [frozen(x, lumas[0]) for x in lumas]
    moves = np.abs(lumas[15].astype(int) - lumas[0]).mean() > 3
    assert moves and still[15] < 60
    # A picture that shows nothing ends tracks for good, until points are chosen anew.
    broken = [damaged(x, np.full_like(x, 128) if i == 4 else x) for i, x in enumerate(lumas)]
    assert broken[3] == 100.0 and broken[4] < 50 and broken[5] <= broken[4]
    assert broken[16] <= broken[4] and broken[17] == 100.0


def test_detections_are_compared_by_their_overlap(lumas):
    a = np.array([[0, 0, 10, 20], [50, 0, 10, 20]], float)
    b = np.array([[5, 0, 10, 20]], float)
    assert _overlaps(a, b) == pytest.approx(np.array([[1 / 3], [0.0]]))
    assert People()(np.full_like(lumas[0], 128), lumas[0]) is None


def test_nothing_is_matched_twice():
    near = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 1]], bool)
    assert _matched(near) == 3
    assert _matched(near[:, :1]) == 1
    assert _matched(np.array([[1, 1, 0], [0, 0, 0], [1, 1, 1]], bool)) == 2
    assert _matched(np.array([[1, 0, 0], [1, 0, 0], [0, 1, 1]], bool)) == 2  # not 3


def test_ten_bits_are_seen_as_eight(lumas):
    luma = lumas[0]
    tasks = Tasks(["corners"], 10)
    tasks.add(luma.astype(np.uint16) << 2, (luma.astype(np.uint16) << 2) + 3)
    assert tasks.values == {"corners": [100.0]}


def test_a_task_of_one_s_own_is_named_by_its_module(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "def brightness():\n    return lambda a, b: float(b.mean())\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    tasks = Tasks(["mine:brightness"], 8)
    tasks.add(np.zeros((8, 8), np.uint8), np.full((8, 8), 7, np.uint8))
    assert tasks.values == {"mine:brightness": [7.0]}
    assert len(versions(["mine:brightness"])["mine:brightness"]) == 12
    for name, why in (
        ("cornrs", "there are corners, tracks, people, and module:name"),
        ("mine:absent", "cannot be had"),
        ("nowhere:at_all", "cannot be had"),
    ):
        with pytest.raises(InputError, match=why):
            versions([name])


def test_an_evaluation_has_bd_rates_by_task(city, tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    tools.ffmpeg("-i", city, "-vf", "crop=192:128", "-c:v", "ffv1", folder / "a.mkv")
    path = tmp_path / "c.yaml"
    config = {
        "clips": [str(folder)],
        "codecs": [{"codec": "hevc", "preset": "ultrafast"}],
        "configs": ["ai"],
        "qps": [27, 37],
        "plans": [{}],
        "models": [],
        "frames": 5,
        "crops": 0,
        "perceptual": False,
    }

    def run(**more):
        path.write_text(yaml.safe_dump({**config, **more}))
        return evaluate(load(path), Cache(tmp_path / "cache"), LocalExecutor(1))

    without = run()
    outcome = run(tasks=["corners", "tracks"])
    points = outcome.results.points
    titles = metrics_of(points)
    assert titles["corners"] == "corners kept (%)" and "tracks" in titles
    assert "corners" not in metrics_of(without.results.points)
    for p in points:
        for counting in ("whole", "type"):
            found = [value_of(p[counting][s], "corners") for s in ("test", "anchor")]
            assert all(x is not None and 10 < x < 100 for x in found)
    metrics = {row["metric"] for row in outcome.results.bd}
    assert {"psnr_y", "corners", "tracks"} <= metrics
    assert "corners kept (%)" in titles.values() and "Task metrics" in render(report_of(outcome))
    # A measurement without tasks is what it was, and its job too.
    old, new = ({j.key for j in o.graph.jobs} for o in (without, outcome))
    assert len(old & new) == len([j for j in outcome.graph.jobs if j.kind == "stream"])
