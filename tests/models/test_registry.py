# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a model is found, exported at its first use, and refused."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import tds.models as models
import tools
from tds import _tds
from tds.errors import InputError, MissingError, OutputError
from tds.files import sha256_of
from tds.models import registry
from tds.models.build import build, settings
from tds.models.export import example, export, window_example
from tds.models.registry import save


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
    env_free = "import tds.models.registry as r; r._own_folders = lambda: [];"
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


def spoil(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "empty":  # as a power cut leaves a file
        data.clear()
    elif how == "cut short":
        del data[len(data) // 2 :]
    elif how == "a flipped bit":
        data[len(data) // 2] ^= 4
    else:
        data[:] = b"no archive at all"
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["empty", "cut short", "a flipped bit", "other bytes"])
def test_a_damaged_archive_in_the_cache_is_made_anew(shelf, how):
    _, model = shelf
    path = models.find("tiny", 2).path
    spoil(path, how)
    assert models.find("tiny", 2).path == path
    arguments = example(2)
    with torch.no_grad():
        assert torch.allclose(torch.jit.load(path)(*arguments), model(*arguments), atol=1e-4)


def test_an_archive_says_which_torch_made_it_and_each_torch_has_its_own(shelf, monkeypatch):
    from tds.models import registry

    first = models.find("tiny", 2).path
    assert models.metadata(first)["torch"] == torch.__version__
    monkeypatch.setattr(registry, "torch_version", lambda: "2.11.0")
    assert models.find("tiny", 2).path != first


def test_what_weights_say_of_their_name_makes_them_nobody_s_default(shelf, tmp_path, monkeypatch):
    """Programs without Python take NAME-kK*.pt in the cache's folder ``exported`` for NAME."""
    _, model = shelf
    about = {"tds_model": 1, "name": "fast", "version": "9", "scale": 2, "features": True}
    path = tmp_path / "downloaded.safetensors"
    save(model, settings({"preset": "fast", "scale": 2}), about, path)
    cache = tmp_path / "cache"
    monkeypatch.setenv("TDS_CACHE", str(cache))
    archive = models.find(path, 2).path
    assert archive.is_relative_to(cache) and archive.is_file()
    assert list((cache / "exported").glob("*.pt")) == []
    assert models.default(2, "cpu").weights != sha256_of(path)
    own = models.find("fast", 2)
    assert own.path.samefile(next((cache / "exported").glob("fast-k2-*.pt")))


def test_a_program_without_python_takes_what_was_exported_of_just_these_weights(shelf):
    with pytest.raises(FileNotFoundError, match="only weights"):
        _tds.choose_model(2, "tiny")
    archive = models.find("tiny", 2).path
    assert Path(_tds.choose_model(2, "tiny").path).samefile(archive)


class Window(torch.nn.Module):
    """Of contract 2: half the way to the mean of the references, times the strength."""

    def __init__(self, off: float = 0.0):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.5))
        self.off = off

    @torch.jit.export
    def features(self, picture: Tensor, side: Tensor) -> list[Tensor]:
        return [picture * side[:, :1, None, None]]

    @torch.jit.export
    def enhance(
        self,
        target: Tensor,
        target_features: list[Tensor],
        references: list[Tensor],
        reference_features: list[list[Tensor]],
        side: Tensor,
    ) -> Tensor:
        mean = torch.stack([f[0] for f in reference_features]).mean(0) + self.off
        return target + side[:, 0, 6, None, None, None] * self.weight * (mean - target)

    def forward(self, pictures: Tensor, side: Tensor) -> Tensor:
        mean = pictures[:, 1:].mean(1)
        return pictures[:, 0] + side[:, 0, 6, None, None, None] * self.weight * (
            mean - pictures[:, 0]
        )


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_model_of_contract_2_is_exported_by_all_its_ways(tmp_path, precision):
    slots = ["-1", "+1", "full-before", "full-after", "-8"]
    about = {"tds_model": 2, "name": "w", "version": "1", "scale": 1, "references": slots}
    path = tmp_path / "w-k1.pt"
    export(Window(), about, path, precision)
    assert models.metadata(path)["references"] == slots
    pictures, side = window_example(1, slots)
    assert pictures.shape == (1, 6, 6, 32, 48) and side.shape == (1, 6, 7)
    assert side[0, :, 1].tolist() == [0, -1, 1, -2, 2, -8]
    assert side[0, :, 6].tolist() == [1, 0, 0, 0, 0, 0]
    path.unlink()
    with pytest.raises(ValueError, match="is off by"):  # its ways do not agree
        export(Window(off=0.2), about, path, precision)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_sentence_and_leaves_nothing(shelf, tmp_path):
    """Files are limited to 100 kB, which fails as a full disk does; torch would abort."""
    folder, _ = shelf
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000,) * 2);"
        "from tds.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    out = tmp_path / "out.pt"
    for arguments in (
        ["export", str(folder / "tiny-k2.safetensors"), "--out", str(out)],
        ["decode", str(tmp_path / "pair.mp4"), str(tmp_path / "x.y4m"), "--model", "tiny"],
    ):
        if arguments[0] == "decode":
            clip = Path(__file__).resolve().parents[1] / "data" / "city.mkv"
            tools.tds(
                "encode",
                "--plan",
                "tds",
                clip,
                arguments[1],
                "--codec",
                "hevc",
                "--preset",
                "ultrafast",
            )
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "TDS_CACHE": str(tmp_path / "cache")},
        )
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert "no space left on its disk" in done.stderr.splitlines()[-1], done.stderr
    assert "TDS_CACHE" in done.stderr
    left = [p.name for p in tmp_path.rglob("*") if p.is_file()]
    assert sorted(left) == ["pair.mp4", "tiny-k2.safetensors"]


