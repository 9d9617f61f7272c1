# SPDX-License-Identifier: LGPL-2.1-or-later
"""Drawings of the documentation as SVG: groups in time, the curve of the README, plans by QP.

Written by docs/tables.py. They are drawn on white, so that they read on dark pages too.
"""

from __future__ import annotations

import gzip
import json
from math import log10
from pathlib import Path
from statistics import median_low
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "full" / "results.json.gz"
PLANS = ROOT / "docs" / "auto-gain.json"
HR, LR, INK, SOFT = "#1864ab", "#d9480f", "#212529", "#868e96"
FONT = 'font-family="sans-serif" font-size="13"'


def wanted() -> dict[Path, str]:
    images = ROOT / "docs" / "images"
    out = {images / "groups.svg": groups()}
    if RESULTS.is_file():  # a source package has no results
        out[images / "rd.svg"] = curve()
    if PLANS.is_file():
        out[images / "plans.svg"] = plans()
    return out


def _svg(width: int, height: int, title: str, parts: list[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {FONT}>'
    white = f'<rect width="{width}" height="{height}" fill="#ffffff"/>'
    return "\n".join([head, f"<title>{title}</title>", white, *parts, "</svg>"]) + "\n"


def _text(x: float, y: float, text: str, fill: str = INK, size: int = 13, anchor: str = "") -> str:
    at = f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{fill}"{at}>{text}</text>'


# -------------------------------------------------------------------- groups --


def groups() -> str:
    """Ten frames in time, in independent and in shared groups of 5."""
    parts = []
    rows = (
        (
            "independent groups (the paper's, --boundaries independent)",
            "HLLLHHLLLH",
            [(0, 4), (5, 9)],
        ),
        (
            "shared groups (what tds encode makes of a pair unless told)",
            "HLLLHLLLHL",
            [(0, 4), (4, 8)],
        ),
    )
    for row, (title, roles, spans) in enumerate(rows):
        top = 16 + row * 140
        parts.append(_text(16, top + 14, title, size=15))
        for i, role in enumerate(roles):
            wide, high = (58, 38) if role == "H" else (29, 19)
            x, y = 16 + i * 68 + (58 - wide) / 2, top + 34 + (38 - high) / 2
            colour = HR if role == "H" else LR
            parts.append(
                f'<rect x="{x:g}" y="{y:g}" width="{wide}" height="{high}" rx="3" fill="{colour}"/>'
            )
            parts.append(_text(45 + i * 68, top + 57, str(i), "#ffffff", anchor="middle"))
        for n, (first, last) in enumerate(spans):
            y = top + 84 + 8 * n * row  # shared groups overlap in the frame that both use
            a, b = 20 + first * 68, 70 + last * 68
            parts.append(
                f'<path d="M{a} {y - 5}V{y}H{b}V{y - 5}" fill="none" stroke="{INK}" '
                'stroke-width="1.3"/>'
            )
            parts.append(_text((a + b) / 2, y + 15, f"group {n + 1}, N = 5", INK, 12, "middle"))
    legend = "blue: HR, full size; orange: LR, 1/2 of width and height. Time goes to the right."
    parts.append(_text(16, 304, legend, SOFT, 12))
    return _svg(712, 316, "HR and LR frames in time, in independent and in shared groups", parts)


# --------------------------------------------------------------------- curve --

CODEC = "HEVC (libx265 medium)"
PLAN = "N=5 shared, k=2"
LINES = {"bicubic": ("#f08c00", "5 4"), "fast": ("#2b8a3e", ""), "standard": (HR, "")}


def _points(clip: str, results: dict[str, Any]) -> dict[str, list[tuple[float, float]]]:
    """Name of a line -> (kbit/s, dB), by rising rate."""
    lines: dict[str, list[tuple[float, float]]] = {"plain stream": []}
    for point in results["points"]:
        key = (point["clip"], point["codec"], point["config"], point["plan"])
        if key != (clip, CODEC, "ai", PLAN):
            continue
        if point["enhancer"] in LINES:
            whole = point["whole"]
            spot = (whole["test"]["kbps"], whole["test"]["psnr_y"])
            lines.setdefault(point["enhancer"], []).append(spot)
            lines["plain stream"].append((whole["anchor"]["kbps"], whole["anchor"]["psnr_y"]))
    return {name: sorted(set(spots)) for name, spots in lines.items()}


def _median_clip(results: dict[str, Any]) -> tuple[str, float]:
    """The clip in the middle by what `standard` gains there, and that gain in percent."""
    columns = results["bd"]["columns"]
    gains = {}
    for row in results["bd"]["rows"]:
        found = dict(zip(columns, row, strict=True))
        key = ("codec", "config", "plan", "enhancer", "counting", "metric", "method")
        values = (CODEC, "ai", PLAN, "standard", "whole", "psnr_y", "cubic")
        if tuple(found[name] for name in key) == values and found["rate"] is not None:
            gains[found["clip"]] = float(found["rate"])
    middle = median_low(gains.values())
    return next(clip for clip, gain in gains.items() if gain == middle), middle


def curve() -> str:
    """Whole-stream rate and quality of the median clip of docs/results.md."""
    results = json.loads(gzip.decompress(RESULTS.read_bytes()))
    clip, gain = _median_clip(results)
    lines = _points(clip, results)
    spots = [spot for line in lines.values() for spot in line]
    left, right, top, bottom = 60.0, 560.0, 50.0, 320.0
    rates = [log10(rate) for rate, _ in spots]
    low, high = min(q for _, q in spots) - 0.5, max(q for _, q in spots) + 0.5

    def at(rate: float, quality: float) -> tuple[float, float]:
        share = (log10(rate) - min(rates)) / (max(rates) - min(rates))
        y = bottom - (quality - low) / (high - low) * (bottom - top)
        return left + 12 + share * (right - left - 24), y

    title = f"{clip}, {CODEC}, all intra, groups of 5 shared, k = 2"
    parts = [_text(left, 24, title, size=14)]
    for quality in range(int(low) + 1, int(high) + 1):
        if quality % 2 == 0:
            y = at(spots[0][0], quality)[1]
            parts.append(f'<path d="M{left} {y:.1f}H{right}" stroke="#e9ecef"/>')
            parts.append(_text(left - 8, round(y + 4, 1), str(quality), SOFT, 12, "end"))
    for rate in (50, 100, 200, 500, 1000, 2000, 5000, 10000):
        if min(rates) <= log10(rate) <= max(rates):
            x = at(rate, low)[0]
            parts.append(f'<path d="M{x:.1f} {top}V{bottom}" stroke="#e9ecef"/>')
            parts.append(_text(round(x, 1), bottom + 18, str(rate), SOFT, 12, "middle"))
    parts.append(_text(right, bottom + 36, "kbit/s, whole stream", SOFT, 12, "end"))
    parts.append(_text(left - 40, top - 10, "luma PSNR, dB", SOFT, 12))
    for n, (name, line) in enumerate(lines.items()):
        colour, dashes = LINES.get(name, (INK, ""))
        way = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*spot) for spot in line))
        dash = f' stroke-dasharray="{dashes}"' if dashes else ""
        parts.append(
            f'<polyline points="{way}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'
        )
        for spot in line:
            x, y = at(*spot)
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
        y = bottom - 80 + 18 * n
        parts.append(f'<path d="M430 {y - 4:g}h24" stroke="{colour}" stroke-width="2"{dash}/>')
        said = f"{name} ({gain:+.1f} % bits)" if name == "standard" else name
        parts.append(_text(460, y, said, INK, 12))
    return _svg(620, 364, f"Rate and quality: {title}", parts)


