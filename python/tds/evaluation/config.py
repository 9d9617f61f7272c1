# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an evaluation runs: a YAML file, checked whole before any work is done.

Reference of the keys: docs/evaluation.md, made of what stands here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic.dataclasses import dataclass

from .. import configuration
from ..codecs import ADAPTERS, DEFAULT, Codec, Config, EncoderAdapter
from ..configuration import STRICT
from ..errors import InputError
from ..media.pictures import SCENE_CUT
from ..media.sources import check_even, parse_size
from ..plan import Boundaries, PlanSettings

TDS, LR_ONLY, PLAIN = "tds", "lr-only", "plain"
Kind = Literal["tds", "lr-only", "plain"]
BASELINES = ("bicubic", "lanczos")
PASSED = "none"
"""Name of the baseline at k = 1: the plain stream as it is, through the engine."""
ALL_MODELS = "all"


@dataclass(frozen=True, config=STRICT)
class Coding:
    """A codec as it is run."""

    codec: Annotated[Codec, Field(description="the standard")]
    encoder: Annotated[
        str,
        Field(
            description="an adapter of that codec, as `tds encode --encoder` has them",
            json_schema_extra={"default_words": "the codec's first"},
        ),
    ] = ""
    preset: Annotated[
        str,
        Field(
            description="one of the encoder's own",
            json_schema_extra={"default_words": "the encoder's"},
        ),
    ] = ""

    def __post_init__(self) -> None:
        name = self.encoder or DEFAULT[self.codec].name
        adapter = ADAPTERS.get(name)
        if adapter is None or adapter.codec is not self.codec:
            known = ", ".join(a.name for a in ADAPTERS.values() if a.codec is self.codec)
            raise InputError(f"no {self.codec.value} encoder {name!r}; there are {known}")
        preset = self.preset or adapter.default_preset
        if preset not in adapter.presets:
            raise InputError(
                f"{name} has no preset {preset!r}; it has {', '.join(adapter.presets)}"
            )
        object.__setattr__(self, "encoder", name)
        object.__setattr__(self, "preset", preset)

    @property
    def adapter(self) -> type[EncoderAdapter]:
        return ADAPTERS[self.encoder]

    @property
    def label(self) -> str:
        return f"{self.codec.value.upper()} ({self.encoder} {self.preset})"


@dataclass(frozen=True, config=STRICT)
class Plan:
    """How the frames are divided and down-sampled."""

    kind: Annotated[
        Kind,
        Field(
            description="`tds`: HR and LR frames by groups; `lr-only`: every frame is LR and there "
            "is no HR stream; `plain`: one plain full-size stream, all enhanced by the models "
            "for k = 1"
        ),
    ] = "tds"
    group: Annotated[int, Field(ge=3, le=65, description="N, odd: frames of a group")] = 5
    boundaries: Annotated[
        Boundaries,
        Field(description="whether each group has both its own boundaries (`independent`)"),
    ] = Boundaries.INDEPENDENT
    scale: Annotated[
        int,
        Field(
            ge=1,
            le=4,
            description="k of LR against HR, 2 or 4",
            json_schema_extra={"default_words": "`2`; `plain`: `1`"},
        ),
    ] = 0
    base_scale: Annotated[
        int,
        Field(
            ge=1,
            le=2,
            description="2: HR is down-sampled too, and all is brought to full size by bicubic at "
            "the end (the paper's Table 4)",
        ),
    ] = 1
    lr_qp_offset: Annotated[
        int, Field(ge=-63, le=63, description="added to the QP for the LR stream")
    ] = 0
    refine_hr: Annotated[
        bool,
        Field(description="of `tds`: a model's own for k = 1 enhances the HR frames first"),
    ] = False
    name: Annotated[
        str,
        Field(
            description="of the plan in the report",
            json_schema_extra={"default_words": "made of the others"},
        ),
    ] = ""

    def __post_init__(self) -> None:
        plain = self.kind == PLAIN
        if self.scale == 0:
            object.__setattr__(self, "scale", 1 if plain else 2)
        self.settings(0)  # checks the group
        if plain and (self.scale, self.base_scale, self.lr_qp_offset) != (1, 1, 0):
            raise InputError("plain has one stream, so no scale, base_scale or lr_qp_offset")
        if not plain and self.scale not in (2, 4):
            raise InputError(f"scale is 2 or 4 (1 is the kind plain), not {self.scale}")
        if self.base_scale * self.scale > 4:
            raise InputError("base_scale times scale is 4 at most")
        if self.kind == LR_ONLY and self.base_scale != 1:
            raise InputError("lr-only has no HR stream, so no base_scale")
        if self.refine_hr and self.kind != TDS:
            raise InputError(f"refine_hr is of HR frames in a pair, not of {self.kind}")

    @property
    def label(self) -> str:
        if self.name:
            return self.name
        if self.kind == PLAIN:
            return "plain"
        parts = [f"LR only, k={self.scale}"]
        if self.kind == TDS:
            parts = [f"N={self.group} {self.boundaries.value}, k={self.scale}"]
        if self.base_scale != 1:
            parts.append(f"HR at 1/{self.base_scale}")
        if self.lr_qp_offset:
            parts.append(f"LR QP{self.lr_qp_offset:+d}")
        if self.refine_hr:
            parts.append("HR refined")
        return ", ".join(parts)

    def settings(self, restart: int) -> PlanSettings:
        return PlanSettings(self.group, self.boundaries, restart)


