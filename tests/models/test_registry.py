# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a model is found, exported at its first use, and refused."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import tds.models as models
from tds.errors import InputError, MissingError
from tds.models.build import build, settings
from tds.models.export import example
from tds.models.registry import save, sha256_of


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder on the search path with a ``fast`` for k = 2, and what is in it."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("TDS_MODEL_PATH", str(folder))
    network = {"preset": "fast", "scale": 2}
    model = build(network).eval()
    torch.nn.init.normal_(model.tail.weight, 0, 0.01)
    about = {"tds_model": 1, "name": "tiny", "version": "3", "scale": 2, "features": True}
    save(model, settings(network), about, folder / "tiny-k2.safetensors")
    return folder, model


def test_looking_for_models_imports_no_torch():
    code = (
        "import sys, tds.models; tds.models.available(); tds.models.default(2, 'cpu') and 0;"
        "sys.exit('torch' in sys.modules)"
    )
    env_free = "import tds.models.registry as r; r.search_path = lambda: [];"
    subprocess.run([sys.executable, "-c", env_free + code], check=True)


def test_a_name_gives_an_archive_that_does_what_the_weights_do(shelf):
    _, model = shelf
    found = models.find("tiny", 2)
    assert found.name == "tiny" and found.path.suffix == ".pt"
    arguments = example(2)
    with torch.no_grad():
        assert torch.allclose(torch.jit.load(found.path)(*arguments), model(*arguments), atol=1e-4)
    about = models.metadata(found.path)
    assert about["version"] == "3" and len(about["weights_sha256"]) == 64


def test_the_second_use_exports_nothing(shelf):
    first = models.find("tiny", 2).path
    stamp = first.stat().st_mtime_ns
    assert models.find("tiny", 2).path == first and first.stat().st_mtime_ns == stamp


def test_other_weights_of_the_same_name_are_exported_anew(shelf):
    folder, model = shelf
    first = models.find("tiny", 2).path
    about = models.metadata(folder / "tiny-k2.safetensors")
    torch.nn.init.normal_(model.tail.weight, 0, 0.02)
    save(model, settings({"preset": "fast", "scale": 2}), about, folder / "tiny-k2.safetensors")
    assert models.find("tiny", 2).path != first


def test_an_archive_made_anew_is_known_by_what_makes_it(shelf, tmp_path, monkeypatch):
    """Not by its own hash: TorchScript writes the same network in other bytes each time."""
    folder, _ = shelf
    first = models.find("tiny", 2)
    assert first.weights == sha256_of(folder / "tiny-k2.safetensors") and first.code
    monkeypatch.setenv("TDS_CACHE", str(tmp_path / "another"))
    again = models.find("tiny", 2)
    assert again.path != first.path
    assert (again.weights, again.code) == (first.weights, first.code)
    assert models.find(first.path, 2).weights == "", "an archive as found: nobody knows"


def test_an_archive_named_by_path_is_taken_as_it_is(shelf, tmp_path):
    archive = models.find("tiny", 2).path
    assert models.find(archive, 2).path == archive
    assert models.find(archive, 2, sha256_of(archive)).path == archive
    with pytest.raises(InputError, match="sha256"):
        models.find(archive, 2, "0" * 64)


def test_a_video_names_models_and_never_files(shelf, tmp_path, monkeypatch):
    """What a video says is looked up on the search path, whatever lies in the folder one is in."""
    folder, model = shelf
    archive = models.find("tiny", 2).path
    monkeypatch.chdir(tmp_path)
    (tmp_path / "innocent.pt").write_bytes(archive.read_bytes())
    assert models.find("innocent.pt", 2).path.samefile(tmp_path / "innocent.pt")
    for name in ("innocent.pt", "./innocent.pt", str(tmp_path / "innocent.pt"), "../innocent.pt"):
        with pytest.raises(MissingError, match="no model named"):
            models.find_named(name, 2)
    assert models.find_named("tiny", 2).path == archive
    # A name may have dots in it.
    about = {"tds_model": 1, "name": "tiny-1.1", "version": "3", "scale": 2, "features": True}
    save(model, settings({"preset": "fast", "scale": 2}), about, folder / "tiny-1.1-k2.safetensors")
    assert "tiny-1.1" in [m.name for m in models.available(2)]
    assert models.find("tiny-1.1", 2).name == models.find_named("tiny-1.1", 2).name == "tiny-1.1"


