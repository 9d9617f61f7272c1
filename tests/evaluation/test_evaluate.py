# SPDX-License-Identifier: LGPL-2.1-or-later
"""A whole evaluation of small clips: figures, cache, resuming, what is unfair."""

from __future__ import annotations

import base64
import csv
import dataclasses
import gzip
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NotRequired, get_origin, get_type_hints

import numpy as np
import pytest
import yaml

import tds
import tools
from tds.errors import ExternalError, InputError
from tds.evaluation import records, work
from tds.evaluation.bd import bd_rate
from tds.evaluation.cache import Cache, Job, write_record
from tds.evaluation.config import load
from tds.evaluation.execution import Executor, LocalExecutor, left_to_do
from tds.evaluation.graph import Enhancer, build, examine_clips, find_enhancers
from tds.evaluation.report import _rate, read_report, report_of, summary_rows, write_report
from tds.evaluation.results import (
    Facts,
    UnfairError,
    _point,
    assemble,
    assemble_again,
    check_fair,
    facts,
)
from tds.evaluation.run import evaluate, nearest_qp
from tds.evaluation.work import Place, decoded, run
from tds.files import sha256_of
from tds.measuring.measure import measure
from tds.models import registry
from tds.models.registry import weights

CONFIG = {
    "title": "Trial <of> a report",
    "codecs": [{"codec": "hevc", "preset": "ultrafast"}],
    "configs": ["ai", "ra"],
    "qps": [24, 30, 36, 42],
    "plans": [{}, {"kind": "lr-only"}, {"kind": "plain"}],
    "frames": 10,
    "crops": 1,
}


class InProcess(Executor):
    """Does jobs in this process; fails before job number ``stop_at``."""

    slots = 1

    def __init__(self, stop_at: float = math.inf) -> None:
        self.done: list[Job] = []
        self.stop_at = stop_at

    def start(self, cache, files):
        self.cache, self.files = cache, files

    def submit(self, job):
        return job

    def wait(self, handles):
        return handles

    def finish(self, handle, job):
        if len(self.done) >= self.stop_at:
            raise RuntimeError("the power went")
        with self.cache.making(job) as out:
            scratch = out / "scratch"
            scratch.mkdir()
            inputs = {name: self.cache.path(x) for name, x in job.inputs.items()}
            run(job.kind, job.spec, Place(self.files, inputs, scratch, 1), out)
            scratch.rmdir()
        self.done.append(job)

    def stop(self, at_once=False):
        pass


@pytest.fixture(scope="module")
def clips(city, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for i, (x, y) in enumerate([(0, 0), (200, 60)]):
        crop = f"crop=192:176:{x}:{y}"
        tools.ffmpeg("-i", city, "-vf", crop, "-c:v", "ffv1", folder / f"clip{i}.mkv")
    return folder


def _config(folder, clips, **changes):
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, "clips": [str(clips)], "models": [], **changes}))
    return load(path)


@pytest.fixture(scope="module")
def outcome(clips, tmp_path_factory):
    """(outcome, cache, executor) of one evaluation with a model, used by many tests."""
    folder = tmp_path_factory.mktemp("evaluation")
    model = tools.tiny_model(folder / "mean.pt")
    cache, executor = Cache(folder / "cache"), InProcess()
    evaluation = _config(folder, clips, models=[str(model)])
    executor.progress = []

    def progress(*told):
        executor.progress.append(told)

    return evaluate(evaluation, cache, executor, progress), cache, executor


def _means(outcome, **wanted):
    wanted = {"class": "all clips", "metric": "psnr_y", "method": "pchip", **wanted}
    return [m for m in outcome.results.means if all(m[k] == v for k, v in wanted.items())]


def test_every_point_is_there(outcome):
    points = outcome[0].results.points
    # 2 clips, 2 configurations, 4 QPs; tds with 3 enhancers, LR only with two, k = 1 with one
    assert len(points) == 2 * 2 * 4 * (3 + 2 + 1)
    assert {p["enhancer"] for p in points} == {"bicubic", "lanczos", "mean", "none"}
    assert all(p["frames"] == 10 for p in points)


def test_k_1_with_nothing_to_enhance_is_exactly_the_anchor(outcome):
    for p in outcome[0].results.points:
        if p["kind"] == "plain":
            assert p["whole"]["test"] == p["whole"]["anchor"]
            assert p["type"]["test"] == p["type"]["anchor"]
    for counting in ("whole", "type"):
        for m in _means(outcome[0], enhancer="none", counting=counting):
            if m["plan"] == "plain":
                assert m["rate"] == 0