def test_a_cache_folder_that_cannot_be_is_named(shelf, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TDS_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="set TDS_CACHE"):
        models.find("tiny", 2)


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


def tag_naming(model: str) -> _tds.Tag:
    timeline = {"time_base": "1/25", "frames": 5, "rate": "25"}
    return _tds.Tag(
        json.dumps(
            {
                **{"tds": 1, "scale": 2, "width": 64, "height": 48, "boundaries": "shared"},
                **{"groups": [[-5, 1]], "timeline": timeline, "model": model},
            }
        ),
        "a.mp4",
    )


def test_a_video_names_models_and_never_files(shelf, tmp_path, monkeypatch):
    """What a video says is looked up on the search path, whatever lies in the folder one is in."""
    folder, model = shelf
    archive = models.find("tiny", 2).path
    monkeypatch.chdir(tmp_path)
    (tmp_path / "innocent.pt").write_bytes(archive.read_bytes())
    assert models.find("innocent.pt", 2).path.samefile(tmp_path / "innocent.pt")
    for name in ("innocent.pt", "./innocent.pt", str(tmp_path / "innocent.pt"), "../innocent.pt"):
        with pytest.raises(ValueError, match="damaged"):
            tag_naming(name)
    assert models.choose(2, tag=tag_naming("tiny")).path == archive
    # A name may have dots in it.
    about = {"tds_model": 1, "name": "tiny-1.1", "version": "3", "scale": 2, "features": True}
    save(model, settings({"preset": "fast", "scale": 2}), about, folder / "tiny-1.1-k2.safetensors")
    assert "tiny-1.1" in [m.name for m in models.available(2)]
    named = models.choose(2, tag=tag_naming("tiny-1.1"))
    assert models.find("tiny-1.1", 2).name == named.name == "tiny-1.1"


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
    monkeypatch.setattr(registry, "_own_folders", lambda: [])
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
    with pytest.raises(MissingError, match=r'"nothing" for k = 2.*tiny'):
        models.find("nothing", 2)
    with pytest.raises(MissingError, match="no such model file"):
        models.find("nowhere/x.pt", 2)


def test_a_network_without_weights_is_said_to_be_untrained_and_how_to_train_it(shelf):
    shipped = Path(__file__).resolve().parents[2] / "configs" / "training"
    for name, scale in (
        ("quality-paper", 2),
        ("quality", 4),
        ("quality-tsa", 4),
        ("quality-small", 2),
        ("large", 1),
    ):
        by = registry.TRAINED_BY[name].format(k=scale)
        assert (shipped / f"{by}.yaml").is_file()
        with pytest.raises(MissingError, match=f"{name} is untrained so far: `tds train {by}`"):
            models.find(name, scale)
    with pytest.raises(MissingError) as error:
        models.find("nobody's", 2)
    assert "untrained" not in str(error.value)


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