def test_a_name_in_the_weights_is_no_path(shelf, tmp_path):
    _, model = shelf
    about = {"tds_model": 1, "name": "../../x", "version": "3", "scale": 2, "features": True}
    path = tmp_path / "x.safetensors"
    save(model, settings({"preset": "fast", "scale": 2}), about, path)
    with pytest.raises(InputError, match="its name has letters"):
        models.find(path, 2)


def test_available_names_what_is_there(shelf):
    mine = [m for m in models.available(2) if m.name == "tiny"]
    assert [(m.version, m.scale) for m in mine] == [("3", 2)]
    assert mine[0].sha256 == sha256_of(mine[0].path)


def test_default_prefers_fast_on_a_cpu_and_standard_on_cuda(shelf, monkeypatch):
    from tds.models import registry

    folder, _ = shelf
    monkeypatch.setattr(registry, "search_path", lambda: [folder])
    assert models.default(2, "cpu") is None  # there is neither
    for name in ("fast", "standard"):
        (folder / f"{name}-k2.safetensors").write_bytes(
            (folder / "tiny-k2.safetensors").read_bytes()
        )
    assert models.default(2, "cpu").name == "fast"
    assert models.default(2, "cuda:0").name == "standard"
    (folder / "fast-k2.safetensors").unlink()
    assert models.default(2, "cpu").name == "standard"
    assert models.default(4, "cpu") is None


def test_what_is_not_there_is_said_with_what_is(shelf):
    with pytest.raises(MissingError, match=r"'nothing' for k = 2.*tiny"):
        models.find("nothing", 2)
    with pytest.raises(MissingError, match="no such model file"):
        models.find("nowhere/x.pt", 2)


def test_a_model_of_another_k_is_refused(shelf):
    folder, _ = shelf
    with pytest.raises(InputError, match="k = 2; this video needs k = 4"):
        models.find(folder / "tiny-k2.safetensors", 4)


@pytest.mark.parametrize("content", [b"", b"not a model at all", b"\xff" * 4096])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_damaged_file_is_refused_with_its_name(tmp_path, content, suffix):
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"broken"):
        models.find(path, 2)


def test_weights_of_another_network_are_refused(tmp_path):
    model = build({"preset": "fast", "scale": 2, "channels": 16})
    about = {"tds_model": 1, "name": "odd", "version": "1", "scale": 2}
    path = tmp_path / "odd-k2.safetensors"
    save(model, settings({"preset": "fast", "scale": 2}), about, path)
    with pytest.raises(InputError, match="does not fit its network"):
        models.find(path, 2)


def test_a_later_contract_is_refused(tmp_path):
    network = {"preset": "fast", "scale": 2}
    about = {"tds_model": 2, "name": "late", "version": "1", "scale": 2}
    save(build(network), settings(network), about, tmp_path / "late-k2.safetensors")
    with pytest.raises(InputError, match="version 2 of the model contract"):
        models.find(tmp_path / "late-k2.safetensors", 2)


def test_the_same_weights_give_the_same_file(tmp_path):
    network = settings({"preset": "fast", "scale": 2})
    model = build(network)
    about = {"tds_model": 1, "name": "a", "version": "1", "scale": 2}
    assert save(model, network, about, tmp_path / "a") == save(
        model, network, about, tmp_path / "b"
    )


def test_shipped_weights_load_and_beat_their_promise_of_a_sane_result():
    """Every model in the tree is whole, exports, and leaves a still scene alone."""
    from pathlib import Path

    shipped = sorted((Path(__file__).resolve().parents[2] / "models").glob("*.safetensors"))
    assert shipped, "no weights are in models/"
    for path in shipped:
        about = models.metadata(path)
        model = models.load(path)
        scale = about["scale"]
        first, target, last, side = example(scale)
        with torch.no_grad():
            got = model(first, target, last, side)
        assert float((got - first).abs().mean()) < 0.2
        card = path.with_suffix(".md").read_text()
        assert sha256_of(path) in card, f"the card of {path.name} has another sha256"
