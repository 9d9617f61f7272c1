# SPDX-License-Identifier: LGPL-2.1-or-later
"""The filter and pairs of any encoder in any container: what tests/test_forms.py asks of
``tds decode``."""

from __future__ import annotations

from fractions import Fraction

import pytest
from filter_tools import BICUBIC, Program, decoded

import forms


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
