# SPDX-License-Identifier: LGPL-2.1-or-later
"""Encoder adapters: one stream, a list of settings, real bitstreams out.

``base`` says what an adapter is; each other module is one encoder. An adapter
includes nothing of the container or the plan: it gets pictures and gives files
whose packets can be demuxed.
"""

from __future__ import annotations

from .base import Codec, CodedSegment, Config, EncoderAdapter, StreamSettings
from .libvvenc import LibVVenC
from .libx265 import LibX265

ADAPTERS: dict[str, type[EncoderAdapter]] = {a.name: a for a in (LibVVenC, LibX265)}
DEFAULT = {Codec.VVC: LibVVenC, Codec.HEVC: LibX265}

__all__ = [
    "ADAPTERS",
    "DEFAULT",
    "Codec",
    "CodedSegment",
    "Config",
    "EncoderAdapter",
    "LibVVenC",
    "LibX265",
    "StreamSettings",
]
