# SPDX-License-Identifier: LGPL-2.1-or-later
"""The report: one self-contained HTML page, and CSV, JSON and PNG of the same figures."""

from __future__ import annotations

import base64
import csv
import gzip
import html
import io
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..files import whole_file
from .bd import METHODS
from .results import ALL, COUNTINGS, METRICS, TYPE, WHOLE, Results
from .run import Outcome

_RATE_NAMES = {"cubic": "cubic", "pchip": "piecewise cubic", "akima": "Akima"}


def write_report(outcome: Outcome, folder: Path) -> tuple[Path, str]:
    """Writes everything into ``folder``; returns the page's path and a table for a terminal.

    index.html, results.json, points.csv, bd.csv, means.csv, and png/*.png."""
    folder.mkdir(parents=True, exist_ok=True)
    r = outcome.results
    _text(folder / "results.json", json.dumps(_json(outcome), separators=(",", ":")))
    _csv(folder / "points.csv", [_flat(p) for p in r.points])
    _csv(folder / "bd.csv", r.bd)
    _csv(folder / "means.csv", r.means)
    if outcome.complexity:
        _csv(folder / "complexity.csv", outcome.complexity)
    from .plots import write_plots

    write_plots(outcome, folder / "png")
    page = folder / "index.html"
    _text(page, render(outcome))
    return page, terminal_table(r)


def _text(path: Path, text: str) -> None:
    with whole_file(path, overwrite=True) as beside:
        beside.write_text(text, encoding="utf-8")


def _csv(path: Path, rows: list[dict[str, Any]]) -> None:
    out = io.StringIO()
    if rows:
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    _text(path, out.getvalue())


def _flat(point: dict[str, Any]) -> dict[str, Any]:
    """A point as one row: both countings, test and anchor."""
    row = {k: v for k, v in point.items() if not isinstance(v, dict)}
    for counting in COUNTINGS:
        for side in ("test", "anchor"):
            row |= {f"{counting}_{side}_{k}": v for k, v in point[counting][side].items()}
    row |= {f"bits_{k}": v for k, v in point["bits"].items() if not isinstance(v, dict)}
    return row


def _columns(rows: list[dict[str, Any]]) -> dict[str, Any]:
    names = list(rows[0]) if rows else []
    return {"columns": names, "rows": [[row[n] for n in names] for row in rows]}


def _json(outcome: Outcome) -> dict[str, Any]:
    r = outcome.results
    crops = [
        {**c, "versions": {n: {k: v for k, v in x.items() if k != "folder"}
                           for n, x in c["versions"].items()}}
        for c in outcome.crops
    ]  # fmt: skip
    return {
        "tds_evaluation": 1,
        "title": outcome.evaluation.title,
        "provenance": outcome.provenance,
        "marks": r.marks,
        "points": [{k: v for k, v in p.items() if k != "psnr_y_over_time"} for p in r.points],
        "means": _columns(r.means),
        "bd": _columns(r.bd),
        "crops": crops,
        "complexity": outcome.complexity,
    }


# ------------------------------------------------------------------- summary --


def summary_rows(r: Results) -> list[dict[str, Any]]:
    """One row a codec, configuration, plan and enhancer: means over all clips of luma
    PSNR's BD-rate and BD-PSNR (piecewise), both countings."""
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for m in r.means:
        if (m["class"], m["metric"], m["method"]) != (ALL, "psnr_y", "pchip"):
            continue
        key = tuple(m[k] for k in ("codec", "config", "plan", "enhancer"))
        rows.setdefault(key, dict(zip(("codec", "config", "plan", "enhancer"), key, strict=True)))
        rows[key][m["counting"]] = m
    return list(rows.values())


def _rate(m: dict[str, Any] | None) -> str:
    if m is None or m["rate"] is None:
        return "–"
    text = f"{m['rate']:+.1f} %"
    if m["low"] is not None:
        text += f" [{m['low']:+.1f}, {m['high']:+.1f}]"
    if m["low_overlap"]:
        text += "†"
    if m["without_figure"]:
        text += f" ({m['clips']} of {m['clips'] + m['without_figure']} clips)"
    return text


def _caveat(m: dict[str, Any] | None) -> str:
    """What a mean leaves out."""
    if m is None:
        return ""
    out = []
    if m["without_figure"]:
        out.append(f"{m['without_figure']} clips without a figure")
    if m["low_overlap"]:
        out.append(f"{m['low_overlap']} of {m['clips']} clips with little overlap")
    return "; ".join(out)


