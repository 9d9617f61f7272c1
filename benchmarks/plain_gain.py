#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What enhancing gives on plain streams: BD-rate of the whole stream, luma, against itself.

    python benchmarks/plain_gain.py --models fast standard --out docs/plain-gain.md
    python benchmarks/plain_gain.py --models out/train/mine/weights.safetensors \\
        --clips jct_RaceHorses vid4_foliage --codec hevc --config ai

Every clip is coded at full size by each codec, configuration and QP, decoded, and put through the
engine's session for plain streams with each model for k = 1 (a name, weights or an archive). It is
one run of `tds evaluate` with one plan, so streams and measurements are kept (--work) and not made
again, whatever stopped it, and another model measures only its own points. In RA and LDP x265 and
x264 have their own offsets between types of picture.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from pathlib import Path

import numpy as np

from tds.codecs import Codec, Config
from tds.errors import TDSError
from tds.evaluation.cache import Cache
from tds.evaluation.config import PASSED, PLAIN, ClipEntry, Coding, Evaluation, Plan
from tds.evaluation.execution import LocalExecutor
from tds.evaluation.graph import find_models
from tds.evaluation.records import BdRow, PointRow
from tds.evaluation.results import ALL, WHOLE, Results, setting
from tds.evaluation.run import evaluate

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("TDS_DATA", ROOT.parent / "shared" / "data"))


def clips_of(names: list[str]) -> list[ClipEntry]:
    """Files and folders as they are; other names are of clips of the evaluation set."""
    out = []
    for name in names:
        path = Path(name) if Path(name).exists() else DATA / "eval" / f"{name}.mkv"
        out.append(ClipEntry(path.absolute()))
    return out


def rates(results: Results) -> list[BdRow]:
    """The BD-rates that are shown, one a clip, codec, configuration and model."""
    return [
        r
        for r in results.bd
        if (r["counting"], r["metric"], r["method"]) == (WHOLE, "psnr_y", "pchip")
        and r["enhancer"] != PASSED
    ]


def gains(points: list[PointRow]) -> dict[tuple[str, str, str], dict[int, list[float]]]:
    """dB over the stream as it is, at the same bits: by codec, configuration and model, by QP."""
    out: dict[tuple[str, str, str], dict[int, list[float]]] = {}
    for p in points:
        if p["enhancer"] != PASSED:
            codec, config, _, model = setting(p)
            test, anchor = p[WHOLE]["test"]["psnr_y"], p[WHOLE]["anchor"]["psnr_y"]
            assert test is not None and anchor is not None
            of_qp = out.setdefault((codec, config, model), {})
            of_qp.setdefault(p["qp"], []).append(test - anchor)
    return out


def each_gains(points: list[PointRow]) -> dict[tuple[str, str, str], list[float]]:
    """What each picture gained, in dB of luma: by codec, configuration and model, all QPs."""
    out: dict[tuple[str, str, str], list[float]] = {}
    for p in points:
        if p["enhancer"] != PASSED:
            codec, config, _, model = setting(p)
            pictures = zip(*(p["psnr_y_over_time"][s] for s in ("test", "anchor")), strict=True)
            out.setdefault((codec, config, model), []).extend(a - b for a, b in pictures)
    return out


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{value:+.1f} %"


