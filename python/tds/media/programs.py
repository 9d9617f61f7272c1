# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finding the ffmpeg program, and what it has."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess

from ..errors import MissingError


def candidates() -> list[str]:
    """Paths of the ffmpeg programs at hand: $TDS_FFMPEG, imageio-ffmpeg's, the one on PATH.

    Raises MissingError when TDS_FFMPEG names none: whoever set it means that one."""
    given = os.environ.get("TDS_FFMPEG")
    if given and not encoders_of(given):
        raise MissingError(
            f"TDS_FFMPEG is {given}, which is no ffmpeg program that runs; name one, or unset it"
        )
    found = [given]
    try:
        import imageio_ffmpeg

        found.append(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        pass
    found.append(shutil.which("ffmpeg"))
    return [program for program in found if program]


@functools.cache
def find_ffmpeg(encoder: str | None = None) -> str:
    """The first ffmpeg program at hand, or the first that has ``encoder``. Raises MissingError."""
    for program in candidates():
        if encoder is None or encoder in encoders_of(program):
            return program
    what = f"with {encoder}" if encoder else "at all"
    raise MissingError(
        f"no ffmpeg program {what} was found: pip install imageio-ffmpeg, "
        "or set TDS_FFMPEG to one that has it"
    )


@functools.cache
def encoders_of(program: str) -> frozenset[str]:
    """Names of the video encoders of an ffmpeg program; empty if it does not run."""
    try:
        out = subprocess.run(
            [program, "-hide_banner", "-encoders"], capture_output=True, text=True, timeout=60
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return frozenset()
    return frozenset(re.findall(r"^ V\S* (\S+)", out, re.MULTILINE))


@functools.cache
def ffmpeg_version(program: str) -> str:
    """ "n9.0.2-17-g2a571b6068-20260930", as the program says it."""
    out = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=60).stdout
    match = re.match(r"ffmpeg version (\S+)", out)
    return match.group(1) if match else "unknown"
