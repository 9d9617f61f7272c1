# SPDX-License-Identifier: LGPL-2.1-or-later
"""`tds train --bundle` and `--resume`: a training that goes on where nothing of ours is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import torch
import yaml
from test_quality import run_of

from tds import _tds, cli
from tds.errors import InputError, MissingError, OutputError
from tds.training import bundle
from tds.training.config import load_config
from tds.training.trainer import Trainer

# torch, numpy, PyAV, and what torch itself imports.
THERE = ("torch", "torchgen", "functorch", "numpy", "numpy.libs", "av", "av.libs", "sympy",
         "mpmath", "networkx", "jinja2", "markupsafe", "filelock", "fsspec",
         "typing_extensions.py")  # fmt: skip


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    """A Python that has what the other machine has, and nothing else."""
    folder = tmp_path_factory.mktemp("bare") / "python"
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    ours = Path(torch.__file__).parents[1]
    for name in THERE:
        if (ours / name).exists():
            (site / name).symlink_to(ours / name)
    program = folder / "bin" / "python"
    lacks = [program, "-c", "import pydantic"]
    assert b"No module named 'pydantic'" in subprocess.run(lacks, capture_output=True).stderr
    return program


@pytest.fixture
def config(pair_set, tmp_path) -> Path:
    values = {
        **run_of(pair_set, tmp_path),
        "optimizer": {"batch": 1, "threads": 1, "clip": 8.0, "deterministic": True},
        "stages": [{"steps": 4, "freeze": ["motion."]}],
        "log": {"every": 2, "tensorboard": False},
    }
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def there(folder: Path, python: Path, *seconds: str) -> subprocess.CompletedProcess[str]:
    """What the script says on the other machine."""
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        ["sh", folder / "train.sh", *seconds],
        env={**clean, "PYTHON": str(python), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoint.pt", weights_only=True)["average"]


def test_it_goes_on_there_and_here_to_the_very_weights(config, bare, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bundle, "PART", 1 << 20)
    out, packed = tmp_path / "out", tmp_path / "packed"
    straight = Trainer(load_config(config), tmp_path / "straight", quiet=True)
    straight.run()
    Trainer(load_config(config), out, quiet=True).run(stop_after=2)
    command = ["train", str(config), "--out", str(out)]
    assert cli.main([*command, "--bundle", str(packed)]) == 0
    assert "parts" in capsys.readouterr().out
    parts = sorted(path for path in packed.iterdir() if ".tgz." in path.name)
    assert len(parts) > 4 and all(path.stat().st_size <= bundle.PART for path in parts)

    done = there(packed, bare)
    assert done.returncode == 0, done.stderr
    assert "resumed at step 2" in done.stderr
    assert (out / "checkpoint.pt").stat().st_size and weights(out).keys()
    assert cli.main([*command, "--resume", str(packed / "run"), "--quiet"]) == 0
    assert "hevc ai" in (out / "validation.csv").read_text()
    found, wanted = weights(out), straight.average.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in found.items())

    # What is there already goes on from where it stands, not from what came.
    again = there(packed, bare)
    assert again.returncode == 0 and "resumed at step 4" in again.stderr
    assert "state/run is not taken, run is as far: step 4" in again.stderr
    # And for the next turn only the state has to travel.
    before = {path.name: path.read_bytes() for path in parts}
    assert cli.main([*command, "--bundle", str(packed)]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert cli.main([*command, "--bundle", str(packed), "--overwrite"]) == 0
    after = {path.name: path.read_bytes() for path in packed.iterdir() if ".tgz." in path.name}
    changed = {name for name in {**before, **after} if before.get(name) != after.get(name)}
    assert changed and all(name.startswith("state.") for name in changed)


def test_a_slice_of_time_ends_with_a_checkpoint(config, bare, tmp_path):
    packed, out = tmp_path / "packed", tmp_path / "out"
    long = load_config(config, ["stages.0.steps=100000"])
    bundle.pack(Trainer(long, out), packed)
    (packed / "state.tgz.001").write_bytes(b"of a turn before")
    done = there(packed, bare, "1")
    assert done.returncode == 1 and "no step was done within 1 seconds" in done.stderr
    done = there(packed, bare, "25")
    assert done.returncode == 3, done.stderr
    assert "the same command goes on from here" in done.stderr
    with pytest.raises(InputError, match="is further than the run here"):
        bundle.pack(Trainer(long, out), packed, overwrite=True)
    trainer = Trainer(long, out, quiet=True)
    assert bundle.take(trainer, packed / "run" / "checkpoint.pt")
    assert 0 < trainer.step < 100000
    # One that is behind is not taken, here or there.
    Trainer(long, tmp_path / "less", quiet=True).run(stop_after=1, validating=False)
    trainer = Trainer(long, out, quiet=True)
    assert not bundle.take(trainer, tmp_path / "less") and trainer.step > 1


def test_damage_and_another_python_are_said_before_anything_is_trained(config, bare, tmp_path):
    packed = tmp_path / "packed with spaces"
    bundle.pack(Trainer(load_config(config), tmp_path / "out"), packed)
    part = packed / "data.tgz.000"
    whole = part.read_bytes()
    part.write_bytes(whole[:-1])
    done = there(packed, bare)
    assert done.returncode != 0 and part.name in done.stdout + done.stderr
    part.write_bytes(whole)
    script = packed / "train.sh"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    script.write_text(script.read_text().replace(version, "3.99"))
    done = there(packed, bare)
    assert done.returncode == 1 and "the wheels here are of Python 3.99" in done.stderr
    assert not (packed / "run").exists()


def test_the_stand_in_says_what_the_native_module_says():
    names: dict[str, object] = {}
    exec(bundle.STAND_IN, names)
    assert names["MAX_SIZE"] == _tds.MAX_SIZE
    size = names["lr_size"]
    assert callable(size)
    for scale in (1, 2, 4):
        assert all(size(n, scale) == _tds.lr_size(n, scale) for n in range(2, 4000, 2))


def unpacked(packed: Path, kind: str, folder: Path) -> Path:
    """One kind of parts, as they are unpacked there."""
    folder.mkdir(exist_ok=True)
    archive = folder / "joined.tgz"
    archive.write_bytes(b"".join(p.read_bytes() for p in sorted(packed.glob(f"{kind}.tgz.*"))))
    subprocess.run(["tar", "-xzf", archive, "-C", folder], check=True)
    return folder


def test_only_what_is_trained_or_validated_on_goes_along(config, pair_set, tmp_path):
    packed = tmp_path / "packed"
    some = load_config(config, ["data.configs=[ai]", "data.qps=[37]", "validation.qps=[32]"])
    bundle.pack(Trainer(some, tmp_path / "out"), packed)
    data = unpacked(packed, "data", tmp_path / "there") / "data" / "0"
    found = json.loads((data / "manifest.json").read_text())["entries"]
    assert {(e["clip"], e["config"], e["hr_qp"]) for e in found} >= {
        ("one", "ai", 37), ("two", "ai", 32),
    }  # fmt: skip
    assert all(e["hr_qp"] == (32 if e["clip"] == "two" else 37) for e in found)
    assert all((data / e[name]).is_file() for e in found for name in ("original", "hr", "lr"))

    # One data set, however it is spelt; a clip held out that is not validated on stays here.
    twice = [str(pair_set), f"{pair_set}/"]
    sets = [f"data.folders={json.dumps(twice)}", f"validation.folders={json.dumps(twice[:1])}"]
    validated = load_config(config, [*sets, "validation.qps=[37]", "data.qps=[32]"])
    bundle.pack(Trainer(validated, tmp_path / "out"), packed, overwrite=True)
    state = unpacked(packed, "state", tmp_path / "there") / "state"
    there_is = load_config(state / "config.yaml")
    assert there_is.data.folders == ["data/0", "data/0"] and there_is.data.held_out == ["two"]
    assert there_is.validation.folders == ["data/0"]


def test_what_is_wrong_is_said_and_leaves_no_half_bundle(config, tmp_path, monkeypatch):
    out, packed = tmp_path / "out", tmp_path / "packed"

    def pack(*settings: str, **options: str) -> None:
        bundle.pack(Trainer(load_config(config, list(settings)), out), packed, **options)

    with pytest.raises(InputError, match="no stream"):
        pack("data.qps=[63]")
    with pytest.raises(InputError, match="there is no clip 'nobody'"):
        pack("data.held_out=[nobody]")
    with pytest.raises(InputError, match=r"is smaller than samples\.patch"):
        pack("samples.patch=1024")
    with pytest.raises(InputError, match=r"is 3\.11 or later"):
        pack(python="3.10")
    with pytest.raises(OutputError, match="pip cannot fetch wheels of"):
        pack(python="3.99")
    with pytest.raises(InputError, match="which is written anew"):
        bundle.pack(Trainer(load_config(config), packed / "run"), packed)
    monkeypatch.setattr(bundle, "WHEELS", ("no-such-package-of-ours",))
    with pytest.raises(MissingError, match="no-such-package-of-ours is not installed"):
        pack()
    assert not packed.exists() and not list(tmp_path.glob(".packed*"))


def test_a_manifest_has_no_say_over_other_files(config, pair_set, tmp_path):
    (tmp_path / "set").mkdir()
    text = (pair_set / "manifest.json").read_text()
    for where in ("../originals/", "/originals/"):
        (tmp_path / "set" / "manifest.json").write_text(text.replace('"originals/', f'"{where}'))
        changed = load_config(config, [f"data.folders=[{tmp_path / 'set'}]"])
        with pytest.raises(InputError, match="outside of it"):
            bundle.pack(Trainer(changed, tmp_path / "out"), tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


@pytest.mark.parametrize(
    "change, why",
    [
        (None, "cannot be read"),
        ({"network": {"preset": "other"}}, "another network"),
        ({"model": {}}, "is damaged"),
        ({"step": -1}, "counts of steps"),
        ({"stage": 9}, "counts of steps"),
        ({"optimizer": {}}, "is damaged"),
        ("nan", "not finite"),
    ],
)
def test_what_came_back_is_checked_before_the_run_here_is_touched(config, tmp_path, change, why):
    out, back = tmp_path / "out", tmp_path / "back"
    Trainer(load_config(config), out, quiet=True).save()
    before = (out / "checkpoint.pt").read_bytes()
    back.mkdir()
    state = torch.load(out / "checkpoint.pt", weights_only=True)
    state["step"] = 3
    if change == "nan":
        next(iter(state["average"].values())).fill_(float("nan"))
    elif change is not None:
        state.update(change)
    torch.save(state, back / "checkpoint.pt")
    if change is None:
        (back / "checkpoint.pt").write_bytes(b"no checkpoint")
    command = ["train", str(config), "--out", str(out), "--resume", str(back)]
    with pytest.raises(InputError, match=why):
        bundle.take(Trainer(load_config(config), out, quiet=True), back)
    assert cli.main([*command, "--stop-after", "0"]) == 1
    assert (out / "checkpoint.pt").read_bytes() == before
    with pytest.raises(MissingError, match=r"there is no checkpoint\.pt"):
        bundle.take(Trainer(load_config(config), out, quiet=True), tmp_path)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="is about a later Python than this")
def test_wheels_of_another_python(config, tmp_path):
    trainer = Trainer(load_config(config), tmp_path / "out")
    bundle.pack(trainer, tmp_path / "packed", python="3.12")
    lib = unpacked(tmp_path / "packed", "code", tmp_path / "there") / "code" / "lib"
    names = [path.name for path in lib.rglob("*.so")]
    assert names and not any("cpython-311" in name for name in names)