def test_a_plain_stream_is_enhanced_whole_by_a_model_for_k_1(clips, tmp_path):
    """Every picture, through the engine's session for plain streams; PSNR alone is worked out."""
    model = tools.tiny_family(tmp_path / "blend.pt")
    evaluation = _config(
        tmp_path,
        clips / "clip0.mkv",
        codecs=["h264"],
        configs=["ra"],
        qps=[30, 36],
        anchor_qps=[36, 42, 60],  # H.264 ends at 51
        plans=["plain"],
        models=[str(model)],
        perceptual=False,
        crops=0,
    )
    cache = Cache(tmp_path / "cache")
    found = evaluate(evaluation, cache, InProcess())
    (more,) = found.results.anchors
    last = next(p for p in found.results.points if p["qp"] == 36)["whole"]["anchor"]
    assert more["qp"] == 42 and more["whole"]["bits"] < last["bits"]
    assert more["whole"]["psnr_y"] == more["type"]["psnr_y"] < last["psnr_y"]
    write_report(report_of(found), tmp_path / "report")
    again = read_report(tmp_path / "report" / "results.json")
    assert (again.results.anchors, again.results.bd) == ([more], found.results.bd)
    points = {(p["enhancer"], p["qp"]): p for p in found.results.points}
    assert points.keys() == {(e, q) for e in ("none", "blend") for q in (30, 36)}
    for (enhancer, _), p in points.items():
        same = p["whole"]["test"] == p["whole"]["anchor"]
        assert same == (enhancer == "none")
        for side in ("test", "anchor"):  # all but the parameter sets
            assert p["whole"][side]["psnr_y"] == p["type"][side]["psnr_y"]
            assert 0 < p["whole"][side]["bits"] - p["type"][side]["bits"] < 10_000
        assert p["bits"]["plain"] == p["whole"]["anchor"]["bits"]
        assert p["statuses"] == {"passed" if enhancer == "none" else "refined": 10}
        assert p["whole"]["test"]["vmaf"] is p["whole"]["test"]["ssim"] is None
    # What the model does, by hand: half way to the mean of the pictures beside.
    point = next(p for p in found.graph.points if (p.enhancer.name, p.qp) == ("blend", 36))
    job = point.streams["plain"]
    lumas = [
        f.to_ndarray()[:176].astype(float) for f in decoded(cache.path(job), cache.stream(job))
    ]
    raw = np.fromfile(tools.raw_yuv(tmp_path / "s.yuv", clips / "clip0.mkv", 10), np.uint8)
    sources = raw.reshape(10, -1)[:, : 176 * 192].reshape(10, 176, 192).astype(float)
    psnrs = []
    for i, (luma, source) in enumerate(zip(lumas, sources, strict=True)):
        beside = [lumas[j] for j in (i - 1, i + 1) if 0 <= j < 10]
        made = np.round(np.clip(0.5 * luma + 0.5 * np.mean(beside, 0), 0, 255))
        psnrs.append(10 * np.log10(255**2 / np.mean((made - source) ** 2)))
    assert points["blend", 36]["whole"]["test"]["psnr_y"] == pytest.approx(np.mean(psnrs), abs=0.05)


def test_models_for_plain_streams_are_told_the_qp_where_that_is_asked(clips, tmp_path):
    """What is measured otherwise is measured anew; what is not, is not."""
    cache = Cache(tmp_path / "cache")
    found = {}
    for told in (False, True):
        evaluation = _config(
            tmp_path,
            clips / "clip0.mkv",
            codecs=["hevc"],
            configs=["ai"],
            qps=[30, 36],
            plans=["plain"],
            models=["fast"],
            frames=3,
            tell_qp=told,
            perceptual=False,
            crops=0,
        )
        outcome = evaluate(evaluation, cache, InProcess())
        found[told] = {
            (p["enhancer"], p["qp"]): p["whole"]["test"]["psnr_y"] for p in outcome.results.points
        }
    differ = {key for key, psnr in found[False].items() if psnr != found[True][key]}
    assert differ == {("fast", 30), ("fast", 36)}


def test_whole_stream_is_what_tds_encode_and_measure_find(outcome, clips, tmp_path):
    """The same pair through the product's own commands gives the same bits and PSNR."""
    result = tds.encode(
        clips / "clip0.mkv", tmp_path / "p.mp4", codec="hevc", preset="ultrafast", qp=36,
        plan="tds", boundaries="independent", lr_qp_offset=0,
    )  # fmt: skip
    all_frames = measure(
        str(clips / "clip0.mkv"), result, enhance=tds.EnhanceSettings(backend="bicubic")
    )
    folder = tmp_path / "all"
    folder.mkdir()
    evaluation = _config(folder, clips / "clip0.mkv", frames=0, configs=["ai"], qps=[30, 36])
    found = evaluate(evaluation, Cache(folder / "cache"), InProcess())
    p = next(
        p
        for p in found.results.points
        if p["qp"] == 36 and p["kind"] == "tds" and p["enhancer"] == "bicubic"
    )
    assert p["bits"]["hr"] + p["bits"]["lr"] == all_frames.hr_bits + all_frames.lr_bits
    assert p["whole"]["anchor"]["bits"] == all_frames.anchor_bits
    assert p["whole"]["test"]["psnr_y"] == pytest.approx(all_frames.pair.luma, abs=1e-4)
    assert p["whole"]["anchor"]["psnr_y"] == pytest.approx(all_frames.anchor.luma, abs=1e-4)
    assert p["type"]["anchor"]["psnr_y"] == pytest.approx(all_frames.anchor_lr.luma, abs=1e-4)
    assert p["type"]["anchor"]["bits"] == all_frames.anchor_lr_bits


def test_the_two_countings_differ_by_hr_and_what_is_not_shown(outcome):
    for p in outcome[0].results.points:
        if p["kind"] != "tds":
            continue
        assert p["type"]["test"]["bits"] < p["bits"]["lr"]  # parameter sets are not in it
        total = p["bits"]["hr"] + p["bits"]["lr"] + p["bits"]["lr_leads"]
        assert p["whole"]["test"]["bits"] == total
        assert (p["bits"]["lr_leads"] > 0) == (p["config"] == "ra")
        assert p["down_sampled"] == 6


