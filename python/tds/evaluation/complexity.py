# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a model costs: parameters, arithmetic, memory traffic, peak memory, speed.

Arithmetic and traffic are counted by running the model once under PyTorch's dispatcher;
memory and speed are measured through the engine, in a process of its own each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ExternalError, InputError
from ..media.sources import check_even, parse_size

if TYPE_CHECKING:
    from .graph import Enhancer

SIZES = ("416x240", "832x480", "1280x720", "1920x1080")
GROUP = 5  # frames of a group, independent boundaries: the paper's
COUNTED_AT = 256  # luma samples a side at which arithmetic is counted


def examine_models(
    models: Sequence[Enhancer],
    sizes: Sequence[str],
    device: str = "auto",
    precision: str = "auto",
    say: Callable[[str], None] = lambda _: None,
    limit: float = 120.0,
) -> list[dict[str, Any]]:
    """A row for every model and size. limit: seconds after which a size is given up; its
    fps and memory_mib are then None and ``note`` says so.

    parameters_m: millions. kmac_per_pixel: thousand multiply-adds of convolutions and
    matrix products for one LR frame and a pixel of the full size, both references
    included; kmac_per_pixel_group: the same in a group of 5, where the features of a
    reference are computed once. bytes_per_pixel: what all operations read and write,
    unfused, in float32. memory_mib: peak while a group of 5 is enhanced, weights included,
    the libraries not. fps: LR frames a second."""
    rows = []
    for model in models:
        assert model.path is not None
        counted = count(model.path, model.scale)
        for text in sizes:
            size = parse_size(text)
            check_even(f"the size {text}", *size)
            say(f"{model.name}, k = {model.scale}: {text}")
            timed = _in_process_of_its_own(model.path, model.scale, size, device, precision, limit)
            rows.append(
                {"model": model.name, "scale": model.scale, "size": text, **counted, **timed}
            )
    return rows


# ------------------------------------------------------------------ counting --


