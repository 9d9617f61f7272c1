# SPDX-License-Identifier: LGPL-2.1-or-later
"""HEVC by x265, through FFmpeg's libx265."""

from __future__ import annotations

from typing import ClassVar

from .base import Codec, Config, StreamSettings
from .ffmpeg_program import FFmpegEncoder

# With keyint=1 x265 says that its stream is of the profile Main Intra (or Main 10 Intra) of the
# range extensions, which many decoders in hardware refuse, though nothing in it is beyond Main.
# Told of a longer period, and each picture that it is an IDR picture, it codes the same pictures
# bit for bit and says Main or Main 10. The rest is what x265 sets by itself for keyint=1.
_INTRA = "keyint=2:min-keyint=1:open-gop=0:bframes=0:ref=1:cutree=0:rc-lookahead=0"


class LibX265(FFmpegEncoder):
    name: ClassVar[str] = "libx265"
    codec: ClassVar[Codec] = Codec.HEVC
    presets: ClassVar[tuple[str, ...]] = (
        *("ultrafast", "superfast", "veryfast", "faster", "fast"),
        *("medium", "slow", "slower", "veryslow", "placebo"),
    )
    default_preset: ClassVar[str] = "medium"
    least_side: ClassVar[int] = 16
    stands_alone: ClassVar[bool] = True
    params_option: ClassVar[str] = "-x265-params"

    @classmethod
    def crf_range(cls) -> tuple[float, float] | None:
        return 0, 51

    @classmethod
    def codec_arguments(cls, settings: StreamSettings) -> list[str]:
        s = settings
        # x265's own offsets between frame types, as every user of it has them: an I picture is
        # coded 2.9 QPs finer than a P picture and a B picture 2.3 coarser. Flat ones would make
        # a plain stream to compare with that costs 12 % more (RA; 4 % in LDP) than it need.
        offsets = "ipratio=1.4:pbratio=1.3"
        structure = {
            Config.AI: _INTRA if s.crf is not None else f"{_INTRA}:ipratio=1",
            Config.LDP: f"bframes=0:keyint=-1:ref=4:{offsets}",
            # The fastest presets look ahead less than the B pictures need.
            Config.RA: f"bframes=7:b-adapt=0:b-pyramid=1:keyint={s.period}:open-gop=1:"
            f"{offsets}:rc-lookahead=20",
        }[s.config]
        # With a CRF, x265 adapts as it does for everybody.
        rate = f"crf={s.crf:g}" if s.crf is not None else f"qp={s.qp}:aq-mode=0:cutree=0"
        # info=0: no SEI of settings, so that the segments of a stream have equal headers.
        params = f"{rate}:scenecut=0:info=0:log-level=warning:{structure}"
        intra = ("-force_key_frames", "expr:1", "-forced-idr", "1")
        return [
            *("-c:v", cls.name, "-preset", s.preset, cls.params_option, params),
            *(intra if s.config is Config.AI else ()),
            # Parameter sets in the sample entry, which players on Apple systems want.
            *("-tag:v", "hvc1"),
        ]
