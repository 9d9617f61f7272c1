# SPDX-License-Identifier: LGPL-2.1-or-later
"""The filter and pairs of any encoder in any container: what tests/test_forms.py asks of
``tds decode``."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from filter_tools import BICUBIC, Program, decoded

import forms
import tools


@pytest.mark.parametrize(
    ("graph", "options"), [("-vf", ""), ("-filter_complex", ""), ("-vf", ":container=none")]
)
def test_every_frame_comes_out_once_at_its_time(
    ffmpeg: Program, written: forms.Written, graph: str, options: str
) -> None:
    """Also as if the file had no tag."""
    path = written.result.path
    got = ffmpeg.frames("-copyts", "-i", path, graph, BICUBIC + options)
    assert [time for time, _ in got] == written.times
    assert got == decoded(path)


def test_a_part_is_that_of_the_whole(ffmpeg: Program, written: forms.Written) -> None:
    path, begin = written.result.path, 4
    seek = float((begin - Fraction(1, 2)) / forms.RATE)
    got = ffmpeg.frames("-ss", f"{seek:.6f}", "-copyts", "-i", path, "-vf", BICUBIC)
    assert got == decoded(path)[begin:]


def test_a_pair_of_plain_ffmpeg_is_one_for_the_filter(
    ffmpeg: Program, small: Path, tmp_path: Path
) -> None:
    source = tmp_path / "in.mp4"
    tools.ffmpeg("-i", small, "-c:v", "libx264", "-qp", 10, source)
    forms.run(tmp_path, forms.PLAIN)
    got = ffmpeg.frames("-copyts", "-i", tmp_path / "pair.mp4", "-vf", BICUBIC)
    assert [time for time, _ in got] == tools.times(source)
    assert got == decoded(tmp_path / "pair.mp4")
