#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a pair made by the ffmpeg program alone gains, by the command of docs/pair-with-ffmpeg.md.

    python benchmarks/plain_ffmpeg_pair.py --models standard --out docs/pair-with-ffmpeg.md

Each clip is coded by that command, as it stands but for the names and the CRF, and plainly at full
size by the same encoder and options (libx264, all-intra). BD-rate, luma, of the whole pair as
``tds decode`` shows it against the plain stream. ``--out`` writes the table into the page.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import numpy as np

import tds
from common import FFMPEG
from tds.evaluation.bd import bd_rate
from tds.measuring.measure import source_planes

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("TDS_DATA", ROOT.parent / "shared" / "data"))
PAGE = ROOT / "docs" / "pair-with-ffmpeg.md"
CLIPS = ("davis_breakdance", "jct_BasketballPass", "jct_RaceHorses", "park_joy_480x256_10f")
CRFS = (18, 23, 28, 33)
MARK = "<!-- made by benchmarks/plain_ffmpeg_pair.py -->\n"


def run(command: str, folder: Path) -> None:
    """As a shell runs it, ``ffmpeg`` being the program that comes with imageio-ffmpeg."""
    command = command.replace("ffmpeg", f"{shlex.quote(FFMPEG)} -v error -nostdin -y", 1)
    subprocess.run(["sh", "-c", command], cwd=folder, check=True)


def video_bits(path: Path) -> int:
    with av.open(str(path)) as container:
        return 8 * sum(p.size for p in container.demux(container.streams.video))


def psnr(source: list[np.ndarray], shown: list[np.ndarray]) -> float:
    """Mean over pictures, luma, 8 bit."""
    assert len(source) == len(shown)
    errors = [np.mean((a.astype(float) - b) ** 2) for a, b in zip(source, shown, strict=True)]
    return float(np.mean([10 * np.log10(255**2 / max(e, 1e-3)) for e in errors]))


def pictures(path: Path) -> list[np.ndarray]:
    """Luma of an ordinary video."""
    return [planes[0].copy() for _, planes in source_planes(str(path), None)]


def decoded(path: Path, model: str) -> list[np.ndarray]:
    with tds.decode(path, model=model) as shown:
        return [p.planes[0].copy() for p in shown]


def measure(clip: Path, command: str, models: list[str]) -> dict[str, float]:
    """BD-rate in percent by model."""
    plain, pairs = [], {model: [] for model in models}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = pictures(clip)
        coder = re.search(r"-c:v .*? -pix_fmt yuv420p", command, re.S)
        assert coder
        for crf in CRFS:
            at = command.replace("-crf 28", f"-crf {crf}").replace("in.mp4", shlex.quote(str(clip)))
            run(at, folder)
            options = coder[0].replace("-crf 28", f"-crf {crf}")
            run(f"ffmpeg -i {shlex.quote(str(clip))} -map 0:v:0 {options} plain.mp4", folder)
            bits = video_bits(folder / "plain.mp4")
            plain.append((bits, psnr(source, pictures(folder / "plain.mp4"))))
            pair = folder / "pair.mp4"
            for model in models:
                pairs[model].append((video_bits(pair), psnr(source, decoded(pair, model))))
    for model, curve in pairs.items():
        for crf, (bits, quality), (b, q) in zip(CRFS, plain, curve, strict=True):
            print(f"{clip.stem} CRF {crf}: plain {bits / 1000:.0f} kbit {quality:.2f} dB, pair "
                  f"{b / 1000:.0f} kbit {q:.2f} dB ({model})", file=sys.stderr)  # fmt: skip
    return {model: bd_rate(plain, curve).value for model, curve in pairs.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--clips", nargs="+", default=CLIPS, help="of the evaluation set")
    parser.add_argument("--models", nargs="+", default=["fast", "standard"])
    parser.add_argument("--out", type=Path, help="the page to write the table into")
    args = parser.parse_args()
    block = re.search(r"runs this block.*?```sh\n(.*?)```", PAGE.read_text(), re.S)
    assert block
    lines = [
        f"| clip | {' | '.join(f'`{m}`' for m in args.models)} |",
        "|---|" + "---|" * len(args.models),
    ]
    rates = []
    for name in args.clips:
        found = measure(DATA / "eval" / f"{name}.mkv", block[1], args.models)
        rates.append([found[m] for m in args.models])
        lines.append(f"| {name} | " + " | ".join(f"{r:+.1f} %" for r in rates[-1]) + " |")
    means = np.mean(rates, axis=0)
    lines.append("| mean | " + " | ".join(f"{r:+.1f} %" for r in means) + " |")
    table = "\n".join(lines) + "\n"
    print(table)
    if args.out:
        page = args.out.read_text()
        args.out.write_text(page[: page.index(MARK) + len(MARK)] + table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
