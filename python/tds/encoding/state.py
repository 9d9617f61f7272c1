# SPDX-License-Identifier: LGPL-2.1-or-later
"""What of a long job is done, beside its output until that is written."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from ..errors import InputError, OutputError, OutputExistsError
from ..evaluation.cache import RECORD
from ..files import is_special, sha256_of_text

_NAME_MAX = 255  # bytes, of every usual file system


class State:
    """The folder NAME.tds-state beside the output NAME, of one process at a time. As a context
    manager it is made where it is ``wanted``; of an output that is no file it is a temporary one.

    It goes when all went well, when nothing is in it, and when the source or what was asked for is
    at fault, so that going on is of no use. Else it stays, and so does what an earlier run left
    where this one is at fault; ``tell`` is told so.

    Entering raises OutputError where another process has it, OutputExistsError where something
    else has its name.
    """

    def __init__(self, output: Path, wanted: bool, tell: Callable[[str], None]) -> None:
        self._output, self._wanted, self._tell = output, wanted, tell
        name = f"{output.name}.tds-state"
        if len(os.fsencode(name)) > _NAME_MAX:
            name = f"{sha256_of_text(output.name)[:32]}.tds-state"
        self.folder = output.with_name(name)
        self._new = False
        self._held: int | None = None

    def __enter__(self) -> State:
        if self._wanted and is_special(self._output):
            self.folder = Path(tempfile.mkdtemp(prefix="tds-encode-"))
        elif self._wanted:
            while self._held is None:
                self._held = self._take()
        return self

    def _take(self) -> int | None:
        """The folder, open and locked: the system lets go of it however this process ends. None:
        whose it was is done with it and has removed it."""
        try:
            self.folder.mkdir()
            self._new = True
        except FileExistsError:
            self._new = False
        except OSError as e:
            raise OutputError(
                e.errno or errno.EIO, f"{self._output} cannot be written ({e.strerror})"
            ) from e
        if not self._new and not self.folder.is_dir() and os.path.lexists(self.folder):
            raise OutputExistsError(
                f"{self.folder} is no folder, and what is measured would lie there; move it, or "
                "name another output"
            )
        try:
            held = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held)
            raise OutputError(
                errno.EBUSY,
                f"{self._output} is being made by another process, which has {self.folder}; wait "
                "for that one, or name another output",
            ) from None
        except OSError:  # a file system without locks
            pass
        if self.folder.is_dir() and os.path.samestat(os.fstat(held), self.folder.stat()):
            return held
        os.close(held)
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._wanted:
            return
        if self._held is None:
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        try:
            done = len(list(self.folder.glob(f"segment/*/*/{RECORD}")))
            at_fault = isinstance(error, InputError)
            if error is None or not done or (at_fault and self._new):
                shutil.rmtree(self.folder, ignore_errors=True)
                return
            segments = f"{done} segment{'s' * (done > 1)}"
            self._tell(
                f"what an earlier run did, {segments}, stays in {self.folder}"
                if at_fault
                else f"what is done, {segments}, stays in {self.folder}; the same command goes on"
            )
        finally:
            os.close(self._held)
