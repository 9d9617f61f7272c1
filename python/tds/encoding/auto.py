# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every segment measured, side by side, and the streams of what is best for the whole file.

How LR is coded (k, QP, HR refined or not) is one choice a file, since a track has one size and the
tag one QP for it; which groups a segment has, plain stretches among them, and how strongly each
picture is changed are choices a segment, a group and a picture.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av

from .. import models
from .._tds import MAX_RUNS
from ..codecs import Config
from ..codecs.base import CodedSegment
from ..container.metadata import Metadata
from ..container.writing import CodedStream, add_video
from ..errors import InputError, MissingError
from ..evaluation.cache import Cache, Job, write_record
from ..measuring.measure import decode_segments, sizes_in_display_order
from ..media.opening import ffmpeg_name
from ..media.planar import Plane, planes_of
from ..media.sources import VideoSource
from ..plan import Boundaries, Plan, Role, run_lengths
from .choosing import STEPS, at_equal_quality, strongest
from .measured import FULL, Measuring, SegmentRecord, WayRecord, lr_name, lr_settings
from .rebuilding import Enhancers, Rebuilder, enhanced_errors
from .segments import Segment, segments
from .settings import MODEL, EncodeSettings
from .streams import Coded, Progress, code_one_stream, metadata_of
from .tries import LR, Tries, tries_of

_log = logging.getLogger("tds.encoding")

PLAIN = "one stream"
"""The name of that choice, beside str(LR)."""


@dataclass(frozen=True)
class Pair:
    """A way to code the whole video as a pair. step: of STEPS of lambda, in all segments: each at
    its own would trade quality between segments at different prices."""

    lr: LR
    step: int


_WORTH = 0.005


@dataclass(frozen=True)
class Measured:
    """A segment that was measured, without its pictures. times: of its frames, a lead's
    included."""

    times: tuple[int, ...]
    lead: bool
    folder: Path
    record: SegmentRecord

    @property
    def own(self) -> range:
        return range(int(self.lead), len(self.times))

    def way(self, pair: Pair) -> WayRecord:
        """As measured; of a segment that is too short for LR pictures: all of them are HR."""
        pairs = self.record["pairs"]
        if str(pair.lr) in pairs:
            return pairs[str(pair.lr)][pair.step]
        passed = self.record["passed"]
        return {
            "groups": [(0, 1)] if len(self.times) > 1 else [],
            "bits": [0] * len(passed),
            "errors": list(passed),
        }

    def hr(self, pair: Pair) -> list[int]:
        """Places of the segment's own HR pictures."""
        places = {0, *(last for _, last in self.way(pair)["groups"])}
        return [i for i in self.own if i in places]

    def totals(self, pair: Pair | None) -> tuple[int, int]:
        """Bits and squared error of the segment's own frames; None: of one stream."""
        bits = self.record["bits"]
        if pair is None:
            return sum(bits[i] for i in self.own), sum(self.record["enhanced"][i] for i in self.own)
        way, hr = self.way(pair), set(self.hr(pair))
        spent = sum(bits[i] if i in hr else way["bits"][i] for i in self.own)
        return spent, sum(way["errors"][i] for i in self.own)


@dataclass(frozen=True)
class Choice:
    """What was tried and chosen, for people.

    effort: of the settings. model: that measured. tried: bits of each choice at equal quality,
    against the plain stream as it is, in percent. chosen: of these. frames: for each frame of the
    video its role ("HR", "LR", "plain"), group (frames of it), strength (halves), bits, and squared
    luma errors, as chosen and of the plain stream."""

    effort: int
    model: str
    tried: dict[str, float]
    chosen: str
    segments: list[dict[str, Any]]
    frames: list[dict[str, Any]]


def find_enhancers(settings: EncodeSettings) -> Enhancers:
    """The models of the settings' name.

    Raises MissingError where there is none for k = 1, or none can be run."""
    name = settings.model or MODEL
    if why := models.unusable():
        raise MissingError(why)
    installed = {m.scale: m for m in models.available() if m.name == name}
    if 1 not in installed:
        raise MissingError(
            f"no model {name!r} for k = 1 is installed, which would show what the plans are worth; "
            "name another with --model, or fix the plan with --plan"
        )
    found = {k: models.choose(k, name) for k in installed}
    pairs = {k: str(found[k].path) for k in found if k > 1}
    plain = str(found[1].path)
    refines = bool(pairs) and all(installed[k].metadata.get("tds_model") == 2 for k in pairs)
    hashes = {k: m.sha256 for k, m in installed.items()}
    code = tuple(sorted({f.code for f in found.values()}))
    return Enhancers(name, plain, pairs, plain if refines else None, hashes, code)


