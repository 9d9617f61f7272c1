#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the models gain over bicubic, through the engine with its recurrence.

    python benchmarks/model_gain.py --models fast standard --out docs/model-gain.md

Clips are coded as `tds encode` codes them (N = 5, shared boundaries, one QP for both
streams), decoded, and put through one session of the engine a model, and one of bicubic.
Figures are over LR frames only: luma PSNR of the model minus that of bicubic, mean over clips
(each clip counts once), and the clip with the least. Flicker is the RMS, in code values, of
how much the change from each frame to the next differs from the source's change, over all
frames that are shown. The coded streams are kept (--work) and not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

import tds
from tds import models
from tds.codecs import Codec, Config
from tds.training.dataset import Entry, Job, build, find_clips, load_manifest
from tds.training.pictures import Yuv, read

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("TDS_DATA", ROOT.parent / "shared" / "data"))
PRESETS = {"hevc": "medium", "vvc": "faster"}


def through_engine(
    hr: Yuv, lr: Yuv, entry: Entry, model: Path | None, threads: int
) -> tuple[list[tuple[np.ndarray, ...]], float]:
    """All pictures in display order as the engine gives them, and its seconds."""
    streams = {
        "hr": [(t, hr.planes(i)) for i, t in enumerate(entry.hr_frames)],
        "lr": [(t, lr.planes(entry.lr_leads + i)) for i, t in enumerate(entry.lr_frames)],
    }
    out = []
    options = {"model": model} if model else {"backend": "bicubic"}
    with tds.Session(
        entry.width,
        entry.height,
        entry.scale,
        threads=threads,
        hr_qp=entry.hr_qp,
        lr_qp=entry.lr_qp,
        **options,
    ) as session:
        began = time.perf_counter()
        while not session.ended:
            for role in session.wants:
                if streams[role]:
                    pts, planes = streams[role][0]
                    if session.send(role, [np.ascontiguousarray(p) for p in planes], pts=pts):
                        streams[role].pop(0)
                else:
                    session.end(role)
            for picture in session:
                out.append((picture.pts, tuple(np.array(p) for p in picture.planes)))
        seconds = time.perf_counter() - began
    times = [pts for pts, _ in out]
    assert times == sorted(set(times)) and len(times) == len(hr) + len(entry.lr_frames), (
        "frames lost"
    )
    return [planes for _, planes in out], seconds


def psnr(got: np.ndarray, want: np.ndarray) -> float:
    error = float(((got.astype(np.float64) - want) ** 2).mean())
    return 10 * np.log10(255**2 / max(error, 1e-3))


def flicker(shown: list[np.ndarray], source: list[np.ndarray]) -> float:
    total = 0.0
    for a, b, s, t in zip(shown, shown[1:], source, source[1:], strict=False):
        change = (b.astype(float) - a) - (t.astype(float) - s)
        total += float((change**2).mean())
    return (total / max(len(shown) - 1, 1)) ** 0.5


def measure(entry: Entry, folder: Path, names: list[str], threads: int, groups: int) -> dict:
    hr, lr = read(folder / entry.hr), read(folder / entry.lr)
    original = read(folder / entry.original)
    if groups:
        keys = list(entry.hr_frames[: groups + 1])
        between = [f for f in entry.lr_frames if f < keys[-1]]
        hr, lr = hr.take(range(len(keys))), lr.take(range(entry.lr_leads + len(between)))
        values = {**vars(entry), "hr_frames": tuple(keys), "lr_frames": tuple(between)}
        entry = Entry(**values)
    source = [original.planes(i)[0] for i in range(entry.hr_frames[-1] + 1)]
    row: dict = {"clip": entry.clip, "codec": entry.codec, "config": entry.config}
    row["qp"] = entry.hr_qp
    for name in ["bicubic", *names]:
        archive = None if name == "bicubic" else models.find(name, entry.scale).path
        shown, seconds = through_engine(hr, lr, entry, archive, threads)
        figures = [
            [psnr(shown[f][p], original.planes(f)[p]) for p in range(3)] for f in entry.lr_frames
        ]
        y, u, v = np.mean(figures, 0)
        row[name] = {
            "luma": y,
            "chroma": (u + v) / 2,
            "flicker": flicker([s[0] for s in shown], source),
            "fps": len(entry.lr_frames) / seconds,
        }
    return row


