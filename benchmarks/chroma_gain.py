#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What 4:2:2 and 4:4:4 gain by being coded as they are, and what models add to their chroma.

    python benchmarks/chroma_gain.py --out docs/chroma.md

Videos of 4:4:4 are rare, and one that was brought up from 4:2:0 has nothing in its chroma that
4:2:0 has not. So the clips here are 4:2:0 videos whose luma is brought down to the size of
their chroma (FFmpeg's bicubic), and whose chroma is as it was: 4:4:4 of half the size. Their
4:2:2 has every two chroma samples of a row brought to one by the same filter. Each is coded by
libx265, all-intra, as a pair (N = 5, shared boundaries, one QP for both streams), once as it is
and once as 4:2:0; of the latter FFmpeg's bicubic brings the chroma up again. Figures are PSNR
against the source at its own chroma, over LR frames and over HR frames, in dB, mean over clips.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

import tds
from common import CITY, FFMPEG
from tds.media.pictures import FilterChain
from tds.media.planar import planes_of
from tds.media.sources import VideoSource

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("TDS_DATA", ROOT.parent / "shared" / "data"))
FORMS = {"4:2:2": "yuv422p", "4:4:4": "yuv444p"}
BEGIN = "<!-- made by benchmarks/chroma_gain.py -->"
HALF = (
    "[0:v]format=yuv420p,split=3[a][b][c];[a]extractplanes=y,scale=iw/2:ih/2:flags=bicubic[y];"
    "[b]extractplanes=u[u];[c]extractplanes=v[v];[y][u][v]mergeplanes=0x001020:yuv444p"
)

Planes = list[np.ndarray]


def source(clip: Path, form: str, folder: Path, frames: int) -> Path:
    out = folder / f"{clip.stem}-{form}.mkv"
    graph = HALF + (",scale=flags=bicubic,format=yuv422p" if form == "yuv422p" else "")
    command = [FFMPEG, "-nostdin", "-loglevel", "error", "-y", "-i", clip, "-filter_complex", graph]
    subprocess.run([*command, "-frames:v", str(frames), "-c:v", "ffv1", out], check=True)
    return out


def decoded(path: Path, form: str, **settings: str) -> Iterator[tuple[str, Planes]]:
    """Status and planes of every picture, in ``form``."""
    convert = FilterChain([("scale", "flags=bicubic"), ("format", form)], Fraction(1, 1000))
    with tds.decode(path, **settings) as pictures:
        for picture in pictures:
            frame = convert(picture.to_av()) if pictures.chroma == 420 else None
            yield picture.status, planes_of(frame) if frame else list(picture.planes)


def psnr(pairs: list[tuple[Planes, Planes]], plane: int) -> float:
    errors = [float(((a[plane].astype(float) - b[plane]) ** 2).mean()) for a, b in pairs]
    return float(np.mean([10 * np.log10(255**2 / max(e, 1e-3)) for e in errors]))


def figures(path: Path, coded: Path, form: str, **settings: str) -> dict[str, tuple[float, float]]:
    """Luma and chroma of HR and of LR frames."""
    originals = [planes for _, planes in originals_of(path)]
    kinds: dict[str, list[tuple[Planes, Planes]]] = {"HR": [], "LR": []}
    for original, (status, planes) in zip(originals, decoded(coded, form, **settings), strict=True):
        kinds["HR" if status == "passed" else "LR"].append(
            (original, [plane.copy() for plane in planes])
        )
    return {
        kind: (psnr(pairs, 0), (psnr(pairs, 1) + psnr(pairs, 2)) / 2)
        for kind, pairs in kinds.items()
    }


def originals_of(path: Path) -> Iterator[tuple[str, Planes]]:
    with VideoSource(str(path)) as video:
        for frame in video:
            yield "source", [plane.copy() for plane in planes_of(frame)]


def measure(clip: Path, name: str, qp: int, args: argparse.Namespace, folder: Path) -> dict:
    form = FORMS[name]
    path = source(clip, form, folder, args.frames)
    row: dict = {"clip": clip.stem, "form": name, "qp": qp}
    for chroma in ("source", "420"):
        coded = folder / f"{path.stem}-{chroma}-{qp}.mp4"
        result = tds.encode(
            *(str(path), coded),
            **{"codec": "hevc", "qp": qp, "lr_qp_offset": 0, "plan": "tds", "chroma": chroma},
            overwrite=True,
        )
        row[f"bits {chroma}"] = result.hr.bits + result.lr.bits
        row[f"bicubic {chroma}"] = figures(path, coded, form, backend="bicubic")
        for model in args.models:
            row[f"{model} {chroma}"] = figures(path, coded, form, model=model)
    return row


def table(rows: list[dict], models: list[str]) -> str:
    def mean(part: list[dict], key: str, kind: str, plane: int) -> float:
        return float(np.mean([row[key][kind][plane] for row in part]))

    lines = [
        "| | QP | HR chroma | as 4:2:0 | LR chroma, bicubic | as 4:2:0 | "
        + " | ".join(f"`{m}` adds | as 4:2:0 | to luma" for m in models)
        + " | bits of 4:2:0 |",
        "|---|---|---|---|---|---|" + "---|---|---|" * len(models) + "---|",
    ]
    for form in FORMS:
        for qp in sorted({row["qp"] for row in rows}):
            part = [row for row in rows if (row["form"], row["qp"]) == (form, qp)]
            own, small = "bicubic source", "bicubic 420"
            cells = [form, str(qp)]
            for kind in ("HR", "LR"):
                cells += [f"{mean(part, key, kind, 1):.2f}" for key in (own, small)]
            for model in models:
                for chroma in ("source", "420"):
                    gain = mean(part, f"{model} {chroma}", "LR", 1)
                    cells.append(f"{gain - mean(part, f'bicubic {chroma}', 'LR', 1):+.2f}")
                luma = mean(part, f"{model} source", "LR", 0) - mean(part, own, "LR", 0)
                cells.append(f"{luma:+.2f}")
            saved = np.mean([row["bits 420"] / row["bits source"] - 1 for row in part])
            cells.append(f"{100 * saved:+.1f} %")
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--models", nargs="+", default=["fast", "standard"])
    p.add_argument("--clips", nargs="+", type=Path, help="default: the evaluation set")
    p.add_argument("--qp", nargs="+", type=int, default=[22, 32])
    p.add_argument("--frames", type=int, default=9, help="of each clip (9)")
    p.add_argument("--max-width", type=int, default=1024, help="leave larger clips out (1024)")
    p.add_argument("--out", type=Path, help="a page that has a place for the table")
    args = p.parse_args()
    clips = args.clips or sorted((DATA / "eval").glob("*.mkv")) or [CITY]
    rows = []
    with tempfile.TemporaryDirectory(prefix="tds-chroma-") as folder:
        for clip in clips:
            with VideoSource(str(clip)) as video:
                if video.width > args.max_width or video.width % 4 or video.height % 4:
                    continue
            for form in FORMS:
                for qp in args.qp:
                    rows.append(measure(clip, form, qp, args, Path(folder)))
                    print(clip.stem, form, qp, file=sys.stderr, flush=True)
    if not rows:
        print("no clip fits the arguments", file=sys.stderr)
        return 1
    text = table(rows, args.models)
    print(f"{len({row['clip'] for row in rows})} clips\n\n{text}")
    if args.out is not None:
        before, rest = args.out.read_text().split(BEGIN)
        after = rest.partition("\n\n")[2]
        args.out.write_text(f"{before}{BEGIN}\n{text}\n\n{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
