#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""How fast the models are, through the engine and bare, by size and precision, in one run.

    python benchmarks/model_speed.py                        # CPU, k = 2: 832x480 and 1920x1080
    python benchmarks/model_speed.py --scale 1 --precision float32 bfloat16
    python benchmarks/model_speed.py --device cuda          # also 3840x2160

Pictures a second are of enhanced ones: the LR pictures of groups of N = 5 (k = 2, 4) or all of a
plain stream (k = 1), models and precisions taking turns. *Bare* is the model alone in the same
precision and threads, one picture at a time, the features of a picture computed once. "none" is the
engine without a model. With CUDA: also the learned multiply-adds a second over those that a large
bf16 matrix product reaches on the same device, and its memory. Read the ratios, not the seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import tds
from tds import models
from tds._tds import lr_size, model_metadata
from tds.evaluation.complexity import count

GROUPS = 2
N = 5


def pictures(width: int, height: int, scale: int) -> tuple[dict, dict]:
    """A moving texture as HR pictures 0, 4, 8 and LR pictures between; at k = 1 all are HR."""
    rng = np.random.default_rng(0)
    big = rng.integers(0, 256, (height // 8 + 4, width // 8 + 8)).astype(np.uint8)
    big = np.kron(big, np.ones((8, 8), np.uint8))
    hr, lr = {}, {}
    for t in range((N - 1) * GROUPS + 1):
        y = np.ascontiguousarray(big[t : t + height, 2 * t : 2 * t + width])
        c = np.full((height // 2, width // 2), 128, np.uint8)
        if t % (N - 1) == 0 or scale == 1:
            hr[t] = [y, c, c]
        else:
            h, w = lr_size(height, scale), lr_size(width, scale)
            low = np.ascontiguousarray(y[::scale, ::scale][:h, :w])
            low = np.pad(low, ((0, h - low.shape[0]), (0, w - low.shape[1])), mode="edge")
            lr[t] = [low, *[np.full((h // 2, w // 2), 128, np.uint8)] * 2]
    return hr, lr


def run(session: tds.Session, hr: dict, lr: dict) -> float:
    """Sends all pictures, receives all that come; seconds."""
    began = time.perf_counter()
    for t in range((N - 1) * GROUPS + 1):
        role, planes = ("hr", hr[t]) if t in hr else ("lr", lr[t])
        while not session.send(role, planes, pts=t):
            for _ in session:
                pass
        for _ in session:
            pass
    for role in ("hr", "lr"):
        session.end(role)
    for _ in session:
        pass
    return time.perf_counter() - began


def bare(path: Path, size: tuple[int, int], device: str, precision: str) -> Callable[[], None]:
    """A call makes one picture by the model alone."""
    import torch

    about = model_metadata(path)
    kind = getattr(torch, precision)
    place = torch.device(device)
    module: Any = torch.jit.load(str(path), map_location=place).eval().to(kind)
    scale = int(about["scale"])
    step = int(about.get("alignment", 2 * scale))
    width, height = (-(-s // step) * step for s in size)

    def picture(k: int = 1) -> torch.Tensor:
        return torch.rand(1, 6, height // 2 // k, width // 2 // k, dtype=kind, device=place)

    if about["tds_model"] == 1:
        references, target = [picture(), picture()], picture(scale)
        side = torch.tensor([[1.0, 1.0, 0.5, 32.0, 32.0]], device=place)

        def work() -> None:
            if about.get("features"):  # a group has as many references as LR pictures
                first = module.reference(references[0])
                module.enhance(first, target, first, side)
            else:
                module(references[0], target, references[1], side)

    else:
        slots = len(about["references"])
        side = torch.tensor([1.0, 1.0, 1.0, 0.0, -1.0, -1.0, 0.0], device=place)
        side = side.repeat(1, 1 + slots, 1)
        side[:, 0, 1], side[:, 0, 6] = 0.0, 1.0
        target, facts = picture(), side[:, 0, 2:6]

        def work() -> None:
            own = module.features(target, facts)
            module.enhance(target, own, [target] * slots, [own] * slots, side)

    def call() -> None:
        with torch.no_grad():
            work()
        if place.type == "cuda":
            torch.cuda.synchronize(place)

    return call


def bare_speed(
    path: Path, size: tuple[int, int], device: str, precision: str, threads: int
) -> float:
    """Pictures a second, the best of some."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        call = bare(path, size, device, precision)
        times = []
        for _ in range(5):
            began = time.perf_counter()
            call()
            times.append(time.perf_counter() - began)
        return 1 / min(times[2:])  # TorchScript specialises in the first two
    finally:
        torch.set_num_threads(before)


def matrix_product(device: str) -> float:
    """Multiply-adds a second of a large bf16 product."""
    import torch

    n = 8192
    a = torch.randn(n, n, device=device, dtype=torch.bfloat16)
    for _ in range(3):
        a @ a
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(10):
        a @ a
    torch.cuda.synchronize()
    return 10 * n**3 / (time.perf_counter() - began)


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--models", nargs="+", help="names or files; default: all there are for k")
    p.add_argument("--scale", "-k", type=int, default=2, choices=[1, 2, 4])
    p.add_argument("--device", default="cpu")
    p.add_argument("--precision", nargs="+", default=["auto"])
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--sizes", nargs="+")
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--json", action="store_true", help="rows as JSON in place of the table")
    args = p.parse_args()
    cuda = args.device.startswith("cuda")
    sizes = args.sizes or ["832x480", "1920x1080", *(["3840x2160"] if cuda else [])]
    names = args.models or [m.name for m in models.available(args.scale)]
    paths = {name: models.find(name, args.scale).path for name in names}
    macs = {
        name: 1000 * count(path, args.scale)["kmac_per_pixel_group"] for name, path in paths.items()
    }
    reached = matrix_product(args.device) if cuda else 0.0
    rows = []
    if not args.json:
        print(
            "| size | model | precision | pictures/s | bare | of none | kMAC/sample |"
            + (" of matmul | MiB |" * cuda)
        )
        print("|---|---|---|---|---|---|---|" + "---|---|" * cuda)
    for size in sizes:
        width, height = map(int, size.split("x"))
        hr, lr = pictures(width, height, args.scale)
        enhanced = len(lr or hr)
        kind = "plain" if args.scale == 1 else "pair"
        sessions = {}
        for name in ["none", *names]:
            for precision in args.precision if name != "none" else ["auto"]:
                options: dict = {"backend": "bicubic"}
                if name != "none":
                    options = {"model": paths[name], "device": args.device, "precision": precision}
                sessions[name, precision] = tds.Session(
                    width, height, args.scale, kind=kind, threads=args.threads, **options
                )
        taken: dict[tuple[str, str], list[float]] = {key: [] for key in sessions}
        for i in range(args.runs + 2):  # two to warm up: TorchScript specialises
            for key, session in sessions.items():
                session.flush()
                seconds = run(session, hr, lr)
                if i >= 2:
                    taken[key].append(enhanced / seconds)
        base = statistics.median(taken["none", "auto"])
        for (name, precision), session in sessions.items():
            fps = statistics.median(taken[name, precision])
            row: dict[str, Any] = {"size": size, "model": name, "precision": session.info.precision}
            row |= {"scale": args.scale, "device": session.info.device, "fps": fps, "bare": None}
            row |= {"of_none": fps / base, "kmac": macs.get(name, 0.0) / 1000}
            if name != "none":
                row["bare"] = bare_speed(
                    paths[name], (width, height), args.device, session.info.precision, args.threads
                )
            if cuda:
                import torch

                free, total = torch.cuda.mem_get_info()
                share = fps * macs.get(name, 0.0) * width * height / reached
                row |= {"of_matmul": share, "mib": (total - free) >> 20}
            rows.append(row)
            if not args.json:
                print(line(row), flush=True)
        for session in sessions.values():
            session.close()
    if args.json:
        print(json.dumps(rows, indent=1))
    return 0


def line(row: dict[str, Any]) -> str:
    alone = "" if row["bare"] is None else f"{row['bare']:.2f}"
    text = f"| {row['size']} | {row['model']} | {row['precision']} | {row['fps']:.2f} | {alone} | "
    text += f"{row['of_none']:.4f} | {row['kmac']:.1f} |"
    if "of_matmul" in row:
        text += f" {100 * row['of_matmul']:.1f} % | {row['mib']} |"
    return text


if __name__ == "__main__":
    sys.exit(main())
