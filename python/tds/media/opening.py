# SPDX-License-Identifier: LGPL-2.1-or-later
"""Opening files with PyAV: raw formats, standard input, sentences for errors."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer

from ..errors import InputError, MissingError


@dataclass(frozen=True)
class RawFormat:
    """What a raw planar file does not say itself.

    size: luma (width, height). rate: frames a second. pix_fmt: FFmpeg's name.
    """

    size: tuple[int, int]
    rate: Fraction = Fraction(25)
    pix_fmt: str = "yuv420p"


_ANNEX_B = {".265": "hevc", ".hevc": "hevc", ".266": "vvc", ".vvc": "vvc"}


def open_container(
    path: str, raw: RawFormat | None = None, options: dict[str, str] | None = None
) -> InputContainer:
    """PyAV's container for a path, ``-`` being standard input.

    Raises MissingError or InputError with a sentence in place of FFmpeg's codes."""
    name = "pipe:0" if path == "-" else path
    # FFmpeg guesses raw streams by their content, which a short one has too little of.
    format_name = _ANNEX_B.get(Path(path).suffix.lower())
    if raw is not None:
        format_name = "rawvideo"
        options = {
            **(options or {}),
            "video_size": f"{raw.size[0]}x{raw.size[1]}",
            "pixel_format": raw.pix_fmt,
            "framerate": str(raw.rate),
        }
    if path != "-" and "://" not in path:
        p = Path(path)
        if not p.exists():
            raise MissingError(f"{path}: there is no such file")
        if p.is_dir():
            raise InputError(f"{path} is a folder, not a video file")
    try:
        return av.open(name, format=format_name, options=options or {})
    except PermissionError as e:
        raise InputError(f"{path}: not allowed to read it") from e
    except av.error.FFmpegError as e:
        if raw is None and Path(path).suffix.lower() in {".yuv", ".raw", ".rgb"}:
            raise InputError(
                f"{path}: raw video says nothing of itself; give --size (and --rate, --pix-fmt)"
            ) from e
        raise InputError(
            f"{path} is not a video file that FFmpeg can read, or it is cut short "
            f"({reason(e)}); check it with ffprobe"
        ) from e


def reason(error: Exception) -> str:
    """FFmpeg's words for an error, for the middle of a sentence."""
    text = getattr(error, "strerror", None) or str(error)
    return text.strip().rstrip(".")
