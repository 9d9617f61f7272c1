# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long a file says it is: what tells one that was cut short from one that just ends."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from av.container import InputContainer
from av.stream import Stream


def file_size(path: str) -> int | None:
    """In bytes; None for what is no regular file."""
    return Path(path).stat().st_size if Path(path).is_file() else None


def has_index(container: InputContainer) -> bool:
    """Whether the format's index names the place and size of every packet: MP4 and its kin."""
    return "mp4" in container.format.name.split(",")


def indexed_end(streams: Iterable[Stream]) -> int:
    """Where in the file the last packet of these streams ends, by their index."""
    return max((e.pos + e.size for s in streams for e in s.index_entries), default=0)


def said_end(path: str, container: InputContainer) -> int:
    """Where the file itself says it ends; 0 where it does not say."""
    if has_index(container):
        kinds = ("video", "audio", "subtitle")
        return indexed_end(s for s in container.streams if s.type in kinds)
    if "matroska" in container.format.name.split(",") and Path(path).is_file():
        return _segment_end(path)
    return 0


def _segment_end(path: str) -> int:
    """Of a Matroska file (RFC 8794, RFC 9559): one header element, then the segment."""
    with open(path, "rb") as file:
        head = file.read(4096)
    header, at = _element(head, 0)
    if header is None or head[:4] != b"\x1a\x45\xdf\xa3":
        return 0
    at += header
    size, begin = _element(head, at)
    if size is None or head[at : at + 4] != b"\x18\x53\x80\x67":
        return 0
    return begin + size


def _element(data: bytes, at: int) -> tuple[int | None, int]:
    """(length, place of the content) of an element with a 4-byte ID; None: length not known,
    as of a file that was written to a pipe, or is still being written."""
    at += 4
    if at >= len(data) or not data[at]:
        return None, at
    length = 9 - data[at].bit_length()
    bits = 7 * length
    value = int.from_bytes(data[at : at + length], "big") & ((1 << bits) - 1)
    return (None if value == (1 << bits) - 1 else value), at + length
