# SPDX-License-Identifier: LGPL-2.1-or-later
"""When a source's pictures and sound are shown: cut, joined and old files, raw streams."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest

import tds
import tools
from tds.media.opening import RawFormat
from tds.media.sources import VideoSource
from tds.media.times import BestEffort, PictureTimes, SourceClock

FAST: dict[str, Any] = {"codec": "hevc", "preset": "ultrafast", "qp": 37}


def span(path: Path, kind: str) -> tuple[float, float]:
    """First and last display time of the streams of a kind, in seconds."""
    with av.open(str(path)) as container:
        streams = [s for s in container.streams if s.type == kind]
        times = [
            float(p.pts * p.time_base)
            for p in container.demux(streams)
            if p.size and p.pts is not None and not p.is_discard
        ]
    return min(times), max(times)


def sounding(path: Path, small: Path, *options: object, loops: int = 2) -> Path:
    """H.264 and AAC, as long as the small clip ``loops`` times."""
    tools.ffmpeg(
        *("-stream_loop", loops - 1, "-i", small, "-f", "lavfi", "-i", "sine=440"),
        *("-map", 0, "-map", 1, "-c:v", "libx264", "-c:a", "aac", "-t", loops, *options, path),
    )
    return path


# ------------------------------------------------------------ the one rule --


def packet(stream: int, time: float, kind: str = "video") -> Any:
    """One of 0.04 s, in milliseconds."""
    ms = round(time * 1000)
    return SimpleNamespace(
        stream=SimpleNamespace(index=stream, type=kind),
        time_base=Fraction(1, 1000), pts=ms, dts=ms, duration=40, opaque=None,
    )  # fmt: skip


def moved(clock: SourceClock, *packets: tuple[int, float]) -> list[float]:
    made = [packet(*p) for p in packets]
    for p in made:
        clock.move(p)
    return [p.pts / 1000 for p in made]


def test_where_times_go_back_all_streams_go_on_together() -> None:
    clock = SourceClock(may_leap=True)
    before = [(0, 5.0), (1, 5.0), (0, 5.04), (1, 5.04)]
    after = [(0, 1.0), (1, 1.1), (0, 1.04), (1, 1.14)]
    assert moved(clock, *before, *after)[4:] == pytest.approx([5.08, 5.18, 5.12, 5.22])
    assert clock.joints == 1


def test_streams_that_reach_a_joint_one_after_the_other() -> None:
    """Sound of before the joint may come after pictures of behind it."""
    clock = SourceClock(may_leap=True)
    joint = [(0, 5.0), (1, 5.0), (0, 1.0), (1, 5.04), (0, 1.04), (1, 1.04), (1, 1.08)]
    assert moved(clock, *joint) == pytest.approx([5.0, 5.0, 5.04, 5.04, 5.08, 5.08, 5.12])


def test_a_leap_ahead_is_closed_only_where_clocks_may_be_set_anew() -> None:
    ahead = [(0, 1.0), (1, 1.0), (0, 61.0), (1, 61.0)]
    assert moved(SourceClock(may_leap=True), *ahead)[2:] == pytest.approx([1.04, 1.04])
    assert moved(SourceClock(may_leap=False), *ahead)[2:] == [61.0, 61.0]
    # Silence is no leap: the pictures have gone on.
    pause = [(1, 0.0), *((0, t / 2) for t in range(41)), (1, 20.0)]
    assert moved(SourceClock(may_leap=True), *pause)[-1] == 20.0


def test_a_lone_wrong_time_moves_nothing_else() -> None:
    clock = SourceClock(may_leap=False)
    wrong = [(0, 1.0), (0, 1.04), (0, 0.0), (0, 1.12), (0, 1.16)]
    assert moved(clock, *wrong) == pytest.approx([1.0, 1.04, 1.08, 1.12, 1.16])
    for may_leap in (False, True):
        clock = SourceClock(may_leap)
        ahead = [(0, 1.0), (0, 1.04), (0, 7.0), (0, 1.12), (0, 1.16)]
        assert moved(clock, *ahead) == pytest.approx([1.0, 1.04, 7.0, 1.12, 1.16])
        assert clock.joints == 0
    # A pause, and a joint after it, are what they are.
    clock = SourceClock(may_leap=False)
    pause = [(0, 1.0), (0, 7.0), (0, 7.04), (0, 1.0), (0, 1.04)]
    assert moved(clock, *pause) == pytest.approx([1.0, 7.0, 7.04, 7.08, 7.12])
    assert clock.joints == 1


def test_repaired_times_do_not_push_good_ones() -> None:
    def repaired(*times: int | None) -> list[int]:
        rule = PictureTimes[int](40)
        out = [pair for i, time in enumerate(times) for pair in rule.push(i, time)]
        out += rule.finish()
        assert [i for i, _ in out] == list(range(len(times)))
        return [time for _, time in out]

    assert repaired(0, 40, None, 120, 160) == [0, 40, 80, 120, 160]
    assert repaired(0, 40, 40, 60, 100) == [0, 40, 50, 60, 100]
    assert repaired(None, None, None) == [0, 40, 80]
    assert repaired(5, 5, 5) == [5, 45, 85]
    assert repaired(0, 40, 5000, 120, 160) == [0, 40, 80, 120, 160]  # a lone one, far ahead
    assert repaired(0, 40, 5000, 5040, 5080) == [0, 40, 5000, 5040, 5080]  # a pause
    assert repaired(0, 40, 5000) == [0, 40, 5000]
    caught_up = repaired(0, None, None, None, *range(50, 900, 20))
    assert caught_up[-1] == 890 and caught_up == sorted(set(caught_up))


def test_best_effort_takes_the_times_that_increase() -> None:
    """As libavcodec: decoding times from where the presentation times prove faulty."""
    guess = BestEffort(only_dts=False)
    assert [guess(*t) for t in ((1, 2), (3, 3), (4, 4), (2, 5), (6, 6))] == [1, 3, 4, 5, 6]
    avi = BestEffort(only_dts=True)
    assert [avi(*t) for t in ((1, 2), (3, 3), (2, 4), (5, None))] == [2, 3, 4, None]


# ------------------------------------------------------------------- files --


def test_a_source_that_begins_before_0(tmp_path: Path, small: Path) -> None:
    """A transport stream that begins just before its 33 bits of time run over."""
    source, out, back = tmp_path / "wrap.ts", tmp_path / "o.mp4", tmp_path / "back.mkv"
    sounding(source, small, "-output_ts_offset", 95441.6)
    begin = span(source, "video")[0]
    assert begin < 0
    result = tds.encode(source, out, **FAST, plan="tds")
    assert any("before 0" in notice for notice in result.notices)
    assert "decodes whole" in tools.tds("info", out).stdout
    tools.tds("decode", out, back, "--backend", "bicubic")
    assert len(tools.pictures(back)) == len(tools.pictures(source)) == 50
    apart = [span(path, "audio")[1] - span(path, "video")[1] for path in (source, out)]
    assert apart[0] == pytest.approx(apart[1], abs=0.002)


@pytest.mark.parametrize(
    ("suffix", "codecs"),
    [("ts", ("libx264", "aac")), ("mpg", ("mpeg2video", "mp2")), ("flv", ("flv", "libmp3lame"))],
)
def test_joined_recordings(
    tmp_path: Path, small: Path, suffix: str, codecs: tuple[str, str]
) -> None:
    part, joined, out = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}", tmp_path / "o.mp4"
    sounding(part, small, "-c:v", codecs[0], "-c:a", codecs[1])
    header = 13 if suffix == "flv" else 0
    joined.write_bytes(part.read_bytes() + part.read_bytes()[header:])
    result = tds.encode(joined, out, **FAST, plan="tds")
    assert any("leap at 1 place" in notice for notice in result.notices)
    assert result.metadata.timeline.frames == 100
    for kind in ("video", "audio"):
        begin, end = span(out, kind)
        assert end - begin == pytest.approx(4, abs=0.1)


@pytest.mark.parametrize("b_pictures", [0, 2])
def test_pictures_before_time_0_of_a_cut_matroska_file(
    tmp_path: Path, small: Path, b_pictures: int
) -> None:
    """They have no times, and later ones must not be pushed behind the sound by them."""
    whole, cut, out = tmp_path / "whole.mp4", tmp_path / "cut.mkv", tmp_path / "o.mp4"
    sounding(whole, small, "-g", 100, "-bf", b_pictures)
    tools.ffmpeg("-ss", 1.2, "-i", whole, "-c", "copy", "-avoid_negative_ts", "disabled", cut)
    with av.open(str(cut)) as container:
        untimed = [frame.pts for frame in container.decode(video=0)].count(None)
    assert untimed > 10
    result = tds.encode(cut, out, **FAST, plan="tds")
    assert any(f"{untimed} frames before its time 0" in n for n in result.notices)
    assert result.metadata.timeline.frames == 50 - untimed
    for kind in ("video", "audio"):
        assert span(out, kind)[1] == pytest.approx(span(cut, kind)[1], abs=0.002)


def test_b_pictures_in_avi_come_at_the_times_ffmpeg_gives_them(tmp_path: Path, small: Path) -> None:
    source = tmp_path / "in.avi"
    tools.ffmpeg("-i", small, "-c:v", "libx264", "-bf", 2, source)
    with VideoSource(str(source)) as video:
        times = [frame.pts for frame in video]
        base = video.time_base
    shown = tools.times(source)
    assert times == [time / base for time in shown] and len(times) == 25


@pytest.mark.parametrize("suffix", ["264", "265", "266"])
def test_a_raw_stream_has_the_rate_it_says(tmp_path: Path, small: Path, suffix: str) -> None:
    source = tmp_path / f"in.{suffix}"
    encoder = {"264": "libx264", "265": "libx265", "266": "libvvenc"}[suffix]
    fast = "faster" if suffix == "266" else "ultrafast"
    tools.ffmpeg(
        *("-r", 50, "-i", small, "-frames:v", 6, "-pix_fmt", "yuv420p10le"),
        *("-c:v", encoder, "-preset", fast, source),
    )
    for raw, rate in ((None, 50), (RawFormat(None, Fraction(30)), 30)):
        with VideoSource(str(source), raw) as video:
            times = [frame.pts * video.time_base for frame in video if frame.pts is not None]
        assert video.rate == rate
        assert times == pytest.approx([i / rate for i in range(6)], abs=1e-5)


def test_the_rate_of_a_raw_stream_can_be_said(tmp_path: Path, small: Path) -> None:
    source, out = tmp_path / "in.264", tmp_path / "o.mp4"
    tools.ffmpeg("-i", small, "-frames:v", 5, "-c:v", "libx264", source)
    tools.tds(
        "encode",
        "--plan",
        "tds",
        source,
        out,
        "--codec",
        "hevc",
        "--preset",
        "ultrafast",
        "--rate",
        "50",
    )
    assert tools.times(out, 0) == [0, Fraction(4, 50)]


@pytest.mark.parametrize("denominator", [10_000_000, 1_000_000_000])
def test_time_bases_finer_than_mp4_holds(tmp_path: Path, small: Path, denominator: int) -> None:
    source, out = tmp_path / "fine.nut", tmp_path / "o.mp4"
    tools.ffmpeg(
        *("-i", small, "-frames:v", 6, "-vf", f"settb=1/{denominator}", "-c:v", "ffv1"),
        *("-enc_time_base", f"1/{denominator}", "-fps_mode", "passthrough", source),
    )
    with av.open(str(source)) as container:
        assert container.streams.video[0].time_base == Fraction(1, denominator)
    result = tds.encode(source, out, **FAST, plan="tds")
    assert result.metadata.timeline.deltas is None
    assert tools.times(out, 1) == [Fraction(i, 25) for i in (1, 2, 3)]


def test_a_start_hours_late_is_said(tmp_path: Path, small: Path) -> None:
    late = tmp_path / "late.mkv"
    tools.ffmpeg("-i", small, "-frames:v", 5, "-c:v", "ffv1", "-output_ts_offset", 7200, late)
    result = tds.encode(late, tmp_path / "o.mp4", **FAST, plan="tds")
    assert any("after 2.0 hours" in notice for notice in result.notices)


@pytest.mark.parametrize("offset", [0, 95442.2])
def test_8_bit_vvc_is_moved_too(tmp_path: Path, small: Path, offset: float) -> None:
    """Where another program has to decode it, its pictures come by a pipe that could hold
    neither times below 0 nor those that go back."""
    part, joined = tmp_path / "part.ts", tmp_path / "joined.ts"
    tools.ffmpeg(
        *("-i", small, "-frames:v", 9, "-c:v", "libvvenc", "-preset", "faster"),
        *("-vvenc-params", "internalbitdepth=8", "-output_ts_offset", offset, part),
    )
    joined.write_bytes(part.read_bytes() * 2)
    with VideoSource(str(joined)) as video:
        times = [frame.pts for frame in video if frame.pts is not None]
    assert video.bit_depth == 8 and len(times) == 18
    assert {b - a for a, b in pairwise(times)} == {3600}
    assert (times[0] == 0) == (offset > 0)
