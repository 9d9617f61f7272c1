# SPDX-License-Identifier: LGPL-2.1-or-later
"""From a source video to a TDS file: plan, one or two coded streams, mux."""

from __future__ import annotations

import contextlib
import operator
import os
import re
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise
from numbers import Real
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack

from ._tds import lr_size
from .codecs import (
    DEFAULT,
    Codec,
    CodedSegment,
    Config,
    EncoderAdapter,
    ReferenceEncoder,
    StreamSettings,
    find_adapter,
)
from .container.annexb import is_sidecar, raw_paths, write_raw_pair
from .container.forms import Form, form_of
from .container.metadata import MAX_FRAMES, Metadata, Timeline, check_model
from .container.mp4 import CodedStream, write_paired
from .encoding.state import State
from .errors import InputError, MissingError, worded
from .files import check_output, whole_file
from .media.extras import Extras, plan_extras
from .media.objects import NamedSource, Source
from .media.opening import RawFormat, is_read_once
from .media.pictures import (
    SCENE_CUT,
    FilterChain,
    down_sample,
    scene_score,
)
from .media.planar import picture_bytes
from .media.sources import VideoSource
from .options import EncodeOptions
from .plan import Boundaries, Plan, Planned, Planner, PlanSettings, Role, run_lengths

if TYPE_CHECKING:
    from .encoding.auto import Choice

MODEL = "standard"
"""The model that a plan with a model is for, where none is named."""

EFFORTS = 5
"""What is tried at each: encoding.tries."""

_TEXTS = ("encoder", "preset", "model", "model_sha256", "encoder_path", "encoder_cfg")


def _whole(name: str, value: Any) -> int:
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise InputError(f"{name} is a whole number, not {value!r}")


_ENCODER_TEXT = 200  # characters that a tag has for it
_OPTION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")
_RATES = ("b", "bitrate", "targetbitrate")
_OWN = {"qp": "--qp", "crf": "--crf", "preset": "--preset"}  # which have a place in the settings


def _options(name: str, given: Any) -> tuple[tuple[str, str], ...]:
    """An encoder's options as (name, value). Raises InputError."""
    try:
        items = given.items() if isinstance(given, Mapping) else given
        pairs = tuple((str(key), str(value)) for key, value in items)
    except (TypeError, ValueError):
        raise InputError(
            f"{name} is a mapping of an encoder's options to their values, not {given!r}"
        ) from None
    for key, value in pairs:
        if not _OPTION_NAME.match(key) or "\0" in value:
            raise InputError(f"{name} is an option and its value, not {key!r} and {value!r}")
        if key.lower() in _RATES:
            raise InputError(
                f"the option {key} asks for a bit rate, and a pair is coded at a fixed QP (--qp) "
                "or at a constant rate factor (--crf)"
            )
        if key.lower() in _OWN:
            raise InputError(f"the option {key} is given by {_OWN[key.lower()]}, not by {name}")
    return pairs


Progress = Callable[[int, int], None]
"""Called with (frames done, frames there will be, 0 when not known)."""