def terminal_table(r: Results) -> str:
    from rich.console import Console
    from rich.table import Table

    t = Table(title="BD-rate in luma PSNR against the plain stream, mean over clips")
    for name in ("codec", "config", "plan", "enhancer", "whole stream", "per frame type"):
        t.add_column(name, justify="right" if name in COUNTINGS.values() else "left")
    for row in summary_rows(r):
        t.add_row(
            row["codec"], row["config"].upper(), row["plan"], row["enhancer"],
            _rate(row.get(WHOLE)), _rate(row.get(TYPE)),
        )  # fmt: skip
    console = Console(width=150)
    with console.capture() as captured:
        console.print(t)
        console.print("† some clips' curves overlap in less than 75 %; [ ] 95 % bootstrap interval")
    return captured.get()


# ---------------------------------------------------------------------- page --


def render(outcome: Outcome) -> str:
    """The page. It loads nothing from anywhere."""
    r, e, p = outcome.results, outcome.evaluation, outcome.provenance
    page = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    data = gzip.compress(json.dumps(_page_data(outcome)).encode(), 9, mtime=0)
    parts = {
        "TITLE": html.escape(e.title),
        "LEAD": html.escape(_lead(outcome)),
        "DESCRIPTION": f"<p>{html.escape(e.description)}</p>" if e.description else "",
        "MARKS": _marks(r.marks),
        "SUMMARY": _summary(r),
        "CROPS": _crops(outcome),
        "COMPLEXITY": _complexity(outcome.complexity),
        "DEFINITIONS": _DEFINITIONS,
        "PROVENANCE": _provenance(p),
        "DATA": base64.b64encode(data).decode(),
    }
    for name, text in parts.items():
        page = page.replace(f"@{name}@", text)
    return page


def _lead(outcome: Outcome) -> str:
    e, g = outcome.evaluation, outcome.graph
    frames = sorted({c.frames for c in g.clips})
    span = f"{frames[0]}" if len(frames) == 1 else f"{frames[0]} to {frames[-1]}"
    codecs = " and ".join(c.label for c in e.codecs)
    configs = ", ".join(c.value.upper() for c in e.configs)
    names = list(dict.fromkeys(x.name for x in g.enhancers))
    return (
        f"{len(g.clips)} clips of {span} frames; {codecs}; {configs}; QP "
        f"{', '.join(map(str, e.qps))}; {len(e.plans)} plans; enhancers: {', '.join(names)}."
    )


def _marks(marks: list[str]) -> str:
    if not marks:
        return ""
    items = "".join(f"<li>{html.escape(m)}</li>" for m in marks)
    return f'<div class="marks"><b>To be read with care</b><ul>{items}</ul></div>'


def _summary(r: Results) -> str:
    out = ['<div class="scroll"><table><thead><tr><th class="l">enhancer</th>'
           "<th>whole stream</th><th>BD-PSNR</th><th>per frame type</th><th>BD-PSNR</th>"
           "</tr></thead><tbody>"]  # fmt: skip
    heading = None
    for row in summary_rows(r):
        here = f"{row['codec']}, {row['config'].upper()}, {row['plan']}"
        if here != heading:
            heading = here
            out.append(
                '<tr class="plan"><td class="l" colspan="5"><span>'
                f"{html.escape(here)}</span></td></tr>"
            )
        cells = []
        for counting in COUNTINGS:
            m = row.get(counting)
            rate = m["rate"] if m else None
            kind = "" if rate is None else "good" if rate < -0.05 else "bad" if rate > 0.05 else ""
            text = html.escape(_rate(m))
            match = re.fullmatch(r"([^(\[]*)([(\[].*)", text)
            if match:
                text = f'{match[1]}<span class="range">{match[2]}</span>'
            quality = m["quality"] if m else None
            cells.append(f'<td class="{kind}" title="{html.escape(_caveat(m))}">{text}</td>')
            cells.append(f"<td>{'–' if quality is None else f'{quality:+.2f} dB'}</td>")
        out.append(
            f'<tr class="sub"><td class="l">{html.escape(row["enhancer"])}</td>'
            f"{''.join(cells)}</tr>"
        )
    out.append("</tbody></table></div>")
    return "".join(out)


