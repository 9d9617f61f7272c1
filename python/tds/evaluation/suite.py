# SPDX-License-Identifier: LGPL-2.1-or-later
"""Several evaluations as one: the paper's tables and figures, beside the paper's own figures.

    OUT/paper.md, paper.json    a page, and what it is made of
    OUT/PART/                   the report of each part, as `tds evaluate PART` writes it

All parts share one cache: what two of them need is done once, and a run that was stopped goes on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from .. import configuration
from ..codecs import Codec, Config
from ..configuration import STRICT
from ..errors import InputError
from ..files import whole_file
from ..models.registry import untrained
from .cache import Cache, Job
from .clips import Clip
from .config import TDS, Evaluation
from .config import load as load_evaluation
from .execution import Executor, left_to_do
from .graph import Enhancer, build, examine_clips, find_enhancers
from .report import report_of, write_report
from .results import ALL, TYPE, WHOLE, setting
from .run import Outcome, Progress, evaluate, machine

VERSION = 1  # of paper.json
METHOD = "cubic"  # the paper's
NOT_RUN = "not run"

# What the jobs of docs/results/quick took on two cores, a job's unit of cost (graph.py); and one
# thousand multiply-adds of a model, a core of that machine.
SECONDS_A_UNIT = 1.9e-7
SECONDS_A_KMAC = 4e-8


@dataclass(frozen=True, config=STRICT)
class Claim:
    """A cell of the paper, and what it is to be set beside."""

    config: Annotated[Config, Field(description="all intra, low delay P, random access")]
    model: Annotated[str, Field(description="the name of the model that is the paper's here")]
    row: Annotated[str, Field(description="as the paper calls it")]
    paper: Annotated[
        float | str, Field(description="BD-rate in percent, or in words what else it says")
    ]
    plan: Annotated[int, Field(ge=0, description="of the part's plans, by number from 0 on")] = 0


@dataclass(frozen=True, config=STRICT)
class Part:
    """A table or figure: an evaluation of its own."""

    file: Annotated[Path, Field(description="relative to this file")]
    note: Annotated[str, Field(description="what differs from the paper's")] = ""
    claims: Annotated[tuple[Claim, ...], Field(description="the paper's own figures")] = ()

    @property
    def name(self) -> str:
        return self.file.stem


@dataclass(frozen=True, config=STRICT)
class Profile:
    """How much of everything is run."""

    description: Annotated[str, Field(description="a sentence")] = ""
    hours: Annotated[
        float, Field(ge=0, description="what it may take before `--hours` is asked for, 0: any")
    ] = 0.0
    presets: Annotated[dict[Codec, str], Field(description="in place of the parts'")] = field(
        default_factory=dict
    )
    settings: Annotated[
        dict[str, Any], Field(description="keys of an evaluation, in place of the parts'")
    ] = field(default_factory=dict)


@dataclass(frozen=True, config=STRICT)
class Suite:
    """The whole file."""

    title: Annotated[str, Field(description="of the page")]
    parts: Annotated[tuple[Part, ...], Field(min_length=1, description="in their order")]
    profiles: Annotated[
        dict[str, Profile], Field(min_length=1, description="by name, for `--profile`")
    ]
    description: Annotated[str, Field(description="a paragraph of the page")] = ""


def is_suite(path: Path) -> bool:
    """Whether a configuration has parts, and so is none of a single evaluation."""
    try:
        return any(line.startswith("parts:") for line in path.read_text("utf-8").splitlines())
    except (OSError, UnicodeDecodeError):
        return False


def load_suite(path: Path) -> Suite:
    """Reads a YAML file. Raises MissingError or InputError."""
    return configuration.load(path, Suite)


def evaluation_of(path: Path, part: Part, profile: Profile, clips: list[Path] | None) -> Evaluation:
    """A part as the profile has it; path: of the suite. Raises MissingError or InputError."""

    def change(values: dict[str, Any]) -> None:
        values.update(profile.settings)
        codecs = []
        for entry in values.get("codecs", []):
            coding = {"codec": entry} if isinstance(entry, str) else dict(entry)
            preset = {codec.value: p for codec, p in profile.presets.items()}
            if (wanted := preset.get(str(coding.get("codec")))) is not None:
                coding["preset"] = wanted
            codecs.append(coding)
        values["codecs"] = codecs

    return load_evaluation(path.parent / part.file, clips, change)


@plain_dataclass
class Ready:
    """A part (``table``) that can be run. left_out: clips that are too short for its groups."""

    table: Part
    evaluation: Evaluation
    clips: list[Clip]
    enhancers: list[Enhancer]
    left_out: list[str]


def prepare(
    suite: Suite, path: Path, profile: Profile, clips: list[Path] | None = None
) -> list[Ready]:
    """All parts, checked, and the clips of each. Raises MissingError or InputError."""
    known: dict[str, list[Clip]] = {}
    out = []
    for part in suite.parts:
        evaluation = evaluation_of(path, part, profile, clips)
        for claim in part.claims:
            if claim.plan >= len(evaluation.plans):
                raise InputError(f"{path}: {part.name} has no plan {claim.plan}")
        key = repr((evaluation.clips, evaluation.frames))
        if key not in known:
            known[key] = examine_clips(evaluation)
        need = max((p.group for p in evaluation.plans if p.kind == TDS), default=1)
        fit = [c for c in known[key] if c.frames >= need]
        short = [
            f"{c.name} ({c.frames} frames, and a group has {need})"
            for c in known[key]
            if c.frames < need
        ]
        out.append(Ready(part, evaluation, fit, find_enhancers(evaluation), short))
    return out


def estimate(parts: Iterable[Ready], cache: Cache, workers: int) -> tuple[float, str]:
    """Hours that what the cache has not takes about, and of what, in words."""
    jobs: dict[str, Job[Any]] = {}
    kmac: dict[str, float] = {}
    for ready in parts:
        if not ready.clips:
            continue
        graph = build(ready.evaluation, ready.clips, ready.enhancers)
        jobs |= {job.key: job for job in left_to_do(graph.jobs, cache)}
        for enhancer in ready.enhancers:
            if enhancer.kind == "model" and enhancer.key not in kmac:
                kmac[enhancer.key] = _kmac(enhancer)
    seconds, by_model = 0.0, 0.0
    for job in jobs.values():
        seconds += job.cost * SECONDS_A_UNIT * (1.0 if _model_of(job) is None else 0.2)
        if (model := _model_of(job)) is not None:
            samples = job.spec["frames"] * job.spec["width"] * job.spec["height"]
            on_cpu = job.spec["enhancer"]["device"] == "cpu"
            by_model += samples * kmac.get(model, 0.0) * SECONDS_A_KMAC * (1.0 if on_cpu else 0.01)
    streams = sum(job.kind == "stream" for job in jobs.values())
    hours = (seconds + by_model) / 3600 / max(workers, 1)
    words = (
        f"{streams} streams to code and {len(jobs) - streams} results to measure, models about "
        f"{by_model / max(seconds + by_model, 1e-9):.0%} of it"
    )
    return hours, words


def _model_of(job: Job[Any]) -> str | None:
    enhancer = job.spec.get("enhancer") if job.kind == "measure" else None
    model = (enhancer or {}).get("model")
    return None if model is None else str(model)


def _kmac(enhancer: Enhancer) -> float:
    """Thousand multiply-adds a sample of the full size."""
    from .complexity import count

    assert enhancer.path is not None
    return count(enhancer.path, enhancer.scale)["kmac_per_pixel"]


def run_suite(
    suite: Suite,
    path: Path,
    name: str,
    out: Path,
    cache: Cache,
    executor: Executor,
    progress: Progress,
    say: Callable[[str], None],
    clips: list[Path] | None = None,
    hours: float | None = None,
    workers: int = 1,
    partial: bool = False,
) -> tuple[Path, str]:
    """Runs all parts of a profile; returns the page's path and a table for a terminal.

    hours: in place of the profile's. partial: runs nothing, and reports what is finished.
    Raises what evaluate does, and InputError for what takes longer, before it begins."""
    profile = suite.profiles.get(name)
    if profile is None:
        raise InputError(f"{path} has no profile {name!r}; it has {', '.join(suite.profiles)}")
    parts = prepare(suite, path, profile, clips)
    if not partial:
        takes, words = estimate(parts, cache, workers)
        most = profile.hours if hours is None else hours
        about = f"about {takes:.1f} h with {workers} jobs at once ({words})"
        if most and takes > most:
            raise InputError(
                f"the profile {name} is for {most:g} h and takes {about}: name fewer or smaller "
                f"clips (--clips), or allow it: --hours {math.ceil(takes)}"
            )
        say(f"{len(parts)} parts, {about}")
    found: dict[str, Any] = {
        "tds_suite": VERSION,
        "title": suite.title,
        "profile": name,
        "description": profile.description,
        "machine": machine(),
        "clips": sorted({c.name for ready in parts for c in ready.clips}),
        "parts": {},
    }
    page = out / "paper.md"
    for ready in parts:
        part = ready.table.name
        for clip in ready.left_out:
            say(f"{part}: left out: {clip}")
        row: dict[str, Any] = {"left_out": ready.left_out, "rows": [], "complexity": []}
        if not ready.clips:
            row["why"] = "no clip is long enough"
        else:
            say(f"{part}: {ready.evaluation.title}")
            row |= _run_part(ready, out / part, cache, executor, progress, say, partial)
        found["parts"][part] = row
        _write(out / "paper.json", json.dumps(found, indent=1) + "\n")
        _write(page, page_of(suite, path, [found]))
    return page, terminal(suite, path, found)


def _run_part(
    ready: Ready,
    folder: Path,
    cache: Cache,
    executor: Executor,
    progress: Progress,
    say: Callable[[str], None],
    partial: bool,
) -> dict[str, Any]:
    try:
        outcome = evaluate(
            ready.evaluation, cache, executor, progress, say, partial, ready.clips, ready.enhancers
        )
    except InputError as error:
        if not partial:
            raise
        return {"why": f"not finished: {error}"}
    write_report(report_of(outcome), folder)
    return {
        "rows": _rows(outcome),
        "complexity": outcome.complexity,
        "marks": outcome.results.marks,
        "crops": len(outcome.crops),
    }


def _rows(outcome: Outcome) -> list[dict[str, Any]]:
    """Means over clips of luma PSNR's BD-rate and BD-PSNR, a row a codec, configuration, plan and
    enhancer."""
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for p in outcome.results.points:
        codec, config, plan, enhancer = setting(p)
        rows.setdefault(
            setting(p), {"codec": codec, "config": config, "plan": plan, "enhancer": enhancer}
        )
    for m in outcome.results.means:
        if (m["class"], m["metric"], m["method"]) == (ALL, "psnr_y", METHOD):
            rows[setting(m)][m["counting"]] = {
                k: m[k] for k in ("rate", "low", "high", "clips", "quality", "low_overlap")
            }
    return list(rows.values())


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path, overwrite=True) as beside:
        beside.write_text(text, encoding="utf-8")


# ------------------------------------------------------------------ the page --


def page_of(
    suite: Suite, path: Path, found: list[dict[str, Any]], ablation: str = "", files: bool = True
) -> str:
    """The page in Markdown: every part with the paper's figures and those of each profile that was
    run; a cell that was not run says so. ablation: tables to put in. files: the reports of the
    parts are beside the page."""
    out = [f"# {suite.title}", ""]
    if suite.description:
        out += [suite.description.strip(), ""]
    for run in found:
        m = run["machine"]
        out += [
            f"Profile `{run['profile']}`. {run['description'].strip()}".rstrip()
            + f" Clips: {', '.join(run['clips'])}. Machine: {m['processor']}, {m['cores']} cores.",
            "",
        ]
    for part in suite.parts:
        out += _part(part, _plain_evaluation(path, part), found, files)
    if ablation:
        out += ["## The ablation", "", ablation.strip(), ""]
    return "\n".join(out).rstrip() + "\n"


def _plain_evaluation(path: Path, part: Part) -> Evaluation:
    return load_evaluation(path.parent / part.file)


def _part(
    part: Part, evaluation: Evaluation, found: list[dict[str, Any]], files: bool
) -> list[str]:
    out = [f"## {evaluation.title}", ""]
    if part.note:
        out += [part.note.strip(), ""]
    head = (
        "| configuration | plan | model | the paper's | profile | per frame type | whole stream |"
    )
    out += [head, "|---|---|---|---|---|---|---|"]
    shown: set[tuple[int, str, str, str]] = set()
    for claim in part.claims:
        plan = evaluation.plans[claim.plan]
        paper = claim.paper if isinstance(claim.paper, str) else f"{claim.paper:+.3f} %"
        start = f"| {claim.config.value.upper()} | {plan.label} | {claim.row}: `{claim.model}`"
        runs = [(i, run) for i, run in enumerate(found) if part.name in run["parts"]]
        if not runs:
            why = _not_run(claim.model, plan.scale)
            out.append(f"{start} | {paper} | | {why} | {NOT_RUN} |")
        for i, run in runs:
            done = run["parts"][part.name]
            key = (i, claim.config.value, plan.label, claim.model)
            shown.add(key)
            cells = _cells(done, key, _not_run(claim.model, plan.scale))
            out.append(f"{start} | {paper} | {run['profile']} | {cells[0]} | {cells[1]} |")
    for i, run in enumerate(found):
        done = run["parts"].get(part.name, {"rows": []})
        for row in done["rows"]:
            key = (i, row["config"], row["plan"], row["enhancer"])
            if key in shown:
                continue
            shown.add(key)
            cells = _cells(done, key, "")
            out.append(
                f"| {row['config'].upper()} | {row['plan']} | `{row['enhancer']}` | | "
                f"{run['profile']} | {cells[0]} | {cells[1]} |"
            )
    if len(out) and out[-1].startswith("|---"):  # the paper has no figures, and nothing was run
        out.append(f"| | | | | | {NOT_RUN} | {NOT_RUN} |")
    out.append("")
    for run in found:
        out += _beside(part, run, files)
    return out


def _not_run(model: str, scale: int) -> str:
    why = untrained(model, scale).removeprefix("; ")
    return f"{NOT_RUN}: {why}" if why else NOT_RUN


def _cells(done: Mapping[str, Any], key: tuple[int, str, str, str], absent: str) -> list[str]:
    """Per frame type, and of the whole stream."""
    if why := done.get("why"):
        return [why, why]
    for row in done["rows"]:
        if (row["config"], row["plan"], row["enhancer"]) == key[1:]:
            return [_figure(row.get(counting)) for counting in (TYPE, WHOLE)]
    return [absent or NOT_RUN, NOT_RUN]


def _figure(m: Mapping[str, Any] | None) -> str:
    if m is None or m["rate"] is None:
        return "no figure: the curves do not overlap"
    text = f"{m['rate']:+.1f} %"
    if m["low"] is not None:
        text += f" [{m['low']:+.1f}, {m['high']:+.1f}]"
    return text + ("†" if m["low_overlap"] else "") + f" ({m['clips']} clips)"


def _beside(part: Part, run: Mapping[str, Any], files: bool) -> list[str]:
    """What else a part has: clips left out, costs, where pictures are."""
    done = run["parts"].get(part.name)
    if done is None:
        return []
    out = []
    if done["left_out"]:
        out.append(f"Left out of `{run['profile']}`: {'; '.join(done['left_out'])}.")
    for row in done["complexity"]:
        fps = row["note"] or f"{row['fps']} frames/s, {row['memory_mib']} MiB"
        out.append(
            f"- `{row['model']}`, k = {row['scale']}, {row['size']}: {row['parameters_m']:.2f} M "
            f"parameters, {row['kmac_per_pixel']:.0f} kMAC a sample; {fps} on {row['device']}"
        )
    if files and done["rows"]:
        crops = f" with {done['crops']} sets of crops" if done.get("crops") else ""
        out.append(f"[The report]({part.name}/index.html){crops}.")
    return [*out, ""] if out else []


def terminal(suite: Suite, path: Path, found: dict[str, Any]) -> str:
    """How much of each part was run."""
    lines = []
    for part in suite.parts:
        done = found["parts"][part.name]
        missing = sorted(
            {
                c.model
                for c in part.claims
                if c.model not in {row["enhancer"] for row in done["rows"]}
            }
        )
        text = done.get("why") or f"{len(done['rows'])} curves"
        if missing:
            text += f"; not run: {', '.join(missing)}"
        lines.append(f"{part.name}: {text}")
    return "\n".join(lines)