def test_bd_rate_is_that_of_the_points(outcome):
    results = outcome[0].results
    row = next(
        r for r in results.bd
        if (r["clip"], r["config"], r["enhancer"], r["counting"], r["metric"], r["method"])
        == ("clip1", "ai", "bicubic", "whole", "psnr_y", "cubic") and r["plan"].startswith("N=5")
    )  # fmt: skip
    own = [
        p for p in results.points
        if (p["clip"], p["config"], p["enhancer"], p["plan"])
        == ("clip1", "ai", "bicubic", row["plan"])
    ]  # fmt: skip
    curves = [
        [(p["whole"][side]["bits"], p["whole"][side]["psnr_y"]) for p in own]
        for side in ("anchor", "test")
    ]
    assert row["rate"] == pytest.approx(bd_rate(*curves, "cubic").value, abs=1e-3)


def test_run_again_does_nothing(outcome):
    found, cache, _ = outcome
    again = InProcess()
    second = evaluate(found.evaluation, cache, again)
    assert again.done == []
    assert second.results == found.results


def test_a_run_that_was_stopped_does_only_what_is_left(clips, tmp_path):
    evaluation = _config(tmp_path, clips / "clip0.mkv", configs=["ai"], crops=0)
    cache, first, second = Cache(tmp_path / "cache"), InProcess(stop_at=9), InProcess()
    with pytest.raises(ExternalError, match="the power went"):
        evaluate(evaluation, cache, first)
    assert len(first.done) == 9
    assert not list(cache.folder.glob("making-*"))
    found = evaluate(evaluation, cache, second)
    assert not set(first.done) & set(second.done)
    assert set(first.done) | set(second.done) == set(found.graph.jobs)


def test_a_part_is_reported_before_all_is_finished(outcome, clips, tmp_path):
    found, cache, _ = outcome
    plans = [*CONFIG["plans"], {"boundaries": "shared"}]
    nothing = InProcess(stop_at=0)
    evaluation = _config(tmp_path, clips, plans=plans)
    part = evaluate(evaluation, cache, nothing, partial=True)
    assert not nothing.done
    # 2 clips, 2 configurations, 2 enhancers in the plan that was not run; the model was not asked
    assert part.results.marks[0].startswith("not finished: 8 of 28 curves")
    mine = [p for p in found.results.points if p["enhancer"] != "mean"]
    assert part.results.points == mine
    assert part.crops and {c["plan"] for c in part.crops} == {"N=5 independent, k=2"}
    with pytest.raises(InputError, match="no curve is finished"):
        evaluate(evaluation, Cache(tmp_path / "empty"), nothing, partial=True)
    evaluation = _config(tmp_path, clips, qps=[24, 30, 36, 43])
    with pytest.raises(InputError, match="no curve is finished"):
        evaluate(evaluation, cache, nothing, partial=True)


def test_a_changed_model_runs_only_its_own_part(clips, tmp_path):
    cache, executor = Cache(tmp_path / "cache"), InProcess()
    model = tools.tiny_model(tmp_path / "mean.pt")
    changes = {"models": [str(model)], "configs": ["ai"], "crops": 0}
    evaluate(_config(tmp_path, clips / "clip0.mkv", **changes), cache, executor)
    tools.tiny_model(model, gain=0.99)
    executor = InProcess()
    evaluate(_config(tmp_path, clips / "clip0.mkv", **changes), cache, executor)
    assert len(executor.done) == 4  # QPs; LR only has nothing of a model
    assert all("mean" in job.label for job in executor.done)


def test_crops_are_in_the_total_from_the_start(outcome):
    """They were left out: all done, no time left, and then as much again."""
    found, _, executor = outcome
    done, totals, shares, _ = zip(*executor.progress, strict=True)
    crop_jobs = [job for job in executor.done if job.kind == "crop"]
    assert len(crop_jobs) == 2 * 4
    # Two plain streams at most are guessed and turn out not to be needed.
    assert 0 <= totals[0] - len(executor.done) <= 2
    assert list(done) == list(range(len(executor.done) + 1))
    assert done[-1] == totals[-1] == len(executor.done)
    assert list(shares) == sorted(shares) and shares[-1] == pytest.approx(1)
    assert max(shares[: len(found.graph.jobs) + 1]) < 1
    assert found.provenance["jobs"] == len(executor.done)


# -------------------------------------------------------------------- keys --


def test_the_key_of_a_stream_holds_what_it_always_did(outcome):
    """Coded streams are hours of work, so another field in their key is not for little."""
    job = next(j for j in outcome[0].graph.jobs if j.kind == "stream")
    assert set(job.spec) == {
        "clip", "frames", "codec", "encoder", "version", "preset", "config", "qp", "scale",
        "intra_period", "segments",
    }  # fmt: skip
    spec = {**job.spec, "clip": "c", "version": "v", "segments": [[None, [0, 1]]]}
    key = Job("stream", spec, files=("c",)).key
    assert key == "61f519efc71bd0b9ca1cb50a321068409e7556407ad0034ffc1188d470b370e8"


def test_jobs_are_told_what_their_types_say(outcome):
    types = {"stream": records.StreamSpec, "measure": records.MeasureSpec}
    for job in outcome[0].graph.jobs:
        told = types[job.kind]
        hints = get_type_hints(told, include_extras=True)
        may_lack = {key for key, of in hints.items() if get_origin(of) is NotRequired}
        assert set(hints) - may_lack - told.__optional_keys__ <= set(job.spec) <= set(hints)


