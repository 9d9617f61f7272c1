# SPDX-License-Identifier: LGPL-2.1-or-later
"""The example of docs/examples/embed.cpp does in one process what tds enhance does."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from postdec_helpers import MakePair

import tds
import tools
from tds.session import native_dir

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def embed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler, and the example has to be built")
    libraries = Path(native_dir()) / "lib"
    if not (libraries / "libtds.so").exists():
        pytest.skip(f"no libtds.so in {libraries} to link the example to")
    program = tmp_path_factory.mktemp("bin") / "embed"
    subprocess.run(
        [
            *compiler.split(),
            *("-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{REPO / 'csrc/include'}"),
            str(REPO / "docs/examples/embed.cpp"),
            *(f"-L{libraries}", "-ltds", f"-Wl,-rpath,{libraries}", "-o", str(program)),
        ],
        check=True,
    )
    return program


@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize("scale", [2, 4])
def test_the_embedding_gives_what_enhance_gives(
    embed: Path, make_pair: MakePair, depth: int, scale: int
) -> None:
    pair = make_pair(frames=15, depth=depth, scale=scale)
    done = subprocess.run([embed, pair.hr, pair.lr, "5"], capture_output=True, check=True)
    settings = tds.EnhanceSettings(backend="bicubic")
    with tds.enhance(
        str(pair.hr), str(pair.lr), sidecar=pair.metadata, settings=settings
    ) as decoder:
        wanted = [b"".join(p.tobytes() for p in picture.planes) for picture in decoder]
    _, *frames = done.stdout.split(b"FRAME\n")
    assert frames == wanted
    assert b"6 passed, 0 enhanced, 9 up-sampled" in done.stderr


def test_a_model_is_used(embed: Path, make_pair: MakePair, tmp_path: Path) -> None:
    pair = make_pair(frames=15)
    model = str(tools.tiny_model(tmp_path / "tiny-k2.pt"))
    command = [embed, pair.hr, pair.lr, "5"]
    done = subprocess.run([*command, model], capture_output=True, check=True)
    assert b"6 passed, 9 enhanced, 0 up-sampled" in done.stderr
    done = subprocess.run([*command, "nowhere"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and 'no model "nowhere" for k = 2' in done.stderr


def test_streams_that_do_not_belong_together_are_a_sentence(
    embed: Path, make_pair: MakePair
) -> None:
    pair = make_pair()
    done = subprocess.run(
        [embed, pair.lr, pair.hr, "5"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "do not belong together" in done.stderr
