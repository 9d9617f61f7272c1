# SPDX-License-Identifier: LGPL-2.1-or-later
"""A training packed for a machine that has nothing of ours and no network.

That machine has a graphics card, Python with torch, numpy and PyAV, and takes files in parts::

    BUNDLE/train.sh             sh train.sh [SECONDS]: unpacks what is new, and trains so long
    BUNDLE/parts.sha256         of the parts, in the form of sha256sum
    BUNDLE/code.tgz.000          the package's Python, and the wheels it needs there, unpacked
    BUNDLE/data.tgz.000, 001 ... the streams that are trained and validated on
    BUNDLE/state.tgz.000         the configuration, what it starts from, and where the run stands

What training leaves there in ``run`` comes back with ``tds train --resume``. The same data makes
the same parts, byte for byte: for a second turn only those of the state have changed.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import IO, cast

import yaml

from .. import _tds
from ..errors import InputError, MissingError, OutputError
from ..files import sha256_of, whole_file, whole_folder
from .config import TrainConfig
from .dataset import Entry, load_manifest
from .trainer import STATE, Trainer, kept

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
# Goes on with a training: sh train.sh [SECONDS]. Its status is 0 when the training is done, 3 when
# the time was over first: call it again. The folder `run` is what comes back, for
#     tds train CONFIG --resume run
# PYTHON: the interpreter (python3), of version @PYTHON@, with torch, numpy and PyAV.
# LAUNCH: what starts processes in its place, as in "torchrun --nproc-per-node=gpu".
set -e
CDPATH= cd -- "$(dirname -- "$0")"
begun=$(date +%s)
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != "@PYTHON@")' || {
    echo "train.sh: the wheels here are of Python @PYTHON@; name one with PYTHON, or pack again" \
        "with --bundle-python" >&2
    exit 1
}
sha256sum --quiet -c parts.sha256
for kind in code data state; do
    grep " $kind\\.tgz" parts.sha256 >new.sha256 || {
        echo "train.sh: parts.sha256 names no part of $kind" >&2
        exit 1
    }
    if ! cmp -s new.sha256 $kind.unpacked; then
        rm -rf $kind $kind.unpacked
        [ $kind != data ] || rm -rf cache
        cat $(cut -c 67- new.sha256) | tar -xzf -
        mv new.sha256 $kind.unpacked
    fi
done
export PYTHONPATH="code/lib:code${PYTHONPATH:+:$PYTHONPATH}"
run="${LAUNCH:-$python} -m tds train state/config.yaml --out run"
# Where the run here is further than the state that came, it goes on from itself.
[ ! -f state/run/checkpoint.pt ] || run="$run --resume state/run"
[ -n "$1" ] || exec $run
left=$(($1 - $(date +%s) + begun))
[ $left -gt 0 ] || left=1
: >new.sha256
status=0
timeout --foreground --signal=INT --kill-after=60 $left $run || status=$?
[ $status -eq 124 ] || exit $status
[ -n "$(find run -name checkpoint.pt -newer new.sha256 2>/dev/null)" ] || {
    echo "train.sh: no step was done within $1 seconds; give it more" >&2
    exit 1
}
exit 3
"""

MARKS = ("train.sh", "parts.sha256")


@dataclass(frozen=True)
class Packed:
    """What a bundle holds. streams: how many files of data; sizes: bytes, by kind of part."""

    parts: int
    streams: int
    sizes: dict[str, int]


def pack(
    trainer: Trainer, bundle: Path, overwrite: bool = False, python: str | None = None
) -> Packed:
    """Writes the folder ``bundle`` for a training, from where its run stands.

    python: the version there, such as "3.12"; None: of this interpreter. Its wheels come through
    pip. Raises MissingError, InputError or OutputError; no half bundle is left.
    """
    config, out = trainer.config, trainer.out
    python = python or f"{sys.version_info.major}.{sys.version_info.minor}"
    if not re.fullmatch(r"3\.(1[1-9]|[2-9]\d)", python):
        raise InputError(f"--bundle-python is 3.11 or later, as in 3.12, not {python}")
    trainer.check()
    theirs = bundle / "run" / "checkpoint.pt"
    if theirs.is_file() and _further(trainer, theirs):
        raise InputError(
            f"{theirs.parent} is further than the run here; take it with --resume "
            f"{theirs.parent}, or remove it"
        )
    trainer.resume()  # what is packed can be resumed from
    given = list(dict.fromkeys([*config.data.folders, *config.validation.folders]))
    places = list(dict.fromkeys(map(os.path.realpath, given)))  # however they are spelt
    sets = {folder: f"data/{places.index(os.path.realpath(folder))}" for folder in given}
    for path in (out, *map(Path, given)):
        if path.resolve().is_relative_to(bundle.resolve()):
            raise InputError(f"{path} is in {bundle}, which is written anew; name another folder")
    wanted: dict[str, dict[Entry, None]] = {}
    for folder in given:
        wanted.setdefault(sets[folder], {}).update(dict.fromkeys(_entries(config, folder)))
    clips = {e.clip for folder in config.data.folders for e in wanted[sets[folder]]}
    there = replace(
        config,
        out="run",
        init=config.init and "state/init.safetensors",
        data=replace(
            config.data,
            folders=[sets[f] for f in config.data.folders],
            # Others are neither trained nor validated on, and do not travel.
            held_out=[clip for clip in config.data.held_out if clip in clips],
            cache="cache",
            enhancer=config.data.enhancer and "state/enhancer.safetensors",
        ),
        validation=replace(config.validation, folders=[sets[f] for f in config.validation.folders]),
    )
    with whole_folder(bundle, overwrite, MARKS) as beside:
        with _Parts(beside, "code") as code:
            vvc = any(e.codec == "vvc" for entries in wanted.values() for e in entries)
            _pack_code(code, [*WHEELS, FFMPEG_WHEEL] if vvc else WHEELS, python)
        with _Parts(beside, "data") as data:
            files = _files({sets[folder]: Path(folder) for folder in given}, wanted)
            for name, entries in wanted.items():
                manifest = {"tds_dataset": 1, "entries": [asdict(e) for e in entries]}
                data.content(f"{name}/manifest.json", json.dumps(manifest).encode())
            for name, path in sorted(files.items()):
                data.file(name, path)
        with _Parts(beside, "state") as state:
            values = yaml.safe_dump(asdict(there), sort_keys=False).encode()
            state.content("state/config.yaml", values)
            if config.init:
                state.file("state/init.safetensors", Path(config.init))
            if config.data.enhancer:
                state.file("state/enhancer.safetensors", Path(config.data.enhancer))
            for path in _state_in(out):
                state.file(f"state/run/{path.name}", path)
        script = beside / "train.sh"
        script.write_text(SCRIPT.replace("@PYTHON@", python))
        script.chmod(0o755)
        sums = [line for parts in (code, data, state) for line in parts.sums]
        (beside / "parts.sha256").write_text("".join(sums))
    sizes = {"code": code.size, "data": data.size, "state": state.size}
    return Packed(len(sums), len(files), sizes)


