# SPDX-License-Identifier: LGPL-2.1-or-later
"""What of a long job is done, beside its output until that is written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from ..errors import InputError
from ..evaluation.cache import RECORD
from ..files import sha256_of_text

_NAME_MAX = 255  # bytes, of every usual file system


class State:
    """The folder NAME.tds-state beside the output NAME; made by who first puts something there.

    It goes when all went well, when nothing is in it, and when the source or what was asked for is
    at fault, so that going on is of no use. Else it stays, and ``tell`` is told so.
    """

    def __init__(self, output: Path, tell: Callable[[str], None]) -> None:
        name = f"{output.name}.tds-state"
        if len(os.fsencode(name)) > _NAME_MAX:
            name = f"{sha256_of_text(output.name)[:32]}.tds-state"
        self.folder = output.with_name(name)
        self._tell = tell

    def __enter__(self) -> State:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.folder.is_dir():
            return
        done = len(list(self.folder.glob(f"segment/*/*/{RECORD}")))
        if error is None or isinstance(error, InputError) or not done:
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        segments = f"{done} segment{'s' * (done > 1)}"
        self._tell(f"what is done, {segments}, stays in {self.folder}; the same command goes on")
