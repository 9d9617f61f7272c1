# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finding a model file by name. Importing this imports no torch."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, MissingError


@dataclass(frozen=True)
class Found:
    """A model's name ("" for a file named by path) and its TorchScript archive."""

    name: str
    path: Path


def find(name: str, scale: int) -> Found:
    """A TorchScript file by its path, or a model by its name for this k.

    A name is looked for as NAME-kSCALE.pt in the folders of $TDS_MODEL_PATH.
    Raises MissingError when there is none, InputError for a folder."""
    path = Path(name)
    if path.suffix or len(path.parts) > 1:
        if path.is_dir():
            raise InputError(f"{name} is a folder, not a TorchScript file")
        if not path.is_file():
            raise MissingError(f"{name}: there is no such model file")
        return Found("", path)
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        for folder in os.environ.get("TDS_MODEL_PATH", "").split(os.pathsep):
            candidate = Path(folder) / f"{name}-k{scale}.pt"
            if folder and candidate.is_file():
                return Found(name, candidate)
    raise MissingError(
        f"no model {name!r} for k = {scale}; name a TorchScript file, or put {name}-k{scale}.pt "
        "in a folder of TDS_MODEL_PATH"
    )


def default(scale: int, device: str) -> Found | None:
    """The model used when none is named; None when none is installed."""
    return None
