# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds models by name or path and makes the archive that the engine loads.

Weights are kept as ``NAME-kK.safetensors``. Its header says which network they belong to and
what the archive's ``tds.json`` will say (docs/model.md), so one file is a whole model. The
TorchScript archive is exported from it at the first use, into the user's cache folder.

Search path, first hit wins: the folders of ``TDS_MODEL_PATH`` (separated as ``PATH`` is), the
models that came with the package, and ``models`` in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, MissingError

if TYPE_CHECKING:
    from torch import nn

CONTRACT = 1  # version of docs/model.md
_HEADER_LIMIT = 100 << 20  # what safetensors itself allows
_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_FILE = re.compile(rf"(?P<name>{_NAME})-k(?P<scale>[124])\.(safetensors|pt)")
_SUFFIXES = (".safetensors", ".pt", ".pth", ".ts")  # of what is a file and no name


@dataclass(frozen=True)
class Found:
    """A model's name ("" for a file named by path) and its TorchScript archive.

    weights, code: for an archive made here, the sha256 of its weights and a hash of the
    networks' code, which together determine what it does; "" for one found as an archive. Its
    own hash tells nothing: TorchScript writes the same network in other bytes every time.
    """

    name: str
    path: Path
    weights: str = ""
    code: str = ""


@dataclass(frozen=True)
class ModelInfo:
    """A model that can be used here. ``sha256`` is that of ``path``, the file as found."""

    name: str
    version: str
    scale: int
    path: Path
    sha256: str
    metadata: dict[str, Any]


def cache_folder() -> Path:
    """Where exported archives go: ``$TDS_CACHE``, else ``tds`` in the user's cache folder."""
    if own := os.environ.get("TDS_CACHE"):
        return Path(own)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "tds"
    if os.name == "nt" and (base := os.environ.get("LOCALAPPDATA")):
        return Path(base) / "tds"
    return Path.home() / ".cache" / "tds"


def search_path() -> list[Path]:
    """The folders that are searched, in order; those that do not exist are left out."""
    folders = [Path(p) for p in os.environ.get("TDS_MODEL_PATH", "").split(os.pathsep) if p]
    here = Path(__file__).resolve()
    folders.append(here.parent / "weights")  # installed
    folders.append(here.parents[3] / "models")  # a source tree
    folders.append(cache_folder() / "models")
    return [folder for folder in folders if folder.is_dir()]


def sha256_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _safetensors_header(path: Path) -> dict[str, str]:
    with open(path, "rb") as file:
        start = file.read(8)
        size = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= size <= _HEADER_LIMIT or size > path.stat().st_size:
            raise InputError(f"{path} is not a safetensors file; get it again")
        try:
            header = json.loads(file.read(size))
        except ValueError:
            raise InputError(f"{path} has a damaged safetensors header; get it again") from None
    found = header.get("__metadata__", {}) if isinstance(header, dict) else {}
    return found if isinstance(found, dict) else {}


def metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The ``tds.json`` of a model file, weights or archive, without loading it.

    Raises MissingError, or InputError when the file is not a model of this contract.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingError(f"{path}: there is no such model file")
    text: str | bytes | None = None
    if path.suffix == ".safetensors":
        text = _safetensors_header(path).get("tds.json")
    else:
        try:
            with zipfile.ZipFile(path) as archive:
                for entry in archive.namelist():
                    if entry.endswith("/extra/tds.json"):
                        text = archive.read(entry)
        except zipfile.BadZipFile:
            raise InputError(f"{path} is not a TorchScript archive; export it again") from None
    try:
        found = json.loads(text) if text else None
    except ValueError:
        found = None
    if not isinstance(found, dict) or "scale" not in found or "name" not in found:
        raise InputError(f"{path} has no usable tds.json; it was not made by `tds export`")
    if found.get("tds_model") != CONTRACT:
        raise InputError(
            f"{path} follows version {found.get('tds_model')} of the model contract, and this "
            f"release knows version {CONTRACT}"
        )
    return found


def available(scale: int | None = None) -> list[ModelInfo]:
    """All models on the search path, by name; of one ``scale`` if it is given.

    Files that cannot be read as a model are left out. Of two with the same name and scale the
    first on the path counts, as in :func:`find`.
    """
    found: dict[tuple[str, int], ModelInfo] = {}
    for folder in search_path():
        for path in sorted(folder.iterdir(), key=lambda p: (p.suffix != ".safetensors", p.name)):
            if not (match := _FILE.fullmatch(path.name)):
                continue
            key = (match["name"], int(match["scale"]))
            if key in found or (scale is not None and key[1] != scale):
                continue
            try:
                about = metadata(path)
            except (OSError, ValueError):
                continue
            version = str(about.get("version", ""))
            found[key] = ModelInfo(*key[:1], version, key[1], path, sha256_of(path), about)
    return [found[key] for key in sorted(found)]


def default(scale: int, device: str = "auto") -> Found | None:
    """The model to use when none is asked for; None when there is none for this k.

    ``standard`` where the work is done by CUDA, ``fast`` on a CPU; the other one where the
    first is not there. ``device`` is as in ``tds_settings``: auto, cpu, cuda or cuda:N.
    """
    names = [model.name for model in available(scale)]
    if device.startswith("cuda"):
        cuda = True
    elif device == "cpu":
        cuda = False
    else:
        try:
            import torch

            cuda = torch.cuda.is_available()
        except ImportError:
            return None
    for name in ("standard", "fast") if cuda else ("fast", "standard"):
        if name in names:
            return find(name, scale)
    return None


