# SPDX-License-Identifier: LGPL-2.1-or-later
"""A training packed for a machine that has nothing of ours and no network.

That machine has a graphics card, Python with torch, numpy and PyAV, and takes files in parts::

    BUNDLE/train.sh             sh train.sh [SECONDS]: unpacks what is new, and trains so long
    BUNDLE/parts.sha256         of the parts, in the form of sha256sum
    BUNDLE/code.tgz.00          the package's Python, and the wheels it needs there, unpacked
    BUNDLE/data.tgz.00, .01 ... the streams that are trained and validated on
    BUNDLE/state.tgz.00         the configuration, what it starts from, and where the run stands

What training leaves there in ``run`` comes back with ``tds train --resume``. The same data makes
the same parts, byte for byte: for a second turn only those of the state have changed.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import IO, cast

import torch
import yaml

from .. import _tds
from ..errors import InputError, MissingError, OutputError
from ..files import whole_folder
from ..models.build import settings
from .config import TrainConfig
from .dataset import Entry, load_manifest
from .trainer import STATE, kept

PART = 60 << 20
"""Bytes of a part at most."""

WHEELS = ("pydantic", "pydantic-core", "annotated-types", "typing-extensions", "typing-inspection",
          "pyyaml", "safetensors")  # fmt: skip
"""What training needs beside torch, numpy and PyAV."""

FFMPEG_WHEEL = "imageio-ffmpeg"
"""Goes along where there is VVC, whose decoder in PyAV may not be right (media/decoding.py)."""

# All that training uses of the native module, which is not built there.
STAND_IN = f'''# SPDX-License-Identifier: LGPL-2.1-or-later
"""What training needs of the native module, where that is not built."""

MAX_SIZE = {_tds.MAX_SIZE}


def lr_size(size: int, scale: int) -> int:
    """Of a side of ``size`` samples at 1/``scale``: rounded up, even."""
    return -(-size // (2 * scale)) * 2
'''

SCRIPT = """#!/bin/sh
# Goes on with a training: sh train.sh [SECONDS]. It ends after so many seconds with a checkpoint,
# without them when it is done. `run` is what comes back: tds train CONFIG --resume run
# PYTHON: the interpreter; it has torch, numpy and PyAV. Several cards:
# PYTHON="torchrun --nproc-per-node=gpu" sh train.sh
set -e
cd "$(dirname "$0")"
sha256sum --quiet -c parts.sha256
for kind in code data state; do
    # Only what has changed: a run that went on here is newer than the state that came.
    grep " $kind.tgz" parts.sha256 >new.sha256
    if ! cmp -s new.sha256 $kind.unpacked; then
        cat $kind.tgz.* | tar -xzf -
        cp new.sha256 $kind.unpacked
    fi
done
rm -f new.sha256
export PYTHONPATH="$PWD/code/lib:$PWD/code${PYTHONPATH:+:$PYTHONPATH}"
run="${PYTHON:-python3} -m tds train state/config.yaml --out run"
if [ -z "$1" ]; then
    exec $run
