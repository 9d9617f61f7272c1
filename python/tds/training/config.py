# SPDX-License-Identifier: LGPL-2.1-or-later
"""The training configuration: what a YAML file may say, its defaults, and its errors.

Reference of the keys: docs/training.md, made of what stands here.
"""

from __future__ import annotations

import os
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from .. import configuration
from ..configuration import STRICT
from ..errors import InputError

ALIGN = 16
"""Luma samples; a cut's sides are multiples of it."""

Qps = list[Annotated[int, Field(ge=0, le=63)]]
CodecName = Literal["hevc", "vvc", "h264"]
ConfigName = Literal["ai", "ra", "ldp"]
Part = Annotated[float, Field(ge=0, le=1)]
Pixels = Annotated[int, Field(ge=0)]

# How far the references of an all-intra sample are, before and after; and how often.
DISTANCES: list[tuple[float, tuple[int, int]]] = [
    (0.36, (2, 2)),
    (0.32, (1, 1)),
    *((0.02, d) for d in [(1, 2), (2, 1), (3, 3), (1, 3), (3, 1), (4, 4), (2, 3), (3, 2)]),
    *((0.02, d) for d in [(1, 4), (4, 1), (5, 5)]),
]

# How far HR pictures of a pair are from each other; and how often.
SPACINGS: list[tuple[float, int]] = [(1.0, 2), (6.0, 4), (2.0, 8), (0.5, 16), (1.0, 6)]


@dataclass(config=STRICT)
class Data:
    """The data sets, and what of them is used."""

    folders: Annotated[list[str], Field(description="data sets of `tds dataset`")] = field(
        default_factory=list
    )
    cache: Annotated[
        str,
        Field(
            description="folder of decoded pictures",
            json_schema_extra={"default_words": "`cache` in the run's folder"},
        ),
    ] = ""
    alignment: Annotated[
        Literal["online", "cached"],
        Field(
            description="`online`: each cut as it is trained on; `cached`: whole pictures, once "
            "(only for networks whose alignment learns nothing)"
        ),
    ] = "online"
    shots: Annotated[int, Field(ge=1, description="cached samples of each pair of streams")] = 8
    enhancer: Annotated[
        str,
        Field(
            description="weights that make the cached samples' enhanced references (online, the "
            "network in training makes them)"
        ),
    ] = ""
    codecs: Annotated[list[CodecName], Field(description="those used; empty: all")] = field(
        default_factory=list
    )
    configs: Annotated[list[ConfigName], Field(description="those used; empty: all")] = field(
        default_factory=list
    )
    qps: Annotated[Qps, Field(description="those used; empty: all")] = field(default_factory=list)
    held_out: Annotated[list[str], Field(description="clips kept for validation")] = field(
        default_factory=list
    )
    workers: Annotated[int, Field(ge=0, description="threads that make samples ahead of time")] = 0


@dataclass(frozen=True, config=STRICT)
class SampleSettings:
    """What a sample is like. Sizes are in luma samples; parts are of all samples."""

    patch: Annotated[int, Field(ge=16, description=f"a cut's side, a multiple of {ALIGN}")] = 96
    border: Annotated[Pixels, Field(description="at each side, not counted; even")] = 8
    missing: Annotated[Part, Field(description="how often a reference is not there")] = 0.05
    unrelated: Annotated[Part, Field(description="how often one is of another scene")] = 0.04
    recurrent: Annotated[
        Part,
        Field(
            description="how often one is an enhanced picture (not of the family; of kind "
            "`quality` with `recurrence`)"
        ),
    ] = 0.3
    unknown_qp: Annotated[Part, Field(description="how often QPs are not told")] = 0.3
    distances: Annotated[
        list[tuple[float, tuple[int, int]]],
        Field(
            description="not of the family: of the references of an all-intra sample, "
            "`[weight, [before, after]]`",
            json_schema_extra={"default_words": "mostly 1 and 2"},
        ),
    ] = field(default_factory=lambda: DISTANCES)

    causal: Annotated[
        Part, Field(description="family: how often no picture after the target is there")
    ] = 0.25
    pairs: Annotated[
        Part,
        Field(
            description="family, k = 1: how often a picture of a stream of every frame is taken as "
            "an HR picture of a pair"
        ),
    ] = 0.22
    spacings: Annotated[
        list[tuple[Annotated[float, Field(ge=0)], Annotated[int, Field(ge=2)]]],
        Field(
            min_length=1,
            description="family: of HR pictures, in pairs made of streams of every frame: "
            "`[weight, frames]`",
            json_schema_extra={"default_words": "mostly 4"},
        ),
    ] = field(default_factory=lambda: SPACINGS)

    def __post_init__(self) -> None:
        if self.patch % ALIGN or self.patch <= 2 * self.border or self.border % 2:
            raise InputError(
                f"patch is a multiple of {ALIGN} and above twice border, which is even"
            )


@dataclass(config=STRICT)
class Stage:
    """A part of the training. ``train``, ``freeze``, ``thaw``: beginnings of parameter names."""

    steps: Annotated[int, Field(ge=0, description="optimizer steps")] = 20000
    name: Annotated[str, Field(description="in the log")] = "all"
    lr: Annotated[float, Field(ge=0, description="highest rate")] = 1e-3
    min_lr: Annotated[float, Field(ge=0, description="rate at the end, by a half cosine")] = 1e-5
    warmup: Annotated[int, Field(ge=0, description="steps up to the highest rate")] = 200
    train: Annotated[
        list[str], Field(description="what is trained: beginnings of parameter names; empty: all")
    ] = field(default_factory=list)
    freeze: Annotated[list[str], Field(description="what is not; wins over `train`")] = field(
        default_factory=list
    )
    thaw: Annotated[list[str], Field(description="frozen ones that are freed late")] = field(
        default_factory=list
    )
    thaw_at: Annotated[Part, Field(description="part of the stage after which they are")] = 0.8


