# SPDX-License-Identifier: LGPL-2.1-or-later
"""Values of a YAML text: the one place that reads YAML."""

from __future__ import annotations

from typing import Any


def yaml_values(text: str, aliases: bool = True) -> Any:
    """Of maps, lists, text, numbers, dates and the like. aliases: they are allowed; a few that
    name each other would be gigabytes, written out, so not in what comes from anywhere.

    Raises ValueError, with a sentence that begins after the file's name."""
    import yaml  # slow to load, and nearly all sidecars are the JSON that write_sidecar wrote

    try:
        if not aliases:
            for event in yaml.parse(text, Loader=yaml.SafeLoader):
                if isinstance(event, yaml.AliasEvent):
                    raise ValueError("is not YAML of plain values: it has aliases")
        return yaml.safe_load(text)
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        raise ValueError(f"is not YAML{f' (line {mark.line + 1})' if mark else ''}") from e
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError) as e:
        # What PyYAML ends in where a value does not fit its tag, as in "!!bool maybe".
        raise ValueError("is not YAML: a value does not fit its tag, or nests too deeply") from e
