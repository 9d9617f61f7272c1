# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the engine adds to the model: pictures through a session, against the bare
model's calls on the same tensors in the same batches.

    python benchmarks/engine_overhead.py [--size 832x480] [--model FILE] [--groups 8] [--runs 21]

Without --model, on a plain convolutional network made here (docs/model.md,
without features). For a model with features, what is compared with are its own
``reference`` and ``enhance``, called as often as the engine calls them.
Everything runs on the CPU, in this process, in turn; medians are printed, of the
time on the clock and of processor time, which other programs disturb less.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import tds
from tds._tds import lr_size, model_metadata

Planes = list[NDArray[np.uint8]]
GROUP = 5  # frames; as the encoder's default, both ends HR


class Plain(torch.nn.Module):
    """Three convolutions over both references and the target: about the least a model costs."""

    def __init__(self, scale: int = 2, channels: int = 16) -> None:
        super().__init__()
        self.scale = float(scale)
        self.head = torch.nn.Conv2d(18, channels, 3, padding=1)
        self.body = torch.nn.Conv2d(channels, channels, 3, padding=1)
        self.tail = torch.nn.Conv2d(channels, 6, 3, padding=1)

    def forward(
        self, first: torch.Tensor, target: torch.Tensor, last: torch.Tensor, side: torch.Tensor
    ) -> torch.Tensor:
        up = torch.nn.functional.interpolate(target, scale_factor=self.scale, mode="bilinear")
        x = torch.relu(self.head(torch.cat([first, up, last], 1)))
        return up + self.tail(torch.relu(self.body(x)))


def plain_model(path: Path) -> Path:
    torch.manual_seed(0)
    about = {"tds_model": 1, "name": "plain", "version": "1", "scale": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls TorchScript deprecated
        model = torch.jit.script(Plain().eval())
        torch.jit.save(model, str(path), _extra_files={"tds.json": json.dumps(about)})
    return path


def pictures(width: int, height: int, count: int) -> list[Planes]:
    rng = np.random.default_rng(0)
    sizes = ((height, width), (height // 2, width // 2), (height // 2, width // 2))
    return [[rng.integers(16, 236, s, dtype=np.uint8) for s in sizes] for _ in range(count)]


def packed(planes: Planes, width: int, height: int) -> torch.Tensor:
    """As docs/model.md says, padded to width x height."""
    y, u, v = (torch.from_numpy(p)[None, None].float() / 255 for p in planes)
    right, bottom = width - y.shape[3], height - y.shape[2]
    luma = torch.nn.functional.pad(y, (0, right, 0, bottom), mode="replicate")
    chroma = torch.nn.functional.pad(
        torch.cat([u, v], 1), (0, right // 2, 0, bottom // 2), mode="replicate"
    )
    return torch.cat([torch.nn.functional.pixel_unshuffle(luma, 2), chroma], 1)


def by_session(
    session: tds.Session, hr: list[Planes], lr: list[Planes], groups: int
) -> Callable[[], None]:
    """All groups through one session; the planes cycle."""

    def run() -> None:
        session.flush()
        sent = {"hr": 0, "lr": 0}
        out = 0
        inner = GROUP - 2
        while not session.ended:
            for role in session.wants:
                i = sent[role]
                per_group = 2 if role == "hr" else inner
                if i == groups * per_group:
                    session.end(role)
                    continue
                group, place = divmod(i, per_group)
                pts = group * GROUP + (place * (GROUP - 1) if role == "hr" else place + 1)
                frames = hr if role == "hr" else lr
                sent[role] += session.send(role, frames[i % len(frames)], pts)
            for _picture in session:
                out += 1
        assert out == groups * GROUP

    return run


def by_hand(
    model: torch.jit.ScriptModule,
    features: bool,
    hr: list[torch.Tensor],
    lr: list[torch.Tensor],
    groups: int,
) -> Callable[[], None]:
    """The calls that the engine makes of the model, and nothing else."""

    def side(count: int) -> torch.Tensor:
        return torch.tensor([[1.0, 1.0, 0.5, -1.0, -1.0]] * count)

    def run() -> None:
        with torch.inference_mode():
            for g in range(groups):
                a, b = hr[2 * g % len(hr)], hr[(2 * g + 1) % len(hr)]
                low = [lr[(3 * g + i) % len(lr)] for i in range(3)]
                both = torch.cat([low[0], low[2]])
                if features:
                    fa, fb = model.reference(a), model.reference(b)
                    middle = model.enhance(fa, low[1], fb, side(1)).clamp(0, 1)
                    fm = model.reference(middle)
                    one = [torch.cat(pair) for pair in zip(fa, fm, strict=True)]
                    two = [torch.cat(pair) for pair in zip(fm, fb, strict=True)]
                    model.enhance(one, both, two, side(2))
                else:
                    middle = model(a, low[1], b, side(1)).clamp(0, 1)
                    model(torch.cat([a, middle]), both, torch.cat([middle, b]), side(2))

    return run


def alternate(calls: list[Callable[[], None]], runs: int) -> list[tuple[float, float]]:
    """Median seconds (on the clock, of the processor) of each call, made in turn."""
    taken: list[list[tuple[float, float]]] = [[] for _ in calls]
    for i in range(runs + 2):
        for call, times in zip(calls, taken, strict=True):
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            if i >= 2:  # TorchScript compiles in its first calls
                times.append((time.perf_counter() - wall, time.process_time() - cpu))
    return [(statistics.median(w for w, _ in t), statistics.median(c for _, c in t)) for t in taken]


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the engine adds to a model's own, CPU.")
    parser.add_argument("--size", default="832x480", help="width x height (832x480)")
    parser.add_argument("--model", type=Path, help="a TorchScript model for k = 2")
    parser.add_argument("--groups", type=int, default=8, help="groups a run (8)")
    parser.add_argument("--threads", type=int, default=0, help="torch's threads (all)")
    parser.add_argument("--runs", type=int, default=21, help="runs of each (21)")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    width, height = (int(n) for n in args.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        path = args.model or plain_model(Path(folder) / "plain.pt")
        about = model_metadata(path)
        scale, align = about["scale"], about.get("alignment", 2 * about["scale"])
        session = tds.Session(width, height, scale, model=path, device="cpu")
        bare = torch.jit.load(str(path)).eval()
    low_width, low_height = lr_size(width, scale), lr_size(height, scale)
    full = (-(-width // align) * align, -(-height // align) * align)
    low = (full[0] // scale, full[1] // scale)
    hr, lr = pictures(width, height, 4), pictures(low_width, low_height, 6)
    run_session = by_session(session, hr, lr, args.groups)
    run_bare = by_hand(
        bare,
        bool(about.get("features")),
        [packed(p, *full) for p in hr],
        [packed(p, *low) for p in lr],
        args.groups,
    )
    (engine_wall, engine_cpu), (bare_wall, bare_cpu) = alternate([run_session, run_bare], args.runs)
    per = 1000 / (args.groups * (GROUP - 2))
    print(f"model {about['name']}, {width}x{height}, {torch.get_num_threads()} threads")
    print("ms a picture enhanced       clock  processor")
    print(f"  through a session      {per * engine_wall:8.2f}   {per * engine_cpu:8.2f}")
    print(f"  bare model             {per * bare_wall:8.2f}   {per * bare_cpu:8.2f}")
    clock, processor = engine_wall / bare_wall - 1, engine_cpu / bare_cpu - 1
    added = f"{100 * clock:7.1f} %  {100 * processor:7.1f} %"
    print(f"  the engine adds        {added}  (wanted: 5 % or less)")


if __name__ == "__main__":
    main()
