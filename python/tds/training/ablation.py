# SPDX-License-Identifier: LGPL-2.1-or-later
"""An ablation: variants of a network, trained alike, with several seeds each, side by side.

    OUT/VARIANT-sSEED/   a run of `tds train`, and psnr.json: what it reached
    OUT/ablation.json    all of them, and what they are worth
    OUT/ablation.md      the same as tables

Every run has the same data, samples, stages and number of steps; a seed gives all variants the
same samples. What is compared are the clips that the configuration holds out, whole pictures,
with the averaged weights. Runs that are done are not done again, and one that was stopped goes on.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from .. import configuration
from ..bundled import configuration as bundled
from ..configuration import STRICT
from ..errors import InputError
from ..files import sha256_of_text, whole_file
from ..models.build import build
from .config import Stage, TrainConfig, load_config
from .trainer import Trainer, psnr_of_windows

VERSION = 1  # of ablation.json

# Student's t of 97.5 %, for 2 to 10 seeds.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


@dataclass(config=STRICT)
class Ablation:
    """The whole file."""

    base: Annotated[str, Field(description="a training configuration: a file, or the name of one")]
    variants: Annotated[
        dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _-]*$")], dict[str, Any]],
        Field(min_length=2, description="names, and the settings of `network` that make each"),
    ]
    steps: Annotated[
        int, Field(ge=1, description="of every run, shared among the stages as in `base`")
    ]
    seeds: Annotated[
        list[int], Field(min_length=1, max_length=10, description="of every variant")
    ] = field(default_factory=lambda: [1, 2, 3])
    seeds_of: Annotated[
        dict[str, Annotated[list[int], Field(min_length=1, max_length=10)]],
        Field(description="of variants that have others, by name"),
    ] = field(default_factory=dict)
    pairs: Annotated[
        list[tuple[str, str]],
        Field(description="of variants: the first against the second, BD-rate and dB"),
    ] = field(default_factory=list)
    set: Annotated[
        list[str], Field(description="more of the training, as `tds train --set` takes it")
    ] = field(default_factory=list)
    out: Annotated[str, Field(description="the folder; `--out` goes before it")] = ""

    def __post_init__(self) -> None:
        for name in (name for pair in self.pairs for name in pair):
            if name not in self.variants:
                raise InputError(f"pairs: there is no variant {name!r}")
        for name in self.seeds_of:
            if name not in self.variants:
                raise InputError(f"seeds_of: there is no variant {name!r}")
        for seeds in (self.seeds, *self.seeds_of.values()):
            if len(set(seeds)) != len(seeds):
                raise InputError("seeds: one is there twice")
        for pair in self.pairs:
            if not self.seeds_for(*pair):
                raise InputError(f"pairs: {pair[0]!r} and {pair[1]!r} have no seed in common")

    def seeds_for(self, *variants: str) -> list[int]:
        """Those that all of them are trained with."""
        each = [self.seeds_of.get(variant, self.seeds) for variant in variants]
        return [seed for seed in each[0] if all(seed in seeds for seeds in each)]


def load_ablation(path: Path) -> Ablation:
    """Reads a YAML file. Raises MissingError or InputError."""
    return configuration.load(path, Ablation, lambda values: None)


def configuration_of(ablation: Ablation, variant: str, seed: int) -> TrainConfig:
    """The training of one run. Raises MissingError or InputError."""
    path = bundled(Path(ablation.base), "training")
    # A fixed number of steps, whatever the time they take.
    base = load_config(path, [*ablation.set, f"optimizer.seed={seed}", "optimizer.minutes=0"])
    if not base.data.held_out and not base.validation.folders:
        raise InputError(
            f"{path} holds no clips out, which is what variants are compared on: name some in "
            "data.held_out"
        )
    network = {**base.network, **ablation.variants[variant]}
    try:
        with torch.device("meta"):
            names = [name for name, _ in build(network).named_parameters()]
    except ValueError as error:
        raise InputError(f"the variant {variant!r}: {error}") from None
    total = sum(stage.steps for stage in base.stages)
    done, stages = 0, []
    for i, stage in enumerate(base.stages):
        end = round(ablation.steps * sum(s.steps for s in base.stages[: i + 1]) / max(total, 1))
        stages.append(_fitted(stage, end - done, names))
        done = end
    return replace(base, network=network, stages=stages)


def _fitted(stage: Stage, steps: int, names: list[str]) -> Stage:
    """With so many steps, and without names of parts that this variant has not."""

    def there(prefixes: list[str]) -> list[str]:
        return [p for p in prefixes if any(name.startswith(p) for name in names)]

    return replace(
        stage,
        steps=steps,
        warmup=min(stage.warmup, steps // 10),
        train=there(stage.train),
        freeze=there(stage.freeze),
        thaw=there(stage.thaw),
    )


def runs(ablation: Ablation) -> list[tuple[str, int]]:
    """Variant and seed of each, in their order: all variants of a seed, then the next one."""
    seeds = dict.fromkeys([*ablation.seeds, *(s for of in ablation.seeds_of.values() for s in of)])
    return [
        (variant, seed)
        for seed in seeds
        for variant in ablation.variants
        if seed in ablation.seeds_for(variant)
    ]


def folder_of(out: Path, variant: str, seed: int) -> Path:
    return out / f"{re.sub('[^A-Za-z0-9]+', '-', variant).strip('-')}-s{seed}"


def ablate(ablation: Ablation, out: Path, say: Callable[[str], None], quiet: bool = False) -> bool:
    """Does all runs that are not done, and writes the tables; False: it was stopped on the way.

    Raises MissingError or InputError, before anything is trained where it can."""
    configs = {run: configuration_of(ablation, *run) for run in runs(ablation)}
    folders = {run: folder_of(out, *run) for run in configs}
    if len(set(folders.values())) < len(folders):
        raise InputError("two variants have the same name but for its signs; rename one")
    for number, (run, config) in enumerate(configs.items(), 1):
        folder = folders[run]
        said = f"{run[0]}, seed {run[1]} ({number} of {len(configs)})"
        if (folder / "psnr.json").is_file():
            _check_same(folder, config)
            say(f"{said}: done before")
            continue
        if folder.is_dir() and any(path.name[0] != "." for path in folder.iterdir()):
            _check_same(folder, config)
        else:  # new, or ended before its key was there
            folder.mkdir(parents=True, exist_ok=True)
            with whole_file(folder / "key.txt", overwrite=True) as beside:
                beside.write_text(_key(config))
        say(said)
        trainer = Trainer(config, folder, quiet)
        trainer.run(validating=False)  # what it reached is measured here, once
        if trainer.stage < len(config.stages):
            return False
        _write(folder / "psnr.json", _reached(trainer, config))
    found = summary(ablation, out)
    _write(out / "ablation.json", found)
    with whole_file(out / "ablation.md", overwrite=True) as beside:
        beside.write_text(tables(found))
    return True


def _key(config: TrainConfig) -> str:
    return sha256_of_text(json.dumps(asdict(config), sort_keys=True))


def _check_same(folder: Path, config: TrainConfig) -> None:
    key = folder / "key.txt"
    if not key.is_file() or key.read_text() != _key(config):
        raise InputError(
            f"{folder} was made by other settings; choose another folder with --out, or remove it"
        )


def _write(path: Path, value: object) -> None:
    with whole_file(path, overwrite=True) as beside:
        beside.write_text(json.dumps(value, indent=1) + "\n")


def _reached(trainer: Trainer, config: TrainConfig) -> dict[str, Any]:
    """On the clips held out: a row for each stream; and what the network costs."""
    from ..evaluation.complexity import count_family

    v = config.validation
    bank = trainer.validation_bank()
    sizes = {
        (e.clip, e.codec, e.config, e.lr_qp): e.lr_bytes
        for _, e in bank.entries
        if e.lr_frames and e.scale == trainer.scale
    }
    rows = []
    slots = config.network["references"]
    for shows, source, before, after in psnr_of_windows(
        trainer.average, bank, trainer.scale, slots, v.group, v.groups, trainer.place
    ):
        t = source.track
        size = sizes[t.clip, t.codec, t.config, t.qp]
        rows.append({"stream": shows, "clip": t.clip, "qp": t.qp, "bytes": size,
                     "before": before, "after": after})  # fmt: skip
    counts = count_family(trainer.average.cpu(), len(slots))
    return {
        "rows": rows,
        "steps": trainer.step,
        "minutes": round(trainer.spent / 60, 1),
        "parameters_m": counts["parameters_m"],
        "kmac_per_pixel": counts["kmac_per_pixel"],
    }


# ------------------------------------------------------------------ figures --


def interval(values: Sequence[float]) -> dict[str, float | None]:
    """Mean over seeds and the half of its 95 % interval by Student's t; None for one seed."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return {"mean": mean, "half": None}
    variance = sum((v - mean) ** 2 for v in values) / (len(values) - 1)
    half = STUDENT[len(values) - 2] * math.sqrt(variance / len(values))
    return {"mean": mean, "half": half}


