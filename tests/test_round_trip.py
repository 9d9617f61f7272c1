# SPDX-License-Identifier: LGPL-2.1-or-later
"""Source to paired file to pictures: every frame once, at its own time, HR as coded.

A reduced grid; benchmarks/round_trip.py runs all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

import tds
import tools
from tds.plan import Role

Coded = Callable[..., tds.EncodeResult]

# Every value of every axis, and every pair of codec with configuration.
GRID = [
    ("hevc", "ai", 2, 5, "independent"),
    ("hevc", "ai", 4, 3, "shared"),
    ("hevc", "ldp", 2, 7, "shared"),
    ("hevc", "ldp", 4, 11, "independent"),
    ("hevc", "ra", 2, 5, "shared"),
    ("hevc", "ra", 4, 7, "independent"),
    ("vvc", "ai", 2, 11, "shared"),
    ("vvc", "ai", 4, 5, "independent"),
    ("vvc", "ldp", 2, 5, "independent"),
    ("vvc", "ldp", 4, 3, "shared"),
    ("vvc", "ra", 2, 3, "independent"),
    ("vvc", "ra", 4, 5, "shared"),
]


def check(source: Path, result: tds.EncodeResult) -> None:
    """Every frame of the source comes out once, at its time, and HR frames are
    what FFmpeg decodes from the HR track alone."""
    with tds.decode(result.path, backend="bicubic") as pictures:
        got = [(p.pts * pictures.time_base, p.status, tools.digest(p.planes)) for p in pictures]
        info = pictures.session.info
    assert [time for time, _, _ in got] == tools.times(source)
    hr = {time: digest for time, status, digest in got if status == "passed"}
    assert hr == dict(tools.pictures(result.path, 0))
    roles = list(result.metadata.roles())
    assert [s for _, s, _ in got] == [
        "passed" if role is Role.HR else "upsampled" for role in roles
    ]
    assert info.passed + info.upsampled == len(got) == result.metadata.timeline.frames


@pytest.mark.parametrize(("codec", "config", "scale", "group", "boundaries"), GRID)
def test_every_frame_comes_out_once_at_its_time(
    small: Path, coded: Coded, codec: str, config: str, scale: int, group: int, boundaries: str
) -> None:
    result = coded(
        codec=codec, config=config, scale=scale, group=group, boundaries=boundaries,
        intra_period=12,
    )  # fmt: skip
    check(small, result)


@pytest.mark.parametrize(
    ("name", "codec", "config"),
    [
        ("davis_breakdance", "vvc", "ai"),  # 416x240, 33 frames: 7 groups, the last of 3
        ("park_joy_480x256_10f", "hevc", "ra"),  # 480x256
        ("jct_KristenAndSara", "vvc", "ldp"),  # 416x240, 17 frames
    ],
)
def test_real_clips(
    evaluation_clip: Callable[[str], Path], coded: Coded, name: str, codec: str, config: str
) -> None:
    source = evaluation_clip(name)
    check(source, coded(source, codec=codec, config=config))


@pytest.mark.parametrize("size", ["130x74", "134x66", "64x64"])
@pytest.mark.parametrize("scale", [2, 4])
def test_any_even_size(tmp_path: Path, city: Path, coded: Coded, size: str, scale: int) -> None:
    source = tmp_path / "source.mkv"
    tools.ffmpeg("-i", city, "-frames:v", 7, "-vf", f"scale={size.replace('x', ':')}", source)
    result = coded(source, codec="hevc", scale=scale)
    check(source, result)
    width, height = map(int, size.split("x"))
    with tds.decode(result.path, backend="bicubic") as pictures:
        planes = next(pictures).planes
        assert planes[0].shape == (height, width)
        lr = next(pictures).planes
        assert [p.shape for p in lr] == [(height, width), *[(height // 2, width // 2)] * 2]


@pytest.mark.parametrize("codec", ["hevc", "vvc"])
def test_ten_bits_stay_ten_bits(tmp_path: Path, city: Path, coded: Coded, codec: str) -> None:
    source = tmp_path / "ten.mkv"
    tools.ffmpeg(
        *("-i", city, "-frames:v", 6, "-vf", "scale=128:72", "-pix_fmt", "yuv420p10le"),
        *("-c:v", "ffv1", source),
    )
    result = coded(source, codec=codec)
    check(source, result)
    file = tds.open(result.path)
    assert (file.hr.bit_depth, file.lr.bit_depth) == (10, 10)


@pytest.mark.parametrize("rate", ["24", "25", "30000/1001", "50", "60000/1001", "60"])
@pytest.mark.parametrize(("codec", "config"), [("hevc", "ai"), ("hevc", "ra"), ("vvc", "ra")])
def test_times_are_exact_at_any_rate(
    tmp_path: Path, small: Path, rate: str, codec: str, config: str
) -> None:
    raw = tools.raw_yuv(tmp_path / "in.yuv", small, 14)
    result = tds.encode(
        raw, tmp_path / "out.mp4", raw=tds.RawFormat((128, 72), Fraction(rate)), codec=codec,
        config=config, preset=tools.FASTEST[codec], intra_period=8, plan="tds",
    )  # fmt: skip
    with tds.decode(result.path, backend="bicubic") as pictures:
        times = [p.pts * pictures.time_base for p in pictures]
        assert pictures.rate == Fraction(rate)
    assert times == [i / Fraction(rate) for i in range(14)]


@pytest.mark.parametrize(("suffix", "base"), [(".mp4", 90000), (".mkv", 1000)])
def test_variable_times_are_exact(tmp_path: Path, small: Path, suffix: str, base: int) -> None:
    ticks = [0, 40, 41, 100, 400, 433, 467, 500, 1500, 1501, 1502]
    ticks = [t * base // 1000 for t in ticks]
    source = tmp_path / f"variable{suffix}"
    tools.variable_source(source, small, ticks, Fraction(1, base))
    result = tds.encode(
        source, tmp_path / "out.mp4", codec="hevc", config="ra", preset="ultrafast", plan="tds"
    )
    with tds.decode(result.path, backend="bicubic") as pictures:
        assert [p.pts * pictures.time_base * base for p in pictures] == ticks


def test_a_source_that_does_not_start_at_zero_keeps_its_start(tmp_path: Path, small: Path) -> None:
    ticks = [90000 + 3600 * i for i in range(7)]
    source = tmp_path / "late.mp4"
    tools.variable_source(source, small, ticks, Fraction(1, 90000))
    result = tds.encode(source, tmp_path / "out.mp4", codec="hevc", preset="ultrafast", plan="tds")
    with tds.decode(result.path, backend="bicubic") as pictures:
        assert [p.pts * pictures.time_base for p in pictures] == tools.times(source)


def test_scene_cuts_end_a_group(tmp_path: Path, small: Path) -> None:
    """Seven frames, then the clip upside down and inverted: a cut no detector misses."""
    source = tmp_path / "cut.mkv"
    tools.ffmpeg(
        *("-i", small, "-i", small, "-filter_complex"),
        "[0]trim=end_frame=7,setpts=N/25/TB[a];[1]trim=end_frame=8,vflip,negate,setpts=N/25/TB[b];"
        "[a][b]concat",
        *("-c:v", "ffv1", source),
    )
    result = tds.encode(
        source, tmp_path / "out.mp4", codec="hevc", preset="ultrafast", boundaries="independent"
    )
    assert "".join(r.name[0] for r in result.metadata.roles()) == "HLLLHHHHLLLHHLH"
    check(source, result)
    uncut = tds.encode(
        source,
        tmp_path / "uncut.mp4",
        codec="hevc",
        preset="ultrafast",
        scene_cut=0,
        boundaries="independent",
    )
    assert "".join(r.name[0] for r in uncut.metadata.roles()) == "HLLLHHLLLHHLLLH"


def test_a_video_shorter_than_a_group_is_one_short_group(tmp_path: Path, small: Path) -> None:
    source = tmp_path / "three.mkv"
    tools.ffmpeg("-i", small, "-frames:v", 3, "-c:v", "ffv1", source)
    result = tds.encode(source, tmp_path / "out.mp4", codec="hevc", preset="ultrafast", group=11)
    assert "".join(r.name[0] for r in result.metadata.roles()) == "HLH"
    check(source, result)
