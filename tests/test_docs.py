# SPDX-License-Identifier: LGPL-2.1-or-later
"""The documentation does what it says: its commands and its Python run, its links lead somewhere,
its messages are those of the code.

A block of commands is run, or says why not in a comment before it, which a reader does not see:
``<!-- Not run (why). -->`` for all of it, ``<!-- Not run (why): tds play; ffplay. -->`` for
commands that have one of these in them, ``<!-- tests/test_x.py runs this block. -->``.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

import tds
import tools
from tds.cli import build_parser

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("", "*/", "docs/*/", "tests/data/")
PAGES = sorted(page for folder in FOLDERS for page in ROOT.glob(f"{folder}*.md"))
SHELL, PYTHON = ("sh",), ("python",)
OTHER = ("text", "json", "c", "cpp", "cmake")
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


@dataclass(frozen=True)
class Block:
    """language and text of a fenced block, and the comments right before it."""

    language: str
    text: str
    comments: list[str]

    def commands(self) -> list[str]:
        """Its lines, each with those that it goes on in."""
        return [line for line in self.text.replace("\\\n", " ").splitlines() if line.strip()]

    def runs(self) -> list[str]:
        """Commands that nothing says of that they are not run here."""
        left = self.commands()
        for comment in self.comments:
            if found := re.fullmatch(r"(tests/\S+) runs this block\.", comment):
                assert (ROOT / found[1]).is_file(), comment
                return []
            found = re.fullmatch(r"Not run \([^)]+\)(?:: (.+))?\.", comment)
            assert found, f"no such remark: {comment}"
            if found[1] is None:
                return []
            for part in found[1].split("; "):
                kept = [line for line in left if part not in line]
                assert len(kept) < len(left), f"{part!r} is in no command"
                left = kept
        return left


def blocks(page: Path, *languages: str) -> list[Block]:
    pattern = r"((?:^ *<!--[^\n]*-->\n)*)^( *)```(\w*)\n(.*?)^\2```$"
    found = re.findall(pattern, page.read_text(), re.MULTILINE | re.DOTALL)
    return [
        Block(language, textwrap.dedent(text), re.findall(r"<!-- (.*?) -->", comments))
        for comments, _, language, text in found
        if not languages or language in languages
    ]


@pytest.mark.parametrize("name", NAMES)
def test_every_block_is_one_that_these_tests_see(name: str) -> None:
    """Fenced, not indented, and of a language that they know what to do with."""
    text = (ROOT / name).read_text()
    found = blocks(ROOT / name)
    assert len(re.findall(r"^\s*```", text, re.MULTILINE)) == 2 * len(found)
    assert {block.language for block in found} <= {*SHELL, *PYTHON, *OTHER}
    outside = re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.MULTILINE | re.DOTALL)
    assert not re.search(r"\n\n {4,}\S", outside)


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


@pytest.mark.parametrize("name", NAMES)
def test_every_command_of_the_docs_is_one_that_the_program_takes(name: str) -> None:
    """Also those that are not run."""
    for block in blocks(ROOT / name, *SHELL):
        for words in commands(block.text):
            if words[:1] == ["ffmpeg"]:
                continue  # its arguments are ffmpeg's
            try:
                build_parser(words).parse_args(words)
            except SystemExit as end:
                assert not end.code, words


def options(parser: argparse.ArgumentParser, words: list[str]) -> set[str]:
    """Of a command, and of the command in it where it has some."""
    found = {option for action in parser._actions for option in action.option_strings}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for i, word in enumerate(words):
                if word in action.choices:
                    return found | options(action.choices[word], words[i + 1 :])
            assert not words, f"{words[0]} is no command"
    return found


@pytest.mark.parametrize("name", NAMES)
def test_commands_within_sentences_exist_and_so_do_their_options(name: str) -> None:
    for span in re.findall(r"(?<!`)`(tds [^`]+)`(?!`)", (ROOT / name).read_text()):
        for words in commands(" ".join(span.split())):
            if not re.fullmatch(r"[a-z]+", words[0]) or words[0] == "ffmpeg":
                continue
            named = [word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)]
            known = options(build_parser(words), words)
            assert [option for option in named if option not in known] == [], span


def test_commands_are_found_in_blocks() -> None:
    text = "A=b tds encode a b --qp 3  # so\nx | tds decode a - | ffplay -\n"
    assert commands(text) == [["encode", "a", "b", "--qp", "3"], ["decode", "a", "-"]]
    assert sum(len(commands(b.text)) for page in PAGES for b in blocks(page, *SHELL)) > 50


@pytest.fixture(scope="module")
def files(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that commands name, and the program as ``tds``."""
    folder = tmp_path_factory.mktemp("files")
    tools.ffmpeg("-i", small, "-frames:v", 11, "-c:v", "ffv1", folder / "clip.mkv")
    tools.ffmpeg("-i", folder / "clip.mkv", "-c:v", "libx264", folder / "any.mp4")
    shutil.copy(folder / "any.mp4", folder / "myclip.mp4")
    tools.tds("encode", folder / "clip.mkv", folder / "raw.json", "--preset", "faster")
    for name, other in (
        ("raw.json", "plan.json"),
        ("raw.hr.266", "hr.266"),
        ("raw.lr.266", "lr.266"),
    ):
        (folder / name).rename(folder / other)
    tds.encode(
        folder / "clip.mkv", folder / "pair.mp4", codec="hevc", preset="ultrafast", plan="tds"
    )
    program = folder / "bin" / "tds"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tds "$@"\n')
    program.chmod(0o755)
    return folder


def environment(**more: str) -> dict[str, str]:
    path = [str(Path(tds.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), **more}


RUN = [name for name in NAMES if any(block.runs() for block in blocks(ROOT / name, *SHELL))]


@pytest.mark.parametrize("name", RUN)
def test_commands_of_the_docs_run(name: str, files: Path, tmp_path: Path) -> None:
    """One block after the other, as a reader would, on a small clip."""
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    for block in blocks(ROOT / name, *SHELL):
        script = "\n".join(["set -e", *block.runs()])
        done = subprocess.run(
            ["sh", "-c", script],
            cwd=tmp_path,
            env=environment(PATH=path),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("name", [n for n in NAMES if blocks(ROOT / n, *PYTHON)])
def test_python_of_the_docs_runs(name: str, small: Path, tmp_path: Path) -> None:
    """One block after the other, on a small clip."""
    shutil.copy(small, tmp_path / "clip.mkv")
    tds.encode(small, tmp_path / "clip.mp4", codec="hevc", preset="ultrafast", plan="tds")
    script = tmp_path / "blocks.py"
    text = "\n".join(block.text for block in blocks(ROOT / name, *PYTHON))
    # The README's encoder is the default one, which takes its time.
    script.write_text(text.replace('"clip.mp4", codec="vvc"', '"new.mp4", codec="hevc"'))
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def heads(page: Path) -> set[str]:
    """The anchors of a page, as GitHub and the site make them of its headings."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    found = set()
    for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower())
        found.add(plain.strip().replace(" ", "-"))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_links_of_every_page_lead_to_a_file_and_a_heading(name: str) -> None:
    page = ROOT / name
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:|mailto:", target):
            continue
        path, _, place = target.partition("#")
        other = (page.parent / path) if path else page
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
