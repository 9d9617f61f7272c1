# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests share: clips, small sources made from them, coded files made once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import forms
import tds
import tools

ROOT = Path(__file__).resolve().parent.parent
CITY = ROOT / "tests" / "data" / "city.mkv"


@pytest.fixture(scope="session")
def city() -> Path:
    """The bundled clip: 480x256, 25 frames at 25 fps, 8 bit."""
    return CITY


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled clip at 128x72, for tests that are not about pictures."""
    path = tmp_path_factory.mktemp("small") / "small.mkv"
    tools.ffmpeg("-i", CITY, "-vf", "scale=128:72", "-c:v", "ffv1", path)
    return path


@pytest.fixture(scope="session")
def evaluation_clip() -> Callable[[str], Path]:
    """A clip of the evaluation set by name; skips where the set is not, fails in CI."""

    def find(name: str) -> Path:
        folder = Path(os.environ.get("TDS_DATA", ROOT.parent / "shared" / "data")) / "eval"
        path = folder / f"{name}.mkv"
        if not path.is_file():
            reason = f"the evaluation clip {name}.mkv is not there; set TDS_DATA to its folder"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
        return path

    return find


@pytest.fixture(scope="session")
def coded(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tds.EncodeResult]:
    """``coded(codec="hevc", ...)``: the small clip coded so, once a test process; as the paper's
    pairs unless told."""
    folder = tmp_path_factory.mktemp("coded")
    made: dict[str, tds.EncodeResult] = {}

    def make(source: Path | None = None, **options: Any) -> tds.EncodeResult:
        options.setdefault("codec", "hevc")
        options.setdefault("preset", tools.FASTEST[options["codec"]])
        options.setdefault("qp", 37)
        for name, value in (("boundaries", "independent"), ("lr_qp_offset", 0)):
            if options.setdefault("plan", "tds") == "tds":
                options.setdefault(name, value)
        key = repr((source, sorted(options.items())))
        if key not in made:
            out = folder / f"{len(made)}.mp4"
            made[key] = tds.encode(source or small, out, **options)
        return made[key]

    return make


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[str]:
    """The address of a local Ray cluster of two nodes of one processor each."""
    ray = tools.require_ray()
    from ray.cluster_utils import Cluster

    # Nodes of one machine share its memory; a store of the smallest size each will do.
    node = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
    local = Cluster(initialize_head=True, head_node_args=node)
    local.add_node(num_cpus=1, object_store_memory=100 << 20)
    yield local.address
    ray.shutdown()
    local.shutdown()


@pytest.fixture(scope="session", params=forms.GRID, ids="-".join)
def written(
    request: pytest.FixtureRequest, small: Path, tmp_path_factory: pytest.TempPathFactory
) -> forms.Written:
    """A small pair of each encoder in each container."""
    return forms.encode(small, tmp_path_factory.mktemp("written"), *request.param)
