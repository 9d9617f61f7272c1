# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writing outputs whole or not at all, and knowing files by their hash."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from .errors import MissingError, OutputError, OutputExistsError, TDSError


@contextlib.contextmanager
def whole_file(
    path: str | os.PathLike[str], overwrite: bool, inside: Path | None = None
) -> Iterator[Path]:
    """A fresh, empty file beside ``path`` to write to; renamed to it on success, else removed.

    inside: a folder on the same disk to have it in instead.

    Its name ends as ``path``'s does, since that tells writers the format, and cannot be
    guessed: in a folder that others write to, nobody can have put a link there.

    Raises OutputExistsError when ``path`` is there and ``overwrite`` is False, at
    once or where somebody else has put it there meanwhile, MissingError when its
    folder is not there, and OutputError in place of a full disk or a refused write."""
    target = Path(path)
    check_output(target, overwrite)
    if is_special(target):  # nothing to rename
        yield target
        return
    beside = None
    try:
        with _said(target):
            beside = _fresh(target, inside or target.parent)
            yield beside
            check_output(target, overwrite)
            os.replace(beside, target)
        beside = None
    finally:
        if beside is not None:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(
    path: str | os.PathLike[str], overwrite: bool, marks: Collection[str] = ()
) -> Iterator[Path]:
    """A fresh folder beside ``path`` to write to; renamed to it on success, else removed.

    marks: files that are in every folder of this kind: only such a one, or an empty one, is
    replaced. Raises as whole_file does."""
    target = Path(os.path.realpath(path))  # of a link what it leads to
    _check_folder(path, target, overwrite, marks)
    if not target.parent.is_dir():
        raise MissingError(f"{path}: there is no folder {target.parent}")
    beside: Path | None = None
    try:
        with _said(path):
            beside = Path(
                tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
            )
            beside.chmod(0o777 & ~_umask())
            yield beside
            _check_folder(path, target, overwrite, marks)
            if target.exists():
                before = beside.with_name(f"{beside.name}.before")
                os.replace(target, before)
                try:
                    os.replace(beside, target)
                except BaseException:
                    os.replace(before, target)
                    raise
                shutil.rmtree(before, ignore_errors=True)
            else:
                os.replace(beside, target)
        beside = None
    finally:
        if beside is not None:
            shutil.rmtree(beside, ignore_errors=True)


def _check_folder(
    path: str | os.PathLike[str], target: Path, overwrite: bool, marks: Collection[str]
) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise OutputExistsError(f"{path} is a file, and a folder is written; name another")
    if any(target.iterdir()):
        if not overwrite:
            raise OutputExistsError(f"{path} exists; give --overwrite to replace it")
        if not all((target / mark).is_file() for mark in marks):
            raise OutputExistsError(
                f"{path} has other files in it, which would be lost; name another folder"
            )


@contextlib.contextmanager
def _said(path: str | os.PathLike[str]) -> Iterator[None]:
    """A full disk or a refused write at ``path``, as a sentence."""
    try:
        yield
    except OSError as e:
        if e.errno in _SPACE:
            raise OutputError(
                e.errno, f"{path}: no space left on its disk; nothing was written"
            ) from e
        if e.errno in _REFUSED and not isinstance(e, TDSError):
            raise OutputError(e.errno, f"{path} cannot be written ({e.strerror})") from e
        raise


def _umask() -> int:
    """Of this process; it can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS)
_NAME_MAX = 255  # bytes, of every usual file system


def _fresh(target: Path, folder: Path) -> Path:
    """Made here and now, for this process alone (O_EXCL: never what is there, no link)."""
    token = secrets.token_hex(8)
    # A name that is nearly too long leaves no room for more.
    room = _NAME_MAX - len(os.fsencode(f"..{token}.part{target.suffix}"))
    stem = os.fsdecode(os.fsencode(target.stem)[: max(0, room)])
    beside = folder / f".{stem}.{token}.part{target.suffix}"
    os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    return beside


def is_special(path: str | os.PathLike[str]) -> bool:
    """Whether this is there and neither a file nor a folder: /dev/null, a FIFO."""
    target = Path(path)
    return target.exists() and not target.is_file() and not target.is_dir()


def check_output(
    path: str | os.PathLike[str], overwrite: bool, inputs: Iterable[str | os.PathLike[str]] = ()
) -> None:
    """Raises before any work is done when ``path`` could not be written, or is one of the
    files that are read."""
    target = Path(path)
    if len(os.fsencode(target.name)) > _NAME_MAX:
        raise OutputError(
            errno.ENAMETOOLONG, f"{target}: a file's name has at most {_NAME_MAX} bytes"
        )
    for name in inputs:
        if target.is_file() and Path(name).is_file() and target.samefile(name):
            raise OutputExistsError(f"{target} is the input too; name another output")
    if target.is_dir():
        raise OutputExistsError(f"{target} is a folder; name a file in it")
    if target.exists() and target.is_file() and not overwrite:
        raise OutputExistsError(f"{target} exists; give --overwrite to replace it")
    if not target.parent.is_dir():
        raise MissingError(f"{target}: there is no folder {target.parent}")
    if not os.access(target.parent, os.W_OK) and not target.exists():
        raise OutputError(errno.EACCES, f"{target}: not allowed to write in {target.parent}")


def sha256_of(path: str | os.PathLike[str]) -> str:
    """64 hex digits, of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_all(paths: Iterable[str | os.PathLike[str]]) -> str:
    """64 hex digits, of the bytes of several files in their order."""
    state = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while chunk := file.read(1 << 20):
                state.update(chunk)
    return state.hexdigest()


def sha256_of_parts(parts: Iterable[bytes]) -> str:
    """Of bytes one after the other."""
    state = hashlib.sha256()
    for part in parts:
        state.update(part)
    return state.hexdigest()


def sha256_of_text(text: str) -> str:
    """64 hex digits, of what names a piece of work: the key of its result in a cache."""
    return hashlib.sha256(text.encode()).hexdigest()
