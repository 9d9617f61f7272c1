# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hooks of mkdocs: what the pages say of the rest of the source tree, on a site without it.

The changelog and CONTRIBUTING.md become pages; a link to any other file outside docs/ becomes the
file's name.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PAGES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
_OUTSIDE = re.compile(r"\[([^\]\[]+)\]\(\.\./([^)#]+)(#[^)]*)?\)")
_FOLDER = re.compile(r"\[([^\]\[]+)\]\(((?:examples|results)/[^)]*)\)")


def on_files(files: Files, config: Any) -> Files:
    for source, page in PAGES.items():
        # As if they stood in docs/.
        text = re.sub(r"\]\((?!https?:|#|docs/)([^)]+)\)", r"](../\1)", (ROOT / source).read_text())
        content = _links(text.replace("](docs/", "]("))
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    return _links(markdown)


def _links(text: str) -> str:
    return _FOLDER.sub(_inside, _OUTSIDE.sub(_outside, text))


def _outside(match: re.Match[str]) -> str:
    words, path, place = match[1], match[2], match[3] or ""
    if path in PAGES:
        return f"[{words}]({PAGES[path]}{place})"
    return f"[{words}](start.md)" if path == "README.md" else f"{words} (`{path}`)"


def _inside(match: re.Match[str]) -> str:
    """Pictures and pages go along; other files are named."""
    if match[2].endswith((".png", ".html", ".md")):
        return match[0]
    return f"{match[1]} (`docs/{match[2]}`)"