def test_a_measurement_is_of_one_device(clips, tmp_path, monkeypatch):
    model = tools.tiny_model(tmp_path / "mean.pt")
    evaluation = _config(tmp_path, clips / "clip0.mkv", models=[str(model)], configs=["ai"])
    clip, enhancers = examine_clips(evaluation), find_enhancers(evaluation)

    def jobs(devices):
        monkeypatch.setattr(work._tds, "backend_devices", lambda backend: devices)
        graph = build(evaluation, clip, enhancers)
        return {(j.kind, j.label): j for j in graph.jobs}

    here, there = jobs(["cpu"]), jobs(["cpu", "cuda:0", "cuda:1"])
    assert here.keys() == there.keys()
    changed = {name for name in here if here[name].key != there[name].key}
    assert changed == {name for name in here if name[1].endswith(" mean")}
    for name in changed:
        assert here[name].spec["enhancer"]["device"] == "cpu"
        assert there[name].spec["enhancer"]["device"] == "cuda:0"
    measure = next(j for j in here.values() if j.kind == "measure")
    assert "libswscale" in measure.spec["pictures"]


def test_a_model_is_known_by_its_weights_and_not_by_what_was_exported(clips, tmp_path, monkeypatch):
    """An archive exported anew has other bytes; its measurements are hours of work."""

    def jobs(folder, model="fast"):
        monkeypatch.setenv("TDS_CACHE", str(tmp_path / folder))
        evaluation = _config(tmp_path, clips / "clip0.mkv", models=[model], configs=["ai"])
        enhancers = find_enhancers(evaluation)
        graph = build(evaluation, examine_clips(evaluation), enhancers)
        return enhancers[-1], {job.key for job in graph.jobs}, graph.files

    model, keys, files = jobs("one")
    again, same, _ = jobs("two")
    assert again.path != model.path and same == keys
    assert model.sha256 == sha256_of(weights("fast", 2)) and files[model.key] == model.path
    monkeypatch.setattr(registry, "_code_hash", lambda: "0" * 8)
    changed, others, _ = jobs("three")
    assert changed.sha256 == model.sha256 and others != keys, "other code, another model"
    archive, _, files = jobs("one", str(model.path))
    assert archive.sha256 == archive.key == sha256_of(model.path)
    assert files[archive.key] == model.path


def test_a_model_of_the_package_is_measured(clips, tmp_path):
    """From its weights: jobs find the archive by a key that is no file's hash."""
    evaluation = _config(
        tmp_path, clips / "clip0.mkv", models=["fast"], configs=["ai"], qps=[30, 36], plans=[{}]
    )
    found = evaluate(evaluation, Cache(tmp_path / "cache"), LocalExecutor(1))
    points = [p for p in found.results.points if p["enhancer"] == "fast"]
    assert [p["statuses"] for p in points] == [{"enhanced": 6, "passed": 4}] * 2
    assert "fast" in found.crops[0]["versions"]
    (model,) = found.provenance["models"]
    assert model["sha256"] == sha256_of(weights("fast", 2)) and model["code"]
    assert re.fullmatch(r"float\d+ on (cpu|cuda:0)", model["ran"])


@pytest.mark.parametrize("other", ["b/mean.pt", "b/lanczos.pt"])
def test_two_models_of_one_name_are_refused(clips, tmp_path, other):
    """Their points would make one curve."""
    for name in ("a/mean.pt", other):
        (tmp_path / name).parent.mkdir()
        tools.tiny_model(tmp_path / name, gain=0.9 if name == other else 1.0)
    models = [str(tmp_path / "a/mean.pt"), str(tmp_path / other)]
    with pytest.raises(InputError, match="would both be"):
        find_enhancers(_config(tmp_path, clips, models=models))


def test_the_device_is_what_the_engine_takes():
    assert work.device_of("bicubic", "auto") == work.device_of("bicubic", "cuda:1") == "cpu"
    assert work.device_of("torchscript", "cuda") == "cuda:0"
    assert work.device_of("torchscript", "cpu") == "cpu"


def test_pictures_that_were_measured_are_not_measured_again(outcome, tmp_path, monkeypatch):
    found, cache, _ = outcome
    point = next(p for p in found.graph.points if p.plan.kind == "plain")
    assert set(point.measure.inputs) == {"plain", "same"}

    def compare(*_):
        raise RuntimeError("measured again")

    monkeypatch.setattr(work, "compare", compare)
    inputs = {name: cache.path(x) for name, x in point.measure.inputs.items()}
    run("measure", point.measure.spec, Place(found.graph.files, inputs, tmp_path), tmp_path)
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["quality"] == cache.record(point.anchor_measure)["quality"]
    assert set(record["status"]) != {"plain"}  # how they were made is their own
    other = tmp_path / "other"
    other.mkdir()
    known = {**cache.record(point.anchor_measure), "pictures_md5": "of others"}
    (other / "record.json").write_text(json.dumps(known))
    with pytest.raises(RuntimeError, match="measured again"):
        run("measure", point.measure.spec,
            Place(found.graph.files, {**inputs, "same": other}, tmp_path), tmp_path)  # fmt: skip


def test_streams_are_shared_between_plans(outcome):
    """LR only and the tds plan have one anchor; no stream is coded twice."""
    graph = outcome[0].graph
    anchors = {p.anchor.key for p in graph.points if p.clip.name == "clip0"}
    assert len(anchors) == 2 * 4


