# SPDX-License-Identifier: LGPL-2.1-or-later
"""A whole evaluation: jobs, figures, crops, where it all came from."""

from __future__ import annotations

import math
import os
import platform
import shlex
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import ExternalError, InputError
from ..media.planar import planes_of
from ..plan import Role
from .cache import Cache, Job
from .clips import Clip, ClipSource
from .config import PLAIN, Evaluation
from .execution import Executor, left_to_do
from .graph import AnchorPoint, Enhancer, Graph, Point, build, examine_clips, find_enhancers
from .records import ComplexityRow, CropSpec, StreamSpec
from .results import Results, assemble
from .work import busiest_box, package_version, tools

CROP = (192, 144)  # luma samples
CROP_QP = 37

Progress = Callable[[int, int, float, str], None]
"""Called with (jobs done, jobs there are, share of the work done 0 to 1, what was done)."""


@dataclass
class Outcome:
    """What a run found. crops: sets of pictures of one frame (see _crops)."""

    evaluation: Evaluation
    graph: Graph
    results: Results
    crops: list[dict[str, Any]]
    provenance: dict[str, Any]
    complexity: list[ComplexityRow]


def evaluate(
    evaluation: Evaluation,
    cache: Cache,
    executor: Executor,
    progress: Progress = lambda *_: None,
    say: Callable[[str], None] = lambda _: None,
    partial: bool = False,
    clips: list[Clip] | None = None,
    enhancers: list[Enhancer] | None = None,
) -> Outcome:
    """Runs what the cache does not have, and works out all figures.

    partial: runs nothing; the figures are of the curves that are finished. clips, enhancers: those
    of the evaluation, where they are known already.

    Raises InputError, MissingError, ExternalError, UnfairError."""
    started, clock = datetime.now(UTC), time.perf_counter()
    if enhancers is None:
        enhancers = find_enhancers(evaluation)  # before the clips are read: it may well fail
    if clips is None:
        clips = examine_clips(evaluation)
    graph = build(evaluation, clips, enhancers)
    unfinished = ""
    if partial:
        graph, unfinished = _finished(graph, cache)
    left = left_to_do(graph.jobs, cache)
    # Which plain stream a crop is shown beside is only known when the streams are there. Until
    # then its crops are guessed, so that their number and their time are in the total.
    boxes: Boxes = {}

    def crops_to_show() -> list[dict[str, Any]]:
        sets = _crop_sets(evaluation, graph, cache, boxes)
        return [s for s in sets if all(map(cache.has, s["jobs"].values()))] if partial else sets

    crop_jobs = _jobs(crops_to_show())
    waiting = left_to_do([*graph.jobs, *crop_jobs], cache)
    all_jobs = len(set(graph.jobs) | set(_with_inputs(crop_jobs)))
    say(
        f"{len(clips)} clips, {len(graph.points)} points, {all_jobs} jobs, "
        f"{all_jobs - len(waiting)} of them in the cache"
    )
    count = _Count(progress)
    count.expect(waiting)
    _run(left, graph, cache, executor, count)
    results = assemble(graph, cache, evaluation.exclude_seen)
    if unfinished:
        results.marks.insert(0, unfinished)
    crop_sets = crops_to_show()
    crop_jobs = _jobs(crop_sets)
    left_crops = left_to_do(crop_jobs, cache)
    count.expect(left_crops)
    _run(left_crops, graph, cache, executor, count)
    crops = [_crop_record(s, cache) for s in crop_sets]
    complexity: list[ComplexityRow] = []
    if evaluation.complexity and not partial:
        from .complexity import examine_models

        try:
            complexity = examine_models(
                [x for x in enhancers if x.kind == "model"],
                evaluation.complexity,
                evaluation.device,
                evaluation.precision,
                say,
            )
        except ExternalError as e:  # hours of work are done: the report is worth having
            results.marks.append(f"the complexity of the models is not in the report: {e}")
    provenance = _provenance(evaluation, graph, cache)
    provenance |= {
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - clock, 1),
        "jobs": len(set(graph.jobs) | set(_with_inputs(crop_jobs))),
        "jobs_run": len(left) + len(left_crops),
    }
    return Outcome(evaluation, graph, results, crops, provenance, complexity)


def _finished(graph: Graph, cache: Cache) -> tuple[Graph, str]:
    """The curves all of whose points are in the cache, and a sentence about the others.

    Raises InputError when there is none."""

    def curve(p: Point) -> tuple[object, ...]:
        return (p.clip.name, p.coding, p.config, p.plan, p.enhancer)

    beside: dict[object, list[Job[Any]]] = defaultdict(list)
    for a in graph.anchors:
        beside[a.clip.name, a.coding, a.config, a.plan] += [a.anchor, a.anchor_measure]

    def jobs(p: Point) -> list[Job[Any]]:
        more = beside[p.clip.name, p.coding, p.config, p.plan]
        return [*p.streams.values(), p.anchor, p.measure, p.anchor_measure, *more]

    curves = {curve(p) for p in graph.points}
    missing = {curve(p) for p in graph.points if not all(map(cache.has, jobs(p)))}
    if missing == curves:
        raise InputError(f"no curve is finished in {cache.folder}; run the evaluation first")
    points = [p for p in graph.points if curve(p) not in missing]
    clips = [c for c in graph.clips if any(p.clip is c for p in points)]
    needed = list(dict.fromkeys(job for p in points for job in jobs(p)))
    anchors = [a for a in graph.anchors if a.anchor_measure in needed]
    part = replace(graph, points=points, anchors=anchors, jobs=needed, clips=clips)
    if not missing:
        return part, ""
    return part, (
        f"not finished: {len(missing)} of {len(curves)} curves (one a clip, codec, "
        "configuration, plan and enhancer) are left out, so means are of different clips"
    )


