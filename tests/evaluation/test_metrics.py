# SPDX-License-Identifier: LGPL-2.1-or-later
"""The metrics against FFmpeg's own filters on the same frames."""

from __future__ import annotations

import re
import subprocess
from fractions import Fraction

import numpy as np
import pytest

from tds.evaluation.clips import ClipSource
from tds.evaluation.metrics import averages, compare, temporal_error
from tds.measuring.psnr import IDENTICAL
from tds.media.planar import picture_bytes, planes_in
from tds.media.programs import find_ffmpeg

FRAMES = 6


def _planes(path):
    with ClipSource(str(path), FRAMES) as video:
        to_planes = video.planar()
        return [
            planes_in(picture_bytes(to_planes(frame)), video.width, video.height, video.bit_depth)
            for frame in video
        ]


@pytest.fixture(scope="module", params=["yuv420p", "yuv420p10le"])
def sequences(request, city, tmp_path_factory):
    """(source file, decoded file): the clip and a coded copy, both as y4m."""
    folder = tmp_path_factory.mktemp("sequences")
    source, decoded = folder / "source.y4m", folder / "decoded.y4m"
    begin = [find_ffmpeg("libx265"), "-v", "error", "-strict", "-1"]
    end = ["-pix_fmt", request.param, "-strict", "-1"]
    subprocess.run([*begin, "-i", city, "-frames:v", str(FRAMES), *end, source], check=True)
    coded = folder / "coded.mkv"
    x265 = ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "qp=37:log-level=error"]
    subprocess.run([*begin, "-i", source, *x265, coded], check=True)
    subprocess.run([*begin, "-i", coded, *end, decoded], check=True)
    return source, decoded


