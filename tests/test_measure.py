# SPDX-License-Identifier: LGPL-2.1-or-later
"""The figures: PSNR as FFmpeg has it, the anchor's bits, the demo's table and picture."""

from __future__ import annotations

import math
import re
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import tds
import tools
from tds.measuring.measure import measure, source_planes
from tds.measuring.psnr import IDENTICAL, psnr

Coded = Callable[..., tds.EncodeResult]


def ffmpeg_psnr(a: Path, b: Path) -> list[float]:
    """psnr_y of each frame by FFmpeg's psnr filter."""
    done = subprocess.run(
        [tools.FFMPEG, "-hide_banner", "-i", a, "-i", b, "-lavfi"]
        + ["[0]setpts=N[x];[1]setpts=N[y];[x][y]psnr=stats_file=-", "-f", "null", "-"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [float(v) for v in re.findall(r"psnr_y:([\d.]+|inf)", done.stdout)]


@pytest.mark.parametrize("config", ["ai", "ra"])
def test_figures_agree_with_ffmpeg_s(tmp_path: Path, small: Path, config: str) -> None:
    result = tds.encode(
        small, tmp_path / "o.mp4", codec="hevc", preset="ultrafast", qp=37, config=config,
        intra_period=10, plan="tds",
    )  # fmt: skip
    m = measure(str(small), result, anchor_folder=tmp_path)
    back = tmp_path / "back.mkv"
    tools.tds("decode", result.path, back, "--backend", "bicubic", "--vcodec", "ffv1")
    by_frame = ffmpeg_psnr(back, small)
    roles = [r.name for r in result.metadata.roles()]
    hr = [v for v, r in zip(by_frame, roles, strict=True) if r == "HR"]
    lr = [v for v, r in zip(by_frame, roles, strict=True) if r == "LR"]
    assert m.hr.luma == pytest.approx(np.mean(hr), abs=0.01)
    assert m.lr_bicubic.luma == pytest.approx(np.mean(lr), abs=0.01)
    assert m.anchor.luma > m.lr_bicubic.luma
    assert m.anchor_stream is not None
    files = [s.path for s in m.anchor_stream.segments]
    assert len(files) == len(result.restarts)
    packets = 0
    for i, file in enumerate(files):
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            packets += sum(p.size for p in container.demux(stream))
            packets += len(stream.codec_context.extradata or b"") * (i == 0)
    assert m.anchor_bits == packets * 8
    assert 0 < m.anchor_lr_bits < m.anchor_bits


def test_times_too_irregular_to_keep_can_be_measured(
    tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, steps = tmp_path / "in.mkv", [0, 40, 81, 120, 163, 200, 245, 280, 327]
    tools.variable_source(source, small, steps, Fraction(1, 1000))
    monkeypatch.setattr("tds.container.metadata.MAX_RUNS", 3)
    result = tds.encode(
        source, tmp_path / "o.mp4", codec="hevc", preset="ultrafast", qp=37, plan="tds"
    )
    assert not result.metadata.timeline.known
    m = measure(str(source), result)
    assert (len(m.anchor.y), len(m.anchor_lr.y)) == (9, len(m.lr_bicubic.y))
    assert 0 < m.anchor_lr_bits < m.anchor_bits


def test_psnr_is_its_definition() -> None:
    a = np.zeros((4, 4), np.uint8)
    b = a + np.uint8(1)
    assert psnr(a, b) == pytest.approx(20 * math.log10(255))
    wide = a.astype(np.uint16)
    assert psnr(wide, wide + np.uint16(1), 10) == pytest.approx(20 * math.log10(1023))
    assert psnr(a, a) == IDENTICAL
    with pytest.raises(ValueError, match="different size"):
        psnr(a, a[:2])


def test_source_planes_are_the_source_s_own(small: Path) -> None:
    mine = [tools.digest(planes) for _, planes in source_planes(str(small), None)]
    assert mine == [digest for _, digest in tools.pictures(small)]


def test_measure_prints_both_streams_and_what_they_cost(tmp_path: Path, small: Path) -> None:
    done = tools.tds(
        *(
            "encode",
            "--plan",
            "tds",
            small,
            tmp_path / "o.mp4",
            "--codec",
            "hevc",
            "--preset",
            "ultrafast",
        ),
        *("--config", "ra", "--measure"),
    )
    assert "two streams usually cost more bits than one" in done.stderr
    for row in ("HR frames", "LR frames, bicubic", "LR frames, enhanced", "plain stream (anchor)"):
        assert row in done.stdout
    assert "Whole stream:" in done.stdout


def test_the_demo_makes_its_table_and_its_picture(tmp_path: Path, small: Path) -> None:
    two = tmp_path / "two.mkv"
    tools.ffmpeg(*("-i", small, "-map", 0, "-map", 0, "-filter:v:0", "scale=64:64"),
                 *("-c:v", "ffv1", two))  # fmt: skip
    done = tools.tds(
        *("demo", two, "--out", tmp_path / "out", "--codec", "hevc", "--preset", "ultrafast"),
        *("--backend", "bicubic", "--video-track", 1),
    )
    assert "built-in bicubic" in done.stdout and "kbit" in done.stdout
    # Nothing was enhanced: no row says so, and none stands there twice.
    assert "enhanced" not in done.stdout and "both (HR + LR, bicubic)" in done.stdout
    assert tds.open(tmp_path / "out" / "demo.mp4").scale == 2
    with av.open(str(tmp_path / "out" / "demo.png")) as picture:
        frame = next(picture.decode(video=0))
        assert frame.width > 3 * 128 and frame.height > 2 * 72
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["demo.mp4", "demo.png"]
