#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `tds encode` without a plan gains over the plain stream, and over pairs of N = 5.

    python benchmarks/auto_plan.py --out docs/auto-gain.md           # HEVC all-intra
    python benchmarks/auto_plan.py --codec hevc --config ra --out docs/auto-gain-ra.md
    python benchmarks/auto_plan.py --efforts 0 1 2 3 4 --clips jct_RaceHorses jct_BasketballPass

Each clip is coded plainly, as a pair of N = 5 with shared boundaries and LR at the same QP (in
all-intra), and as the encoder chooses by measuring. Each file is then decoded as `tds decode` does,
with the model that its tag names: bits are those of the packets and parameter sets in the file,
quality is the mean luma PSNR of what is shown. BD-rates are of whole streams.

A point that is made is kept in --work, so that a run that was stopped goes on; --kept makes the
tables of what there is. Points are made QP by QP, of all clips, so that what is there is balanced.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import av

import tds
from common import FFMPEG
from tds import models
from tds.evaluation.bd import bd_rate, mean_over_clips
from tds.files import sha256_of, sha256_of_text, whole_file
from tds.measuring.measure import source_planes
from tds.measuring.psnr import psnr

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("TDS_DATA", ROOT.parent / "shared" / "data"))
SMALL = (
    "jct_BasketballPass",
    "jct_RaceHorses",
    "davis_parkour",
    "park_joy_480x256_10f",
    "davis_breakdance",
    "jct_KristenAndSara",
    "jct_BasketballDrill",
    "jct_Cactus",
)
LARGE = ("vid4_foliage", "vid4_calendar", "ntia_aspen", "pexels_tea", "dvb_tearsofsteel_1080p")
PLAIN, PAIR, AUTO = "plain", "pair", "auto"

Point = dict[str, Any]


def shortened(clip: str, frames: int, work: Path) -> Path:
    """The first frames of a clip, lossless, in a file of its own."""
    path = Path(clip) if Path(clip).exists() else DATA / "eval" / f"{clip}.mkv"
    out = work / f"{path.stem}-{frames}-{sha256_of(path)[:8]}.mkv"
    if not out.exists():
        with whole_file(out, overwrite=True) as beside:
            command = [FFMPEG, "-nostdin", "-v", "error", "-y", "-i", str(path)]
            command += ["-map", "0:v:0", "-frames:v", str(frames), "-c:v", "ffv1"]
            subprocess.run([*command, "-f", "matroska", str(beside)], check=True)
    return out


def bits_of(path: Path) -> int:
    """Of all packets of all video tracks and the parameter sets beside them."""
    with av.open(str(path)) as container:
        tracks = container.streams.video
        beside = sum(len(t.codec_context.extradata or b"") for t in tracks)
        return 8 * (beside + sum(p.size for p in container.demux(tracks)))


def quality_of(path: Path, source: Path) -> float:
    """Mean luma PSNR of what `tds decode` shows."""
    with tds.decode(path, threads=1) as pictures:
        values = [
            psnr(planes[0], picture.planes[0], pictures.bit_depth)
            for picture, (_, planes) in zip(pictures, source_planes(str(source), None), strict=True)
        ]
    return sum(values) / len(values)


def roles_of(result: tds.EncodeResult) -> dict[str, int]:
    """How many frames are coded how: "as coded", "enhanced", and "N = 5" and the like."""
    out: dict[str, int] = {}
    if result.choice is None:
        return out
    for frame in result.choice.frames:
        alone = "enhanced" if frame["strength"] else "as coded"
        name = alone if frame["group"] <= 2 else f"N = {frame['group']}"
        out[name] = out.get(name, 0) + 1
    return out


def make(kind: str, effort: int, clip: Path, work: Path, options: dict[str, Any]) -> Point:
    """Codes and decodes one file."""
    plans: dict[str, dict[str, Any]] = {
        PLAIN: {"plan": "plain", "model": None},
        PAIR: {"plan": "tds", "group": 5, "boundaries": "shared", "scale": 2, "lr_qp_offset": 0},
        AUTO: {"plan": "auto", "effort": effort},
    }
    out = work / "o.mp4"
    begun = time.perf_counter()
    # Two workers, of which a short clip keeps one busy: a model has one thread.
    result = tds.encode(clip, out, overwrite=True, workers=2, **{**options, **plans[kind]})
    coded = time.perf_counter()
    quality = quality_of(out, clip)
    scale = result.metadata.scale if result.lr.frames else 1
    name = result.metadata.model
    used = [m for m in models.available(scale) if m.name == name]
    return {
        "bits": bits_of(out),
        "psnr_y": quality,
        "frames": len(list(result.metadata.roles())),
        "size": f"{result.metadata.width}x{result.metadata.height}",
        "encoder": result.metadata.encoder,
        "model": f"{name} {used[0].version}, k = {scale}" if used else None,
        "chosen": result.choice.chosen if result.choice else None,
        "tried": result.choice.tried if result.choice else {},
        "roles": roles_of(result),
        "encode_seconds": round(coded - begun, 1),
        "decode_seconds": round(time.perf_counter() - coded, 1),
    }


