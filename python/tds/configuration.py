# SPDX-License-Identifier: LGPL-2.1-or-later
"""YAML configurations: one way to say what a file may hold, to check it, and to document it.

A section is a dataclass of pydantic with ``config=STRICT``; each field's type and ``Field`` say
what is allowed, its ``description`` what it means. From these come the check of a file, its JSON
Schema (for editors, ``configs/*.schema.json``) and the tables of docs/ (``make docs``).
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from .errors import InputError, MissingError
from .yaml_values import yaml_values

T = TypeVar("T")

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, validate_by_name=True)
"""Of every section: an unknown key and a value of another type are faults, not guessed at."""


def load(
    path: str | os.PathLike[str],
    kind: type[T],
    change: Callable[[dict[str, Any]], None] | None = None,
) -> T:
    """Reads a YAML file as a ``kind``. change: edits its values before they are checked.

    Raises MissingError, or InputError with one sentence that names the file and the key."""
    path = Path(path)
    if not path.is_file():
        raise MissingError(f"{path}: there is no such configuration")
    try:
        values = yaml_values(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as e:
        raise InputError(f"{path} is not YAML") from e
    except ValueError as e:
        raise InputError(f"{path} {e}") from e
    if not isinstance(values, dict):
        raise InputError(f"{path} is not a list of KEY: VALUE")
    if change is not None:
        change(values)
    return check(values, kind, str(path))


def check(values: dict[str, Any], kind: type[T], where: str) -> T:
    """The values as a ``kind``. where: what a fault is said to be in. Raises InputError."""
    try:
        # As JSON, whose arrays and strings also stand for tuples, paths and enumerations: then
        # exactly what the schema says is taken.
        text = json.dumps(values, default=str)
    except (ValueError, TypeError, RecursionError) as e:
        raise InputError(f"{where}: it has keys that are no text, or holds itself") from e
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as e:
        raise InputError(f"{where}: {_sentence(e, kind)}") from e


def override(values: dict[str, Any], settings: Iterable[str]) -> None:
    """Puts ``section.key=value`` (a YAML value) into a file's values. Raises InputError."""
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator:
            raise InputError(f"--set takes section.key=value, not {setting!r}")
        *sections, last = key.split(".")
        place: Any = values
        try:
            value = yaml_values(text)
        except ValueError:
            raise InputError(f"--set {setting}: the value is not YAML") from None
        try:
            for section in sections:
                if isinstance(place, list):
                    place = place[int(section)]
                else:
                    place = place.setdefault(section, {})
            place[int(last) if isinstance(place, list) else last] = value
        except (AttributeError, IndexError, TypeError, ValueError):
            raise InputError(f"--set {setting}: the configuration has no such place") from None


def schema(kind: type[Any], title: str) -> dict[str, Any]:
    """The JSON Schema of a file."""
    made = TypeAdapter(kind).json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": title}


def table(kind: type[Any]) -> str:
    """A section's keys as a Markdown table: key, meaning, values, default."""
    rows = ["| key | | values | default |", "|---|---|---|---|"]
    for name, info, default in _keys(kind):
        text = (info.description or "").replace("|", "\\|")
        rows.append(f"| `{name}` | {text} | {_values(_property(kind, name))} | {default} |")
    return "\n".join(rows)


# ----------------------------------------------------------------- sentences --


