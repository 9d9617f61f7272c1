# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the released image and the wheel are made of: pinned by hash, and said."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import tds

ROOT = Path(__file__).resolve().parent.parent
PACKAGING = ROOT / "packaging"
sys.path.insert(0, str(PACKAGING))

import sbom  # noqa: E402

LOCKS = ("runtime", "build")


def locked(name: str) -> dict[str, str]:
    """Name and version of each pin of a lock."""
    return {pin.name: pin.version for pin in sbom.pins(sbom.LOCKS / f"{name}.txt")}


def asked_by_pyproject() -> list[str]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return list(settings["project"]["dependencies"])


def asked_by_torch() -> list[str]:
    """Of the torch here; what a CUDA build brings along is of its own index, as it is itself."""
    asked = [Requirement(text) for text in importlib.metadata.requires("torch") or []]
    own = re.compile(r"nvidia|cuda|triton")
    return [r.name for r in asked if "extra" not in str(r.marker) and not own.match(r.name)]


def unmet(asked: list[str], pins: dict[str, str]) -> list[str]:
    """Those of these requirements, as they hold on this Python, that no pin satisfies."""
    wanted = [Requirement(text) for text in asked]
    return [
        str(r)
        for r in wanted
        if (r.marker is None or r.marker.evaluate({"extra": ""}))
        and (
            canonicalize_name(r.name) not in pins
            or not r.specifier.contains(pins[canonicalize_name(r.name)])
        )
    ]


def lines(name: str) -> list[str]:
    text = (sbom.LOCKS / name).read_text()
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_of_a_lock_has_the_hashes_of_its_files_and_no_index_is_named(name):
    text = (sbom.LOCKS / f"{name}.txt").read_text()
    pins = sbom.pins(sbom.LOCKS / f"{name}.txt")
    assert len(pins) == len(re.findall(r"^[^\s#]", text, re.MULTILINE)) > 10
    assert [pin.name for pin in pins if not pin.hashes] == []
    assert sum(len(pin.hashes) for pin in pins) == text.count("--hash=")
    assert "://" not in text and "torch" not in locked(name)


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_what_the_package_and_torch_ask_for(name):
    pins = locked(name)
    assert unmet(asked_by_pyproject(), pins) == []
    assert unmet(asked_by_torch(), pins) == []
    assert unmet(lines("torch.in"), pins) == []


def test_the_lock_of_the_build_has_what_the_build_asks_for():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pins = locked("build")
    assert unmet([*settings["build-system"]["requires"], *lines("build.in")], pins) == []
    # What the wheel is tried with in its image is what the image is released with.
    assert {n: v for n, v in pins.items() if n in locked("runtime")} == locked("runtime")


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_what_its_pins_ask_for_in_turn(name):
    """Of those that are installed here in that very version."""
    pins, looked_at = locked(name), 0
    for pin, version in pins.items():
        try:
            here = importlib.metadata.distribution(pin)
        except importlib.metadata.PackageNotFoundError:
            continue
        if here.version == version:
            assert unmet(here.requires or [], pins) == [], pin
            looked_at += 1
    if not looked_at:
        pytest.skip("nothing is installed here in the version of the lock")


def test_the_image_installs_nothing_of_an_index_without_a_hash_but_torch():
    text = (PACKAGING / "Containerfile").read_text().replace("\\\n", " ")
    installs = re.findall(r"pip install ([^&\n]*)", text)
    assert len(installs) >= 5
    free = [i for i in installs if not re.search(r"--require-hashes -r|--no-deps \S*dist/", i)]
    assert {re.sub(r"--\S+\s*", "", i).strip() for i in free} == {'"${TORCH}"'}


