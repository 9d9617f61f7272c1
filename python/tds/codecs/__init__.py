# SPDX-License-Identifier: LGPL-2.1-or-later
"""Encoder adapters: one stream, a list of settings, real bitstreams out.

``base`` says what an adapter is; each other module is one encoder. An adapter
includes nothing of the container or the plan: it gets pictures and gives files
whose packets can be demuxed.
"""

from __future__ import annotations

from ..errors import InputError
from .base import Codec, CodedSegment, Config, EncoderAdapter, StreamSettings
from .general import general_encoder
from .hm import HM
from .libsvtav1 import LibSVTAV1
from .libvvenc import LibVVenC
from .libx264 import LibX264
from .libx265 import LibX265
from .reference import ReferenceEncoder
from .vtm import VTM

ADAPTERS: dict[str, type[EncoderAdapter]] = {
    a.name: a for a in (LibVVenC, LibX265, LibX264, LibSVTAV1, VTM, HM)
}
DEFAULT = {
    Codec.VVC: LibVVenC,
    Codec.HEVC: LibX265,
    Codec.H264: LibX264,
    Codec.AV1: LibSVTAV1,
}
_ALIASES = {
    "x264": "libx264",
    "x265": "libx265",
    "vvenc": "libvvenc",
    "svtav1": "libsvtav1",
    "svt-av1": "libsvtav1",
    "aom": "libaom-av1",
    "libaom": "libaom-av1",
    "rav1e": "librav1e",
    "openh264": "libopenh264",
    "kvazaar": "libkvazaar",
}


def find_adapter(name: str) -> type[EncoderAdapter]:
    """The adapter that a person means: of ``ADAPTERS`` by name, or by what the encoder is called
    elsewhere ("x265"), the first of a codec ("hevc", "h265"), or any encoder of the ffmpeg
    program ("hevc_nvenc").

    Raises MissingError where there is no such encoder, InputError where it cannot code a pair."""
    name = name.strip().lower()
    name = _ALIASES.get(name, name)
    if name in ADAPTERS:
        return ADAPTERS[name]
    try:
        return DEFAULT[Codec(name)]
    except ValueError:
        pass
    if not name:
        raise InputError("the encoder has no name; leave --encoder out, or name one")
    return general_encoder(name)


__all__ = [
    "ADAPTERS",
    "DEFAULT",
    "HM",
    "VTM",
    "Codec",
    "CodedSegment",
    "Config",
    "EncoderAdapter",
    "LibSVTAV1",
    "LibVVenC",
    "LibX264",
    "LibX265",
    "ReferenceEncoder",
    "StreamSettings",
    "find_adapter",
]
