# SPDX-License-Identifier: LGPL-2.1-or-later
"""The filter plays HLS and DASH (docs/streaming.md) as `tds decode` does, by the tag in the
manifest."""

from __future__ import annotations

import os
import re
import shutil
from fractions import Fraction
from pathlib import Path

import pytest
from filter_tools import BICUBIC, Coded, Frames, Program, decoded

import tools

MANIFESTS = ("master.m3u8", "manifest.mpd")
# FFmpeg's DASH gives twice what it has read to its end while it looked at it.
SHORT = ("-analyzeduration", 1000)


@pytest.fixture(scope="module")
def web(ffmpeg: Program, coded: Coded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    formats = ffmpeg("-demuxers").output
    if not {"hls", "dash"} <= set(re.findall(r"^ D +(\w+)", formats, re.M)):
        reason = f"{ffmpeg.path} has no HLS and DASH; run ffmpeg_filter/build again"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("web") / "web"
    tools.tds("package", coded(codec="hevc", config="ai").path, folder, "--seconds", 0.3)
    return folder


def by_filter(ffmpeg: Program, path: Path) -> Frames:
    return ffmpeg.frames(*SHORT, "-i", path, "-vf", BICUBIC)


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_the_frames_are_those_of_tds_decode(ffmpeg: Program, web: Path, manifest: str) -> None:
    got = by_filter(ffmpeg, web / manifest)
    assert len(got) == 25
    assert got == decoded(web / manifest)


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_frames_of_a_segment_that_is_gone_are_known_by_the_tag_of_the_manifest(
    ffmpeg: Program, web: Path, tmp_path: Path, manifest: str
) -> None:
    bad = shutil.copytree(web, tmp_path / "bad")
    (bad / "lr" / "segment_00002.m4s").unlink()
    got = by_filter(ffmpeg, bad / manifest)
    assert [time for time, _ in got] == [Fraction(n, 25) for n in range(25)]
    assert got == decoded(bad / manifest)
