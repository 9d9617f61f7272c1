#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `tds encode` without a plan gains over the plain stream, and over pairs of N = 5.

    python benchmarks/auto_plan.py --out docs/auto-gain.md           # HEVC all-intra
    python benchmarks/auto_plan.py --config ra --frames 33 --out docs/auto-gain.md
    python benchmarks/auto_plan.py --codec vvc --out docs/auto-gain.md
    python benchmarks/auto_plan.py --model fast --efforts 0 1 2 3 4 --out docs/auto-gain.md \\
        --clips jct_BasketballPass jct_KristenAndSara
    python benchmarks/auto_plan.py --kept --out docs/auto-gain.md    # what there is

Each clip is coded plainly, as a pair of N = 5 with shared boundaries and LR at the same QP (in
all-intra), and as the encoder chooses by measuring. Each file is then decoded as `tds decode` does,
with the model that its tag names: bits are those of the packets and parameter sets in the file,
quality is the mean luma PSNR of what is shown. BD-rates are of whole streams.

A point that is made is kept in --work, so that a run that was stopped goes on. Points are made QP
by QP, of all clips, so that what is there is balanced. The page has all that are kept, and
NAME.json beside it their rows, of which `make docs` draws which plans were picked.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from itertools import pairwise, product
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


def cpu_seconds() -> float:
    """Of this process and of all encoders that it started."""
    return sum(os.times()[:4])


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
    begun, cpu = time.perf_counter(), cpu_seconds()
    # Two workers, of which a short clip keeps one busy: a model has one thread.
    result = tds.encode(clip, out, overwrite=True, workers=2, **{**options, **plans[kind]})
    coded, cpu = time.perf_counter(), cpu_seconds() - cpu
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
        "encode_cpu_seconds": round(cpu, 2),
        "decode_seconds": round(time.perf_counter() - coded, 1),
    }


def points(args: argparse.Namespace) -> None:
    """Makes those that were not made before."""
    kinds = [(PAIR, 0)] if args.config == "ai" else []
    kinds += [(AUTO, effort) for effort in args.efforts]
    # The plain stream's curve reaches as low as what is compared with it.
    for kinds_of, qps in (([(PLAIN, 0)], args.anchor_qps), (kinds, args.qps)):
        for qp, clip in product(qps, args.clips):
            for kind, effort in kinds_of:
                spec = {
                    **{"clip": Path(clip).stem, "max_frames": args.frames, "qp": qp},
                    **{"kind": kind, "effort": effort, "codec": args.codec},
                    **{"config": args.config, "preset": args.preset, "asked_model": args.model},
                }
                kept = args.work / f"{sha256_of_text(json.dumps(spec, sort_keys=True))[:24]}.json"
                if kept.is_file():
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


def curve(rows: list[Point], name: str, kind: str, effort: int) -> dict[int, tuple[float, float]]:
    return {
        r["qp"]: (r["bits"], r["psnr_y"])
        for r in rows
        if (r["name"], r["kind"], r["effort"]) == (name, kind, effort)
    }


def rate(anchor: dict[int, tuple[float, float]], test: dict[int, tuple[float, float]]) -> float:
    """BD-rate in percent."""
    return bd_rate(list(anchor.values()), list(test.values())).value


def worst_point(
    anchor: dict[int, tuple[float, float]], test: dict[int, tuple[float, float]]
) -> float:
    """The most that one file costs above the plain stream's curve at its own quality, in percent
    of bits; the curve is straight in logarithms between its points. Of those within the curve."""
    ordered = sorted(anchor.values())
    worst = -math.inf
    for bits, quality in test.values():
        for (low, worse), (high, better) in pairwise(ordered):
            if worse <= quality <= better:
                share = (quality - worse) / (better - worse)
                there = math.exp((1 - share) * math.log(low) + share * math.log(high))
                worst = max(worst, 100 * (bits / there - 1))
    return worst


