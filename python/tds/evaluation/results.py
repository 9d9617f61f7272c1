# SPDX-License-Identifier: LGPL-2.1-or-later
"""From finished jobs to figures: both countings, BD tables, what is unfair about them.

*Whole stream*: all frames and all bits; what a user pays. *Per frame type* (the paper's):
the frames that were down-sampled, and the bits of their packets, against the same frames
of the anchor. The LR stream's down-sampled boundaries and the parameter sets count in the
first only.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any, Literal, TypeVar, cast

from ..errors import InputError
from ..plan import Role
from .bd import METHODS, Curve, bd_quality, bd_rate, mean_over_clips
from .cache import Cache
from .clips import Clip
from .config import LR_ONLY
from .graph import AnchorPoint, Graph, Point
from .machines import TASKS
from .metrics import averages, task_averages
from .records import (
    AnchorRow,
    BdRow,
    Counting,
    MeanRow,
    Means,
    Metric,
    PointRow,
    Quality,
    Side,
    SideName,
    StreamRecord,
    TemporalRow,
)
from .work import starts

T = TypeVar("T")

WHOLE: Counting = "whole"
TYPE: Counting = "type"
SIDES: tuple[SideName, ...] = ("test", "anchor")
ANCHOR_OF: tuple[Literal["clip", "codec", "config", "plan"], ...] = (
    *("clip", "codec", "config", "plan"),
)
COUNTINGS: dict[Counting, str] = {WHOLE: "whole stream", TYPE: "per frame type"}
METRICS: dict[Metric, str] = {
    "psnr_y": "PSNR Y",
    "psnr_611": "PSNR 6:1:1",
    "psnr_u": "PSNR U",
    "psnr_v": "PSNR V",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
    "vmaf": "VMAF",
    "xpsnr": "XPSNR",
}


def value_of(side: Side, metric: Metric) -> float | None:
    """Of one of METRICS, or a task metric."""
    return cast(Mapping[str, float | None], side).get(metric)


def metrics_of(points: Iterable[PointRow]) -> dict[Metric, str]:
    """METRICS and the task metrics that these points have, with their titles."""
    known = {*Side.__annotations__, *Means.__annotations__}
    tasks = dict.fromkeys(name for p in points for name in p[WHOLE]["test"] if name not in known)
    return METRICS | {
        name: TASKS[name].title if name in TASKS else name.rpartition(":")[2] for name in tasks
    }


class UnfairError(InputError):
    """Two results that may not be set side by side."""


@dataclass(frozen=True)
class Facts:
    """What must be equal, or at least known, of two results that are compared."""

    clip: str
    frames: int
    codec: str
    config: str
    qp: int
    encoder: str
    preset: str
    restarts: tuple[int, ...]
    cpus: frozenset[int]
    pictures_by: frozenset[str] = frozenset()


def facts(point: Point | AnchorPoint, cache: Cache, anchor: bool) -> Facts:
    """From the records of what was run, not from what was asked for.

    Raises UnfairError for streams of a pair that do not belong together."""
    if anchor or isinstance(point, AnchorPoint):
        streams, measure = {"plain": point.anchor}, point.anchor_measure
    else:
        streams, measure = point.streams, point.measure
    # Records of before they held these say it by their key, which is the hash of the description.
    records = {
        name: cast(
            StreamRecord,
            {k: job.spec[k] for k in ("clip", "codec", "config", "qp")} | cache.record(job),
        )
        for name, job in streams.items()
    }
    if "lr" in records:
        records["lr"]["qp"] -= point.plan.lr_qp_offset

    def one(name: str, of: Callable[[StreamRecord], T]) -> T:
        values = {of(r) for r in records.values()}
        if len(values) > 1:
            raise UnfairError(
                f"{measure.label}: its streams are of different {name}s: "
                f"{', '.join(sorted(map(str, values)))}"
            )
        return values.pop()

    # HR has every boundary, and so the first frame after each restart.
    first = next(records[name] for name in ("plain", "hr", "lr") if name in records)
    restarts = starts(first)
    for record in records.values():
        if starts(record) != _first_from(restarts, record["frames"]):
            raise UnfairError(f"{measure.label}: its streams restart at different frames")
    return Facts(
        one("clip", lambda r: r["clip"]),
        len(cache.measure(measure)["status"]),
        one("codec", lambda r: r["codec"]),
        one("config", lambda r: r["config"]),
        one("qp", lambda r: r["qp"]),
        one("encoder", lambda r: r["encoder"]),
        one("preset", lambda r: r["preset"]),
        tuple(restarts),
        frozenset(r["cpus"] for r in records.values()),
        frozenset(r["pictures_by"] for r in records.values() if "pictures_by" in r),
    )


def _first_from(restarts: list[int], frames: list[int]) -> list[int]:
    """The first of ``frames`` in each stretch from one restart to the next, where it has any."""
    out: list[int] = []
    for begin, end in pairwise([*restarts, math.inf]):
        out += [f for f in frames if begin <= f < end][:1]
    return out


def check_fair(anchor: Facts, test: Facts, what: str) -> list[str]:
    """Raises UnfairError when the two may not be compared; returns what is to be marked."""
    for name, reason in (
        ("clip", "different clips"),
        ("frames", "different numbers of frames"),
        ("codec", "different codecs"),
        ("config", "different configurations"),
        ("qp", "different QPs"),
        ("encoder", "different encoders or versions"),
        ("preset", "different presets"),
        ("restarts", "different random-access points"),
    ):
        a, t = getattr(anchor, name), getattr(test, name)
        if a != t:
            raise UnfairError(f"{what}: anchor and test have {reason} ({a} and {t})")
    marks = []
    if anchor.cpus | test.cpus != anchor.cpus:
        marks.append("anchor and test were coded on machines with different numbers of cores")
    if len(versions := anchor.pictures_by | test.pictures_by) > 1:
        marks.append(
            "the pictures that were coded come from different versions of the libraries that "
            f"decode and scale the source: {'; '.join(sorted(versions))}"
        )
    return marks


@dataclass
class Results:
    """Plain values throughout, as in results.json (records.py has their types)."""

    points: list[PointRow] = field(default_factory=list)
    anchors: list[AnchorRow] = field(default_factory=list)
    bd: list[BdRow] = field(default_factory=list)
    means: list[MeanRow] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)
    temporal: list[TemporalRow] = field(default_factory=list)


Setting = tuple[str, str, str, str]
"""Codec, configuration, plan and enhancer: what a curve, and a mean over clips, is of."""


def setting(row: PointRow | BdRow | MeanRow | TemporalRow) -> Setting:
    return row["codec"], row["config"], row["plan"], row["enhancer"]


def assemble(graph: Graph, cache: Cache, exclude_seen: bool = True) -> Results:
    """All figures of a finished graph. Raises UnfairError."""
    out = Results()
    marks: dict[str, None] = {}
    for point in graph.points:
        for mark in check_fair(
            facts(point, cache, True), facts(point, cache, False), point.measure.label
        ):
            marks[mark] = None
        out.points.append(_point(point, cache))
    beside = {curve_of(p): facts(p, cache, True) for p in graph.points}
    for anchor in graph.anchors:
        if (known := beside.get(curve_of(anchor))) is not None:
            of = replace(facts(anchor, cache, True), qp=known.qp)
            marks |= dict.fromkeys(check_fair(of, known, anchor.anchor_measure.label))
            out.anchors.append(_anchor(anchor, cache))
    for enhancer in graph.enhancers:
        for clip in graph.clips:
            if enhancer.saw(clip):
                end = " and is left out of its means" if exclude_seen else ""
                marks[f"the model {enhancer.name} was trained on {clip.name}; "
                      f"the clip is marked{end}"] = None  # fmt: skip
        if enhancer.kind == "model" and not enhancer.seen:
            marks[f"the card of the model {enhancer.name} (k = {enhancer.scale}) does not say "
                  "which clips it was trained on, so it cannot be checked"] = None  # fmt: skip
        if enhancer.wants_references and any(p.plan.kind == LR_ONLY for p in graph.points):
            marks[f"the model {enhancer.name} (k = {enhancer.scale}) does nothing without "
                  "references, so it has no LR-only points"] = None  # fmt: skip
    for name, plan, plain, total in _not_enhanced(graph, out.points):
        marks[
            f"the model {name} enhanced {total - plain} of {total} down-sampled frames in the plan "
            f"{plan}; it has no way without references, so the others are bicubic"
        ] = None
    out.bd = _bd(out.points, out.anchors)
    out.means = _means(out.points, out.bd, exclude_seen)
    out.temporal = _temporal(out.points, exclude_seen)
    out.marks = list(dict.fromkeys([*marks, *_overlap_marks(out.bd)]))
    return out


def curve_of(point: Point | AnchorPoint) -> tuple[str, str, str, str]:
    """What an anchor's curve is of; the names are those in rows."""
    return point.clip.name, point.coding.label, point.config.value, point.plan.label