def rewritten(path: Path, change) -> bytes:
    """A safetensors file with its header changed by ``change``."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    text = change(json.loads(data[8 : 8 + size]))
    text = text if isinstance(text, bytes) else json.dumps(text).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + size :]


def with_network(**values):
    def change(header):
        about = header["__metadata__"]
        about["network"] = json.dumps({**json.loads(about["network"]), **values})
        return header

    return change


def said(key: str, text: object):
    def change(header):
        header["__metadata__"][key] = text
        return header

    return change


def of_type(name: str):
    return lambda header: {
        k: {**v, "dtype": name} if "dtype" in v else v for k, v in header.items()
    }


@pytest.mark.parametrize(
    "change",
    [
        lambda header: b"[" * 5000,
        lambda header: [],
        lambda header: {**header, "tail.weight": {"dtype": "F32", "shape": [1], "data_offsets": 0}},
        said("tds.json", "[" * 5000),
        said("tds.json", "null"),
        said("tds.json", 7),
        said("tds.json", json.dumps({"tds_model": 1, "name": ["x"], "scale": 2})),
        said("tds.json", json.dumps({"tds_model": 1, "name": "x", "scale": "2"})),
        said("tds.json", json.dumps({"tds_model": [], "name": "x", "scale": 2})),
        said("network", "[]"),
        said("network", "{"),
        said("network", None),
        with_network(kind=[]),
        with_network(preset={}),
        with_network(scale=3),
        with_network(scale=0),
        with_network(scale="2"),
        with_network(channels=0),
        with_network(channels=-4),
        with_network(channels=4000, blocks=4000),
        with_network(channels=10**18),
        with_network(channels=1.5),
        with_network(blocks=None),
        with_network(depth=3),
        of_type("I32"),
        of_type("U8"),
        of_type("Q7"),
    ],
)
def test_odd_weights_are_refused_with_one_sentence(shelf, tmp_path, change):
    folder, _ = shelf
    path = tmp_path / "odd.safetensors"
    path.write_bytes(rewritten(folder / "tiny-k2.safetensors", change))
    with pytest.raises(InputError, match=r"odd\.safetensors") as error:
        models.find(path, 2)
    assert "\n" not in str(error.value)


def test_weights_cut_or_changed_anywhere_are_refused_or_whole(shelf, tmp_path):
    folder, _ = shelf
    whole = (folder / "tiny-k2.safetensors").read_bytes()
    path = tmp_path / "changed.safetensors"
    random = np.random.default_rng(7)
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    refused = 0
    for trial in range(120):
        data = bytearray(whole)
        if trial % 3 == 0:
            del data[random.integers(len(data)) :]
        else:
            for _ in range(trial % 5 + 1):
                data[random.integers(header)] = random.integers(256)
        path.write_bytes(data)
        try:
            models.load(path)
        except InputError as error:
            refused += 1
            assert "changed.safetensors" in str(error)
    assert refused > 100


def test_weights_that_are_no_numbers_are_refused(shelf, tmp_path):
    _, model = shelf
    about = {"tds_model": 1, "name": "nan", "version": "1", "scale": 2}
    torch.nn.init.constant_(model.tail.bias, float("nan"))
    path = tmp_path / "nan.safetensors"
    save(model, settings({"preset": "fast", "scale": 2}), about, path)
    with pytest.raises(InputError, match="no finite numbers"):
        models.find(path, 2)


def test_a_later_contract_is_refused(tmp_path):
    network = {"preset": "fast", "scale": 2}
    about = {"tds_model": 3, "name": "late", "version": "1", "scale": 2}
    save(build(network), settings(network), about, tmp_path / "late-k2.safetensors")
    with pytest.raises(InputError, match="version 3 of the model contract"):
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
        with torch.no_grad():
            if about["tds_model"] == 1:
                first, target, last, side = example(scale)
                got, like = model(first, target, last, side), first
            else:
                pictures, side = window_example(scale, about["references"])
                got, like = model(pictures, side), pictures[:, 0]
        assert float((got - like).abs().mean()) < 0.2
        card = path.with_suffix(".md").read_text()
        assert sha256_of(path) in card, f"the card of {path.name} has another sha256"
