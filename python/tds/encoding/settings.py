# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a video is to be coded, checked before any of it is."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Unpack

from .._tds import lr_size
from ..codecs import (
    DEFAULT,
    Codec,
    Config,
    EncoderAdapter,
    ReferenceEncoder,
    StreamSettings,
    find_adapter,
)
from ..container.metadata import check_model
from ..errors import InputError, MissingError
from ..media.hdr import HDR
from ..media.pictures import SCENE_CUT, is_yuv
from ..media.planar import CHROMAS, chroma_name
from ..media.sources import VideoSource
from ..options import EncodeOptions
from ..plan import Boundaries, Plan, PlanSettings, Role

MODEL = "standard"
"""The model that a plan with a model is for, where none is named."""

EFFORTS = 5
"""What is tried at each: tries."""

OF_PAIRS = ("group", "boundaries", "scale", "lr_qp_offset")
"""Fields of EncodeSettings that say what Plan.TDS is."""

CHROMA_WORDS = ("auto", "source", *map(str, CHROMAS))

_TEXTS = ("encoder", "preset", "model", "model_sha256", "encoder_path", "encoder_cfg")
_OPTION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")
_LISTS = ("-params", "opts")  # ends of the names of FFmpeg's lists of a library's own options
_RATES = ("b", "bitrate", "targetbitrate")
_OWN = {"qp": "--qp", "crf": "--crf", "preset": "--preset"}  # which have a place in the settings


def _whole(name: str, value: Any) -> int:
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise InputError(f"{name} is a whole number, not {value!r}")


def _options(name: str, given: Any) -> tuple[tuple[str, str], ...]:
    """An encoder's options as (name, value). Raises InputError."""
    try:
        items = given.items() if isinstance(given, Mapping) else given
        pairs = tuple((str(key), str(value)) for key, value in items)
    except (TypeError, ValueError):
        raise InputError(
            f"{name} is a mapping of an encoder's options to their values, not {given!r}"
        ) from None
    for key, value in pairs:
        if not _OPTION_NAME.match(key) or "\0" in value:
            raise InputError(f"{name} is an option and its value, not {key!r} and {value!r}")
        _check_option(name, key)
        if key.lower().endswith(_LISTS):
            for entry in re.split("[:,]", value):
                option = entry.partition("=")[0].strip()
                if option.lower() != "b":  # B pictures, in some
                    _check_option(name, option)
    return pairs


def _check_option(name: str, key: str) -> None:
    if key.lower() in _RATES:
        raise InputError(
            f"the option {key} asks for a bit rate, and a pair is coded at a fixed QP (--qp) "
            "or at a constant rate factor (--crf), which --bitrate finds"
        )
    if key.lower() in _OWN:
        raise InputError(f"the option {key} is given by {_OWN[key.lower()]}, not by {name}")