@dataclass(frozen=True)
class EncodeSettings:
    """How to code a video.

    plan: Plan. codec, config: Codec (None: the encoder's, else VVC) and Config. qp: fixed QP of
    HR, or of the plain stream; LR has qp + lr_qp_offset. crf: constant rate factor to code with
    instead, LR with crf + lr_qp_offset; None: the QP counts. No LR is coarser than the encoder
    can. group: N, odd. boundaries: Boundaries. scale: k, 2 or 4; what LR adds to the QP and these
    three say what Plan.TDS is. encoder: any that the ffmpeg program has, by its name there or by
    those of codecs.find_adapter (None: the codec's default). preset: the encoder's own name
    (None: its default). encoder_options, hr_options, lr_options: the encoder's own options, for
    both streams and for one, as a mapping or pairs of names and values. intra_period: in RA,
    source frames after which both streams restart, at the next group. scene_cut: FFmpeg's scdet
    score, 0 to 100, from which on a new scene ends a group; 0: never. model: name of the
    enhancer, a hint in the metadata. encoder_path, encoder_cfg: program and configuration (each
    a file or its folder) of the encoders "vtm" and "hm". strength: of what the model may change
    of the pictures of a plan that asks for it, 0, 0.5 or 1; None: what measures best. effort: how
    much Plan.AUTO tries, 0 (nothing is measured) to 4.
    """

    codec: Codec = None  # type: ignore[assignment]  # never after __post_init__
    config: Config = Config.AI
    qp: int = 32
    group: int = 5
    boundaries: Boundaries = Boundaries.SHARED
    scale: int = 2
    lr_qp_offset: int = 3
    encoder: str | None = None
    preset: str | None = None
    intra_period: int = 64
    scene_cut: float = SCENE_CUT
    model: str | None = None
    model_sha256: str | None = None
    encoder_path: str | None = None
    encoder_cfg: str | None = None
    crf: float | None = None
    encoder_options: tuple[tuple[str, str], ...] = ()
    hr_options: tuple[tuple[str, str], ...] = ()
    lr_options: tuple[tuple[str, str], ...] = ()
    plan: Plan = Plan.AUTO
    strength: float | None = None
    effort: int = 2

    def __post_init__(self) -> None:
        """Enumerations may be given by value ("vvc"). Raises InputError for what cannot be."""
        for name in _TEXTS:
            text = getattr(self, name)
            if text is not None and not isinstance(text, str):
                raise InputError(f"{name} is text, not {text!r}")
        if self.codec is None:
            codec = Codec.VVC if self.encoder is None else find_adapter(self.encoder).codec
            object.__setattr__(self, "codec", codec)
        for name in ("encoder_options", "hr_options", "lr_options"):
            object.__setattr__(self, name, _options(name, getattr(self, name)))
        kinds = {"codec": Codec, "config": Config, "boundaries": Boundaries, "plan": Plan}
        for name, kind in kinds.items():
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, kind(value))
            except ValueError:
                known = ", ".join(str(k.value) for k in kind)
                raise InputError(f"no {name} {value!r}; there are {known}") from None
        for name in ("qp", "lr_qp_offset", "group", "scale", "intra_period", "effort"):
            object.__setattr__(self, name, _whole(name, getattr(self, name)))
        score = self.scene_cut
        if isinstance(score, bool) or not isinstance(score, Real):
            raise InputError(f"scene_cut is a number, not {score!r}")
        crf = self.crf
        if crf is not None and (isinstance(crf, bool) or not isinstance(crf, Real)):
            raise InputError(f"crf is a number, not {crf!r}")
        try:
            check_model(self.model, self.model_sha256)
        except ValueError as e:
            raise InputError(str(e)) from None
        if self.scale not in (2, 4):
            raise InputError(f"a scale is 2 or 4, not {self.scale}")
        if self.intra_period < 1:
            raise InputError("an intra period is 1 frame or more")
        if not 0 <= self.effort < EFFORTS:
            raise InputError(f"an effort is 0 to {EFFORTS - 1}, not {self.effort}")
        if self.strength not in (None, 0, 0.5, 1):
            raise InputError(f"a strength is 0, 0.5 or 1, not {self.strength!r}")
        if self.strength is not None and self.plan in (Plan.TDS, Plan.PLAIN):
            raise InputError(
                f"a strength is of plans whose pictures are made better, not of {self.plan.value}"
            )
        if not 0 <= score <= 100:
            raise InputError(f"a scene score is 0 to 100, not {score:g}")

    def adapter(self) -> type[EncoderAdapter]:
        adapter = DEFAULT[self.codec] if self.encoder is None else find_adapter(self.encoder)
        if adapter.codec is not self.codec:
            raise InputError(
                f"{adapter.name} codes {adapter.codec.value}, not {self.codec.value}; "
                f"leave --encoder out or give --codec {adapter.codec.value}"
            )
        given = self.encoder_options + self.hr_options + self.lr_options
        if given and not adapter.takes_options:
            raise InputError(
                f"{adapter.name} is told by its configuration, which --encoder-cfg names; leave "
                f"the option {given[0][0]} out"
            )
        if self.encoder_path is not None or self.encoder_cfg is not None:
            if not issubclass(adapter, ReferenceEncoder):
                raise InputError(
                    f"{adapter.name} has no program or configuration to name; only the encoders "
                    "vtm and hm take --encoder-path and --encoder-cfg"
                )
            return adapter.configured(self.encoder_path, self.encoder_cfg)
        return adapter

    @property
    def lr_qp(self) -> int:
        """Fixed QP of LR, which is none that the encoder has not."""
        return min(self.qp + self.lr_qp_offset, self.adapter().qp_range()[1])

    def groups(self) -> PlanSettings:
        restart = self.intra_period if self.config is Config.RA else 0
        return PlanSettings(self.group, self.boundaries, restart)

    def stream(self, source: VideoSource, role: Role | None) -> StreamSettings:
        """Of HR, of LR, or (None) of the plain full-size stream."""
        adapter = self.adapter()
        lr = role is Role.LR
        width, height = source.width, source.height
        crf, bounds = self.crf, adapter.crf_range()
        if lr and crf is not None and bounds is not None:
            crf = min(crf + self.lr_qp_offset, bounds[1])
        if lr:
            width, height = lr_size(width, self.scale), lr_size(height, self.scale)
        if min(width, height) < adapter.least_side:
            what = f"the LR stream of k = {self.scale}" if lr else "the full-size stream"
            # The least size whose lr_size is that.
            least = {k: k * (adapter.least_side - 2) + 2 for k in (1, 2, self.scale)}
            raise InputError(
                f"{source.path}: {what} would be {width}x{height}, and {adapter.name} codes no "
                f"side shorter than {adapter.least_side}; the source needs "
                f"{least[self.scale if lr else 1]} or more a side"
                + (f" ({least[2]} with --scale 2)" if lr and self.scale > 2 else "")
            )
        settings = StreamSettings(
            width=width,
            height=height,
            bit_depth=source.bit_depth,
            rate=source.rate,
            config=self.config,
            qp=self.lr_qp if lr else self.qp,
            preset=self.preset or adapter.default_preset,
            # Segments restart the stream; the encoder's own refresh must not add to them.
            period=16 * max(64, self.intra_period),
            colors=source.colors,
            sample_aspect_ratio=source.sample_aspect_ratio,
            crf=crf,
            options=self.encoder_options + (self.lr_options if lr else self.hr_options),
        )
        adapter.check(settings)
        return settings


