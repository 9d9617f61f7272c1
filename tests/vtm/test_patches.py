# SPDX-License-Identifier: LGPL-2.1-or-later
"""The patches stay small, and the script that checks them sees a tree they do not fit."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PATCHES = Path(__file__).resolve().parents[2] / "vtm_patches"


@pytest.mark.parametrize("name", ["vtm.patch", "hm.patch"])
def test_a_patch_adds_few_lines_and_removes_none(name: str) -> None:
    body = (PATCHES / name).read_text().split("diff --git", 1)[1]
    assert 0 < len(re.findall(r"^\+(?!\+\+)", body, re.MULTILINE)) < 25
    assert not re.findall(r"^-(?!-)", body, re.MULTILINE)


@pytest.mark.parametrize("name", ["vtm.patch", "hm.patch"])
def test_every_hunk_has_one_line_of_context_on_each_side(name: str) -> None:
    hunks = re.split(r"^@@.*@@.*\n", (PATCHES / name).read_text(), flags=re.MULTILINE)[1:]
    assert hunks
    for hunk in hunks:
        lines = re.split(r"\n(?:diff|-- )", hunk)[0].rstrip("\n").split("\n")
        assert lines[0][0] == lines[-1][0] == " "
        assert all(line[0] == "+" for line in lines[1:-1])


def _check(*trees: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PATCHES / "check.py"), *map(str, trees)],
        capture_output=True,
        text=True,
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Of VTM's decoder only the lines around the patch, written for this test."""
    if shutil.which("patch") is None:
        pytest.skip("patch(1) is not installed")
    app = tmp_path / "vtm/source/App/DecoderApp"
    app.mkdir(parents=True)
    (app / "CMakeLists.txt").write_text(
        "add_executable( ${EXE_NAME} ${SRC_FILES} ${INC_FILES} ${NATVIS_FILES} )\n"
        "include_directories(${CMAKE_CURRENT_BINARY_DIR})\n"
    )
    patch = (PATCHES / "vtm.patch").read_text()
    for name in ("DecAppCfg.h", "DecAppCfg.cpp"):
        part = next(p for p in patch.split("diff --git") if f"/{name}\n" in p)
        context = [x[1:] for x in part.split("\n") if x.startswith(" ") and x.strip()]
        (app / name).write_text("\n".join(x for x in context if "DecApp/" not in x) + "\n")
    (app / "DecApp.cpp").write_text(
        "void DecApp::writeLineToOutputLog(Picture * pcPic)\n{\n"
        "  if (m_oplFileStream.is_open() && m_oplFileStream.good())\n  {\n  }\n}\n"
    )
    return tmp_path / "vtm"


def test_check_passes_a_tree_the_patch_fits_and_leaves_it_as_it_is(tree: Path) -> None:
    before = {p: p.read_bytes() for p in tree.rglob("*") if p.is_file()}
    done = _check(tree)
    assert done.returncode == 0, done.stdout
    assert {p: p.read_bytes() for p in tree.rglob("*") if p.is_file()} == before


def test_git_takes_the_patch_as_a_commit(tree: Path) -> None:
    def git(*arguments: str) -> str:
        names = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        done = subprocess.run(
            ["git", "-C", str(tree), *names, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout

    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "VTM")
    git("am", str(PATCHES / "vtm.patch"))
    assert git("log", "-1", "--format=%s").startswith("DecoderApp: hand output pictures")


def test_check_refuses_a_tree_whose_function_has_another_name(tree: Path) -> None:
    source = tree / "source/App/DecoderApp/DecApp.cpp"
    source.write_text(source.read_text().replace("writeLineToOutputLog", "somethingElse"))
    done = _check(tree)
    assert done.returncode == 1
    assert "handed over at 0 places" in done.stdout


def test_check_refuses_a_tree_without_the_lines(tree: Path) -> None:
    (tree / "source/App/DecoderApp/DecAppCfg.h").write_text("class DecAppCfg;\n")
    done = _check(tree)
    assert done.returncode == 1
    assert "does not apply" in done.stdout


def test_check_refuses_a_folder_that_is_no_decoder(tmp_path: Path) -> None:
    done = _check(tmp_path)
    assert done.returncode == 1
    assert "no VTM or HM source tree" in done.stdout


def test_the_patches_fit_the_trees_at_hand() -> None:
    trees = [Path(p) for p in os.environ.get("TDS_VTM_TREES", "").split(os.pathsep) if p]
    if not trees:
        pytest.skip("TDS_VTM_TREES is not set; name VTM and HM source trees, separated by ':'")
    done = _check(*trees)
    assert done.returncode == 0, done.stdout
