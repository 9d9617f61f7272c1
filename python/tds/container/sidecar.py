# SPDX-License-Identifier: LGPL-2.1-or-later
"""The metadata as a file beside two raw streams, which have no times of their own.

The same JSON as in the MP4's ``tds`` key, in JSON or YAML (docs/container.md).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .._tds import MAX_TAG
from ..errors import InputError, MissingError
from ..files import whole_file
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
            value = _from_yaml(text)
        # As JSON once more: YAML has values, dates for one, that the metadata has not.
        plain = json.dumps(value, allow_nan=False)
    except (ValueError, TypeError, RecursionError) as e:
        raise InputError(f"{path} is neither JSON nor YAML of plain values") from e
    return Metadata.from_json(plain, str(path))


def _from_yaml(text: str) -> Any:
    import yaml  # slow to load, and nearly all sidecars are the JSON that write_sidecar wrote

    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            # A few that name each other would be gigabytes, written out.
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("it has aliases")
        return yaml.safe_load(text)
    except yaml.YAMLError as e:
        raise ValueError(str(e)) from e
