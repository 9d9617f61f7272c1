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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast

import numpy as np

from .. import _tds
from ..errors import ExternalError, InputError
from ..media.sources import check_even, parse_size
from .records import ComplexityRow

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
) -> list[ComplexityRow]:
    """A row for every model and size. limit: seconds after which a size is given up; its
    fps and memory_mib are then None and ``note`` says so.

    parameters_m: millions. kmac_per_pixel: thousand multiply-adds of convolutions and
    matrix products for one enhanced frame and a pixel of the full size, all references
    included; kmac_per_pixel_group: the same where the features of a picture are computed once
    (contract 1: in a group of 5). operations: that the engine runs for a frame then and that are
    no views, at whatever size. bytes_per_pixel: what all operations of the first read and write,
    unfused, in float32. memory_mib: peak while frames are enhanced, weights included, the
    libraries not. fps: enhanced frames a second."""
    rows: list[ComplexityRow] = []
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


class Counts(TypedDict):
    """See examine_models."""

    parameters_m: float
    kmac_per_pixel: float
    kmac_per_pixel_group: float
    bytes_per_pixel: int
    operations: int


def count(path: Path, scale: int) -> Counts:
    """Parameters, arithmetic and traffic of an archive; see examine_models."""
    import torch

    jit: Any = torch.jit
    module = jit.load(str(path), map_location="cpu").eval().float()
    metadata = _tds.model_metadata(path)
    with torch.no_grad(), jit.optimized_execution(False):
        if metadata["tds_model"] == 1:
            return _count_1(module, scale)
        return count_family(module, len(metadata["references"]))


def count_family(module: Any, references: int, size: int = COUNTED_AT) -> Counts:
    """Of a module of contract 2 (docs/model.md) with so many references.

    size: luma samples a side of the picture it is run on."""
    import torch

    pictures = _picture(size)[None].expand(1, 1 + references, -1, -1, -1)
    side = _side(references)
    with torch.no_grad():
        whole = counted(lambda: module(pictures, side))
    one = counted_picture(module, references, size)
    return _counts(module, whole, one.macs, one.run, size)


def counted_picture(module: Any, references: int, size: int = COUNTED_AT) -> Operations:
    """What the engine runs for a picture: its features, and it itself from those of all."""
    import torch

    target = _picture(size)
    facts, side = torch.tensor([[1.0, 0.0, -1.0, -1.0]]), _side(references)
    with torch.no_grad():
        features = module.features(target, facts)
        beside = [features] * references

        def work() -> None:
            own = module.features(target, facts)
            module.enhance(target, own, [target] * references, beside, side)

        return counted(work)


def _side(references: int) -> Any:
    """Rows of facts (docs/model.md): all there, of full size, QPs and types not known."""
    import torch

    side = torch.tensor([1.0, 1.0, 1.0, 0.0, -1.0, -1.0, 0.0]).repeat(1, 1 + references, 1)
    side[:, 0, 1], side[:, 0, 6] = 0.0, 1.0
    return side


def _count_1(module: Any, scale: int) -> Counts:
    import torch

    size = COUNTED_AT
    first, last, target = _picture(size), _picture(size), _picture(size // scale)
    side = torch.tensor([[1.0, 1.0, 0.5, 32.0, 32.0]])
    whole = counted(lambda: module(first, target, last, side))
    if not (hasattr(module, "reference") and hasattr(module, "enhance")):
        return _counts(module, whole, whole.macs, whole.run, size)
    once = counted(lambda: module.reference(first))
    a, b = module.reference(first), module.reference(last)
    enhance = counted(lambda: module.enhance(a, target, b, side))
    # Two boundaries and the enhanced middle serve the three LR frames of a group.
    shared = 3 / (GROUP - 2)
    return _counts(
        module, whole, enhance.macs + shared * once.macs, enhance.run + shared * once.run, size
    )


def _picture(size: int) -> Any:
    import torch

    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, 6, size // 2, size // 2, generator=generator)


def _counts(module: Any, whole: Operations, macs: float, run: float, size: int) -> Counts:
    pixels = size**2
    return {
        "parameters_m": round(sum(p.numel() for p in module.parameters()) / 1e6, 4),
        "kmac_per_pixel": round(whole.macs / pixels / 1e3, 3),
        "kmac_per_pixel_group": round(macs / pixels / 1e3, 3),
        "bytes_per_pixel": round(whole.traffic / pixels),
        "operations": round(run),
    }


@dataclass(frozen=True)
class Operations:
    """What some work came to. macs: multiply-adds of convolutions and matrix products.
    traffic: bytes that all operations read and wrote. run: operations that were no views.
    by_name: of those, how many of each."""

    macs: float
    traffic: float
    run: int
    by_name: dict[str, int]


def counted(work: Callable[[], Any]) -> Operations:
    """Runs ``work`` once under PyTorch's dispatcher, on any device."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_flatten
    from torch.utils.flop_counter import FlopCounterMode

    class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
        traffic = 0

        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.names: dict[str, int] = {}

        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            out = function(*args, **(kwargs or {}))
            inputs = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
            outputs = [x for x in tree_flatten(out)[0] if isinstance(x, torch.Tensor)]
            memory = {x.untyped_storage().data_ptr() for x in inputs}
            written = function._schema.is_mutable
            if written or any(x.untyped_storage().data_ptr() not in memory for x in outputs):
                self.traffic += sum(x.numel() * x.element_size() for x in (*inputs, *outputs))
                name = function._schema.name.removeprefix("aten::")
                self.names[name] = self.names.get(name, 0) + 1
            return out

    counter = Counter()
    with FlopCounterMode(display=False) as flops, counter:
        work()
    return Operations(
        flops.get_total_flops() / 2,
        float(counter.traffic),
        sum(counter.names.values()),
        dict(sorted(counter.names.items(), key=lambda item: -item[1])),
    )


# ----------------------------------------------------------------- measuring --


class Timed(TypedDict):
    """See examine_models."""

    memory_mib: int | None
    fps: float | None
    device: str
    precision: str
    note: str


def _in_process_of_its_own(
    path: Path, scale: int, size: tuple[int, int], device: str, precision: str, limit: float
) -> Timed:
    command = [sys.executable, "-m", __name__, json.dumps(
        {"path": str(path), "scale": scale, "size": size, "device": device,
         "precision": precision}
    )]  # fmt: skip
    none: Timed = {
        "memory_mib": None, "fps": None, "device": device, "precision": precision, "note": ""
    }  # fmt: skip
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
    return cast(Timed, {**json.loads(done.stdout.splitlines()[-1]), "note": ""})


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

    width, height = size
    small = (_tds.lr_size(width, scale), _tds.lr_size(height, scale))
    before = _resident("VmRSS")
    plain = scale == 1
    # A plain session looks ahead and fills batches: a call need not enhance all that it sends.
    least = 1 if plain else GROUP - 2
    with _tds.Session(
        width, height, scale, kind="plain" if plain else "pair", backend="torchscript",
        model=path, device=device, precision=precision,
    ) as session:  # fmt: skip
        _reset_peak()
        at = 0

        def drain() -> int:
            return sum(picture.status in ("enhanced", "refined") for picture in session)

        def group() -> int:
            nonlocal at
            enhanced = 0
            roles = ["hr"] * GROUP if plain else ["hr", *["lr"] * (GROUP - 2), "hr"]
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
        if frames < least:
            raise ExternalError(f"{frames} of {least} frames of a group were enhanced")
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
