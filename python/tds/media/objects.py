# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sources that are file objects and not names: uploads, members of archives, ``io.BytesIO``.

What reads videos opens them by name, and in several places at a time; so an object's bytes are
copied to a temporary file first, unless it is an ordinary open file, which has a name.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import weakref
from pathlib import Path
from typing import IO, Any, Protocol, runtime_checkable

from ..errors import InputError


@runtime_checkable
class Readable(Protocol):
    """What has ``read``, as files opened with "rb" and ``io.BytesIO`` have."""

    def read(self, size: int = ..., /) -> Any: ...


Source = str | os.PathLike[str] | Readable
"""A file's name, or an object to read its bytes from."""


class NamedSource:
    """A source by name. close: what was copied goes; it does so too with the last reference.

    Raises InputError for an object that gives no bytes."""

    def __init__(self, source: Source) -> None:
        self._copy: Any = None
        if isinstance(source, (str, os.PathLike)):
            self.path = os.fspath(source)
            return
        if not isinstance(source, Readable):
            raise TypeError(
                f"a source is a file's name or an object with read(), not {type(source).__name__}"
            )
        name = getattr(source, "name", None)
        if isinstance(name, str) and _is_that_file(source, name):
            self.path = name
            return
        suffix = Path(name).suffix if isinstance(name, str) else ""
        handle, self.path = tempfile.mkstemp(prefix=f"tds-{type(source).__name__}-", suffix=suffix)
        self._copy = weakref.finalize(self, Path(self.path).unlink, True)
        try:
            with open(handle, "wb") as file:
                _copy(source, file)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._copy is not None:
            self._copy()


def _copy(source: Readable, file: IO[bytes]) -> None:
    try:
        shutil.copyfileobj(source, file, 1 << 20)
    except TypeError:
        raise InputError(
            f"{type(source).__name__} gives text and not bytes; open the file with 'rb'"
        ) from None
    if not file.tell():
        raise InputError(
            f"{type(source).__name__} gives no bytes; was it read to its end already? seek(0) "
            "goes back"
        )


def _is_that_file(source: Any, name: str) -> bool:
    """Whether the object is the ordinary file of that name, open at its beginning."""
    try:
        there, own = os.stat(name), os.fstat(source.fileno())
        return (
            stat.S_ISREG(own.st_mode)
            and (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino)
            and source.tell() == 0
        )
    except (OSError, AttributeError, ValueError):
        return False
