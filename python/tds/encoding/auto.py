# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every segment measured, and the streams of what is best for the whole file."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import zip_longest
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
from ..evaluation.cache import Cache, Job
from ..evaluation.execution import RayExecutor
from ..measuring.measure import decode_segments, sizes_in_display_order
from ..media.opening import ffmpeg_name
from ..media.planar import Plane, planes_of
from ..media.sources import VideoSource
from ..plan import Boundaries, Plan, Role, run_lengths
from .candidates import PLAIN, Choice, Measured, Pair, against_plain, groups_of, told
from .choosing import STEPS, at_equal_quality, strongest
from .measured import FULL, Measuring, SegmentRecord, lr_name, lr_settings
from .rebuilding import Enhancers, enhanced_errors
from .segments import segments
from .settings import MODEL, EncodeSettings
from .streams import Coded, Progress, code_one_stream, metadata_of
from .tries import Tries, tries_of
from .workers import LocalWorkers, RayWorkers, Workers

_log = logging.getLogger("tds.encoding")

_WORTH = 0.005  # of the plain stream's bits, that a pair saves at least


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
    hashes = {k: m.sha256 for k, m in installed.items()}
    code = tuple(sorted({f.code for f in found.values()}))
    return Enhancers(name, plain, pairs, plain if pairs else None, hashes, code)


@dataclass
class Auto:
    """One video on its way. state: the folder of what is done, which another run goes on from.
    folder: for what is needed until the file is written. again: opens the source once more; None:
    it can be read only once. workers: segments that are measured at once on this machine. cluster:
    measures them instead."""

    video: VideoSource
    settings: EncodeSettings
    enhancers: Enhancers
    state: Path
    folder: Path
    again: Callable[[], VideoSource] | None
    workers: int
    cluster: RayExecutor | None
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
        self._measuring = Measuring.of(self.video, settings, tries, enhancers)
        if settings.config is Config.LDP:
            return self._whole()
        done = list(self._measured())
        if not done:
            raise InputError(f"{self.video.path} has no frames that decode")
        return self._assemble(done)

    # -- segments ------------------------------------------------------------

    def _measured(self) -> Iterator[Measured]:
        """All segments, in order, those that were measured before among them."""
        cache = Cache(self.state)
        about = self._measuring.describe()
        scales = {lr.scale for lr in self._measuring.tries.lr}
        total, read, frames = self.video.frames, 0, 0
        waiting: deque[tuple[Job[Any], tuple[int, ...], bool, Callable[[], None] | None]] = deque()

        def count(so_far: int) -> None:
            nonlocal read
            read = so_far

        def finished() -> Measured:
            nonlocal frames
            job, times, lead, wait = waiting.popleft()
            if wait is not None:
                wait()
            done = Measured(times, lead, cache.path(job), cast(SegmentRecord, cache.record(job)))
            frames += len(done.own)
            if self.progress:
                self.progress(frames, max(total, read))
            return done

        with self._workers(cache) as workers:
            for part in segments(self.video, self._settings, scales, bool(scales), count):
                spec = {**about, "pictures": part.digest(), "lead": part.lead}
                job = Job("segment", spec, files=self.enhancers.files, label=part.label)
                times = tuple(frame.pts for frame in part.frames)
                known = cache.has(job)
                if known:
                    _log.info("%s: done before", part.label)
                wait = None if known else workers.submit(job, part)
                waiting.append((job, times, part.lead, wait))
                del part
                while len(waiting) > workers.slots:
                    yield finished()
            while waiting:
                yield finished()

    def _workers(self, cache: Cache) -> Workers:
        if self.cluster is None:
            return LocalWorkers(self._measuring, cache, self.workers)
        return RayWorkers(self._measuring, cache, self.cluster)

    # -- the file ------------------------------------------------------------

    def _assemble(self, done: Sequence[Measured]) -> Coded:
        costs: dict[Pair | None, float] = {None: against_plain(done, None, 0)}
        for lr in self._measuring.tries.lr:
            paths = [m.folder / lr_name(lr) for m in done]
            headers = next((header_bits(path) for path in paths if path.is_file()), None)
            for pair in (Pair(lr, step) for step in range(len(STEPS))):
                has_lr = any(any(m.way(pair)["bits"]) for m in done)
                fits = len(run_lengths(groups_of(done, pair))) <= MAX_RUNS  # the tag
                if headers is not None and has_lr and fits:
                    costs[pair] = against_plain(done, pair, headers)
        # One that saves next to nothing is not worth its second stream.
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
            *told(done, best, coded.metadata),
        )
        coded.metadata = replace(coded.metadata, choice=coded.choice.for_tag())
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
        groups = groups_of(done, pair)
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
        if self.cluster is not None:
            self.tell(
                "low delay is measured as a whole, on this machine: --ray does nothing for it"
            )
        settings = replace(self._settings, plan=Plan.PLAIN_ENHANCED)
        coded = code_one_stream(self.video, settings, self.folder, self.progress)
        if self.again is None:
            self.tell(
                f"{self.video.path} can be read only once, so that what a model makes of the coded "
                "stream is not measured: all of it is to be enhanced"
            )
            return coded
        rebuilder = self._measuring.rebuilder(os.cpu_count() or 1, threading.Event())
        with self.again() as again, rebuilder:
            source = _source_luma(again, self.video, coded.hr.times)
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
            choice=coded.choice.for_tag(),
        )
        return coded


def _source_luma(video: VideoSource, coded: VideoSource, times: Sequence[int]) -> Iterator[Plane]:
    """Of a source that is read again. Raises InputError where it is another than what was coded,
    whose pictures are shown at ``times``."""
    changed = InputError(f"{video.path} was changed while it was coded; code it again")
    if (video.width, video.height, video.bit_depth) != (coded.width, coded.height, coded.bit_depth):
        raise changed
    full = video.planar()
    for frame, time in zip_longest(video, times):
        picture = full(frame) if frame is not None else None
        if picture is None or picture.pts != time:
            raise changed
        yield planes_of(picture)[0].copy()


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
