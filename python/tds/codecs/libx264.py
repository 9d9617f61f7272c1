# SPDX-License-Identifier: LGPL-2.1-or-later
"""H.264 by x264, through FFmpeg's libx264."""

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
    params_option: ClassVar[str] = "-x264-params"

    @classmethod
    def crf_range(cls) -> tuple[float, float] | None:
        return 0, 51

    @classmethod
    def codec_arguments(cls, settings: StreamSettings) -> list[str]:
        s = settings
        structure = {
            Config.AI: "keyint=1",
            Config.LDP: "bframes=0:keyint=infinite:ref=4",
            # Its own 3 B pictures: between more, which x264 codes in two levels only, it loses.
            Config.RA: f"bframes=3:b-pyramid=normal:keyint={s.period}:open-gop=1",
        }[s.config]
        if s.crf is not None:  # with all that x264 adapts by itself
            params = f"crf={s.crf:g}:scenecut=0:{structure}"
        else:
            # x264's own offsets of I and B pictures (ipratio 1.4, pbratio 1.3) stay: flat QPs
            # would make the anchor worse than what people code. In AI every QP is the one asked.
            flat = ":ipratio=1" if s.config is Config.AI else ""
            params = f"qp={s.qp}:aq-mode=0:mbtree=0:scenecut=0:{structure}{flat}"
        return ["-c:v", cls.name, "-preset", s.preset, cls.params_option, params]
