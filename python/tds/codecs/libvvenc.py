# SPDX-License-Identifier: LGPL-2.1-or-later
"""VVC by Fraunhofer's VVenC, through FFmpeg's libvvenc."""

from __future__ import annotations

from typing import ClassVar

from ..media.hdr import PQ
from .base import Codec, Config, StreamSettings
from .ffmpeg_program import FFmpegEncoder

# A fixed QP with no adaptation of any kind, and IDR pictures that really start a
# stream (VVenC begins with leading pictures otherwise).
_FIXED_QP = "qpa=0:gopqpa=0:bim=0:sta=0:lookahead=0:poc0idr=1"


def _low_delay_p() -> str:
    """VTM's encoder_lowdelay_P_vtm.cfg as VVenC's GOP entries.

    VVenC's own low delay has B pictures only; P pictures need an entry for each
    of the 8 in a GOP: type, POC, QP offset, QP model offset and scale, six loop
    filter offsets and chroma QPs, temporal id, reference pictures.
    """
    offsets = (5, 4, 5, 4, 5, 4, 5, 1)
    entries = []
    for i, qp in enumerate(offsets, 1):
        model = "0.0 0.0" if i == 8 else "-6.5 0.2590"
        # The picture before, and the last three that begin or end a GOP.
        references = "1 9 17 25" if i == 1 else f"1 {i} {i + 8} {i + 16}"
        entries.append(f"frame{i}=P {i} {qp} {model} 0 0 1.0 0 0 0 0 0 0 0 4 4 {references} 0 0")
    return (
        "intraperiod=-1:gopsize=8:picreordering=0:decodingrefreshtype=none:"
        "mctffuturereference=0:" + ":".join(entries)
    )


class LibVVenC(FFmpegEncoder):
    name: ClassVar[str] = "libvvenc"
    codec: ClassVar[Codec] = Codec.VVC
    presets: ClassVar[tuple[str, ...]] = ("faster", "fast", "medium", "slow", "slower")
    default_preset: ClassVar[str] = "fast"
    # Of smaller pictures it codes some and fails at others, by what is in them.
    least_side: ClassVar[int] = 16
    stands_alone: ClassVar[bool] = True
    params_option: ClassVar[str] = "-vvenc-params"
    # VVenC with frames in parallel keeps its first 4 access units back. If the input ends just
    # then, it may answer the first flush with none (EncLib::encodePicture, 1.15), which FFmpeg
    # takes for the end: exit status 0 and not a packet, for some lengths (15 and 16 in LDP) at
    # every run, for others by chance. Without frames in parallel nothing is kept back, and the
    # stream is the same bit for bit. It holds fewer pictures than this inside, so only runs
    # this short can be hit.
    kept_pictures: ClassVar[int] = 48

    @classmethod
    def input_pix_fmt(cls, settings: StreamSettings) -> str:
        return "yuv420p10le"  # the only one it takes; 8 bits inside by internalbitdepth

    @classmethod
    def codec_arguments(cls, settings: StreamSettings) -> list[str]:
        return cls._arguments(settings, "")

    @classmethod
    def again_arguments(cls, settings: StreamSettings) -> list[str]:
        return cls._arguments(settings, ":maxparallelframes=0")

    @classmethod
    def _arguments(cls, settings: StreamSettings, more: str) -> list[str]:
        structure = {
            # VVenC lowers intra QPs by 3 unless told otherwise, also in AI.
            # Its own CRA pictures count on: a stream of some of them, and some of the next
            # run, would go back. These cost the same bits.
            Config.AI: "intraperiod=1:gopsize=1:intraqpoffset=0:decodingrefreshtype=idr_no_radl",
            Config.LDP: _low_delay_p(),
            Config.RA: f"intraperiod={_ra_period(settings.period)}:gopsize=16:"
            "decodingrefreshtype=cra",
        }[settings.config]
        hdr = settings.hdr
        # FFmpeg tells it nothing of these, and they make it say PQ, whatever the tags are.
        if settings.colors.transfer == PQ:
            display = ",".join(map(str, hdr.display or ()))
            said = (
                ("MasteringDisplayColourVolume", display),
                ("MaxContentLightLevel", hdr.light_text),
            )
            more += "".join(f":{key}={text}" for key, text in said if text)
        params = f"{_FIXED_QP}:internalbitdepth={settings.bit_depth}:{structure}{more}"
        return [
            *("-c:v", cls.name, "-preset", settings.preset, "-qp", str(settings.qp), "-qpa", "0"),
            *(cls.params_option, params),
        ]


def _ra_period(period: int) -> int:
    return max(16, period // 16 * 16)  # a multiple of the GOP size
