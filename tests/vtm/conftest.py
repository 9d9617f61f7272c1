# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of the reference decoders' door share."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from postdec_helpers import (
    MakePair,
    Pair,
    children,
    descriptors,
    pictures,
    running_with,
    smaller,
    write_y4m,
)

from tds.container.metadata import Metadata, Timeline
from tds.container.sidecar import write_sidecar
from tds.plan import Boundaries, Planner, PlanSettings, Role, run_lengths

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]


@pytest.fixture
def make_pair(tmp_path: Path) -> MakePair:
    def make(
        frames: int = 12,
        size: tuple[int, int] = (64, 48),
        scale: int = 2,
        depth: int = 8,
        group: int = 5,
        boundaries: Boundaries = Boundaries.INDEPENDENT,
        lead: bool = False,
    ) -> Pair:
        source = pictures(frames, *size, depth)
        planner: Planner[int] = Planner(PlanSettings(group, boundaries))
        planned = [p for i in range(frames) for p in planner.push(i)] + planner.finish()
        roles = [p.role for p in planned]
        hr = [s for s, r in zip(source, roles, strict=True) if r is Role.HR]
        lr = [smaller(s, scale) for s, r in zip(source, roles, strict=True) if r is Role.LR]
        if lead:
            lr.insert(0, smaller(source[0], scale))
        metadata = Metadata(
            scale=scale,
            width=size[0],
            height=size[1],
            bit_depth=depth,
            codec="vvc",
            config="ra" if lead else "ai",
            hr_qp=32,
            lr_qp=32,
            group=group,
            boundaries=boundaries,
            groups=tuple(run_lengths(planner.groups)),
            timeline=Timeline(Fraction(1, 25), 0, frames, Fraction(25)),
            leads=((0, 1),) if lead else (),
        )
        sidecar = tmp_path / "pair.json"
        write_sidecar(sidecar, metadata, overwrite=True)
        return Pair(
            tmp_path,
            write_y4m(tmp_path / "hr.y4m", hr, depth),
            write_y4m(tmp_path / "lr.y4m", lr, depth),
            sidecar,
            metadata,
            source,
            roles,
        )

    return make


@pytest.fixture(scope="session")
def pusher(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The command of push_y4m, as a decoder for PostdecSettings."""
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler, and push_y4m has to be built")
    program = tmp_path_factory.mktemp("bin") / "push_y4m"
    subprocess.run(
        [
            *compiler.split(),
            *("-std=c++11", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror"),
            f"-I{REPO / 'csrc/include'}",
            str(HERE / "push_y4m.cpp"),
            *("-o", str(program)),
        ],
        check=True,
    )
    return f"{program} {{session}} {{role}} {{input}}"


@pytest.fixture
def nothing_left() -> Callable[[Pair], None]:
    """Asserts that no process, descriptor, socket or temporary file is left behind."""
    if not Path("/proc/self/task").is_dir():
        pytest.skip("needs /proc to see what is left behind")
    before_fds = descriptors()
    before = children()

    def check(pair: Pair) -> None:
        assert children() <= before
        # A decoder's own children were killed too; they are not ours to wait for, and on a busy
        # machine take a moment to go.
        deadline = time.monotonic() + 10
        while running_with(str(pair.folder)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert running_with(str(pair.folder)) == []
        gc.collect()  # PyAV closes files so
        assert descriptors() <= before_fds
        left = {p.name for p in pair.folder.iterdir()}
        assert left <= {"hr.y4m", "lr.y4m", "pair.json", "out.y4m", "sock.txt"}

    return check


def _folder(variable: str, *names: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set; name the folder with {' and '.join(names)}")
    for name in names:
        if not (Path(value) / name).is_file():
            pytest.fail(f"{variable}={value}: there is no {name}")
    return Path(value)


@pytest.fixture(scope="session")
def vtm_bin() -> Path:
    """Folder with VTM's EncoderApp and the patched DecoderApp."""
    return _folder("TDS_VTM_BIN", "DecoderApp", "EncoderApp")


@pytest.fixture(scope="session")
def hm_bin() -> Path:
    """Folder with HM's TAppEncoder and the patched TAppDecoder."""
    return _folder("TDS_HM_BIN", "TAppDecoder", "TAppEncoder")
