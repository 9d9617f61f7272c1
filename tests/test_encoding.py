# SPDX-License-Identifier: LGPL-2.1-or-later
"""The encoder that measures: what it chooses is what a decoder shows, and never costs more than
the plain stream."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import av
import numpy as np
import pytest

import tds
import tools
from tds.container.metadata import Timeline
from tds.container.writing import CodedStream, write_paired
from tds.encoding import tries
from tds.encoding.auto import pick
from tds.encoding.candidates import Measured, Pair, against_plain
from tds.encoding.choosing import (
    Group,
    at_equal_quality,
    cheapest,
    climb,
    slope_between,
    strongest,
    uniform,
)
from tds.encoding.report import page
from tds.errors import InputError, MissingError, OutputError, OutputExistsError
from tds.measuring.measure import source_planes
from tds.media.extras import Extras
from tds.plan import Role

Coded = Callable[..., tds.EncodeResult]
Choice = dict[str, Any]
FAST: Choice = {"codec": "hevc", "preset": "ultrafast", "model": "fast"}


@pytest.fixture(scope="module")
def scenes(city: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """62 frames of 240x128: the clip forwards and backwards, and then another scene."""
    path = tmp_path_factory.mktemp("scenes") / "scenes.mkv"
    graph = (
        "[0]scale=240:128,split=3[a][b][c];[b]reverse[b];"
        "[c]trim=end_frame=12,vflip,negate,setpts=N/25/TB[c];[a][b][c]concat=n=3,setpts=N/25/TB"
    )
    tools.ffmpeg("-i", city, "-filter_complex", graph, "-c:v", "ffv1", path)
    return path


def errors(source: Path, path: Path) -> list[int]:
    """Squared luma errors of each picture, as a decoder with the tag's model shows it."""
    with tds.decode(path) as pictures:
        return [
            int(np.square(picture.planes[0].astype(int) - planes[0].astype(int)).sum())
            for picture, (_, planes) in zip(pictures, source_planes(str(source), None), strict=True)
        ]


def bits(path: Path) -> int:
    with av.open(str(path)) as container:
        return 8 * sum(p.size for p in container.demux(container.streams.video) if p.size)


def told(result: tds.EncodeResult, what: str) -> list[Any]:
    assert result.choice is not None
    return [frame[what] for frame in result.choice.frames]


# ------------------------------------------------------------------- numbers --


def test_the_cheapest_way_may_mix_groups_of_every_size():
    groups = [Group(i, i + 1, 10, 10) for i in range(8)]
    groups += [Group(a, b, 41, 12) for a, b in uniform(8, 5)]
    groups += [Group(0, 8, 1000, 1)]
    assert [(g.first, g.last) for g in cheapest(8, groups, 0.0)] == [(i, i + 1) for i in range(8)]
    assert [(g.first, g.last) for g in cheapest(8, groups, 1.0)] == [(0, 4), (4, 8)]
    assert [(g.first, g.last) for g in cheapest(8, groups, 100.0)] == [(0, 8)]
    groups[1] = Group(1, 2, 1000, 10)  # one bad picture, and no way around it but a group
    way = cheapest(8, groups, 0.0)
    assert (way[0].first, way[0].last) == (0, 4)


def test_groups_end_with_the_segment():
    assert uniform(10, 5) == [(0, 4), (4, 8), (8, 10)]
    assert uniform(2, 17) == [(0, 2)]
    assert uniform(0, 5) == []


def test_sizes_are_tried_as_far_as_they_get_better():
    def tried(**costs: float) -> list[int]:
        return list(climb((3, 5, 9, 17), 5, lambda n: costs[f"n{n}"]))

    assert tried(n5=2, n9=3, n3=1) == [5, 9, 3]
    assert tried(n5=2, n9=1, n17=3) == [5, 9, 17]
    assert tried(n5=3, n9=2, n17=1) == [5, 9, 17]
    assert list(climb((5,), 5, lambda n: 1.0)) == [5]


