# SPDX-License-Identifier: LGPL-2.1-or-later
"""Text of files and names on its way to a terminal."""

from __future__ import annotations

import unicodedata

# Control characters, what turns the direction of writing, and line ends that are none in ASCII:
# with them a file could set a terminal's title, clear it, or fake lines of ours.
_OBEYED = frozenset(("Cc", "Cf", "Co", "Zl", "Zp"))


def printable(text: str) -> str:
    r"""``text`` in which what a terminal would obey is written as \x1b. Bytes of names that are
    not UTF-8 (as surrogates) stay, but for those that 8-bit terminals obey."""
    return "".join(_escaped(c) if _is_obeyed(c) else c for c in text)


def _is_obeyed(character: str) -> bool:
    return unicodedata.category(character) in _OBEYED or "\udc80" <= character <= "\udc9f"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