def _page_data(outcome: Outcome) -> dict[str, Any]:
    r = outcome.results
    index: dict[str, list[str]] = {
        "class": list(dict.fromkeys([ALL, *(m["class"] for m in r.means)])),
        "metric": list(METRICS),
        "method": list(METHODS),
    }
    for name in ("clip", "codec", "config", "plan", "enhancer"):
        index[name] = list(dict.fromkeys(p[name] for p in r.points))
    place = {name: {v: i for i, v in enumerate(values)} for name, values in index.items()}
    countings = {c: i for i, c in enumerate(COUNTINGS)}

    def key(row: dict[str, Any], first: str) -> list[Any]:
        return [
            place[first][row[first]],
            *(place[n][row[n]] for n in ("codec", "config", "plan", "enhancer")),
            countings[row["counting"]],
            place["metric"][row["metric"]],
            place["method"][row["method"]],
        ]

    def rounded(value: float | None) -> float | None:
        return None if value is None else round(value, 2)

    seen: dict[str, list[str]] = {}
    for p in r.points:
        if p["seen"] and p["clip"] not in seen.setdefault(p["enhancer"], []):
            seen[p["enhancer"]].append(p["clip"])
    metrics = {m: n for m, n in METRICS.items() if any(row["metric"] == m for row in r.bd)}
    return {
        "index": index,
        "metrics": metrics or METRICS,
        "methods": list(METHODS),
        "seen": seen,
        "points": [
            {
                **{k: p[k] for k in ("clip", "codec", "config", "plan", "kind", "enhancer", "qp",
                                     WHOLE, TYPE, "bits")},
                "time": p["psnr_y_over_time"],
            }
            for p in r.points
        ],
        "bd": [[*key(b, "clip"), rounded(b["rate"]), b["trusted"], b["note"]] for b in r.bd],
        "means": [
            [*key(m, "class"), rounded(m["rate"]), not m["low_overlap"], _caveat(m)]
            for m in r.means
        ],
    }  # fmt: skip


def _crops(outcome: Outcome) -> str:
    if not outcome.crops:
        return ""
    out = [
        "<h2>Crops at equal bits</h2><p class=soft>One down-sampled frame; the region with most "
        "detail. The plain stream is coded at the QP that comes nearest the pair's bits (whole "
        "stream). Below each picture its luma residual: black none, through red and yellow to "
        "white at 32 code values and more.</p>"
    ]
    for c in outcome.crops:
        out.append(
            f"<h3>{html.escape(c['clip'])}, frame {c['frame']}; {html.escape(c['codec'])} "
            f"{c['config'].upper()}, {html.escape(c['plan'])}, QP {c['qp']}</h3>"
            f"<p class=soft>Pair {c['bits'] / 1000:.0f} kbit; plain stream at QP {c['anchor_qp']}: "
            f"{c['anchor_bits'] / 1000:.0f} kbit.</p><div class=crops>"
        )
        first = Path(c["versions"]["anchor"]["folder"])
        out.append(
            f'<figure><img alt="source" src="{_picture(first / "source.png")}">'
            "<figcaption>source</figcaption></figure>"
        )
        for name, v in sorted(c["versions"].items(), key=lambda item: item[0] != "anchor"):
            title = f"plain, QP {c['anchor_qp']}" if name == "anchor" else name
            folder = Path(v["folder"])
            out.append(
                f'<figure><img alt="{html.escape(title)}" src="{_picture(folder / "version.png")}">'
                f'<img alt="residual of {html.escape(title)}" '
                f'src="{_picture(folder / "residual.png")}"><figcaption>{html.escape(title)}: '
                f"{v['psnr_y']:.2f} dB, here {v['psnr_y_crop']:.2f} dB</figcaption></figure>"
            )
        out.append("</div>")
    return "".join(out)


def _picture(path: Path) -> str:
    """A PNG as a data address; as WebP, which is half the size at no visible loss."""
    from PIL import Image

    packed = io.BytesIO()
    Image.open(path).convert("RGB").save(packed, "WEBP", quality=92, method=6)
    return "data:image/webp;base64," + base64.b64encode(packed.getvalue()).decode()