@dataclass
class Auto:
    """One video on its way. state: the folder of what is done, which another run goes on from.
    folder: for what is needed until the file is written. again: opens the source once more; None:
    it can be read only once."""

    video: VideoSource
    settings: EncodeSettings
    enhancers: Enhancers
    state: Path
    folder: Path
    again: Callable[[], VideoSource] | None
    workers: int
    progress: Progress | None
    tell: Callable[[str], None]

    def code(self) -> Coded:
        enhancers = self.enhancers
        settings = replace(self.settings, model=enhancers.name, model_sha256=enhancers.hashes[1])
        self._settings = settings
        tries = Tries()
        if settings.plan is Plan.AUTO:
            refine, scales = enhancers.hr is not None, set(enhancers.pairs)
            tries = tries_of(settings.effort, settings.config, settings.adapter(), refine, scales)
        threads = max(1, (os.cpu_count() or 1) // self.workers)
        self._measuring = Measuring(
            settings, self._possible(tries), enhancers, threads, threading.Event()
        )
        if settings.config is Config.LDP:
            return self._whole()
        done = list(self._measured(self.workers))
        if not done:
            raise InputError(f"{self.video.path} has no frames that decode")
        return self._assemble(done)

    def _possible(self, tries: Tries) -> Tries:
        """Without LR streams that the encoder cannot code at this size."""
        possible = []
        for lr in tries.lr:
            with contextlib.suppress(InputError):
                lr_settings(self._settings, lr).stream(self.video, Role.LR)
                possible.append(lr)
        return replace(tries, lr=tuple(possible), groups=tries.groups if possible else ())

    # -- segments ------------------------------------------------------------

    def _measured(self, workers: int) -> Iterator[Measured]:
        cache = Cache(self.state)
        about = self._measuring.describe()
        files = (*self.enhancers.hashes.values(), *self.enhancers.code)
        local = threading.local()
        opened: list[Rebuilder] = []
        scales = {lr.scale for lr in self._measuring.tries.lr}
        total, read, frames = self.video.frames, 0, 0

        def count(so_far: int) -> None:
            nonlocal read
            read = so_far

        def work(segment: Segment) -> Measured:
            spec = {**about, "pictures": segment.digest(), "lead": segment.lead}
            job = Job("segment", spec, files=files)
            name = f"segment {segment.index} ({len(segment.own)} frames)"
            if cache.has(job):
                _log.info("%s: done before", name)
            else:
                _log.debug("%s: begins", name)
                if not hasattr(local, "rebuilder"):
                    local.rebuilder = self._measuring.rebuilder(self.video)
                    opened.append(local.rebuilder)
                with cache.making(job) as out:
                    record = self._measuring.measure(self.video, segment, local.rebuilder, out)
                    write_record(out, cast(dict[str, Any], record))
                _log.info("%s: measured", name)
            times = tuple(frame.pts for frame in segment.frames)
            found = cast(SegmentRecord, cache.record(job))
            return Measured(times, segment.lead, cache.path(job), found)

        pool = ThreadPoolExecutor(workers, thread_name_prefix="measure")
        waiting: deque[Future[Measured]] = deque()
        try:
            parts = segments(self.video, self._settings, scales, bool(scales), count)
            for segment in parts:
                waiting.append(pool.submit(work, segment))
                del segment
                while len(waiting) > workers:
                    done = waiting.popleft().result()
                    frames += len(done.own)
                    if self.progress:
                        self.progress(frames, max(total, read))
                    yield done
            while waiting:
                done = waiting.popleft().result()
                frames += len(done.own)
                if self.progress:
                    self.progress(frames, max(total, read))
                yield done
        finally:
            self._measuring.stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            for rebuilder in opened:
                rebuilder.close()

    # -- the file ------------------------------------------------------------

    def _assemble(self, done: Sequence[Measured]) -> Coded:
        costs: dict[Pair | None, float] = {None: _against_plain(done, None, 0)}
        for lr in self._measuring.tries.lr:
            paths = [m.folder / lr_name(lr) for m in done]
            headers = next((header_bits(path) for path in paths if path.is_file()), None)
            for pair in (Pair(lr, step) for step in range(len(STEPS))):
                if headers is None or not any(any(m.way(pair)["bits"]) for m in done):
                    continue
                if len(run_lengths(_groups(done, pair))) <= MAX_RUNS:  # else more than a tag holds
                    costs[pair] = _against_plain(done, pair, headers)
        # A pair that saves next to nothing is not worth its second stream.
        best = min(costs, key=lambda pair: costs[pair] + (0.0 if pair is None else _WORTH))
        times = [m.times[i] for m in done for i in m.own]
        restarts = [m.times[m.own[0]] for m in done]
        if self._settings.config is Config.AI:
            restarts = restarts[:1]
        metadata = metadata_of(self.video, self._settings, times)
        tried: dict[str, float] = {}
        for way, cost in costs.items():
            name = PLAIN if way is None else str(way.lr)
            tried[name] = min(tried.get(name, cost), cost)
        for name, cost in tried.items():
            _log.info("%s: %.2f %% of the plain stream's bits", name, 100 * cost)
        if best is None:
            coded = self._one_stream(done, times, restarts, metadata)
        else:
            coded = self._pair(done, best, times, restarts, metadata)
        coded.choice = Choice(
            self._settings.effort,
            self._measuring.enhancers.name,
            {name: round(100 * cost, 2) for name, cost in tried.items()},
            PLAIN if best is None else str(best.lr),
            *_told(done, best, coded.metadata),
        )
        coded.metadata = replace(coded.metadata, choice=_for_tag(coded.choice))
        return coded

    def _one_stream(
        self,
        done: Sequence[Measured],
        times: list[int],
        restarts: list[int],
        metadata: Metadata,
    ) -> Coded:
        strengths = [m.record["strengths"][i] for m in done for i in m.own]
        if len(run_lengths(strengths)) > MAX_RUNS:
            best = [m.record["by_strength"] for m in done]
            strengths = [
                strongest([(of[0], of[1], of[2])])[0]
                for m, of in zip(done, best, strict=True)
                for _ in m.own
            ]
        parts = [self._part(m, FULL, list(m.own), f"hr-{i:05d}.mp4") for i, m in enumerate(done)]
        metadata = replace(metadata, refine_hr=True, strengths=tuple(run_lengths(strengths)))
        return Coded(CodedStream(parts, times), None, metadata, restarts)

    def _pair(
        self,
        done: Sequence[Measured],
        pair: Pair,
        times: list[int],
        restarts: list[int],
        metadata: Metadata,
    ) -> Coded:
        parts: dict[Role, list[CodedSegment]] = {role: [] for role in Role}
        shown: dict[Role, list[int]] = {role: [] for role in Role}
        for index, m in enumerate(done):
            hr = m.hr(pair)
            low = [i for i in m.own if i not in hr]
            for role, name, places, offset in (
                (Role.HR, FULL, hr, 0),
                (Role.LR, lr_name(pair.lr), low, 1),
            ):
                if places:
                    part = f"{role.value}-{index:05d}.mp4"
                    picked = [i - offset for i in places]
                    parts[role].append(self._part(m, name, picked, part))
                    shown[role] += [m.times[i] for i in places]
        settings = lr_settings(self._settings, pair.lr)
        groups = _groups(done, pair)
        sizes = [abs(size) for size in groups if abs(size) > 2]
        metadata = replace(
            metadata,
            scale=pair.lr.scale,
            lr_qp=-1 if metadata.hr_qp < 0 else settings.lr_qp,
            group=min(max(set(sizes), key=sizes.count), 65),
            boundaries=Boundaries.SHARED,
            groups=tuple(run_lengths(groups)),
            model_sha256=self.enhancers.hashes[pair.lr.scale],
            refine_hr=pair.lr.refine,
        )
        streams = {role: CodedStream(parts[role], shown[role]) for role in Role}
        return Coded(streams[Role.HR], streams[Role.LR], metadata, restarts, settings=settings)

    def _part(self, m: Measured, name: str, places: Sequence[int], part: str) -> CodedSegment:
        """Some of the pictures of a segment's stream, by place in it."""
        path = m.folder / name
        if self._settings.config is not Config.AI:
            return CodedSegment(path, len(places))
        return pick(path, places, self.folder / part)

    # -- a stream that is one segment ------------------------------------------

    def _whole(self) -> Coded:
        """In LDP nothing can be left out or told apart before the end: the stream is coded, and
        measured by reading the source again."""
        settings = replace(self._settings, plan=Plan.PLAIN_ENHANCED)
        coded = code_one_stream(self.video, settings, self.folder, self.progress)
        if self.again is None:
            self.tell(
                f"{self.video.path} can be read only once, so that what a model makes of the coded "
                "stream is not measured: all of it is to be enhanced"
            )
            return coded
        with self.again() as again, self._measuring.rebuilder(again) as rebuilder:
            source = _source_luma(again)
            decoded = decode_segments(coded.hr)
            total = len(coded.hr.times)
            errors = []
            for of_one in enhanced_errors(rebuilder, zip(source, decoded, strict=True)):
                errors.append(of_one.by_halves)
                if self.progress:
                    self.progress(len(errors), total)
        asked = self._settings.strength
        halves = strongest(errors) if asked is None else [round(2 * asked)] * len(errors)
        if len(run_lengths(halves)) > MAX_RUNS:
            halves = strongest([tuple(map(sum, zip(*errors, strict=True)))]) * len(errors)
        bits = [8 * size for size in sizes_in_display_order(coded.hr)]
        frames: list[dict[str, Any]] = [
            {
                "role": "plain",
                "group": 1,
                "strength": h / 2,
                "bits": b,
                "error": of_one[h],
                "plain_bits": b,
                "plain_error": of_one[0],
            }
            for h, b, of_one in zip(halves, bits, errors, strict=True)
        ]
        error, plain_error = (
            sum(frame[key] for frame in frames) for key in ("error", "plain_error")
        )
        cost = at_equal_quality(1, error / max(1, plain_error), ())
        coded.choice = Choice(
            self._settings.effort,
            self.enhancers.name,
            {PLAIN: round(100 * cost, 2)},
            PLAIN,
            [{"first": 0, "frames": len(frames), "slope": 0.0}],
            frames,
        )
        coded.metadata = replace(
            coded.metadata,
            refine_hr=True,
            strengths=tuple(run_lengths(halves)),
            choice=_for_tag(coded.choice),
        )
        return coded


def _source_luma(video: VideoSource) -> Iterator[Plane]:
    full = video.planar()
    for frame in video:
        yield planes_of(full(frame))[0].copy()


def _against_plain(done: Sequence[Measured], pair: Pair | None, more: int) -> float:
    """Bits of all segments, and ``more``, at equal quality, the plain stream's being 1."""
    bits, error = (sum(column) for column in zip(*(m.totals(pair) for m in done), strict=True))
    plain = [
        (sum(m.record["bits"][i] for i in m.own), sum(m.record["passed"][i] for i in m.own))
        for m in done
    ]
    plain_bits, plain_error = (max(1, sum(column)) for column in zip(*plain, strict=True))
    # One point a QP, of all segments at that QP.
    curve = [
        (
            sum(b * point[0] for (b, _), point in zip(plain, points, strict=True)) / plain_bits,
            sum(e * point[1] for (_, e), point in zip(plain, points, strict=True)) / plain_error,
        )
        for points in zip(*(m.record["curve"] for m in done), strict=True)
    ]
    return at_equal_quality((bits + more) / plain_bits, error / plain_error, curve)


def _groups(done: Sequence[Measured], pair: Pair) -> list[int]:
    """As the tag has them, with shared boundaries: sizes, below 0 where the first HR picture is not
    the group before's."""
    sizes: list[int] = []
    for m in done:
        own = [last - first + 1 for first, last in m.way(pair)["groups"]]
        if not m.lead:
            own = [-own[0], *own[1:]] if own else [-1]
        sizes += own
    return sizes


def _told(
    done: Sequence[Measured], pair: Pair | None, metadata: Metadata
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What a Choice tells of segments and frames."""
    parts: list[dict[str, Any]] = []
    frames: list[dict[str, Any]] = []
    strengths = [halves for halves, count in metadata.strengths for _ in range(count)]
    for m in done:
        r = m.record
        parts.append({"first": len(frames), "frames": len(m.own), "slope": r["slope"]})
        way = m.way(pair) if pair is not None else None
        hr = set(m.hr(pair)) if pair is not None else set(m.own)
        size = {}
        for first, last in way["groups"] if way is not None else ():
            size.update(dict.fromkeys(range(first, last + 1), last - first + 1))
        for i in m.own:
            halves = strengths[len(frames)] if strengths else 2 * (i not in hr)
            whole = {0: r["passed"][i], 1: r["enhanced"][i], 2: r["enhanced"][i]}
            frames.append(
                {
                    "role": "plain" if way is None else "HR" if i in hr else "LR",
                    "group": size.get(i, 1),
                    "strength": halves / 2,
                    "bits": r["bits"][i] if way is None or i in hr else way["bits"][i],
                    "error": whole[halves] if way is None else way["errors"][i],
                    "plain_bits": r["bits"][i],
                    "plain_error": r["passed"][i],
                }
            )
    return parts, frames


def _for_tag(choice: Choice) -> dict[str, Any]:
    return {"effort": choice.effort, "chosen": choice.chosen, "tried": choice.tried}


def header_bits(path: Path) -> int:
    """Of the parameter sets that are kept beside a stream's packets."""
    with av.open(ffmpeg_name(path)) as container:
        return 8 * len(container.streams.video[0].codec_context.extradata or b"")


def pick(path: Path, places: Sequence[int], out: Path) -> CodedSegment:
    """A copy of some packets of a stream in which each stands alone."""
    wanted = set(places)
    with (
        av.open(ffmpeg_name(path)) as container,
        av.open(ffmpeg_name(out), "w", format="mp4") as made,
    ):
        source = container.streams.video[0]
        stream = add_video(made, path)
        packets = (p for p in container.demux(source) if p.size)
        for place, packet in enumerate(packets):
            if place in wanted:
                packet.stream = stream
                packet.time_base = Fraction(1, 25)
                packet.pts = packet.dts = place
                packet.duration = 1
                made.mux(packet)
    return CodedSegment(out, len(wanted))