@dataclass(config=STRICT)
class Optimizer:
    """AdamW, and how long it runs."""

    batch: Annotated[int, Field(ge=1, description="samples")] = 16
    accumulate: Annotated[int, Field(ge=1, description="batches a step")] = 1
    betas: Annotated[
        list[Annotated[float, Field(ge=0, lt=1)]],
        Field(min_length=2, max_length=2, description="Adam's"),
    ] = field(default_factory=lambda: [0.9, 0.99])
    weight_decay: Annotated[float, Field(ge=0, description="AdamW's")] = 0.0
    clip: Annotated[float, Field(gt=0, description="largest norm of the gradient")] = 0.5
    ema: Annotated[Part, Field(description="of the averaged weights, which are what is kept")] = (
        0.999
    )
    amp: Annotated[
        Literal["float32", "bfloat16", "float16"], Field(description="precision of the layers")
    ] = "float32"
    minutes: Annotated[
        float,
        Field(
            ge=0,
            description="above 0: the schedule also ends after so much training time, whatever "
            "steps were done (such a run does not repeat exactly)",
        ),
    ] = 0.0
    seed: Annotated[int, Field(description="of samples and weights")] = 1
    threads: Annotated[int, Field(ge=0, description="of torch; 0: its own choice")] = 0
    deterministic: Annotated[bool, Field(description="torch's deterministic algorithms")] = False


@dataclass(config=STRICT)
class Loss:
    """Charbonnier, sqrt(d^2 + epsilon^2); of the family, see docs/training.md."""

    epsilon: Annotated[
        float, Field(gt=0, description="of sqrt(d^2 + epsilon^2); not of the family")
    ] = 1e-3
    chroma: Annotated[float, Field(ge=0, description="weight of Cb and Cr, in yuv")] = 0.15
    space: Annotated[
        Literal["yuv", "rgb"],
        Field(
            description="what is compared; `rgb` is the paper's (BT.709 limited range, chroma "
            "up-sampled)"
        ),
    ] = "yuv"
    motion: Annotated[
        float, Field(ge=0, description="family: of how badly originals fit, at the start")
    ] = 0.3
    hinge: Annotated[
        float, Field(ge=0, description="family: of what 8x8 blocks are worse than the target's")
    ] = 0.3
    judge: Annotated[
        float, Field(ge=0, description="family with a judge: of how far off what it sees is")
    ] = 0.1


@dataclass(config=STRICT)
class Validation:
    """A fixed set: the first groups of each clip that is held out."""

    folders: Annotated[
        list[str], Field(description="data sets all of whose clips are taken instead")
    ] = field(default_factory=list)
    every: Annotated[int, Field(ge=1, description="steps")] = 1000
    groups: Annotated[int, Field(ge=1, description="of each clip")] = 1
    group: Annotated[int, Field(ge=3, description="frames of a group, odd")] = 5
    qps: Annotated[Qps, Field(description="those used; empty: all")] = field(default_factory=list)


@dataclass(config=STRICT)
class Log:
    """What is written on the way."""

    every: Annotated[int, Field(ge=1, description="steps between lines")] = 50
    checkpoint_minutes: Annotated[float, Field(ge=0, description="between checkpoints")] = 2.0
    tensorboard: Annotated[bool, Field(description="also write TensorBoard's files")] = True


@dataclass(config=STRICT)
class TrainConfig:
    """The whole file."""

    network: Annotated[
        dict[str, Any],
        Field(
            description="`scale` (k), a `preset` or a `kind`, and that network's own settings "
            "(`python/tds/models/build.py`)"
        ),
    ]
    data: Annotated[Data, Field(description="below")]
    out: Annotated[str, Field(description="the run's folder; `--out` goes before it")] = ""
    init: Annotated[str, Field(description="weights to begin with")] = ""
    samples: Annotated[SampleSettings, Field(description="below")] = field(
        default_factory=SampleSettings
    )
    stages: Annotated[
        list[Stage], Field(min_length=1, description="below, one after the other")
    ] = field(default_factory=lambda: [Stage()])
    optimizer: Annotated[Optimizer, Field(description="below")] = field(default_factory=Optimizer)
    loss: Annotated[Loss, Field(description="below")] = field(default_factory=Loss)
    validation: Annotated[Validation, Field(description="below")] = field(
        default_factory=Validation
    )
    log: Annotated[Log, Field(description="below")] = field(default_factory=Log)

    def __post_init__(self) -> None:
        if not self.data.folders:
            raise InputError("data.folders is empty; name a data set of `tds dataset`")
        if "scale" not in self.network:
            raise InputError("network.scale (1, 2 or 4) is missing")


def load_config(path: str | os.PathLike[str], overrides: list[str] | None = None) -> TrainConfig:
    """Reads a YAML file; ``overrides`` are ``section.key=value`` with YAML values.

    Paths in it are relative to the working folder. Raises MissingError or InputError.
    """

    def change(values: dict[str, Any]) -> None:
        configuration.override(values, overrides or [])

    return configuration.load(Path(path), TrainConfig, change)
