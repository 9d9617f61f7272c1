# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds models by name or path and makes the archive that the engine loads.

Weights are kept as ``NAME-kK.safetensors``. Its header says which network they belong to and
what the archive's ``tds.json`` will say (docs/model.md), so one file is a whole model. The
TorchScript archive is exported from it at the first use, into the user's cache folder.

Search path, first hit wins: the folders of ``TDS_MODEL_PATH`` (separated as ``PATH`` is), the
models that came with the package, and ``models`` in the user's cache folder.

Archives of the package's own models are kept in the cache as ``exported/NAME-kK-...pt``, where
programs without Python find them by name. Those of anybody else's are in ``exported/other``: what
weights say of their own name makes them nobody's default.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import struct
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import _tds
from ..errors import InputError, MissingError, OutputError
from ..files import sha256_of, sha256_of_all, whole_file

if TYPE_CHECKING:
    from torch import nn

CONTRACTS = (1, 2)  # versions of docs/model.md
_HEADER_LIMIT = 100 << 20  # what safetensors itself allows
_LARGEST = 4096  # number in a network's settings; a hostile file must not take all memory
_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_FILE = re.compile(rf"(?P<name>{_NAME})-k(?P<scale>[124])\.(safetensors|pt)")
TRAINED_BY = {
    "quality": "quality-k{k}",
    "quality-tsa": "quality-tsa-k{k}",
    "quality-small": "quality-small-k{k}",
    "quality-paper": "quality-paper",
    "quality-paper-tsa": "quality-paper-tsa",
    "large": "large-k{k}",
}
"""Networks that come without weights: the configurations of `tds train` that make them."""

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
    hr_path: Path | None = None
    """Of the k = 1 model of the same name, where it was asked for and is here."""
    of_tag: bool = False
    """Name and hash are those that the video's tag gives."""
    notices: tuple[str, ...] = ()
    """Sentences about what is not as the video asks."""


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
    folders += _own_folders()
    folders.append(cache_folder() / "models")
    return [folder for folder in folders if folder.is_dir()]


def _own_folders() -> list[Path]:
    """Where the models of this package are: installed, and in a source tree."""
    here = Path(__file__).resolve()
    return [here.parent / "weights", here.parents[3] / "models"]


def _safetensors_header(path: Path) -> dict[str, str]:
    with open(path, "rb") as file:
        start = file.read(8)
        size = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= size <= _HEADER_LIMIT or size > path.stat().st_size:
            raise InputError(f"{path} is not a safetensors file; get it again")
        try:
            header = json.loads(file.read(size))
        except (ValueError, RecursionError):
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
    if path.suffix != ".safetensors":
        try:
            return _tds.model_metadata(path)
        except ValueError as error:
            raise InputError(str(error)) from None
    text = _safetensors_header(path).get("tds.json")
    found = None
    if isinstance(text, str):
        with contextlib.suppress(ValueError, RecursionError):
            found = json.loads(text)
    if (
        not isinstance(found, dict)
        or not isinstance(found.get("name"), str)
        or type(found.get("scale")) is not int
    ):
        raise InputError(f"{path} has no usable tds.json; it was not made by `tds export`")
    contract = found.get("tds_model")
    if type(contract) is not int or contract not in CONTRACTS:
        raise InputError(
            f"{path} follows version {contract} of the model contract, and this release knows "
            f"version {' and '.join(map(str, CONTRACTS))}"
        )
    return found


def available(scale: int | None = None) -> list[ModelInfo]:
    """All models on the search path, by name; of one ``scale`` if it is given.

    Files that cannot be read as a model are left out. Of two with the same name and scale the
    one that :func:`find` takes counts.
    """
    names = [path.name for folder in search_path() for path in folder.iterdir()]
    files = [match for name in names if (match := _FILE.fullmatch(name))]
    found = []
    for name, k in sorted({(match["name"], int(match["scale"])) for match in files}):
        if scale is None or scale == k:
            with contextlib.suppress(OSError, ValueError):
                path = Path(_chosen(k, name).path)
                about = metadata(path)
                version = str(about.get("version", ""))
                found.append(ModelInfo(name, version, k, path, sha256_of(path), about))
    return found


