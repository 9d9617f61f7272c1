# SPDX-License-Identifier: LGPL-2.1-or-later
"""The training configuration: what a YAML file may say, its defaults, and its errors."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from ..errors import InputError, MissingError
from .samples import SampleSettings


@dataclass
class Data:
    """``folders``: data sets. ``alignment``: ``online`` (on each cut), or ``cached`` (once,
    over whole pictures; only for networks whose alignment learns nothing). ``shots``: cached
    samples of each pair of streams. ``enhancer``: weights that make the cached samples'
    enhanced references (online, the network in training makes them). ``codecs``, ``configs``,
    ``qps``: what of the sets is used; empty: all. ``held_out``: clips kept for validation."""

    folders: list[str] = field(default_factory=list)
    cache: str = ""
    alignment: str = "online"
    shots: int = 8
    enhancer: str = ""
    codecs: list[str] = field(default_factory=list)
    configs: list[str] = field(default_factory=list)
    qps: list[int] = field(default_factory=list)
    held_out: list[str] = field(default_factory=list)
    workers: int = 0


@dataclass
class Stage:
    """Part of the training. ``train`` and ``freeze`` are beginnings of parameter names;
    ``train`` empty: all; ``freeze`` wins. ``thaw`` are frozen ones that are freed when the
    part ``thaw_at`` of the stage is done. ``steps``: optimizer steps."""

    steps: int = 20000
    name: str = "all"
    lr: float = 1e-3
    min_lr: float = 1e-5
    warmup: int = 200
    train: list[str] = field(default_factory=list)
    freeze: list[str] = field(default_factory=list)
    thaw: list[str] = field(default_factory=list)
    thaw_at: float = 0.8


@dataclass
class Optimizer:
    """Adam. ``minutes``: if above 0, the schedule also ends after so much training time,
    whatever steps were done (such a run does not repeat exactly). ``accumulate``: batches a
    step. ``amp``: float32, bfloat16 or float16. ``clip``: largest norm of the gradient."""

    batch: int = 16
    accumulate: int = 1
    betas: list[float] = field(default_factory=lambda: [0.9, 0.99])
    weight_decay: float = 0.0
    clip: float = 0.5
    ema: float = 0.999
    amp: str = "float32"
    minutes: float = 0.0
    seed: int = 1
    threads: int = 0
    deterministic: bool = False


@dataclass
class Loss:
    """Charbonnier, sqrt(d^2 + epsilon^2). ``space``: ``yuv``, or ``rgb``, the paper's (BT.709
    limited range, chroma up-sampled). ``chroma``: weight of Cb and Cr, in yuv."""

    epsilon: float = 1e-3
    chroma: float = 0.15
    space: str = "yuv"


@dataclass
class Validation:
    """A fixed set: the first ``groups`` groups of ``group`` frames of each clip in
    ``data.held_out`` (of all clips in ``folders``, if given), every ``every`` steps."""

    folders: list[str] = field(default_factory=list)
    every: int = 1000
    groups: int = 1
    group: int = 5
    qps: list[int] = field(default_factory=list)


@dataclass
class Log:
    """Steps between lines in the log, and minutes between checkpoints."""

    every: int = 50
    checkpoint_minutes: float = 2.0
    tensorboard: bool = True


@dataclass
class TrainConfig:
    network: dict[str, Any]
    data: Data
    out: str = ""
    init: str = ""
    samples: SampleSettings = field(default_factory=SampleSettings)
    stages: list[Stage] = field(default_factory=lambda: [Stage()])
    optimizer: Optimizer = field(default_factory=Optimizer)
    loss: Loss = field(default_factory=Loss)
    validation: Validation = field(default_factory=Validation)
    log: Log = field(default_factory=Log)


def _fill(cls: type, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise InputError(f"{where} should be a mapping, not {values!r}")
    hints = get_type_hints(cls)
    known = {f.name: f for f in fields(cls)}
    made: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise InputError(f"{where} has no setting {key!r}; there is: {', '.join(known)}")
        hint = hints[key]
        name = f"{where}.{key}"
        if is_dataclass(hint) and isinstance(hint, type):
            made[key] = _fill(hint, value, name)
        elif key == "stages":
            if not isinstance(value, list) or not value:
                raise InputError(f"{name} should be a list of stages")
            made[key] = [_fill(Stage, v, f"{name}[{i}]") for i, v in enumerate(value)]
        elif key == "distances":
            try:
                made[key] = [(float(w), (int(a), int(b))) for w, (a, b) in value]
            except (TypeError, ValueError):
                raise InputError(f"{name} is a list of [weight, [before, after]]") from None
        elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
            made[key] = float(value)
        elif hint in (int, str, bool):
            if type(value) is not hint:
                raise InputError(f"{name} should be {hint.__name__}, not {value!r}")
            made[key] = value
        elif hint is float:
            raise InputError(f"{name} should be a number, not {value!r} (write 1.0e-3, not 1e-3)")
        elif isinstance(value, list) != str(hint).startswith("list"):
            raise InputError(f"{name} should be a {hint}, not {value!r}")
        else:
            made[key] = value
    try:
        return cls(**made)
    except TypeError as error:
        raise InputError(f"{where} lacks a setting: {error}") from None


def load_config(path: str | os.PathLike[str], overrides: list[str] | None = None) -> TrainConfig:
    """Reads a YAML file; ``overrides`` are ``section.key=value`` with YAML values.

    Paths in it are relative to the working folder. Raises MissingError or InputError.
    """
    import yaml

    path = Path(path)
    if not path.is_file():
        raise MissingError(f"{path}: there is no such configuration")
    try:
        values = yaml.safe_load(path.read_text())
        for override in overrides or []:
            key, separator, text = override.partition("=")
            if not separator:
                raise InputError(f"--set takes section.key=value, not {override!r}")
            *sections, last = key.split(".")
            place = values
            for section in sections:
                place = (
                    place[int(section)]
                    if isinstance(place, list)
                    else place.setdefault(section, {})
                )
            place[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    except (AttributeError, IndexError, TypeError) as error:
        raise InputError(f"{path}: a --set does not fit it ({error})") from None
    config: TrainConfig = _fill(TrainConfig, values, str(path))
    _check(config, str(path))
    return config


def _check(config: TrainConfig, where: str) -> None:
    if not config.data.folders:
        raise InputError(f"{where}: data.folders is empty; name a data set of `tds dataset`")
    for name, value, allowed in (
        ("data.alignment", config.data.alignment, ("online", "cached")),
        ("optimizer.amp", config.optimizer.amp, ("float32", "bfloat16", "float16")),
        ("loss.space", config.loss.space, ("yuv", "rgb")),
    ):
        if value not in allowed:
            raise InputError(f"{where}: {name} is one of {', '.join(allowed)}, not {value!r}")
    s = config.samples
    if s.patch % ALIGN or s.patch <= 2 * s.border or s.border % 2:
        raise InputError(
            f"{where}: samples.patch is a multiple of {ALIGN} and above twice samples.border, "
            "which is even"
        )
    if "scale" not in config.network:
        raise InputError(f"{where}: network.scale (2 or 4) is missing")


ALIGN = 16
