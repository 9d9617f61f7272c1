# SPDX-License-Identifier: LGPL-2.1-or-later
"""HEVC by the reference encoder, HM (TAppEncoder)."""

from __future__ import annotations

from typing import ClassVar

from .base import Codec, Config, StreamSettings
from .reference import ReferenceEncoder


class HM(ReferenceEncoder):
    name: ClassVar[str] = "hm"
    codec: ClassVar[Codec] = Codec.HEVC
    programs: ClassVar[tuple[str, ...]] = ("TAppEncoder", "TAppEncoderStatic")
    variable: ClassVar[str] = "TDS_HM_BIN"
    suffix: ClassVar[str] = ".265"

    @classmethod
    def cfg_name(cls, settings: StreamSettings) -> str:
        structure = {
            Config.AI: "intra",
            Config.LDP: "lowdelay_P",
            Config.RA: "randomaccess",
        }[settings.config]
        profile = "main" if settings.bit_depth == 8 else "main10"
        return f"encoder_{structure}_{profile}.cfg"