def test_workers_find_the_same(outcome, clips, tmp_path):
    evaluation = _config(tmp_path, clips / "clip0.mkv", configs=["ai"], crops=0)
    found = evaluate(evaluation, Cache(tmp_path / "cache"), LocalExecutor(2))

    def own(results):
        return [
            {k: v for k, v in p.items() if k != "fps"}
            for p in results.points
            if p["clip"] == "clip0" and p["config"] == "ai" and p["enhancer"] != "mean"
        ]

    assert own(found.results) == own(outcome[0].results)


# ---------------------------------------------------------------- fairness --

FAIR = Facts("c", 10, "hevc", "ai", 30, "libx265 1", "fast", (0,), frozenset((2,)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"frames": 9}, "different numbers of frames"),
        ({"preset": "medium"}, "different presets"),
        ({"encoder": "libx265 2"}, "different encoders or versions"),
        ({"qp": 31}, "different QPs"),
        ({"config": "ra"}, "different configurations"),
        ({"codec": "vvc"}, "different codecs"),
        ({"clip": "d"}, "different clips"),
        ({"restarts": (0, 8)}, "different random-access points"),
    ],
)
def test_unlike_results_are_not_compared(change, says):
    assert check_fair(FAIR, FAIR, "x") == []
    with pytest.raises(UnfairError, match=says):
        check_fair(FAIR, dataclasses.replace(FAIR, **change), "x")


def test_different_machines_are_marked():
    other = dataclasses.replace(FAIR, cpus=frozenset((64,)))
    assert "different numbers of cores" in check_fair(FAIR, other, "x")[0]


def test_an_anchor_of_another_preset_in_the_cache_stops_the_run(clips, tmp_path):
    """The check reads what was run, so a record that was swapped does not pass."""
    evaluation = _config(tmp_path, clips / "clip0.mkv", configs=["ai"], qps=[30, 36], crops=0)
    cache = Cache(tmp_path / "cache")
    found = evaluate(evaluation, cache, InProcess())
    point = next(p for p in found.graph.points if p.plan.kind == "tds")
    assert facts(point, cache, True) == facts(point, cache, False)
    path = cache.path(point.anchor) / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "preset": "medium"}))
    with pytest.raises(UnfairError, match="different presets"):
        assemble(found.graph, cache)


class Swapped(Cache):
    """A cache in which one job's record says something else."""

    def __init__(self, cache, job, change):
        super().__init__(cache.folder, tidy=False)
        self.job, self.change = job, change

    def record(self, job):
        record = super().record(job)
        return self.change(record) if job == self.job else record


def _pair(outcome, config="ai"):
    return next(p for p in outcome[0].graph.points
                if p.plan.kind == "tds" and p.config.value == config)  # fmt: skip


@pytest.mark.parametrize("stream", ["plain", "hr", "lr"])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"qp": 33}, "qps|QPs"),
        ({"codec": "vvc"}, "codecs"),
        ({"config": "ldp"}, "configs|configurations"),
        ({"clip": "other"}, "clips"),
    ],
)
def test_what_a_record_says_is_compared(outcome, stream, change, says):
    """Of each stream by itself: once, anchor and test were both asked of the description."""
    point = _pair(outcome)
    job = point.anchor if stream == "plain" else point.streams[stream]
    cache = Swapped(outcome[1], job, lambda record: record | change)
    with pytest.raises(UnfairError, match=f"different ({says})"):
        check_fair(facts(point, cache, True), facts(point, cache, False), "x")


@pytest.mark.parametrize("stream", ["plain", "hr", "lr"])
@pytest.mark.parametrize("config", ["ai", "ra"])
def test_where_streams_restart_is_read_from_their_segments(outcome, stream, config):
    point = _pair(outcome, config)
    job = point.anchor if stream == "plain" else point.streams[stream]

    def in_two(record):
        ((name, pictures),) = record["segments"]
        return {**record, "segments": [[name, 2], ["more.mp4", pictures - 2]]}

    cache = Swapped(outcome[1], job, in_two)
    with pytest.raises(UnfairError, match=r"restart at different|different random-access"):
        check_fair(facts(point, cache, True), facts(point, cache, False), "x")


def test_the_lr_stream_has_its_own_qp(outcome):
    point = _pair(outcome)
    plan = dataclasses.replace(point.plan, lr_qp_offset=3)
    point = dataclasses.replace(point, plan=plan)
    with pytest.raises(UnfairError, match="different qps"):
        facts(point, outcome[1], False)
    cache = Swapped(outcome[1], point.streams["lr"], lambda r: r | {"qp": point.qp + 3})
    assert facts(point, cache, False).qp == point.qp


def test_records_of_before_are_read(outcome):
    """Without what they did not hold then: their description says it."""

    class Old(Cache):
        def record(self, job):
            new = ("clip", "codec", "config", "qp", "pictures_by")
            return {k: v for k, v in super().record(job).items() if k not in new}

    found = assemble(outcome[0].graph, Old(outcome[1].folder, tidy=False))
    assert found == outcome[0].results


def test_streams_of_other_libraries_are_marked(outcome):
    point = _pair(outcome)
    cache = Swapped(outcome[1], point.streams["lr"], lambda r: r | {"pictures_by": "PyAV 1"})
    (mark,) = check_fair(facts(point, cache, True), facts(point, cache, False), "x")
    assert "PyAV 1" in mark and "libswscale" in mark
    assert "libswscale" in outcome[0].provenance["versions"]["sources decoded and scaled by"]


