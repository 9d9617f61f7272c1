#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pictures of the clips on which a model gains most, middling and least.

    python benchmarks/model_pictures.py --gains docs/model-gain.json --models fast standard

Picks the clips from the rows that benchmarks/model_gain.py wrote, codes each as HR + LR at that
QP, and the plain stream at the QP whose bits are nearest to the pair's; draws the LR frame
nearest the clip's middle: the source, the plain stream at equal bits, bicubic and each model,
over their residual maps. Large pictures are cut to their middle.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

import tds
from tds.container.writing import CodedStream
from tds.encoding.streams import code_plain
from tds.measuring.comparison import side_by_side
from tds.measuring.measure import decode_segments, source_planes
from tds.media.planar import planes_of
from tds.media.sources import VideoSource
from tds.plan import Role

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("TDS_DATA", ROOT.parent / "shared" / "data"))
PRESETS = {"hevc": "medium", "vvc": "faster"}
LARGEST = (416, 240)  # of what is shown of a picture

Planes = Sequence[np.ndarray]


def choose(rows: list[dict], model: str, codec: str, qp: int) -> dict[str, tuple[str, float]]:
    """best, median and worst: (clip, gain in dB over bicubic)."""
    found = sorted(
        (r[model]["luma"] - r["bicubic"]["luma"], r["clip"])
        for r in rows
        if (r["codec"], r["config"], r["qp"]) == (codec, "ai", qp)
    )
    if not found:
        raise SystemExit(f"no row of {codec} AI at QP {qp} with {model}")
    picks = {"worst": found[0], "median": found[len(found) // 2], "best": found[-1]}
    return {name: (clip, gain) for name, (gain, clip) in picks.items()}


def middle(planes: Planes) -> list[np.ndarray]:
    """The part of a picture that is shown."""
    height, width = planes[0].shape
    w, h = min(width, LARGEST[0]), min(height, LARGEST[1])
    x, y = (width - w) // 4 * 2, (height - h) // 4 * 2
    return [planes[0][y : y + h, x : x + w]] + [
        p[y // 2 : (y + h) // 2, x // 2 : (x + w) // 2] for p in planes[1:]
    ]


def plain_at_equal_bits(
    source: Path, settings: tds.EncodeSettings, bits: int, folder: Path
) -> tuple[int, int, CodedStream]:
    """(QP, bits, stream) of the plain stream nearest in bits to ``bits``."""
    best = None
    for qp in range(settings.qp, 52):
        with VideoSource(str(source)) as video:
            where = folder / str(qp)
            where.mkdir()
            coded = code_plain(video, replace(settings, qp=qp), (), where)
        if best is None or abs(coded.bits() - bits) < abs(best[1] - bits):
            best = (qp, coded.bits(), coded)
        if coded.bits() < bits:
            break
    assert best is not None
    return best


def draw(clip: str, title: str, codec: str, qp: int, names: list[str], out: Path) -> None:
    source = DATA / "eval" / f"{clip}.mkv"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result = tds.encode(
            source, folder / "pair.mp4", codec=codec, config="ai", qp=qp,
            preset=PRESETS[codec], boundaries="shared",
        )  # fmt: skip
        roles = list(result.metadata.roles())
        between = [i for i, role in enumerate(roles) if role is Role.LR]
        index = min(between, key=lambda i: abs(i - len(roles) // 2))
        original = next(islice(source_planes(str(source), None), index, None))[1]
        bits = result.hr.bits + result.lr.bits
        plain_qp, plain_bits, plain = plain_at_equal_bits(source, result.settings, bits, folder)
        frame = next(islice(decode_segments(plain), index, None))
        versions = [(f"plain, QP {plain_qp}", middle(planes_of(frame)))]
        for model in ["bicubic", *names]:
            options = {"backend": "bicubic"} if model == "bicubic" else {"model": model}
            with tds.decode(result.path, **options) as pictures:
                planes = next(islice(pictures, index, None)).planes
                versions.append((model, [p.copy() for p in middle(planes)]))
        heading = (
            f"{title}: {clip}, frame {index}, {codec.upper()} AI, QP {qp}, k = 2, N = 5 shared; "
            f"whole clip {bits / 1000:.0f} kbit as HR + LR, {plain_bits / 1000:.0f} kbit plain"
        )
        sheet = folder / "sheet.png"
        side_by_side(sheet, middle(original), versions, 8, heading)
        Image.open(sheet).convert("RGB").save(out, quality=85)
    print(f"{out}: {heading}", flush=True)


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--gains", type=Path, required=True, help="rows of model_gain.py (.json)")
    p.add_argument("--models", nargs="+", default=["fast"])
    p.add_argument("--codec", choices=("hevc", "vvc"), default="vvc")
    p.add_argument("--qp", type=int, default=37)
    p.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    args = p.parse_args()
    if not (DATA / "eval").is_dir():
        print(f"skipped: there is no {DATA / 'eval'}; set TDS_DATA", file=sys.stderr)
        return 0
    rows = json.loads(args.gains.read_text())
    args.out.mkdir(parents=True, exist_ok=True)
    for title, (clip, gain) in choose(rows, args.models[-1], args.codec, args.qp).items():
        heading = f"{title.capitalize()} ({gain:+.2f} dB)"
        draw(clip, heading, args.codec, args.qp, args.models, args.out / f"models-{title}.jpg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