def tables(rows: list[dict], names: list[str]) -> str:
    lines = []
    qps = sorted({r["qp"] for r in rows})
    clips = len({r["clip"] for r in rows})
    lines.append(f"Mean over {clips} clips (worst clip in brackets), dB over bicubic.\n")
    for plane in ("luma", "chroma"):
        lines.append(f"| {plane} | " + " | ".join(f"QP {q}" for q in qps) + " |")
        lines.append("|---|" + "---|" * len(qps))
        for name in names:
            for codec, config in sorted({(r["codec"], r["config"]) for r in rows}):
                cells = []
                for qp in qps:
                    gains = [
                        r[name][plane] - r["bicubic"][plane]
                        for r in rows
                        if (r["codec"], r["config"], r["qp"]) == (codec, config, qp)
                    ]
                    cell = f"{np.mean(gains):+.2f} ({min(gains):+.2f})" if gains else ""
                    cells.append(cell)
                title = f"`{name}`, {codec.upper()} {config.upper()}"
                lines.append(f"| {title} | " + " | ".join(cells) + " |")
        lines.append("")
    lines.append("| flicker | " + " | ".join(f"QP {q}" for q in qps) + " |")
    lines.append("|---|" + "---|" * len(qps))
    for name in ["bicubic", *names]:
        cells = [f"{np.mean([r[name]['flicker'] for r in rows if r['qp'] == q]):.2f}" for q in qps]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--models", nargs="+", default=["fast", "standard"])
    p.add_argument("--scale", "-k", type=int, default=2, choices=[2, 4])
    p.add_argument("--clips", nargs="+", default=[str(DATA / "eval")])
    p.add_argument("--codec", nargs="+", default=["hevc", "vvc"], choices=["hevc", "vvc"])
    p.add_argument("--config", nargs="+", default=["ai"], choices=["ai", "ra", "ldp"])
    p.add_argument("--qp", nargs="+", type=int, default=[27, 32, 37, 42])
    p.add_argument("--max-frames", type=int, default=17, help="coded of each clip; 0: all (17)")
    p.add_argument("--groups", type=int, default=0, help="measured of each clip, 0: all (0)")
    p.add_argument("--max-width", type=int, default=0, help="leave larger clips out; 0: none")
    p.add_argument("--only", nargs="+", default=[], help="names of clips; others are left out")
    p.add_argument("--work", type=Path, default=ROOT / "out" / "model-gain")
    p.add_argument("--data", type=Path, help="a data set made before, instead of coding")
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--out", type=Path, help="also write the tables here (.md) and rows (.json)")
    args = p.parse_args()

    if args.data is None and not any(Path(c).exists() for c in args.clips):
        print(f"skipped: no clips in {args.clips}; set TDS_DATA", file=sys.stderr)
        return 0
    folder = args.data or args.work
    if args.data is None:
        jobs = [
            Job(
                c,
                Codec(k),
                Config(g),
                args.scale,
                5,
                qp,
                qp,
                PRESETS[k],
                False,
                args.max_frames or None,
            )
            for k in args.codec
            for g in args.config
            for c in find_clips(args.clips)
            for qp in args.qp
        ]
        build(jobs, folder, 2, lambda n, of, what: print(f"{n}/{of} {what}", end="\r"))
    rows = []
    for entry in load_manifest(folder):
        if (
            entry.codec not in args.codec
            or entry.config not in args.config
            or entry.hr_qp not in args.qp
            or entry.scale != args.scale
            or (args.max_width and entry.width > args.max_width)
            or (args.only and entry.clip not in args.only)
        ):
            continue
        row = measure(entry, folder, args.models, args.threads, args.groups)
        rows.append(row)
        gains = ", ".join(
            f"{n} {row[n]['luma'] - row['bicubic']['luma']:+.2f}" for n in args.models
        )
        print(f"{entry.clip} {entry.codec} {entry.config} QP {entry.hr_qp}: {gains}", flush=True)
    if not rows:
        print("no clip fits the arguments", file=sys.stderr)
        return 1
    text = tables(rows, args.models)
    print("\n" + text)
    if args.out:
        command = "python benchmarks/model_gain.py " + " ".join(sys.argv[1:])
        args.out.write_text(f"Made by `{command}`.\n\n{text}")
        args.out.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