def table(rows: list[Point], effort: int) -> str:
    """Markdown, of one codec, configuration and model."""
    clips = list(dict.fromkeys(r["name"] for r in rows))
    pairs = any(r["kind"] == PAIR for r in rows)
    heads = ["clip", *(["N = 5, equal QPs", "chosen, at these qualities"] if pairs else [])]
    heads += ["chosen", "dearest file", "QP"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    columns: list[list[float]] = []
    for clip in clips:
        anchor = curve(rows, clip, PLAIN, 0)
        auto, pair = curve(rows, clip, AUTO, effort), curve(rows, clip, PAIR, 0)
        common = set(auto) & (set(pair) if pairs else set(auto))
        if len(common) < 2:
            continue
        auto, pair = ({q: c[q] for q in common if q in c} for c in (auto, pair))
        values = []
        if pairs:  # whose files do not reach the qualities at which one stream is chosen
            gain = rate(anchor, pair)
            values = [gain, (100 + gain) * (1 + rate(pair, auto) / 100) - 100]
        values.append(rate(anchor, auto))
        dearest = worst_point(anchor, auto)
        columns.append([*values, dearest])
        cells = [clip, *(f"{v:+.1f} %" for v in (*values, dearest))]
        lines.append(f"| {' | '.join(cells)} | {', '.join(map(str, sorted(common)))} |")
    *means, _ = (mean_over_clips(list(c)).value for c in zip(*columns, strict=True))
    dearest = max(column[-1] for column in columns)
    bold = " | ".join(f"**{v:+.1f} %**" for v in means)
    lines.append(f"| **mean of {len(columns)}** | {bold} | {dearest:+.1f} % | |")
    return "\n".join(lines) + "\n"


def effort_table(rows: list[Point], efforts: list[int]) -> str:
    """Markdown: what each effort gains and costs, on what all of them have."""
    keys = set.intersection(
        *(
            {(r["name"], r["qp"]) for r in rows if r["kind"] == AUTO and r["effort"] == e}
            for e in efforts
        )
    )
    rows = [r for r in rows if r["kind"] == PLAIN or (r["name"], r["qp"]) in keys]
    clips = sorted({clip for clip, _ in keys})
    qps = sorted({qp for _, qp in keys})
    lines = [f"{'; '.join(clips)}; QP {', '.join(map(str, qps))}.", ""]
    lines += ["| effort | BD-rate | processor seconds a frame |", "|---|---|---|"]
    for effort in efforts:
        of_one = [r for r in rows if r["kind"] == AUTO and r["effort"] == effort]
        rates = [rate(curve(rows, c, PLAIN, 0), curve(rows, c, AUTO, effort)) for c in clips]
        seconds = sum(r["encode_cpu_seconds"] for r in of_one) / sum(r["frames"] for r in of_one)
        lines.append(f"| {effort} | {sum(rates) / len(rates):+.1f} % | {seconds:.2f} |")
    return "\n".join(lines) + "\n"


NAMES = {"hevc": "HEVC", "vvc": "VVC", "h264": "H.264", "av1": "AV1"}
CONFIGS = {"ai": "all-intra", "ra": "random access", "ldp": "low delay P"}


def page(rows: list[Point]) -> str:
    """Markdown: a table of each codec, configuration and model."""
    parts = []
    groups: dict[tuple[str, str, str], list[Point]] = {}
    for row in rows:
        groups.setdefault((row["asked_model"], row["config"], row["codec"]), []).append(row)
    order = (*CONFIGS,)
    for (model, config, codec), group in sorted(
        groups.items(), key=lambda g: (g[0][0] != "standard", g[0][2], order.index(g[0][1]))
    ):
        efforts = sorted({r["effort"] for r in group if r["kind"] == AUTO})
        if not efforts:
            continue
        parts.append(f"## {NAMES[codec]} {CONFIGS[config]}, `{model}`\n")
        several = len(efforts) > 1
        parts.append(effort_table(group, efforts) if several else table(group, efforts[0]))
        used = sorted({r["model"] for r in group if r["model"]})
        coders = sorted({r["encoder"] for r in group})
        parts.append(f"{'; '.join(used)}; {'; '.join(coders)}.\n")
    return "\n".join(parts)


MARK = "<!-- made by benchmarks/auto_plan.py -->\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", nargs="+", default=SMALL + LARGE)
    parser.add_argument("--qps", nargs="*", type=int, default=[22, 32, 42, 27, 37, 47])
    parser.add_argument("--anchor-qps", nargs="+", type=int, default=[*range(22, 48, 5), 51])
    parser.add_argument("--frames", type=int, default=17, help="of each clip at most (17)")
    parser.add_argument("--efforts", nargs="+", type=int, default=[2])
    parser.add_argument("--codec", default="hevc")
    parser.add_argument("--config", default="ai")
    parser.add_argument("--preset")
    parser.add_argument("--model", default="standard")
    parser.add_argument("--work", type=Path, default=ROOT / "out" / "auto")
    parser.add_argument("--kept", action="store_true", help="make no points")
    parser.add_argument(
        "--out",
        type=Path,
        help="the page (.md) whose tables are made anew, and the rows beside (.json)",
    )
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if not args.kept:
        points(args)
    order = [*SMALL, *LARGE]
    rows = [json.loads(path.read_text()) for path in args.work.glob("*.json")]
    for row in rows:  # other frames of a clip are another clip
        row["name"] = f"{row['clip']} {row['size']}, {row['frames']} frames"
    rows.sort(key=lambda r: (order.index(r["clip"]) if r["clip"] in order else 99, r["qp"]))
    text = page(rows)
    print(text)
    if args.out is not None:
        before = ""
        if args.out.is_file():
            before = args.out.read_text(encoding="utf-8").partition(MARK)[0]
        args.out.write_text(before + MARK + "\n" + text, encoding="utf-8")
        lines = ",\n".join(json.dumps(row, sort_keys=True) for row in rows)
        args.out.with_suffix(".json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