def count(path: Path, scale: int) -> dict[str, Any]:
    """Parameters, arithmetic and traffic of an archive; see examine_models."""
    import torch

    jit: Any = torch.jit
    module = jit.load(str(path), map_location="cpu").eval().float()
    parameters = sum(p.numel() for p in module.parameters())
    side_length = COUNTED_AT
    pixels = side_length**2
    random = torch.Generator().manual_seed(0)

    def picture(size: int) -> Any:
        return torch.rand(1, 6, size // 2, size // 2, generator=random)

    first, last, target = picture(side_length), picture(side_length), picture(side_length // scale)
    side = torch.tensor([[1.0, 1.0, 0.5, 32.0, 32.0]])
    with torch.no_grad(), jit.optimized_execution(False):
        macs, traffic = _counted(lambda: module(first, target, last, side))
        in_group = macs
        if hasattr(module, "reference") and hasattr(module, "enhance"):
            reference, _ = _counted(lambda: module.reference(first))
            a, b = module.reference(first), module.reference(last)
            enhance, _ = _counted(lambda: module.enhance(a, target, b, side))
            # Two boundaries and the enhanced middle serve the three LR frames of a group.
            in_group = enhance + reference * 3 / (GROUP - 2)
    return {
        "parameters_m": round(parameters / 1e6, 4),
        "kmac_per_pixel": round(macs / pixels / 1e3, 3),
        "kmac_per_pixel_group": round(in_group / pixels / 1e3, 3),
        "bytes_per_pixel": round(traffic / pixels),
    }


def _counted(work: Callable[[], Any]) -> tuple[float, float]:
    """(multiply-adds, bytes) of all operations of ``work``."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_flatten
    from torch.utils.flop_counter import FlopCounterMode

    class Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
        total = 0

        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            out = function(*args, **(kwargs or {}))
            inputs = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
            outputs = [x for x in tree_flatten(out)[0] if isinstance(x, torch.Tensor)]
            memory = {x.untyped_storage().data_ptr() for x in inputs}
            if any(x.untyped_storage().data_ptr() not in memory for x in outputs):  # not a view
                self.total += sum(x.numel() * x.element_size() for x in (*inputs, *outputs))
            return out

    traffic = Traffic()  # type: ignore[no-untyped-call]
    with FlopCounterMode(display=False) as flops, traffic:
        work()
    return flops.get_total_flops() / 2, float(traffic.total)


# ----------------------------------------------------------------- measuring --


def _in_process_of_its_own(
    path: Path, scale: int, size: tuple[int, int], device: str, precision: str, limit: float
) -> dict[str, Any]:
    command = [sys.executable, "-m", __name__, json.dumps(
        {"path": str(path), "scale": scale, "size": size, "device": device,
         "precision": precision}
    )]  # fmt: skip
    none = {"memory_mib": None, "fps": None, "device": device, "precision": precision}
    package = str(Path(__file__).resolve().parents[2])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
    }
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit, env=environment
        )
    except subprocess.TimeoutExpired:
        return {**none, "note": f"not done in {limit:g} s"}
    if done.returncode < 0:
        return {**none, "note": f"ended by signal {-done.returncode}, out of memory perhaps"}
    if done.returncode:
        if "out of memory" in done.stderr:
            return {**none, "note": "out of memory"}
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ExternalError(f"{path.name} at {size[0]}x{size[1]}: {last}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**found, "note": ""}


def _moving(width: int, height: int, shift: int) -> list[Any]:
    """Planes of a smooth pattern that moves with ``shift``."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    luma = 128 + 60 * np.sin((x + 3 * shift) / 9) + 50 * np.cos((y - 2 * shift) / 13 + x / 31)
    luma = np.clip(luma, 16, 235).astype(np.uint8)
    chroma = np.full((height // 2, width // 2), 120, np.uint8)
    return [np.ascontiguousarray(luma), chroma, chroma + 8]


def measure(
    path: str, scale: int, size: tuple[int, int], device: str, precision: str
) -> dict[str, Any]:
    """Peak memory and speed in this process, through the engine.

    Two groups that are enhanced warm up, unless the first takes 20 seconds; further ones are
    then enhanced for two seconds, one at least.
    """
    import torch  # loaded first, so that its libraries do not count as the model's memory

    from .. import _tds

    width, height = size
    small = (_tds.lr_size(width, scale), _tds.lr_size(height, scale))
    before = _resident("VmRSS")
    with _tds.Session(
        width, height, scale, backend="torchscript", model=path, device=device,
        precision=precision,
    ) as session:  # fmt: skip
        _reset_peak()
        at = 0

        def drain() -> int:
            return sum(picture.status == "enhanced" for picture in session)

        def group() -> int:
            nonlocal at
            enhanced = 0
            roles = ["hr", *["lr"] * (GROUP - 2), "hr"]
            for i, role in enumerate(roles):
                shape = size if role == "hr" else small
                planes = _moving(*shape, i)
                while not session.send(role, planes, at):
                    enhanced += drain()
                at += 1
            return enhanced + drain()

        # That a group has no further LR picture is known when the next group's comes, so
        # each call enhances the group before.
        group()
        first = time.perf_counter()
        frames = group()
        spent = time.perf_counter() - first
        if frames != GROUP - 2:
            raise ExternalError(f"{frames} of {GROUP - 2} frames of a group were enhanced")
        if spent < 20:
            group()  # TorchScript optimises on its second run
            frames, begin = 0, time.perf_counter()
            while not frames or time.perf_counter() - begin < 2:
                frames += group()
            spent = time.perf_counter() - begin
        info = session.info
        if info.device.startswith("cuda"):
            # What the engine allocated counts, but until then Python's side says nothing of it.
            torch.cuda.init()  # type: ignore[no-untyped-call]
            memory = torch.cuda.max_memory_allocated(info.device) / 2**20
        else:
            memory = _resident("VmHWM") - before
        return {
            "memory_mib": round(memory) if memory > 0 else None,
            "fps": float(f"{frames / spent:.3g}"),
            "device": info.device,
            "precision": info.precision,
        }


def _resident(name: str) -> float:
    """MiB of VmRSS (now) or VmHWM (peak); 0 where the system does not say."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def _reset_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def parse_sizes(texts: Sequence[str]) -> list[str]:
    """Checks sizes as --size has them. Raises InputError."""
    for text in texts:
        check_even(f"the size {text}", *parse_size(text))
    if not texts:
        raise InputError("name a size, as in 1920x1080")
    return list(texts)


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
