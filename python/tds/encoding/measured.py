# SPDX-License-Identifier: LGPL-2.1-or-later
"""One segment: all that its candidates need is coded once, rebuilt and measured."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, TypedDict

import av
from av.video.frame import VideoFrame

from ..codecs import EncoderAdapter, StreamSettings
from ..errors import InputError
from ..media.opening import ffmpeg_name
from ..media.planar import planes_of
from ..media.sources import VideoSource
from ..plan import Role
from .choosing import (
    STEPS,
    Group,
    cheapest,
    climb,
    slope_between,
    strongest,
    uniform,
)
from .rebuilding import Enhancers, Rebuilder, Sent, decode_all, enhanced_errors, squared_error
from .segments import Segment
from .settings import EncodeSettings
from .streams import told_qp
from .tries import FIRST, LR, Tries

FULL = "full.mp4"
"""The segment's full-size stream, in its folder."""

_CURVE_STEPS = (-3, 3, 6)  # QPs off the one asked for at which the plain stream's curve is measured
_PAIRS_STEP = 2.0  # of lambda, where pairs mostly are on the plain stream's curve
_CURVE_EVERY = 8  # frames of which one is coded for it


class WayRecord(TypedDict):
    """One pair. groups: first and last place of each. bits: of the LR stream, by place, 0 where it
    is HR. errors: squared luma errors by place, of the segment's own frames."""

    groups: list[tuple[int, int]]
    bits: list[int]
    errors: list[int]


class SegmentRecord(TypedDict):
    """What a segment's candidates cost. All lists are by place, a lead included.

    slope: lambda, squared error a bit. curve: of the plain stream, from the finest QP on. bits: of
    the full-size stream. passed: squared luma errors of its pictures as decoded; enhanced: as made
    better by ``strengths`` (halves). by_strength: summed, of the segment's own frames, by halves.
    pairs: by str(LR), the one with the least D + lambda R at each of STEPS of lambda."""

    slope: float
    curve: list[tuple[float, float]]
    bits: list[int]
    passed: list[int]
    enhanced: list[int]
    strengths: list[int]
    by_strength: list[int]
    pairs: dict[str, list[WayRecord]]


def lr_name(lr: LR) -> str:
    """The LR stream's file in a segment's folder; refining HR pictures changes nothing of it."""
    return f"lr-{lr.scale}-{lr.offset}.mp4"


def lr_settings(settings: EncodeSettings, lr: LR) -> EncodeSettings:
    """The same with LR coded so."""
    return replace(settings, scale=lr.scale, lr_qp_offset=lr.offset)


@dataclass(frozen=True)
class Measuring:
    """All that is the same for every segment; it can be sent to another machine.

    full, lr: how the full-size stream and those of LR are coded. encoder: its fingerprint."""

    settings: EncodeSettings
    full: StreamSettings
    lr: Mapping[LR, StreamSettings]
    tries: Tries
    enhancers: Enhancers
    encoder: str

    @classmethod
    def of(
        cls, video: VideoSource, settings: EncodeSettings, tries: Tries, enhancers: Enhancers
    ) -> Measuring:
        """Without LR streams that the encoder cannot code at this size."""
        lr = {}
        for way in tries.lr:
            with contextlib.suppress(InputError):
                lr[way] = lr_settings(settings, way).stream(video, Role.LR)
        full = settings.stream(video, None)
        possible = replace(tries, lr=tuple(lr), groups=tries.groups if lr else ())
        return cls(settings, full, lr, possible, enhancers, settings.adapter().fingerprint())

    def rebuilder(self, threads: int, stop: threading.Event) -> Rebuilder:
        """For one thread; the model has ``threads``. QPs are what the tag will tell."""
        size, depth = (self.full.width, self.full.height), self.full.bit_depth
        qp = told_qp(self.full, self.settings.codec)
        return Rebuilder(size, depth, self.full.chroma, self.enhancers, qp, threads, stop)

    def describe(self) -> dict[str, Any]:
        """What determines the record of a segment, beside its pictures and the models."""
        return {
            "full": str(self.full),
            "lr": [str(stream) for stream in self.lr.values()],
            "strength": self.settings.strength,
            "tries": asdict(self.tries),
            "encoder": self.encoder,
        }

    def measure(self, segment: Segment, rebuilder: Rebuilder, folder: Path) -> SegmentRecord:
        """Codes into ``folder`` and measures."""
        return _SegmentWork(self, segment, rebuilder, folder).record()


