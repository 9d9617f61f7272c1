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
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from ..errors import InputError
from ..files import whole_file
from .bd import METHODS
from .records import ComplexityRow, Counting, MeanRow, PointRow, SideName, TemporalRow
from .results import (
    ALL,
    COUNTINGS,
    METRICS,
    TYPE,
    WHOLE,
    Results,
    Setting,
    assemble_again,
    metrics_of,
    setting,
)
from .run import Outcome

VERSION = 2  # of results.json
REPORT_MOST = 1 << 30  # bytes of its JSON


@dataclass
class Report:
    """All that the files are made of; what results.json holds."""

    title: str
    description: str
    exclude_seen: bool
    results: Results
    crops: list[dict[str, Any]]
    provenance: dict[str, Any]
    complexity: list[ComplexityRow]


def report_of(outcome: Outcome) -> Report:
    e = outcome.evaluation
    return Report(
        e.title,
        e.description,
        e.exclude_seen,
        outcome.results,
        [_with_pictures(c) for c in outcome.crops],
        outcome.provenance,
        outcome.complexity,
    )


def read_report(path: Path) -> Report:
    """From a results.json, or one that gzip made smaller, the figures worked out again from
    its points.

    Raises InputError. What files of older versions lack is left out: crops without pictures,
    quality over time."""
    try:
        found = json.loads(_whole(path))
        if found["tds_evaluation"] not in (1, VERSION):
            raise InputError(f"{path} is of another version of tds evaluate")
        exclude_seen = found.get("exclude_seen", True)
        return Report(
            found["title"],
            found.get("description", ""),
            exclude_seen,
            assemble_again(found["points"], found["marks"], exclude_seen, found.get("anchors", [])),
            [c for c in found["crops"] if "source" in c],
            found["provenance"],
            found["complexity"],
        )
    except FileNotFoundError as e:
        raise InputError(f"{path}: there is no such file") from e
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, EOFError, gzip.BadGzipFile, zlib.error) as e:
        raise InputError(f"{path} is no results.json of tds evaluate") from e


