# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the project says of itself holds: versions, licence, its map, its tables."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml

import tds
import tools

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("python", "csrc", "ffmpeg_filter", "vtm_patches", "benchmarks", "tests", "Makefile")


def files(*patterns: str) -> list[Path]:
    """The project's own files, as git has them; where there is no git the tests skip."""
    done = subprocess.run(
        ["git", "ls-files", "-z", "--", *patterns], cwd=ROOT, capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("not a git checkout, so what belongs to the project is not known")
    return [path for name in done.stdout.decode().split("\0") if (path := ROOT / name).is_file()]


def version() -> str:
    header = (ROOT / "csrc" / "include" / "tds" / "tds.h").read_text()
    return ".".join(
        re.findall(r"^#define TDS_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)$", header, re.MULTILINE)
    )


def test_there_is_one_version():
    """The header's: engine, package and command say it, and no build file repeats it."""
    assert tds.__version__ == version() == tools.tds("--version").stdout.split()[-1]
    for name in ("pyproject.toml", "CMakeLists.txt"):
        assert not re.search(
            rf"version\W+{re.escape(version())}\b", (ROOT / name).read_text(), re.I
        )


def test_the_package_reads_its_version_from_the_header():
    regex = pytest.importorskip("scikit_build_core.metadata.regex")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    rule = settings["tool"]["scikit-build"]["metadata"]["version"]
    del rule["provider"]
    found = regex.dynamic_metadata("version", {**rule, "input": str(ROOT / rule["input"])})
    assert found == version()


def test_the_changelog_begins_with_what_is_not_released_and_has_this_version():
    heads = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heads[0] == "Unreleased"
    assert version() in heads


def test_recipes_find_the_programs_that_pip_installed():
    """CMake for one looks for ninja, which not every machine has of its own."""
    if shutil.which("make") is None:
        pytest.skip("make is not here")
    command = ["make", "--silent", "--eval", "path: ; @echo $$PATH", "path"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split(":")[0] == str(ROOT / ".venv" / "bin")


def test_every_environment_variable_is_documented():
    """Those that the sources read, by any way they are read in."""
    table = (ROOT / "docs" / "environment.md").read_text()
    read = set()
    for path in files(*SOURCES):
        text = path.read_bytes().decode(errors="ignore")
        read |= set(
            re.findall(r"""(?:environ|getenv|variable)[^\n]{0,25}["'](TDS_[A-Z_]+)["']""", text)
        )
        read |= (
            set(re.findall(r"\$\{?(TDS_[A-Z_]+)", text)) if path.suffix in ("", ".sh") else set()
        )
    assert {"TDS_CACHE", "TDS_MODEL_PATH", "TDS_FFMPEG", "TDS_VTM_BIN"} <= read
    assert sorted(name for name in read if f"`{name}`" not in table) == []


def test_the_tables_of_keys_are_those_of_the_code():
    """docs/ and the JSON Schemas, as `make docs` writes them."""
    command = [sys.executable, ROOT / "docs" / "tables.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_configurations_name_their_schema_and_fit_it(path):
    text = path.read_text()
    name = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)
    assert name
    schema = json.loads((path.parent / name[1]).read_text())
    jsonschema.validate(yaml.safe_load(text), schema)
    with pytest.raises(jsonschema.ValidationError, match="qbs"):
        jsonschema.validate({**yaml.safe_load(text), "qbs": [1]}, schema)


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text()
    pages = {p.name for p in files("docs/*.md") if p.parent.name == "docs"} - {"README.md"}
    assert sorted(name for name in pages if f"({name})" not in index) == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/README.md"])
def test_links_lead_somewhere(name):
    page = ROOT / name
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_map_names_places_that_are_there():
    """Every path in the table "Where do I change"."""
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("## Where do I change")[2]
    rows = [line for line in table.partition("\n## ")[0].splitlines() if line.startswith("| ")][1:]
    named = [p for row in rows for p in re.findall(r"`([\w./*-]+)`", row) if "/" in p or "." in p]
    assert len(named) > 40
    assert [p for p in named if not list(ROOT.glob(p))] == []


def test_every_source_names_its_licence_and_its_text_is_here():
    assert "GNU LESSER GENERAL PUBLIC LICENSE" in (ROOT / "COPYING").read_text()[:300]
    bare = [
        str(path.relative_to(ROOT))
        for path in files("*.py", "*.pyi", "*.c", "*.cpp", "*.h", "*CMakeLists.txt")
        if "third_party" not in path.parts
        and "SPDX-License-Identifier:" not in path.read_text()[:200]
        and path.read_text().strip()
    ]
    assert bare == []


def test_media_is_the_only_door_to_pixels():
    """What teaches and judges never decodes by PyAV itself, whose pictures may be wrong
    (media/decoding.py)."""
    places = [
        f"python/tds/{name}/*.py" for name in ("evaluation", "measuring", "models", "training")
    ]
    doors = [
        str(path.relative_to(ROOT))
        for path in files(*places, "benchmarks/*.py")
        if re.search(r"(container|packet|source)s?\.decode\(", path.read_text())
    ]
    assert doors == []
