# SPDX-License-Identifier: LGPL-2.1-or-later
"""The same jobs on a local Ray cluster of two nodes."""

from __future__ import annotations

import pytest
import yaml

import tools
from tds.errors import ExternalError
from tds.evaluation.cache import Cache
from tds.evaluation.config import load
from tds.evaluation.execution import LocalExecutor, RayExecutor, _run_there, left_to_do
from tds.evaluation.graph import build, examine_clips, find_enhancers
from tds.evaluation.run import evaluate

ray = tools.require_ray()


@pytest.fixture(scope="module")
def evaluation(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ray")
    path = folder / "config.yaml"
    model = tools.tiny_model(folder / "mean.pt")
    config = {
        "clips": [str(small)],
        "codecs": [{"codec": "hevc", "preset": "ultrafast"}],
        "configs": ["ai"],
        "qps": [30, 36],
        "plans": [{}],
        "models": [str(model)],
        "frames": 6,
        "crops": 1,  # a second run after the first, on the same cluster
    }
    path.write_text(yaml.safe_dump(config))
    return load(path)


def _without_speed(points):
    return [{k: v for k, v in p.items() if k != "fps"} for p in points]


def test_two_nodes_find_what_one_machine_finds(ray_cluster, evaluation, tmp_path):
    there = evaluate(evaluation, Cache(tmp_path / "ray"), RayExecutor(ray_cluster))
    here = evaluate(evaluation, Cache(tmp_path / "local"), LocalExecutor(1))
    assert _without_speed(there.results.points) == _without_speed(here.results.points)
    assert there.results.bd == here.results.bd
    assert len(there.crops) == 1
    assert set(there.crops[0]["versions"]) == set(here.crops[0]["versions"])
    assert not ray.is_initialized()


def test_both_nodes_are_used(ray_cluster, evaluation, tmp_path):
    """Two jobs at once: a node has one processor, so each does one of them."""

    def where(*arguments):
        return {**_run_there(*arguments), "node": ray.get_runtime_context().get_node_id().encode()}

    graph = build(evaluation, examine_clips(evaluation), find_enhancers(evaluation))
    cache = Cache(tmp_path / "cache")
    jobs = [job for job in left_to_do(graph.jobs, cache) if not job.inputs][:2]
    executor = RayExecutor(ray_cluster)
    assert executor.slots == 2
    executor.start(cache, graph.files)
    executor._task = ray.remote(num_cpus=1)(where)
    handles = {executor.submit(job): job for job in jobs}
    assert len(handles) == 2
    for handle, job in handles.items():
        executor.finish(handle, job)
    executor.stop()
    assert all(map(cache.has, jobs))
    assert len({(cache.path(job) / "node").read_text() for job in jobs}) == 2


def test_a_job_that_fails_there_is_told_here(ray_cluster, evaluation, tmp_path):
    graph = build(evaluation, examine_clips(evaluation), find_enhancers(evaluation))
    wrong = tmp_path / "wrong.mkv"
    wrong.write_bytes(b"no video")
    files = dict.fromkeys(graph.files, wrong)
    cache = Cache(tmp_path / "cache")
    with pytest.raises(ExternalError, match="not a video file"):
        RayExecutor(ray_cluster).run(left_to_do(graph.jobs, cache)[:1], cache, files, print)


def test_a_cluster_that_is_not_there_is_one_sentence():
    with pytest.raises(ExternalError, match="no Ray cluster answers"):
        RayExecutor("127.0.0.1:1")
