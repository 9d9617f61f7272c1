# SPDX-License-Identifier: LGPL-2.1-or-later
"""Encoder adapters: one stream, a list of settings, real bitstreams out.

``base`` says what an adapter is; each other module is one encoder. An adapter
includes nothing of the container or the plan: it gets pictures and gives files
whose packets can be demuxed.
"""

from __future__ import annotations

from .base import PAIRED, Codec, CodedSegment, Config, EncoderAdapter, StreamSettings
from .hm import HM
from .libvvenc import LibVVenC
from .libx264 import LibX264
from .libx265 import LibX265
from .reference import ReferenceEncoder
from .vtm import VTM

ADAPTERS: dict[str, type[EncoderAdapter]] = {
    a.name: a for a in (LibVVenC, LibX265, LibX264, VTM, HM)
}
DEFAULT = {Codec.VVC: LibVVenC, Codec.HEVC: LibX265, Codec.H264: LibX264}

__all__ = [
    "ADAPTERS",
    "DEFAULT",
    "HM",
    "PAIRED",
    "VTM",
    "Codec",
    "CodedSegment",
    "Config",
    "EncoderAdapter",
    "LibVVenC",
    "LibX264",
    "LibX265",
    "ReferenceEncoder",
    "StreamSettings",
]
