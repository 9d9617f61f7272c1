#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The ffmpeg filter against what it replaces, side by side on one build.

    python benchmarks/ffmpeg_filter.py [--frames 150] [--model FILE]

1. ``-vf tds_enhance=backend=bicubic`` against the same ffmpeg decoding both tracks and scaling
   LR with ``scale=flags=bicubic``, null output, 1080p. Wanted: at least 0.8 of its speed.
2. The filter with a TorchScript model against the Python decoder with the same model: the same
   pixels, within 5 % of the time. Without --model, with the small one the tests use.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tds
from common import CITY, alternate, looped
from tds.commands.ffmpeg import find

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))


def run(*arguments: object) -> bytes:
    command = [find(), "-hide_banner", "-nostdin", "-v", "error", *arguments]
    return subprocess.run([str(a) for a in command], check=True, stdout=subprocess.PIPE).stdout


def against_scale(pair: Path, frames: int, runs: int) -> bool:
    scale = "[0:v:0]null[a];[0:v:1]scale=1920:1080:flags=bicubic[b]"
    null = ("-fps_mode", "passthrough", "-enc_time_base", "filter", "-f", "null", "-")
    filtered, scaled = alternate(
        lambda: run("-i", pair, "-vf", "tds_enhance=backend=bicubic", *null),
        lambda: run("-i", pair, "-filter_complex", scale, "-map", "[a]", "-map", "[b]", *null),
        runs,
    )
    ratio = scaled / filtered
    print(f"1080p, {frames} frames, bicubic: tds_enhance {frames / filtered:.1f} fps, decode and "
          f"scale {frames / scaled:.1f} fps; ratio {ratio:.2f} (wanted: 0.80 or more)")  # fmt: skip
    return ratio >= 0.8


def against_python(pair: Path, frames: int, model: Path, device: str, runs: int) -> bool:
    def by_filter(output: tuple[str, ...] = ("-f", "null", "-")) -> bytes:
        graph = f"tds_enhance=model={model}:device={device}"
        return run("-i", pair, "-vf", graph, "-an", *output)

    def by_python(digest: hashlib._Hash | None = None) -> None:
        with tds.decode(pair, model=str(model), device=device) as pictures:
            for picture in pictures:
                for plane in picture.planes if digest else ():
                    digest.update(plane.tobytes())  # type: ignore[union-attr]

    md5 = hashlib.md5()
    by_python(md5)
    same = md5.hexdigest() in by_filter(("-f", "md5", "-")).decode()
    filtered, python = alternate(by_filter, by_python, runs)

    # Both pay for starting: the program its own start and torch's, Python's process has torch
    # loaded after the first call. What is left is compared on the work itself.
    start = time.perf_counter()
    run("-i", pair, "-vf", f"tds_enhance=model={model}:device={device}", "-frames:v", 1,
        "-f", "null", "-")  # fmt: skip
    first = time.perf_counter() - start
    print(f"{model.name} on {device}, {frames} frames: tds_enhance {filtered:.2f} s (of which "
          f"{first:.2f} s to its first frame), Python {python:.2f} s, warm; ratio "
          f"{python / filtered:.2f}; same pixels: {'yes' if same else 'NO'}")  # fmt: skip
    return same


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--model", type=Path, help="a TorchScript archive for k = 2")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    print(f"{os.cpu_count()} processors;", run("-version").decode().splitlines()[0])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        large = looped(CITY, folder / "large.mkv", args.frames, "1920x1080")
        options = {"codec": "hevc", "config": "ra", "qp": 37, "preset": "ultrafast"}
        ok = True
        pair = tds.encode(large, folder / "large.mp4", **options).path  # type: ignore[arg-type]
        ok = against_scale(pair, args.frames, args.runs)
        model = args.model
        if model is None:
            import tools

            model = tools.tiny_model(folder / "tiny.pt")
        ok = against_python(pair, args.frames, model, args.device, args.runs) and ok
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