class _SegmentWork:
    def __init__(
        self,
        measuring: Measuring,
        segment: Segment,
        rebuilder: Rebuilder,
        folder: Path,
    ) -> None:
        self._measuring, self._segment = measuring, segment
        self._adapter = measuring.settings.adapter()
        self._rebuilder, self._folder = rebuilder, folder
        self._source = segment.luma(measuring.full)

    # -- coding --------------------------------------------------------------

    def _code(self, settings: StreamSettings, name: str, pictures: Sequence[bytes]) -> Path:
        path = self._folder / name
        encoder = self._adapter(settings, path)
        try:
            for picture in pictures:
                self._rebuilder.check()
                encoder.write(picture)
            encoder.finish()
        except BaseException:
            encoder.abort()
            raise
        return path

    def _full(self) -> list[bytes]:
        return [frame.full for frame in self._segment.frames]

    # -- measuring -----------------------------------------------------------

    def record(self) -> SegmentRecord:
        path = self._code(self._measuring.full, FULL, self._full())
        bits = packet_bits(path)
        decoded = decode_all(path, len(self._segment.frames))
        errors = list(enhanced_errors(self._rebuilder, zip(self._source, decoded, strict=True)))
        passed = [e.passed for e in errors]
        enhanced, strengths = self._strengths(decoded, [e.by_halves for e in errors])
        slope, curve = 0.0, [(1.0, 1.0)] * len(_CURVE_STEPS)
        pairs: dict[str, list[WayRecord]] = {}
        if self._measuring.tries.lr:
            slope, curve = self._curve(bits, passed)
        if len(self._segment.frames) > 2:
            for lr in self._measuring.tries.lr:
                alone = [e.by_halves[2] if lr.refine else e.passed for e in errors]
                pairs[str(lr)] = self._pairs(lr, slope, bits, alone, decoded)
        return {
            "slope": slope,
            "curve": curve,
            "bits": bits,
            "passed": passed,
            "enhanced": enhanced,
            "strengths": strengths,
            "by_strength": [
                sum(errors[i].by_halves[halves] for i in self._segment.own) for halves in range(3)
            ],
            "pairs": pairs,
        }

    def _strengths(
        self, decoded: Sequence[VideoFrame], errors: Sequence[tuple[int, int, int]]
    ) -> tuple[list[int], list[int]]:
        """Errors with the best strengths, and these, in halves."""
        asked = self._measuring.settings.strength
        halves = strongest(errors) if asked is None else [round(2 * asked)] * len(errors)
        best = [of_one[h] for of_one, h in zip(errors, halves, strict=True)]
        if 1 in halves:  # which was estimated so far
            sent = [
                Sent(i, frame, h / 2)
                for i, (frame, h) in enumerate(zip(decoded, halves, strict=True))
            ]
            for picture in self._rebuilder.plain(sent):
                if halves[picture.pts] == 1:
                    best[picture.pts] = squared_error(self._source[picture.pts], picture.planes[0])
        for i, (passed, _, whole) in enumerate(errors):
            if asked is None and best[i] > min(passed, whole):
                halves[i] = 0 if passed < whole else 2
                best[i] = min(passed, whole)
        return best, halves

    def _curve(
        self, bits: Sequence[int], passed: Sequence[int]
    ) -> tuple[float, list[tuple[float, float]]]:
        """lambda and the curve of the plain stream at the segment, of some of its frames."""
        places = range(0, len(self._segment.frames), _CURVE_EVERY)
        pictures = [self._segment.frames[i].full for i in places]
        points = []
        for step in _CURVE_STEPS:
            stream = _coarser(self._measuring.full, step, self._adapter)
            path = self._code(stream, "curve.mp4", pictures)
            decoded = decode_all(path, len(pictures))
            error = sum(
                squared_error(self._source[i], planes_of(frame)[0])
                for i, frame in zip(places, decoded, strict=True)
            )
            points.append((sum(packet_bits(path)), error))
            path.unlink()
        here = max(1, sum(bits[i] for i in places)), max(1, sum(passed[i] for i in places))
        otherwise = here[1] / here[0]  # which is about what encoders show
        slope = slope_between(points[0], points[1], otherwise)
        return slope, [(b / here[0], e / here[1]) for b, e in points]

    def _pairs(
        self,
        lr: LR,
        slope: float,
        bits: Sequence[int],
        alone: Sequence[int],
        decoded: Sequence[VideoFrame],
    ) -> list[WayRecord]:
        """alone: squared errors by place where all pictures are HR."""
        length = len(self._segment.frames) - 1
        stream = self._measuring.lr[lr]
        path = self._folder / lr_name(lr)
        if not path.is_file():
            smaller = [frame.smaller[lr.scale] for frame in self._segment.frames[1:-1]]
            self._code(stream, lr_name(lr), smaller)
        lr_bits = [0, *packet_bits(path), 0]
        frames = [None, *decode_all(path, length - 1), None]
        lr_qp = told_qp(stream, self._measuring.settings.codec)

        def rebuild(hr: set[int]) -> dict[int, int]:
            """Squared error by place."""
            sent_hr = [Sent(i, decoded[i]) for i in sorted(hr)]
            sent_lr = [Sent(i, f) for i, f in enumerate(frames) if f is not None and i not in hr]
            return {
                picture.pts: squared_error(self._source[picture.pts], picture.planes[0])
                for picture in self._rebuilder.pair(lr.scale, lr_qp, sent_hr, sent_lr, lr.refine)
            }

        groups: dict[tuple[int, int], Group] = {}
        found: dict[tuple[int, int], dict[int, int]] = {}
        costs: dict[int, float] = {}
        sizes: Iterable[int] = self._measuring.tries.groups
        if self._measuring.tries.climbs:
            sizes = climb(tuple(sizes), FIRST, costs.__getitem__)
        for n in chain((2,), sizes):
            ends = uniform(length, n)
            hr = {0, *(last for _, last in ends)}
            made = rebuild(hr) if n > 2 else dict(enumerate(alone))
            costs[n] = 0.0
            for first, last in ends:
                own = range(first + 1, last + 1)
                group = Group(
                    first,
                    last,
                    sum(made[i] for i in own),
                    sum(bits[i] if i in hr else lr_bits[i] for i in own),
                )
                costs[n] += group.cost(_PAIRS_STEP * slope)
                # A short last group of a larger N is also one of a smaller.
                known = groups.get((first, last))
                if known is None or group.cost(slope) < known.cost(slope):
                    groups[first, last] = group
                    found[first, last] = {i: made[i] for i in own}
                if first == 0 and not self._segment.lead:
                    found[first, last][0] = made[0]
        ways: list[WayRecord] = []
        for step in STEPS:
            way = cheapest(length, groups.values(), slope * step)
            hr = {0, *(group.last for group in way)}
            ends = [(group.first, group.last) for group in way]
            if ways and ways[-1]["groups"] == ends:
                ways.append(ways[-1])
                continue
            errors = [0] * (length + 1)
            for group in way:
                for i, error in found[group.first, group.last].items():
                    errors[i] = error
            if lr.refine and self._measuring.tries.again:
                made = rebuild(hr)
                for i in self._segment.own:
                    errors[i] = made[i]
            spent = [0 if i in hr else b for i, b in enumerate(lr_bits)]
            ways.append({"groups": ends, "bits": spent, "errors": errors})
        return ways


def _coarser(stream: StreamSettings, step: int, adapter: type[EncoderAdapter]) -> StreamSettings:
    """The same at a neighbouring QP, or CRF, as far as the encoder has one."""
    if stream.crf is not None:
        low, high = adapter.crf_range() or (stream.crf, stream.crf)
        return replace(stream, crf=min(max(stream.crf + step, low), high))
    least, most = adapter.qp_range()
    return replace(stream, qp=min(max(stream.qp + step, least), most))


def packet_bits(path: Path) -> list[int]:
    """Of each picture of a coded segment, in display order."""
    with av.open(ffmpeg_name(path)) as container:
        packets = [
            (p.pts or 0, p.size) for p in container.demux(container.streams.video[0]) if p.size
        ]
    return [8 * size for _, size in sorted(packets)]