def test_another_version_of_the_encoder_stops_the_job(clips, tmp_path):
    evaluation = _config(tmp_path, clips / "clip0.mkv", configs=["ai"])
    graph = build(evaluation, examine_clips(evaluation), find_enhancers(evaluation))
    job = next(j for j in graph.jobs if j.kind == "stream")
    spec = {**job.spec, "version": "libx265 in FFmpeg 1.0"}
    with pytest.raises(ExternalError, match="different versions are not comparable"):
        run("stream", spec, Place(graph.files, {}, tmp_path), tmp_path)


@pytest.mark.parametrize("tool", ["metrics", "decoder", "pictures", "engine", "torch"])
def test_another_version_of_what_measures_stops_the_job(outcome, tmp_path, tool):
    """On a cluster: its record would be kept under the versions of the machine that asked."""
    found, cache, _ = outcome
    job = next(p.measure for p in found.graph.points if p.enhancer.kind == "model")
    inputs = {name: cache.path(x) for name, x in job.inputs.items()}
    place = Place(found.graph.files, inputs, tmp_path)
    for kind in ("measure", "crop"):
        spec = {**job.spec, tool: "of before", "index": 2, "box": [0, 0, 64, 64]}
        with pytest.raises(ExternalError, match=f"the {tool} of this machine .* of before"):
            run(kind, spec, place, tmp_path)


@pytest.mark.parametrize("stream", ["hr", "lr", "plain"])
def test_a_lost_frame_stops_the_run(outcome, tmp_path, stream):
    """One packet less in a coded stream: no figure comes of it."""
    found, cache, _ = outcome
    point = next(
        p for p in found.graph.points if p.plan.kind == "tds" and p.enhancer.kind == "bicubic"
    )
    job = point.anchor_measure if stream == "plain" else point.measure
    inputs = {name: cache.path(x) for name, x in job.inputs.items()}
    broken = tmp_path / "broken"
    broken.mkdir()
    record = json.loads((inputs[stream] / "record.json").read_text())
    name = record["segments"][0][0]
    tools.drop_packets(inputs[stream] / name, broken / name, 0, {record["segments"][0][1] - 1})
    (broken / "record.json").write_text(json.dumps(record))
    place = Place(found.graph.files, {**inputs, stream: broken}, tmp_path)
    with pytest.raises(ExternalError, match="lost"):
        run("measure", job.spec, place, tmp_path)


def test_a_clip_that_changed_stops_the_run(outcome, clips, tmp_path):
    found, _, _ = outcome
    job = next(j for j in found.graph.jobs if j.kind == "stream")
    short = tmp_path / "short.mkv"
    tools.ffmpeg("-i", clips / "clip0.mkv", "-frames:v", 5, "-c:v", "ffv1", short)
    with pytest.raises(ExternalError, match="5 frames now and had 10"):
        run("stream", job.spec, Place({job.spec["clip"]: short}, {}, tmp_path), tmp_path)


def test_a_model_that_saw_the_clip_is_marked_and_left_out_of_means(outcome):
    found, cache, _ = outcome
    clip = found.graph.clips[0]
    metadata = {"training": {"sources": [clip.sha256]}}
    points = [
        dataclasses.replace(p, enhancer=dataclasses.replace(p.enhancer, metadata=metadata))
        if p.enhancer.kind == "model"
        else p
        for p in found.graph.points
    ]
    enhancers = [
        dataclasses.replace(x, metadata=metadata) if x.kind == "model" else x
        for x in found.graph.enhancers
    ]
    graph = dataclasses.replace(found.graph, points=points, enhancers=enhancers)
    results = assemble(graph, cache)
    assert any(f"mean was trained on {clip.name}" in mark for mark in results.marks)
    mean = [m for m in results.means if m["enhancer"] == "mean" and m["class"] == "all clips"]
    assert {m["clips"] + m["without_figure"] for m in mean} == {2}
    assert all(m["without_figure"] for m in mean), "left out, and said so"
    assert {p["seen"] for p in results.points if p["enhancer"] != "mean"} == {False}
    kept = assemble(graph, cache, exclude_seen=False)
    mean = [m for m in kept.means if m["enhancer"] == "mean" and m["class"] == "all clips"]
    assert {m["clips"] + m["without_figure"] for m in mean} == {2}
    assert not all(m["without_figure"] for m in mean)


def test_a_mean_of_fewer_clips_says_so(outcome):
    points = [p for p in outcome[0].results.points
              if (p["clip"], p["enhancer"]) != ("clip1", "mean")]  # fmt: skip
    again = assemble_again(points, ["of 3 luma BD-rates (of before) 1 rest on something else"])
    (row,) = [r for r in summary_rows(again) if r["enhancer"] == "mean" and r["config"] == "ai"]
    assert row["whole"]["clips"] + row["whole"]["without_figure"] == 2
    assert "(1 of 2 clips)" in _rate(row["whole"])
    assert not any("of before" in mark for mark in again.marks), "of the figures as they were"


def test_the_temporal_error_of_more_bits_is_as_at_8(outcome):
    """Else clips of 10 bits, with numbers four times as large, would make a table's means."""
    found, cache, _ = outcome
    point = found.graph.points[0]
    deep = dataclasses.replace(point, clip=dataclasses.replace(point.clip, bit_depth=10))
    of_8, of_10 = (_point(p, cache)["whole"]["test"]["temporal"] for p in (point, deep))
    assert of_10 == pytest.approx(of_8 / 4, abs=1e-5)


def test_a_model_whose_card_says_nothing_is_marked(outcome):
    assert any("cannot be checked" in mark for mark in outcome[0].results.marks)
    unknown = Enhancer("x", "model", 2)
    assert not unknown.saw(outcome[0].graph.clips[0])


