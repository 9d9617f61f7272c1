# SPDX-License-Identifier: LGPL-2.1-or-later
"""Training of the enhancement networks: one process or many, stopped and resumed at will."""

from __future__ import annotations

import copy
import csv
import json
import math
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import InputError
from ..files import sha256_of, whole_file
from ..models.build import build, settings
from ..models.registry import load as load_weights
from ..models.registry import metadata
from ..models.registry import save as save_weights
from .bank import Bank, Source
from .config import Loss, Stage, TrainConfig
from .dataset import Entry, entries_of, load_manifest
from .family import FamilyStep
from .growing import grow
from .losses import charbonnier
from .quality import QualityStep
from .recurrence import enhance_run
from .samples import (
    ALIGNMENT,
    AlignedSamples,
    Batch,
    OnlineSamples,
    Pair,
    collate,
    load_pairs,
)
from .step import TrainingStep
from .windows import WindowSamples, shown

Made = TypeVar("Made")

HALO = 128
"""Luma samples beside a tile that models of contract 2 need (docs/model.md)."""

STATE = ("checkpoint.pt", "weights.safetensors", "log.csv", "validation.csv")
"""Of a run's folder, what says where it stands."""

AMP = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Step(TrainingStep):
    """Of networks of contract 1."""

    def __init__(
        self,
        model: nn.Module,
        amp: torch.dtype | None,
        device: str,
        loss: Loss,
        border: int,
        scale: int,
        aligned: bool,
    ) -> None:
        super().__init__(model, amp, device, loss, border)
        self.scale = scale
        self.aligned = aligned

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """``loss``, and ``gain`` in dB over bicubic, whatever part of the training is done."""
        aligned = self.aligned
        first, last = (batch["first"], batch["last"]) if aligned else self._references(batch)
        made = self._enhance(first, batch["target"], last, batch["side"], aligned)
        loss = self.loss
        return {
            "loss": charbonnier(
                made, batch["original"], loss.epsilon, loss.chroma, loss.space, self.border
            ),
            "gain": self.luma_gain(made, bicubic(batch["target"], self.scale), batch["original"]),
        }

    def _enhance(
        self, first: Tensor, target: Tensor, last: Tensor, side: Tensor, aligned: bool = False
    ) -> Tensor:
        model: Any = self.model
        if not hasattr(model, "align"):
            with self.cast():
                return model(first, target, last, side)
        if not aligned:
            # Alignment has no weights: outside of autocast, which would blur its motion.
            with torch.no_grad():
                first, last = model.align(
                    model.reference(first), target, model.reference(last), side
                )
        with self.cast():
            return model.fuse(first, target, last, side)

    @torch.no_grad()
    def _references(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The references; enhanced ones made by the network as it is now."""
        first, last, which = batch["first"], batch["last"], batch["recurrent"]
        rows = (which > 0).nonzero()[:, 0]
        if len(rows) == 0:
            return first, last
        with self.as_it_is():
            made = self._enhance(
                batch["middle_first"][rows],
                batch["middle_target"][rows],
                batch["middle_last"][rows],
                batch["middle_side"][rows],
            )
        made = made.clamp(0.0, 1.0).to(first.dtype)
        first, last = first.clone(), last.clone()
        for i, row in enumerate(rows.tolist()):
            if int(which[row]) == 1:
                first[row] = made[i]
            else:
                last[row] = made[i]
        return first, last


def freeze(model: nn.Module, stage: Stage, progress: float) -> list[str]:
    """Sets requires_grad as the stage asks; returns the names of what is trained.

    Raises InputError for a beginning of a name that no parameter has.
    """
    names = [name for name, _ in model.named_parameters()]
    for prefix in (*stage.train, *stage.freeze, *stage.thaw):
        if not any(name.startswith(prefix) for name in names):
            raise InputError(f"stage {stage.name!r}: the network has no parameter {prefix}*")
    thawed = tuple(stage.thaw) if progress >= stage.thaw_at else ()
    trained = []
    for name, parameter in model.named_parameters():
        chosen = not stage.train or name.startswith(tuple(stage.train))
        if stage.freeze and name.startswith(tuple(stage.freeze)):
            chosen = False
        if thawed and name.startswith(thawed):
            chosen = True
        parameter.requires_grad_(chosen)
        if chosen:
            trained.append(name)
    return trained


def kept(config: TrainConfig, held: bool) -> Callable[[Entry], bool]:
    """Which entries of data sets are for validation (``held``), or for training."""
    d, v = config.data, config.validation
    out = set(d.held_out)
    if held:
        return lambda e: (bool(v.folders) or e.clip in out) and (not v.qps or e.hr_qp in v.qps)
    return lambda e: (
        e.clip not in out
        and (not d.codecs or e.codec in d.codecs)
        and (not d.configs or e.config in d.configs)
        and (not d.qps or e.hr_qp in d.qps)
    )


def learning_rate(stage: Stage, step: int, progress: float) -> float:
    """Linear warm-up, then a half cosine from ``lr`` to ``min_lr`` over the stage."""
    rate = stage.min_lr + (stage.lr - stage.min_lr) * 0.5 * (1 + math.cos(math.pi * progress))
    return rate * min(1.0, (step + 1) / max(stage.warmup, 1))


class Trainer:
    """Trains by a configuration into a folder::

    OUT/config.json checkpoint.pt log.csv curve.png validation.csv weights.safetensors tb/
    """

    def __init__(self, config: TrainConfig, out: Path, quiet: bool = False) -> None:
        self.config = config
        self.out = out
        self.quiet = quiet
        self.rank = int(os.environ.get("RANK", "0"))
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        cuda = torch.cuda.is_available()
        self.device = "cuda" if cuda else "cpu"
        self.place = torch.device("cpu")
        if cuda:
            self.place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(self.place)
        if self.world > 1 and not dist.is_initialized():
            # The first process aligns and validates while the others wait: hours, at worst.
            dist.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(hours=12))
        o = config.optimizer
        if o.threads:
            torch.set_num_threads(o.threads)
        if o.deterministic:
            torch.use_deterministic_algorithms(True, warn_only=True)
        torch.manual_seed(o.seed)
        random.seed(o.seed)
        np.random.seed(o.seed)

        self.network = settings(config.network)
        self.scale = int(self.network["scale"])
        kind = self.network.get("kind")
        # Networks of contract 2 see windows of pictures; how they are taught differs.
        self.windows, self.family = kind in ("family", "quality"), kind == "family"
        if self.windows:
            self._check_windows()
        self.model = build(config.network)
        if config.init:
            self._start_from(load_weights(config.init))
        self.model.to(device=self.place, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        # Hashes of the clips the weights have seen, by way of what they start from too.
        self.sources: set[str] = set()
        for path in (config.init, config.data.enhancer):
            if path:
                self.sources.update((metadata(path).get("training") or {}).get("sources") or ())
        self.step = 0
        self.stage = 0
        self.stage_step = 0
        self.spent = 0.0
        self.stage_began = 0.0
        self.optimizer = self._optimizer()
        self.scaler = torch.amp.GradScaler(self.device, enabled=o.amp == "float16" and cuda)
        self._stop = 0

    def _check_windows(self) -> None:
        c = self.config
        for wrong, key in (
            (c.data.alignment != "online", "data.alignment: cached"),
            (bool(c.data.enhancer), "data.enhancer"),
            (self.family and c.loss.space != "yuv", "loss.space: rgb"),
        ):
            if wrong:
                raise InputError(f"{key} is not for networks of kind {self.network['kind']}")
        if "references" not in self.network:
            raise InputError("network.references is missing: the slots (docs/model.md)")

    def _start_from(self, start: nn.Module) -> None:
        weights, own = start.state_dict(), self.model.state_dict()
        if {k: v.shape for k, v in weights.items()} == {k: v.shape for k, v in own.items()}:
            self.model.load_state_dict(weights)
        else:
            grow(start, self.model)

    def _optimizer(self) -> torch.optim.AdamW:
        o = self.config.optimizer
        return torch.optim.AdamW(
            self.model.parameters(),
            lr=self.config.stages[0].lr,
            betas=(o.betas[0], o.betas[1]),
            weight_decay=o.weight_decay,
        )

    # -- data

    def _bank(self, folders: list[str], held: bool) -> Bank:
        def make() -> Bank:
            return Bank(
                [Path(f) for f in folders],
                self.cache,
                kept(self.config, held),
                lambda n, of: self._say(f"decode {n}/{of}", end="\r"),
            )

        if held:  # only the first process validates
            return make()
        return self._first(make)

    def _first(self, make: Callable[[], Made]) -> Made:
        """What all processes make, the first one before the others: it fills the cache."""
        made = make() if self.rank == 0 else None
        if self.world > 1:
            dist.barrier()
        return make() if made is None else made

    def check(self) -> None:
        """What can be told of a training before any stream is decoded. Raises InputError."""
        for stage in self.config.stages:
            freeze(self.model, stage, 0.0)
        self._check_held_out()
        folders = map(Path, self.config.data.folders)
        self._check_sizes(e for _, e in entries_of(folders, kept(self.config, False)))

    def _check_held_out(self) -> None:
        d = self.config.data
        known = {e.clip for folder in d.folders for e in load_manifest(folder)}
        if absent := sorted(set(d.held_out) - known):
            raise InputError(f"data.held_out: there is no clip {absent[0]!r} in data.folders")

    def _check_sizes(self, entries: Iterable[Entry]) -> None:
        patch = self.config.samples.patch
        for e in entries:
            if min(e.width, e.height) < patch:
                raise InputError(
                    f"{e.clip} is smaller than samples.patch ({patch}); lower it or hold it out"
                )

    def _samples(self) -> OnlineSamples | AlignedSamples | WindowSamples:
        d = self.config.data
        self._check_held_out()
        seed = self.config.optimizer.seed
        if self.windows:
            bank = self._bank(d.folders, False)
            entries = [e for _, e in bank.entries]
            self._check_sizes(entries)
            self.sources.update(e.source_sha256 for e in entries if e.source_sha256)
            slots = self.network["references"]
            return WindowSamples(
                bank, slots, self.scale, self.config.samples, seed, recurs(self.model)
            )
        pairs = load_pairs(
            [Path(f) for f in d.folders], self.cache, self.scale, kept(self.config, False)
        )
        self._check_sizes(p.entry for p in pairs)
        for pair in pairs:
            pair.check()
        self.sources.update(p.entry.source_sha256 for p in pairs if p.entry.source_sha256)
        if d.alignment == "online":
            return OnlineSamples(pairs, self.config.samples, seed)
        if not hasattr(self.model, "align"):
            raise InputError("data.alignment: cached is for networks of kind light only")
        enhancer = load_weights(d.enhancer) if d.enhancer else None
        aligner = build(self.network).eval()
        key = _alignment_of(aligner)
        if enhancer is not None:
            key += sha256_of(Path(d.enhancer)) + _alignment_of(enhancer)

        def make() -> AlignedSamples:
            return AlignedSamples(
                pairs,
                self.config.samples,
                seed,
                aligner,
                self.cache,
                d.shots,
                enhancer,
                key,
                lambda n, of: self._say(f"align {n}/{of}", end="\r"),
            )

        return self._first(make)

    @property
    def cache(self) -> Path:
        return Path(self.config.data.cache) if self.config.data.cache else self.out / "cache"

    # -- the state that a checkpoint holds

    def state(self) -> dict[str, Any]:
        return {
            "tds_checkpoint": 1,
            "network": self.network,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "stage": self.stage,
            "stage_step": self.stage_step,
            "stage_began": self.stage_began,
            "spent": self.spent,
            "sources": sorted(self.sources),
            "random": {
                "torch": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state_all() if self.device == "cuda" else [],
            },
        }

    def save(self) -> None:
        """Writes checkpoint and weights, whole or not at all; only the first process does."""
        if self.rank:
            return
        self.out.mkdir(parents=True, exist_ok=True)
        with whole_file(self.out / "checkpoint.pt", overwrite=True) as beside:
            torch.save(self.state(), beside)
        self.write_weights(self.out / "weights.safetensors")

    def write_weights(self, path: Path) -> str:
        """The averaged weights as a model file; returns its sha256."""
        preset = self.config.network.get("preset")
        about = {
            "tds_model": 2 if self.windows else 1,
            "name": (preset or str(self.network.get("kind"))).removeprefix("family-"),
            "version": "0",
            "scale": self.scale,
            "bit_depths": [8],
            "alignment": ALIGNMENT,
            "training": {
                "summary": f"{self.step} steps of batch {self.config.optimizer.batch}",
                "sources": sorted(self.sources),
            },
        }
        if self.windows:
            about["references"] = list(self.network["references"])
            if recurs(self.model):
                about["recurrence"] = True
            # As the shipped ones: whether less precision does is for whoever measured it to say.
            about.update(cuda_precision="float32", cpu_precision="float32", halo=HALO)
        else:
            about.update(features=True, no_reference=False, cuda_precision="float16")
        return save_weights(self.average, self.network, about, path)

    def resume(self) -> bool:
        """Goes on from the checkpoint in the folder, if there is one."""
        path = self.out / "checkpoint.pt"
        if not path.is_file():
            return False
        self.load(path)
        return True

    def load(self, path: Path) -> None:
        """Takes a checkpoint as where this training stands. Raises InputError for what is none of
        this network's."""
        try:
            # Tensors and plain values alone: it may come from another machine.
            state = torch.load(path, map_location=self.place, weights_only=True)
            same = bool(state["network"] == self.network)
        except Exception as error:
            raise InputError(f"{path} cannot be read ({error}); remove it to start over") from error
        if not same:
            raise InputError(f"{path} is of another network; choose another folder with --out")
        try:
            self._take(state)
        except Exception as error:
            raise InputError(f"{path} is damaged ({error}); remove it to start over") from error

    def _take(self, state: dict[str, Any]) -> None:
        for name in ("model", "average"):
            if not all(bool(v.isfinite().all()) for v in state[name].values()):
                raise ValueError(f"numbers of {name} are not finite")
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:  # that of a CPU is empty
            self.scaler.load_state_dict(state["scaler"])
        counts = [int(state[name]) for name in ("step", "stage", "stage_step")]
        if min(counts) < 0 or counts[1] > len(self.config.stages) or counts[2] > counts[0]:
            raise ValueError("its counts of steps cannot be")
        self.step, self.stage, self.stage_step = counts
        self.stage_began = float(state["stage_began"])
        self.spent = float(state["spent"])
        self.sources.update(state.get("sources", ()))
        torch.set_rng_state(state["random"]["torch"].cpu())
        if self.device == "cuda" and state["random"]["cuda"]:
            torch.cuda.set_rng_state_all([s.cpu() for s in state["random"]["cuda"]])

    # -- the loop

    def run(self, stop_after: int | None = None, validating: bool = True) -> None:
        """Trains to the end of the last stage, or ``stop_after`` steps in all; without
        ``validating`` nothing is measured on the way or at the end.

        SIGINT and SIGTERM end it after the step at hand, with a checkpoint, and then do what they
        did before: a run that is not done does not look as if it were.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        resumed = self.resume()
        if self.rank == 0:
            (self.out / "config.json").write_text(json.dumps(asdict(self.config), indent=1) + "\n")
        samples = self._samples()
        validation = self._validation_set() if validating else []
        count = sum(p.numel() for p in self.model.parameters())
        self._say(
            f"{count} parameters, {self.device} x {self.world}, "
            + (f"resumed at step {self.step}" if resumed else self._beginning())
        )
        if self.rank == 0 and validating and not validation:
            self._say("nothing to validate on: name data.held_out or validation.folders")
        before = {}
        if threads_may_signal():
            for number in (signal.SIGINT, signal.SIGTERM):
                before[number] = signal.signal(number, self._on_signal)
        try:
            self._loop(samples, validation, stop_after)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        self.wait()  # not after an error: the others are not on their way here
        if self._stop and self.stage < len(self.config.stages):
            signal.raise_signal(self._stop)

    def wait(self) -> None:
        """For the other processes."""
        if self.world > 1:
            dist.barrier()

    def _beginning(self) -> str:
        """Where a new run starts from, in words."""
        start = self.config.init
        if not start:
            return "from the start"
        about = metadata(start)
        return (
            f"from {about['name']} {about['version']} for k = {about['scale']} in {start} "
            f"(sha256 {sha256_of(start)[:8]})"
        )

    def _on_signal(self, number: int, frame: object) -> None:
        self._stop = number

    def _loop(
        self,
        samples: OnlineSamples | AlignedSamples | WindowSamples,
        validation: list[Pair] | Bank,
        stop_after: int | None,
    ) -> None:
        c, o = self.config, self.config.optimizer
        step_module = self._step_module(samples.aligned)
        began = last_saved = time.monotonic()
        start_spent = self.spent
        log = _Log(self.out, c.log.tensorboard, self.step) if self.rank == 0 else None
        sums: dict[str, float] = {}
        total = sum(s.steps for s in c.stages)
        trained: list[str] = []
        loader = _Loader(samples, o.batch, o.accumulate, self.rank, self.world, c.data.workers)
        wrapped: nn.Module | None = None
        rate = 0.0
        mark = (time.monotonic(), self.step)
        try:
            while self.stage < len(c.stages):
                stage = c.stages[self.stage]
                progress = self._progress(stage)
                if progress >= 1.0:
                    self.stage, self.stage_step = self.stage + 1, 0
                    self.stage_began = self.spent
                    wrapped = None
                    continue
                if self._ended(stop_after):
                    break
                now_trained = freeze(self.model, stage, progress)
                if wrapped is None or now_trained != trained:
                    if not now_trained:
                        raise InputError(f"stage {stage.name!r} trains nothing")
                    trained = now_trained
                    wrapped = step_module
                    if self.world > 1:
                        wrapped = nn.parallel.DistributedDataParallel(
                            step_module,
                            device_ids=[self.place.index] if self.device == "cuda" else None,
                            find_unused_parameters=True,
                        )
                rate = learning_rate(stage, self.stage_step, progress)
                for group in self.optimizer.param_groups:
                    group["lr"] = rate
                self.model.train()
                before = sum(s.steps for s in c.stages[: self.stage])
                whole = (before + progress * stage.steps) / max(total, 1)
                numbers = self._step(wrapped, loader, whole)
                for name, value in numbers.items():
                    sums[name] = sums.get(name, 0.0) + value
                sums["n"] = sums.get("n", 0.0) + 1
                self.step += 1
                self.stage_step += 1
                self.spent = start_spent + time.monotonic() - began
                if log and self.step % c.log.every == 0:
                    n = sums.pop("n")
                    seconds = (time.monotonic() - mark[0]) / max(self.step - mark[1], 1)
                    mark = (time.monotonic(), self.step)
                    means = {name: value / n for name, value in sums.items()}
                    sums = {}
                    row = {"step": self.step, "minutes": self.spent / 60, "lr": rate, **means}
                    log.row(row)
                    left = (total - self.step) * seconds
                    if o.minutes:
                        left = min(left, o.minutes * 60 - self.spent)
                    self._say(
                        f"{stage.name} {self.step}/{total} loss {means['loss']:.5f} "
                        f"gain {means['gain']:+.2f} dB lr {rate:.1e} "
                        f"{seconds * 1000:.0f} ms a step, {_clock(left)} left"
                    )
                if validation and self.step % c.validation.every == 0:
                    self._validate(validation, log)
                if time.monotonic() - last_saved > 60 * c.log.checkpoint_minutes:
                    self.save()
                    last_saved = time.monotonic()
        finally:
            loader.close()
        self.save()
        ended = self.stage >= len(c.stages)
        if ended and validation and not (log and log.validated(self.step)):
            self._validate(validation, log)
        if log:
            log.close()
        if self._stop:
            self._say(f"stopped at step {self.step}; the same command goes on from here")

    def _ended(self, stop_after: int | None) -> bool:
        stop = bool(self._stop) or (stop_after is not None and self.step >= stop_after)
        if self.world > 1:
            flag = torch.tensor([float(stop)], device=self.place)
            dist.all_reduce(flag, dist.ReduceOp.MAX)
            stop = bool(flag.item())
        return stop

    def _step_module(self, aligned: bool) -> nn.Module:
        c = self.config
        amp = AMP.get(c.optimizer.amp)
        if self.family:
            return FamilyStep(self.model, amp, self.device, c.loss, c.samples.border)
        if self.windows:
            return QualityStep(self.model, amp, self.device, c.loss, c.samples.border)
        return Step(self.model, amp, self.device, c.loss, c.samples.border, self.scale, aligned)

    def _progress(self, stage: Stage) -> float:
        done = self.stage_step / max(stage.steps, 1)
        if self.config.optimizer.minutes:
            share = stage.steps / sum(s.steps for s in self.config.stages)
            minutes = self.config.optimizer.minutes * share
            elapsed = torch.tensor([(self.spent - self.stage_began) / 60 / minutes])
            if self.world > 1:
                elapsed = elapsed.to(self.place)
                dist.broadcast(elapsed, 0)
            done = max(done, float(elapsed.item()))
        return min(done, 1.0)

    def _step(self, module: nn.Module, loader: _Loader, progress: float) -> dict[str, float]:
        """progress: part of all stages that is done."""
        o = self.config.optimizer
        self.optimizer.zero_grad(set_to_none=True)
        numbers: dict[str, float] = {}
        for i in range(o.accumulate):
            batch = loader.get(self.step, i)
            batch = {name: value.to(self.place) for name, value in batch.items()}
            found = module(batch, progress)
            loss = found["loss"]
            self.scaler.scale(loss / o.accumulate).backward()
            for name, value in found.items():
                numbers[name] = numbers.get(name, 0.0) + float(value.detach()) / o.accumulate
            if not math.isfinite(numbers["loss"]):
                raise RuntimeError(
                    f"the loss is {numbers['loss']} at step {self.step}; lower the rate"
                )
        self.scaler.unscale_(self.optimizer)
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        numbers["norm"] = float(nn.utils.clip_grad_norm_(parameters, o.clip))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        decay = min(o.ema, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for kept, now in zip(self.average.parameters(), self.model.parameters(), strict=True):
                kept.lerp_(now, 1.0 - decay)
        return numbers

    # -- validation

    def _validation_set(self) -> list[Pair] | Bank:
        v, d = self.config.validation, self.config.data
        if self.rank or not (v.folders or d.held_out):
            return []
        folders = v.folders or d.folders
        if self.windows:
            return self._bank(folders, True)
        return load_pairs(
            [Path(f) for f in folders], self.cache, self.scale, kept(self.config, True)
        )

    def validation_bank(self) -> Bank:
        """The pictures of a network of contract 2 that are held out. Raises InputError."""
        found = self._validation_set()
        assert isinstance(found, Bank)
        return found

    def _validate(self, given: list[Pair] | Bank, log: _Log | None) -> None:
        v = self.config.validation
        if isinstance(given, Bank):
            slots = self.network["references"]
            result = validate_windows(
                self.average, given, self.scale, slots, v.group, v.groups, self.place
            )
        else:
            result = validate(self.average, given, self.scale, v.group, v.groups, self.place)
        over = "the target" if self.scale == 1 else "bicubic"
        for (config, qp), (gain, worst) in sorted(result.items()):
            self._say(f"  {config} QP {qp}: {gain:+.2f} dB over {over}, worst clip {worst:+.2f}")
            if log:
                log.validation(self.step, config, qp, gain, worst)
        if log:
            log.curve()

    def _say(self, text: str, end: str = "\n") -> None:
        if not self.quiet and self.rank == 0:
            print(text, end=end, file=sys.stderr, flush=True)


def _alignment_of(model: Any) -> str:
    """What a network's alignment depends on beside its weights, for the key of cached samples."""
    return json.dumps(model.alignment(), sort_keys=True) if hasattr(model, "alignment") else ""


def threads_may_signal() -> bool:
    import threading

    return threading.current_thread() is threading.main_thread()


def recurs(model: nn.Module) -> bool:
    """Whether a network of contract 2 is made for the recurrence (docs/model.md)."""
    return bool(getattr(model, "recurrence", False))


def bicubic(target: Tensor, scale: int) -> Tensor:
    """FFmpeg's bicubic of packed 4:2:0, packed again."""
    from ..models.resample import BicubicUp, luma_of, pack

    up = BicubicUp(scale)
    return pack(up(luma_of(target)), up(target[:, 4:6]))


@torch.no_grad()
def validate(
    model: nn.Module,
    pairs: list[Pair],
    scale: int,
    group: int = 5,
    groups: int = 1,
    place: torch.device | None = None,
) -> dict[tuple[str, int], tuple[float, float]]:
    """Luma PSNR over bicubic with the recurrence, for each (codec and configuration, QP).

    Whole pictures, rounded to 8 bit; the mean over clips, and the worst clip.
    """
    place = place or torch.device("cpu")
    found: dict[tuple[str, int], list[float]] = {}
    for pair in pairs:
        e = pair.entry
        w, h = (-(-v // ALIGNMENT) * ALIGNMENT for v in (e.width, e.height))
        n = group if e.group == 1 else e.group
        keys = [f for f in e.hr_frames if e.group > 1 or f % (n - 1) == 0]
        gains = []
        spans = [(a, b) for a, b in pairwise(keys) if b - a > 1]
        for first, last in spans[:groups]:
            frames = [f for f in e.lr_frames if first < f < last]

            def tensor(source: tuple[Any, int], s: int = 1, w: int = w, h: int = h) -> Tensor:
                video, i = source
                codes = video.take([i]).padded(w // s, h // s).packed(0)
                return (codes[None].float() / 255.0).to(place)

            targets = [tensor(pair.lr(f), scale) for f in frames]
            made = enhance_run(
                model,
                tensor(pair.hr(first)),
                targets,
                tensor(pair.hr(last)),
                float(e.hr_qp),
                float(e.lr_qp),
            )
            for frame, target, ours in zip(frames, targets, made, strict=True):
                want = tensor(pair.original(frame))
                theirs = bicubic(target, scale).clamp(0, 1)
                a, b = (psnr(x, want, e.height, e.width) for x in (ours, theirs))
                gains.append(a - b)
        if gains:
            found.setdefault((f"{e.codec} {e.config}", e.hr_qp), []).append(float(np.mean(gains)))
    return {key: (float(np.mean(g)), min(g)) for key, g in found.items()}


@torch.no_grad()
def validate_windows(
    model: nn.Module,
    bank: Bank,
    scale: int,
    slots: list[str],
    group: int = 5,
    groups: int = 1,
    place: torch.device | None = None,
) -> dict[tuple[str, int], tuple[float, float]]:
    """As :func:`validate`, for networks of contract 2: luma PSNR over the target's own."""
    found: dict[tuple[str, int], list[float]] = {}
    for shows, source, before, after in psnr_of_windows(
        model, bank, scale, slots, group, groups, place
    ):
        found.setdefault((shows, source.track.qp), []).append(after - before)
    return {key: (float(np.mean(g)), min(g)) for key, g in found.items()}


@torch.no_grad()
def psnr_of_windows(
    model: nn.Module,
    bank: Bank,
    scale: int,
    slots: list[str],
    group: int = 5,
    groups: int = 1,
    place: torch.device | None = None,
) -> Iterator[tuple[str, Source, float, float]]:
    """Of each stream with targets, "codec configuration", itself, and the mean luma PSNR of the
    first groups of the clip, of the targets as they came and as they are made."""
    place = place or torch.device("cpu")

    def made_of(pictures: Tensor, side: Tensor) -> Tensor:
        return model(pictures.to(place), side.to(place)).clamp(0, 1).cpu()

    enhanced = made_of if recurs(model) else None
    for source in bank.sources:
        t = source.track
        if t.scale != scale:
            continue
        psnrs = []
        most = (group - 1) * groups
        for pictures, side, want in shown(bank, source, slots, group - 1, most, enhanced):
            made = made_of(pictures, side)
            psnrs.append([psnr(x, want, t.height, t.width) for x in (pictures[:, 0], made)])
        if psnrs:
            before, after = np.mean(psnrs, 0).tolist()
            yield f"{t.codec} {t.config}", source, before, after


def psnr(got: Tensor, want: Tensor, height: int, width: int) -> float:
    """Luma PSNR in dB of packed pictures at 8 bit, over the unpadded size."""
    part = (slice(None), slice(0, 4), slice(0, height // 2), slice(0, width // 2))
    error = ((got[part] * 255).round() - (want[part] * 255).round()) / 255
    return float(-10 * torch.log10((error.double() ** 2).mean().clamp(min=1e-10)))


def _clock(seconds: float) -> str:
    seconds = max(0, int(seconds))
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


class _Loader:
    """Batches by step; in other threads ahead of time if ``workers`` is above 0."""

    def __init__(
        self,
        samples: OnlineSamples | AlignedSamples | WindowSamples,
        batch: int,
        accumulate: int,
        rank: int,
        world: int,
        workers: int,
    ) -> None:
        self.samples = samples
        self.batch, self.accumulate = batch, accumulate
        self.rank, self.world = rank, world
        self._pool: Any = None
        self._ahead: dict[tuple[int, int], Any] = {}
        self._depth = max(2, workers)
        if workers:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(workers)

    def _make(self, step: int, part: int) -> Batch:
        # The same samples in the same steps, whatever the process was stopped in between.
        start = ((step * self.accumulate + part) * self.world + self.rank) * self.batch
        return collate([self.samples(start + i) for i in range(self.batch)])

    def get(self, step: int, part: int) -> Batch:
        if self._pool is None:
            return self._make(step, part)
        key = (step, part)
        at = step * self.accumulate + part
        for ahead in range(self._depth + 1):
            k = divmod(at + ahead, self.accumulate)
            if k not in self._ahead:
                self._ahead[k] = self._pool.submit(self._make, *k)
        return self._ahead.pop(key).result()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


class _Log:
    """CSV files that a resumed run goes on with, TensorBoard, and a plotted curve."""

    def __init__(self, out: Path, tensorboard: bool, step: int) -> None:
        """step: where training goes on; what was logged after it is done again."""
        self.out = out
        for name in ("log.csv", "validation.csv"):
            self._forget(out / name, step)
        self._writer: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter

                self._writer = SummaryWriter(str(out / "tb"))
            except ImportError:
                print("tensorboard is not installed; log.csv has the same", file=sys.stderr)

    @staticmethod
    def _forget(path: Path, step: int) -> None:
        if not path.is_file():
            return
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            names = reader.fieldnames or []
        kept = [r for r in rows if (r.get("step") or "").isdigit() and int(r["step"]) <= step]
        if len(kept) == len(rows):
            return
        with whole_file(path, overwrite=True) as beside, beside.open("w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(kept)

    def _append(self, name: str, row: dict[str, Any]) -> None:
        path = self.out / name
        new = not path.is_file()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if new:
                writer.writeheader()
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})

    def row(self, row: dict[str, Any]) -> None:
        self._append("log.csv", row)
        if self._writer:
            for name, value in row.items():
                if name != "step":
                    self._writer.add_scalar(f"train/{name}", value, row["step"])

    def validation(self, step: int, config: str, qp: int, gain: float, worst: float) -> None:
        row = {"step": step, "config": config, "qp": qp, "gain": gain, "worst": worst}
        self._append("validation.csv", row)
        if self._writer:
            self._writer.add_scalar(f"validation/{config} QP {qp}", gain, step)

    def validated(self, step: int) -> bool:
        """Whether the network of this step was validated, by this run or the one it resumes."""
        path = self.out / "validation.csv"
        if not path.is_file():
            return False
        with path.open(newline="") as file:
            return any(row["step"] == str(step) for row in csv.DictReader(file))

    def curve(self) -> None:
        """Plots validation gain by step; quietly nothing without matplotlib."""
        path = self.out / "validation.csv"
        if not path.is_file():
            return
        try:
            import matplotlib

            matplotlib.use("Agg")
            from matplotlib import pyplot
        except ImportError:
            return
        lines: dict[str, list[tuple[int, float]]] = {}
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                name = f"{row['config']} QP {row['qp']}"
                lines.setdefault(name, []).append((int(row["step"]), float(row["gain"])))
        figure, axes = pyplot.subplots(figsize=(7, 4))
        for name, points in sorted(lines.items()):
            axes.plot(*zip(*points, strict=True), label=name, marker=".")
        axes.set(xlabel="step", ylabel="luma PSNR gained, dB")
        axes.grid(True, alpha=0.3)
        axes.legend(fontsize=7)
        figure.tight_layout()
        figure.savefig(self.out / "curve.png", dpi=100)
        pyplot.close(figure)

    def close(self) -> None:
        self.curve()
        if self._writer:
            self._writer.close()
