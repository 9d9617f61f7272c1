# SPDX-License-Identifier: LGPL-2.1-or-later
"""From finished jobs to figures: both countings, BD tables, what is unfair about them.

*Whole stream*: all frames and all bits; what a user pays. *Per frame type* (the paper's):
the frames that were down-sampled, and the bits of their packets, against the same frames
of the anchor. The LR stream's down-sampled boundaries and the parameter sets count in the
first only.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError
from ..plan import Role
from .bd import METHODS, Curve, bd_quality, bd_rate, mean_over_clips
from .cache import Cache
from .graph import Graph, Point
from .metrics import averages

WHOLE, TYPE = "whole", "type"
COUNTINGS = {WHOLE: "whole stream", TYPE: "per frame type"}
METRICS = {
    "psnr_y": "PSNR Y",
    "psnr_611": "PSNR 6:1:1",
    "psnr_u": "PSNR U",
    "psnr_v": "PSNR V",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
    "vmaf": "VMAF",
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


def facts(point: Point, cache: Cache, anchor: bool) -> Facts:
    """From what was really run, not from what was asked for."""
    jobs = [point.anchor] if anchor else list(point.streams.values())
    measure = point.anchor_measure if anchor else point.measure
    records = [cache.record(job) for job in jobs]
    starts = point.layout.plain if anchor or "plain" in point.streams else None
    if starts is not None:
        restarts = tuple(s.frames[0] for s in starts)
    else:
        # Both streams restart at the same boundary; HR has it, or LR when there is no HR.
        own = point.layout.hr or point.layout.lr
        restarts = tuple(s.frames[0] for s in own)
    job = jobs[0]

    def one(name: str) -> str:
        values = {str(r[name]) for r in records}
        if len(values) > 1:
            raise UnfairError(
                f"{measure.label}: its streams are of different {name}s: {', '.join(values)}"
            )
        return values.pop()

    return Facts(
        job.spec["clip"],
        len(cache.record(measure)["status"]),
        job.spec["codec"],
        job.spec["config"],
        point.qp,
        one("encoder"),
        one("preset"),
        restarts,
        frozenset(r["cpus"] for r in records),
    )


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
    if anchor.cpus | test.cpus != anchor.cpus:
        return ["anchor and test were coded on machines with different numbers of cores"]
    return []


@dataclass
class Results:
    """Plain values throughout, as in results.json (docs/evaluation.md has its fields)."""

    points: list[dict[str, Any]] = field(default_factory=list)
    bd: list[dict[str, Any]] = field(default_factory=list)
    means: list[dict[str, Any]] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)


GROUP = ("codec", "config", "plan", "enhancer")


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
    for enhancer in graph.enhancers:
        for clip in graph.clips:
            if enhancer.saw(clip):
                end = " and is left out of its means" if exclude_seen else ""
                marks[f"the model {enhancer.name} was trained on {clip.name}; "
                      f"the clip is marked{end}"] = None  # fmt: skip
        if enhancer.kind == "model" and not enhancer.seen:
            marks[f"the card of the model {enhancer.name} (k = {enhancer.scale}) does not say "
                  "which clips it was trained on, so it cannot be checked"] = None  # fmt: skip
    for name, plan, plain, total in _not_enhanced(graph, out.points):
        marks[
            f"the model {name} enhanced {total - plain} of {total} down-sampled frames in the plan "
            f"{plan}; it has no way without references, so the others are bicubic"
        ] = None
    out.bd = _bd(out.points)
    out.means = _means(out.bd, exclude_seen)
    luma = [r for r in out.bd if (r["metric"], r["method"]) == ("psnr_y", "pchip")]
    none = sum(r["rate"] is None for r in luma)
    low = sum(r["rate"] is not None and not r["trusted"] for r in luma)
    if low or none:
        marks[f"of {len(luma)} luma BD-rates (one a clip, setting and counting) {low} rest on "
              f"curves that overlap in less than 75 % and are marked with †, and {none} have no "
              "figure, mostly because the curves do not overlap at all"] = None  # fmt: skip
    out.marks = list(marks)
    return out


def _not_enhanced(graph: Graph, points: list[dict[str, Any]]) -> list[tuple[str, str, int, int]]:
    """(model, plan, frames that were only up-sampled, frames to enhance), where there are any."""
    models = {x.name for x in graph.enhancers if x.kind == "model"}
    counts: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for p in points:
        if p["enhancer"] in models:
            count = counts[p["enhancer"], p["plan"]]
            count[0] += p["statuses"].get("upsampled", 0)
            count[1] += p["down_sampled"]
    return [(name, plan, n, of) for (name, plan), (n, of) in counts.items() if n]


def _point(point: Point, cache: Cache) -> dict[str, Any]:
    test, anchor = cache.record(point.measure), cache.record(point.anchor_measure)
    streams = {name: cache.record(job) for name, job in point.streams.items()}
    plain = cache.record(point.anchor)
    seconds = point.clip.seconds
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

    def side(bits: float, quality: dict[str, Any], frames: Iterable[int]) -> dict[str, Any]:
        figures = {k: _round(v) for k, v in averages(quality, frames).items()}
        return {"bits": bits, "kbps": _round(bits / seconds / 1000), **figures}

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


def _round(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 5)


def curve(points: list[dict[str, Any]], counting: str, side: str, metric: str) -> Curve:
    """(kbit/s, quality) of one side of the points."""
    return [
        (p[counting][side]["kbps"], math.nan if (q := p[counting][side][metric]) is None else q)
        for p in points
    ]


def _bd(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    curves: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for p in points:
        curves[tuple(p[k] for k in ("clip", *GROUP))].append(p)
    out = []
    for (clip, *group), own in curves.items():
        for counting in COUNTINGS:
            for metric in METRICS:
                anchor = curve(own, counting, "anchor", metric)
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
                            **dict(zip(GROUP, group, strict=True)),
                            "seen": own[0]["seen"],
                            "counting": counting,
                            "metric": metric,
                            "method": method,
                            "rate": _round(rate.value),
                            "quality": _round(quality.value),
                            "overlap": round(rate.overlap, 4),
                            "trusted": rate.trusted,
                            "note": rate.note,
                        }
                    )
    return out


ALL = "all clips"


def _means(bd: list[dict[str, Any]], exclude_seen: bool) -> list[dict[str, Any]]:
    rows: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in bd:
        if exclude_seen and row["seen"]:
            continue
        rest = tuple(row[k] for k in (*GROUP, "counting", "metric", "method"))
        for name in (row["class"], ALL):
            rows[(name, *rest)].append(row)
    out = []
    for key, own in rows.items():
        name, others = key[0], key[1:]
        rates = [r["rate"] for r in own if r["rate"] is not None]
        mean = mean_over_clips(rates)
        quality = mean_over_clips([r["quality"] for r in own if r["quality"] is not None])
        out.append(
            {
                "class": name,
                **dict(zip((*GROUP, "counting", "metric", "method"), others, strict=True)),
                "rate": _round(mean.value),
                "low": _round(mean.low),
                "high": _round(mean.high),
                "quality": _round(quality.value),
                "clips": mean.clips,
                "without_figure": len(own) - mean.clips,
                "low_overlap": sum(not r["trusted"] for r in own if r["rate"] is not None),
            }
        )
    return out