def _whole(path: Path) -> bytes:
    """Of a file that is perhaps compressed, REPORT_MOST bytes at most."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rb") as file:
        data = file.read(REPORT_MOST + 1)
    if len(data) > REPORT_MOST:
        raise InputError(f"{path} is larger than {REPORT_MOST >> 20} MB, which no report is")
    return data


def write_report(report: Report, folder: Path) -> tuple[Path, str]:
    """Writes everything into ``folder``; returns the page's path and a table for a terminal.

    index.html, results.json, points.csv, bd.csv, means.csv, temporal.csv, and png/*.png."""
    folder.mkdir(parents=True, exist_ok=True)
    r = report.results
    _text(folder / "results.json", json.dumps(_json(report), separators=(",", ":")))
    _csv(folder / "points.csv", [_flat(p) for p in r.points])
    _csv(folder / "bd.csv", r.bd)
    _csv(folder / "means.csv", r.means)
    _csv(folder / "temporal.csv", r.temporal)
    if report.complexity:
        _csv(folder / "complexity.csv", report.complexity)
    from .plots import write_plots

    write_plots(r.points, folder / "png", r.anchors)
    page = folder / "index.html"
    _text(page, render(report))
    return page, terminal_table(r)


def _text(path: Path, text: str) -> None:
    with whole_file(path, overwrite=True) as beside:
        beside.write_text(text, encoding="utf-8")


def _csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    out = io.StringIO()
    if rows:
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    _text(path, out.getvalue())


def _flat(point: PointRow) -> dict[str, Any]:
    """A point as one row: both countings, test and anchor."""
    row = {k: v for k, v in point.items() if not isinstance(v, dict)}
    sides: tuple[SideName, ...] = ("test", "anchor")
    for counting in COUNTINGS:
        for side in sides:
            row |= {f"{counting}_{side}_{k}": v for k, v in point[counting][side].items()}
    row |= {f"bits_{k}": v for k, v in point["bits"].items() if not isinstance(v, dict)}
    return row


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = list(rows[0]) if rows else []
    return {"columns": names, "rows": [[row[n] for n in names] for row in rows]}


def _json(report: Report) -> dict[str, Any]:
    r = report.results
    return {
        "tds_evaluation": VERSION,
        "title": report.title,
        "description": report.description,
        "exclude_seen": report.exclude_seen,
        "provenance": report.provenance,
        "marks": r.marks,
        "points": r.points,
        "anchors": r.anchors,
        "means": _columns(r.means),
        "bd": _columns(r.bd),
        "temporal": _columns(r.temporal),
        "crops": report.crops,
        "complexity": report.complexity,
    }


# ------------------------------------------------------------------- summary --


def summary_rows(r: Results) -> list[dict[str, Any]]:
    """One row a codec, configuration, plan and enhancer: means over all clips of luma
    PSNR's BD-rate and BD-PSNR (piecewise), both countings."""
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for m in r.means:
        if (m["class"], m["metric"], m["method"]) != (ALL, "psnr_y", "pchip"):
            continue
        codec, config, plan, enhancer = key = setting(m)
        of = {"codec": codec, "config": config, "plan": plan, "enhancer": enhancer}
        rows.setdefault(key, of)[m["counting"]] = m
    return list(rows.values())


def _rate(m: MeanRow | None) -> str:
    return _mean(m, "rate", "", "%", 1)


def _quality(m: MeanRow | None) -> str:
    return _mean(m, "quality", "quality_", "dB", 2)


def _mean(m: Mapping[str, Any] | None, value: str, prefix: str, unit: str, digits: int) -> str:
    """A mean with its interval, its mark and, where it is not of all clips, their number."""
    if m is None or m[value] is None:
        return "–"
    low, high = m[f"{prefix}low"], m[f"{prefix}high"]
    clips, without = m[f"{prefix}clips"], m[f"{prefix}without_figure"]
    text = f"{m[value]:+.{digits}f} {unit}"
    if low is not None:
        text += f" [{low:+.{digits}f}, {high:+.{digits}f}]"
    if m[f"{prefix}low_overlap"]:
        text += "†"
    if without:
        text += f" ({clips} of {clips + without} clips)"
    return text


def _caveat(m: Mapping[str, Any] | None, prefix: str = "") -> str:
    """What a mean leaves out. prefix: quality_ for that of the BD-PSNR."""
    if m is None:
        return ""
    out = []
    if m[f"{prefix}without_figure"]:
        out.append(f"{m[f'{prefix}without_figure']} clips without a figure")
    if m[f"{prefix}low_overlap"]:
        clips = m[f"{prefix}clips"]
        out.append(f"{m[f'{prefix}low_overlap']} of {clips} clips with little overlap")
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


def render(report: Report) -> str:
    """The page. It loads nothing from anywhere."""
    r = report.results
    page = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    data = gzip.compress(json.dumps(_page_data(r)).encode(), 9, mtime=0)
    parts = {
        "TITLE": html.escape(report.title),
        "LEAD": html.escape(_lead(report)),
        "DESCRIPTION": f"<p>{html.escape(report.description)}</p>" if report.description else "",
        "MARKS": _marks(r.marks),
        "SUMMARY": _summary(r),
        "TEMPORAL": _temporal(r),
        "CROPS": _crops(report.crops),
        "COMPLEXITY": _complexity(report.complexity),
        "DEFINITIONS": _DEFINITIONS,
        "PROVENANCE": _provenance(report.provenance),
        "DATA": base64.b64encode(data).decode(),
    }
    for name, text in parts.items():
        page = page.replace(f"@{name}@", text)
    return page


def _lead(report: Report) -> str:
    clips = report.provenance["clips"]
    points: list[Mapping[str, Any]] = [*report.results.points]

    def each(name: str) -> list[Any]:
        return list(dict.fromkeys(p[name] for p in points))

    frames = sorted({c["frames"] for c in clips})
    span = f"{frames[0]}" if len(frames) == 1 else f"{frames[0]} to {frames[-1]}"
    configs = ", ".join(c.upper() for c in each("config"))
    return (
        f"{len(clips)} clips of {span} frames; {' and '.join(each('codec'))}; {configs}; QP "
        f"{', '.join(map(str, each('qp')))}; {len(each('plan'))} plans; enhancers: "
        f"{', '.join(each('enhancer'))}."
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
            cells.append(_cell(_rate(m), _caveat(m), kind))
            cells.append(_cell(_quality(m), _caveat(m, "quality_"), ""))
        out.append(
            f'<tr class="sub"><td class="l">{html.escape(row["enhancer"])}</td>'
            f"{''.join(cells)}</tr>"
        )
    out.append("</tbody></table></div>")
    return "".join(out)


def _cell(text: str, caveat: str, kind: str) -> str:
    """A mean, its interval and number of clips smaller, what it leaves out when pointed at."""
    text = html.escape(text)
    if match := re.fullmatch(r"([^(\[]*)([(\[].*)", text):
        text = f'{match[1]}<span class="range">{match[2]}</span>'
    return f'<td class="{kind}" title="{html.escape(caveat)}">{text}</td>'


def _temporal(r: Results) -> str:
    """A row a codec, configuration, plan and enhancer: both sides, both countings."""
    if not r.temporal:
        return ""
    rows: dict[Setting, dict[Counting, TemporalRow]] = {}
    for t in r.temporal:
        rows.setdefault(setting(t), {})[t["counting"]] = t
    sides: tuple[Literal["test", "anchor", "difference"], ...] = ("test", "anchor", "difference")
    head = "".join(f'<th colspan="3">{words}</th>' for words in ("all frames", "down-sampled"))
    out = [
        "<h2>Consistency over time</h2><p class=soft>Temporal error in code values of luma: how "
        "far a frame's change from the one before is from the source's. Less is better. Mean "
        "over clips and QPs; the plain stream is at the same QPs, where it has other bits.</p>"
        f'<div class="scroll"><table><thead><tr><th></th>{head}</tr>'
        '<tr><th class="l">enhancer</th>'
        + "<th>pair</th><th>plain stream</th><th>difference</th>" * 2
        + "</tr></thead><tbody>"
    ]
    heading = None
    for (codec, config, plan, enhancer), row in rows.items():
        here = f"{codec}, {config.upper()}, {plan}"
        if here != heading:
            heading = here
            out.append(
                '<tr class="plan"><td class="l" colspan="7"><span>'
                f"{html.escape(here)}</span></td></tr>"
            )
        cells = "".join(
            f"<td>{row[c][s]:{'+' if s == 'difference' else ''}.2f}</td>" if c in row
            else "<td>–</td>"
            for c in COUNTINGS for s in sides
        )  # fmt: skip
        out.append(f'<tr class="sub"><td class="l">{html.escape(enhancer)}</td>{cells}</tr>')
    out.append("</tbody></table></div>")
    return "".join(out)


def _page_data(r: Results) -> dict[str, Any]:
    known = metrics_of(r.points)
    index: dict[str, list[str]] = {
        "class": list(dict.fromkeys([ALL, *(m["class"] for m in r.means)])),
        "metric": list(known),
        "method": list(METHODS),
    }
    points: list[Mapping[str, Any]] = [*r.points]
    for name in ("clip", "codec", "config", "plan", "enhancer"):
        index[name] = list(dict.fromkeys(p[name] for p in points))
    place = {name: {v: i for i, v in enumerate(values)} for name, values in index.items()}
    countings = {c: i for i, c in enumerate(COUNTINGS)}

    def key(row: Mapping[str, Any], first: str) -> list[Any]:
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
    metrics = {m: n for m, n in known.items() if any(row["metric"] == m for row in r.bd)}
    return {
        "index": index,
        "metrics": metrics or METRICS,
        "methods": list(METHODS),
        "seen": seen,
        "points": [
            {
                **{k: p[k] for k in ("clip", "codec", "config", "plan", "kind", "enhancer", "qp",
                                     WHOLE, TYPE, "bits")},
                "time": p.get("psnr_y_over_time"),
            }
            for p in points
        ],
        "anchors": [
            {k: a[k] for k in ("clip", "codec", "config", "plan", "qp", WHOLE, TYPE)}
            for a in r.anchors
        ],
        "bd": [[*key(b, "clip"), rounded(b["rate"]), b["trusted"], b["note"]] for b in r.bd],
        "means": [
            [*key(m, "class"), rounded(m["rate"]), not m["low_overlap"], _caveat(m)]
            for m in r.means
        ],
    }  # fmt: skip


def _with_pictures(crop: dict[str, Any]) -> dict[str, Any]:
    """A crop whose pictures are in it, not in a cache."""
    folders = {name: Path(v["folder"]) for name, v in crop["versions"].items()}
    versions = {
        name: {k: x for k, x in v.items() if k != "folder"}
        | {kind: _picture(folders[name] / f"{kind}.png") for kind in ("version", "residual")}
        for name, v in crop["versions"].items()
    }
    source = _picture(folders["anchor"] / "source.png")
    return {**crop, "source": source, "versions": versions}


def _crops(crops: list[dict[str, Any]]) -> str:
    if not crops:
        return ""
    out = [
        "<h2>Crops at equal bits</h2><p class=soft>One down-sampled frame; the region with most "
        "detail. The plain stream is coded at the QP that comes nearest the pair's bits (whole "
        "stream). Below each picture its luma residual: black none, through red and yellow to "
        "white at 32 code values and more.</p>"
    ]
    for c in crops:
        out.append(
            f"<h3>{html.escape(c['clip'])}, frame {c['frame']}; {html.escape(c['codec'])} "
            f"{c['config'].upper()}, {html.escape(c['plan'])}, QP {c['qp']}</h3>"
            f"<p class=soft>Pair {c['bits'] / 1000:.0f} kbit; plain stream at QP {c['anchor_qp']}: "
            f"{c['anchor_bits'] / 1000:.0f} kbit.</p><div class=crops>"
        )
        out.append(
            f'<figure><img alt="source" src="{c["source"]}">'
            "<figcaption>source</figcaption></figure>"
        )
        for name, v in sorted(c["versions"].items(), key=lambda item: item[0] != "anchor"):
            title = f"plain, QP {c['anchor_qp']}" if name == "anchor" else name
            out.append(
                f'<figure><img alt="{html.escape(title)}" src="{v["version"]}">'
                f'<img alt="residual of {html.escape(title)}" '
                f'src="{v["residual"]}"><figcaption>{html.escape(title)}: '
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


def _complexity(rows: list[ComplexityRow]) -> str:
    if not rows:
        return ""
    names = {
        "model": "model", "scale": "k", "size": "size", "parameters_m": "parameters (M)",
        "kmac_per_pixel": "kMAC / pixel", "bytes_per_pixel": "bytes / pixel",
        "operations": "operations", "memory_mib": "peak memory (MiB)", "fps": "frames / s",
        "device": "device",
    }  # fmt: skip
    left = ("model", "size", "device")
    head = "".join(f'<th class="{"l" if n in left else ""}">{t}</th>' for n, t in names.items())
    body = ""
    values: list[Mapping[str, Any]] = [*rows]
    for row in values:
        cells = "".join(
            f'<td class="{"l" if n in left else ""}">'
            f"{html.escape('–' if row.get(n) is None else str(row[n]))}</td>"
            for n in names
        )
        body += f"<tr>{cells}</tr>"
    return (
        "<h2>Complexity</h2><p class=soft>Per enhanced frame; pixels are those of the full size. "
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
<dt>Plain</dt><dd>The plain stream itself, every frame enhanced (k = 1): what enhancing alone gives;
the countings differ by the parameter sets. Without a model nothing is changed, so that BD-rate is
0 by construction; that line checks the whole chain.</dd>
<dt>PSNR</dt><dd>Per frame and plane, then the mean over frames; 6:1:1 is (6 Y + U + V) / 8.</dd>
<dt>SSIM, MS-SSIM, VMAF, XPSNR</dt><dd>FFmpeg's ssim, libvmaf and xpsnr filters on the decoded
frames, luma; VMAF's model v0.6.1.</dd>
<dt>Task metrics</dt><dd>What a machine still finds in the result of what it finds in the source,
in percent: corners; tracks of points (KLT); people (OpenCV's HOG detector); or what the
configuration names.</dd>
<dt>Temporal</dt><dd>Mean absolute difference between a frame's change from the one before and the
source's change, in code values of luma.</dd>
<dt>BD-rate, BD-PSNR</dt><dd>By the bjontegaard library. Overlap is the part of the range that
either curve spans that both span, of quality for a BD-rate and of bits for a BD-PSNR; below
75&nbsp;% a figure is marked †. Means are over the clips that have the figure, which need not be the
same for both; the interval is a percentile bootstrap over clips, which says how far the choice of
clips matters, not more.</dd>
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
