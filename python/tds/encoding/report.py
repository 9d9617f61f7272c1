# SPDX-License-Identifier: LGPL-2.1-or-later
"""One page of what was tried and chosen: bits and quality over time, and the plan as a strip."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ..container.metadata import Metadata
from ..measuring.psnr import IDENTICAL

if TYPE_CHECKING:
    from .candidates import Choice

_WIDTH, _HEIGHT, _LEFT = 960, 180, 56  # of a drawing, and where its time begins
_MOST = 800  # points of a curve; of longer videos each is the mean of some frames

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1b1f24; --soft: #6b7280; --line: #d0d4da;
  --paper: #ffffff; --chosen: #0b6fc2; --plain: #b4540a; --hr: #0b6fc2; --lr: #7cb7e6;
  --one: #2f9e62; --weak: #9bd3b3; --none: #c9ccd1; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e6e8eb; --soft: #9aa3ad; --line: #3a4149;
  --paper: #14171a; --chosen: #5fb2f5; --plain: #f0a35e; --hr: #3f9bea; --lr: #245a86;
  --one: #4cc284; --weak: #2b6b49; --none: #50565e; }} }}
body {{ font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 1040px; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.3rem; }} h2 {{ font-size: 1rem; margin: 1.6rem 0 .3rem; }}
svg {{ width: 100%; height: auto; display: block; }}
svg text {{ font-size: 11px; fill: var(--soft); }}
table {{ border-collapse: collapse; }} td, th {{ padding: .15rem 1rem .15rem 0; text-align: left;
  border-bottom: 1px solid var(--line); }} td.n {{ text-align: right; }}
.key {{ display: inline-block; width: .9em; height: .9em; margin: 0 .3em 0 1em;
  vertical-align: -.1em; }}
</style></head><body>
<h1>{title}</h1>
<p>{lead}</p>
<h2>Tried</h2>
<table><tr><th>candidate</th><th>bits at equal quality, against the plain stream</th></tr>
{tried}</table>
<h2>The plan</h2>
{strip}
<p>{keys}</p>
<h2>Bits a frame</h2>
{bits}
<h2>Luma PSNR (dB)</h2>
{quality}
<p><span class="key" style="background:var(--chosen)"></span>as chosen
<span class="key" style="background:var(--plain)"></span>the plain stream</p>
</body></html>
"""

_KINDS = {
    "HR": ("hr", "HR of a pair"),
    "LR": ("lr", "LR of a pair"),
    "one": ("one", "full size, enhanced"),
    "weak": ("weak", "at half strength"),
    "none": ("none", "as decoded"),
}


def page(choice: Choice, metadata: Metadata, name: str) -> str:
    """The page, whole in one file. name: of the output."""
    frames, pixels = choice.frames, metadata.width * metadata.height
    peak = (1 << metadata.bit_depth) - 1

    def psnr(error: float) -> float:
        quality = 10 * math.log10(peak * peak * pixels / error) if error > 0 else IDENTICAL
        return min(IDENTICAL, quality)

    def total(key: str) -> int:
        return sum(frame[key] for frame in frames)

    def mean(key: str) -> float:
        return sum(psnr(frame[key]) for frame in frames) / len(frames)

    change = 100 * (total("bits") / total("plain_bits") - 1)
    gain = mean("error") - mean("plain_error")
    qp = f"QP {metadata.hr_qp}" if metadata.hr_qp >= 0 else "a constant rate factor"
    lead = (
        f"{len(frames)} frames of {metadata.width}x{metadata.height}, {metadata.codec.upper()} "
        f"{metadata.config.upper()} at {qp}, measured with the model {choice.model} at effort "
        f"{choice.effort}: {choice.chosen}. {change:+.1f} % bits at {gain:+.2f} dB luma against "
        "the plain stream at the same setting."
    )
    rows = "".join(
        f"<tr><td>{html.escape(candidate)}</td><td class=n>{cost:.1f} %</td></tr>\n"
        for candidate, cost in choice.tried.items()
    )
    seen = set(map(_kind, frames))
    keys = "".join(
        f'<span class="key" style="background:var(--{colour})"></span>{words}'
        for kind, (colour, words) in _KINDS.items()
        if kind in seen
    )
    seconds = len(frames) / float(metadata.timeline.rate)
    bits = [_means([float(f[key]) for f in frames]) for key in ("bits", "plain_bits")]
    quality = [_means([psnr(f[key]) for f in frames]) for key in ("error", "plain_error")]
    return _PAGE.format(
        title=html.escape(f"{name}: what it is coded as, and why"),
        lead=html.escape(lead),
        tried=rows,
        strip=_strip(frames, seconds),
        keys=keys,
        bits=_curves(bits, seconds),
        quality=_curves(quality, seconds),
    )


def _kind(frame: dict[str, Any]) -> str:
    if frame["role"] != "plain":
        return str(frame["role"])
    return {0: "none", 0.5: "weak"}.get(frame["strength"], "one")


def _strip(frames: Sequence[dict[str, Any]], seconds: float) -> str:
    step = (_WIDTH - _LEFT) / len(frames)
    out, at = [], 0
    for kind, run in groupby(map(_kind, frames)):
        count = len(list(run))
        x, width = _LEFT + at * step, count * step
        colour, words = _KINDS[kind]
        out.append(
            f'<rect x="{x:.2f}" y="0" width="{width:.2f}" height="34" fill="var(--{colour})">'
            f"<title>frames {at} to {at + count - 1}: {words}</title></rect>"
        )
        at += count
    return _drawing(52, "".join(out) + _time(seconds, 48))


def _means(values: Sequence[float]) -> list[float]:
    size = -(-len(values) // _MOST)
    parts = (values[i : i + size] for i in range(0, len(values), size))
    return [sum(part) / len(part) for part in parts]


def _curves(curves: Sequence[Sequence[float]], seconds: float) -> str:
    """The chosen and the plain one, over time."""
    low = min(map(min, curves))
    high = max(map(max, curves))
    span = high - low or 1.0
    bottom = _HEIGHT - 20

    def y(value: float) -> float:
        return 8 + (bottom - 8) * (high - value) / span

    out = [
        f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{y(v):.1f}" y2="{y(v):.1f}" '
        f'stroke="var(--line)"/><text x="{_LEFT - 6}" y="{y(v) + 4:.1f}" text-anchor="end">'
        f"{_short(v)}</text>"
        for v in (low, (low + high) / 2, high)
    ]
    for values, colour in zip(curves, ("chosen", "plain"), strict=True):
        step = (_WIDTH - _LEFT) / max(1, len(values) - 1)
        points = " ".join(f"{_LEFT + i * step:.1f},{y(v):.1f}" for i, v in enumerate(values))
        out.append(
            f'<polyline points="{points}" fill="none" stroke="var(--{colour})" stroke-width="1.6"/>'
        )
    return _drawing(_HEIGHT, "".join(out) + _time(seconds, _HEIGHT - 4))


def _short(value: float) -> str:
    return f"{value / 1000:.1f} k" if value >= 1000 else f"{value:.1f}"


def _time(seconds: float, y: int) -> str:
    return "".join(
        f'<text x="{_LEFT + (_WIDTH - _LEFT) * part:.0f}" y="{y}" text-anchor="{anchor}">'
        f"{seconds * part:.1f} s</text>"
        for part, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end"))
    )


def _drawing(height: int, inside: str) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img">{inside}</svg>'
