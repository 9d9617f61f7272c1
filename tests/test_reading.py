# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pairs as other programs leave them: cut, remuxed, fragmented, without their tag, or with one
that lies. What the tracks show counts; the tag's plan never overrules it without a word."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest

import tds
import tools

Coded = Callable[..., tds.EncodeResult]
COPY = ("-map", 0, "-c", "copy")
KEEP = "use_metadata_tags"


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory, small: Path) -> Path:
    """75 frames at 24000/1001, each of which differs from the next."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    tools.ffmpeg("-stream_loop", 2, "-r", "24000/1001", "-i", small, "-c:v", "libx264", path)
    return path


@pytest.fixture(scope="module")
def remade(
    tmp_path_factory: pytest.TempPathFactory, coded: Coded, long: Path
) -> Callable[..., Path]:
    """remade("ra", "x.mkv", options): the long clip's pair, copied by ffmpeg."""
    folder = tmp_path_factory.mktemp("remade")

    def make(config: str, name: str, *options: object, before: tuple[object, ...] = ()) -> Path:
        source = coded(long, codec="hevc", config=config, intra_period=25).path
        tools.ffmpeg(*before, "-i", source, *COPY, *options, folder / f"{config}-{name}")
        return folder / f"{config}-{name}"

    return make


def shown(path: Path) -> tuple[list[tuple[Fraction, str, str]], list[str], Fraction]:
    """((time, status, digest) of each picture, notices, rate)."""
    with tds.decode(path, backend="bicubic") as pictures:
        got = [(p.pts * pictures.time_base, p.status, tools.digest(p.planes)) for p in pictures]
        return got, pictures.notices, pictures.rate


@pytest.mark.parametrize("config", ["ai", "ra"])
def test_a_pair_in_matroska_has_the_frames_of_the_mp4(
    config: str, coded: Coded, long: Path, remade: Callable[..., Path]
) -> None:
    """Whose times are milliseconds, and of 24000/1001 frames a second no whole number."""
    path = remade(config, "remux.mkv")
    want, _, rate = shown(coded(long, codec="hevc", config=config, intra_period=25).path)
    got, notices, same_rate = shown(path)
    assert [digest for *_, digest in got] == [digest for *_, digest in want]
    assert all(abs(a - b) <= Fraction(1, 2000) for (a, *_), (b, *_) in zip(got, want, strict=True))
    assert notices == [] and rate == same_rate == Fraction(24000, 1001)
    facts = json.loads(tools.tds("info", "--json", path).stdout)
    assert facts["whole"] and facts["frames"] == 75 and facts["notices"] == []
    assert facts["tracks"]["hr"]["packets"] == 30 and facts["tracks"]["lr"]["bits"] > 8000


@pytest.mark.parametrize("config", ["ai", "ra"])
def test_a_fragmented_pair_has_all_its_frames(
    config: str, coded: Coded, long: Path, remade: Callable[..., Path]
) -> None:
    """It has no edit lists, so that the LR track has lost its offset."""
    want, *_ = shown(coded(long, codec="hevc", config=config, intra_period=25).path)
    path = remade(config, "fragmented.mp4", "-movflags", f"{KEEP}+frag_keyframe+empty_moov")
    got, _, rate = shown(path)
    assert [digest for *_, digest in got] == [digest for *_, digest in want]
    assert rate == Fraction(24000, 1001)


@pytest.mark.parametrize("config", ["ai", "ra", "ldp"])
@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv"])
def test_a_part_cut_out_is_shown_as_long_as_it_is(
    config: str, name: str, coded: Coded, long: Path, remade: Callable[..., Path]
) -> None:
    path = remade(config, name, "-t", 1, "-movflags", KEEP, before=("-ss", 0.5))
    with av.open(str(path)) as container:
        there = sum(
            1 for p in container.demux(*container.streams.video) if p.size and not p.is_discard
        )
    got, notices, _ = shown(path)
    whole, *_ = shown(coded(long, codec="hevc", config=config, intra_period=25).path)
    # In RA the cut also leaves pictures far behind its end, which others refer to.
    assert len(got) <= there + 8 < 50
    assert sum("its tag tells of 75 frames" in notice for notice in notices) == 1
    # The frames of one run of the video, in order; those that were cut off have stand-ins.
    originals = {digest: i for i, (_, status, digest) in enumerate(whole)}
    found = [originals[d] for _, s, d in got if s == "passed" and d in originals]
    assert found == sorted(found) and len(found) >= 8
    steps = {round(float(b[0] - a[0]) * 24000 / 1001, 1) for a, b in pairwise(got)}
    assert steps == {1.0}
    facts = tools.tds("info", path, status=None).stdout
    assert "its tag tells of 75 frames" in facts and f": {len(got)} frames" in facts


