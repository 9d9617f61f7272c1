# SPDX-License-Identifier: LGPL-2.1-or-later
"""A page to look at what enhancement does: pictures before and after under a slider, and a chart.

One HTML file that fetches nothing.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from ..media.planar import Plane
from .comparison import rgb_image
from .gain import Gain, Shown

QUALITY = 92  # of JPEG, above what either version shows of its own faults


@dataclass(frozen=True)
class View:
    """A picture that can be chosen. before, after, source (None: not at hand): planes. labels: of
    before and after, for a person."""

    name: str
    bit_depth: int
    before: Sequence[Plane]
    after: Sequence[Plane]
    source: Sequence[Plane] | None = None
    labels: tuple[str, str] = ("before", "after")


def view_of(shown: Shown) -> View:
    """Of a picture that was measured."""
    source, before, after = shown.planes
    f = shown.frame
    labels = f"before, {f.before.y:.2f} dB", f"after, {f.after.y:.2f} dB"
    name = f"frame {f.number} ({f.kind}), {f.gain:+.2f} dB"
    return View(name, shown.bit_depth, before, after, source, labels)


def write_page(path: Path, title: str, views: Sequence[View], gain: Gain | None = None) -> None:
    """gain: of which a chart is drawn."""
    template = (files(__package__) / "page.html").read_text(encoding="utf-8")
    told = [
        {
            "name": view.name,
            "images": {
                name: _image(planes, view.bit_depth)
                for name in ("before", "after", "source")
                if (planes := getattr(view, name)) is not None
            },
            "labels": view.labels,
            "width": view.after[0].shape[1],
            "height": view.after[0].shape[0],
        }
        for view in views
    ]
    page = template.replace("{{title}}", html.escape(title))
    page = page.replace("{{chart}}", "" if gain is None else _chart(gain))
    # What ends a script may stand in a file's name.
    page = page.replace("{{views}}", json.dumps(told).replace("</", "<\\/"))
    path.write_text(page, encoding="utf-8")


def _image(planes: Sequence[Plane], bit_depth: int) -> str:
    file = io.BytesIO()
    rgb_image(planes, bit_depth).save(file, "JPEG", quality=QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _chart(gain: Gain) -> str:
    """Luma PSNR of each picture before and after, as SVG."""
    frames = gain.frames
    values = [q.y for f in frames for q in (f.before, f.after)]
    low, high = min(values) - 0.5, max(values) + 0.5
    width, height, left = 720.0, 200.0, 44.0

    def at(number: int, value: float) -> str:
        x = left + (width - left - 8) * number / max(1, len(frames) - 1)
        return f"{x:.1f},{8 + (height - 32) * (high - value) / (high - low):.1f}"

    lines = "".join(
        f"<polyline class='{when}' points='"
        + " ".join(at(f.number, getattr(f, when).y) for f in frames)
        + "'/>"
        for when in ("before", "after")
    )
    marks = "".join(
        f"<text x='{left - 6}' y='{float(at(0, value).split(',')[1]) + 4:.1f}' "
        f"text-anchor='end'>{value:.1f}</text>"
        for value in (low + 0.5, (low + high) / 2, high - 0.5)
    )
    words = f"<text x='{left}' y='{height - 6:g}'>frames 0 to {len(frames) - 1}</text>"
    said = (
        "<p>Luma PSNR of each frame, in dB: <b class='before'>before</b>, "
        "<b class='after'>after</b>.</p>"
    )
    return (
        f"{said}<svg viewBox='0 0 {width:g} {height:g}' role='img' "
        f"aria-label='luma PSNR of each frame, before and after'>{lines}{marks}{words}</svg>"
    )
