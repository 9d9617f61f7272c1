# SPDX-License-Identifier: LGPL-2.1-or-later
"""The report's curves and bars as PNG, for papers and slides."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..files import whole_file
from .config import PASSED, PLAIN
from .records import AnchorRow, Metric, PointRow
from .results import COUNTINGS, METRICS, curve, value_of

_STYLES = ("-", "--", ":", "-.", (0, (6, 2)), (0, (3, 1, 1, 1)), (0, (1, 3)))


def write_plots(points: list[PointRow], folder: Path, anchors: Sequence[AnchorRow] = ()) -> None:
    """RD curves (luma PSNR and VMAF) and bits of every codec and configuration."""
    import matplotlib

    matplotlib.use("agg")
    folder.mkdir(parents=True, exist_ok=True)
    for codec in dict.fromkeys(p["codec"] for p in points):
        for config in dict.fromkeys(p["config"] for p in points):
            own = [p for p in points if (p["codec"], p["config"]) == (codec, config)]
            name = f"{re.sub('[^a-z0-9]+', '-', codec.lower()).strip('-')}-{config}"
            metrics: tuple[Metric, ...] = ("psnr_y", "vmaf")
            for metric in metrics:
                if all(value_of(p["whole"]["test"], metric) is None for p in own):
                    continue  # not worked out
                title = f"{codec} {config.upper()}"
                _curves(own, anchors, metric, title, folder / f"{name}-{metric}.png")
            _bits(own, f"{codec} {config.upper()}", folder / f"{name}-bits.png")


OF_BEFORE = "full"
"""The kind of plan that reports of before have for one plain stream."""


def _is_anchor(point: PointRow) -> bool:
    """Whether it is the plain stream as it is."""
    return point["kind"] == OF_BEFORE or (point["kind"], point["enhancer"]) == (PLAIN, PASSED)


def _curves(
    points: list[PointRow],
    anchors: Sequence[AnchorRow],
    metric: Metric,
    title: str,
    path: Path,
) -> None:
    import matplotlib.pyplot as plt

    clips = list(dict.fromkeys(p["clip"] for p in points))
    points = [p for p in points if not _is_anchor(p)]
    plans = list(dict.fromkeys(p["plan"] for p in points))
    enhancers = list(dict.fromkeys(p["enhancer"] for p in points))
    figure, axes = plt.subplots(
        len(clips), 2, figsize=(11, 3.2 * len(clips) + 1), squeeze=False, layout="constrained"
    )
    for row, clip in zip(axes, clips, strict=True):
        for ax, (counting, words) in zip(row, COUNTINGS.items(), strict=True):
            own = [p for p in points if p["clip"] == clip]
            for i, plan in enumerate(plans):
                for j, enhancer in enumerate(enhancers):
                    one = [p for p in own if (p["plan"], p["enhancer"]) == (plan, enhancer)]
                    if not one:
                        continue
                    style = _STYLES[i % len(_STYLES)]
                    if j == 0 and (i == 0 or counting == "type"):
                        label = "plain" if counting == "whole" else f"plain, frames of {plan}"
                        plain = curve(one, counting, "anchor", metric, anchors)
                        rates, values = zip(*sorted(plain), strict=True)
                        ax.plot(rates, values, "k", linestyle=style, marker=".", label=label, lw=2)
                    rates, values = zip(*sorted(curve(one, counting, "test", metric)), strict=True)
                    ax.plot(rates, values, color=f"C{j}", linestyle=style, marker=".", lw=1.2,
                            label=f"{plan}, {enhancer}")  # fmt: skip
            ax.set_xscale("log")
            _rate_ticks(ax)
            ax.set_title(f"{clip}, {words}", fontsize=9)
            ax.set_xlabel("kbit/s", fontsize=8)
            ax.set_ylabel(METRICS[metric] + (" (dB)" if "psnr" in metric else ""),
                          fontsize=8)  # fmt: skip
            ax.tick_params(labelsize=8)
            ax.grid(alpha=0.3, which="both")
    # Of both columns: the frames of each plan have an anchor of their own in the right one.
    handles: dict[str, Any] = {}
    for ax in axes.flat:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    labels = sorted(handles, key=lambda label: not label.startswith("plain"))
    figure.legend([handles[x] for x in labels], labels, loc="outside lower center", ncols=3,
                  fontsize=7, handlelength=4)  # fmt: skip
    figure.suptitle(title)
    _save(figure, path)


def rate_ticks(low: float, high: float) -> list[float]:
    """Round numbers for a logarithmic axis: 1, 2, 5 of each power of ten, or more of them where
    that gives fewer than three."""
    out: list[float] = []
    for steps in ((1, 2, 5), (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8), [i / 10 for i in range(10, 100)]):
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        out = [round(step * 10.0**power, 6) for power in powers for step in steps]
        out = [v for v in out if low <= v <= high]
        if len(out) >= 3:
            break
    out = out[:: math.ceil(len(out) / 8) or 1]
    return out


def _rate_ticks(ax: Any) -> None:
    """matplotlib's own labels of such an axis (2x10^2, 3x10^2) overlap at this size."""
    ticks = rate_ticks(*ax.get_xlim())
    ax.set_xticks(ticks, [f"{v:g}" for v in ticks])
    ax.minorticks_off()