def test_lambda_is_the_slope_between_two_qps():
    assert slope_between((2000, 100), (1000, 300)) == 0.2
    assert slope_between((1000, 100), (1000, 300), otherwise=7.0) == 7.0


def test_bits_are_compared_at_equal_quality():
    """With those of the plain stream's curve, straight in logarithms between its points."""
    curve = [(1.5, 0.6), (0.5, 2.0), (0.4, 4.0)]
    assert at_equal_quality(1, 1, curve) == 1
    for bits, error in curve:
        assert at_equal_quality(bits, error, curve) == pytest.approx(1)
    assert at_equal_quality(0.5, 2**0.5, curve) == pytest.approx(0.5 / 0.5**0.5)
    assert at_equal_quality(0.45, 3, curve) > 1  # where the curve by its tangent has 0.33
    assert at_equal_quality(0.32, 8, curve) == pytest.approx(1)  # beyond: as before
    assert at_equal_quality(1, 0, curve) < 0.01


def test_points_of_the_curve_that_tell_nothing_are_passed_over():
    """An encoder at the end of its QPs, or at bits that hardly depend on them."""
    known = [(1.5, 0.6), (0.5, 2.0)]
    odd = [(1.0, 1.0), (1.4, 0.7), (1.6, 0.7), (0.6, 0.9), (1.1, 3.0), (0.5, 2.0)]
    assert at_equal_quality(0.5, 1.5, [*known, *odd]) == at_equal_quality(0.5, 1.5, known)
    assert at_equal_quality(1, 0.5, []) == at_equal_quality(1, 0.5, [(1.0, 1.0)]) < 1


def _measured(bits: int, error: int, pairs: list[tuple[int, int]]) -> Measured:
    """A segment of three frames, with a pair for each step of lambda."""
    ways: list[Any] = [
        {"groups": [(0, 2)], "bits": [0, b, 0], "errors": [0, e, 0]} for b, e in pairs
    ]
    record: Any = {
        "slope": 1.0,
        "curve": [(2.0, 0.5), (0.5, 2.0), (0.25, 4.0)],
        "bits": [0, bits, 0],
        "passed": [0, error, 0],
        "enhanced": [0, error, 0],
        "pairs": {str(tries.LR(2, 3)): ways},
    }
    return Measured((0, 1, 2), False, Path(), record)


def test_segments_are_compared_as_one_video():
    """Two that are each nearly the plain stream's equal, at qualities far from each other, cost
    more than a plain stream of one quality between."""
    far = _measured(1000, 1000, [(250, 3900)])
    near = _measured(1000, 1000, [(2000, 490)])
    pair = Pair(tries.LR(2, 3), 0)
    assert against_plain([far], pair, 0) < 1 and against_plain([near], pair, 0) < 1
    assert against_plain([far, near], pair, 0) > 1.2


def test_of_equal_strengths_the_strongest_is_taken():
    assert strongest([(5, 4, 3), (3, 4, 5), (5, 3, 4), (2, 2, 2)]) == [2, 0, 1, 2]


# --------------------------------------------------------- what comes out of it --


