# SPDX-License-Identifier: LGPL-2.1-or-later
"""Exports a network to the TorchScript archive that the engine loads (docs/model.md)."""

from __future__ import annotations

import copy
import io
import json
import os
import warnings
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
    """Arguments for ``forward``, of a full size ``height`` x ``width``."""
    # Smooth pictures that move: in noise the motion search may land anywhere, and the
    # smallest rounding would show.
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 1, height // 8 + 4, width // 8 + 4, generator=generator)
    scene = F.interpolate(coarse, scale_factor=8.0, mode="bicubic", align_corners=False)
    scene = scene.clamp(0.0, 1.0)

    def picture(x: int, y: int) -> Tensor:
        luma = scene[:, :, 16 + y : 16 + y + height, 16 + x : 16 + x + width]
        chroma = F.avg_pool2d(luma, 2)
        return pack(luma, torch.cat([chroma, 1.0 - chroma], 1))

    first, middle, last = picture(-3, -1), picture(0, 0), picture(3, 1)
    luma, chroma = F.avg_pool2d(luma_of(middle), scale), F.avg_pool2d(middle[:, 4:6], scale)
    target = pack(luma, chroma)
    side = torch.tensor([[1.0, 1.0, 0.5, 32.0, 32.0]]).repeat(batch, 1)
    return first, target, last, side


def export(
    model: nn.Module,
    about: dict[str, Any],
    path: str | os.PathLike[str],
    precision: str = "float32",
) -> None:
    """Scripts ``model`` into ``path`` with ``about`` as its ``tds.json``.

    The archive is loaded again and compared with the network before it appears under its
    name: at most 1e-4 off anywhere in float32, 0.01 on average in less. ``tds.json`` also says
    which torch made it.
    ``precision`` is the type of the stored weights; the engine converts to what it runs in.
    Raises ValueError when the two do not agree, OutputError when it cannot be written.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"no precision {precision!r}; there is: {', '.join(PRECISIONS)}")
    path = Path(path)
    dtype = PRECISIONS[precision]
    arguments = example(int(about["scale"]))
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
        got = again(*[a.to(dtype) for a in arguments]).float()
    error = (want - got).abs()
    exact = dtype == torch.float32
    difference, allowed = (error.max(), 1e-4) if exact else (error.mean(), 0.01)
    difference = float(difference)
    if not difference <= allowed:
        raise ValueError(f"the exported model is off by {difference:.2g}; it was not written")
    with whole_file(path, overwrite=True) as beside:
        beside.write_bytes(archive.getbuffer())