def find(name: str | os.PathLike[str], scale: int, sha256: str | None = None) -> Found:
    """The exported archive of a model, ready for ``tds_settings.model``.

    ``name`` is a name on the search path (``"fast"``), or a file: an exported archive is
    returned as it is, weights are exported first (this imports torch). ``sha256`` is checked
    against the file as found. Raises MissingError when there is no such model and InputError
    when it does not fit.
    """
    text = os.fspath(name)
    if not _is_file_name(text):
        return find_named(text, scale, sha256)
    return _ready("", Path(text), scale, sha256)


def find_named(name: str, scale: int, sha256: str | None = None) -> Found:
    """As :func:`find`, but of a name on the search path only: for names that come from a video
    or a sidecar, which may not choose a file."""
    return _ready(name, _named(name, scale), scale, sha256)


def _is_file_name(text: str) -> bool:
    given = Path(text)
    return len(given.parts) != 1 or given.suffix in _SUFFIXES


def _ready(name: str, path: Path, scale: int, sha256: str | None) -> Found:
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a model file")
    about = metadata(path)
    if about["scale"] != scale:
        raise InputError(f"{path} is for k = {about['scale']}; this video needs k = {scale}")
    digest = ""
    if sha256 is not None or path.suffix == ".safetensors":
        digest = sha256_of(path)
        if sha256 is not None and digest != sha256.lower():
            raise InputError(f"{path} has sha256 {digest}, not {sha256} as asked for")
    if path.suffix == ".safetensors":
        code = _code_hash()
        return Found(name, _exported(path, about, digest, code), digest, code)
    return Found(name, path)


def weights(name: str | os.PathLike[str], scale: int) -> Path:
    """The ``.safetensors`` file of a name or path. Raises MissingError or InputError."""
    text = os.fspath(name)
    path = Path(text) if _is_file_name(text) else _named(text, scale)
    if path.suffix != ".safetensors":
        raise InputError(f"{path} holds no weights; a .safetensors file does")
    return path


def _named(name: str, scale: int) -> Path:
    for folder in search_path():
        for suffix in ("safetensors", "pt"):
            path = folder / f"{name}-k{scale}.{suffix}"
            if path.is_file():
                return path
    there = ", ".join(model.name for model in available(scale)) or "none"
    raise MissingError(
        f"there is no model named {name!r} for k = {scale}; there is: {there}. "
        "Name a file, or add its folder to TDS_MODEL_PATH"
    )


def _code_hash() -> str:
    """Changes with the networks' code, so that an archive of older code is not reused."""
    state = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        if source.name not in ("__init__.py", Path(__file__).name):  # what finds, not makes
            state.update(source.read_bytes())
    return state.hexdigest()[:8]


def _exported(weights: Path, about: dict[str, Any], digest: str, code: str) -> Path:
    if not re.fullmatch(_NAME, str(about["name"])):  # it becomes a file's
        raise InputError(f"{weights}: its name has letters, digits, . _ -, not {about['name']!r}")
    name = f"{about['name']}-k{about['scale']}-{digest[:16]}-{code}.pt"
    archive = cache_folder() / "exported" / name
    if archive.is_file():
        return archive
    from .export import export

    archive.parent.mkdir(parents=True, exist_ok=True)
    export(load(weights), {**about, "weights_sha256": digest}, archive)
    return archive


def load(path: str | os.PathLike[str]) -> nn.Module:
    """The network of a ``.safetensors`` file, in evaluation mode, on the CPU, float32.

    Raises MissingError or InputError, as :func:`metadata`.
    """
    from safetensors.torch import load_file

    from .build import build

    path = Path(path)
    metadata(path)
    text = _safetensors_header(path).get("network")
    try:
        network = json.loads(text or "")
    except ValueError:
        raise InputError(f"{path} does not say which network its weights are for") from None
    model = build(network)
    try:
        model.load_state_dict(load_file(path), strict=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(f"{path} does not fit its network: {reason}") from None
    return model.eval()


def save(
    model: nn.Module,
    network: dict[str, Any],
    about: dict[str, Any],
    path: str | os.PathLike[str],
) -> str:
    """Writes weights with their network's settings and ``tds.json``; returns the sha256.

    The file appears whole or not at all. Weights are stored in float32.
    """
    from safetensors.torch import save_file

    path = Path(path)
    tensors = {
        key: value.detach().float().cpu().contiguous().clone()
        for key, value in model.state_dict().items()
    }
    part = path.with_name(path.name + ".part")
    save_file(
        tensors,
        part,
        metadata={
            "network": json.dumps(network, sort_keys=True),
            "tds.json": json.dumps(about, sort_keys=True),
        },
    )
    _sort_metadata(part)
    os.replace(part, path)
    return sha256_of(path)


def _sort_metadata(path: Path) -> None:
    """Puts a safetensors file's metadata in order, so that the same weights give the same
    file: the library writes it in a different one each time."""
    with open(path, "r+b") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= size:  # padded with spaces, as the format has it
            file.seek(8)
            file.write(text.ljust(size))