def test_a_model_that_wants_references_has_no_lr_only_points(outcome):
    """They would be bicubic under its name."""
    points = [p for p in outcome[0].results.points if p["kind"] == "lr-only"]
    assert {p["enhancer"] for p in points} == {"bicubic", "lanczos"}
    assert len([m for m in outcome[0].results.marks if "no LR-only points" in m]) == 1


def test_frames_that_were_only_up_sampled_are_marked(outcome, tmp_path):
    graph, cache = outcome[0].graph, outcome[1]
    measures = [p.measure for p in graph.points if p.enhancer.kind == "model"]
    copied = Cache(tmp_path / "cache")
    shutil.copytree(cache.folder, copied.folder, dirs_exist_ok=True)
    assert not [m for m in assemble(graph, copied).marks if "are bicubic" in m]
    record = cache.record(measures[0])
    status = ["upsampled" if s == "enhanced" else s for s in record["status"]]
    write_record(copied.path(measures[0]), {**record, "status": status})
    marks = [m for m in assemble(graph, copied).marks if "are bicubic" in m]
    total = len(measures) * status.count("upsampled")
    assert len(marks) == 1
    assert f"enhanced {total - status.count('upsampled')} of {total} down-sampled" in marks[0]


# ------------------------------------------------------------------ report --


@pytest.fixture(scope="module")
def report(outcome, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_report(report_of(outcome[0]), folder)
    return folder


def test_the_page_needs_nothing_from_elsewhere(report):
    page = (report / "index.html").read_text()
    assert not re.search(r"""(src|href)=["']?(?!data:)[^"'$]*[:/]""", page)
    assert "url(" not in page and "@import" not in page
    assert not re.search(r"@[A-Z]+@", page)
    assert "Trial &lt;of&gt; a report" in page and "<of>" not in page.split("<script")[0]


def test_the_page_holds_the_same_points(report, outcome):
    page = (report / "index.html").read_text()
    packed = re.search(r'<script id="data" type="text/plain">([^<]+)</script>', page).group(1)
    data = json.loads(gzip.decompress(base64.b64decode(packed)))
    assert len(data["points"]) == len(outcome[0].results.points)
    assert data["points"][0]["whole"] == outcome[0].results.points[0]["whole"]
    assert len(data["bd"]) == len(outcome[0].results.bd)


def test_tables_and_pictures_are_beside_it(report, outcome):
    results = outcome[0].results
    for name, rows in (("points", results.points), ("bd", results.bd), ("means", results.means)):
        with (report / f"{name}.csv").open() as file:
            assert len(list(csv.DictReader(file))) == len(rows)
    found = json.loads((report / "results.json").read_text())
    assert found["tds_evaluation"] == 2
    assert len(found["bd"]["rows"]) == len(results.bd)
    assert {p.suffix for p in (report / "png").iterdir()} == {".png"}
    assert len(list((report / "png").iterdir())) == 2 * 3


def test_a_report_is_written_again_from_its_figures(report, outcome, tmp_path):
    again = read_report(report / "results.json")
    assert again.results == outcome[0].results
    write_report(again, tmp_path)
    for name in ("index.html", "results.json", "means.csv", "temporal.csv"):
        assert (tmp_path / name).read_text() == (report / name).read_text()


def test_a_compressed_report_is_read_too(report, tmp_path):
    data = (report / "results.json").read_bytes()
    (tmp_path / "results.json.gz").write_bytes(gzip.compress(data))
    done = tools.tds("evaluate", tmp_path / "results.json.gz")
    assert "BD-rate in luma PSNR" in done.stdout
    assert (tmp_path / "results.json").read_bytes() == data
    (tmp_path / "cut.json.gz").write_bytes(gzip.compress(data)[:-100])
    with pytest.raises(InputError, match=r"no results\.json of tds evaluate"):
        read_report(tmp_path / "cut.json.gz")


def test_what_is_no_report_is_one_sentence(tmp_path):
    path = tmp_path / "results.json"
    with pytest.raises(InputError, match="no such file"):
        read_report(path)
    path.write_text("{}")
    with pytest.raises(InputError, match=r"no results\.json of tds evaluate"):
        read_report(path)


def test_temporal_error_is_in_a_table(report, outcome):
    rows = outcome[0].results.temporal
    assert len(rows) == 2 * (3 + 2 + 1) * 2  # configurations; enhancers by plan; countings
    plain = [r for r in rows if r["plan"] == "plain"]
    assert {r["difference"] for r in plain} == {0}
    row = next(r for r in rows if r["plan"].startswith("N=5") and r["counting"] == "type")
    own = [p["type"]["test"]["temporal"] for p in outcome[0].results.points
           if all(p[k] == row[k] for k in ("codec", "config", "plan", "enhancer"))]  # fmt: skip
    assert row["test"] == pytest.approx(sum(own) / len(own), abs=1e-4)
    assert "Consistency over time" in (report / "index.html").read_text()


def test_provenance_names_versions_and_no_path(report, outcome, clips):
    text = (report / "results.json").read_text()
    p = outcome[0].provenance
    assert "libx265 in FFmpeg" in p["versions"]["libx265"]
    assert p["machine"]["cores"]
    assert [c["name"] for c in p["clips"]] == ["clip0", "clip1"]
    assert all(len(c["sha256"]) == 64 for c in p["clips"])
    assert any("-c:v libx265" in c for c in p["streams"].values())
    without_config = text.replace(json.dumps(p["configuration"])[1:-1], "")
    assert str(clips) not in without_config.replace(json.dumps(p["command"])[1:-1], "")


def test_crops_are_at_equal_bits(outcome):
    crops = outcome[0].crops
    assert [c["config"] for c in crops] == ["ai", "ra"]
    for c in crops:
        assert set(c["versions"]) == {"anchor", "bicubic", "lanczos", "mean"}
        # One QP is some 12 % of the bits, so the nearest is within half of that and a bit.
        assert c["anchor_bits"] == pytest.approx(c["bits"], rel=0.12)


def test_nearest_qp_by_bits():
    bits = {22: 8000, 27: 4000, 32: 2000, 37: 1000}
    assert nearest_qp(bits, 2000, 51) == 32
    assert nearest_qp(bits, 2600, 51) == 30
    assert nearest_qp(bits, 16000, 51) == 17
    assert nearest_qp(bits, 500, 51) == 42
    assert nearest_qp(bits, 1, 51) == 51


# ----------------------------------------------------------------- command --


def test_the_command_runs_and_goes_on(clips, tmp_path):
    _config(tmp_path, clips / "clip0.mkv", configs=["ai"], qps=[30, 36], plans=["lr-only"])
    arguments = ["evaluate", tmp_path / "config.yaml", "--out", tmp_path / "out", "--workers", 1]
    done = tools.tds(*arguments)
    assert "BD-rate in luma PSNR" in done.stdout
    assert (tmp_path / "out" / "index.html").is_file()
    again = tools.tds(*arguments)
    jobs = re.search(r"(\d+) jobs, (\d+) of them in the cache", again.stderr)
    assert jobs.group(1) == jobs.group(2)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"clips": ["nowhere.mkv"]}, "nowhere.mkv: there is no such clip"),
        ({"models": ["no-such-model"]}, "no-such-model"),
        ({"qps": [1]}, "qps should be a list with 2 or more"),
    ],
)
def test_bad_input_gets_one_sentence(clips, tmp_path, changes, says):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, "clips": [str(clips)], "models": [], **changes}))
    done = tools.tds("evaluate", path, "--out", tmp_path / "out", status=1)
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "index.html").exists()