@dataclass(frozen=True, config=STRICT)
class ClipEntry:
    """One file or folder of the configuration."""

    path: Annotated[Path, Field(description="relative to the configuration's folder")]
    group: Annotated[
        str | None,
        Field(
            alias="class",
            min_length=1,
            description="what averages are made in",
            json_schema_extra={"default_words": "by the size"},
        ),
    ] = None
    frames: Annotated[
        int | None,
        Field(
            ge=0,
            description="of this clip at most, 0: all",
            json_schema_extra={"default_words": "the evaluation's"},
        ),
    ] = None


def _short(key: str) -> Any:
    """A text in a map's place is its most important key."""
    return lambda value: {key: value} if isinstance(value, str) else value


def _check_size(text: str) -> str:
    check_even(f"the size {text}", *parse_size(text))
    return text


@dataclass(frozen=True, config=STRICT)
class Evaluation:
    """A whole evaluation. Every field is a key of the YAML file."""

    clips: Annotated[
        tuple[
            Annotated[
                ClipEntry, BeforeValidator(_short("path"), json_schema_input_type=ClipEntry | str)
            ],
            ...,
        ],
        Field(min_length=1, description="files and folders, or maps (below)"),
    ]
    codecs: Annotated[
        tuple[
            Annotated[
                Coding, BeforeValidator(_short("codec"), json_schema_input_type=Coding | Codec)
            ],
            ...,
        ],
        Field(min_length=1, description="codecs, or maps (below)"),
    ]
    configs: Annotated[
        tuple[Config, ...],
        Field(min_length=1, description="all intra, low delay P, random access"),
    ]
    qps: Annotated[
        tuple[Annotated[int, Field(ge=0, le=63)], ...],
        Field(min_length=2, description="different ones; a BD-rate by `cubic` takes four"),
    ]
    plans: Annotated[
        tuple[
            Annotated[Plan, BeforeValidator(_short("kind"), json_schema_input_type=Plan | Kind)],
            ...,
        ],
        Field(min_length=1, description="kinds of plan, or maps (below)"),
    ]
    anchor_qps: Annotated[
        tuple[Annotated[int, Field(ge=0, le=63)], ...],
        Field(
            description="more QPs for the plain stream alone, so that its curve spans what the "
            "pairs' do; those above a codec's last are left out for it"
        ),
    ] = ()
    title: Annotated[
        str,
        Field(description="of the report", json_schema_extra={"default_words": "the file's name"}),
    ] = ""
    description: Annotated[str, Field(description="a paragraph of the report")] = ""
    models: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(
            description="names or files; `all`: every one that is installed for a plan's k. "
            "Bicubic and Lanczos (for k = 1: none) are always run"
        ),
    ] = (ALL_MODELS,)
    tell_qp: Annotated[
        bool,
        Field(
            description="plans of kind `plain`: tell models the QP, as the tag of a file of "
            "`tds encode` does; without it they see what they see of any file"
        ),
    ] = False
    frames: Annotated[int, Field(ge=0, description="of each clip at most, 0: all")] = 0
    intra_period: Annotated[
        int,
        Field(ge=1, description="RA: frames after which streams restart, at the next group"),
    ] = 64
    scene_cut: Annotated[
        float, Field(ge=0, le=100, description="score that ends a group, 0: never")
    ] = SCENE_CUT
    device: Annotated[
        str,
        Field(
            pattern=r"^(auto|cpu|cuda(:\d+)?)$",
            examples=["auto", "cpu", "cuda", "cuda:0"],
            description="of the models: `cpu`, `cuda`, `cuda:N`",
        ),
    ] = "auto"
    precision: Annotated[
        Literal["auto", "float32", "float16", "bfloat16"], Field(description="of the models")
    ] = "auto"
    crops: Annotated[
        int, Field(ge=0, le=100, description="clips of which crops at equal bits are drawn")
    ] = 2
    complexity: Annotated[
        tuple[Annotated[str, AfterValidator(_check_size)], ...],
        Field(description="sizes at which models are timed too, as in `[1920x1080]`"),
    ] = ()
    exclude_seen: Annotated[
        bool, Field(description="leave clips a model was trained on out of that model's means")
    ] = True
    ms_ssim: Annotated[
        bool,
        Field(
            description="work out MS-SSIM, which takes about five times as long as VMAF and SSIM "
            "together"
        ),
    ] = True
    perceptual: Annotated[
        bool,
        Field(
            description="work out SSIM, MS-SSIM, VMAF and XPSNR; without them measuring takes a "
            "tenth of the time"
        ),
    ] = True
    tasks: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(
            examples=["corners", "tracks", "people"],
            description="task metrics, what a machine still finds: `corners`, `tracks`, "
            "`people`, or `module:name` of one of your own",
        ),
    ] = ()
    source: Path | None = field(default=None, init=False, compare=False)  # the file

    def __post_init__(self) -> None:
        if len(set(self.qps)) != len(self.qps):
            raise InputError("qps: one is there twice")
        for coding in self.codecs:
            name, most = coding.codec.value.upper(), coding.codec.max_qp
            if max(self.qps) > most:
                raise InputError(f"qps: {name} has QPs up to {most}")
            for plan in self.plans:
                worst = [q + plan.lr_qp_offset for q in self.qps]
                if not 0 <= min(worst) <= max(worst) <= most:
                    raise InputError(f"plans: {plan.label} brings QPs out of {name}'s range")
        labels = [p.label for p in self.plans]
        for label in labels:
            if labels.count(label) > 1:
                raise InputError(f"plans: two are {label!r}; give one of them a name")
        models = dict.fromkeys(
            m for m in self.models if m not in (*BASELINES, PASSED)
        )  # those are run anyway
        object.__setattr__(self, "models", tuple(models))
        object.__setattr__(self, "qps", tuple(sorted(self.qps)))
        more = set(self.anchor_qps) - set(self.qps)
        object.__setattr__(self, "anchor_qps", tuple(sorted(more)))


def load(
    path: Path,
    clips: list[Path] | None = None,
    more: Callable[[dict[str, Any]], None] | None = None,
) -> Evaluation:
    """Reads and checks a configuration; paths in it are relative to its folder.

    clips: replace those of the file. more: changes its values before they are checked. Raises
    MissingError or InputError, which names the
    key at fault."""

    def change(values: dict[str, Any]) -> None:
        if more is not None:
            more(values)
        if clips:
            values["clips"] = [str(c.absolute()) for c in clips]

    read = configuration.load(path, Evaluation, change)
    found = replace(
        read,
        title=read.title or path.stem,
        clips=tuple(replace(c, path=path.parent / c.path.expanduser()) for c in read.clips),
    )
    object.__setattr__(found, "source", path)
    return found
