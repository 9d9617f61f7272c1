# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reading what is written elsewhere at the same time: FIFOs and standard input.

FFmpeg's own reading waits inside C, where neither Ctrl-C nor another thread ends it, and its
opening of a FIFO waits for a writer, so that a program which writes two of them never comes to
the second. Here opening waits for nothing, and reading can be ended.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import stat
import threading
from typing import Any

from ..errors import InputError

STANDARD_INPUT = "-"
_LOOK = 100  # milliseconds after which reading looks whether it is to end


def is_pipe(path: str) -> bool:
    """Whether ``path`` is standard input or a FIFO."""
    if path == STANDARD_INPUT:
        return True
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


class Interrupted(Exception):
    """What a signal's handler raised while reading waited. PyAV passes on nothing else than an
    Exception; who called PyAV raises ``pending``."""

    def __init__(self, pending: BaseException) -> None:
        super().__init__()
        self.pending = pending


class PipeReader(io.RawIOBase):
    """Bytes of a FIFO or of standard input, as a file for PyAV.

    ``interrupt``, from any thread, ends a read that waits: it, or the next one, raises InputError,
    and then there is nothing more to read. (FFmpeg tries again before PyAV hands an exception on,
    and a second one would be printed with its traceback.) What a signal's handler raises while
    reading waits comes as Interrupted.

    keep: what is read can be read ``again``, until ``forget``.
    """

    def __init__(self, path: str, keep: bool = False) -> None:
        super().__init__()
        self._path = path
        self._kept = bytearray() if keep else None
        self._again = b""
        self._ended = threading.Event()
        self._said = False
        try:
            self._fd = (
                os.dup(0)
                if path == STANDARD_INPUT
                else os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            )
        except OSError as e:
            name = "standard input" if path == STANDARD_INPUT else path
            raise InputError(f"{name} cannot be read ({e.strerror})") from e
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)

    @property
    def name(self) -> str:
        return self._path

    def readable(self) -> bool:
        return True

    def again(self) -> None:
        """Reading begins anew with what was kept."""
        self._again, self._kept = bytes(self._kept or b""), None

    def forget(self) -> None:
        self._kept = None

    def readinto(self, buffer: Any) -> int:
        if self._again:
            size = min(len(buffer), len(self._again))
            buffer[:size], self._again = self._again[:size], self._again[size:]
            return size
        try:
            while not self._ended.is_set():
                if self._poll.poll(_LOOK):
                    with contextlib.suppress(BlockingIOError):  # another reader was faster
                        size = os.readv(self._fd, [buffer])
                        if self._kept is not None:
                            self._kept += memoryview(buffer)[:size]
                        return size
        except Exception:
            raise
        except BaseException as e:
            raise Interrupted(e) from None
        if self._said:
            return 0
        self._said = True
        raise InputError(f"{self._path}: reading it was ended")

    def interrupt(self) -> None:
        self._ended.set()

    def close(self) -> None:
        if not self.closed:
            os.close(self._fd)
        super().close()
