# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writing outputs whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from .errors import MissingError, OutputError, OutputExistsError, TDSError


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str], overwrite: bool) -> Iterator[Path]:
    """A path beside ``path`` to write to; renamed to it on success, else removed.

    Raises OutputExistsError at once when ``path`` is there and ``overwrite`` is
    False, MissingError when its folder is not there, and OutputError in place of
    a full disk or a refused write."""
    target = Path(path)
    check_output(target, overwrite)
    if target.exists() and not target.is_file():  # /dev/null, a FIFO: nothing to rename
        yield target
        return
    beside = target.with_name(f".{target.stem}.{os.getpid()}.part{target.suffix}")
    try:
        yield beside
        os.replace(beside, target)
    except OSError as e:
        if e.errno in _SPACE:
            raise OutputError(
                e.errno, f"{target}: no space left on its disk; nothing was written"
            ) from e
        if e.errno in (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS) and not isinstance(
            e, TDSError
        ):
            raise OutputError(e.errno, f"{target} cannot be written ({e.strerror})") from e
        raise
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_output(
    path: str | os.PathLike[str], overwrite: bool, inputs: Iterable[str | os.PathLike[str]] = ()
) -> None:
    """Raises before any work is done when ``path`` could not be written, or is one of the
    files that are read."""
    target = Path(path)
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