def assemble_again(
    points: list[PointRow],
    marks: list[str],
    exclude_seen: bool = True,
    anchors: Sequence[AnchorRow] = (),
) -> Results:
    """All figures from the points of a report, which hold everything that was measured.

    marks: those of the report; what they say of figures is brought up to date."""
    for side in (p[counting][s] for p in points for counting in COUNTINGS for s in SIDES):
        for metric in METRICS:
            cast(dict[str, Any], side).setdefault(metric, None)  # reports of before have fewer
    bd = _bd(points, anchors)
    return Results(
        points,
        list(anchors),
        bd,
        _means(points, bd, exclude_seen),
        list(dict.fromkeys([*(m for m in marks if not _OVERLAP.match(m)), *_overlap_marks(bd)])),
        _temporal(points, exclude_seen),
    )


_OVERLAP = re.compile(r"of \d+ luma BD-")


def _overlap_marks(bd: list[BdRow]) -> list[str]:
    """How many of the luma figures cannot be trusted, of the BD-rates and of the BD-PSNRs."""
    luma = [r for r in bd if (r["metric"], r["method"]) == ("psnr_y", "pchip")]
    out = []
    rates = [(r["rate"], r["trusted"]) for r in luma]
    qualities = [(r["quality"], r["quality_trusted"]) for r in luma]
    for words, figures, range_of in (
        ("luma BD-rates", rates, "curves that overlap"),
        ("luma BD-PSNRs", qualities, "curves whose ranges of bits overlap"),
    ):
        none = sum(value is None for value, _ in figures)
        low = sum(value is not None and not trusted for value, trusted in figures)
        if low or none:
            text = (
                f"of {len(luma)} {words} (one a clip, setting and counting) {low} rest on "
                f"{range_of} in less than 75 % and are marked with †"
            )
            if none:
                text += (
                    f", and {none} have no figure, mostly because the curves do not overlap at all"
                )
            out.append(text)
    return out