def _filter(decoded, source, name):
    """What FFmpeg's own filter prints for the two files."""
    return subprocess.run(
        [
            *(find_ffmpeg(), "-hide_banner", "-i", decoded, "-i", source),
            *("-lavfi", name, "-f", "null", "-"),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stderr


@pytest.fixture(scope="module")
def measured(sequences, tmp_path_factory):
    source, decoded = sequences
    depth = 8 if _planes(source)[0][0].dtype == np.uint8 else 10
    quality = compare(
        iter(zip(_planes(source), _planes(decoded), strict=True)),
        depth,
        Fraction(25),
        tmp_path_factory.mktemp("scratch"),
    )
    return averages(quality.to_dict(), range(FRAMES)), quality


def test_psnr_agrees_with_ffmpeg(sequences, measured, tmp_path):
    source, decoded = sequences
    _, quality = measured
    subprocess.run(
        [
            *(find_ffmpeg(), "-v", "error", "-i", decoded, "-i", source),
            *("-lavfi", "psnr=stats_file=psnr.txt", "-f", "null", "-"),
        ],
        cwd=tmp_path,
        check=True,
    )
    text = (tmp_path / "psnr.txt").read_text()
    for plane in "yuv":
        theirs = [float(x) for x in re.findall(rf"psnr_{plane}:([\d.]+)", text)]
        assert getattr(quality, plane) == pytest.approx(theirs, abs=0.01)
        assert len(theirs) == FRAMES


def test_ssim_agrees_with_ffmpeg(sequences, measured):
    source, decoded = sequences
    theirs = float(re.search(r"SSIM Y:([\d.]+)", _filter(decoded, source, "ssim")).group(1))
    assert measured[0]["ssim"] == pytest.approx(theirs, abs=1e-5)
    assert 0.5 < theirs < 0.999


def test_vmaf_agrees_with_ffmpeg(sequences, measured):
    source, decoded = sequences
    text = _filter(decoded, source, "libvmaf=model=version=vmaf_v0.6.1")
    theirs = float(re.search(r"VMAF score: ([\d.]+)", text).group(1))
    assert measured[0]["vmaf"] == pytest.approx(theirs, abs=1e-3)
    assert 20 < theirs < 99


def test_xpsnr_agrees_with_ffmpeg_whose_first_input_is_the_source(sequences, measured, tmp_path):
    source, decoded = sequences
    log = tmp_path / "xpsnr.txt"
    _filter(source, decoded, f"xpsnr=stats_file={log}")
    theirs = [float(x) for x in re.findall(r"XPSNR y: ([\d.]+)", log.read_text())]
    assert measured[1].xpsnr == pytest.approx(theirs, abs=1e-4)
    assert len(theirs) == FRAMES


def test_pictures_without_any_error_have_an_xpsnr_all_the_same(tmp_path):
    planes = [np.full(s, 9, np.uint8) for s in ((64, 64), (32, 32), (32, 32))]
    quality = compare(iter([(planes, planes)]), 8, Fraction(25), tmp_path)
    assert quality.xpsnr == [IDENTICAL]


def test_weighted_psnr_is_6_1_1(measured):
    m = measured[0]
    assert m["psnr_611"] == pytest.approx((6 * m["psnr_y"] + m["psnr_u"] + m["psnr_v"]) / 8)


def test_ms_ssim_is_between_ssim_and_one(measured):
    """MS-SSIM weighs coarse scales, where coding errors are averaged away."""
    assert measured[0]["ssim"] < measured[0]["ms_ssim"] < 1


def test_psnr_alone_needs_no_filters(sequences, measured, tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("FFmpeg was asked")

    monkeypatch.setattr("tds.evaluation.metrics._ffmpeg_metrics", refuse)
    pairs = zip(_planes(sequences[0]), _planes(sequences[1]), strict=True)
    depth = 8 if _planes(sequences[0])[0][0].dtype == np.uint8 else 10
    quality = compare(iter(pairs), depth, Fraction(25), tmp_path, perceptual=False)
    assert (quality.y, quality.temporal) == (measured[1].y, measured[1].temporal)
    assert quality.ssim == quality.ms_ssim == quality.vmaf == quality.xpsnr == [None] * FRAMES
    assert not list(tmp_path.iterdir())


def test_small_pictures_have_no_ms_ssim(tmp_path):
    planes = [np.zeros((72, 128), np.uint8), *[np.zeros((36, 64), np.uint8)] * 2]
    quality = compare(iter([(planes, planes)] * 2), 8, Fraction(25), tmp_path)
    assert quality.ms_ssim == [None, None]
    assert not list(tmp_path.iterdir())


def test_the_smallest_pictures_have_no_vmaf(tmp_path):
    """libvmaf crashes on them."""
    for side, there in ((16, False), (18, True)):
        planes = _noise(0, 64, side)
        quality = compare(iter([(planes, planes)] * 2), 8, Fraction(25), tmp_path)
        assert [value is not None for value in quality.vmaf] == [there] * 2
        assert quality.ssim == [1.0, 1.0] and quality.ms_ssim == [None, None]
        assert not list(tmp_path.iterdir())


def test_ms_ssim_can_be_left_out(tmp_path):
    planes = _noise(0, 192, 208)
    for wanted in (True, False):
        quality = compare(iter([(planes, planes)]), 8, Fraction(25), tmp_path, ms_ssim=wanted)
        assert quality.ms_ssim == [1.0 if wanted else None]
        assert len(quality.vmaf) == 1


def test_identical_pictures_have_the_highest_psnr(tmp_path):
    planes = _noise(0)
    quality = compare(iter([(planes, planes)]), 8, Fraction(25), tmp_path)
    assert quality.y == quality.u == quality.v == [100.0]
    assert quality.ssim == [1.0]


def _noise(seed, height=64, width=96):
    r = np.random.default_rng(seed)
    return [
        r.integers(0, 256, (height, width), np.uint8),
        *(r.integers(0, 256, (height // 2, width // 2), np.uint8) for _ in range(2)),
    ]


def test_a_constant_error_is_temporally_consistent():
    a, b = _noise(1)[0] // 2, _noise(2)[0] // 2
    assert temporal_error((a, a + 9), (b, b + 9)) == 0


def test_flicker_is_temporally_inconsistent():
    a, b = _noise(1)[0] // 2, _noise(2)[0] // 2
    assert temporal_error((a, a), (b, b + 9)) == 9
