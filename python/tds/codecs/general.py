# SPDX-License-Identifier: LGPL-2.1-or-later
"""Any other video encoder of an ffmpeg program, by what the program says of it.

Nothing is known of such an encoder beforehand. It is tried with one picture before any work,
and every segment it codes is checked (FFmpegEncoder): as many packets as pictures, a
random-access point first, in all-intra nothing else, in low delay no picture out of order.
"""

from __future__ import annotations

import functools
from typing import ClassVar

from ..errors import InputError, MissingError
from ..media.planar import chroma_name, depth_of
from ..media.programs import EncoderFacts, encoder_facts, find_ffmpeg
from .base import Codec, Config, StreamSettings
from .ffmpeg_program import FFmpegEncoder

_NEVER = 1 << 20  # frames; no encoder knows "never", and segments are shorter
_CRF = ("crf", "cq")  # options that are a constant rate factor
_PARAMS_QP = ("libkvazaar",)  # whose QP stands in the list of its own options
_BOUNDED = ("libopenh264",)  # which holds to its least and greatest QP, and has no other
_COMMAS = ("libkvazaar",)  # which separates that list by commas


class GeneralEncoder(FFmpegEncoder):
    """An encoder by FFmpeg's name for it."""

    presets: ClassVar[tuple[str, ...]] = ()
    default_preset: ClassVar[str] = ""  # its own
    tried: ClassVar[bool] = True

    @classmethod
    def facts(cls) -> EncoderFacts:
        return encoder_facts(find_ffmpeg(cls.name), cls.name)

    @classmethod
    def check_preset(cls, preset: str) -> None:
        # Range and words of presets are the encoder's own, which the trial asks.
        if preset and "preset" not in cls.facts().options:
            raise InputError(
                f"{cls.name} has no presets; leave --preset out, and give its own options with "
                f"--encoder-option (ffmpeg -h encoder={cls.name} lists them)"
            )

    @classmethod
    def qp_range(cls) -> tuple[int, int]:
        way = cls._fixed_qp()
        known = cls.facts().options.get(way[0]) if way else None
        least = max(0, known.least) if known else 0
        most = min(255, known.most) if known else cls.codec.max_qp
        return int(least), int(most)

    @classmethod
    def crf_range(cls) -> tuple[float, float] | None:
        options = cls.facts().options
        for name in _CRF:
            if name in options:
                return max(0, options[name].least), min(255, options[name].most)
        return None

    @classmethod
    def _fixed_qp(cls) -> tuple[str, ...]:
        """The options that take the QP; none: it has no fixed one."""
        options = cls.facts().options
        if cls.name.endswith("_qsv"):
            return ("q",)
        if "qp_i" in options:
            return tuple(name for name in ("qp_i", "qp_p", "qp_b") if name in options)
        return ("qp",) if "qp" in options else ()

    @classmethod
    def _rate(cls, settings: StreamSettings) -> list[str]:
        options = cls.facts().options
        if settings.crf is not None:
            name = next(name for name in _CRF if name in options)
            mode = ["-rc", "vbr", "-b:v", "0"] if name == "cq" else []
            return [*mode, f"-{name}", f"{settings.crf:g}"]
        if cls.name in _PARAMS_QP:
            return [cls.params_option, f"qp={settings.qp}"]
        if cls.name in _BOUNDED:
            bounds = ("-qmin", str(settings.qp), "-qmax", str(settings.qp))
            return ["-rc_mode", "quality", *bounds]
        names = cls._fixed_qp()
        if not names:
            way = "give --crf" if cls.crf_range() else "name another encoder"
            raise InputError(f"{cls.name} has no fixed QP that FFmpeg can set; {way}")
        modes = options["rc"].values if "rc" in options else frozenset()
        mode = next((["-rc", word] for word in ("constqp", "cqp") if word in modes), [])
        # NVENC and Quick Sync code intra pictures at 0.8 of the QP unless told otherwise; in AI
        # every QP is the one asked.
        flat = ["-i_qfactor:v", "1"] if settings.config is Config.AI else []
        qps = [word for name in names for word in (f"-{name}:v", str(settings.qp))]
        return [*mode, *qps, *flat]

    @classmethod
    def input_pix_fmt(cls, settings: StreamSettings) -> str:
        known = cls.facts().pix_fmts
        wanted = [settings.pix_fmt]
        if settings.chroma == 420:
            wanted.append("nv12" if settings.bit_depth == 8 else "p010le")
        for form in wanted:
            if not known or form in known:
                return form
        if all(depth_of(form) == 0 for form in known):
            raise InputError(
                f"{cls.name} takes pictures of a device's memory alone ({', '.join(known)}), which "
                "tds encode does not put them into; name another encoder"
            )
        raise InputError(
            f"{cls.name} codes no {settings.bit_depth} bit {chroma_name(settings.chroma)} (it "
            f"takes {', '.join(known)}); name another encoder"
        )

    @classmethod
    def codec_arguments(cls, settings: StreamSettings) -> list[str]:
        preset = ["-preset", settings.preset] if settings.preset else []
        return [
            *("-c:v", cls.name, *preset),
            *cls._rate(settings),
            *cls.structure(settings),
            # Parameter sets in the sample entry, which players on Apple systems want.
            *(("-tag:v", "hvc1") if cls.codec is Codec.HEVC else ()),
        ]

    @classmethod
    def structure(cls, settings: StreamSettings) -> list[str]:
        """The arguments for the configuration."""
        return {
            Config.AI: ["-g", "1", "-bf", "0"],
            Config.LDP: ["-g", str(_NEVER), "-bf", "0"],
            Config.RA: ["-g", str(settings.period)],
        }[settings.config]


@functools.cache
def general_encoder(name: str) -> type[GeneralEncoder]:
    """The adapter of an encoder by FFmpeg's name. Raises MissingError where no ffmpeg program
    at hand has it, InputError for one that codes nothing that a pair can be."""
    try:
        facts = encoder_facts(find_ffmpeg(name), name)
    except MissingError:
        find_ffmpeg()  # which says what to do where there is none at all
        raise MissingError(
            f"no ffmpeg program at hand has a video encoder {name!r}; ffmpeg -encoders lists those "
            "it has, and TDS_FFMPEG names another program"
        ) from None
    try:
        codec = Codec(facts.codec)
    except ValueError:
        known = ", ".join(codec.value for codec in Codec)
        raise InputError(
            f"{name} codes {facts.codec}, and the streams of a pair are one of {known}"
        ) from None
    params = (key for key in facts.options if key.endswith(("-params", "_params")))
    return type(
        name,
        (GeneralEncoder,),
        {
            "name": name,
            "codec": codec,
            "params_option": next((f"-{key}" for key in params), ""),
            "params_separator": "," if name in _COMMAS else ":",
        },
    )