def _not_enhanced(graph: Graph, points: list[PointRow]) -> list[tuple[str, str, int, int]]:
    """(model, plan, frames that were only up-sampled, frames to enhance), where there are any."""
    models = {x.name for x in graph.enhancers if x.kind == "model"}
    counts: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for p in points:
        if p["enhancer"] in models:
            count = counts[p["enhancer"], p["plan"]]
            count[0] += p["statuses"].get("upsampled", 0)
            count[1] += p["down_sampled"]
    return [(name, plan, n, of) for (name, plan), (n, of) in counts.items() if n]


def _point(point: Point, cache: Cache) -> PointRow:
    test, anchor = cache.measure(point.measure), cache.measure(point.anchor_measure)
    streams = {name: cache.stream(job) for name, job in point.streams.items()}
    plain = cache.stream(point.anchor)
    lr_frames = point.layout.frames(Role.LR)
    everything = range(point.clip.frames)
    plain_bits = dict(zip(plain["frames"], plain["frame_bits"], strict=True))
    of_lr = streams.get("lr", plain)
    lr_bits = {
        frame: bits
        for frame, bits, lead in zip(
            of_lr["frames"], of_lr["frame_bits"], of_lr["leads"], strict=True
        )
        if not lead
    }
    lead_bits = sum(b for b, lead in zip(of_lr["frame_bits"], of_lr["leads"], strict=True) if lead)

    side = partial(_side, point.clip)
    whole_bits = sum(r["bits"] for r in streams.values())
    return {
        "clip": point.clip.name,
        "class": point.clip.group,
        "codec": point.coding.label,
        "config": point.config.value,
        "plan": point.plan.label,
        "kind": point.plan.kind,
        "enhancer": point.enhancer.name,
        "seen": point.enhancer.saw(point.clip),
        "qp": point.qp,
        "frames": point.clip.frames,
        "down_sampled": len(lr_frames),
        "whole": {
            "test": side(whole_bits, test["quality"], everything),
            "anchor": side(plain["bits"], anchor["quality"], everything),
        },
        "type": {
            "test": side(sum(lr_bits[i] for i in lr_frames), test["quality"], lr_frames),
            "anchor": side(sum(plain_bits[i] for i in lr_frames), anchor["quality"], lr_frames),
        },
        "bits": {
            "hr": streams["hr"]["bits"] if "hr" in streams else 0,
            "lr": streams["lr"]["bits"] - lead_bits if "lr" in streams else 0,
            "lr_leads": lead_bits,
            "plain": streams["plain"]["bits"] if "plain" in streams else 0,
            "anchor_hr_frames": sum(
                b for i, b in plain_bits.items() if point.layout.roles[i] is Role.HR
            ),
            "anchor_lr_frames": sum(plain_bits[i] for i in lr_frames),
        },
        "psnr_y_over_time": {
            "test": [round(x, 2) for x in test["quality"]["y"]],
            "anchor": [round(x, 2) for x in anchor["quality"]["y"]],
            "roles": "".join("H" if r is Role.HR else "L" for r in point.layout.roles),
        },
        "statuses": {s: test["status"].count(s) for s in sorted(set(test["status"]))},
        "fps": test["fps"],
    }


