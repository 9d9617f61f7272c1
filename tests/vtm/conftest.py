# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of the reference decoders' door share."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tds._tds import lr_size
from tds.container.metadata import Metadata, Timeline
from tds.container.sidecar import write_sidecar
from tds.plan import Boundaries, Planner, PlanSettings, Role, run_lengths

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]

Planes = tuple[NDArray[np.generic], ...]


def pictures(count: int, width: int, height: int, depth: int) -> list[Planes]:
    """Smooth, moving, and different for every sample: an error of one row, column,
    picture or bit shows."""
    y, x = np.mgrid[0:height, 0:width]
    kind = np.uint8 if depth == 8 else np.uint16
    top = (1 << depth) - 1
    out = []
    for n in range(count):
        luma = (0.5 + 0.4 * np.sin((x + 3 * n) / 9) * np.cos((y - 2 * n) / 7)) * top
        cb = (0.5 + 0.3 * np.sin((x[::2, ::2] + n) / 11)) * top
        cr = (0.5 + 0.3 * np.cos((y[::2, ::2] + n) / 13)) * top
        out.append(tuple(p.astype(kind) for p in (luma, cb, cr)))
    return out


def smaller(planes: Planes, scale: int) -> Planes:
    """LR by picking samples; how it was down-sampled does not matter here."""
    height, width = planes[0].shape
    lw, lh = lr_size(width, scale), lr_size(height, scale)
    padded = [
        np.pad(p, ((0, lh * scale), (0, lw * scale)), mode="edge")[
            : (lh if i == 0 else lh // 2) * scale : scale,
            : (lw if i == 0 else lw // 2) * scale : scale,
        ]
        for i, p in enumerate(planes)
    ]
    return tuple(np.ascontiguousarray(p) for p in padded)


def write_y4m(path: Path, frames: list[Planes], depth: int) -> Path:
    height, width = frames[0][0].shape
    chroma = "420mpeg2" if depth == 8 else "420p10 XYSCSS=420P10"
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F25:1 Ip A1:1 C{chroma}\n".encode())
        for planes in frames:
            file.write(b"FRAME\n")
            for plane in planes:
                file.write(plane.tobytes())
    return path


@dataclass
class Pair:
    """HR and LR as y4m files, and what pairs them."""

    folder: Path
    hr: Path
    lr: Path
    sidecar: Path
    metadata: Metadata
    source: list[Planes]
    roles: list[Role]

    @property
    def frames(self) -> int:
        return len(self.source)


MakePair = Callable[..., Pair]


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


def children() -> set[int]:
    """Processes this one has started and not reaped, zombies included."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


def running_with(text: str) -> list[str]:
    """Command lines of all running processes that mention ``text``, but for this one's."""
    out = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if text in line:
                out.append(line)
    return out


@pytest.fixture
def nothing_left() -> Callable[[Pair], None]:
    """Asserts that no process, descriptor, socket or temporary file is left behind."""
    if not Path("/proc/self/task").is_dir():
        pytest.skip("needs /proc to see what is left behind")
    descriptors = set(os.listdir("/proc/self/fd"))
    before = children()

    def check(pair: Pair) -> None:
        assert children() <= before
        assert running_with(str(pair.folder)) == []
        assert len(os.listdir("/proc/self/fd")) <= len(descriptors)
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
