# SPDX-License-Identifier: LGPL-2.1-or-later
"""AV1 by SVT-AV1, through FFmpeg's libsvtav1."""

from __future__ import annotations

from typing import ClassVar

from .base import Codec, Config, StreamSettings
from .ffmpeg_program import FFmpegEncoder


class LibSVTAV1(FFmpegEncoder):
    name: ClassVar[str] = "libsvtav1"
    codec: ClassVar[Codec] = Codec.AV1
    presets: ClassVar[tuple[str, ...]] = tuple(str(preset) for preset in range(14))
    default_preset: ClassVar[str] = "8"
    stands_alone: ClassVar[bool] = True
    params_option: ClassVar[str] = "-svtav1-params"

    @classmethod
    def qp_range(cls) -> tuple[int, int]:
        return 1, 63  # FFmpeg takes 0 for none given

    @classmethod
    def crf_range(cls) -> tuple[float, float] | None:
        return 1, 63

    @classmethod
    def codec_arguments(cls, settings: StreamSettings) -> list[str]:
        s = settings
        rate = ["-crf", f"{s.crf:g}"] if s.crf is not None else ["-qp", str(s.qp)]
        # Low delay by its prediction structure, without pictures that are coded ahead and hidden.
        structure = {
            Config.AI: ["-g", "1"],
            Config.LDP: ["-g", str(1 << 20), cls.params_option, "pred-struct=1"],
            Config.RA: ["-g", str(s.period)],
        }[s.config]
        return ["-c:v", cls.name, "-preset", s.preset, *rate, *structure]
