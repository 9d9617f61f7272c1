# SPDX-License-Identifier: LGPL-2.1-or-later
"""The JSON that pairs the two streams: what it says, its limits, its versions.

It is the value of the MP4's global key ``tds`` and the whole of a sidecar.
Specification: docs/container.md. Reading is tolerant (unknown keys are kept
out, missing optional ones default), writing strict.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

from av.container import InputContainer

from .._tds import MAX_FRAMES as MAX_FRAMES
from .._tds import MAX_RUNS, Tag
from ..errors import InputError
from ..media.opening import TAG, tags
from ..plan import Boundaries, Role, roles_of_groups, run_lengths

VERSION = 1
KEY = TAG

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
    """What is known for the enhancer.

    hr_qp, lr_qp: of the two streams; -1: not known. tag: names the model that the encoder had
    in mind and says what is to be done with it; None: none.
    """

    hr_qp: int = -1
    lr_qp: int = -1
    tag: Tag | None = None


@dataclass(frozen=True)
class Metadata:
    """What the two streams are and how they belong together.

    scale: k. width, height: of the source and of HR, in luma samples.
    bit_depth: of both streams, 8 or 10. config: "ai", "ldp" or "ra".
    groups: sizes of the groups, run-length coded (plan.roles_of_groups).
    leads: HR frames of which the LR stream has a down-sampled copy too (LDP, RA): the
    first one's index, then the distances from each to the next, run-length coded.
    model, model_sha256: the enhancer the encoder had in mind; a hint by name.
    strengths: of the enhancer for each source frame, in halves (0, 1, 2), run-length coded;
    empty: 2 for all. refine_hr: HR pictures are to be enhanced too. choice: how the encoder came to
    its plan, for people; it is written, and not among what a Tag reads.
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
    strengths: tuple[tuple[int, int], ...] = ()
    refine_hr: bool = False
    choice: Mapping[str, Any] | None = None

    @property
    def plain(self) -> bool:
        """It is of one stream: every frame is an HR picture of it."""
        return is_plain(self.groups)

    @property
    def hints(self) -> Hints:
        return Hints(self.hr_qp, self.lr_qp, Tag(self.to_json(), "the metadata"))

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

    def strengths_by_time(self) -> dict[int, float]:
        """How strongly a model may change the frame of each time, 0 to 1; empty where all are 1
        or the timeline is not known."""
        halves = (half for half, count in self.strengths for _ in range(count))
        return {time: half / 2 for time, half in zip(self.timeline.times(), halves, strict=False)}

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
        if any(halves != 2 for halves, _ in self.strengths):
            value["strengths"] = [list(run) for run in self.strengths]
        if self.refine_hr:
            value["hr"] = "refine"
        if self.choice is not None:
            value["choice"] = dict(self.choice)
        text = json.dumps(value, separators=(",", ":"))
        try:
            Tag(text, "what TDS notes of this video")
        except (ValueError, NotImplementedError) as e:
            raise InputError(
                f"no reader would take it: {e}; where it is too much, split the video"
            ) from e
        return text

    @classmethod
    def from_json(cls, text: str, where: str) -> Metadata:
        """Parses and checks; ``where`` names the file in messages.

        Raises InputError for anything a reader could not rely on."""
        return cls.of(read_tag(text, where))

    @classmethod
    def of(cls, tag: Tag) -> Metadata:
        return cls(
            scale=tag.scale,
            width=tag.width,
            height=tag.height,
            bit_depth=tag.bit_depth,
            codec=tag.codec,
            config=tag.config,
            hr_qp=tag.hr_qp,
            lr_qp=tag.lr_qp,
            group=tag.group,
            boundaries=Boundaries.SHARED if tag.shared else Boundaries.INDEPENDENT,
            groups=tuple(tag.groups),
            timeline=Timeline(
                Fraction(*tag.time_base),
                tag.start,
                tag.n_frames,
                Fraction(*tag.rate),
                None if tag.regular or not tag.times_known else tuple(tag.deltas),
                tag.times_known,
            ),
            leads=tuple(tag.leads),
            encoder=tag.encoder,
            preset=tag.preset,
            model=tag.model,
            model_sha256=tag.model_sha256,
            strengths=tuple(tag.strengths) if tag.has_strengths else (),
            refine_hr=tag.refine_hr,
        )


def is_plain(groups: Iterable[tuple[int, int]]) -> bool:
    """Whether the groups of a tag leave nothing to an LR stream."""
    return all(abs(size) <= 2 for size, _ in groups)


def container_tag(container: InputContainer) -> str | None:
    """The text of an open file's tag; Matroska has its keys in capitals."""
    said = tags(container.metadata)
    return said.get(KEY) or said.get(KEY.upper())


def read_tag(text: str, where: str) -> Tag:
    """The tag as libtds reads it for all doors; ``where`` names the file in messages.

    Raises InputError for anything a reader could not rely on."""
    named = where.encode("utf-8", "backslashreplace").decode()  # names need not be UTF-8
    try:
        return Tag(text.encode("utf-8", "surrogateescape"), named)
    except (ValueError, NotImplementedError) as e:
        raise InputError(str(e)) from e


def check_model(name: Any, sha256: Any) -> None:
    """Raises ValueError for what may not name a model; None: none is named."""
    if name is not None and not _NAME.match(str(name)):
        raise ValueError(f"a model's name has letters, digits, . _ -, not {name!r}")
    if sha256 is not None and not _SHA256.match(str(sha256)):
        raise ValueError(f"model_sha256 is 64 hex digits, not {sha256!r}")