@dataclass(frozen=True)
class EncodeSettings:
    """How to code a video.

    plan: Plan. codec, config: Codec (None: the encoder's, else VVC) and Config. qp: fixed QP of
    HR, or of the plain stream; LR has qp + lr_qp_offset. crf: constant rate factor to code with
    instead, LR with crf + lr_qp_offset; None: the QP counts. No LR is coarser than the encoder
    can. group: N, odd. boundaries: Boundaries. scale: k, 2 or 4; what LR adds to the QP and these
    three say what Plan.TDS is. encoder: any that the ffmpeg program has, by its name there or by
    those of codecs.find_adapter (None: the codec's default). preset: the encoder's own name
    (None: its default). encoder_options, hr_options, lr_options: the encoder's own options, for
    both streams and for one, as a mapping or pairs of names and values. intra_period: in RA,
    source frames after which both streams restart, at the next group. scene_cut: FFmpeg's scdet
    score, 0 to 100, from which on a new scene ends a group; 0: never. model: name of the
    enhancer, a hint in the metadata. encoder_path, encoder_cfg: program and configuration (each
    a file or its folder) of the encoders "vtm" and "hm". strength: of what the model may change
    of the pictures of a plan that asks for it, 0, 0.5 or 1; None: what measures best. effort: how
    much Plan.AUTO tries, 0 (nothing is measured) to 4. chroma: 420, 422 or 444, as text; "source":
    what the source has; "auto": that, but 4:2:0 of RGB and where the encoder codes nothing else.
    """

    codec: Codec = None  # type: ignore[assignment]  # never after __post_init__
    config: Config = Config.AI
    qp: int = 32
    group: int = 5
    boundaries: Boundaries = Boundaries.SHARED
    scale: int = 2
    lr_qp_offset: int = 3
    encoder: str | None = None
    preset: str | None = None
    intra_period: int = 64
    scene_cut: float = SCENE_CUT
    model: str | None = None
    model_sha256: str | None = None
    encoder_path: str | None = None
    encoder_cfg: str | None = None
    crf: float | None = None
    encoder_options: tuple[tuple[str, str], ...] = ()
    hr_options: tuple[tuple[str, str], ...] = ()
    lr_options: tuple[tuple[str, str], ...] = ()
    plan: Plan = Plan.AUTO
    strength: float | None = None
    effort: int = 2
    chroma: str = "auto"

    def __post_init__(self) -> None:
        """Enumerations may be given by value ("vvc"). Raises InputError for what cannot be."""
        for name in _TEXTS:
            text = getattr(self, name)
            if text is not None and not isinstance(text, str):
                raise InputError(f"{name} is text, not {text!r}")
        if self.codec is None:
            codec = Codec.VVC if self.encoder is None else find_adapter(self.encoder).codec
            object.__setattr__(self, "codec", codec)
        for name in ("encoder_options", "hr_options", "lr_options"):
            object.__setattr__(self, name, _options(name, getattr(self, name)))
        kinds = {"codec": Codec, "config": Config, "boundaries": Boundaries, "plan": Plan}
        for name, kind in kinds.items():
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, kind(value))
            except ValueError:
                known = ", ".join(str(k.value) for k in kind)
                raise InputError(f"no {name} {value!r}; there are {known}") from None
        for name in ("qp", "lr_qp_offset", "group", "scale", "intra_period", "effort"):
            object.__setattr__(self, name, _whole(name, getattr(self, name)))
        if str(self.chroma) not in CHROMA_WORDS:
            raise InputError(f"no chroma {self.chroma!r}; there are {', '.join(CHROMA_WORDS)}")
        object.__setattr__(self, "chroma", str(self.chroma))
        score = self.scene_cut
        if isinstance(score, bool) or not isinstance(score, Real):
            raise InputError(f"scene_cut is a number, not {score!r}")
        crf = self.crf
        if crf is not None and (isinstance(crf, bool) or not isinstance(crf, Real)):
            raise InputError(f"crf is a number, not {crf!r}")
        try:
            check_model(self.model, self.model_sha256)
        except ValueError as e:
            raise InputError(str(e)) from None
        if self.scale not in (2, 4):
            raise InputError(f"a scale is 2 or 4, not {self.scale}")
        if self.intra_period < 1:
            raise InputError("an intra period is 1 frame or more")
        if not 0 <= self.effort < EFFORTS:
            raise InputError(f"an effort is 0 to {EFFORTS - 1}, not {self.effort}")
        if self.strength not in (None, 0, 0.5, 1):
            raise InputError(f"a strength is 0, 0.5 or 1, not {self.strength!r}")
        if self.strength is not None and self.plan in (Plan.TDS, Plan.PLAIN):
            raise InputError(
                f"a strength is of plans whose pictures are made better, not of {self.plan.value}"
            )
        if not 0 <= score <= 100:
            raise InputError(f"a scene score is 0 to 100, not {score:g}")

    def adapter(self) -> type[EncoderAdapter]:
        adapter = DEFAULT[self.codec] if self.encoder is None else find_adapter(self.encoder)
        if adapter.codec is not self.codec:
            raise InputError(
                f"{adapter.name} codes {adapter.codec.value}, not {self.codec.value}; "
                f"leave --encoder out or give --codec {adapter.codec.value}"
            )
        given = self.encoder_options + self.hr_options + self.lr_options
        if given and not adapter.takes_options:
            raise InputError(
                f"{adapter.name} is told by its configuration, which --encoder-cfg names; leave "
                f"the option {given[0][0]} out"
            )
        if self.encoder_path is not None or self.encoder_cfg is not None:
            if not issubclass(adapter, ReferenceEncoder):
                raise InputError(
                    f"{adapter.name} has no program or configuration to name; only the encoders "
                    "vtm and hm take --encoder-path and --encoder-cfg"
                )
            return adapter.configured(self.encoder_path, self.encoder_cfg)
        return adapter

    def chroma_of(self, video: VideoSource) -> tuple[int, str]:
        """(420, 422 or 444, as which to code a video; in a sentence, what is lost by that).

        Raises InputError where the encoder does not code what is asked for."""
        adapter, own = self.adapter(), video.own_chroma
        wanted = int(self.chroma) if self.chroma.isdigit() else own
        if self.chroma == "auto" and not is_yuv(video.pix_fmt):
            wanted = 420
        if wanted == 420 or wanted in adapter.chromas(video.bit_depth):
            return wanted, ""
        known = [find_adapter(codec.value) for codec in DEFAULT]
        others = [a.name for a in known if wanted in _chromas(a, video.bit_depth)]
        way = f"; --encoder {' or '.join(others)} codes it as it is" if others else ""
        name = chroma_name(wanted)
        if self.chroma != "auto":
            raise InputError(
                f"{adapter.name} codes no {video.bit_depth} bit {name}{way}, and --chroma 420 "
                "makes 4:2:0 of it"
            )
        return 420, (
            f"{video.path} is {name} and {adapter.name} codes none of {video.bit_depth} bit: it is "
            f"coded as 4:2:0{way}"
        )

    @property
    def measures(self) -> bool:
        """Whether candidates are measured to choose among them."""
        if self.plan is Plan.AUTO:
            return self.effort > 0
        return self.plan is Plan.PLAIN_ENHANCED and self.strength is None

    @property
    def lr_qp(self) -> int:
        """Fixed QP of LR, which is none that the encoder has not."""
        return min(self.qp + self.lr_qp_offset, self.adapter().qp_range()[1])

    def groups(self) -> PlanSettings:
        restart = self.intra_period if self.config is Config.RA else 0
        return PlanSettings(self.group, self.boundaries, restart)

    def stream(self, source: VideoSource, role: Role | None) -> StreamSettings:
        """Of HR, of LR, or (None) of the plain full-size stream."""
        adapter = self.adapter()
        lr = role is Role.LR
        width, height = source.width, source.height
        crf, bounds = self.crf, adapter.crf_range()
        if lr and crf is not None and bounds is not None:
            crf = min(crf + self.lr_qp_offset, bounds[1])
        if lr:
            width, height = lr_size(width, self.scale), lr_size(height, self.scale)
        if min(width, height) < adapter.least_side:
            what = f"the LR stream of k = {self.scale}" if lr else "the full-size stream"
            # The least size whose lr_size is that.
            least = {k: k * (adapter.least_side - 2) + 2 for k in (1, 2, self.scale)}
            raise InputError(
                f"{source.path}: {what} would be {width}x{height}, and {adapter.name} codes no "
                f"side shorter than {adapter.least_side}; the source needs "
                f"{least[self.scale if lr else 1]} or more a side"
                + (f" ({least[2]} with --scale 2)" if lr and self.scale > 2 else "")
            )
        settings = StreamSettings(
            width=width,
            height=height,
            bit_depth=source.bit_depth,
            chroma=source.chroma,
            rate=source.rate,
            config=self.config,
            qp=self.lr_qp if lr else self.qp,
            preset=self.preset or adapter.default_preset,
            # Segments restart the stream; the encoder's own refresh must not add to them.
            period=16 * max(64, self.intra_period),
            colors=source.colors,
            sample_aspect_ratio=source.sample_aspect_ratio,
            crf=crf,
            options=self.encoder_options + (self.lr_options if lr else self.hr_options),
            hdr=source.hdr if adapter.takes_hdr() else HDR(),
        )
        adapter.check(settings)
        return settings