def tables(results: Results) -> str:
    """Markdown: means, dB by QP, every clip."""
    rows, lines = rates(results), []
    means = {
        setting(m): m
        for m in results.means
        if (m["class"], m["counting"], m["metric"], m["method"]) == (ALL, WHOLE, "psnr_y", "pchip")
    }
    models = list(dict.fromkeys(r["enhancer"] for r in rows))
    streams = list(dict.fromkeys((r["codec"], r["config"], r["plan"]) for r in rows))
    clips = list(dict.fromkeys(p["clip"] for p in results.points))
    lines.append(
        f"BD-rate of the whole stream, luma, mean over {len(clips)} clips (best clip, worst clip); "
        "less is better.\n"
    )
    lines.append("| | " + " | ".join(f"`{m}`" for m in models) + " |")
    lines.append("|---|" + "---|" * len(models))
    for codec, config, plan in streams:
        cells = []
        for model in models:
            key = (codec, config, plan, model)
            own = [r["rate"] for r in rows if setting(r) == key and r["rate"] is not None]
            mean = means[key]["rate"] if key in means else None
            cells.append(
                f"**{_rate(mean)}** ({_rate(min(own))}, {_rate(max(own))})" if own else "–"
            )
        lines.append(f"| {codec} {config.upper()} | " + " | ".join(cells) + " |")
    qps = sorted({p["qp"] for p in results.points})
    lines += ["", "dB over the stream as it is, luma, mean over clips (worst clip).\n"]
    lines.append("| | | " + " | ".join(f"QP {q}" for q in qps) + " |")
    lines.append("|---|---|" + "---|" * len(qps))
    for (codec, config, model), of_qp in gains(results.points).items():
        shown = " | ".join(f"{np.mean(of_qp[q]):+.2f} ({min(of_qp[q]):+.2f})" for q in qps)
        lines.append(f"| `{model}` | {codec} {config.upper()} | {shown} |")
    lines += ["", "Pictures that lost luma PSNR, of all at all QPs, and the most that one lost.\n"]
    lines.append("| | | pictures | lost | most |")
    lines.append("|---|---|---|---|---|")
    for (codec, config, model), each in each_gains(results.points).items():
        worse = [g for g in each if g <= -0.01]
        most = f"{min(worse):+.2f} dB" if worse else "–"
        lines.append(
            f"| `{model}` | {codec} {config.upper()} | {len(each)} | "
            f"{100 * len(worse) / len(each):.1f} % | {most} |"
        )
    lines += ["", "BD-rate of every clip.\n"]
    heads = [
        f"{codec.split()[0]} {config.upper()} `{m}`" for codec, config, _ in streams for m in models
    ]
    lines.append("| | " + " | ".join(heads) + " |")
    lines.append("|---|" + "---|" * len(heads))
    for clip in clips:
        cells = []
        for codec, config, plan in streams:
            for model in models:
                key = (codec, config, plan, model)
                one = next((r for r in rows if setting(r) == key and r["clip"] == clip), None)
                seen = "*" if one is not None and one["seen"] else ""
                cells.append(_rate(one["rate"] if one else None) + seen)
        lines.append(f"| {clip} | " + " | ".join(cells) + " |")
    if any(r["seen"] for r in rows):
        lines.append("\n\\* the model was trained on this clip, which is not in its means.")
    notes = "".join(f"- {mark}\n" for mark in results.marks)
    return "\n".join(lines) + "\n" + (f"\n{notes}" if notes else "")


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--models", nargs="+", default=["all"], help="names or files of k = 1 (all)")
    p.add_argument("--clips", nargs="+", default=[str(DATA / "eval")],
                   help="files, folders, or names of evaluation clips (all of those)")  # fmt: skip
    p.add_argument("--codec", nargs="+", default=["hevc", "vvc", "h264"],
                   choices=[c.value for c in Codec])  # fmt: skip
    p.add_argument("--config", nargs="+", default=["ai", "ra"], choices=[c.value for c in Config])
    p.add_argument("--preset", nargs="+", default=[], metavar="CODEC=PRESET",
                   help="other than medium (hevc, h264) and fast (vvc)")  # fmt: skip
    p.add_argument("--qp", nargs="+", type=int, default=[27, 32, 37, 42])
    p.add_argument("--tell-qp", action="store_true",
                   help="models are told the QP, as by files of tds encode or --hr-qp")  # fmt: skip
    p.add_argument("--max-frames", type=int, default=17, help="of each clip, 0: all (17)")
    p.add_argument("--device", default="auto")
    p.add_argument("--precision", default="auto")
    p.add_argument("--work", type=Path, default=ROOT / "out" / "plain-gain", help="the cache")
    p.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    p.add_argument("--out", type=Path, help="also write the tables here (.md) and rows (.json)")
    args = p.parse_args()

    entries = clips_of(args.clips)
    if missing := [str(e.path) for e in entries if not e.path.exists()]:
        print(f"skipped: no clips at {', '.join(missing)}; set TDS_DATA", file=sys.stderr)
        return 0
    presets = dict(text.split("=", 1) for text in args.preset)

    def progress(done: int, total: int, share: float, label: str) -> None:
        print(f"{done}/{total} {100 * share:.0f} % {label}", file=sys.stderr, flush=True)

    try:
        evaluation = Evaluation(
            clips=tuple(entries),
            codecs=tuple(Coding(Codec(c), "", presets.get(c, "")) for c in args.codec),
            configs=tuple(Config(c) for c in args.config),
            qps=tuple(args.qp),
            plans=(Plan(kind=PLAIN),),
            title="Plain streams, enhanced",
            models=tuple(args.models),
            tell_qp=args.tell_qp,
            frames=args.max_frames,
            device=args.device,
            precision=args.precision,
            crops=0,
            perceptual=False,
        )
        if not find_models(evaluation.models, [1]):
            print("no model for k = 1 is installed; name a file with --models", file=sys.stderr)
            return 1
        outcome = evaluate(evaluation, Cache(args.work), LocalExecutor(args.workers), progress)
    except (TDSError, ValueError, OSError) as e:
        print(f"plain_gain: {e}", file=sys.stderr)
        return 1
    results = outcome.results
    text = tables(results)
    print("\n" + text)
    if args.out:
        command = "python benchmarks/plain_gain.py " + shlex.join(sys.argv[1:])
        args.out.write_text(f"Made by `{command}`.\n\n{text}", encoding="utf-8")
        found = {
            "versions": outcome.provenance["versions"],
            "machine": outcome.provenance["machine"],
            "models": outcome.provenance["models"],
            "clips": outcome.provenance["clips"],
            "commands": outcome.provenance["streams"],
            "bd": rates(results),
            "points": [q for q in results.points if q["enhancer"] != PASSED],
        }
        args.out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