def _sentence(error: ValidationError, kind: type[Any]) -> str:
    """The first fault; one of an unknown key before others, which may come of it."""
    faults = error.errors(include_url=False)
    unknown = [f for f in faults if f["type"] in ("unexpected_keyword_argument", "extra_forbidden")]
    fault = (unknown or faults)[0]
    loc = [p for p in fault["loc"][:-1] if not _is_branch(p)]
    loc += [p for p in fault["loc"][-1:] if unknown or not _is_branch(p)]  # a key may be anything
    name = _dotted(loc)
    if unknown:
        known = [key for key, _, _ in _keys(_section(kind, loc[:-1]))]
        near = difflib.get_close_matches(str(loc[-1]), known, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
        place = f" in {_dotted(loc[:-1])}" if loc[:-1] else ""
        return f"no key {str(loc[-1])!r}{place}; {hint}"
    if fault["type"] in ("missing", "missing_argument"):
        return f"{name} is missing"
    if fault["type"] == "value_error":
        words = str(fault["ctx"]["error"])
        return f"{name}: {words}" if name else words
    said = fault["msg"]
    given = fault["input"]
    if fault["type"] == "float_type" and _is_number(given):
        return f"{name} should be a number, not the text {given!r} (write 1.0e-3, not 1e-3)"
    if fault["type"] == "too_short":
        return f"{name} should be a list with {fault['ctx']['min_length']} or more in it"
    if fault["type"] == "string_pattern_mismatch":
        examples = {key: info.examples for key, info, _ in _keys(_section(kind, loc[:-1]))}
        likely = ", ".join(map(str, examples.get(str(loc[-1])) or ()))
        return f"{name} should be such as {likely}, not {given!r}"
    if not said.startswith("Input should be "):
        return f"{name}: {said[0].lower()}{said[1:]}"
    wanted = said.removeprefix("Input should be ")
    for words, ours in _WORDS.items():
        wanted = wanted.replace(words, ours)
    shown = json.dumps(given, default=str)
    return f"{name} should be {wanted}, not {shown if len(shown) < 60 else shown[:57] + '...'}"


# Pydantic's words for what YAML calls otherwise.
_WORDS = {
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid string": "text",
    "a valid boolean": "true or false",
    "a valid tuple": "a list",
    "a valid array": "a list",
    "a valid list": "a list",
    "a valid dictionary": "a map",
    "an object": "a map",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "greater than": "above",
    "less than": "below",
}


def _is_branch(part: int | str) -> bool:
    """Names that pydantic gives the branches of a union or a validator, which no file has."""
    return isinstance(part, str) and ("[" in part or "(" in part)


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return isinstance(value, str)


def _dotted(loc: list[int | str]) -> str:
    """``plans[0].group``."""
    out = ""
    for part in loc:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else str(part)
    return out


def _section(kind: type[Any], loc: list[int | str]) -> type[Any]:
    """The dataclass that stands at a place."""
    for part in loc:
        if isinstance(part, str):
            names = {name: info for name, info, _ in _keys(kind)}
            found = _dataclass_in(names[part].annotation)
            assert found is not None
            kind = found
    return kind


def _dataclass_in(annotation: Any) -> type[Any] | None:
    if isinstance(annotation, type) and is_dataclass(annotation):
        return annotation
    inner = (_dataclass_in(a) for a in get_args(annotation))
    return next((found for found in inner if found is not None), None)


# ---------------------------------------------------------------------- docs --


def _keys(kind: type[Any]) -> list[tuple[str, FieldInfo, str]]:
    """(key in the file, what pydantic knows of it, default in words) of a section."""
    out = []
    for name, info in kind.__pydantic_fields__.items():
        if info.init is False:
            continue
        default = info.default_factory() if info.default_factory else info.default
        out.append((info.alias or name, info, _default(info, default)))
    return out


def _default(info: FieldInfo, value: Any) -> str:
    extra = info.json_schema_extra
    if isinstance(extra, dict) and "default_words" in extra:
        return str(extra["default_words"])
    if info.is_required():
        return "required"
    if is_dataclass(value) or (isinstance(value, list) and value and is_dataclass(value[0])):
        return "below"
    if isinstance(value, Enum):
        value = value.value
    if value in ("", None, (), []):
        return "none"
    return f"`{json.dumps(value)}`"


def _property(kind: type[Any], name: str) -> dict[str, Any]:
    whole = TypeAdapter(kind).json_schema(mode="validation")
    found: dict[str, Any] = _resolved(whole["properties"][name], whole.get("$defs", {}))
    return found


def _resolved(node: Any, known: dict[str, Any]) -> Any:
    while isinstance(node, dict) and "$ref" in node:
        node = known[node["$ref"].rpartition("/")[2]]
    if isinstance(node, dict):
        # Sections have tables of their own.
        deep = {k: _resolved(v, known) for k, v in node.items() if k != "properties"}
        return deep | ({"section": True} if "properties" in node else {})
    return [_resolved(v, known) for v in node] if isinstance(node, list) else node


def _values(node: dict[str, Any]) -> str:
    """What a key takes, in a few words."""
    if "anyOf" in node:
        kinds = [_values(n) for n in node["anyOf"] if n.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in node or "const" in node:
        return ", ".join(f"`{v}`" for v in node.get("enum", [node.get("const")]))
    if node.get("section"):
        return "a map"
    kind = node.get("type")
    if kind == "array":
        items = node.get("items")
        of = f" of {_values(items)}" if isinstance(items, dict) and items else ""
        least = f", {node['minItems']} or more" if node.get("minItems", 0) > 1 else ""
        return f"list{of}{least}"
    words = {"integer": "whole number", "number": "number", "string": "text", "object": "a map"}
    text = words.get(str(kind), "`true`, `false`")
    low, high = node.get("minimum"), node.get("maximum")
    above = node.get("exclusiveMinimum")
    if low is not None and high is not None:
        return f"{text}, {low:g} to {high:g}"
    if low is not None:
        return f"{text}, {low:g} or more"
    if above is not None:
        return f"{text} above {above:g}"
    return text