def _anchor(point: AnchorPoint, cache: Cache) -> AnchorRow:
    clip, codec, config, plan = curve_of(point)
    quality = cache.measure(point.anchor_measure)["quality"]
    stream = cache.stream(point.anchor)
    lr_frames = point.layout.frames(Role.LR)
    of_frame = dict(zip(stream["frames"], stream["frame_bits"], strict=True))
    return {
        "clip": clip,
        "codec": codec,
        "config": config,
        "plan": plan,
        "qp": point.qp,
        "whole": _side(point.clip, stream["bits"], quality, range(point.clip.frames)),
        "type": _side(point.clip, sum(of_frame[i] for i in lr_frames), quality, lr_frames),
    }


def _side(clip: Clip, bits: float, quality: Quality, frames: Iterable[int]) -> Side:
    frames = list(frames)
    means = averages(quality, frames)
    if means["temporal"] is not None:  # as at 8 bit: it is averaged
        means["temporal"] /= 2 ** (clip.bit_depth - 8)
    out = {**means, **task_averages(quality, frames)}
    figures = {name: x if x is None else round(cast(float, x), 5) for name, x in out.items()}
    figures["temporal"] = means["temporal"]
    return cast(Side, {"bits": bits, "kbps": round(bits / clip.seconds / 1000, 5), **figures})


def _round(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 5)


def curve(
    points: list[PointRow],
    counting: Counting,
    side: SideName,
    metric: Metric,
    anchors: Sequence[AnchorRow] = (),
) -> Curve:
    """(kbit/s, quality) of one side of the points; of the anchor's also those of ``anchors`` that
    are of the same clip, codec, configuration and plan."""
    sides = [p[counting][side] for p in points]
    if side == "anchor" and points:
        own = points[0]
        sides += [a[counting] for a in anchors if all(a[k] == own[k] for k in ANCHOR_OF)]
    return [(s["kbps"], math.nan if (q := value_of(s, metric)) is None else q) for s in sides]