fi
status=0
timeout --signal=INT --kill-after=60 "$1" $run || status=$?
[ $status -eq 124 ] || exit $status
"""

MARKS = ("train.sh", "parts.sha256")


@dataclass(frozen=True)
class Packed:
    """What a bundle holds. streams: how many files of data; sizes: bytes, by kind of part."""

    parts: int
    streams: int
    sizes: dict[str, int]


def pack(
    config: TrainConfig,
    out: Path,
    bundle: Path,
    overwrite: bool = False,
    python: str = "",
) -> Packed:
    """Writes the folder ``bundle`` for a training into ``out``, where it may stand already.

    python: the version there, such as "3.12"; "": of this interpreter. Its wheels come through
    pip. Raises MissingError, InputError or OutputError; no half bundle is left.
    """
    python = python or f"{sys.version_info.major}.{sys.version_info.minor}"
    folders = list(dict.fromkeys([*config.data.folders, *config.validation.folders]))
    sets = {folder: f"data/{i}" for i, folder in enumerate(folders)}
    wanted = {folder: _entries(config, folder) for folder in folders}
    if not any(wanted.values()):
        raise InputError(f"there is no stream in {', '.join(folders)} that the settings allow")
    starts = [p for p in (config.init, config.data.enhancer) if p]
    if absent := [path for path in starts if not Path(path).is_file()]:
        raise MissingError(f"{absent[0]}, which the training starts from, is not there")
    there = replace(
        config,
        out="run",
        init=config.init and "state/init.safetensors",
        data=replace(
            config.data,
            folders=[sets[f] for f in config.data.folders],
            cache="cache",
            enhancer=config.data.enhancer and "state/enhancer.safetensors",
        ),
        validation=replace(config.validation, folders=[sets[f] for f in config.validation.folders]),
    )
    _check_run(config, bundle / "run" / "checkpoint.pt", out / "checkpoint.pt")
    with whole_folder(bundle, overwrite, MARKS) as beside:
        with _Parts(beside, "code") as code:
            vvc = any(e.codec == "vvc" for entries in wanted.values() for e in entries)
            _pack_code(code, [*WHEELS, FFMPEG_WHEEL] if vvc else WHEELS, python)
        with _Parts(beside, "data") as data:
            streams = _pack_data(data, sets, wanted)
        with _Parts(beside, "state") as state:
            values = yaml.safe_dump(asdict(there), sort_keys=False).encode()
            state.text("state/config.yaml", values)
            if config.init:
                state.file("state/init.safetensors", Path(config.init))
            if config.data.enhancer:
                state.file("state/enhancer.safetensors", Path(config.data.enhancer))
            for name in STATE:
                if (out / name).is_file():
                    state.file(f"run/{name}", out / name)
        script = beside / "train.sh"
        script.write_text(SCRIPT)
        script.chmod(0o755)
        sums = [line for parts in (code, data, state) for line in parts.sums]
        (beside / "parts.sha256").write_text("".join(sums))
    return Packed(len(sums), streams, {"code": code.size, "data": data.size, "state": state.size})


def resume(config: TrainConfig, back: Path, out: Path) -> int:
    """Takes what came back of a bundle, ``back`` (a run's folder, or the checkpoint in one), as
    where the run in ``out`` stands. Returns its step.

    Raises MissingError, or InputError where it is of another network, or where the run in ``out``
    is further than that.
    """
    folder = back if back.is_dir() else back.parent
    path = folder / "checkpoint.pt" if back.is_dir() else back
    if not path.is_file():
        raise MissingError(f"{path}: there is no checkpoint; name the folder that came back")
    step = _step_of(path, config)
    own = out / "checkpoint.pt"
    if own.is_file() and (further := _step_of(own, config)) > step:
        raise InputError(
            f"{path} is of step {step}, and the run in {out} is at {further}; remove that one to "
            "go back, or choose another folder with --out"
        )
    out.mkdir(parents=True, exist_ok=True)
    for name in STATE:
        source = path if name == "checkpoint.pt" else folder / name
        if source.is_file() and source.resolve() != (out / name).resolve():
            shutil.copyfile(source, out / name)
    return step


def _check_run(config: TrainConfig, theirs: Path, own: Path) -> None:
    """Refuses to replace a bundle in which the training has gone on."""
    if theirs.is_file() and (not own.is_file() or _step_of(theirs, config) > _step_of(own, config)):
        raise InputError(
            f"{theirs.parent} is further than the run here; take it with --resume "
            f"{theirs.parent}, or remove it"
        )


def _step_of(path: Path, config: TrainConfig) -> int:
    try:
        # Tensors and plain values alone: it comes from another machine.
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        network, step = state["network"], int(state["step"])
    except Exception as error:
        raise InputError(f"{path} is not a checkpoint of `tds train` ({error})") from error
    if network != settings(config.network):
        raise InputError(f"{path} is of another network than the configuration's")
    return step


def _entries(config: TrainConfig, folder: str) -> list[Entry]:
    """Of a data set, what is trained or validated on."""
    train = kept(config, held=False) if folder in config.data.folders else None
    held = None
    if folder in (config.validation.folders or config.data.folders):
        held = kept(config, held=True)
    return [
        e
        for e in load_manifest(folder)
        if any(keep is not None and keep(e) for keep in (train, held))
    ]


def _pack_code(code: _Parts, wheels: Sequence[str], python: str) -> None:
    package = Path(__file__).resolve().parents[1]
    for path in sorted([*package.rglob("*.py"), *(package / "media" / "data").iterdir()]):
        code.file(f"code/tds/{path.relative_to(package).as_posix()}", path)
    code.text("code/tds/_tds.py", STAND_IN.encode())
    with tempfile.TemporaryDirectory() as folder:
        for wheel in _wheels(Path(folder), wheels, python):
            with zipfile.ZipFile(wheel) as archive:
                files = [info for info in archive.infolist() if not info.is_dir()]
                for info in sorted(files, key=lambda info: info.filename):
                    mode = info.external_attr >> 16 & 0o777
                    code.text(f"code/lib/{info.filename}", archive.read(info), mode or 0o644)


def _wheels(folder: Path, names: Sequence[str], python: str) -> list[Path]:
    """Those of this environment's versions, for another Python."""
    try:
        wanted = [f"{name}=={version(name)}" for name in names]
    except PackageNotFoundError as error:
        raise MissingError(
            f"{error.name} is not installed: pip install 'tds-codec[train]'"
        ) from None
    machine = os.uname().machine
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
    command += ["--disable-pip-version-check", "--only-binary", ":all:", "--implementation", "cp"]
    command += ["--python-version", python, "--dest", str(folder)]
    for libc in ("manylinux2014", "manylinux_2_17", "manylinux_2_28"):
        command += ["--platform", f"{libc}_{machine}"]
    done = subprocess.run([*command, *wanted], capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise OutputError(
            0, f"pip has no wheels of {', '.join(wanted)} for Python {python} ({said})"
        )
    return sorted(folder.glob("*.whl"))


def _pack_data(data: _Parts, sets: dict[str, str], wanted: dict[str, list[Entry]]) -> int:
    files: dict[str, Path] = {}
    for folder, entries in wanted.items():
        for e in entries:
            for name in filter(None, (e.original, e.hr, e.lr)):
                files[f"{sets[folder]}/{name}"] = Path(folder) / name
    for folder, entries in wanted.items():
        manifest = {"tds_dataset": 1, "entries": [asdict(e) for e in entries]}
        data.text(f"{sets[folder]}/manifest.json", json.dumps(manifest).encode())
    for name, path in sorted(files.items()):
        data.file(name, path)
    return len(files)


class _Parts:
    """A compressed tar archive in files of ``PART`` bytes at most, the same for the same content.

    sums: their lines for sha256sum, and size: their bytes, once it is closed."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.sums: list[str] = []
        self.size = 0
        self._folder, self._kind = folder, kind
        self._file: IO[bytes] | None = None
        self._hash = hashlib.sha256()
        self._room = 0
        # Without the time of day, so that the same content is the same file.
        self._zip = gzip.GzipFile("", "wb", 6, cast(IO[bytes], self), mtime=0)
        self._tar = tarfile.open(fileobj=self._zip, mode="w|", format=tarfile.PAX_FORMAT)

    def __enter__(self) -> _Parts:
        return self

    def write(self, data: bytes) -> None:
        """Of the archive, the next bytes."""
        view = memoryview(data)
        self.size += len(view)
        while view:
            if self._file is None or not self._room:
                self._end()
                path = self._folder / f"{self._kind}.tgz.{len(self.sums):02d}"
                self._file, self._room, self._hash = path.open("wb"), PART, hashlib.sha256()
            piece, view = view[: self._room], view[self._room :]
            self._file.write(piece)
            self._hash.update(piece)
            self._room -= len(piece)

    def file(self, name: str, path: Path) -> None:
        try:
            with path.open("rb") as source:
                self._add(name, source, os.fstat(source.fileno()).st_size)
        except FileNotFoundError:
            raise MissingError(f"{path} is not there; make the data set again") from None

    def text(self, name: str, data: bytes, mode: int = 0o644) -> None:
        self._add(name, io.BytesIO(data), len(data), mode)

    def _add(self, name: str, source: IO[bytes], size: int, mode: int = 0o644) -> None:
        about = tarfile.TarInfo(name)
        about.size, about.mode = size, mode
        self._tar.addfile(about, source)

    def _end(self) -> None:
        if self._file is not None:
            name = Path(self._file.name).name
            self._file.close()
            self._file = None
            self.sums.append(f"{self._hash.hexdigest()}  {name}\n")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            # After an error they are closed for their own sake; what it was is more telling.
            with contextlib.suppress(*([OSError] if kind else [])):
                self._tar.close()
                self._zip.close()
        finally:
            self._end()