def summary(ablation: Ablation, out: Path) -> dict[str, Any]:
    """All that was reached, from the runs' own files."""
    reached = {
        run: json.loads((folder_of(out, *run) / "psnr.json").read_text()) for run in runs(ablation)
    }

    def gain(variant: str, seed: int) -> float:
        rows = reached[variant, seed]["rows"]
        return float(sum(r["after"] - r["before"] for r in rows) / len(rows))

    variants = []
    for variant, settings in ablation.variants.items():
        seeds = ablation.seeds_for(variant)
        first = reached[variant, seeds[0]]
        gains = [gain(variant, seed) for seed in seeds]
        variants.append(
            {
                "name": variant,
                "settings": settings,
                "seeds": seeds,
                "parameters_m": first["parameters_m"],
                "kmac_per_pixel": first["kmac_per_pixel"],
                "gains": gains,
                **interval(gains),
            }
        )
    pairs = []
    for one, other in ablation.pairs:
        seeds = ablation.seeds_for(one, other)
        differences = [gain(one, s) - gain(other, s) for s in seeds]
        by_seed = [rates(reached[one, s]["rows"], reached[other, s]["rows"]) for s in seeds]
        streams = [k for k in by_seed[0] if all(k in found for found in by_seed)]
        pairs.append(
            {
                "of": one,
                "against": other,
                "seeds": seeds,
                "gain": interval(differences),
                "rate": {k: interval([found[k] for found in by_seed]) for k in streams},
            }
        )
    return {
        "tds_ablation": VERSION,
        "base": ablation.base,
        "steps": ablation.steps,
        "clips": sorted({r["clip"] for run in reached.values() for r in run["rows"]}),
        "variants": variants,
        "pairs": pairs,
    }