def _bd(points: list[PointRow], anchors: Sequence[AnchorRow]) -> list[BdRow]:
    curves: dict[tuple[str, Setting], list[PointRow]] = defaultdict(list)
    for p in points:
        curves[p["clip"], setting(p)].append(p)
    metrics = metrics_of(points)
    out: list[BdRow] = []
    for (clip, (codec, config, plan, enhancer)), own in curves.items():
        for counting in COUNTINGS:
            for metric in metrics:
                anchor = curve(own, counting, "anchor", metric, anchors)
                test = curve(own, counting, "test", metric)
                if any(math.isnan(q) for _, q in (*anchor, *test)):
                    continue
                for method in METHODS:
                    rate = bd_rate(anchor, test, method)
                    quality = bd_quality(anchor, test, method)
                    out.append(
                        {
                            "clip": clip,
                            "class": own[0]["class"],
                            "codec": codec,
                            "config": config,
                            "plan": plan,
                            "enhancer": enhancer,
                            "seen": own[0]["seen"],
                            "counting": counting,
                            "metric": metric,
                            "method": method,
                            "rate": _round(rate.value),
                            "quality": _round(quality.value),
                            "overlap": round(rate.overlap, 4),
                            "trusted": rate.trusted,
                            "note": rate.note,
                            "quality_overlap": round(quality.overlap, 4),
                            "quality_trusted": quality.trusted,
                        }
                    )
    return out


ALL = "all clips"


def _means(points: list[PointRow], bd: list[BdRow], exclude_seen: bool) -> list[MeanRow]:
    """Over clips. without_figure counts all other clips of the class: those whose curves do not
    overlap, that have not the metric, that are not finished, that the model saw."""
    clips: dict[str, set[str]] = defaultdict(set)
    for p in points:
        clips[p["class"]].add(p["clip"])
        clips[ALL].add(p["clip"])
    rows: dict[tuple[str, Setting, Counting, Metric, str], list[BdRow]] = defaultdict(list)
    for row in bd:
        if exclude_seen and row["seen"]:
            continue
        for name in (row["class"], ALL):
            key = (name, setting(row), row["counting"], row["metric"], row["method"])
            rows[key].append(row)
    out: list[MeanRow] = []
    for (name, (codec, config, plan, enhancer), counting, metric, method), own in rows.items():
        rates = [r["rate"] for r in own if r["rate"] is not None]
        mean = mean_over_clips(rates)
        quality = mean_over_clips([r["quality"] for r in own if r["quality"] is not None])
        out.append(
            {
                "class": name,
                "codec": codec,
                "config": config,
                "plan": plan,
                "enhancer": enhancer,
                "counting": counting,
                "metric": metric,
                "method": method,
                "rate": _round(mean.value),
                "low": _round(mean.low),
                "high": _round(mean.high),
                "clips": mean.clips,
                "without_figure": len(clips[name]) - mean.clips,
                "low_overlap": sum(not r["trusted"] for r in own if r["rate"] is not None),
                # Over clips of its own: a clip may have the one figure and not the other.
                "quality": _round(quality.value),
                "quality_low": _round(quality.low),
                "quality_high": _round(quality.high),
                "quality_clips": quality.clips,
                "quality_without_figure": len(clips[name]) - quality.clips,
                "quality_low_overlap": sum(
                    not r["quality_trusted"] for r in own if r["quality"] is not None
                ),
            }
        )
    return out


def _temporal(points: list[PointRow], exclude_seen: bool) -> list[TemporalRow]:
    """Temporal error of both sides at equal QPs, mean over clips and QPs.

    Not among METRICS: less is better, so there is no BD figure of it."""
    rows: dict[Setting, list[PointRow]] = defaultdict(list)
    for p in points:
        if not (exclude_seen and p["seen"]):
            rows[setting(p)].append(p)
    out: list[TemporalRow] = []
    for (codec, config, plan, enhancer), own in rows.items():
        for counting in COUNTINGS:
            sides = [(p[counting]["test"]["temporal"], p[counting]["anchor"]["temporal"])
                     for p in own]  # fmt: skip
            given = [(t, a) for t, a in sides if t is not None and a is not None]
            if not given:
                continue
            test, anchor = (sum(x) / len(given) for x in zip(*given, strict=True))
            out.append(
                {
                    "codec": codec,
                    "config": config,
                    "plan": plan,
                    "enhancer": enhancer,
                    "counting": counting,
                    "test": _round(test),
                    "anchor": _round(anchor),
                    "difference": _round(test - anchor),
                    "clips": len({p["clip"] for p in own}),
                }
            )
    return out
