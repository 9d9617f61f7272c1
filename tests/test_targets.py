# SPDX-License-Identifier: LGPL-2.1-or-later
"""``tds encode`` for a rate, a size or a quality: reached, in few encodes, and said."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path

import av
import pytest

import tools
from tds.targets import MAX_TRIALS, Target, _Setting, nearest, search

FAST = ("--encoder", "x264", "--preset", "veryfast", "--plan", "plain")
CRF = _Setting("crf", 0, 51, 0.25, 28)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {**os.environ, "TDS_CACHE": str(tmp_path_factory.mktemp("cache"))}


def video_bits(path: Path) -> int:
    with av.open(str(path)) as container:
        return 8 * sum(p.size for p in container.demux(video=0))


@pytest.mark.parametrize("bend", [0.0, 0.004, -0.002])
@pytest.mark.parametrize("value", [150, 900, 2000, 5000])
def test_a_smooth_curve_takes_few_trials(value: float, bend: float) -> None:
    target, measured = Target("bitrate", value), dict[int, float]()
    for place in search(measured, target, CRF):
        crf = CRF.value(place)
        measured[place] = 1000 * math.exp(-0.12 * (crf - 28) - bend * (crf - 28) ** 2 / 2)
    assert target.met(measured[nearest(measured, target)]) and len(measured) <= 6


@pytest.mark.parametrize(("value", "place"), [(1e6, 0), (0.1, CRF.count - 1)])
def test_what_is_out_of_reach_ends_at_the_last_setting(value: float, place: int) -> None:
    target, measured = Target("bitrate", value), dict[int, float]()
    for at in search(measured, target, CRF):
        measured[at] = 1000 * math.exp(-0.12 * (CRF.value(at) - 28))
    assert nearest(measured, target) == place and len(measured) <= MAX_TRIALS


def test_rate_and_size_of_one_video(small, tmp_path, cache):
    """The next target knows the trials; a size has the sound in it and is never over."""
    source, out = tmp_path / "source.mkv", tmp_path / "out.mp4"
    sound = ("-f", "lavfi", "-i", "sine=r=48000")
    tools.ffmpeg("-i", small, *sound, "-t", 1, "-map", "0:v", "-map", "1:a", "-c:v", "copy", source)
    said = tools.tds("encode", source, out, *FAST, "--bitrate", "300k", env=cache).stderr
    assert video_bits(out) / 1000 == pytest.approx(300, rel=0.03)
    last = said.splitlines()[-1]
    assert re.search(r"CRF [\d.]+: (29|30)\d\.\d kbit/s, 300.0 kbit/s asked \(\d encodes\)", last)
    said = tools.tds("encode", "-y", source, out, *FAST, "--max-size", "50k", env=cache).stderr
    assert 0.98 * 50_000 <= out.stat().st_size <= 50_000
    with av.open(str(out)) as container:
        assert len(container.streams.audio) == 1
    last = said.splitlines()[-1]
    found = re.search(
        r"4\d\.\d\d kB, 50\.00 kB asked \((\d+) encodes, (\d+) trials known before\)", last
    )
    assert found and int(found[1]) <= 5
    said = tools.tds("encode", "-y", source, out, *FAST, "--bitrate", "300k", env=cache).stderr
    assert "(1 encodes, " in said.splitlines()[-1]


def test_vmaf_is_that_of_the_enhanced_pair(small, tmp_path, cache):
    """Measured again by the ffmpeg program, on what tds decode shows."""
    out, shown = tmp_path / "out.mp4", tmp_path / "shown.mkv"
    x265 = ("--encoder", "x265", "--preset", "superfast", "--plan", "tds", "--model", "fast")
    said = tools.tds("encode", small, out, *x265, "--target-vmaf", "80", env=cache).stderr
    reached = float(re.search(r"VMAF ([\d.]+), VMAF 80.00 asked", said)[1])  # type: ignore[index]
    assert reached == pytest.approx(80, abs=0.5)
    tools.tds("decode", out, shown, "--vcodec", "ffv1", env=cache)
    log = tmp_path / "vmaf.json"
    tools.ffmpeg("-i", shown, "-i", small, "-lavfi",
                 f"[0:v]setpts=N[a];[1:v]setpts=N[b];[a][b]libvmaf=log_fmt=json:log_path={log}",
                 "-f", "null", "-")  # fmt: skip
    mean = json.loads(log.read_text())["pooled_metrics"]["vmaf"]["mean"]
    assert mean == pytest.approx(reached, abs=0.02)


def test_a_long_video_is_tried_in_parts_and_met_by_the_file(small, tmp_path, cache):
    source, out = tmp_path / "long.mkv", tmp_path / "out.mp4"
    tools.ffmpeg("-stream_loop", 8, "-i", small, "-c", "copy", source)
    options = ("--encoder", "x264", "--preset", "veryfast", "--plan", "tds")
    tools.tds("encode", source, out, *options, "--bitrate", "250k", env=cache)
    with av.open(str(out)) as container:
        bits = 8 * sum(p.size for p in container.demux() if p.size)
    assert bits / 9 / 1000 == pytest.approx(250, rel=0.03)
    said = tools.tds("encode", "-y", source, out, *options, "--target-psnr", 36, env=cache).stderr
    assert re.search(r"PSNR 3[56]\.\d\d dB on 160 frames of 225, PSNR 36.00 dB asked", said)


def test_out_of_reach_is_said_with_the_nearest(small, tmp_path, cache):
    out = tmp_path / "out.mp4"
    said = tools.tds("encode", small, out, *FAST, "--target-xpsnr", "3", env=cache).stderr
    last = said.splitlines()[-1]
    assert re.search(r"CRF 51: XPSNR [\d.]+ dB, XPSNR 3.00 dB asked; that is the nearest", last)
    assert out.is_file()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--bitrate", "foo"), "--bitrate is a number, as in 800k or 2.5M, not 'foo'"),
        (("--bitrate", "0"), "a bit rate to aim at is more than 0, not 0"),
        (("--target-vmaf", "100"), "VMAF to aim at is more than 0 and less than 100, not 100"),
    ],
)
def test_a_target_that_is_none_is_one_sentence(small, tmp_path, options, says):
    said = tools.tds("encode", small, tmp_path / "out.mp4", *options, status=1).stderr
    assert says in said and said.count("\n") == 1 and not list(tmp_path.iterdir())


def test_pictures_too_small_for_vmaf_have_another_target(small, tmp_path, cache):
    tiny, out = tmp_path / "tiny.mkv", tmp_path / "out.mp4"
    tools.ffmpeg("-i", small, "-frames:v", 3, "-vf", "scale=64:16", "-c:v", "ffv1", tiny)
    said = tools.tds("encode", tiny, out, *FAST, "--target-vmaf", "90", env=cache, status=1).stderr
    assert "is 64x16, and VMAF is of 18 samples a side or more; give --target-psnr" in said
    tools.tds("encode", tiny, out, *FAST, "--target-psnr", "35", env=cache)
    assert out.is_file()


def test_what_can_be_read_once_or_is_raw_streams_has_no_target(small, tmp_path):
    said = tools.tds("encode", "-", tmp_path / "o.mp4", "--max-size", "1M", status=1).stderr
    assert "standard input cannot be; name a file" in said
    said = tools.tds("encode", small, tmp_path / "o.json", "--max-size", "1M", status=1).stderr
    assert "a target is of one file" in said
    assert not list(tmp_path.iterdir())
