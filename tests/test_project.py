# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the project says of itself holds: versions, licence, its map, its tables."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml

import tds
import tools
from tds import bundled
from tds.evaluation.config import load

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


def test_what_is_made_of_the_code_is_up_to_date():
    """Tables of keys and options, JSON Schemas, the manual page and what shells complete by, as
    `make docs` writes them."""
    pytest.importorskip("shtab")
    pytest.importorskip("argparse_manpage")
    command = [sys.executable, ROOT / "docs" / "tables.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_command_and_option_is_in_the_page_of_commands():
    page = (ROOT / "docs" / "commands.md").read_text()
    assert "`--scene-cut SCENE_CUT`" in page and "## tds enhance" in page
    assert "| `--vcodec-option KEY=VALUE` |" in page


def test_bash_completes_commands_options_and_choices():
    if shutil.which("bash") is None:
        pytest.skip("bash is not here")
    script = ROOT / "share" / "bash-completion" / "completions" / "tds"
    for words, want in (
        ("tds enc", "encode"),
        ("tds encode --scene", "--scene-cut"),
        ("tds decode --precision bf", "bfloat16"),
    ):
        *_, last = words.split()
        code = (
            f"source {script}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); "
            f"_shtab_tds; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        )
        done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
        assert want in [word.strip() for word in done.stdout.split("\n")], (words, last, done)


def test_the_manual_page_is_one_that_man_reads_without_complaint():
    if shutil.which("groff") is None:
        pytest.skip("groff is not here")
    page = ROOT / "share" / "man" / "man1" / "tds.1"
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", page], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert "tds encode" in done.stdout


def test_the_source_package_can_be_built_from_and_has_no_results(tmp_path):
    backend = pytest.importorskip("scikit_build_core.build")
    cwd = Path.cwd()
    try:
        os.chdir(ROOT)
        name = backend.build_sdist(str(tmp_path))
    finally:
        os.chdir(cwd)
    with tarfile.open(tmp_path / name) as archive:
        inside = {member.name.partition("/")[2] for member in archive}
        info = archive.extractfile(f"{name.removesuffix('.tar.gz')}/PKG-INFO").read().decode()
    assert not [path for path in inside if path.startswith(("docs/results/", "training-in"))]
    needed = {"COPYING", "CMakeLists.txt", "configs/quick.yaml", "tests/data/city.mkv",
              "models/fast-k2.safetensors", "share/man/man1/tds.1",
              "csrc/third_party/nlohmann/LICENSE.MIT"}  # fmt: skip
    assert needed <= inside
    assert "License-File: COPYING" in info and "License-Expression: LGPL-2.1-or-later" in info


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_configurations_name_their_schema_and_fit_it(path):
    text = path.read_text()
    name = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)
    assert name
    schema = json.loads((path.parent / name[1]).read_text())
    jsonschema.validate(yaml.safe_load(text), schema)
    with pytest.raises(jsonschema.ValidationError, match="qbs"):
        jsonschema.validate({**yaml.safe_load(text), "qbs": [1]}, schema)


def test_configurations_that_come_along_go_by_their_names(tmp_path, monkeypatch):
    """From anywhere, with a clip of one's own or the one that comes along too."""
    monkeypatch.chdir(tmp_path)
    quick = bundled.configuration(Path("quick"))
    assert len(load(quick, [bundled.demo_clip()]).clips) == 1
    assert bundled.configuration(Path("paper/table1")).name == "table1.yaml"
    trained = bundled.configuration(Path("standard-k1"), "training")
    assert trained.parent.name == "training"
    assert bundled.configuration(Path("mine.yaml")) == Path("mine.yaml")
    with pytest.raises(tds.MissingError, match=r"quik: there is no such file.* quick"):
        bundled.configuration(Path("quik"))
    done = tools.tds("evaluate", "quick", "--clips", "demo", "--partial", status=1)
    assert "no curve is finished in out/quick/cache" in done.stderr  # and so it found both


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text()
    pages = {p.name for p in files("docs/*.md") if p.parent.name == "docs"} - {"README.md"}
    assert sorted(name for name in pages if f"({name})" not in index) == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/README.md"])
def test_links_lead_somewhere(name):
    page = ROOT / name
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_what_is_built_beside_a_cuda_torch_asks_for_no_cuda_library(tmp_path):
    """Else a wheel made beside the torch that indexes give by default does not load with a CPU
    build. Configured beside what CMake looks at of such a torch."""
    cmake = shutil.which(
        "cmake", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    if cmake is None or shutil.which("make") is None:
        pytest.skip("cmake or make is not here")
    torch, build = tmp_path / "torch", tmp_path / "build"
    config = torch / "share" / "cmake" / "Torch"
    config.mkdir(parents=True)
    (config / "TorchConfig.cmake").touch()
    (config / "TorchConfigVersion.cmake").write_text('set(PACKAGE_VERSION "2.13.0")\n')
    (torch / "lib").mkdir()
    for name in ("torch", "torch_cpu", "c10", "torch_cuda", "c10_cuda"):
        (torch / "lib" / f"lib{name}.so").touch()
    subprocess.run(
        [cmake, "-S", ROOT, "-B", build, "-G", "Unix Makefiles", "-DTDS_TORCH=ON",
         "-DTDS_TESTS=OFF", "-DTDS_PYTHON=OFF", f"-DTDS_TORCH_CONFIG={config}/TorchConfig.cmake"],
        check=True, capture_output=True,
    )  # fmt: skip
    (link,) = build.rglob("tds_torchscript.dir/link.txt")
    named = re.findall(r"(?:-l|/lib)(torch\w*|c10\w*)", link.read_text())
    assert set(named) == {"torch", "torch_cpu", "c10"}


def test_the_container_is_made_by_targets_and_of_files_that_are_there():
    text = (ROOT / "packaging" / "Containerfile").read_text()
    recipes = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make ((?:[a-z-]+ )+)\"TORCH", text):
        assert all(re.search(rf"^{t}:", recipes, re.MULTILINE) for t in target.split())
    (torch,) = re.findall(r"^TORCH \?= (\S+)$", recipes, re.MULTILINE)
    assert set(re.findall(r"ARG TORCH=(\S+)", text)) == {torch}
    named = re.findall(r"^COPY (\S+/\S+) \S+$", text, re.MULTILINE)
    assert len(named) == 2 and all((ROOT / name).is_file() for name in named)


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