def choose(
    scale: int,
    model: str | os.PathLike[str] | None = None,
    *,
    sha256: str | None = None,
    tag: _tds.Tag | None = None,
    device: str = "auto",
    refine_hr: bool = False,
) -> Found:
    """The model to use, ready for ``tds.Session``: weights are exported first (this imports torch).

    model: as a person asked for it, a name on the search path (``"fast"``) or a file; else the one
    that ``tag`` names; else the default for k and device (``standard`` on CUDA, ``fast`` on a
    CPU, or the other of the two). sha256: of the file as found. device: as in ``tds_settings``.
    refine_hr: the k = 1 model of the same name too. Which file a name means is libtds's to say
    (tds.h, tds_model_choose).

    Raises MissingError when there is none, InputError when it does not fit.
    """
    choice = _chosen(scale, model, sha256=sha256, tag=tag, device=device, refine_hr=refine_hr)
    found = _ready(choice.name, Path(choice.path), scale)
    hr = _ready(choice.name, Path(choice.hr_path), 1).path if choice.hr_path else None
    return replace(found, hr_path=hr, of_tag=choice.of_tag, notices=tuple(choice.notices))


def _chosen(
    scale: int, model: str | os.PathLike[str] | None = None, **options: Any
) -> _tds.ModelChoice:
    name = None if model is None else os.fspath(model)
    folders = [str(folder) for folder in _own_folders()]
    try:
        return _tds.choose_model(scale, name, folders=folders, weights=True, **options)
    except FileNotFoundError as error:
        raise MissingError(str(error) + untrained(name or "", scale)) from None
    except ValueError as error:
        raise InputError(str(error)) from None


def untrained(name: str, scale: int) -> str:
    """What to add to "there is no such model": which training makes the network of this name,
    where it is known and nobody's weights of it are here; else ""."""
    shipped = [folder / f"{name}-k{scale}.safetensors" for folder in _own_folders()]
    if not (by := TRAINED_BY.get(name)) or any(path.is_file() for path in shipped):
        return ""
    return f"; {name} is untrained so far: `tds train {by.format(k=scale)}` trains it"


def default(scale: int, device: str = "auto") -> Found | None:
    """The model to use when none is asked for; None when there is none for this k."""
    try:
        return choose(scale, device=device)
    except MissingError:
        return None


def unusable() -> str | None:
    """Why no model can be run here, as the beginning of a sentence; None when one can.

    Models need torch, and an engine that was built where torch was.
    """
    if not torch_version():
        return f"models need torch, which is not installed (pip install {torch_wanted()})"
    try:
        _tds.backend_available("torchscript")
    except NotImplementedError as error:
        return str(error)
    return None


def torch_wanted() -> str:
    """What to ask pip for, quoted for a shell: a torch that the engine fits."""
    built = _tds.TORCH_VERSION.split(".")
    return f"'torch=={built[0]}.{built[1]}.*'" if len(built) > 1 else "torch"


def torch_version() -> str:
    """Of the torch that is installed, "" for none; does not import it."""
    try:
        return version("torch")
    except PackageNotFoundError:
        return ""


def find(name: str | os.PathLike[str], scale: int, sha256: str | None = None) -> Found:
    """As :func:`choose`, of a name or a file."""
    return choose(scale, name, sha256=sha256)


def _ready(name: str, path: Path, scale: int) -> Found:
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a model file")
    about = metadata(path)
    if about["scale"] != scale:
        raise InputError(f"{path} is for k = {about['scale']}; this video needs k = {scale}")
    if path.suffix == ".safetensors":
        digest, code = sha256_of(path), _code_hash()
        return Found(name, _exported(path, about, digest, code), digest, code)
    return Found(name, path)


def weights(name: str | os.PathLike[str], scale: int) -> Path:
    """The ``.safetensors`` file of a name or path. Raises MissingError or InputError."""
    path = Path(_chosen(scale, name).path)
    if path.suffix != ".safetensors":
        raise InputError(f"{path} holds no weights; a .safetensors file does")
    return path


