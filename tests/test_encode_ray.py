# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `tds encode --ray` writes is what one machine writes."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import tds
import tools
from tds.encoding import workers
from tds.errors import ExternalError, InputError

ray = tools.require_ray()

OPTIONS = {"codec": "hevc", "preset": "ultrafast", "effort": 1, "model": "tiny", "qp": 37}


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TDS_MODEL_PATH", str(tmp_path))
    slots = ("full-before", "full-after", "-1", "+1")
    tools.tiny_family(tmp_path / "tiny-k1.pt", references=slots[:2])
    tools.tiny_family(tmp_path / "tiny-k2.pt", 2, references=slots)


@pytest.fixture(scope="module")
def scenes(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two of 25 frames: a segment each."""
    path = tmp_path_factory.mktemp("scenes") / "scenes.mkv"
    graph = "[0]split[a][b];[b]vflip,negate[b];[a][b]concat,setpts=N/25/TB"
    tools.ffmpeg("-i", small, "-filter_complex", graph, "-c:v", "ffv1", path)
    return path


@pytest.mark.usefixtures("tiny")
def test_a_cluster_writes_the_same_file(
    ray_cluster: str, scenes: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "tds.encoding"):
        there = tds.encode(scenes, tmp_path / "there.mp4", ray=ray_cluster, **OPTIONS)
    assert caplog.messages.count("segment 1 (25 frames): is sent") == 1
    assert caplog.messages.count("segment 1 (25 frames): measured") == 1
    assert not ray.is_initialized()
    here = tds.encode(scenes, tmp_path / "here.mp4", workers=2, **OPTIONS)
    assert there.path.read_bytes() == here.path.read_bytes()
    assert there.choice == here.choice
    assert not list(tmp_path.glob("*.tds-state"))


@pytest.mark.usefixtures("tiny")
def test_one_machine_goes_on_from_what_a_cluster_did(
    ray_cluster: str,
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    out = tmp_path / "o.mp4"

    def gone(self: workers.RayWorkers, job: object, segment: workers.Segment) -> object:
        wait = submit(self, job, segment)
        if segment.index == 0:
            return wait

        def fail() -> None:
            raise ExternalError("Ray: the node died")

        return fail

    submit = workers.RayWorkers.submit
    with monkeypatch.context() as patched:
        patched.setattr(workers.RayWorkers, "submit", gone)
        with pytest.raises(ExternalError, match="the node died"):
            tds.encode(scenes, out, ray=ray_cluster, **OPTIONS)
    with caplog.at_level(logging.DEBUG, "tds.encoding"):
        tds.encode(scenes, out, workers=1, **OPTIONS)
    assert "segment 0 (25 frames): done before" in caplog.messages
    assert "segment 1 (25 frames): begins" in caplog.messages


@pytest.mark.usefixtures("tiny")
def test_a_node_with_another_encoder_is_refused(
    ray_cluster: str, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tds.codecs.libx265 import LibX265

    monkeypatch.setattr(LibX265, "fingerprint", classmethod(lambda cls: "x265 of another day"))
    with pytest.raises(ExternalError, match="install the same everywhere"):
        tds.encode(scenes, tmp_path / "o.mp4", ray=ray_cluster, **OPTIONS)
    assert [p.suffix for p in tmp_path.iterdir()] == [".pt", ".pt"]


def test_what_measures_nothing_needs_no_cluster(small: Path, tmp_path: Path) -> None:
    for options in ({"plan": "tds"}, {"effort": 0}, {"plan": "plain-enhanced", "strength": 1}):
        with pytest.raises(InputError, match="a Ray cluster to do"):
            tds.encode(small, tmp_path / "o.mp4", ray="auto", codec="hevc", **options)
    with pytest.raises(ExternalError, match="no Ray cluster answers"):
        tds.encode(small, tmp_path / "o.mp4", ray="127.0.0.1:1", **OPTIONS)
    assert list(tmp_path.iterdir()) == []