class _Count:
    """Of the jobs done and of those expected, for ``progress``."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._done, self._spent = 0, 0.0
        self._total, self._cost = 0, 0.0

    def expect(self, jobs: list[Job[Any]]) -> None:
        """These are to be done, beside what is done already."""
        self._total = self._done + len(jobs)
        self._cost = self._spent + sum(job.cost for job in jobs)
        if jobs and not self._done:
            self._progress(0, self._total, 0.0, "")

    def __call__(self, job: Job[Any]) -> None:
        self._done, self._spent = self._done + 1, self._spent + job.cost
        share = self._spent / self._cost if self._cost else 1.0
        self._progress(self._done, self._total, share, job.label)


def _run(
    jobs: list[Job[Any]], graph: Graph, cache: Cache, executor: Executor, count: _Count
) -> None:
    if jobs:
        executor.run(jobs, cache, graph.files, count)


# --------------------------------------------------------------------- crops --


Boxes = dict[tuple[str, int], tuple[int, int, int, int]]


def _crop_sets(e: Evaluation, graph: Graph, cache: Cache, boxes: Boxes) -> list[dict[str, Any]]:
    """For some clips, codec and configuration: one frame of the first plan, every enhancer,
    and the anchor at the QP whose bits are nearest the pair's.

    boxes: those found already, by clip and frame."""
    plan = next((p for p in e.plans if p.kind != PLAIN), None)
    if plan is None or not e.crops:
        return []
    qp = min(e.qps, key=lambda q: abs(q - CROP_QP))
    out = []
    for clip in graph.clips[: e.crops]:
        for coding in e.codecs:
            for config in e.configs:
                points = [
                    p
                    for p in graph.points
                    if (p.clip, p.coding, p.config, p.plan, p.qp)
                    == (clip, coding, config, plan, qp)
                ]
                if points:
                    out.append(_crop_set(e, graph, cache, points, boxes))
    return out


def _crop_set(
    e: Evaluation,
    graph: Graph,
    cache: Cache,
    points: list[Point],
    boxes: Boxes,
) -> dict[str, Any]:
    p = points[0]
    lr = p.layout.frames(Role.LR)
    index = min(lr, key=lambda i: abs(i - p.clip.frames // 2))
    if (p.clip.name, index) not in boxes:
        boxes[p.clip.name, index] = _box(p.clip, index)
    box = boxes[p.clip.name, index]
    anchors: dict[int, Point | AnchorPoint] = {
        q.qp: q
        for q in graph.anchors
        if (q.clip, q.coding, q.config, q.plan) == (p.clip, p.coding, p.config, p.plan)
    }
    anchors |= {
        q.qp: q
        for q in graph.points
        if (q.clip, q.coding, q.config, q.plan, q.enhancer)
        == (p.clip, p.coding, p.config, p.plan, p.enhancer)
    }
    if all(cache.has(j) for j in (*p.streams.values(), *(q.anchor for q in anchors.values()))):
        pair_bits = sum(cache.stream(j)["bits"] for j in p.streams.values())
        bits = {qp: cache.stream(q.anchor)["bits"] for qp, q in anchors.items()}
        anchor_qp = nearest_qp(bits, pair_bits, p.coding.codec.max_qp)
    else:
        pair_bits, anchor_qp = 0, p.qp + 1  # a guess: mostly it is a stream of its own
    anchor = p.anchor if anchor_qp == p.qp else _anchor_at(p, anchor_qp)
    jobs: dict[str, Job[CropSpec]] = {}
    for point in points:
        spec: CropSpec = {**point.measure.spec, "index": index, "box": list(box)}
        jobs[point.enhancer.name] = Job(
            "crop", spec, point.measure.inputs, point.measure.files,
            point.measure.cost, f"crop {p.clip.name} {point.enhancer.name}",
        )  # fmt: skip
    spec = {**p.anchor_measure.spec, "index": index, "box": list(box)}
    jobs["anchor"] = Job(
        "crop", spec, {"plain": anchor}, p.anchor_measure.files,
        p.anchor_measure.cost, f"crop {p.clip.name} anchor QP {anchor_qp}",
    )  # fmt: skip
    return {
        "clip": p.clip.name,
        "codec": p.coding.label,
        "config": p.config.value,
        "plan": p.plan.label,
        "qp": p.qp,
        "anchor_qp": anchor_qp,
        "frame": index,
        "box": list(box),
        "bits": pair_bits,
        "anchor": anchor,
        "jobs": jobs,
    }


def _jobs(sets: list[dict[str, Any]]) -> list[Job[Any]]:
    return [job for s in sets for job in s["jobs"].values()]


def _with_inputs(jobs: list[Job[Any]]) -> list[Job[Any]]:
    return [*jobs, *(x for job in jobs for x in job.inputs.values())]


def nearest_qp(bits: dict[int, int], wanted: float, highest: int) -> int:
    """The QP at which a stream would have about ``wanted`` bits, by the measured ones.

    log(bits) falls nearly linearly with QP; beyond the measured QPs it is extended."""
    qps = sorted(bits)
    logs = [math.log(bits[q]) for q in qps]
    target = math.log(wanted)
    for (q0, q1), (l0, l1) in zip(pairwise(qps), pairwise(logs), strict=True):
        inside = l1 <= target <= l0
        if inside or (target > l0 and q0 == qps[0]) or (target < l1 and q1 == qps[-1]):
            if l0 == l1:
                return q0
            return min(highest, max(0, round(q0 + (l0 - target) / (l0 - l1) * (q1 - q0))))
    return min(qps, key=lambda q: abs(math.log(bits[q]) - target))


def _anchor_at(p: Point, qp: int) -> Job[StreamSpec]:
    spec: StreamSpec = {**p.anchor.spec, "qp": qp}
    return Job("stream", spec, {}, p.anchor.files, p.anchor.cost, f"{p.anchor.label} as QP {qp}")


def _box(clip: Clip, index: int) -> tuple[int, int, int, int]:
    with ClipSource(str(clip.path), index + 1) as video:
        full = video.planar()
        for frame in video:
            last = frame
        return busiest_box(planes_of(full(last)), *CROP)


def _crop_record(crop: dict[str, Any], cache: Cache) -> dict[str, Any]:
    """What the report shows: paths of the pictures, their PSNR, bits of both sides."""
    out = {k: v for k, v in crop.items() if k not in ("jobs", "anchor")}
    out["anchor_bits"] = cache.stream(crop["anchor"])["bits"]
    out["versions"] = {
        name: {**cache.record(job), "folder": str(cache.path(job))}
        for name, job in crop["jobs"].items()
    }
    return out


# ---------------------------------------------------------------- provenance --


def _provenance(e: Evaluation, graph: Graph, cache: Cache) -> dict[str, Any]:
    """Versions, machine, clips, models and commands; no path of this machine."""
    commands: dict[str, str] = {}
    made_by: set[str] = set()
    ran: dict[str, set[str]] = {x.key: set() for x in graph.enhancers}
    for p in graph.points:
        ran[p.enhancer.key].add(cache.measure(p.measure).get("ran", "not recorded"))
        for role, job in (("anchor", p.anchor), *p.streams.items()):
            where = f"{p.coding.label} {p.config.value.upper()}, {role}"
            record = cache.stream(job)
            made_by.add(record.get("pictures_by", "not recorded"))
            k = job.spec["scale"]
            name = where + (f" at 1/{k}" if k > 1 else "") + f", QP {job.spec['qp']}"
            if p.qp == e.qps[0] and p.clip is graph.clips[0]:
                commands.setdefault(name, record["command"])
    return {
        "command": shlex.join(["tds", *sys.argv[1:]]),
        "versions": {
            "tds-codec": __version__,
            "engine": tools()["engine"],
            "decoder": tools()["decoder"],
            "sources decoded and scaled by": "; ".join(sorted(made_by)),
            "quality filters": tools()["metrics"],
            **{c.encoder: c.adapter.fingerprint() for c in e.codecs},
            **{n: package_version(n) for n in ("bjontegaard", "numpy", "torch")},
            "Python": platform.python_version(),
        },
        "machine": machine(),
        "clips": [
            {
                "name": c.name,
                "class": c.group,
                "size": f"{c.width}x{c.height}",
                "frames": c.frames,
                "rate": str(c.rate),
                "bit_depth": c.bit_depth,
                "sha256": c.sha256,
                "pictures_md5": c.pictures_md5,
            }
            for c in graph.clips
        ],
        "models": [
            {
                "name": x.name,
                "scale": x.scale,
                "sha256": x.sha256,
                "code": x.code,
                "ran": "; ".join(sorted(ran[x.key])),
                "version": x.metadata.get("version", ""),
                "training": (x.metadata.get("training") or {}).get("summary", ""),
                "training_clips": len(x.seen),
            }
            for x in graph.enhancers
            if x.kind == "model"
        ],
        "streams": commands,
        "configuration": e.source.read_text(encoding="utf-8") if e.source else "",
    }


def machine() -> dict[str, Any]:
    """Of the process that ran the evaluation."""
    out: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
    }
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        out["memory_gib"] = round(pages * size / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        pass
    return out


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
