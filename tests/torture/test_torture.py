# SPDX-License-Identifier: LGPL-2.1-or-later
"""A sample of what `make torture` runs."""

from __future__ import annotations

from pathlib import Path

import faults
import pytest

import torture


def test_damaged_pairs_end_in_time_and_lose_no_picture_without_a_word() -> None:
    doors = ("decode", "postdec", *(["filter"] if torture.filter_program().is_file() else []))
    results = list(torture.run_cases(list(range(200)), doors))
    bad = [r for r in results if r["outcome"] in ("broken", "crashed", "hung")]
    assert not bad
    assert len(results) == 200
    assert {r["outcome"] for r in results} >= {"marked", "refused", "whole"}


@pytest.mark.parametrize(
    "number",
    [
        986,  # cut before its tag and its first picture: not one picture, and no word of that
        1157,  # flipped bits make AV1 say 4:4:4 in the middle: a sentence without the file
    ],
)
def test_what_was_once_broken_is_not(number: int) -> None:
    result = torture.run_case(number, ("decode", "postdec", "filter"))
    assert result["outcome"] in ("marked", "refused"), result


def test_a_pair_with_nothing_damaged_is_whole(tmp_path: Path) -> None:
    for pair in torture.FORMS:
        copy = tmp_path / pair
        torture.remuxed(torture.PAIRS / pair, copy, lambda entries: entries)
        case = torture.Case(0, "decode", pair, "lost packets", torture.random.Random(0))
        assert torture.decode(copy, case, tmp_path) == "whole", pair


@pytest.mark.parametrize("fault", faults.FAULTS, ids=lambda fault: fault.name)
def test_a_fault_that_is_put_back_has_its_place_in_the_tree(fault: faults.Fault) -> None:
    """`make faults` takes minutes; what it changes moves more often than it is run."""
    assert (faults.ROOT / fault.file).read_text().count(fault.old) == 1
