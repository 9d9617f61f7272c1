# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pictures, pairs and processes for the tests of the reference decoders' door."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tds._tds import lr_size
from tds.container.metadata import Metadata
from tds.plan import Role

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


def children() -> set[int]:
    """Processes this one has started and not reaped, zombies included."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


def child_with(text: str) -> int:
    """The one process started by this one whose command line holds ``text``."""
    lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children()}
    (found,) = (pid for pid, line in lines.items() if text in line.replace(b"\0", b" ").decode())
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


def descriptors() -> set[str]:
    """What this process holds open: files, sockets and pipes by name or number."""
    out = set()
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            out.add(str(entry.readlink()))
    return {name for name in out if "/proc/" not in name}
