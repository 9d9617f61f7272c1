# SPDX-License-Identifier: LGPL-2.1-or-later
"""Training samples: which pictures go together, decoded, cut and turned.

A sample is a function of (seed, index) alone. So a sampler has no state to lose: training
that resumes at step s, on as many processes, goes on with exactly the samples it would have
had.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._tds import lr_size
from ..errors import InputError
from ..files import sha256_of_text, whole_file
from .config import SampleSettings
from .dataset import Entry, load_manifest
from .pictures import Bytes, Yuv, read

ALIGNMENT = 16  # full sizes are padded to a multiple of this, as the engine does


@dataclass(frozen=True)
class Shot:
    """Which source frames make a sample. ``middle`` is (frame, first, last): that frame,
    enhanced from those two, stands in for ``last`` (``recurrent`` 2) or ``first`` (1)."""

    target: int
    first: int | None
    last: int | None
    recurrent: int = 0
    middle: tuple[int, int, int] = (0, 0, 0)
    unrelated: int = 0  # 1: ``last`` is to be a picture that does not fit; 2: both are

    @property
    def position(self) -> float:
        if self.first is None or self.last is None:
            return 0.5
        return (self.target - self.first) / (self.last - self.first)


READ_BY = "media"
"""How pictures were decoded, for the cache: those of before had 8-bit VVC from a decoder that is
wrong (media/decoding.py)."""


class Decoded:
    """A data set's pictures, decoded once into a cache folder and memory-mapped."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self.cache = cache
        self._open: dict[Path, Yuv] = {}
        self._opening = threading.Lock()

    def get(self, relative: str) -> Yuv:
        path = self.folder / relative
        with self._opening:  # threads that load samples ask for the same one at once
            if path not in self._open:
                self._open[path] = self._map(path)
            return self._open[path]

    def _map(self, path: Path) -> Yuv:
        stat = path.stat()
        key = f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns} {READ_BY}"
        name = sha256_of_text(key)[:24]
        found = sorted(self.cache.glob(f"{name}-*.npy"))
        if not found:
            self.cache.mkdir(parents=True, exist_ok=True)
            decoded = read(path)
            target = self.cache / f"{name}-{decoded.width}x{decoded.height}.npy"
            with whole_file(target, overwrite=True) as beside:
                np.save(beside, decoded.data)
            found = [target]
        width, height = (int(v) for v in found[0].stem.rsplit("-", 1)[1].split("x"))
        data: Bytes = np.load(found[0], mmap_mode="r")
        return Yuv(data, width, height)


@dataclass(frozen=True)
class Pair:
    """An entry and its data set."""

    entry: Entry
    decoded: Decoded

    def hr(self, frame: int) -> tuple[Yuv, int]:
        return self.decoded.get(self.entry.hr), self.entry.hr_frames.index(frame)

    def lr(self, frame: int) -> tuple[Yuv, int]:
        e = self.entry
        return self.decoded.get(e.lr), e.lr_leads + e.lr_frames.index(frame)

    def original(self, frame: int) -> tuple[Yuv, int]:
        return self.decoded.get(self.entry.original), frame

    def check(self) -> None:
        """Raises InputError when the streams do not hold what the entry says."""
        e = self.entry
        sizes = (lr_size(e.width, e.scale), lr_size(e.height, e.scale))
        for path, frames, size in (
            (e.hr, len(e.hr_frames), (e.width, e.height)),
            (e.lr, e.lr_leads + len(e.lr_frames), sizes),
        ):
            got = self.decoded.get(path)
            if len(got) != frames or (got.width, got.height) != size:
                raise InputError(
                    f"{path}: {len(got)} pictures of {got.width}x{got.height}, and the manifest "
                    f"says {frames} of {size[0]}x{size[1]}; make the data set again"
                )