def take(trainer: Trainer, back: Path) -> bool:
    """Takes what came back of a bundle as where the training stands, if it is further than its run
    is; returns whether it is. ``back``: the run's folder, the checkpoint in it, or the bundle.

    Raises MissingError, or InputError where it is no checkpoint of this network.
    """
    places = [back / "checkpoint.pt", back / "run" / "checkpoint.pt"] if back.is_dir() else [back]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise MissingError(f"{back}: there is no checkpoint.pt; name the folder that came back")
    if not _further(trainer, path):
        return False
    trainer.wait()  # all processes have read what is replaced now
    if trainer.rank == 0:
        trainer.out.mkdir(parents=True, exist_ok=True)
        beside_it = [p for p in _state_in(path.parent) if p.name != "checkpoint.pt"]
        # The checkpoint last: until then the run is what it was.
        for name, source in [*((p.name, p) for p in beside_it), ("checkpoint.pt", path)]:
            with whole_file(trainer.out / name, overwrite=True) as beside:
                shutil.copy2(source, beside)
    trainer.wait()
    return True


def _state_in(run: Path) -> list[Path]:
    """The files that say where a run stands; no links, which may lead anywhere."""
    return [p for p in (run / name for name in STATE) if p.is_file() and not p.is_symlink()]


def _further(trainer: Trainer, path: Path) -> bool:
    """Whether a checkpoint is further than the run. Then the training stands there, else where its
    run does."""
    trainer.resume()
    own = trainer.step
    trainer.load(path)
    if trainer.step > own:
        return True
    trainer.resume()
    return False


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
    code.content("code/tds/_tds.py", STAND_IN.encode())
    with tempfile.TemporaryDirectory() as folder:
        for wheel in _wheels(Path(folder), wheels, python):
            with zipfile.ZipFile(wheel) as archive:
                files = [info for info in archive.infolist() if not info.is_dir()]
                for info in sorted(files, key=lambda info: info.filename):
                    mode = info.external_attr >> 16 & 0o777
                    code.content(f"code/lib/{info.filename}", archive.read(info), mode or 0o644)


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
            0, f"pip cannot fetch wheels of {', '.join(wanted)} for Python {python} ({said})"
        )
    return sorted(folder.glob("*.whl"))


def _files(folders: dict[str, Path], wanted: Mapping[str, Iterable[Entry]]) -> dict[str, Path]:
    """Names in the bundle and where they are. Raises InputError for what a manifest has no say
    over."""
    files: dict[str, Path] = {}
    for name, entries in wanted.items():
        for e in entries:
            for file in filter(None, (e.original, e.hr, e.lr)):
                if Path(file).is_absolute() or ".." in Path(file).parts:
                    raise InputError(f"{folders[name]}/manifest.json names {file}, outside of it")
                files[f"{name}/{file}"] = folders[name] / file
    return files


class _Parts:
    """A compressed tar archive in files of ``PART`` bytes at most, the same for the same content.

    sums: their lines for sha256sum, and size: their bytes, once it is closed."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.sums: list[str] = []
        self.size = 0
        self._folder, self._kind = folder, kind
        self._file: IO[bytes] | None = None
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
                path = self._folder / f"{self._kind}.tgz.{len(self.sums):03d}"
                self._file, self._room = path.open("wb"), PART
            piece, view = view[: self._room], view[self._room :]
            self._file.write(piece)
            self._room -= len(piece)

    def file(self, name: str, path: Path) -> None:
        if not path.is_file():
            raise MissingError(f"{path}, which the training needs, is not there")
        try:
            source = path.open("rb")
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror})") from error
        with source:
            self._add(name, source, os.fstat(source.fileno()).st_size)

    def content(self, name: str, data: bytes, mode: int = 0o644) -> None:
        self._add(name, io.BytesIO(data), len(data), mode)

    def _add(self, name: str, source: IO[bytes], size: int, mode: int = 0o644) -> None:
        about = tarfile.TarInfo(name)
        about.size, about.mode = size, mode
        self._tar.addfile(about, source)

    def _end(self) -> None:
        if self._file is not None:
            path = Path(self._file.name)
            self._file.close()
            self._file = None
            self.sums.append(f"{sha256_of(path)}  {path.name}\n")

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