def test_pip_refuses_a_file_whose_hash_is_another(tmp_path):
    """The lock is of a form that pip obeys: asked for a wheel of the same name with other bytes."""
    wheel = tmp_path / "mdurl-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as made:
        made.writestr("mdurl.py", "")
        made.writestr(
            "mdurl-0.1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: mdurl\nVersion: 0.1.2\n"
        )
        made.writestr("mdurl-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        made.writestr("mdurl-0.1.2.dist-info/RECORD", "")
    text = (sbom.LOCKS / "runtime.txt").read_text()
    (tmp_path / "lock.txt").write_text(text[text.index("\nmdurl==") : text.index("\nmpmath==")])
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--isolated", "download", "--no-index", "--find-links",
         tmp_path, "--no-deps", "--require-hashes", "-r", tmp_path / "lock.txt", "-d",
         tmp_path / "out"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1 and "HASH" in done.stderr.upper()


def test_the_wheel_says_what_is_compiled_into_it():
    text = sbom.inside("2.13.0+cpu")
    assert sbom.faults(text) == ""
    parts = {part["name"]: part for part in json.loads(text)["components"]}
    header = (ROOT / "csrc" / "third_party" / "nlohmann" / "json.hpp").read_text()
    assert f"version {parts['json']['version']}\n" in header
    assert parts["libtds"]["version"] == tds.__version__
    assert parts["pybind11"]["version"] == importlib.metadata.version("pybind11")
    assert parts["torch"]["version"] == "2.13.0" and parts["torch"]["scope"] == "optional"
    assert {p.name for p in (ROOT / "csrc" / "third_party").iterdir()} == {"nlohmann"}


def test_what_lies_beside_the_wheel_is_the_lock():
    text = sbom.beside("2.13.0+cpu")
    assert sbom.faults(text) == ""
    said = json.loads(text)
    parts = {part["name"]: part for part in said["components"]}
    assert {n: p["version"] for n, p in parts.items()} == {**locked("runtime"), "torch": "2.13.0"}
    lock = (sbom.LOCKS / "runtime.txt").read_text()
    for part in parts.values():
        for reference in part.get("externalReferences", []):
            assert all(f"sha256:{h['content']}" in lock for h in reference["hashes"])
    edges = {edge["ref"]: edge.get("dependsOn", []) for edge in said["dependencies"]}
    ref = {name: part["bom-ref"] for name, part in parts.items()}
    root = edges[said["metadata"]["component"]["bom-ref"]]
    direct = [Requirement(text).name for text in asked_by_pyproject()]
    assert sorted(root) == sorted(ref[canonicalize_name(name)] for name in [*direct, "torch"])
    assert ref["markdown-it-py"] in edges[ref["rich"]] and ref["sympy"] in edges[ref["torch"]]


def test_a_wheel_that_does_not_say_what_it_has_inside_is_found_out(tmp_path):
    """packaging/sbom.py, by which `make test-wheel` looks at the wheel that was made."""
    wheel = tmp_path / "a.whl"

    def look(inside: str | None) -> subprocess.CompletedProcess[str]:
        with zipfile.ZipFile(wheel, "w") as made:
            made.writestr("tds_codec-0.dist-info/METADATA", "")
            if inside is not None:
                made.writestr("tds_codec-0.dist-info/sboms/tds-codec.cdx.json", inside)
        return subprocess.run(
            [sys.executable, PACKAGING / "sbom.py", wheel], capture_output=True, text=True
        )

    whole = sbom.inside("2.13.0")
    assert f"libtds {tds.__version__}\n" in look(whole).stdout
    for wrong in (None, whole.replace('"library"', '"book"', 1)):
        done = look(wrong)
        assert done.returncode == 1 and str(wheel) in done.stderr


def test_locks_are_what_make_locks_asks_for():
    """Each input that the Makefile names is there, and the other way round."""
    made = shutil.which("make")
    if made is None:
        pytest.skip("there is no make")
    said = subprocess.run(
        [made, "-n", "locks"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    named = set(re.findall(r"packaging/locks/(\S+)", said))
    assert named == {p.name for p in sbom.LOCKS.iterdir()}