def points(args: argparse.Namespace, kept_only: bool) -> Iterator[Point]:
    """Those that were made before and, unless they alone are wanted, all others."""
    kinds = [(PLAIN, 0), (PAIR, 0)] if args.config == "ai" else [(PLAIN, 0)]
    kinds += [(AUTO, effort) for effort in args.efforts]
    for qp in args.qps:
        for clip in args.clips:
            for kind, effort in kinds:
                spec = {
                    **{"clip": Path(clip).stem, "max_frames": args.frames, "qp": qp},
                    **{"kind": kind, "effort": effort, "codec": args.codec},
                    **{"config": args.config, "preset": args.preset, "asked_model": args.model},
                }
                kept = args.work / f"{sha256_of_text(json.dumps(spec, sort_keys=True))[:24]}.json"
                if not kept.is_file():
                    if kept_only:
                        continue
                    options = {k: spec[k] for k in ("codec", "config", "preset", "qp")}
                    source = shortened(clip, args.frames, args.work)
                    made = make(kind, effort, source, args.work, {**options, "model": args.model})
                    with whole_file(kept, overwrite=True) as beside:
                        beside.write_text(json.dumps({**spec, **made}, indent=1))
                    print(
                        f"{spec['clip']} QP {qp} {kind} {effort}: {made['bits'] / 1000:.1f} kbit, "
                        f"{made['psnr_y']:.2f} dB, {made['chosen']}, {made['encode_seconds']} + "
                        f"{made['decode_seconds']} s",
                        file=sys.stderr,
                        flush=True,
                    )
                yield json.loads(kept.read_text())


def curve(rows: list[Point], clip: str, kind: str, effort: int) -> dict[int, tuple[float, float]]:
    return {
        r["qp"]: (r["bits"], r["psnr_y"])
        for r in rows
        if (r["clip"], r["kind"], r["effort"]) == (clip, kind, effort)
    }


def rate(anchor: dict[int, tuple[float, float]], test: dict[int, tuple[float, float]]) -> float:
    """BD-rate in percent, of the QPs that both have."""
    common = sorted(set(anchor) & set(test))
    return bd_rate([anchor[q] for q in common], [test[q] for q in common]).value


def worst_point(
    anchor: dict[int, tuple[float, float]], test: dict[int, tuple[float, float]]
) -> float:
    """The most that one file costs above the plain stream's curve at its own quality, in percent
    of bits; the curve is straight in logarithms between its points. Of those within the curve."""
    import math

    ordered = sorted(anchor.values())
    worst = -math.inf
    for bits, quality in test.values():
        for (low, worse), (high, better) in pairwise(ordered):
            if worse <= quality <= better:
                share = (quality - worse) / (better - worse)
                there = math.exp((1 - share) * math.log(low) + share * math.log(high))
                worst = max(worst, 100 * (bits / there - 1))
    return worst


def tables(rows: list[Point], efforts: list[int]) -> str:
    """Markdown."""
    clips = list(dict.fromkeys(r["clip"] for r in rows))
    pairs = any(r["kind"] == PAIR for r in rows)
    lines = [
        "| clip | frames | "
        + ("N = 5, equal QPs | " if pairs else "")
        + " | ".join(f"effort {e}" for e in efforts)
        + (" | chosen over N = 5" if pairs else "")
        + " | worst file | QPs |",
        "|---" * (4 + len(efforts) + 2 * pairs) + "|",
    ]
    columns: list[list[float]] = []
    for clip in clips:
        anchor = curve(rows, clip, PLAIN, 0)
        curves = [curve(rows, clip, AUTO, e) for e in efforts]
        pair = curve(rows, clip, PAIR, 0)
        common = set(anchor).intersection(*curves, *([pair] if pairs else []))
        if len(common) < 2:
            continue
        shown = next(r for r in rows if r["clip"] == clip)
        auto = [rate(anchor, {q: c[q] for q in common}) for c in curves]
        values = ([rate(anchor, {q: pair[q] for q in common})] if pairs else []) + auto
        if pairs:
            values.append(rate(pair, {q: curves[-1][q] for q in common}))
        columns.append(values)
        worst = max(worst_point(anchor, {q: c[q] for q in common}) for c in curves)
        lines.append(
            f"| {clip} {shown['size']} | {shown['frames']} | "
            + " | ".join(f"{v:+.1f} %" for v in values)
            + f" | {worst:+.1f} % | {', '.join(map(str, sorted(common)))} |"
        )
    means = [mean_over_clips(list(column)).value for column in zip(*columns, strict=True)]
    lines.append(
        f"| **mean of {len(columns)}** | | "
        + " | ".join(f"**{v:+.1f} %**" for v in means)
        + " | | |"
    )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", nargs="+", default=SMALL + LARGE)
    parser.add_argument("--qps", nargs="+", type=int, default=[22, 32, 42, 27, 37, 47])
    parser.add_argument("--frames", type=int, default=17, help="of each clip at most (17)")
    parser.add_argument("--efforts", nargs="+", type=int, default=[2])
    parser.add_argument("--codec", default="hevc")
    parser.add_argument("--config", default="ai")
    parser.add_argument("--preset")
    parser.add_argument("--model", default="standard")
    parser.add_argument("--work", type=Path, default=ROOT / "out" / "auto")
    parser.add_argument("--kept", action="store_true", help="make no more points")
    parser.add_argument("--out", type=Path, help="the tables (.md), and the rows beside (.json)")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    rows = list(points(args, args.kept))
    text = tables(rows, args.efforts)
    print(text)
    if args.out is not None:
        told = shlex.join(["python", "benchmarks/auto_plan.py", *sys.argv[1:]])
        used = sorted({r["model"] for r in rows if r["model"]})
        coded = sorted({r["encoder"] for r in rows})
        about = f"Made by `{told}` with {'; '.join(used + coded)}; {platform.machine()}."
        args.out.write_text(f"{about}\n\n{text}", encoding="utf-8")
        args.out.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
