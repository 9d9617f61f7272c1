# SPDX-License-Identifier: LGPL-2.1-or-later
"""The JSON that pairs the two streams: what it says, its limits, its versions.

It is the value of the MP4's global key ``tds`` and the whole of a sidecar.
Specification: docs/container.md. Reading is tolerant (unknown keys are kept
out, missing optional ones default), writing strict.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

from ..errors import InputError
from ..plan import Boundaries, Role, roles_of_groups, run_lengths

VERSION = 1
KEY = "tds"
MAX_FRAMES = 10_000_000  # 46 hours at 60 fps; a count beyond it is refused, not trusted
MAX_RUNS = 20_000  # entries of a run-length list
MAX_JSON = 1 << 20  # bytes

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
# A name, never a path or an address: the file may not choose what is loaded from where.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


@dataclass(frozen=True)
class Timeline:
    """The source's display times, in ticks of ``time_base`` seconds.

    Either regular, frame i at ``start + round(i / (rate * time_base))`` (half
    up, as FFmpeg rounds), or, with ``deltas``, the differences of successive
    times as (ticks, count) runs. ``known`` is False for a variable rate too
    irregular to store: then a lost picture cannot be told from one that never was.
    """

    time_base: Fraction
    start: int
    frames: int
    rate: Fraction
    deltas: tuple[tuple[int, int], ...] | None = None
    known: bool = True

    @property
    def regular(self) -> bool:
        """Whether all times follow from the rate."""
        return self.known and self.deltas is None

    @classmethod
    def of(cls, times: Sequence[int], time_base: Fraction, rate: Fraction) -> Timeline:
        """The shortest description of ``times`` that is exact."""
        start = times[0] if times else 0
        regular = cls(time_base, start, len(times), rate)
        if all(a == b for a, b in zip(times, regular.times(), strict=True)):
            return regular
        runs = run_lengths(b - a for a, b in pairwise(times))
        if len(runs) <= MAX_RUNS:
            return cls(time_base, start, len(times), rate, tuple(runs))
        return cls(time_base, start, len(times), rate, known=False)

    def times(self) -> Iterator[int]:
        """Display times in ticks, one a source frame. Nothing when not ``known``."""
        if not self.known:
            return
        if self.deltas is None:
            step = 1 / (self.rate * self.time_base)
            for i in range(self.frames):
                yield self.start + (2 * i * step.numerator + step.denominator) // (
                    2 * step.denominator
                )
            return
        now = self.start
        if self.frames:
            yield now
        for delta, count in self.deltas:
            for _ in range(count):
                now += delta
                yield now


@dataclass(frozen=True)
class Hints:
    """What the metadata says to the enhancer.

    hr_qp, lr_qp: of the two streams; -1: not known. model, model_sha256: the enhancer the
    encoder had in mind, by name; None: none.
    """

    hr_qp: int = -1
    lr_qp: int = -1
    model: str | None = None
    model_sha256: str | None = None


@dataclass(frozen=True)
class Metadata:
    """What the two streams are and how they belong together.

    scale: k. width, height: of the source and of HR, in luma samples.
    bit_depth: of both streams, 8 or 10. config: "ai", "ldp" or "ra".
    groups: sizes of the groups, run-length coded (plan.roles_of_groups).
    leads: HR frames of which the LR stream has a down-sampled copy too (LDP, RA): the
    first one's index, then the distances from each to the next, run-length coded.
    model, model_sha256: the enhancer the encoder had in mind; a hint by name.
    """

    scale: int
    width: int
    height: int
    bit_depth: int
    codec: str
    config: str
    hr_qp: int
    lr_qp: int
    group: int
    boundaries: Boundaries
    groups: tuple[tuple[int, int], ...]
    timeline: Timeline
    leads: tuple[tuple[int, int], ...] = ()
    encoder: str = ""
    preset: str = ""
    model: str | None = None
    model_sha256: str | None = None

    @property
    def hints(self) -> Hints:
        return Hints(self.hr_qp, self.lr_qp, self.model, self.model_sha256)

    def roles(self) -> Iterator[Role]:
        """The role of each source frame, in display order."""
        return roles_of_groups(self.groups, self.boundaries)

    def expected(self) -> dict[Role, list[int]]:
        """The times at which each stream has a picture, without the LR stream's
        down-sampled boundaries; both empty when the timeline is not known."""
        out: dict[Role, list[int]] = {Role.HR: [], Role.LR: []}
        if self.timeline.known:
            for time, role in zip(self.timeline.times(), self.roles(), strict=True):
                out[role].append(time)
        return out

    def lead_times(self) -> list[int]:
        """The times of ``leads``; empty when the timeline is not known."""
        times, at, out = list(self.timeline.times()), 0, []
        for step, count in self.leads if times else ():
            for _ in range(count):
                at += step
                out.append(times[at])
        return out

    # -- JSON --------------------------------------------------------------

    def to_json(self) -> str:
        """Raises InputError for what ``from_json`` would refuse."""
        t = self.timeline
        timeline: dict[str, Any] = {
            "time_base": str(t.time_base),
            "start": t.start,
            "frames": t.frames,
            "rate": str(t.rate),
        }
        if not t.known:
            timeline["known"] = False
        elif t.deltas is not None:
            timeline["deltas"] = [list(run) for run in t.deltas]
        value: dict[str, Any] = {
            KEY: VERSION,
            "scale": self.scale,
            "width": self.width,
            "height": self.height,
            "bit_depth": self.bit_depth,
            "codec": self.codec,
            "config": self.config,
            "hr_qp": self.hr_qp,
            "lr_qp": self.lr_qp,
            "group": self.group,
            "boundaries": self.boundaries.value,
            "groups": [list(run) for run in self.groups],
            "timeline": timeline,
            "leads": [list(run) for run in self.leads],
            "encoder": self.encoder,
            "preset": self.preset,
        }
        if self.model is not None:
            value["model"] = self.model
        if self.model_sha256 is not None:
            value["model_sha256"] = self.model_sha256
        try:
            text = json.dumps(value, separators=(",", ":"))
            self._checked(text)
        except (ValueError, TypeError, KeyError, ZeroDivisionError) as e:
            raise InputError(
                f"no reader would take this video's TDS metadata ({e}); where it is too much, "
                "split the video"
            ) from e
        return text

    @classmethod
    def from_json(cls, text: str, where: str) -> Metadata:
        """Parses and checks; ``where`` names the file in messages.

        Raises InputError for anything a reader could not rely on."""
        try:
            return cls._checked(text)
        except _OtherVersion as e:
            raise InputError(
                f"{where}: its TDS metadata is version {e} and this program reads "
                f"version {VERSION}; a newer tds-codec may read it"
            ) from e
        except (ValueError, TypeError, KeyError, ZeroDivisionError, RecursionError) as e:
            raise InputError(f"{where}: its TDS metadata is damaged ({e})") from e

    @classmethod
    def _checked(cls, text: str) -> Metadata:
        if len(text) > MAX_JSON:
            raise ValueError(f"it is over {MAX_JSON} bytes")
        value = strict_json(text)
        if not isinstance(value, dict):
            raise ValueError("it is not an object")
        if value.get(KEY) != VERSION:
            raise _OtherVersion(repr(value.get(KEY)))
        return cls._from_dict(value)

    @classmethod
    def _from_dict(cls, v: dict[str, Any]) -> Metadata:
        t = v["timeline"]
        frames = _int(t["frames"], 0, MAX_FRAMES, "frames")
        deltas = None
        if "deltas" in t:
            deltas = _runs(t["deltas"], 1, 1 << 40, frames, "deltas")
            if sum(n for _, n in deltas) != max(frames - 1, 0):
                raise ValueError("deltas do not add up to frames")
        rate = _fraction(t["rate"], "rate")
        time_base = _fraction(t["time_base"], "time_base")
        if not 0 < rate <= 1000 or not 0 < time_base <= 1:
            raise ValueError("rate or time base out of range")
        timeline = Timeline(
            time_base,
            _int(t.get("start", 0), -(1 << 60), 1 << 60, "start"),
            frames,
            rate,
            deltas,
            bool(t.get("known", True)),
        )
        boundaries = Boundaries(v["boundaries"])
        groups = _runs(v["groups"], -(1 << 16), 1 << 16, frames, "groups")
        total = sum(
            (abs(size) - (boundaries is Boundaries.SHARED and size > 0)) * n for size, n in groups
        )
        if total != frames or any(size == 0 for size, _ in groups):
            raise ValueError("groups do not add up to frames")
        leads = _runs(v.get("leads", []), 0, frames, frames, "leads")
        if leads and sum(step * n for step, n in leads) >= frames:
            raise ValueError("leads are beyond the last frame")
        model, sha = v.get("model"), v.get("model_sha256")
        check_model(model, sha)
        scale = _int(v["scale"], 1, 4, "scale")
        if scale == 3:
            raise ValueError("scale is 1, 2 or 4")
        bit_depth = _int(v.get("bit_depth", 8), 8, 10, "bit_depth")
        if bit_depth == 9:
            raise ValueError("bit_depth is 8 or 10")
        return cls(
            scale=scale,
            width=_int(v["width"], 2, 16384, "width"),
            height=_int(v["height"], 2, 16384, "height"),
            bit_depth=bit_depth,
            codec=str(v.get("codec", "")),
            config=str(v.get("config", "")),
            hr_qp=_int(v.get("hr_qp", -1), -1, 63, "hr_qp"),
            lr_qp=_int(v.get("lr_qp", -1), -1, 63, "lr_qp"),
            group=_int(v.get("group", 5), 3, 65, "group"),
            boundaries=boundaries,
            groups=groups,
            timeline=timeline,
            leads=leads,
            encoder=str(v.get("encoder", ""))[:200],
            preset=str(v.get("preset", ""))[:64],
            model=model,
            model_sha256=sha,
        )


def strict_json(text: str) -> Any:
    """The value of a JSON text, without the NaN and Infinity that Python's reader also takes.

    Raises ValueError (JSONDecodeError for what is no JSON in any reading)."""

    def refuse(constant: str) -> None:
        raise ValueError(f"JSON has no {constant}")

    return json.loads(text, parse_constant=refuse)


class _OtherVersion(ValueError):
    pass


def check_model(name: Any, sha256: Any) -> None:
    """Raises ValueError for what may not name a model; None: none is named."""
    if name is not None and not _NAME.match(str(name)):
        raise ValueError(f"a model's name has letters, digits, . _ -, not {name!r}")
    if sha256 is not None and not _SHA256.match(str(sha256)):
        raise ValueError(f"model_sha256 is 64 hex digits, not {sha256!r}")


# No exponent: "1e1000000000" would be computed before it could be found too large.
_FRACTION = re.compile(r"\d{1,18}(/\d{1,18}|\.\d{1,18})?\Z")


def _fraction(value: Any, name: str) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{name} is {value!r}, not a number")
    if isinstance(value, str) and not _FRACTION.match(value):
        raise ValueError(f"{name} is {value[:40]!r}, not a number or a fraction such as 30000/1001")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}, not a number")
    return Fraction(value)


def _int(value: Any, low: int, high: int, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}, not a whole number from {low} to {high}")
    return value


def _runs(value: Any, low: int, high: int, most: int, name: str) -> tuple[tuple[int, int], ...]:
    if not isinstance(value, list) or len(value) > MAX_RUNS:
        raise ValueError(f"{name} is not a list of at most {MAX_RUNS} runs")
    runs = tuple(
        (_int(x, low, high, name), _int(n, 1, most, name)) for x, n in (tuple(r) for r in value)
    )
    if sum(n for _, n in runs) > most:
        raise ValueError(f"{name} has more entries than the video has frames")
    return runs