@dataclass(frozen=True)
class StreamStatistics:
    """Of one coded stream. bits: of all packets and of the parameter sets."""

    frames: int
    bits: int
    command: str


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
    workers: segments that are measured at once (None: one a core, 4 at most). What is measured lies
    in a folder beside the output, NAME.tds-state, until the file is written: the same call goes on
    from it after one that was ended. settings, or its fields as keywords (``codec="vvc"``,
    ``qp=32``, ...); a keyword that says what a pair is like (``group``, ``boundaries``, ``scale``,
    ``lr_qp_offset``) implies Plan.TDS, and so does an output that holds no tag.

    Raises InputError (a ValueError), MissingError (a FileNotFoundError),
    OutputExistsError (a FileExistsError), ExternalError (a RuntimeError) or
    OSError; nothing is left behind then.
    """
    sidecar = is_sidecar(output)
    if settings is None and (sidecar or not form_of(output, format).tag):
        options.setdefault("plan", Plan.TDS)
    settings = make_settings(settings, **options)
    if workers is not None and workers < 1:
        raise InputError(f"there is one worker or more, not {workers}")
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
    tell = on_notice or (lambda notice: None)
    with (
        contextlib.closing(named),
        State(Path(output), lambda notice: tell(worded(notice))) as state,
        whole_file(output, overwrite) as beside,
        VideoSource(path, raw, video_track) as video,
    ):
        if video.is_pair and video_track is None:
            raise InputError(
                f"{path} is a TDS pair, HR and LR, already; tds decode makes one video of it, and "
                "--video-track 0 codes its key frames alone"
            )
        # Before any picture is coded: what this refuses, it refuses at once.
        extras, notices = _extras_of(video, settings.codec, form)
        for notice in notices:
            tell(worded(notice))
        with tempfile.TemporaryDirectory(prefix=".tds-", dir=beside.parent) as folder:
            again = None if is_read_once(path) else lambda: VideoSource(path, raw, video_track)
            at_once = workers or min(4, os.cpu_count() or 1)
            job = _Job(
                *(video, again, settings, state, Path(folder), at_once, progress),
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


def _extras_of(video: VideoSource, codec: Codec, form: Form | None) -> tuple[Extras, list[str]]:
    """What comes along, and in sentences what does not or is changed. form: None: raw streams."""
    if form is None:
        return Extras(), ["raw streams hold pictures alone: sound and tags stay behind"]
    extras = plan_extras(video.path, video.container, [video.index], form.muxer, form.options)
    lost = form.losses(codec, video.sample_aspect_ratio)
    return extras, [*lost, *extras.notices]


OF_PAIRS = ("group", "boundaries", "scale", "lr_qp_offset")
"""Fields of EncodeSettings that say what Plan.TDS is."""


def make_settings(
    settings: EncodeSettings | None = None, **options: Unpack[EncodeOptions]
) -> EncodeSettings:
    """Settings or their fields as keywords, checked together, with the model's hash."""
    if settings is not None and options:
        raise TypeError("give settings or keywords, not both")
    if settings is None:
        of_pairs = [name for name in OF_PAIRS if name in options]
        if of_pairs and Plan(options.setdefault("plan", Plan.TDS)) is not Plan.TDS:
            option = "--" + of_pairs[0].replace("_", "-")
            raise InputError(
                f"{option} says what a pair is like and so is of --plan tds; leave it or --plan out"
            )
        # Its fields are enumerations, and it makes them of their values.
        settings = EncodeSettings(**options)  # type: ignore[arg-type]
    settings.groups()
    settings.adapter()
    return with_model(settings)


