# SPDX-License-Identifier: LGPL-2.1-or-later
"""From a configuration to jobs: every stream once, every measurement once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from .. import _tds
from ..codecs import Codec, Config
from ..errors import InputError, MissingError
from ..files import sha256_of
from ..plan import Role
from .cache import Job, Spec
from .clips import Clip, examine, find_clips
from .config import ALL_MODELS, BASELINES, LR_ONLY, PASSED, PLAIN, Coding, Evaluation, Plan
from .layout import Layout, Segments, lay_out, to_plain
from .machines import versions
from .records import EnhancerSpec, MeasureSpec, PairedSpec, StreamSpec
from .work import SAME, device_of, tools

# Rough cost of coding and of measuring one luma sample, in a common unit, for the time left.
_COST = {Codec.VVC: 10.0, Codec.HEVC: 2.0, Codec.H264: 1.0, Codec.AV1: 2.0}
_COST_CONFIG = {Config.AI: 1.0, Config.LDP: 2.0, Config.RA: 2.0}
_COST_MEASURE = {"plain": 1.0, "bicubic": 1.2, "lanczos": 1.2, "model": 8.0}


@dataclass(frozen=True)
class Enhancer:
    """What rebuilds LR frames. kind: bicubic, lanczos or model.

    path, metadata: of a model's archive. sha256: of the model's file as found, weights or
    archive. code: of the networks where the archive was made here from weights. seen: hashes of
    the clips it was trained on, as its card says."""

    name: str
    kind: str
    scale: int
    sha256: str = ""
    path: Path | None = None
    code: str = ""
    metadata: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def key(self) -> str:
        """Equal for models that give equal pictures: jobs and files go by it."""
        return f"{self.sha256}-{self.code}" if self.code else self.sha256

    @property
    def seen(self) -> frozenset[str]:
        training = self.metadata.get("training") or {}
        return frozenset(str(s).lower() for s in training.get("sources") or ())

    @property
    def wants_references(self) -> bool:
        """A model that without a reference does nothing, so the engine gives bicubic."""
        of_contract_1 = self.kind == "model" and self.metadata.get("tds_model", 1) == 1
        return of_contract_1 and not self.metadata.get("no_reference", False)

    def saw(self, clip: Clip) -> bool:
        return bool(self.seen & {clip.sha256, clip.pictures_md5})


@dataclass(frozen=True)
class Point:
    """One test point with the anchor's beside it: five jobs at most.

    streams: by role, or ``plain`` alone when k = 1."""

    clip: Clip
    coding: Coding
    config: Config
    plan: Plan
    enhancer: Enhancer
    qp: int
    layout: Layout
    streams: dict[str, Job[StreamSpec]]
    measure: Job[MeasureSpec]
    anchor: Job[StreamSpec]
    anchor_measure: Job[MeasureSpec]


@dataclass(frozen=True)
class AnchorPoint:
    """The plain stream at a QP at which no pair is coded, as the anchor of a plan."""

    clip: Clip
    coding: Coding
    config: Config
    plan: Plan
    qp: int
    layout: Layout
    anchor: Job[StreamSpec]
    anchor_measure: Job[MeasureSpec]


@dataclass
class Graph:
    """Everything to be run. anchors: beside those of the points. files: source clips by sha256
    and models by key."""

    points: list[Point]
    anchors: list[AnchorPoint]
    jobs: list[Job[Any]]
    files: dict[str, Path]
    enhancers: list[Enhancer]
    clips: list[Clip]


def find_enhancers(evaluation: Evaluation) -> list[Enhancer]:
    """The baselines and the models asked for, for every k of the plans.

    Raises MissingError for a model named that is not there for any of them, and InputError for
    two of one name, whose figures would be taken for those of one."""
    scales = sorted({plan.scale for plan in evaluation.plans})
    out = []
    for scale in scales:
        if scale == 1:  # nothing to up-sample: the engine passes pictures
            out.append(Enhancer(PASSED, "bicubic", 1))
        else:
            out += [Enhancer(name, name, scale) for name in BASELINES]
    out += find_models(evaluation.models, scales)
    known: dict[tuple[str, int], Enhancer] = {}
    for model in out:
        other = known.setdefault((model.name, model.scale), model)
        if other is not model:
            raise InputError(
                f"models: {model.path} and {other.path or 'a baseline'} would both be "
                f"{model.name!r} in the report; rename a file"
            )
    return out


def find_models(names: Sequence[str], scales: Sequence[int]) -> list[Enhancer]:
    """Models by name or file (``all``: every one installed) for the given k, each once.

    Raises MissingError for one that is there for none of them."""
    from .. import models

    out: dict[str, Enhancer] = {}
    for name in names:
        found: list[tuple[str, int, models.Found]] = []
        problem: OSError | ValueError | None = None
        for scale in scales:
            if name == ALL_MODELS:
                for info in models.available(scale):
                    found.append((info.name, scale, models.find(info.name, scale)))
                continue
            try:
                there = models.find(name, scale)
                fits = _tds.model_metadata(there.path)["scale"] == scale
            except (OSError, ValueError) as e:
                problem = e
                continue
            if fits:
                found.append((there.name or Path(name).stem, scale, there))
        if problem is not None and not found:
            raise problem
        for title, scale, there in found:
            sha256 = there.weights or sha256_of(there.path)
            about = _tds.model_metadata(there.path)
            model = Enhancer(title, "model", scale, sha256, there.path, there.code, about)
            out[model.key] = model
    return list(out.values())


def _refiners(evaluation: Evaluation, enhancers: list[Enhancer]) -> dict[str, Enhancer]:
    """By the names of models: those for k = 1, where a plan wants them.

    Raises MissingError for a model that has none."""
    if not any(plan.refine_hr for plan in evaluation.plans):
        return {}
    names = sorted({x.name for x in enhancers if x.kind == "model" and x.scale != 1})
    out = {}
    for name in names:
        try:
            (out[name],) = find_models([name], [1])
        except MissingError as error:
            raise MissingError(
                f"plans: refine_hr wants a model {name!r} for k = 1 ({error}); leave refine_hr or "
                f"{name!r} out"
            ) from error
    return out


def examine_clips(
    evaluation: Evaluation, progress: Callable[[str], None] = lambda _: None
) -> list[Clip]:
    """Reads every clip once. Raises InputError for two clips of one name."""
    entries = {e.path: e for e in evaluation.clips}
    out = []
    for entry in entries.values():
        for path in find_clips([entry.path]):
            progress(path.stem)
            limit = evaluation.frames if entry.frames is None else entry.frames
            out.append(examine(path, limit, entry.group))
    find_clips([c.path for c in out])  # refuses equal names also across entries
    return out


class _Builder:
    def __init__(self, evaluation: Evaluation) -> None:
        self.e = evaluation
        self.jobs: dict[str, Job[Any]] = {}
        self.versions = {c.encoder: c.adapter.fingerprint() for c in evaluation.codecs}
        self.tools = tools()
        self.tasks = versions(evaluation.tasks)

    def add(self, job: Job[Spec]) -> Job[Spec]:
        return self.jobs.setdefault(job.key, job)

    def stream(
        self,
        clip: Clip,
        coding: Coding,
        config: Config,
        qp: int,
        scale: int,
        segments: Segments,
        what: str,
    ) -> Job[StreamSpec]:
        """The key does not hold what scales pictures: that is in the record, and the check of
        fairness marks streams where it differs. Coded streams are hours of work."""
        pictures = sum(len(s.coded()) for s in segments)
        samples = pictures * clip.width * clip.height / scale**2
        return self.add(
            Job(
                "stream",
                {
                    "clip": clip.sha256,
                    "frames": clip.frames,
                    "codec": coding.codec.value,
                    "encoder": coding.encoder,
                    "version": self.versions[coding.encoder],
                    "preset": coding.preset,
                    "config": config.value,
                    "qp": qp,
                    "scale": scale,
                    "intra_period": self.e.intra_period,
                    "segments": to_plain(segments),
                },
                files=(clip.sha256,),
                cost=samples * _COST[coding.codec] * _COST_CONFIG[config],
                label=f"code {clip.name} {coding.codec.value} {config.value} QP {qp} {what}",
            )
        )

    def measure(
        self,
        clip: Clip,
        inputs: Mapping[str, Job[Any]],
        label: str,
        enhancer: Enhancer | None = None,
        paired: PairedSpec | None = None,
        hr: Enhancer | None = None,
    ) -> Job[MeasureSpec]:
        """paired: where an enhancer is asked for. hr: the one that enhances HR frames first."""
        spec: MeasureSpec = {
            "clip": clip.sha256,
            "frames": clip.frames,
            "width": clip.width,
            "height": clip.height,
            "bit_depth": clip.bit_depth,
            "rate": str(clip.rate),
            "metrics": self.tools["metrics"],
            "decoder": self.tools["decoder"],
            "pictures": self.tools["pictures"],
            "ms_ssim": self.e.ms_ssim,
            "enhancer": None,
        }
        if paired is not None:
            spec["scale"], spec["base_scale"] = paired["scale"], paired["base_scale"]
            spec["roles"] = paired["roles"]
            spec["hr_qp"], spec["lr_qp"] = paired["hr_qp"], paired["lr_qp"]
        if not self.e.perceptual:
            spec["perceptual"] = False
        if self.tasks:
            spec["tasks"] = self.tasks
        files: tuple[str, ...] = (clip.sha256,)
        if enhancer is not None:
            by: EnhancerSpec = {"kind": enhancer.kind}
            spec["enhancer"] = by
            if enhancer.kind != "lanczos":
                spec["engine"] = self.tools["engine"]
                backend = "torchscript" if enhancer.kind == "model" else "bicubic"
                by["device"] = device_of(backend, self.e.device)  # not "auto": see the cache
                by["precision"] = self.e.precision
            if enhancer.kind == "model":
                if self.e.tell_qp and "plain" in inputs:
                    spec["told"] = True
                by["model"] = enhancer.key
                spec["torch"] = self.tools["torch"]
                files += (enhancer.key,)
            if hr is not None:
                by["hr_model"] = hr.key
                files += (hr.key,)
        kind = enhancer.kind if enhancer else "plain"
        samples = clip.frames * clip.width * clip.height
        return self.add(Job("measure", spec, inputs, files, samples * _COST_MEASURE[kind], label))


def build(evaluation: Evaluation, clips: list[Clip], enhancers: list[Enhancer]) -> Graph:
    """All points and the jobs they need, dependencies first.

    Raises InputError for a clip a plan cannot be used on."""
    b = _Builder(evaluation)
    refiners = _refiners(evaluation, enhancers)
    points = []
    anchors = []
    e = evaluation
    for clip, coding, config, qp in product(clips, e.codecs, e.configs, e.qps + e.anchor_qps):
        if qp > coding.codec.max_qp:
            continue
        for plan in e.plans:
            try:
                layout = lay_out(clip.frames, clip.cuts(e.scene_cut), plan, config, e.intra_period)
            except InputError as error:
                raise InputError(f"{clip.path}, {plan.label}: {error}") from error
            anchor = b.stream(clip, coding, config, qp, 1, layout.plain, "plain")
            what = f"{clip.name} {coding.codec.value} {config.value} QP {qp}"
            anchor_measure = b.measure(clip, {"plain": anchor}, f"measure {what} plain")
            if qp not in e.qps:
                anchors.append(
                    AnchorPoint(clip, coding, config, plan, qp, layout, anchor, anchor_measure)
                )
                continue
            lr_qp = qp + plan.lr_qp_offset
            same: dict[str, Job[Any]] = {}
            if plan.kind == PLAIN:
                streams = {"plain": anchor}
                same = {SAME: anchor_measure}  # without a model: the anchor's own pictures
            else:
                base, k = plan.base_scale, plan.base_scale * plan.scale
                streams = {
                    role.value: b.stream(
                        clip, coding, config, role_qp, scale, segments, f"{role.name} {plan.label}"
                    )
                    for role, role_qp, scale, segments in (
                        (Role.HR, qp, base, layout.hr),
                        (Role.LR, lr_qp, k, layout.lr),
                    )
                    if segments
                }
            for enhancer in enhancers:
                if enhancer.scale != plan.scale:
                    continue
                if plan.kind == LR_ONLY and enhancer.wants_references:
                    continue
                if plan.refine_hr and enhancer.name not in refiners:
                    continue  # up-sampling refines nothing
                measure = b.measure(
                    clip,
                    streams | (same if enhancer.kind == "bicubic" else {}),
                    f"measure {what} {plan.label} {enhancer.name}",
                    enhancer,
                    {
                        "scale": plan.scale,
                        "base_scale": plan.base_scale,
                        "roles": [r.value for r in layout.roles],
                        "hr_qp": qp,
                        "lr_qp": lr_qp,
                    },
                    refiners[enhancer.name] if plan.refine_hr else None,
                )
                points.append(
                    Point(
                        clip,
                        coding,
                        config,
                        plan,
                        enhancer,
                        qp,
                        layout,
                        streams,
                        measure,
                        anchor,
                        anchor_measure,
                    )
                )
    files = {clip.sha256: clip.path for clip in clips}
    models = [*enhancers, *refiners.values()]
    files |= {x.key: x.path for x in models if x.path is not None}
    return Graph(points, anchors, list(b.jobs.values()), files, enhancers, clips)