def _chromas(adapter: type[EncoderAdapter], bit_depth: int) -> frozenset[int]:
    """Of an encoder that may not be there."""
    try:
        return adapter.chromas(bit_depth)
    except MissingError:
        return frozenset()


def make_settings(
    settings: EncodeSettings | None = None, **options: Unpack[EncodeOptions]
) -> EncodeSettings:
    """Settings or their fields as keywords, checked together, with the model's hash."""
    if settings is not None and options:
        raise TypeError("give settings or keywords, not both")
    if settings is None:
        of_pairs = [name for name in OF_PAIRS if name in options]
        if of_pairs and Plan(options.setdefault("plan", Plan.TDS)) is not Plan.TDS:
            option = "--" + of_pairs[0].replace("_", "-")
            raise InputError(
                f"{option} says what a pair is like and so is of --plan tds; leave it or --plan out"
            )
        # Its fields are enumerations, and it makes them of their values.
        settings = EncodeSettings(**options)  # type: ignore[arg-type]
    settings.groups()
    settings.adapter()
    return with_model(settings)


def with_model(settings: EncodeSettings) -> EncodeSettings:
    """With the hash of the model that is named, and the model that the plan cannot do without. What
    is measured finds its own."""
    if settings.plan is Plan.AUTO or settings.measures:
        return settings
    if settings.plan is Plan.PLAIN:
        if settings.model is not None:
            raise InputError(
                "--plan plain asks for no model; leave --model out, or give --plan plain-enhanced"
            )
        return settings
    scale = settings.scale if settings.plan is Plan.TDS else 1
    name = settings.model or (None if settings.plan is Plan.TDS else MODEL)
    if name is None or (settings.model is not None and settings.model_sha256 is not None):
        return settings
    from .. import models

    for installed in models.available(scale):
        if installed.name == name:
            return replace(settings, model=name, model_sha256=installed.sha256)
    raise MissingError(
        f"no model {name!r} for k = {scale} is installed, so its hash is not known; name another"
        + (", or leave --model out" if settings.model is not None else " with --model")
    )
