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


def test_a_live_chain_ends_when_one_of_it_is_killed() -> None:
    """And says why in one sentence: PyAV prints what it cannot hand on, with a traceback."""
    assert hardship.chain("tds", signal.SIGTERM, "-") == "all ended"
    assert hardship.chain("reader", signal.SIGINT, "-") == "all ended"


def test_setting_the_clock_moves_no_deadline() -> None:
    (trial,) = (
        trial
        for what, how, trial in hardship.clocks()
        if what.endswith("gives nothing") and how.endswith("a day ahead")
    )
    outcome = trial()
    if outcome.startswith("not tried"):
        pytest.skip(outcome)
    assert outcome == "refused"
