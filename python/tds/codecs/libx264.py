# SPDX-License-Identifier: LGPL-2.1-or-later
"""H.264 by x264, through FFmpeg's libx264: plain streams only, pairs are VVC or HEVC."""

from __future__ import annotations

from typing import ClassVar

from .base import Codec, Config, StreamSettings
from .ffmpeg_program import FFmpegEncoder


class LibX264(FFmpegEncoder):
    name: ClassVar[str] = "libx264"
    codec: ClassVar[Codec] = Codec.H264
    presets: ClassVar[tuple[str, ...]] = (
        *("ultrafast", "superfast", "veryfast", "faster", "fast"),
        *("medium", "slow", "slower", "veryslow", "placebo"),
    )
    default_preset: ClassVar[str] = "medium"

    @classmethod
    def input_pix_fmt(cls, settings: StreamSettings) -> str:
        return settings.pix_fmt

    @classmethod
    def codec_arguments(cls, settings: StreamSettings) -> list[str]:
        # Elsewhere x264's own offsets of I and B pictures (ipratio 1.4, pbratio 1.3) stay: flat
        # QPs would make the anchor worse than what people code. In AI every QP is the one asked.
        structure = {
            Config.AI: "keyint=1:ipratio=1",
            Config.LDP: "bframes=0:keyint=infinite:ref=4",
            # Its own 3 B pictures: between more, which x264 codes in two levels only, it loses.
            Config.RA: f"bframes=3:b-pyramid=normal:keyint={settings.period}:open-gop=1",
        }[settings.config]
        params = f"qp={settings.qp}:aq-mode=0:mbtree=0:scenecut=0:{structure}"
        return ["-c:v", cls.name, "-preset", settings.preset, "-x264-params", params]