def _descendants(pid):
    """Of a process, with their start times, by which a pid that is used again is told."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [(child, _started(child)), *_descendants(child)]
    return found


def _started(pid):
    """None: it has ended, or is only waiting to be waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields[19]


def test_workers_end_with_the_process_that_started_them(city, tmp_path):
    """Also when that was killed, and cannot tell them."""
    codecs = [{"codec": "hevc", "preset": "veryslow"}]
    _config(tmp_path, city, codecs=codecs, frames=25, configs=["ra"])
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "tds", "evaluate", str(tmp_path / "config.yaml")]
        + ["--out", str(out), "--workers", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while len(list(out.glob("**/making-*"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(1)  # so that the encoders run
    started = _descendants(process.pid)
    assert len(started) > 3
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while left := [pid for pid, begun in started if begun and _started(pid) == begun]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    assert list(out.glob("**/making-*")) == [], "what was half done is gone"


def test_a_cache_is_put_aside_only_for_a_run_that_can_start(clips, tmp_path):
    _config(tmp_path, "nowhere.mkv", configs=["ai"], qps=[30, 36], plans=["lr-only"])
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "kept").write_text("hours of work")
    arguments = ["evaluate", tmp_path / "config.yaml", "--cache", cache, "--no-resume"]
    for more, says in (
        ([], "no such clip"),
        (["--workers", 0], "--workers is 1 or more"),
        (["--partial"], "--partial reports what the cache has"),
        (["--clips", clips, "--ray", "127.0.0.1:1"], "Ray"),
    ):
        assert says in tools.tds(*arguments, *more, status=1).stderr
        assert (cache / "kept").is_file()


def test_only_what_this_machine_left_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "node")
    gone = 2**22 + 1  # above the highest process there can be
    own, others = tmp_path / f"making-node-{gone}-abc", tmp_path / f"making-node-1-{gone}-abc"
    running = tmp_path / f"making-node-{os.getpid()}-abc"
    for folder in (own, others, running):
        folder.mkdir()
    Cache(tmp_path)
    assert [p.exists() for p in (own, others, running)] == [False, True, True]


def test_a_report_is_written_when_models_cannot_be_timed(clips, tmp_path, monkeypatch):
    def out_of_order(*_):
        raise ExternalError("mean.pt at 64x48: no CUDA device")

    monkeypatch.setattr("tds.evaluation.complexity.examine_models", out_of_order)
    changes = {"configs": ["ai"], "qps": [30, 36], "plans": ["plain"], "complexity": ["64x48"]}
    evaluation = _config(tmp_path, clips / "clip0.mkv", **changes)
    found = evaluate(evaluation, Cache(tmp_path / "cache"), InProcess())
    assert found.results.points and not found.complexity
    assert any("mean.pt at 64x48: no CUDA device" in mark for mark in found.results.marks)


def test_left_to_do_puts_inputs_first(outcome, tmp_path):
    graph = outcome[0].graph
    order = left_to_do(reversed(graph.jobs), Cache(tmp_path / "empty"))
    place = {job.key: i for i, job in enumerate(order)}
    assert len(order) == len(graph.jobs)
    assert all(place[x.key] < place[j.key] for j in order for x in j.inputs.values())