def _bits(points: list[PointRow], title: str, path: Path) -> None:
    """Bits in percent of the anchor's, mean over clips, by plan and QP."""
    import matplotlib.pyplot as plt
    import numpy as np

    one_stream = (PLAIN, OF_BEFORE)  # whose bits are the anchor's
    plans = list(dict.fromkeys(p["plan"] for p in points if p["kind"] not in one_stream))
    if not plans:
        return
    first = {plan: next(p["enhancer"] for p in points if p["plan"] == plan) for plan in plans}
    qps = sorted({p["qp"] for p in points})
    figure, ax = plt.subplots(
        figsize=(9, 0.32 * len(plans) * (len(qps) + 1) + 1.2), layout="constrained"
    )
    ticks: list[float] = []
    names: list[str] = []
    y = 0.0
    for plan in plans:
        for qp in qps:
            own = [p for p in points
                   if (p["plan"], p["qp"], p["enhancer"]) == (plan, qp, first[plan])]  # fmt: skip
            left = 0.0
            parts = (
                ([p["bits"]["hr"] for p in own], "C0", "HR"),
                ([p["bits"]["lr"] for p in own], "C1", "LR"),
                ([p["bits"]["lr_leads"] for p in own], "C5", "LR's boundaries"),
            )
            anchors = [p["whole"]["anchor"]["bits"] for p in own]
            for bits, color, label in parts:
                share = float(np.mean([100 * b / a for b, a in zip(bits, anchors, strict=True)]))
                ax.barh(y, share, left=left, color=color, height=0.8,
                        label=label if not ticks else None)  # fmt: skip
                left += share
            ticks.append(y)
            names.append(f"{plan}, QP {qp}")
            y -= 1
        y -= 0.6
    ax.axvline(100, color="k", lw=1)
    ax.set_yticks(ticks, names, fontsize=7)
    ax.set_xlabel("percent of the plain stream's bits, mean over clips")
    ax.set_title(title)
    ax.legend(fontsize=7)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    """As a PNG of 128 colours, which is smaller: reports are kept in repositories."""
    import matplotlib.pyplot as plt
    from PIL import Image

    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=80, format="png")
    plt.close(figure)
    with whole_file(path, overwrite=True) as beside:
        _few_colours(Image.open(drawn).convert("RGB")).save(beside, "PNG", optimize=True)


def _few_colours(picture: Any) -> Any:
    """The commonest colours as they are, the others as the nearest of them.

    What is drawn has few colours, and the many between them are of smoothed edges. PIL's own
    choice of a palette is by ranges of colours and loses the thin lines'."""
    import numpy as np
    from PIL import Image

    pixels = np.asarray(picture).reshape(-1, 3)
    colours, where, counts = np.unique(pixels, axis=0, return_inverse=True, return_counts=True)
    kept = colours[np.argsort(-counts, kind="stable")[:128]].astype(int)
    nearest = [np.square(kept - colour).sum(axis=1).argmin() for colour in colours]
    indexes = np.array(nearest, np.uint8)[where.reshape(-1)]
    out = Image.frombytes("P", picture.size, indexes.tobytes())
    out.putpalette(kept.astype(np.uint8).tobytes())
    return out