@pytest.fixture(scope="module")
def measured(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> tds.EncodeResult:
    out = tmp_path_factory.mktemp("measured") / "o.mp4"
    return tds.encode(scenes, out, qp=37, effort=1, workers=1, **FAST)


def test_what_was_measured_is_what_a_decoder_shows(
    scenes: Path, measured: tds.EncodeResult
) -> None:
    refined = "k=2, LR +3, HR refined"
    assert measured.choice is not None and measured.choice.chosen == refined
    assert min(measured.choice.tried.values()) == measured.choice.tried[refined] < 100
    # HR pictures are measured with what is around them in their segment and in groups of one size.
    shown, said = errors(scenes, measured.path), told(measured, "error")
    assert sum(shown) == pytest.approx(sum(said), rel=0.005)
    assert sum(a == b for a, b in zip(shown, said, strict=True)) > len(shown) / 2
    assert bits(measured.path) == sum(told(measured, "bits"))
    roles = ["HR" if role is Role.HR else "LR" for role in measured.metadata.roles()]
    assert roles == told(measured, "role") and set(told(measured, "strength")) == {1}
    assert (measured.metadata.model, measured.metadata.lr_qp) == ("fast", 40)
    with tds.decode(measured.path) as pictures:
        assert {picture.status for picture in pictures} == {"refined", "enhanced"}


def test_with_hr_pictures_as_they_are_it_is_so_to_the_sample(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tries, "EFFORTS", (tries.Tries(), tries.Tries((5,), (tries.LR(2, 0),))))
    monkeypatch.setattr(tries, "BOTH_FROM", 1)  # refined at another offset alone
    result = tds.encode(scenes, tmp_path / "o.mp4", qp=37, effort=1, workers=1, **FAST)
    assert result.choice is not None and result.choice.chosen == "k=2, LR +0"
    assert errors(scenes, result.path) == told(result, "error")
    assert bits(result.path) == sum(told(result, "bits"))


def test_scenes_and_segments_have_plans_of_their_own(measured: tds.EncodeResult) -> None:
    assert measured.choice is not None
    assert [s["first"] for s in measured.choice.segments] == [0, 33, 50]
    groups = [size for size, count in measured.metadata.groups for _ in range(count)]
    assert (
        groups[0] < 0 and groups.count(min(groups)) == 2
    )  # each scene begins with an HR of its own
    with tds.decode(measured.path, backend="bicubic") as pictures:
        times = [picture.pts * pictures.time_base for picture in pictures]
    assert times == [Fraction(i, 25) for i in range(62)]


def test_at_high_rates_it_is_one_stream(small: Path, tmp_path: Path) -> None:
    result = tds.encode(small, tmp_path / "o.mp4", qp=12, **FAST)
    assert result.choice is not None and result.choice.tried
    assert result.choice.chosen == "one stream" and result.lr.frames == 0
    assert errors(small, result.path) == told(result, "error")
    assert bits(result.path) == sum(told(result, "bits")) == sum(told(result, "plain_bits"))


def test_no_file_costs_more_than_the_plain_stream_of_its_quality(
    small: Path, tmp_path: Path
) -> None:
    """By half a percent or more, whatever QP is asked for: as decoded, against the stream that the
    encoder gives without all this."""
    options = {**FAST, "effort": 1}
    curve = []
    for qp in range(18, 46, 3):
        plain = {**options, "plan": "plain", "model": None, "qp": qp}
        path = tds.encode(small, tmp_path / "p.mp4", overwrite=True, **plain).path
        curve.append((bits(path), sum(errors(small, path))))
    for qp in (20, 26, 32):
        result = tds.encode(small, tmp_path / "o.mp4", overwrite=True, qp=qp, **options)
        error = sum(errors(small, result.path))
        at = np.interp(math.log(error), *np.log([(e, b) for b, e in curve]).T)
        assert bits(result.path) < 1.005 * math.exp(at)


@pytest.mark.parametrize("codec", ["hevc", "vvc", "av1"])
def test_some_pictures_of_several_runs_are_a_stream(
    small: Path, tmp_path: Path, codec: str
) -> None:
    """Which is what a plan is made of: they decode as they did among their neighbours."""
    runs = []
    for run in range(2):
        part = tmp_path / f"{run}.mkv"
        trim = f"trim=start_frame={12 * run}:end_frame={12 * run + 12},setpts=N/25/TB"
        tools.ffmpeg("-i", small, "-vf", trim, "-c:v", "ffv1", part)
        options = {"codec": codec, "preset": tools.FASTEST[codec], "qp": 37}
        runs.append(tds.encode(part, tmp_path / f"{run}.mp4", plan="plain", **options))
    places = ([0, 3, 11], [4, 5, 9])
    parts = [
        pick(run.path, of_one, tmp_path / f"part{i}.mp4")
        for i, (run, of_one) in enumerate(zip(runs, places, strict=True))
    ]
    out = tmp_path / "o.mp4"
    timeline = Timeline.of(list(range(6)), Fraction(1, 25), Fraction(25))
    metadata = replace(runs[0].metadata, groups=((1, 6),), timeline=timeline)
    write_paired(out, CodedStream(parts, range(6)), None, metadata, Extras())
    whole = [tools.digests(run.path) for run in runs]
    assert tools.digests(out) == [
        whole[run][i] for run, of_one in enumerate(places) for i in of_one
    ]


def test_a_pair_of_av1_is_chosen_like_any_other(small: Path, tmp_path: Path) -> None:
    options = {"codec": "av1", "preset": "12", "model": "fast", "effort": 1, "qp": 60}
    result = tds.encode(small, tmp_path / "o.mp4", **options)
    assert result.choice is not None and result.choice.chosen == "k=2, LR +3, HR refined"
    assert sum(errors(small, result.path)) == pytest.approx(sum(told(result, "error")), rel=0.005)
    assert bits(result.path) == sum(told(result, "bits"))


@pytest.mark.parametrize("config", ["ra", "ldp"])
def test_where_pictures_are_coded_from_each_other_it_is_one_stream(
    small: Path, tmp_path: Path, config: str
) -> None:
    options = {**FAST, "qp": 42, "config": config, "intra_period": 10}
    result = tds.encode(small, tmp_path / "o.mp4", **options)
    plain = tds.encode(small, tmp_path / "p.mp4", plan="plain", **{**options, "model": None})
    assert result.lr.frames == 0 and result.hr == plain.hr
    assert result.restarts == plain.restarts
    assert sum(errors(small, result.path)) < sum(errors(small, plain.path))
    assert told(result, "bits") == told(result, "plain_bits")
    if config == "ldp":
        assert told(result, "plain_error") == errors(small, plain.path)
    assert set(told(result, "strength")) <= {0, 0.5, 1}


def test_a_model_that_makes_things_worse_is_not_asked_for(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strengths of 0 throughout."""
    monkeypatch.setenv("TDS_MODEL_PATH", str(tmp_path))
    tools.tiny_family(tmp_path / "worse-k1.pt", gain=-4.0)
    options = {"codec": "hevc", "preset": "ultrafast", "qp": 32}
    for config in ("ai", "ldp"):
        result = tds.encode(
            small, tmp_path / f"{config}.mp4", config=config, model="worse", **options
        )
        assert result.metadata.strengths == ((0, 25),)
        with tds.decode(result.path) as pictures:
            assert {picture.status for picture in pictures} == {"passed"}
        assert result.choice is not None and result.choice.tried == {"one stream": 100.0}


def test_hr_pictures_of_pairs_are_refined_where_models_can(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TDS_MODEL_PATH", str(tmp_path))
    slots = ("full-before", "full-after", "-1", "+1")
    tools.tiny_family(tmp_path / "tiny-k1.pt", references=slots[:2])
    tools.tiny_family(tmp_path / "tiny-k2.pt", 2, references=slots)
    still = tmp_path / "still.mkv"
    tools.ffmpeg("-i", small, "-vf", "loop=24:1:0,trim=end_frame=25,setpts=N/25/TB", "-c:v", "ffv1",
                 still)  # fmt: skip
    one = tries.Tries((3,), (tries.LR(2, 3, refine=True),))
    monkeypatch.setattr(tries, "EFFORTS", (one, one))
    options = {"codec": "hevc", "preset": "ultrafast", "qp": 42, "model": "tiny", "effort": 1}
    result = tds.encode(still, tmp_path / "o.mp4", **options)
    assert result.choice is not None and result.choice.chosen == "k=2, LR +3, HR refined"
    assert result.metadata.refine_hr and result.lr.frames > 0
    assert errors(still, result.path) == told(result, "error")


def test_a_strength_may_be_given(small: Path, tmp_path: Path) -> None:
    result = tds.encode(
        small, tmp_path / "o.mp4", plan="plain-enhanced", strength=0.5, qp=37, **FAST
    )
    assert result.metadata.strengths == ((1, 25),)
    result = tds.encode(
        small, tmp_path / "o.mp4", overwrite=True, config="ldp", strength=0.5, qp=37, **FAST
    )
    assert result.metadata.strengths == ((1, 25),)


def test_without_measuring_a_plan_is_fixed(small: Path, tmp_path: Path) -> None:
    intra = tds.encode(small, tmp_path / "ai.mp4", effort=0, **FAST)
    assert intra.choice is None and intra.metadata.model == "fast"
    assert intra.metadata.groups == ((-5, 1), (5, 5))
    late = tds.encode(small, tmp_path / "ldp.mp4", effort=0, config="ldp", **FAST)
    assert late.lr.frames == 0 and late.metadata.refine_hr and late.metadata.model_sha256


def test_an_output_without_a_tag_is_a_pair_unless_told(small: Path, tmp_path: Path) -> None:
    for name in ("o.json", "o.ts"):
        result = tds.encode(small, tmp_path / name, codec="hevc", preset="ultrafast")
        assert result.lr.frames > 0 and result.choice is None


# ---------------------------------------------------------------- around it --


def test_the_command_measures_unless_told_and_says_what_it_chose(
    small: Path, tmp_path: Path
) -> None:
    out = tmp_path / "o.mp4"
    options = ("--codec", "hevc", "--preset", "ultrafast", "--model", "fast")
    done = tools.tds("encode", small, out, *options, "--config", "ra", "--measure")
    assert "one stream, as coded" in done.stdout and "one stream, enhanced" in done.stdout
    text = tools.tds("info", out).stdout
    assert "chosen  one stream" in text and "at effort 2" in text
    facts = json.loads(tools.tds("info", "--json", out).stdout)
    assert list(facts["choice"]["tried"]) == ["one stream"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.mp4"]  # and no state


def test_the_report_is_one_page_that_needs_nothing_else(
    measured: tds.EncodeResult, small: Path, tmp_path: Path
) -> None:
    assert measured.choice is not None
    text = page(measured.choice, measured.metadata, "<clip>.mp4")
    assert "&lt;clip&gt;.mp4" in text and "prefers-color-scheme: dark" in text
    assert not re.search(r"(src|href)=|https?:|url\(|@import", text)
    for drawing in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(drawing)
    assert text.count("<svg") == 3 and text.count("<polyline") == 4
    assert "k=2, LR +3" in text and "LR of a pair" in text
    out, report = tmp_path / "o.mp4", tmp_path / "o.html"
    options = ("--codec", "hevc", "--preset", "ultrafast", "--model", "fast", "--config", "ra")
    tools.tds("encode", small, out, *options, "--report", report)
    assert "one stream" in report.read_text()
    done = tools.tds("encode", small, tmp_path / "p.mp4", *options, "--report", report, status=1)
    assert "--overwrite" in done.stderr and not (tmp_path / "p.mp4").exists()


def test_progress_and_what_is_done_are_told_to_programs_and_people(
    scenes: Path, tmp_path: Path
) -> None:
    out, log = tmp_path / "o.mp4", tmp_path / "o.log"
    options = ("--codec", "hevc", "--preset", "ultrafast", "--model", "fast", "--effort", 1)
    more = ("--workers", 1, "--qp", 37, "--progress", "json", "-v", "--log-file", log)
    done = tools.tds("encode", scenes, out, *options, *more)
    lines = [line for line in done.stderr.splitlines() if line.startswith("{")]
    last = json.loads(lines[-1])
    assert (last["what"], last["done"], last["total"]) == ("encode", 62, 62)
    assert last["seconds_left"] == 0
    assert "tds: segment 2 (12 frames): measured" in done.stderr
    assert "DEBUG segment 0 (33 frames): begins" in log.read_text()
    done = tools.tds("encode", scenes, out, "-y", "--log-file", scenes, status=1)
    assert "is the input too" in done.stderr


def test_a_model_that_lacks_is_one_sentence(small: Path, tmp_path: Path) -> None:
    for plan in ("auto", "plain-enhanced"):
        with pytest.raises(MissingError, match="no model 'none' for k = 1 is installed"):
            tds.encode(small, tmp_path / "o.mp4", plan=plan, codec="hevc", model="none")
    for options, says in (
        ({"effort": 5}, "an effort is 0 to 4, not 5"),
        ({"strength": 0.3}, "a strength is 0, 0.5 or 1"),
        ({"workers": 0}, "one worker or more"),
    ):
        with pytest.raises(InputError, match=says):
            tds.encode(small, tmp_path / "o.mp4", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_is_damaged_leaves_no_state(scenes: Path, tmp_path: Path) -> None:
    """Going on would be of no use."""
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(scenes.read_bytes()[: scenes.stat().st_size * 4 // 5])
    with pytest.raises(InputError):
        tds.encode(cut, tmp_path / "o.mp4", effort=1, workers=1, **FAST)
    assert [path.name for path in tmp_path.iterdir()] == ["cut.mkv"]


def test_what_is_read_once_is_measured_too(small: Path, tmp_path: Path) -> None:
    ways = []
    for name in ("ai", "ldp"):
        notices: list[str] = []
        fifo = tmp_path / f"{name}.fifo"
        os.mkfifo(fifo)
        feeding = subprocess.Popen(["dd", f"if={small}", f"of={fifo}", "status=none"])
        result = tds.encode(
            fifo, tmp_path / f"{name}.mp4", config=name, effort=1, on_notice=notices.append, **FAST
        )
        feeding.wait()
        ways.append((result.choice is not None, any("read only once" in n for n in notices)))
    assert ways[0][0] and ways[1] == (False, True)


# ------------------------------------------------------------------ long jobs --


def test_a_job_that_is_killed_again_and_again_goes_on_where_it_was(
    scenes: Path, measured: tds.EncodeResult, tmp_path: Path
) -> None:
    """As each segment begins: of those before nothing is done again."""
    out = tmp_path / "o.mp4"
    command = [sys.executable, "-m", "tds", "encode", str(scenes), str(out), "--overwrite"]
    command += ["--progress", "none", "-vv", "--effort", "1", "--workers", "1", "--qp", "37"]
    command += ["--codec", "hevc", "--preset", "ultrafast", "--model", "fast"]
    for last in range(4):
        said = []
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            for line in process.stderr:
                said += re.findall(r"segment (\d) .*: (done before|begins)", line)
                if (str(last), "begins") in said:
                    process.kill()
        kept = [(str(i), "done before") for i in range(last - 1)]
        assert sorted(said) == kept + [(str(i), "begins") for i in (last - 1, last) if 0 <= i < 3]
        assert out.exists() == (last == 3)
    assert process.returncode == 0
    assert out.read_bytes() == measured.path.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["o.mp4"]


def test_a_job_that_was_ended_says_that_it_goes_on(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And does again only what was not done: here none, since it ended when all was measured."""
    from tds import encoder
    from tds.encoding.measured import Measuring

    out, notices = tmp_path / "o.mp4", []
    options = {**FAST, "effort": 1, "workers": 1, "qp": 37}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(encoder, "write_paired", full)
        with pytest.raises(OSError, match="no space left"):
            tds.encode(scenes, out, on_notice=notices.append, **options)
    assert any("what is done, 3 segments, stays in" in notice for notice in notices)
    assert [path.name for path in tmp_path.iterdir()] == ["o.mp4.tds-state"]
    with monkeypatch.context() as patched:
        patched.setattr(Measuring, "measure", full)
        result = tds.encode(scenes, out, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["o.mp4"]
    assert len(told(result, "error")) == 62


@pytest.mark.parametrize("other", ["trim=end_frame=9", "crop=64:64"])
def test_a_source_that_changes_while_it_is_coded_is_said(
    small: Path, tmp_path: Path, other: str
) -> None:
    """Low delay is measured by reading it again."""
    source, changed = tmp_path / "source.mkv", tmp_path / "changed.mkv"
    shutil.copy(small, source)
    tools.ffmpeg("-i", small, "-vf", other, "-c:v", "ffv1", changed)

    def replace_it(done: int, total: int) -> None:
        if changed.exists():
            changed.rename(source)

    with pytest.raises(InputError, match=r"source.mkv was changed while it was coded"):
        tds.encode(source, tmp_path / "o.mp4", config="ldp", progress=replace_it, **FAST)
    assert [path.name for path in tmp_path.iterdir()] == ["source.mkv"]


def test_an_output_is_made_by_one_run_at_a_time(
    scenes: Path, measured: tds.EncodeResult, tmp_path: Path
) -> None:
    """Whoever comes second changes nothing of what the first has done so far."""
    out = tmp_path / "o.mp4"
    command = [sys.executable, "-m", "tds", "encode", str(scenes), str(out), "-vv"]
    command += ["--progress", "none", "--effort", "1", "--workers", "1", "--qp", "37"]
    command += ["--codec", "hevc", "--preset", "ultrafast", "--model", "fast"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as first:
        assert first.stderr is not None
        assert any("segment 0" in line for line in first.stderr)
        for overwrite in (False, True):
            with pytest.raises(OutputError, match="is being made by another process"):
                tds.encode(scenes, out, overwrite=overwrite, effort=1, **FAST)
        first.communicate()
    assert first.returncode == 0
    assert out.read_bytes() == measured.path.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["o.mp4"]


def test_what_is_done_outlives_a_run_that_was_told_wrongly(small: Path, tmp_path: Path) -> None:
    out, notices = tmp_path / "o.mp4", []
    state = tmp_path / "o.mp4.tds-state"
    done = state / "segment" / "ab" / "abcd" / "record.json"
    done.parent.mkdir(parents=True)
    done.write_text("{}")
    with pytest.raises(InputError, match="not a video file"):
        tds.encode(__file__, out, effort=1, on_notice=notices.append, **FAST)
    assert done.is_file()
    assert notices == [f"what an earlier run did, 1 segment, stays in {state}"]
    tds.encode(small, out, effort=1, **FAST)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.mp4"]


def test_what_has_the_name_of_the_state_is_left_alone(small: Path, tmp_path: Path) -> None:
    (tmp_path / "o.mp4.tds-state").write_text("mine")
    with pytest.raises(OutputExistsError, match="is no folder, and what is measured would lie"):
        tds.encode(small, tmp_path / "o.mp4", effort=1, **FAST)
    assert (tmp_path / "o.mp4.tds-state").read_text() == "mine"


def test_what_is_no_file_has_nothing_beside_it(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as /dev/stdout, where only root may make folders."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    (tmp_path / "devices").mkdir()
    fifo = tmp_path / "devices" / "fifo"
    os.mkfifo(fifo)
    no_others: list[int] = []
    for plan in ("auto", "tds"):
        with subprocess.Popen(["cat", fifo], stdout=subprocess.PIPE) as reader:
            tds.encode(
                *(small, fifo),
                format="mkv",
                plan=plan,
                effort=1,
                progress=lambda *_: no_others.append(len(list(fifo.parent.iterdir()))),
                **FAST,
            )
            assert reader.communicate()[0][:4] == b"\x1aE\xdf\xa3"
        assert set(no_others) == {1}
    assert list((tmp_path / "temporary").iterdir()) == []


def test_workers_change_nothing(scenes: Path, measured: tds.EncodeResult, tmp_path: Path) -> None:
    two = tds.encode(scenes, tmp_path / "o.mp4", effort=1, workers=2, qp=37, **FAST)
    assert two.path.read_bytes() == measured.path.read_bytes()
