# SPDX-License-Identifier: LGPL-2.1-or-later
"""The documentation does what it says: its commands are taken, its Python runs, its links lead
somewhere, its messages are those of the code."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tds
from tds.cli import build_parser

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
# Pages whose Python is run, one block after the other, on a small clip.
RUN = ("README.md", "start.md", "python.md")


def blocks(page: Path, *languages: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [text for language, text in found if language in languages]


def commands(text: str) -> list[list[str]]:
    """The tds commands of a block, as words, each up to what a shell takes over."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        for part in re.split(r"&&|\|(?!\|)|;|\$\(", line):
            try:
                words = shlex.split(part, comments=True)
            except ValueError:
                continue
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words = words[1:]
            if words[:1] == ["tds"]:
                end = next((i for i, w in enumerate(words) if w[0] in "<>&" and w[1:]), len(words))
                found.append(words[1:end])
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_command_of_the_docs_is_one_that_the_program_takes(page: Path) -> None:
    """Parsed, not run: they name files that a reader has, and some take hours."""
    for text in blocks(page, "", "sh"):
        for words in commands(text):
            if "..." in words or words[:1] == ["ffmpeg"]:
                continue  # "...": a pattern and no command; ffmpeg: its arguments are ffmpeg's
            try:
                build_parser(words).parse_args(words)
            except SystemExit as end:
                assert not end.code, words


def test_commands_are_found_in_blocks() -> None:
    text = "A=b tds encode a b --qp 3  # so\nx | tds decode a - | ffplay -\n"
    assert commands(text) == [["encode", "a", "b", "--qp", "3"], ["decode", "a", "-"]]
    assert sum(len(commands(text)) for page in PAGES for text in blocks(page, "", "sh")) > 30


@pytest.mark.parametrize("name", RUN)
def test_python_of_the_docs_runs(name: str, small: Path, tmp_path: Path) -> None:
    page = ROOT / name if name == "README.md" else ROOT / "docs" / name
    shutil.copy(small, tmp_path / "clip.mkv")
    tds.encode(small, tmp_path / "clip.mp4", codec="hevc", preset="ultrafast", plan="tds")
    script = tmp_path / "blocks.py"
    text = "\n".join(blocks(page, "python"))
    # The README's encoder is the default one, which takes its time.
    script.write_text(text.replace('"clip.mp4", codec="vvc"', '"new.mp4", codec="hevc"'))
    path = os.pathsep.join(
        [str(Path(tds.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    )
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_python_of_other_pages_is_python() -> None:
    for page in PAGES:
        for text in blocks(page, "python"):
            compile(text, str(page), "exec")


def heads(page: Path) -> set[str]:
    """The anchors of a page, as GitHub and the site make them of its headings."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    found = set()
    for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower())
        found.add(plain.strip().replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_of_every_page_lead_to_a_file_and_a_heading(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:|mailto:", target):
            continue
        name, _, place = target.partition("#")
        other = (page.parent / name) if name else page
        assert other.exists(), target
        if place and other.suffix == ".md":
            assert place in heads(other), target


def test_every_page_is_in_the_menu_of_the_site() -> None:
    menu = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    pages = [page.name for page in (ROOT / "docs").glob("*.md")]
    assert [name for name in pages if not re.search(rf": {re.escape(name)}$", menu, re.M)] == []


def test_messages_of_the_page_of_troubles_are_those_of_the_code() -> None:
    code = "".join(
        path.read_text()
        for folder, pattern in (("python/tds", "*.py"), ("csrc", "*.cpp"))
        for path in (ROOT / folder).rglob(pattern)
    )
    code = re.sub(r'"\s*f?"', "", code)  # literals that go on in the next line
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    quoted = [text for row in rows for text in re.findall(r"`([^`]+)`", row.split("|")[1])]
    assert len(quoted) > 10
    assert [text for text in quoted if text.strip() not in code] == []
