# SPDX-License-Identifier: LGPL-2.1-or-later
"""Training samples of the family: a target and the pictures around it, as the engine shows them.

A sample is a function of (seed, index) alone, as in samples.py. The tasks of a network for k = 1
are pictures of plain streams and HR pictures of pairs, whose nearest neighbours are LR; those of
one for k = 2 or 4 are LR pictures of pairs. Which picture a slot gives is the rule of
docs/model.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .bank import Bank, Source, Track
from .config import SampleSettings
from .samples import Batch, turn

REACH = 32
"""Pictures away from the target, up to which "full-before" and "full-after" are looked for."""

WEIGHTS = {
    ("hevc", "ai"): 1.3,
    ("hevc", "ra"): 1.3,
    ("h264", "ai"): 1.0,
    ("h264", "ra"): 1.1,
    ("vvc", "ai"): 2.4,
    ("vvc", "ra"): 1.5,
}
"""How often a stream is drawn; there are more of some kinds than of others in a data set."""

_LOW_DELAY = 0.6

Around = Callable[[int], "tuple[Track, int] | None"]
"""Which picture is at a signed distance from the target: its track and source frame, or None."""


def in_slots(slots: Sequence[str], at: Around) -> list[int | None]:
    """The distance of the picture that each slot gives, None where none is (docs/model.md)."""
    found: list[int | None] = []
    for slot in slots:
        if slot in ("full-before", "full-after"):
            sign = 1 if slot == "full-after" else -1
            chosen = None
            for distance in range(sign, sign * (REACH + 1), sign):
                there = at(distance)
                if there is not None and there[0].scale == 1 and distance not in found:
                    chosen = distance
                    break
        else:
            distance = int(slot)
            chosen = distance if at(distance) is not None and distance not in found else None
        found.append(chosen)
    return found


def middle_of(distances: Sequence[int | None]) -> tuple[int, int] | None:
    """The paper's recurrence, for a target that is LR and has its boundaries at these distances:
    how far the middle of their run is, and the slot that its enhanced picture takes. None where
    the target is the middle, or a boundary is missing."""
    before, after = distances
    if before is None or after is None:
        return None
    middle = before + 1 + (after - before - 2) // 2
    return None if middle == 0 else (middle, 1 if middle > 0 else 0)


def row(track: Track, distance: int) -> list[float]:
    """What is told of a reference that is present."""
    return [1.0, float(distance), float(track.scale), 0.0, float(track.qp), -1.0, 0.0]


def row_of_middle(track: Track, distance: int) -> list[float]:
    """The same, of an LR picture that a model has enhanced."""
    return [1.0, float(distance), 1.0, 1.0, float(track.qp), -1.0, 0.0]


def target_rows(track: Track, count: int) -> list[list[float]]:
    """The row of the target, and for each slot that of a picture that is not present."""
    about = [float(track.scale), 0.0, float(track.qp), -1.0]
    return [[1.0, 0.0, *about, 1.0], *([0.0, 0.0, *about, 0.0] for _ in range(count))]


class WindowSamples:
    """Samples of a bank for one k.

    A sample has ``pictures`` and ``originals`` ``[1 + R, 6, S/2, S/2]`` (floats 0..1, the target
    first), ``side [1 + R, 7]``, ``qp [1 + R]`` of the streams (whether ``side`` tells it or not),
    ``fits [R]`` (1 where a reference shows the target's scene, so that motion can be learned from
    its original) and ``error``, the mean squared error of the target's stream.

    With ``recurrence`` (slots full-before and full-after, LR targets) it also has ``recurrent``,
    which of ``pictures`` is to be the enhanced middle of the target's run, 0: none, and of that
    middle ``middle [3, 6, S/2, S/2]`` and ``middle_side [3, 7]``, as ``pictures`` and ``side``.
    """

    aligned = False

    def __init__(
        self,
        bank: Bank,
        slots: Sequence[str],
        scale: int,
        settings: SampleSettings,
        seed: int,
        recurrence: bool = False,
    ) -> None:
        self.bank, self.slots, self.scale = bank, list(slots), scale
        self.settings, self.seed = settings, seed
        self.recurrence = recurrence
        # Cuts start at multiples of this, whatever k their neighbours have.
        self.unit = 2 * max(2, *(s.track.scale for s in bank.sources))
        self._whole: dict[tuple[str, str, str, str], dict[int, list[Source]]] = {}
        for source in bank.sources:
            if source.track.whole:
                of = self._whole.setdefault(self._stream(source, source.track.scale), {})
                of.setdefault(source.track.qp, []).append(source)
        self.tasks = [s for s in bank.sources if s.track.scale == scale]
        if not self.tasks:
            raise InputError(
                f"there is no stream for k = {scale} in data.folders that the settings allow"
            )
        weights = [WEIGHTS.get((s.track.codec, s.track.config), _LOW_DELAY) for s in self.tasks]
        self._steps = np.cumsum(np.array(weights) / sum(weights))

    @staticmethod
    def _stream(source: Source, scale: int) -> tuple[str, str, str, str]:
        t = source.track
        return t.clip, t.codec, t.config, f"{source.original.start} k{scale}"

    def _draw(self, rng: np.random.Generator) -> Source:
        return self.tasks[min(int(np.searchsorted(self._steps, rng.random())), len(self.tasks) - 1)]

    def _beside(
        self, rng: np.random.Generator, source: Source, scales: Sequence[int]
    ) -> Track | None:
        """A stream of every frame to make a pair with: of the same QP, or 5 off."""
        qp = source.track.qp
        fit = []
        for scale in scales:
            there = self._whole.get(self._stream(source, scale), {})
            for near in (qp, qp, qp - 5, qp + 5):
                fit += there.get(near, [])
        return fit[int(rng.integers(len(fit)))].track if fit else None

    def _spacing(self, rng: np.random.Generator) -> int:
        weights, frames = np.array(self.settings.spacings).T
        return int(rng.choice(frames, p=weights / weights.sum()))

    def _around(self, rng: np.random.Generator, source: Source, frame: int) -> Around:
        """What is around the target in the stream or pair that it is taken to be in."""
        t, partner = source.track, source.partner
        if not t.whole:  # a pair as it was coded
            tracks = [t] if partner is None else [t, partner]

            def coded(distance: int) -> tuple[Track, int] | None:
                at = frame + distance
                return next(((track, at) for track in tracks if at in track.places), None)

            return coded
        # An all-intra picture is the same whatever is around it: every other frame makes a faster
        # scene, and one that runs backwards.
        step = 1
        if t.config == "ai":
            step = 2 if rng.random() < 0.15 else 1
            step = -step if rng.random() < 0.5 else step
        other: Track | None = None
        before = after = 0
        if t.scale > 1:
            other = self._beside(rng, source, (1,))
            spacing = self._spacing(rng)
            before = -int(rng.integers(1, spacing))
            after = before + spacing
        elif rng.random() < self.settings.pairs:
            other = self._beside(rng, source, (2, 4))
            before, after = -self._spacing(rng), self._spacing(rng)

        def taken(distance: int) -> tuple[Track, int] | None:
            track: Track | None = t
            if t.scale > 1 and distance in (before, after):
                track = other
            elif t.scale == 1 and other is not None and distance not in (0, before, after):
                track = other
            at = frame + distance * step
            return (track, at) if track is not None and at in track.places else None

        return taken

    def __call__(self, index: int) -> Batch:
        rng = np.random.default_rng([self.seed, index])
        s, size = self.settings, self.settings.patch
        source = self._draw(rng)
        t = source.track
        frame = int(rng.choice(list(t.places)))
        at = self._around(rng, source, frame)
        causal = rng.random() < s.causal

        def place(track: Track) -> tuple[int, int]:
            y, x = (
                int(rng.integers(0, (v - size) // self.unit + 1))
                for v in (track.height, track.width)
            )
            return y * self.unit, x * self.unit

        def cut(track: Track, of: int, where: tuple[int, int]) -> Tensor:
            return self.bank.cut(track, of, *where, size, size)

        here = place(t)
        target, original = cut(t, frame, here), cut(source.original, frame, here)
        side = target_rows(t, len(self.slots))
        pictures, originals, fits = [target], [original], []
        distances = in_slots(self.slots, at)
        middle = None
        if self.recurrence and rng.random() < s.recurrent and not causal:
            middle = middle_of(distances)
        recurrent = 0
        for i, distance in enumerate(distances, 1):
            missing, unrelated = rng.random() < s.missing, rng.random() < s.unrelated
            if middle is not None and i == middle[1] + 1 and not (missing or unrelated):
                beyond = at(middle[0])
                if beyond is not None and beyond[0] is t:
                    recurrent = i
                    side[i] = row_of_middle(t, middle[0])
                    pictures.append(cut(*beyond, here))
                    originals.append(cut(source.original, beyond[1], here))
                    fits.append(1.0)
                    continue
            there = None if distance is None or (causal and distance > 0) else at(distance)
            if missing or there is None or distance is None:
                pictures.append(target)
                originals.append(original)
                fits.append(0.0)
                continue
            side[i] = row(there[0], distance)
            if unrelated:
                other = self._draw(rng).track
                pictures.append(cut(other, int(rng.choice(list(other.places))), place(other)))
                originals.append(original)
                fits.append(0.0)
            else:
                pictures.append(cut(*there, here))
                originals.append(cut(source.original, there[1], here))
                fits.append(1.0)
        facts = torch.tensor(side)
        qp = facts[:, 4].clone()
        untold = rng.random() < s.unknown_qp
        if untold:
            facts[:, 4] = -1.0
        across, down, transpose = (bool(v) for v in rng.random(3) < 0.5)
        more: Batch = {}
        if self.recurrence:
            shown_to_it, its_rows = pictures, side
            if recurrent:
                assert middle is not None
                shown_to_it, its_rows = [pictures[recurrent]], target_rows(t, len(self.slots))
                for i, distance in enumerate(distances, 1):
                    there = at(distance) if distance is not None else None
                    assert there is not None and distance is not None  # or there is no middle
                    shown_to_it.append(cut(*there, here))
                    its_rows[i] = row(there[0], distance - middle[0])
            its_facts = torch.tensor(its_rows)
            if untold:
                its_facts[:, 4] = -1.0
            more = {
                "recurrent": torch.tensor(recurrent),
                "middle": turn(torch.stack(shown_to_it), across, down, transpose),
                "middle_side": its_facts,
            }
        return {
            **more,
            "pictures": turn(torch.stack(pictures), across, down, transpose),
            "originals": turn(torch.stack(originals), across, down, transpose),
            "side": facts,
            "qp": qp,
            "fits": torch.tensor(fits),
            "error": torch.tensor(t.error),
        }


def shown(
    bank: Bank,
    source: Source,
    slots: Sequence[str],
    spacing: int,
    most: int,
    enhanced: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Whole pictures of a track to validate on: ``pictures [1, 1 + R, 6, H/2, W/2]``, ``side`` and
    the target's original ``[1, 6, H/2, W/2]``.

    Targets are among the first ``most`` frames. LR streams of every frame make pairs with the HR
    stream of their QP, ``spacing`` frames between HR pictures; QPs are not told. enhanced: of a
    network with the recurrence, makes the middle of a run from its pictures and side.
    """
    t = source.track
    full: Track | None = None
    if t.whole and t.scale > 1:
        key = (t.clip, t.codec, t.config, t.qp, source.original)
        for s in bank.sources:
            u = s.track
            if u.scale == 1 and u.whole and (u.clip, u.codec, u.config, u.qp, s.original) == key:
                full = u
        if full is None:
            return

    def track_of(frame: int) -> Track | None:
        if not t.whole:
            tracks = (t, source.partner)
            return next((u for u in tracks if u is not None and frame in u.places), None)
        track = full if full is not None and frame % spacing == 0 else t
        return track if frame in track.places else None

    def around(frame: int) -> tuple[list[Tensor], list[list[float]], list[int | None]]:
        """Of a target: the pictures, their rows, and how far the references are."""

        def at(distance: int) -> tuple[Track, int] | None:
            track = track_of(frame + distance)
            return None if track is None else (track, frame + distance)

        pictures = [bank.picture(t, frame)]
        side = target_rows(t, len(slots))
        distances = in_slots(slots, at)
        for i, distance in enumerate(distances, 1):
            there = None if distance is None else at(distance)
            if there is None or distance is None:
                pictures.append(pictures[0])
            else:
                pictures.append(bank.picture(*there))
                side[i] = row(there[0], distance)
        return pictures, side, distances

    def ready(pictures: list[Tensor], side: list[list[float]]) -> tuple[Tensor, Tensor]:
        facts = torch.tensor([side])
        facts[:, :, 4] = -1.0
        return torch.stack(pictures)[None], facts

    made: dict[int, Tensor] = {}  # the middle that was enhanced last
    for frame in t.places:
        if frame > most or track_of(frame) is not t:
            continue
        pictures, side, distances = around(frame)
        middle = None if enhanced is None else middle_of(distances)
        if enhanced is not None and middle is not None and track_of(frame + middle[0]) is t:
            at = frame + middle[0]
            if at not in made:
                made = {at: enhanced(*ready(*around(at)[:2]))[0]}
            pictures[1 + middle[1]] = made[at]
            side[1 + middle[1]] = row_of_middle(t, middle[0])
        yield *ready(pictures, side), bank.picture(source.original, frame)[None]
