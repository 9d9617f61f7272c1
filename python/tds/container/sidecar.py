# SPDX-License-Identifier: LGPL-2.1-or-later
"""The metadata as a file beside two raw streams, which have no times of their own.

The same JSON as in the MP4's ``tds`` key, in JSON or YAML (docs/container.md).
"""

from __future__ import annotations

import json
from pathlib import Path

from .._tds import MAX_TAG
from ..errors import InputError, MissingError
from ..files import whole_file
from ..yaml_values import yaml_values
from .metadata import Metadata


def write_sidecar(path: Path, metadata: Metadata, overwrite: bool = False) -> None:
    """Writes ``metadata`` as indented JSON, whole or not at all."""
    with whole_file(path, overwrite) as beside:
        text = json.dumps(json.loads(metadata.to_json()), indent=1)
        beside.write_text(text + "\n", encoding="utf-8")


def read_sidecar(path: Path) -> Metadata:
    """Reads JSON or YAML. Raises MissingError or InputError."""
    if not path.is_file():
        raise MissingError(f"{path}: there is no such sidecar")
    if path.stat().st_size > MAX_TAG:
        raise InputError(f"{path}: a sidecar is at most {MAX_TAG} bytes")
    try:
        text = path.read_text(encoding="utf-8")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = yaml_values(text, aliases=False)
        # As JSON once more: YAML has values, dates for one, that the metadata has not.
        plain = json.dumps(value, allow_nan=False)
    except (ValueError, TypeError, RecursionError) as e:
        raise InputError(f"{path} is neither JSON nor YAML of plain values") from e
    return Metadata.from_json(plain, str(path))
