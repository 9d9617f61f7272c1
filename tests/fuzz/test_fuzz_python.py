# SPDX-License-Identifier: LGPL-2.1-or-later
"""A sample of what `make fuzz` runs of the Python targets, and every input that ended one."""

from __future__ import annotations

from pathlib import Path

import pytest
import python_targets
import run
from python_targets import TARGETS

SOURCES = Path(__file__).resolve().parents[2] / "csrc"
FOUND = Path(__file__).resolve().parent / "found"
REPRODUCERS = sorted(p for name in TARGETS for p in (FOUND / name).glob("*"))


@pytest.mark.parametrize("path", REPRODUCERS, ids=lambda p: f"{p.parent.name}-{p.name}")
def test_what_once_ended_a_target_ends_in_a_sentence(path: Path) -> None:
    TARGETS[path.parent.name].check(path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_changed_inputs_are_read_or_refused_in_a_sentence(name: str) -> None:
    assert python_targets.run(name, runs=150) == 150


def test_a_second_double_dash_is_a_wrong_usage() -> None:
    python_targets.check_command_line(["encode", "none.mp4", "--", "--"])


def test_the_coverage_of_every_target_is_of_files_that_are_there() -> None:
    assert set(run.PARSERS) == set(run.CPP)
    named = [file for files in run.PARSERS.values() for file in files]
    assert [file for file in named if not (SOURCES / file).is_file()] == []
