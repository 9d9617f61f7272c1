# SPDX-License-Identifier: LGPL-2.1-or-later
"""From a source video to a TDS file: plan, one or two coded streams, mux."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from .codecs import Codec, Config
from .container.annexb import is_sidecar, raw_paths, write_raw_pair
from .container.forms import Form, form_of
from .container.metadata import Metadata
from .container.writing import write_paired
from .encoding.settings import EncodeSettings, make_settings, with_model
from .encoding.state import State
from .encoding.streams import (
    Coded,
    Progress,
    StreamStatistics,
    code_one_stream,
    code_streams,
    statistics,
)
from .errors import InputError, MissingError, worded
from .files import check_output, is_special, whole_file
from .media.extras import Extras, plan_extras
from .media.hdr import untrained
from .media.objects import NamedSource, Source
from .media.opening import RawFormat, is_read_once
from .media.sources import VideoSource
from .options import EncodeOptions
from .plan import Plan, Role

if TYPE_CHECKING:
    from .encoding.candidates import Choice
    from .evaluation.execution import RayExecutor


@dataclass(frozen=True)
class EncodeResult:
    """What was written.

    lr: without frames where the plan is one of a single stream. restarts: times (ticks of the
    metadata's timeline) at which the streams restart.
    notices: sentences about what of the source is damaged or did not come along. choice: what was
    measured, where anything was.
    """

    path: Path
    settings: EncodeSettings
    metadata: Metadata
    hr: StreamStatistics
    lr: StreamStatistics
    restarts: frozenset[int]
    notices: tuple[str, ...]
    choice: Choice | None = None


def encode(
    source: Source,
    output: str | os.PathLike[str],
    settings: EncodeSettings | None = None,
    *,
    raw: RawFormat | None = None,
    video_track: int | None = None,
    overwrite: bool = False,
    format: str | None = None,
    workers: int | None = None,
    ray: str | None = None,
    progress: Progress | None = None,
    on_notice: Callable[[str], None] | None = None,
    **options: Unpack[EncodeOptions],
) -> EncodeResult:
    """Codes a video, as its plan says, in one file, or as two raw streams.

    source: any file FFmpeg reads ("-": standard input), or an object with ``read``, which is copied
    to a temporary file; raw planar yuv, or the rate of a raw
    coded stream, with ``raw``. video_track: number of the track among the file's video streams,
    as in FFmpeg's ``0:v:N`` (None: the one that is shown by default). output: the file, written
    whole or not at all, as ``format`` says ("mp4", "mkv", "ts" or "fmp4"; None: as its suffix
    does); with the suffix .json or .yaml a sidecar, beside which the two raw streams go
    (container.annexb.raw_paths), which only Plan.TDS has. on_notice: called with each of the
    result's notices as soon as it is known: what does not come along, before any picture is coded.
    workers: segments that are measured at once (None: one a core, 4 at most). ray: address of a Ray
    cluster, or "auto", whose processors measure them instead. What is measured lies
    in a folder beside the output, NAME.tds-state, until the file is written: the same call goes on
    from it after one that was ended. settings, or its fields as keywords (``codec="vvc"``,
    ``qp=32``, ...); a keyword that says what a pair is like (``group``, ``boundaries``, ``scale``,
    ``lr_qp_offset``) implies Plan.TDS, and so does an output that holds no tag.

    Raises InputError (a ValueError), MissingError (a FileNotFoundError),
    OutputExistsError (a FileExistsError), ExternalError (a RuntimeError) or
    OSError; nothing is left behind then.
    """
    sidecar = is_sidecar(output)
    if settings is None:
        settings = settings_for(output, format, **options)
    else:
        settings = make_settings(settings, **options)
    if workers is not None and workers < 1:
        raise InputError(f"there is one worker or more, not {workers}")
    if ray is not None and not settings.measures:
        raise InputError(
            f"a plan {settings.plan.value} that measures nothing has nothing for a Ray cluster to "
            "do; leave --ray out"
        )
    named = NamedSource(source)
    path = named.path
    check_output(output, overwrite, [path])
    form = None
    if sidecar:
        if settings.plan is not Plan.TDS:
            raise InputError(
                f"{output} asks for two raw streams and a sidecar, which a plan "
                f"{settings.plan.value} has not; name an output with the suffix .mp4, or give "
                "--plan tds"
            )
        for beside in raw_paths(Path(output), settings.codec.value):
            check_output(beside, overwrite, [path])
        if format is not None:
            raise InputError(
                f"{output} asks for two raw streams, which have no --format; leave it out"
            )
    else:
        form = form_of(output, format)
        form.check(output, settings.codec)
        if not form.tag and settings.plan not in (Plan.TDS, Plan.PLAIN):
            raise InputError(
                f"{output}: {form.called} holds no tag, without which no reader knows what a plan "
                f"{settings.plan.value} asks for; name an output with the suffix .mp4 or .mkv, or "
                "give --plan tds"
            )
    cluster = None
    if ray is not None:
        from .evaluation.execution import RayExecutor

        cluster = RayExecutor(ray)
    tell = on_notice or (lambda notice: None)
    with (
        contextlib.closing(named),
        State(Path(output), settings.measures, lambda notice: tell(worded(notice))) as state,
        # In the state's folder what a killed run leaves goes with it.
        whole_file(output, overwrite, state.folder if settings.measures else None) as beside,
        VideoSource(path, raw, video_track) as video,
    ):
        if video.is_pair and video_track is None:
            raise InputError(
                f"{path} is a TDS pair, HR and LR, already; tds decode makes one video of it, and "
                "--video-track 0 codes its key frames alone"
            )
        # Before any picture is coded: what this refuses, it refuses at once.
        video.chroma, converted = settings.chroma_of(video)
        extras, notices = _extras_of(video, settings.codec, form)
        if video.hdr and not settings.adapter().takes_hdr():
            notices.append(
                f"{settings.adapter().name} is not told of the mastering display and light level "
                "of the source, which stay behind; encoders of FFmpeg 9 are (TDS_FFMPEG)"
            )
        notices += [converted] if converted else []
        for notice in notices:
            tell(worded(notice))
        scratch = state.folder if settings.measures else beside.parent
        with tempfile.TemporaryDirectory(
            prefix=".tds-", dir=None if is_special(output) else scratch
        ) as folder:
            again = (
                None
                if is_read_once(path)
                else lambda: VideoSource(path, raw, video_track, chroma=video.chroma)
            )
            at_once = workers or min(4, os.cpu_count() or 1)
            job = _Job(
                *(video, again, settings, state, Path(folder), at_once, cluster, progress),
                lambda notice: tell(worded(notice)),
            )
            coded = job.code()
            late = [*video.notices]
            if form is not None:
                late += form.turning_lost(video.display_matrix)
            for notice in late:
                tell(worded(notice))
            if form is None:
                assert coded.lr is not None
                write_raw_pair(Path(output), beside, coded.hr, coded.lr, coded.metadata, overwrite)
            else:
                write_paired(
                    *(beside, coded.hr, coded.lr, coded.metadata),
                    *(extras, video.clock(), video.display_matrix, form),
                )
            return EncodeResult(
                Path(output),
                settings,
                coded.metadata,
                statistics(coded.hr, settings, video, Role.HR),
                statistics(coded.lr, coded.settings or settings, video, Role.LR)
                if coded.lr is not None
                else StreamStatistics(0, 0, ""),
                frozenset(coded.restarts),
                tuple(map(worded, (*notices, *job.notices, *late))),
                coded.choice,
            )


def settings_for(
    output: str | os.PathLike[str], format: str | None, **options: Unpack[EncodeOptions]
) -> EncodeSettings:
    """Of keywords of ``encode``; where the output holds no tag, of a pair."""
    if is_sidecar(output) or not form_of(output, format).tag:
        options.setdefault("plan", Plan.TDS)
    return make_settings(**options)


def _extras_of(video: VideoSource, codec: Codec, form: Form | None) -> tuple[Extras, list[str]]:
    """What comes along, and in sentences what does not or is changed. form: None: raw streams."""
    if form is None:
        return Extras(), ["raw streams hold pictures alone: sound and tags stay behind"]
    extras = plan_extras(video.path, video.container, [video.index], form.muxer, form.options)
    lost = form.losses(codec, video.sample_aspect_ratio)
    return extras, [*lost, *extras.notices]


@dataclass
class _Job:
    """A video on its way to be coded as the settings' plan says. again: opens it once more; None:
    it can be read only once. state: of what is measured. folder: for what is needed until the
    output is written. notices: what was told."""

    video: VideoSource
    again: Callable[[], VideoSource] | None
    settings: EncodeSettings
    state: State
    folder: Path
    workers: int
    cluster: RayExecutor | None
    progress: Progress | None
    on_notice: Callable[[str], None]
    notices: list[str] = field(default_factory=list)

    def code(self) -> Coded:
        settings = self.settings
        if not settings.measures and settings.plan is not Plan.AUTO:
            return self._as_told(settings)
        from .encoding.auto import Auto, find_enhancers

        intra = settings.config is Config.AI
        try:
            enhancers = find_enhancers(settings)
        except MissingError as e:
            if settings.model is not None or settings.plan is not Plan.AUTO:
                raise
            self._tell(f"nothing can be measured: {e}; the video is coded by a fixed plan")
            plan = Plan.TDS if intra else Plan.PLAIN
            return self._as_told(replace(settings, plan=plan, strength=None))
        for notice in untrained(self.video.colors.transfer):
            self._tell(notice)
        if not settings.measures:
            plan, strength = (Plan.TDS, None) if intra else (Plan.PLAIN_ENHANCED, 1.0)
            told = replace(settings, plan=plan, strength=strength, model=enhancers.name)
            return self._as_told(with_model(told))
        return Auto(
            self.video,
            settings,
            enhancers,
            self.state.folder,
            self.folder,
            self.again,
            self.workers,
            self.cluster,
            self.progress,
            self._tell,
        ).code()

    def _as_told(self, settings: EncodeSettings) -> Coded:
        code = code_streams if settings.plan is Plan.TDS else code_one_stream
        return code(self.video, settings, self.folder, self.progress)

    def _tell(self, notice: str) -> None:
        self.notices.append(notice)
        self.on_notice(notice)
