#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""How fast the models are beside bicubic, through the engine, in one run.

    python benchmarks/model_speed.py                 # CPU: 416x240 and 832x480
    python benchmarks/model_speed.py --device cuda   # also 1080p, and against a matrix product

Frames a second are of enhanced (LR) pictures, groups of N = 5, the models taking turns.
With CUDA: also the learned multiply-adds a second over those that a large bf16 matrix product
reaches on the same device, and the peak memory. Read the ratios, not the seconds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import numpy as np

import tds
from tds import models

GROUPS = 2


def pictures(width: int, height: int, scale: int) -> tuple[dict, dict]:
    """A moving texture as HR pictures 0, 4, 8 and LR pictures between."""
    rng = np.random.default_rng(0)
    big = rng.integers(0, 256, (height // 8 + 4, width // 8 + 8)).astype(np.uint8)
    big = np.kron(big, np.ones((8, 8), np.uint8))
    hr, lr = {}, {}
    for t in range(4 * GROUPS + 1):
        y = np.ascontiguousarray(big[t : t + height, 2 * t : 2 * t + width])
        c = np.full((height // 2, width // 2), 128, np.uint8)
        if t % 4 == 0:
            hr[t] = [y, c, c]
        else:
            h, w = tds_size(height, scale), tds_size(width, scale)
            low = np.ascontiguousarray(y[::scale, ::scale][:h, :w])
            low = np.pad(low, ((0, h - low.shape[0]), (0, w - low.shape[1])), mode="edge")
            lr[t] = [low, *[np.full((h // 2, w // 2), 128, np.uint8)] * 2]
    return hr, lr


def tds_size(size: int, scale: int) -> int:
    return 2 * -(-size // (2 * scale))


def run(session: tds.Session, hr: dict, lr: dict, offset: int) -> float:
    """Sends all pictures, receives all; seconds."""
    began = time.perf_counter()
    for t in range(4 * GROUPS + 1):
        session.send("hr" if t in hr else "lr", hr.get(t) or lr[t], pts=offset + t)
        for _ in session:
            pass
    return time.perf_counter() - began


def multiply_adds(name: str, scale: int) -> float:
    """Learned ones, per luma sample."""
    import torch

    from tds.models.export import example
    from tds.models.registry import weights

    model = models.load(weights(name, scale))
    total = 0

    def count(module: object, arguments: object, output: torch.Tensor) -> None:
        nonlocal total
        total += module.weight[0].numel() * output.numel()  # type: ignore[attr-defined]

    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        model(*example(scale, 64, 96))
    return total / (64 * 96)


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
    p.add_argument("--models", nargs="+", help="default: all there are for k")
    p.add_argument("--scale", "-k", type=int, default=2, choices=[2, 4])
    p.add_argument("--device", default="cpu")
    p.add_argument("--precision", default="auto")
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--sizes", nargs="+")
    p.add_argument("--runs", type=int, default=3)
    args = p.parse_args()
    cuda = args.device.startswith("cuda")
    sizes = args.sizes or ["416x240", "832x480", *(["1920x1080"] if cuda else [])]
    names = args.models or [m.name for m in models.available(args.scale)]
    reached = matrix_product(args.device) if cuda else 0.0
    print(
        "| size | model | LR frames/s | of bicubic | kMAC/sample |" + (" of matmul | MiB |" * cuda)
    )
    print("|---|---|---|---|---|" + "---|---|" * cuda)
    for size in sizes:
        width, height = map(int, size.split("x"))
        hr, lr = pictures(width, height, args.scale)
        sessions = {}
        for name in ["bicubic", *names]:
            options: dict = {"backend": "bicubic"}
            if name != "bicubic":
                options = {
                    "model": models.find(name, args.scale).path,
                    "device": args.device,
                    "precision": args.precision,
                }
            sessions[name] = tds.Session(width, height, args.scale, threads=args.threads, **options)
        taken: dict[str, list[float]] = {name: [] for name in sessions}
        for i in range(args.runs + 2):  # two to warm up: TorchScript specialises
            for name, session in sessions.items():
                session.flush()
                seconds = run(session, hr, lr, 0)
                if i >= 2:
                    taken[name].append(len(lr) / seconds)
        base = statistics.median(taken["bicubic"])
        for name in sessions:
            fps = statistics.median(taken[name])
            macs = multiply_adds(name, args.scale) if name != "bicubic" else 0.0
            line = f"| {size} | {name} | {fps:.1f} | {fps / base:.4f} | {macs / 1000:.1f} |"
            if cuda:
                import torch

                share = fps * macs * width * height / reached
                free, total = torch.cuda.mem_get_info()
                line += f" {100 * share:.1f} % | {(total - free) >> 20} |"
            print(line, flush=True)
        for session in sessions.values():
            session.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