# --------------------------------------------------------------------- plans --

KINDS = {
    "as coded": ("#ced4da", "full size, as coded"),
    "enhanced": ("#2b8a3e", "full size, enhanced"),
    "N = 3": ("#a5d8ff", "groups of 3"),
    "N = 5": ("#4dabf7", "5"),
    "N = 9": ("#1c7ed6", "9"),
    "N = 17": ("#0b3d73", "17 frames, or shorter ones where a scene ends"),
}


def _kind(name: str) -> str:
    """The kind that a group of any size is counted with: a last one is as long as there is room."""
    size = int(name.partition("=")[2] or 0)
    return name if size == 0 else f"N = {next(n for n in (3, 5, 9, 17) if size <= n)}"


def plans() -> str:
    """Which plans `tds encode` picked, by clip and QP: how many of the frames are coded how."""
    rows = [
        row
        for row in json.loads(PLANS.read_text())
        if (row["kind"], row["codec"], row["config"]) == ("auto", "hevc", "ai")
        and row["asked_model"] == "standard"
    ]
    clips = list(dict.fromkeys(row["clip"] for row in rows))
    qps = sorted({row["qp"] for row in rows})
    left, top, wide, high = 190, 58, 82, 24
    parts = [
        _text(16, 24, "What tds encode picked, HEVC all-intra, by the share of frames", size=15)
    ]
    parts += [_text(left + i * wide + 36, top - 10, f"QP {q}", SOFT, 12, "middle")
              for i, q in enumerate(qps)]  # fmt: skip
    for row in rows:
        x, y = left + qps.index(row["qp"]) * wide, top + clips.index(row["clip"]) * high
        counted: dict[str, int] = {}
        for name, count in row["roles"].items():
            counted[_kind(name)] = counted.get(_kind(name), 0) + count
        for kind, (colour, _) in KINDS.items():
            share = (wide - 10) * counted.get(kind, 0) / row["frames"]
            if share:
                parts.append(
                    f'<rect x="{x:.4g}" y="{y}" width="{share:.4g}" height="16" fill="{colour}"/>'
                )
                x += share
    parts += [_text(16, top + i * high + 13, clip, INK, 12) for i, clip in enumerate(clips)]
    x, y = 16, top + len(clips) * high + 12
    for colour, text in KINDS.values():
        parts.append(f'<rect x="{x}" y="{y}" width="12" height="12" fill="{colour}"/>')
        parts.append(_text(x + 18, y + 11, text, SOFT, 12))
        x += 36 + 6 * len(text)
    width = max(left + len(qps) * wide + 6, x)
    return _svg(width, y + 28, "Which plans were picked, by QP and clip", parts)
