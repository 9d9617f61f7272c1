# SPDX-License-Identifier: LGPL-2.1-or-later
"""VVC by the reference encoder, VTM (EncoderApp)."""

from __future__ import annotations

from typing import ClassVar

from .base import Codec, Config, StreamSettings
from .reference import ReferenceEncoder


class VTM(ReferenceEncoder):
    name: ClassVar[str] = "vtm"
    codec: ClassVar[Codec] = Codec.VVC
    programs: ClassVar[tuple[str, ...]] = ("EncoderApp", "EncoderAppStatic")
    variable: ClassVar[str] = "TDS_VTM_BIN"
    suffix: ClassVar[str] = ".266"

    @classmethod
    def cfg_name(cls, settings: StreamSettings) -> str:
        return {
            Config.AI: "encoder_intra_vtm.cfg",
            Config.LDP: "encoder_lowdelay_P_vtm.cfg",
            Config.RA: "encoder_randomaccess_vtm.cfg",
        }[settings.config]

    @classmethod
    def _overrides(cls, s: StreamSettings, frames: int) -> dict[str, str]:
        # The common conditions set a level per sequence; without one VTM refuses to start.
        return {**super()._overrides(s, frames), "Level": "6.2"}
