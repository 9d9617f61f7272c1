# SPDX-License-Identifier: LGPL-2.1-or-later
"""What comes with the package beside its code: configurations and a clip.

Installed they lie in the package; in a source tree, where they are kept.
"""

from __future__ import annotations

from pathlib import Path

from .errors import MissingError

_PACKAGE = Path(__file__).resolve().parent
_TREE = _PACKAGE.parents[1]


def demo_clip() -> Path:
    """A real clip, CC0: 480x256, 25 frames. Raises MissingError."""
    for path in (_PACKAGE / "data" / "city.mkv", _TREE / "tests" / "data" / "city.mkv"):
        if path.is_file():
            return path
    raise MissingError("this package has no clip of its own; name a video")


def configuration(name: Path, kind: str = "") -> Path:
    """A configuration file as a person names it: a file, or one that comes with the package by its
    name alone (``quick``, ``paper/table1``). kind: the folder of those of one command."""
    if name.exists() or name.suffix in (".yaml", ".yml", ".json", ".gz") or name.is_absolute():
        return name
    folders = [root / "configs" / kind for root in (_PACKAGE, _TREE)]
    for folder in folders:
        if (path := folder / f"{name}.yaml").is_file():
            return path
    known = sorted(
        {
            str(path.relative_to(folder).with_suffix(""))
            for folder in folders
            for path in folder.rglob("*.yaml")
            if kind or path.relative_to(folder).parts[0] not in ("training", "ablation")
        }
    )
    raise MissingError(
        f"{name}: there is no such file, and no configuration of that name comes with the package; "
        f"there are {', '.join(known)}"
    )
