# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finding the ffmpeg program, and what it has."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field

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
        out = _said(program, "-encoders")
    except (OSError, subprocess.SubprocessError):
        return frozenset()
    return frozenset(re.findall(r"^ V\S* (\S+)", out, re.MULTILINE))


@functools.cache
def ffmpeg_version(program: str) -> str:
    """ "n9.0.2-17-g2a571b6068-20260930", as the program says it."""
    out = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=60).stdout
    match = re.match(r"ffmpeg version (\S+)", out)
    return match.group(1) if match else "unknown"


@dataclass(frozen=True)
class EncoderOption:
    """One option of an encoder: the names its values have, and the range of its numbers."""

    values: frozenset[str] = frozenset()
    least: float = float("-inf")
    most: float = float("inf")


@dataclass(frozen=True)
class EncoderFacts:
    """What an ffmpeg program says of one of its video encoders.

    codec: FFmpeg's name of what it codes ("hevc"). pix_fmts: those it takes, in its own order;
    empty: it does not say. options: its own, without the dash.
    """

    codec: str
    pix_fmts: tuple[str, ...] = ()
    options: Mapping[str, EncoderOption] = field(default_factory=dict)


@functools.cache
def encoder_facts(program: str, name: str) -> EncoderFacts:
    """Of an encoder that ``encoders_of`` names."""
    listed = re.search(rf"^ V\S* {re.escape(name)} .*$", _said(program, "-encoders"), re.MULTILINE)
    codec = re.search(r"\(codec (\S+)\)$", listed.group(0)) if listed else None
    help_text = _said(program, "-h", f"encoder={name}")
    formats = re.search(r"Supported pixel formats: (.*)", help_text)
    return EncoderFacts(
        codec.group(1) if codec else name,
        tuple(formats.group(1).split()) if formats else (),
        _options(help_text),
    )


@functools.cache
def common_options(program: str) -> frozenset[str]:
    """Names of the options that FFmpeg has for every video encoder, without the dash."""
    section = _said(program, "-h", "full").partition("AVCodecContext AVOptions:")[2]
    lines = section.partition("\n\n")[0]
    return frozenset(re.findall(r"^  -(\w+) +<\w+> +E..V", lines, re.MULTILINE))


@functools.cache
def takes_hdr(program: str) -> bool:
    """Whether pictures may be given to it with HDR metadata (media.hdr); FFmpeg 9 has that."""
    return "\n-mastering_display" in _said(program, "-h", "long")


_OPTION = re.compile(r"^  -(\S+) +<\w+>")
_RANGE = re.compile(r"\(from (-?[\d.]+) to (-?[\d.]+)\)")
_VALUE = re.compile(r"^     (\S+) ")


def _options(help_text: str) -> dict[str, EncoderOption]:
    found: dict[str, EncoderOption] = {}
    name = ""
    for line in help_text.splitlines():
        if option := _OPTION.match(line):
            name = option.group(1)
            bounds = _RANGE.search(line)
            found[name] = (
                EncoderOption(frozenset(), float(bounds.group(1)), float(bounds.group(2)))
                if bounds
                else EncoderOption()
            )
        elif name and (value := _VALUE.match(line)):
            known = found[name]
            found[name] = EncoderOption(known.values | {value.group(1)}, known.least, known.most)
    return found


def _said(program: str, *arguments: str) -> str:
    """What a program that runs prints."""
    return subprocess.run(
        [program, "-hide_banner", *arguments], capture_output=True, text=True, timeout=60
    ).stdout
