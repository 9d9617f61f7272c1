# SPDX-License-Identifier: LGPL-2.1-or-later
"""A small moving scene, and data sets made of it with a real codec."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the networks need torch")

from scenes import scene  # noqa: E402

from tds.codecs import Codec, Config  # noqa: E402
from tds.training.dataset import Job, build  # noqa: E402
from tds.training.pictures import write_lossless  # noqa: E402


@pytest.fixture(autouse=True)
def one_thread():
    """Tests run side by side; and results do not depend on how many cores there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """No test reads or writes the user's folders."""
    monkeypatch.setenv("TDS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TDS_MODEL_PATH", raising=False)


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for i, name in enumerate(("one", "two")):
        write_lossless(scene(9, 96 + 16 * i, 64, i), folder / f"{name}.mkv")
    return folder


@pytest.fixture(scope="session")
def data_set(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HEVC all-intra with every frame in both streams, and low delay in groups of 5."""
    folder = tmp_path_factory.mktemp("set")
    jobs = []
    for clip in sorted(clips.iterdir()):
        for qp in (27, 37):
            jobs.append(Job(clip, Codec.HEVC, Config.AI, 2, 1, qp, qp, "ultrafast"))
        jobs.append(Job(clip, Codec.HEVC, Config.LDP, 2, 5, 32, 32, "ultrafast"))
    build(jobs, folder)
    return folder


@pytest.fixture(scope="session")
def pair_set(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs for k = 2, for networks of contract 2: of every frame, and in groups of 5."""
    folder = tmp_path_factory.mktemp("pairs")
    jobs = []
    for clip in sorted(clips.iterdir()):
        one = Job(clip, Codec.HEVC, Config.AI, 2, 1, 32, 32, "ultrafast")
        jobs += [
            one,
            dataclasses.replace(one, qp=37, lr_qp=37),
            dataclasses.replace(one, config=Config.LDP, group=5),
        ]
    build(jobs, folder)
    return folder


@pytest.fixture(scope="session")
def data_folder() -> Path:
    root = Path(__file__).resolve().parents[2]
    return Path(os.environ.get("TDS_DATA", root.parent / "shared" / "data"))