def _code_hash() -> str:
    """Changes with the networks' code, so that an archive of older code is not reused."""
    finds = ("__init__.py", Path(__file__).name)  # and does not make
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return sha256_of_all(source for source in sources if source.name not in finds)[:8]


def _exported(weights: Path, about: dict[str, Any], digest: str, code: str) -> Path:
    # Those who read no weights find it by the name that these are found by.
    if match := _FILE.fullmatch(weights.name):
        name = match["name"]
    elif not re.fullmatch(_NAME, name := about["name"]):
        raise InputError(f"{weights}: its name has letters, digits, . _ -, not {name!r}")
    if not (torch := torch_version()):
        raise MissingError(f"{weights}: {unusable()}")
    # An archive of a later torch may not load in an earlier one: each has its own.
    file = f"{name}-k{about['scale']}-{digest[:16]}-{code}-{torch}.pt"
    own = weights.resolve().parent in _own_folders()
    archive = cache_folder() / "exported" / ("." if own else "other") / file
    if _is_whole(archive, digest):
        return archive
    from .export import export

    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
        export(load(weights), {**about, "weights_sha256": digest}, archive)
    except OSError as error:
        if isinstance(error, MissingError):
            raise
        why = error.strerror if isinstance(error, OutputError) else f"{archive}: {error.strerror}"
        raise OutputError(
            error.errno or errno.EIO, f"{why}; set TDS_CACHE to a folder that has room"
        ) from error
    return archive


def _is_whole(archive: Path, digest: str) -> bool:
    """Whether it is there, as it was written, and made from these weights."""
    try:
        return bool(_tds.model_metadata(archive).get("weights_sha256") == digest)
    except (OSError, ValueError):
        return False


def own_name(path: Path, about: dict[str, Any]) -> str:
    """The name for an archive of these weights: theirs; with the beginning of their sha256 where a
    model of this package has that name and other weights."""
    name, digest = str(about["name"]), sha256_of(path)
    for folder in _own_folders():
        shipped = folder / f"{name}-k{about['scale']}.safetensors"
        if shipped.is_file() and sha256_of(shipped) != digest:
            return f"{name}-{digest[:8]}"
    return name


def load(path: str | os.PathLike[str]) -> nn.Module:
    """The network of a ``.safetensors`` file, in evaluation mode, on the CPU, float32.

    Raises MissingError or InputError, as :func:`metadata`.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path)
    metadata(path)
    model = _network(path)
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} is damaged or cut short ({error}); get it again") from None
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not bool(tensor.isfinite().all()):
            raise InputError(f"{path} has weights that are no finite numbers ({name})")
    try:
        model.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(f"{path} does not fit its network: {reason}") from None
    return model.eval()


def _network(path: Path) -> nn.Module:
    """The network that a ``.safetensors`` file says its weights are for. Raises InputError."""
    import torch

    from .build import build

    try:
        network = json.loads(_safetensors_header(path).get("network", ""))
        if not isinstance(network, dict):
            raise ValueError
    except (ValueError, TypeError, RecursionError):
        raise InputError(f"{path} does not say which network its weights are for") from None
    numbers = [n for n in network.values() if isinstance(n, (int, float))]
    if not all(0 <= n <= _LARGEST for n in numbers):
        raise InputError(
            f"{path}: its network's settings are numbers from 0 to {_LARGEST}, not {numbers}"
        )
    try:
        with torch.device("meta"):  # where it takes no memory
            size = sum(tensor.numel() for tensor in build(network).state_dict().values())
        if size > path.stat().st_size:  # of a byte each at least
            raise InputError(f"{path} does not fit its network, which has {size} numbers")
        return build(network)
    except InputError:
        raise
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        raise InputError(f"{path}: its settings make no network ({error})") from None


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
    with whole_file(path, overwrite=True) as beside:
        save_file(
            tensors,
            beside,
            metadata={
                "network": json.dumps(network, sort_keys=True),
                "tds.json": json.dumps(about, sort_keys=True),
            },
        )
        _sort_metadata(beside)
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
