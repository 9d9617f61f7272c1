# SPDX-License-Identifier: LGPL-2.1-or-later
"""Outputs appear whole or not at all, and go where they were meant to go."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import tds
from tds.errors import InputError, MissingError, OutputError, OutputExistsError
from tds.files import sha256_of, sha256_of_all, sha256_of_text, whole_file, whole_folder

PACKAGE = Path(tds.__file__).parent


def test_an_output_appears_when_it_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    with whole_file(out, overwrite=False) as beside:
        assert beside.parent == tmp_path and beside.suffix == ".json" and beside.name[0] == "."
        assert beside.read_bytes() == b"" and not out.exists()
        beside.write_text("all of it")
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]
    assert out.read_text() == "all of it"
    assert out.stat().st_mode & 0o777 == 0o666 & ~umask()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    out.write_text("before")
    with pytest.raises(InputError), whole_file(out, overwrite=True) as beside:
        beside.write_text("half")
        raise InputError("no")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["before"]
    with pytest.raises(OutputExistsError), whole_file(out, overwrite=False):
        pytest.fail("it was there")


def test_what_comes_there_meanwhile_is_not_lost(tmp_path: Path) -> None:
    """Two runs with one output: neither was told that it may replace the other's."""
    out = tmp_path / "out.json"
    with pytest.raises(OutputExistsError, match="give `overwrite=True`"):
        with whole_file(out, overwrite=False) as beside:
            beside.write_text("second")
            out.write_text("first")
    with whole_file(out, overwrite=True) as beside:
        assert out.read_text() == "first"
        beside.write_text("third")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["third"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_nor_what_comes_into_a_folder_meanwhile(tmp_path: Path, overwrite: bool) -> None:
    out = tmp_path / "out"
    with pytest.raises(OutputExistsError), whole_folder(out, overwrite, ("mark",)) as beside:
        (beside / "mark").write_text("second")
        out.mkdir()
        (out / "own").write_text("first")
    assert [p.read_text() for p in tmp_path.rglob("*") if p.is_file()] == ["first"]


def test_nobody_can_put_a_link_where_an_output_will_be_written(tmp_path: Path) -> None:
    """The name is another one each time, and a file that is there is never opened."""
    out = tmp_path / "out.mp4"
    names = set()
    for _ in range(20):
        with whole_file(out, overwrite=True) as beside:
            names.add(beside.name)
            assert not beside.is_symlink() and str(os.getpid()) not in beside.name.split(".")
    assert len(names) == 20


def test_a_link_at_the_very_name_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tds.files.secrets.token_hex", lambda size: "guessed")
    victim = tmp_path / "victim"
    (tmp_path / ".out.guessed.part.mp4").symlink_to(victim)
    with pytest.raises(FileExistsError), whole_file(tmp_path / "out.mp4", overwrite=False):
        pytest.fail("it was opened")
    assert not victim.exists()
    assert (tmp_path / ".out.guessed.part.mp4").is_symlink()  # somebody else's


def test_a_name_as_long_as_may_be_is_written(tmp_path: Path) -> None:
    out = tmp_path / ("é" * 125 + ".json")
    with whole_file(out, overwrite=False) as beside:
        beside.write_text("x")
    assert [p.name for p in tmp_path.iterdir()] == [out.name]
    with pytest.raises(OutputError, match="at most 255 bytes"):
        with whole_file(tmp_path / ("x" * 300), overwrite=False):
            pytest.fail("no file can have that name")


def test_no_folder_no_output(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="there is no folder"):
        with whole_file(tmp_path / "none" / "out", overwrite=False):
            pytest.fail("there is no such folder")


def test_hashes_are_those_of_the_bytes(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("tem")
    b.write_text("poral")
    assert sha256_of_all([a, b]) == sha256_of_text("temporal")
    assert sha256_of_all([a]) == sha256_of(a) == sha256_of_text("tem")


@pytest.mark.parametrize(
    "rule, owners",
    [
        (r"os\.replace\(", {"files.py"}),
        (r"\.part\b", {"files.py"}),
        (r"import hashlib", {"files.py", "media/planar.py"}),
        (r'"yuv420p10le"', {"codecs/libvvenc.py", "media/planar.py"}),
        (r"from_ndarray\(", {"media/planar.py", "training/pictures.py"}),
    ],
)
def test_each_of_these_rules_is_written_once(rule: str, owners: set[str]) -> None:
    found = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if re.search(rule, path.read_text())
    }
    assert found <= owners


def test_a_bundle_for_a_bug_report_names_no_folder_and_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tds import doctor

    monkeypatch.setenv("TDS_MODEL_PATH", str(tmp_path / "secret"))
    monkeypatch.setattr(doctor.getpass, "getuser", lambda: "ada")
    text = f"{tmp_path}/ffmpeg of ada, ~/x/models/fast.pt; {Path.home()}/.cache/tds is 1/2 full"
    said = doctor.bundle([doctor.Finding("ffmpeg program", text)])
    value = said["findings"][0]["value"]
    assert value == "…/ffmpeg of …, …/fast.pt; …/tds is 1/2 full"
    assert said["variables"] == sorted(n for n in os.environ if n.startswith("TDS_"))
    assert "secret" not in str(said) and said["packages"]["av"]