def with_model(settings: EncodeSettings) -> EncodeSettings:
    """With the hash of the model that is named, and the model that the plan cannot do without. What
    is measured finds its own."""
    measures = settings.plan is Plan.PLAIN_ENHANCED and settings.strength is None
    if settings.plan is Plan.AUTO or measures:
        return settings
    if settings.plan is Plan.PLAIN:
        if settings.model is not None:
            raise InputError(
                "--plan plain asks for no model; leave --model out, or give --plan plain-enhanced"
            )
        return settings
    scale = settings.scale if settings.plan is Plan.TDS else 1
    name = settings.model or (None if settings.plan is Plan.TDS else MODEL)
    if name is None or (settings.model is not None and settings.model_sha256 is not None):
        return settings
    from . import models

    for installed in models.available(scale):
        if installed.name == name:
            return replace(settings, model=name, model_sha256=installed.sha256)
    raise MissingError(
        f"no model {name!r} for k = {scale} is installed, so its hash is not known; name another"
        + (", or leave --model out" if settings.model is not None else " with --model")
    )


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
    progress: Progress | None
    on_notice: Callable[[str], None]
    notices: list[str] = field(default_factory=list)

    def code(self) -> Coded:
        settings = self.settings
        fixed = settings.plan is Plan.PLAIN_ENHANCED and settings.strength is not None
        if settings.plan in (Plan.TDS, Plan.PLAIN) or fixed:
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
        if settings.effort == 0 and settings.plan is Plan.AUTO:
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
            self.progress,
            self._tell,
        ).code()

    def _as_told(self, settings: EncodeSettings) -> Coded:
        code = code_streams if settings.plan is Plan.TDS else code_one_stream
        return code(self.video, settings, self.folder, self.progress)

    def _tell(self, notice: str) -> None:
        self.notices.append(notice)
        self.on_notice(notice)


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
        lr_qp=_told_qp(lr_settings, settings.codec),
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
        hr_qp=_told_qp(settings.stream(video, Role.HR), settings.codec),
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


def _told_qp(stream: StreamSettings, codec: Codec) -> int:
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


class StreamCoder:
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

    def __enter__(self) -> StreamCoder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for encoder in self._running:
            encoder.abort()
        self._pool.shutdown(wait=True, cancel_futures=True)
