# SPDX-License-Identifier: LGPL-2.1-or-later
"""The coded streams of a video whose plan is known: a pair, one stream, or the anchor."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from ..closing import Closing
from ..codecs import Codec, CodedSegment, Config, EncoderAdapter, StreamSettings
from ..container.metadata import MAX_FRAMES, Metadata, Timeline
from ..container.writing import CodedStream
from ..errors import InputError
from ..media.pictures import FilterChain, down_sample, scene_score
from ..media.planar import picture_bytes
from ..media.sources import VideoSource
from ..plan import Boundaries, Plan, Planned, Planner, Role, run_lengths
from .settings import EncodeSettings

if TYPE_CHECKING:
    from .candidates import Choice

_ENCODER_TEXT = 200  # characters that a tag has for it

Progress = Callable[[int, int], None]
"""Called with (frames done, frames there will be, 0 when not known)."""


@dataclass(frozen=True)
class StreamStatistics:
    """Of one coded stream. bits: of all packets and of the parameter sets."""

    frames: int
    bits: int
    command: str


@dataclass
class Coded:
    """What was coded, and how it belongs together. lr: None where there is one stream. choice: what
    was measured, where anything was. settings: with what was chosen of LR; None: as they were."""

    hr: CodedStream
    lr: CodedStream | None
    metadata: Metadata
    restarts: list[int]
    choice: Choice | None = None
    settings: EncodeSettings | None = None


def code_streams(
    video: VideoSource, settings: EncodeSettings, folder: Path, progress: Progress | None = None
) -> Coded:
    """Codes both streams of ``video`` into ``folder``, reading it once."""
    adapter = settings.adapter()
    adapter.version()  # said at once where it is not there
    planner: Planner[tuple[int, bytes, bytes]] = Planner(settings.groups())
    full = video.planar(detect_cuts=settings.scene_cut > 0)
    lower = FilterChain(down_sample(video.width, video.height, settings.scale), video.time_base)
    times: list[int] = []
    restarts: list[int] = []
    total = video.frames
    lead = settings.config is not Config.AI
    hr_settings, lr_settings = (settings.stream(video, role) for role in (Role.HR, Role.LR))

    with (
        StreamCoder(adapter, hr_settings, folder, "hr") as hr,
        StreamCoder(adapter, lr_settings, folder, "lr") as lr,
    ):

        def code(planned: list[Planned[tuple[int, bytes, bytes]]]) -> None:
            for p in planned:
                pts, hr_bytes, lr_bytes = p.frame
                if p.restarts:
                    restarts.append(pts)
                    hr.restart()
                    lr.restart()
                    if lead:  # paper, section 3.2: LR starts with the down-sampled boundary
                        lr.lead(pts, lr_bytes)
                if p.role is Role.HR:
                    hr.write(pts, hr_bytes)
                else:
                    lr.write(pts, lr_bytes)
                if progress:
                    progress(hr.own + lr.own, max(total, len(times)))

        for frame in video:
            picture = full(frame)
            assert picture.pts is not None
            if len(times) >= MAX_FRAMES:
                raise InputError(f"{video.path} has over {MAX_FRAMES} frames; split it")
            cut = bool(times) and 0 < settings.scene_cut <= scene_score(picture)
            times.append(picture.pts)
            small = picture_bytes(lower(picture))
            code(planner.push((picture.pts, picture_bytes(picture), small), cut))
        code(planner.finish())
        if not times:
            raise InputError(f"{video.path} has no frames that decode")
        if not lr.own:
            raise InputError(
                f"{video.path} has {len(times)} frame{'s' * (len(times) > 1)} and so none between "
                "two key frames to down-sample; TDS needs 3 or more in a scene, code this one as "
                "plain video"
            )
        coded_hr, coded_lr = hr.finish(), lr.finish()
        index = {time: i for i, time in enumerate(times)}
        leads = [index[time] for time in lr.leads]

    metadata = replace(
        metadata_of(video, settings, times),
        scale=settings.scale,
        lr_qp=told_qp(lr_settings, settings.codec),
        group=settings.group,
        boundaries=settings.boundaries,
        groups=tuple(run_lengths(planner.groups)),
        leads=tuple(run_lengths(b - a for a, b in pairwise([0, *leads]))),
    )
    return Coded(coded_hr, coded_lr, metadata, restarts)


def metadata_of(video: VideoSource, settings: EncodeSettings, times: Sequence[int]) -> Metadata:
    """Of one stream of all frames, shown at ``times``; what a pair has beyond that is added."""
    adapter = settings.adapter()
    return Metadata(
        scale=1,
        width=video.width,
        height=video.height,
        bit_depth=video.bit_depth,
        codec=settings.codec.value,
        config=settings.config.value,
        hr_qp=told_qp(settings.stream(video, Role.HR), settings.codec),
        lr_qp=-1,
        group=settings.group,
        boundaries=Boundaries.INDEPENDENT,
        groups=((1, len(times)),) if times else (),
        timeline=Timeline.of(times, video.time_base, video.rate),
        encoder=_told_encoder(adapter.version(), settings),
        preset=settings.preset or adapter.default_preset,
        model=settings.model,
        model_sha256=settings.model_sha256,
    )


def code_one_stream(
    video: VideoSource, settings: EncodeSettings, folder: Path, progress: Progress | None = None
) -> Coded:
    """Codes every frame at full size; in RA the stream restarts every ``intra_period`` frames."""
    full = video.planar()
    total = video.frames
    restarts: list[int] = []
    times: list[int] = []
    with StreamCoder(settings.adapter(), settings.stream(video, None), folder, "hr") as coder:
        for frame in video:
            picture = full(frame)
            assert picture.pts is not None
            if len(times) >= MAX_FRAMES:
                raise InputError(f"{video.path} has over {MAX_FRAMES} frames; split it")
            if not times or (
                settings.config is Config.RA and len(times) % settings.intra_period == 0
            ):
                restarts.append(picture.pts)
                coder.restart()
            times.append(picture.pts)
            coder.write(picture.pts, picture_bytes(picture))
            if progress:
                progress(coder.own, max(total, len(times)))
        if not times:
            raise InputError(f"{video.path} has no frames that decode")
        coded = coder.finish()
    metadata = metadata_of(video, settings, times)
    if settings.plan is Plan.PLAIN_ENHANCED:
        halves = 2 if settings.strength is None else round(2 * settings.strength)
        metadata = replace(metadata, refine_hr=True, strengths=((halves, len(times)),))
    return Coded(coded, None, metadata, restarts)


def told_qp(stream: StreamSettings, codec: Codec) -> int:
    """For the tag, by which models know how coarse a stream is; -1: not known. AV1's QPs are of
    another scale, and encoders do not agree on it (SVT-AV1's 32 is about HEVC's 22)."""
    return -1 if stream.crf is not None or codec is Codec.AV1 else stream.qp


def _told_encoder(version: str, settings: EncodeSettings) -> str:
    """For the tag and for people: name, version, and how it was told to code."""
    told = [version] if settings.crf is None else [version, f"CRF {settings.crf:g}"]
    for whose, options in (
        ("", settings.encoder_options),
        ("HR ", settings.hr_options),
        ("LR ", settings.lr_options),
    ):
        told += [f"{whose}{key}={value}" for key, value in options]
    text = ", ".join(told)
    return text if len(text) <= _ENCODER_TEXT else text[: _ENCODER_TEXT - 3] + "..."


def code_plain(
    video: VideoSource,
    settings: EncodeSettings,
    restarts: Collection[int],
    folder: Path,
    progress: Progress | None = None,
) -> CodedStream:
    """The anchor: every frame at full size, same encoder, preset, QP and configuration,
    restarted at the times ``restarts`` (so random access costs both the same)."""
    adapter = settings.adapter()
    full = video.planar()
    total = video.frames
    with StreamCoder(adapter, settings.stream(video, None), folder, "plain") as coder:
        for frame in video:
            picture = full(frame)
            assert picture.pts is not None
            if not coder.own or picture.pts in restarts:
                coder.restart()
            coder.write(picture.pts, picture_bytes(picture))
            if progress:
                progress(coder.own, total)
        return coder.finish()


def statistics(
    coded: CodedStream, settings: EncodeSettings, video: VideoSource, role: Role | None
) -> StreamStatistics:
    return StreamStatistics(
        len(coded.times),
        coded.bits(),
        settings.adapter().describe(settings.stream(video, role)),
    )


class StreamCoder(Closing):
    """One stream as a list of segments, each an encoder run of its own.

    Finishing one run overlaps with feeding the next. As a context manager it
    ends every encoder that still runs.
    """

    def __init__(
        self, adapter: type[EncoderAdapter], settings: StreamSettings, folder: Path, name: str
    ) -> None:
        self._adapter, self._settings = adapter, settings
        self._folder, self._name = folder, name
        self._current: EncoderAdapter | None = None
        self._running: list[EncoderAdapter] = []
        self._segments: list[Future[CodedSegment]] = []
        self._lead: tuple[int, bytes] | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=f"finish {name}")
        self._times: list[int] = []
        self.leads: list[int] = []
        """Times of the leads that were written."""
        self.own = 0
        """Pictures written, without the leads."""

    def restart(self) -> None:
        """The next picture begins a new segment."""
        self._lead = None
        if self._current is not None:
            encoder, self._current = self._current, None
            self._segments.append(self._pool.submit(encoder.finish))
            if len(self._segments) > 1:
                self._segments[-2].result()  # two encoders a stream at most

    def lead(self, pts: int, picture: bytes) -> None:
        """A picture that goes first in this segment if any other follows."""
        self._lead = (pts, picture)

    def write(self, pts: int, picture: bytes) -> None:
        if self._current is None:
            path = self._folder / f"{self._name}-{len(self._segments):05d}.mp4"
            self._current = self._adapter(self._settings, path)
            self._running.append(self._current)
            if self._lead is not None:
                self._times.append(self._lead[0])
                self.leads.append(self._lead[0])
                self._current.write(self._lead[1])
                self._lead = None
        self._current.write(picture)
        self._times.append(pts)
        self.own += 1

    def finish(self) -> CodedStream:
        self.restart()
        segments = [future.result() for future in self._segments]
        self._running.clear()
        return CodedStream(segments, self._times)

    def close(self) -> None:
        """Ends what is still being coded."""
        for encoder in self._running:
            encoder.abort()
        self._pool.shutdown(wait=True, cancel_futures=True)
