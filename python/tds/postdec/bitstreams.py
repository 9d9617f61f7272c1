# SPDX-License-Identifier: LGPL-2.1-or-later
"""What FFmpeg finds in a bitstream, for decoders whose output does not say it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from ..errors import InputError
from ..media.sources import VideoSource
from .streams import Format


@dataclass(frozen=True)
class Seen:
    """format: of its pictures. rate: frames a second. codec: by FFmpeg's name, as in vvc."""

    format: Format
    rate: Fraction
    codec: str


def look(path: str) -> Seen | None:
    """None where FFmpeg makes nothing of it: it need not know all that another decoder does."""
    try:
        with VideoSource(path) as source:
            codec = source.container.streams[source.index].codec_context.name
            format = Format(source.width, source.height, source.bit_depth)
            return Seen(format, source.rate, codec)
    except InputError:
        return None