def rates(one: Iterable[dict[str, Any]], other: Iterable[dict[str, Any]]) -> dict[str, float]:
    """BD-rate of one network against another, in percent of the bits of the frames that were
    down-sampled, for each "codec configuration": the mean over the clips that have a figure."""
    from ..evaluation.bd import bd_rate

    curves: dict[tuple[str, str], list[list[tuple[float, float]]]] = defaultdict(lambda: [[], []])
    for which, rows in enumerate((one, other)):
        for r in rows:
            curves[r["stream"], r["clip"]][which].append((r["bytes"], r["after"]))
    found: dict[str, list[float]] = defaultdict(list)
    for (stream, _), (test, anchor) in curves.items():
        delta = bd_rate(anchor, test)
        if not math.isnan(delta.value):
            found[stream].append(delta.value)
    return {stream: sum(values) / len(values) for stream, values in found.items()}


def tables(found: dict[str, Any]) -> str:
    """Two tables in Markdown: what each variant gains, and the pairs."""

    def shown(value: dict[str, Any], digits: int = 2) -> str:
        half = "" if value["half"] is None else f" ± {value['half']:.{digits}f}"
        return f"{value['mean']:+.{digits}f}{half}"

    out = [
        f"{found['steps']} steps of `{found['base']}` each; "
        f"luma PSNR over bicubic on the clips held out ({', '.join(found['clips'])}), mean over "
        "codecs, configurations, QPs and clips; ± is the 95 % interval over seeds, where there are "
        "several.",
        "",
        "| variant | parameters (M) | kMAC/sample | seeds | gain (dB) |",
        "|---|---|---|---|---|",
    ]
    out += [
        f"| {v['name']} | {v['parameters_m']:.2f} | {v['kmac_per_pixel']:.0f} "
        f"| {len(v['seeds'])} | {shown(v)} |"
        for v in found["variants"]
    ]
    if found["pairs"]:
        heads = "| | seeds | gain (dB) | BD-rate of the down-sampled frames (%) |"
        out += ["", heads, "|---|---|---|---|"]
        for p in found["pairs"]:
            each = "; ".join(f"{k.upper()} {shown(v, 1)}" for k, v in p["rate"].items()) or "–"
            out.append(
                f"| {p['of']} against {p['against']} | {len(p['seeds'])} | {shown(p['gain'])} "
                f"| {each} |"
            )
    return "\n".join(out) + "\n"
