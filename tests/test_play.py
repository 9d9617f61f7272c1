# SPDX-License-Identifier: LGPL-2.1-or-later
"""``tds play``: what a player gets, and the page that stands in for one."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import tds
import tools

Coded = Callable[..., tds.EncodeResult]


def a_player(path: Path, does: str) -> Path:
    """A program that takes what a player takes."""
    path.write_text(f"#!/bin/sh\n{does}\n")
    path.chmod(0o755)
    return path


def test_a_player_gets_every_picture_at_the_rate_of_the_video(coded: Coded, tmp_path: Path) -> None:
    source = coded().path
    player = a_player(tmp_path / "mpv", f'echo "$@" > {tmp_path}/said; cat > {tmp_path}/got.y4m')
    env = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    tools.tds("play", source, "--backend", "bicubic", env=env)
    with tds.decode(source, backend="bicubic") as pictures:
        want = [tools.digest(list(p.planes)) for p in pictures]
    assert tools.digests(tmp_path / "got.y4m") == want
    said = (tmp_path / "said").read_text()
    assert f"--audio-file={source}" in said and said.endswith(" -\n")
    assert player.name in said or "enhanced by tds" in said


def test_closing_the_player_is_no_error_and_its_failing_is(coded: Coded, tmp_path: Path) -> None:
    source = coded().path
    closes = a_player(tmp_path / "ffplay", "head -c 1000 > /dev/null")
    tools.tds("play", source, "--backend", "bicubic", "--player", closes)
    fails = a_player(tmp_path / "fails", "cat > /dev/null; exit 3")
    done = tools.tds("play", source, "--backend", "bicubic", "--player", fails, status=1)
    assert "ended with 3" in done.stderr
    none = tools.tds("play", source, env={**os.environ, "PATH": "/nowhere"}, status=1)
    assert "no player was found" in none.stderr and "--page" in none.stderr


@pytest.mark.parametrize("kind", ["pair", "plain"])
def test_a_page_of_before_and_after(coded: Coded, small: Path, tmp_path: Path, kind: str) -> None:
    source = coded().path if kind == "pair" else small
    page = tmp_path / "p.html"
    tools.tds("play", source, "--page", page, "--model", "fast", "--frame", 1, "--frame", 6)
    text = page.read_text()
    views = json.loads(re.search(r"const views = (.*);\n", text)[1].replace("<\\/", "</"))
    assert [view["name"].split(" (")[0] for view in views] == ["frame 1", "frame 6"]
    assert all({*view["images"]} == {"before", "after"} for view in views)
    assert views[0]["images"]["before"] != views[0]["images"]["after"]
    done = tools.tds("play", source, "--page", page, "--frame", 25, "--overwrite", status=1)
    assert "has no frame 25; it has 25" in done.stderr