def draw_shot(rng: np.random.Generator, entry: Entry, settings: SampleSettings) -> Shot:
    """A target and its references, as the decoder would have them, or nearly so."""
    keys = set(entry.hr_frames)
    total = sum(weight for weight, _ in settings.distances)
    for _ in range(64):
        target = int(rng.choice(entry.lr_frames))
        missing = rng.random() < settings.missing
        recurrent = rng.random() < settings.recurrent
        if entry.group == 1:
            pick = rng.random() * total
            before, after = settings.distances[-1][1]
            for weight, distance in settings.distances:
                pick -= weight
                if pick < 0:
                    before, after = distance
                    break
            if recurrent and rng.random() < 0.5:
                shot = Shot(target, target - 1, target + 1, 2, (target + 1, target - 1, target + 3))
            elif recurrent:
                shot = Shot(target, target - 1, target + 1, 1, (target - 1, target - 3, target + 1))
            else:
                shot = Shot(target, target - before, target + after)
        else:
            first = max(k for k in keys if k < target)
            last = min(k for k in keys if k > target)
            middle = first + (last - first) // 2
            if target < middle:
                shot = Shot(target, first, middle, 2, (middle, first, last))
            elif target > middle:
                shot = Shot(target, middle, last, 1, (middle, first, last))
            else:
                shot = Shot(target, first, last)
            if not recurrent:
                shot = Shot(target, first, last)
        used = [f for f, r in ((shot.first, 1), (shot.last, 2)) if shot.recurrent != r]
        used += shot.middle[1:] if shot.recurrent else ()
        if any(f not in keys for f in used):
            continue
        if shot.recurrent and shot.middle[0] not in entry.lr_frames:
            continue
        if missing and not shot.recurrent:
            gone = rng.random() < 0.5
            shot = Shot(target, None if gone else shot.first, shot.last if gone else None)
        elif not shot.recurrent and rng.random() < settings.unrelated:
            shot = Shot(target, shot.first, shot.last, unrelated=1 + int(rng.random() < 0.5))
        return shot
    # A clip too short for anything else: its only group.
    target = entry.lr_frames[len(entry.lr_frames) // 2]
    before_all = [k for k in entry.hr_frames if k < target]
    after_all = [k for k in entry.hr_frames if k > target]
    return Shot(target, before_all[-1] if before_all else None, after_all[0] if after_all else None)


def load_pairs(
    folders: list[Path], cache: Path, scale: int, keep: Callable[[Entry], bool] | None = None
) -> list[Pair]:
    """All pairs for this scale that ``keep`` accepts. Raises InputError when there is none."""
    pairs = []
    for folder in folders:
        decoded = Decoded(folder, cache)
        for entry in load_manifest(folder):
            if entry.lr_frames and entry.scale == scale and (keep is None or keep(entry)):
                pairs.append(Pair(entry, decoded))
    if not pairs:
        names = ", ".join(map(str, folders))
        raise InputError(f"there is no pair for k = {scale} in {names} that the settings allow")
    return pairs


Batch = dict[str, Tensor]


def turn(packed: Tensor, across: bool, down: bool, transpose: bool) -> Tensor:
    """Flips and transposes packed 4:2:0, one picture or several of 6 channels each, as the
    pictures they stand for."""
    order = list(range(6))
    dims = []
    # Turned is where a channel's samples are, and which of the four of luma it has.
    for asked, dim, swapped in (
        (across, 4, (1, 0, 3, 2, 4, 5)),
        (down, 3, (2, 3, 0, 1, 4, 5)),
        (transpose, 0, (0, 2, 1, 3, 4, 5)),
    ):
        if asked:
            order = [order[i] for i in swapped]
            dims += [dim] if dim else []
    turned = packed.unflatten(1, (-1, 6))[:, :, order].flip(dims)
    return (turned.transpose(3, 4) if transpose else turned).flatten(1, 2)


def _unrelated(packed: Tensor) -> Tensor:
    """Another scene, as after a cut: the picture upside down, with black and white swapped."""
    luma = 1.0 - packed[:, :4] if packed.is_floating_point() else 255 - packed[:, :4]
    return turn(torch.cat([luma, packed[:, 4:]], 1), True, True, False)


def _side(shot: Shot, entry: Entry) -> list[float]:
    return [
        float(shot.first is not None),
        float(shot.last is not None),
        shot.position,
        float(entry.hr_qp),
        float(entry.lr_qp),
    ]


class OnlineSamples:
    """Samples cut from the decoded pictures; the network aligns (and recurs) on the cut.

    A sample has ``first, last, target, original`` (uint8, packed), ``side``, and ``recurrent``
    with ``middle_target, middle_first, middle_last, middle_side`` for its enhanced reference.
    """

    aligned = False

    def __init__(self, pairs: list[Pair], settings: SampleSettings, seed: int) -> None:
        self.pairs = pairs
        self.settings = settings
        self.seed = seed
        self.scale = pairs[0].entry.scale
        self.unit = max(4, 2 * self.scale)  # cuts start at multiples of this
        weights = [p.entry.width * p.entry.height * len(p.entry.lr_frames) for p in pairs]
        self._steps = np.cumsum(np.array(weights, float) / sum(weights))

    def __call__(self, index: int) -> Batch:
        rng = np.random.default_rng([self.seed, index])
        pair = self.pairs[min(int(np.searchsorted(self._steps, rng.random())), len(self.pairs) - 1)]
        shot = draw_shot(rng, pair.entry, self.settings)
        e, size, k = pair.entry, self.settings.patch, self.scale
        h, w = (max(size, -(-v // ALIGNMENT) * ALIGNMENT) for v in (e.height, e.width))
        y = int(rng.integers(0, (h - size) // self.unit + 1)) * self.unit
        x = int(rng.integers(0, (w - size) // self.unit + 1)) * self.unit

        def cut(source: tuple[Yuv, int], s: int = 1) -> Tensor:
            video, i = source
            picture = video.take([i]).padded(max(w // s, video.width), max(h // s, video.height))
            return picture.packed(0, y // s, x // s, size // s, size // s)

        first = cut(pair.hr(shot.first)) if shot.first is not None and shot.recurrent != 1 else None
        last = cut(pair.hr(shot.last)) if shot.last is not None and shot.recurrent != 2 else None
        stand_in = first if first is not None else last
        assert stand_in is not None
        sample = {
            "first": first if first is not None else stand_in,
            "last": last if last is not None else stand_in,
            "target": cut(pair.lr(shot.target), k),
            "original": cut(pair.original(shot.target)),
            "side": torch.tensor(_side(shot, e)),
            "recurrent": torch.tensor(shot.recurrent),
        }
        if shot.recurrent:
            middle, before, after = shot.middle
            sample["middle_target"] = cut(pair.lr(middle), k)
            sample["middle_first"] = cut(pair.hr(before))
            sample["middle_last"] = cut(pair.hr(after))
            at = _side(Shot(middle, before, after), e)
        else:
            sample["middle_target"] = sample["target"]
            sample["middle_first"] = sample["first"]
            sample["middle_last"] = sample["last"]
            at = _side(shot, e)
        sample["middle_side"] = torch.tensor(at)
        if shot.unrelated:
            sample["last"] = _unrelated(sample["last"][None])[0]
        if shot.unrelated == 2:
            sample["first"] = _unrelated(sample["first"][None])[0]
        return _vary(rng, sample, self.settings)


class AlignedSamples:
    """Samples whose references were warped once, over whole pictures, and kept.

    For networks whose alignment learns nothing (``fast``, ``standard``): training then costs
    only the fusion, and sees exactly the alignment of whole pictures. ``shots`` samples of
    each pair are made; enhanced references come from ``enhancer``.
    """

    aligned = True

    def __init__(
        self,
        pairs: list[Pair],
        settings: SampleSettings,
        seed: int,
        model: nn.Module,
        cache: Path,
        shots: int,
        enhancer: nn.Module | None = None,
        key: str = "",
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.settings = settings
        self.seed = seed
        self.scale = pairs[0].entry.scale
        self.unit = max(4, 2 * self.scale)
        self.items: list[dict[str, Any]] = []
        weights: list[int] = []
        for n, pair in enumerate(pairs):
            for item in self._of(pair, model, enhancer, cache, shots, key):
                self.items.append(item)
                weights.append(item["original"].shape[1] * item["original"].shape[2])
            if progress:
                progress(n + 1, len(pairs))
        self._steps = np.cumsum(np.array(weights, float) / sum(weights))

    def _of(
        self,
        pair: Pair,
        model: nn.Module,
        enhancer: nn.Module | None,
        cache: Path,
        shots: int,
        key: str,
    ) -> list[dict[str, Any]]:
        e, s = pair.entry, self.settings
        text = f"{pair.decoded.folder.resolve()} {e.hr} {e.hr_bytes} {e.lr_bytes} {shots} {key}"
        text += f" {self.seed} {s.missing} {s.unrelated} {s.recurrent} {s.distances}"
        path = cache / f"aligned-{sha256_of_text(text)[:24]}.pt"
        if not path.is_file():
            cache.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng([self.seed, int(path.stem[-8:], 16)])
            settings = s if enhancer is not None else SampleSettings(**{**vars(s), "recurrent": 0})
            made = [
                self._make(pair, draw_shot(rng, e, settings), model, enhancer) for _ in range(shots)
            ]
            with whole_file(path, overwrite=True) as beside:
                torch.save(made, beside)
        return torch.load(path, weights_only=True, mmap=True)

    @torch.no_grad()
    def _make(
        self, pair: Pair, shot: Shot, model: nn.Module, enhancer: nn.Module | None
    ) -> dict[str, Tensor]:
        e = pair.entry
        w, h = (-(-v // ALIGNMENT) * ALIGNMENT for v in (e.width, e.height))

        def whole(source: tuple[Yuv, int], s: int = 1) -> Tensor:
            video, i = source
            return video.take([i]).padded(w // s, h // s).packed(0)[None]

        def real(codes: Tensor) -> Tensor:
            return codes.float() / 255.0

        first = last = None
        if shot.first is not None and shot.recurrent != 1:
            first = real(whole(pair.hr(shot.first)))
        if shot.last is not None and shot.recurrent != 2:
            last = real(whole(pair.hr(shot.last)))
        if shot.recurrent and enhancer is not None:
            middle, before, after = shot.middle
            enhanced = enhancer(
                real(whole(pair.hr(before))),
                real(whole(pair.lr(middle), self.scale)),
                real(whole(pair.hr(after))),
                torch.tensor([_side(Shot(middle, before, after), e)]),
            ).clamp(0.0, 1.0)
            first, last = (enhanced, last) if shot.recurrent == 1 else (first, enhanced)
        first = first if first is not None else last
        last = last if last is not None else first
        assert first is not None and last is not None
        if shot.unrelated:
            last = _unrelated(last)
        if shot.unrelated == 2:
            first = _unrelated(first)
        target = whole(pair.lr(shot.target), self.scale)
        side = torch.tensor([_side(shot, e)])
        a, b = model.align(  # type: ignore[operator]
            model.reference(first),  # type: ignore[operator]
            real(target),
            model.reference(last),  # type: ignore[operator]
            side,
        )

        def codes(x: Tensor) -> Tensor:
            return (x[0].clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)

        return {
            "first": codes(a),
            "last": codes(b),
            "target": target[0].clone(),
            "original": whole(pair.original(shot.target))[0].clone(),
            "side": side[0],
        }

    def __call__(self, index: int) -> Batch:
        rng = np.random.default_rng([self.seed, index])
        n = min(int(np.searchsorted(self._steps, rng.random())), len(self.items) - 1)
        item, size, k = self.items[n], self.settings.patch, self.scale
        h, w = (2 * v for v in item["original"].shape[1:])
        if min(h, w) < size:
            raise InputError(f"a clip of {w}x{h} is smaller than the patch of {size}")
        y = int(rng.integers(0, (h - size) // self.unit + 1)) * self.unit
        x = int(rng.integers(0, (w - size) // self.unit + 1)) * self.unit

        def cut(name: str, s: int = 1) -> Tensor:
            part = item[name][:, y // 2 // s : (y + size) // 2 // s]
            return part[:, :, x // 2 // s : (x + size) // 2 // s]

        sample = {name: cut(name) for name in ("first", "last", "original")}
        sample["target"] = cut("target", k)
        sample["side"] = item["side"].clone()
        return _vary(rng, sample, self.settings)


def _vary(rng: np.random.Generator, sample: Batch, settings: SampleSettings) -> Batch:
    """Turns a sample, swaps its references in time, hides its QPs; at random."""
    across, down, transpose, swap = rng.random(4) < 0.5
    sides = [name for name in sample if name.endswith("side")]
    for name, value in sample.items():
        if value.dim() == 3:
            sample[name] = turn(value[None], across, down, transpose)[0].contiguous()
    hide = rng.random() < settings.unknown_qp
    for name in sides:
        side = sample[name].clone()
        if hide:
            side[3:] = -1.0
        if swap:
            side = torch.stack([side[1], side[0], 1.0 - side[2], side[3], side[4]])
        sample[name] = side
    if swap:
        sample["first"], sample["last"] = sample["last"], sample["first"]
        if "middle_first" in sample:
            sample["middle_first"], sample["middle_last"] = (
                sample["middle_last"],
                sample["middle_first"],
            )
            recurrent = sample["recurrent"]
            sample["recurrent"] = torch.where(recurrent > 0, 3 - recurrent, recurrent)
    return sample


def collate(samples: list[Batch]) -> Batch:
    """A batch; pictures become floats 0..1."""
    batch: Batch = {}
    for name in samples[0]:
        value = torch.stack([s[name] for s in samples])
        batch[name] = value.float() / 255.0 if value.dtype == torch.uint8 else value
    return batch
