# SPDX-License-Identifier: LGPL-2.1-or-later
"""A sample of what `make torture` kills and starves."""

from __future__ import annotations

import signal

import hardship
import pytest


@pytest.mark.parametrize(
    ("what", "stage", "number"),
    [
        ("encode, a pair", "first frames", signal.SIGTERM),
        ("decode", "first picture", signal.SIGINT),
        ("postdec, a decoder that gives nothing", "decoders run", signal.SIGTERM),
    ],
)
def test_a_command_that_is_killed_leaves_its_output_whole_or_absent(
    what: str, stage: str, number: signal.Signals
) -> None:
    outcome = hardship.kill(hardship.jobs()[what], stage, number)
    assert outcome in ("absent", "whole", "over")


@pytest.mark.parametrize("word", ["decode: descriptors 9", "decode: file size 1000"])
def test_a_command_that_is_starved_says_so_and_leaves_nothing(word: str) -> None:
    (trial,) = (t for what, how, t in hardship.all_hardships() if f"{what}: {how}" == word)
    assert trial() in ("refused", "done")