def test_the_beginning_alone_ends_early_without_made_up_frames(remade: Callable[..., Path]) -> None:
    path = remade("ai", "head.mp4", "-t", 1, "-movflags", KEEP)
    got, notices, _ = shown(path)
    assert len(got) == 24 and {s for _, s, _ in got} == {"passed", "upsampled"}
    assert len(notices) == 1 and "ends early" in notices[0]
    assert "decodes whole" in tools.tds("info", path).stdout


def test_a_pair_without_its_tag_plays_at_its_rate(
    tmp_path: Path, coded: Coded, small: Path
) -> None:
    """Of groups that share boundaries the HR times alone would say 6.25 frames a second."""
    source = coded(codec="hevc", boundaries="shared").path
    bare = tmp_path / "bare.mp4"
    tools.ffmpeg("-i", source, *COPY, "-map_metadata", -1, bare)
    got, _, rate = shown(bare)
    assert rate == 25 and len(got) == 25
    tools.tds("decode", bare, tmp_path / "o.y4m", "--backend", "bicubic")
    assert tools.times(tmp_path / "o.y4m") == tools.times(small)
    facts = json.loads(tools.tds("info", "--json", bare).stdout)
    assert facts["frames"] == 25 and facts["rate"] == "25"


def test_transport_streams_are_counted_too(remade: Callable[..., Path]) -> None:
    path = remade("ai", "x.ts", "-f", "mpegts")
    facts = json.loads(tools.tds("info", "--json", "--no-decode", path).stdout)
    assert facts["tracks"]["hr"]["packets"] == 30 and facts["tracks"]["lr"]["packets"] == 45
    assert facts["tracks"]["hr"]["bits"] > 8000 and facts["frames"] == 75


# -- tags that lie ----------------------------------------------------------


def retagged(out: Path, source: Path, **timeline: Any) -> Path:
    with av.open(str(source)) as file:
        tag = json.loads(file.metadata["tds"])
    frames = timeline.get("frames", tag["timeline"]["frames"])
    tag["timeline"].update(timeline)
    tag["groups"] = [[5, frames // 5]]
    tools.ffmpeg("-i", source, *COPY, "-movflags", KEEP, "-movie_timescale", 16000,
                 "-metadata", f"tds={json.dumps(tag)}", out)  # fmt: skip
    return out


def test_a_plan_of_ten_million_frames_costs_nothing(tmp_path: Path, coded: Coded) -> None:
    path = retagged(tmp_path / "o.mp4", coded(codec="hevc").path, frames=10_000_000)
    begun = time.monotonic()
    facts = json.loads(tools.tds("info", "--json", path).stdout)
    assert time.monotonic() - begun < 30
    assert facts["frames"] == 25 and facts["planned_frames"] == 10_000_000 and facts["whole"]
    assert len(facts["notices"]) == 1 and "10000000 frames" in facts["notices"][0]
    got, notices, _ = shown(path)
    assert len(got) == 25 and notices == facts["notices"]


@pytest.mark.parametrize(
    "timeline",
    [
        {"start": 1 << 60},
        {"start": -(1 << 60)},
        {"rate": "1/999999999999999999"},
        {"rate": "999999999999/1000000007"},
        {"rate": "1/2000000000"},
        {"time_base": "1/999999999999999999"},
        {"time_base": "1/2147483647"},
        {"time_base": "1000000006/1000000007"},
        {"deltas": [[1 << 39, 24]]},
        {"deltas": [[1, 24]]},
        {"rate": "1000"},
    ],
)
def test_times_that_cannot_be_are_refused_or_left_aside_in_a_sentence(
    tmp_path: Path, coded: Coded, timeline: dict[str, Any]
) -> None:
    path = retagged(tmp_path / "lies.mp4", coded(codec="hevc").path, **timeline)
    for arguments in (("info", path), ("decode", path, tmp_path / "o.mkv", "--backend", "bicubic")):
        done = tools.tds(*arguments, status=None)
        assert done.returncode in (0, 1) and "Traceback" not in done.stderr
        if done.returncode == 1 and arguments[0] == "decode":
            assert len(done.stderr.splitlines()) == 1 and "lies.mp4" in done.stderr
    if done.returncode == 0:
        assert "25 frames" in done.stderr and len(tools.times(tmp_path / "o.mkv")) == 25