def _complexity(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    names = {
        "model": "model", "scale": "k", "size": "size", "parameters_m": "parameters (M)",
        "kmac_per_pixel": "kMAC / pixel", "bytes_per_pixel": "bytes / pixel",
        "memory_mib": "peak memory (MiB)", "fps": "LR frames / s", "device": "device",
    }  # fmt: skip
    left = ("model", "size", "device")
    head = "".join(f'<th class="{"l" if n in left else ""}">{t}</th>' for n, t in names.items())
    body = ""
    for row in rows:
        cells = "".join(
            f'<td class="{"l" if n in left else ""}">'
            f"{html.escape('–' if row.get(n) is None else str(row[n]))}</td>"
            for n in names
        )
        body += f"<tr>{cells}</tr>"
    return (
        "<h2>Complexity</h2><p class=soft>Per LR frame; pixels are those of the full size. "
        "Definitions: tds complexity --help.</p>"
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


_DEFINITIONS = """<dl>
<dt>Anchor</dt><dd>Every frame at full size, coded by the same encoder, version, preset,
configuration and QPs, restarted where the pair restarts. The bits of both sides are those of all
packets and, once, of the parameter sets.</dd>
<dt>Whole stream</dt><dd>All bits of HR and LR (with the LR stream's down-sampled boundaries in LDP
and RA) and the quality of all frames, against all bits and frames of the anchor.</dd>
<dt>Per frame type</dt><dd>The frames that were down-sampled: the bits of their packets in the LR
stream, and their quality, against the packets and quality of the same frames in the anchor.
Without the LR stream's boundaries and parameter sets. These are P frames in LDP, B frames in RA, I
frames in AI. It leaves out what the HR frames cost.</dd>
<dt>LR only</dt><dd>Every frame down-sampled, no HR stream: what down-sampling alone gives.</dd>
<dt>k = 1</dt><dd>One plain stream, no LR: what enhancing alone gives. With bicubic nothing is
changed, so its BD-rate is 0 by construction; that line checks the whole chain.</dd>
<dt>PSNR</dt><dd>Per frame and plane, then the mean over frames; 6:1:1 is (6 Y + U + V) / 8.</dd>
<dt>SSIM, MS-SSIM, VMAF</dt><dd>FFmpeg's ssim and libvmaf filters on the decoded frames, luma;
VMAF's model v0.6.1.</dd>
<dt>Temporal</dt><dd>Mean absolute difference between a frame's change from the one before and the
source's change, in code values of luma (in the CSV and JSON).</dd>
<dt>BD-rate</dt><dd>By the bjontegaard library. Overlap is the part of the range that either curve
spans that both span; below 75&nbsp;% a figure is marked †. Means are over clips; the interval is a
percentile bootstrap over clips, which says how far the choice of clips matters, not more.</dd>
</dl>"""


def _provenance(p: dict[str, Any]) -> str:
    def table(rows: list[dict[str, Any]]) -> str:
        if not rows:
            return "<p class=soft>none</p>"
        head = "".join(f'<th class="l">{html.escape(k)}</th>' for k in rows[0])
        body = "".join(
            "<tr>" + "".join(f'<td class="l">{html.escape(str(v))}</td>' for v in row.values())
            + "</tr>" for row in rows
        )  # fmt: skip
        return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'

    def pairs(values: dict[str, Any]) -> str:
        return "<dl>" + "".join(
            f"<dt>{html.escape(str(k))}</dt><dd>{html.escape(str(v))}</dd>"
            for k, v in values.items()
        ) + "</dl>"  # fmt: skip

    short = [{**c, "sha256": c["sha256"][:16] + "…"} for c in p["clips"]]
    for row in short:
        row.pop("pictures_md5", None)
    models = [{**m, "sha256": m["sha256"][:16] + "…"} for m in p["models"]]
    run = {
        "command": p["command"],
        "started": p["started"],
        "took": f"{p['seconds']} s ({p['jobs_run']} of {p['jobs']} jobs run, the others cached)",
    }
    return (
        pairs(run | p["machine"] | p["versions"])
        + f"<details open><summary>Clips</summary>{table(short)}</details>"
        + f"<details><summary>Models</summary>{table(models)}</details>"
        + "<details><summary>Encoder commands</summary><pre>"
        + html.escape("\n\n".join(f"# {k}\n{v}" for k, v in p["streams"].items()))
        + "</pre></details><details><summary>Configuration</summary><pre>"
        + html.escape(p["configuration"])
        + "</pre></details>"
    )
