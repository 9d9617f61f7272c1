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
    # And for the next turn only the state has to travel.
    before = {path.name: path.read_bytes() for path in parts}
    assert cli.main([*command, "--bundle", str(packed)]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert cli.main([*command, "--bundle", str(packed), "--overwrite"]) == 0
    after = {path.name: path.read_bytes() for path in packed.iterdir() if ".tgz." in path.name}
    changed = {name for name in {**before, **after} if before.get(name) != after.get(name)}
    assert changed and all(name.startswith("state.") for name in changed)


def test_a_slice_of_time_ends_with_a_checkpoint(config, bare, tmp_path):
    packed = tmp_path / "packed"
    long = load_config(config, ["stages.0.steps=100000"])
    bundle.pack(long, tmp_path / "out", packed)
    done = there(packed, bare, "25")
    assert done.returncode == 0, done.stderr
    assert "the same command goes on from here" in done.stderr
    with pytest.raises(InputError, match="is further than the run here"):
        bundle.pack(long, tmp_path / "out", packed, overwrite=True)
    step = bundle.resume(long, packed / "run" / "checkpoint.pt", tmp_path / "out")
    assert 0 < step < 100000
    with pytest.raises(InputError, match=r"and the run in .* is at"):
        Trainer(load_config(config), tmp_path / "less", quiet=True).run(stop_after=1)
        bundle.resume(long, tmp_path / "less", tmp_path / "out")


def test_a_damaged_part_is_not_trained_on(config, bare, tmp_path):
    packed = tmp_path / "packed"
    bundle.pack(load_config(config), tmp_path / "out", packed)
    part = packed / "data.tgz.00"
    part.write_bytes(part.read_bytes()[:-1])
    done = there(packed, bare)
    assert done.returncode != 0 and "data.tgz.00" in done.stdout + done.stderr
    assert not (packed / "run").exists()


def test_the_stand_in_says_what_the_native_module_says():
    names: dict[str, object] = {}
    exec(bundle.STAND_IN, names)
    assert names["MAX_SIZE"] == _tds.MAX_SIZE
    size = names["lr_size"]
    assert callable(size)
    for scale in (1, 2, 4):
        assert all(size(n, scale) == _tds.lr_size(n, scale) for n in range(2, 4000, 2))


def test_only_what_is_trained_or_validated_on_goes_along(config, tmp_path):
    packed = tmp_path / "packed"
    some = load_config(config, ["data.configs=[ai]", "data.qps=[37]", "validation.qps=[32]"])
    bundle.pack(some, tmp_path / "out", packed)
    data = b"".join(path.read_bytes() for path in sorted(packed.glob("data.tgz.*")))
    (tmp_path / "data.tgz").write_bytes(data)
    subprocess.run(["tar", "-xzf", tmp_path / "data.tgz", "-C", tmp_path], check=True)
    found = json.loads((tmp_path / "data" / "0" / "manifest.json").read_text())["entries"]
    held = set(some.data.held_out)
    assert {(e["clip"] in held, e["config"], e["hr_qp"]) for e in found} >= {(False, "ai", 37)}
    assert all(e["hr_qp"] == (32 if e["clip"] in held else 37) for e in found)
    for e in found:
        assert all(
            (tmp_path / "data" / "0" / e[name]).is_file() for name in ("original", "hr", "lr")
        )


def test_what_is_wrong_is_said_and_leaves_no_half_bundle(config, tmp_path, monkeypatch):
    out, packed = tmp_path / "out", tmp_path / "packed"
    good = load_config(config)
    with pytest.raises(MissingError, match=r"nowhere\.safetensors"):
        bundle.pack(load_config(config, ["init=nowhere.safetensors"]), out, packed)
    with pytest.raises(InputError, match="no stream"):
        bundle.pack(load_config(config, ["data.qps=[63]", "validation.qps=[63]"]), out, packed)
    with pytest.raises(OutputError, match=r"pip has no wheels of .* for Python 2"):
        bundle.pack(good, out, packed, python="2.0")
    monkeypatch.setattr(bundle, "WHEELS", ("no-such-package-of-ours",))
    with pytest.raises(MissingError, match="no-such-package-of-ours is not installed"):
        bundle.pack(good, out, packed)
    assert not packed.exists() and not list(tmp_path.glob(".packed*"))
    with pytest.raises(MissingError, match="there is no checkpoint"):
        bundle.resume(good, tmp_path / "nothing", out)
    (tmp_path / "checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match="is not a checkpoint"):
        bundle.resume(good, tmp_path / "checkpoint.pt", out)
    Trainer(good, tmp_path / "own", quiet=True).run(stop_after=1)
    other = load_config(config, ["network.channels=16"])
    with pytest.raises(InputError, match="another network"):
        bundle.resume(other, tmp_path / "own", out)
    assert not out.exists()


if sys.version_info < (3, 12):
    # The machine that this is for has a Python of its own.
    def test_wheels_of_another_python(config, tmp_path):
        bundle.pack(load_config(config), tmp_path / "out", tmp_path / "packed", python="3.12")
        data = b"".join(p.read_bytes() for p in sorted((tmp_path / "packed").glob("code.tgz.*")))
        (tmp_path / "code.tgz").write_bytes(data)
        listed = subprocess.run(
            ["tar", "-tzf", tmp_path / "code.tgz"], capture_output=True, text=True, check=True
        ).stdout
        assert "cpython-312" in listed and "cpython-311" not in listed
