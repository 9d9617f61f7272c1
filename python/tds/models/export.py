# SPDX-License-Identifier: LGPL-2.1-or-later
"""Exports a network to the TorchScript archive that the engine loads (docs/model.md)."""

from __future__ import annotations

import copy
import io
import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tds.files import whole_file
from tds.models.resample import luma_of, pack

PRECISIONS = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


def script(model: nn.Module) -> torch.jit.ScriptModule:
    """The scripted, evaluation-mode form of a network.

    Upstream has deprecated TorchScript; its warning says nothing that a user of an exported
    model can act on, so it is not shown. docs/training.md says what comes after it.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=r".*torch\.jit.*")
        return torch.jit.script(model.eval())


def example(
    scale: int, height: int = 64, width: int = 96, batch: int = 1, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Arguments for ``forward`` of contract 1, of a full size ``height`` x ``width``."""
    first, middle, last = _moving((-1, 0, 1), height, width, batch, seed)
    luma, chroma = F.avg_pool2d(luma_of(middle), scale), F.avg_pool2d(middle[:, 4:6], scale)
    target = pack(luma, chroma)
    side = torch.tensor([[1.0, 1.0, 0.5, 32.0, 32.0]]).repeat(batch, 1)
    return first, target, last, side


def window_example(
    scale: int,
    slots: Sequence[str],
    height: int = 64,
    width: int = 96,
    batch: int = 1,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Arguments for ``forward`` of contract 2: ``[B, 1 + R, 6, H/2, W/2]`` and the side rows,
    for these slots, all of them present."""
    full = {"full-before": -2, "full-after": 2}
    distances = [0, *(full[slot] if slot in full else int(slot) for slot in slots)]
    pictures = torch.stack(_moving(distances, height, width, batch, seed), 1)
    rows = [[1.0, float(d), 1.0 if i else float(scale), 0.0, 32.0, -1.0, 0.0 if i else 1.0]
            for i, d in enumerate(distances)]  # fmt: skip
    return pictures, torch.tensor([rows]).repeat(batch, 1, 1)


def _moving(times: Sequence[int], height: int, width: int, batch: int, seed: int) -> list[Tensor]:
    """Packed pictures of one scene at these times."""
    # Smooth pictures that move: in noise the motion search may land anywhere, and the
    # smallest rounding would show.
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 1, height // 8 + 4, width // 8 + 4, generator=generator)
    scene = F.interpolate(coarse, scale_factor=8.0, mode="bicubic", align_corners=False)
    scene = scene.clamp(0.0, 1.0)

    def picture(time: int) -> Tensor:
        y = min(max(16 + time, 0), 32)
        x = min(max(16 + 3 * time, 0), 32)
        luma = scene[:, :, y : y + height, x : x + width]
        chroma = F.avg_pool2d(luma, 2)
        return pack(luma, torch.cat([chroma, 1.0 - chroma], 1))

    return [picture(time) for time in times]


def _run(model: nn.Module, about: dict[str, Any], arguments: tuple[Tensor, ...]) -> list[Tensor]:
    """What the model makes by each of its ways: they are to agree."""
    out = [model(*arguments)]
    if about.get("tds_model") == 2:
        pictures, side = arguments
        each = [pictures[:, i] for i in range(pictures.shape[1])]
        found = [model.features(p, side[:, i, 2:6]) for i, p in enumerate(each)]  # type: ignore[operator]
        out.append(model.enhance(each[0], found[0], each[1:], found[1:], side))  # type: ignore[operator]
    elif about.get("features"):
        first, target, last, side = arguments
        found = [model.reference(picture) for picture in (first, last)]  # type: ignore[operator]
        out.append(model.enhance(found[0], target, found[1], side))  # type: ignore[operator]
    return out


def export(
    model: nn.Module,
    about: dict[str, Any],
    path: str | os.PathLike[str],
    precision: str = "float32",
    size: tuple[int, int] = (64, 96),
) -> None:
    """Scripts ``model`` into ``path`` with ``about`` as its ``tds.json``.

    The archive is loaded again and compared with the network before it appears under its
    name: at most 1e-4 off anywhere in float32, 0.01 on average in less. ``tds.json`` also says
    which torch made it. ``size``: height and width of the pictures it is compared on.
    ``precision`` is the type of the stored weights; the engine converts to what it runs in.
    Raises ValueError when the two do not agree, OutputError when it cannot be written.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"no precision {precision!r}; there is: {', '.join(PRECISIONS)}")
    path = Path(path)
    dtype = PRECISIONS[precision]
    scale = int(about["scale"])
    arguments: tuple[Tensor, ...] = example(scale, *size)
    if about.get("tds_model") == 2:
        slots = about.get("references", ("full-before", "full-after"))
        arguments = window_example(scale, slots, *size)
    # A copy: a scripted module shares its weights, which are about to change their type.
    model = copy.deepcopy(model).eval().float().cpu()
    with torch.no_grad():
        want = model(*arguments)
    scripted = script(model.to(dtype))
    about = {**about, "precision": precision, "torch": torch.__version__}
    # Into memory first: torch ends the whole process where a disk is full.
    archive = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=r".*torch\.jit.*")
        text = json.dumps(about, indent=1, sort_keys=True)
        torch.jit.save(scripted, archive, _extra_files={"tds.json": text})
        archive.seek(0)
        again = torch.jit.load(archive, map_location="cpu")
    with torch.no_grad():
        ways = _run(again, about, tuple(a.to(dtype) for a in arguments))
    errors = [(want - got.float()).abs() for got in ways]
    exact = dtype == torch.float32
    allowed = 1e-4 if exact else 0.01
    for error in errors:
        difference = float(error.max() if exact else error.mean())
        if not difference <= allowed:  # nor when it is no number
            raise ValueError(f"the exported model is off by {difference:.2g}; it was not written")
    with whole_file(path, overwrite=True) as beside:
        beside.write_bytes(archive.getvalue())
