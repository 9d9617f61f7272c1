# SPDX-License-Identifier: LGPL-2.1-or-later
"""``tds encode --target-vmaf`` and the like: the quality setting with which a video comes to a bit
rate, a size or a quality, found on samples of it.

What is measured is what a player shows: samples are coded as the video will be, both streams, and
decoded with the model. Each trial's figures stay in the user's cache, so that another target for
the same video costs only the trials that it needs beyond them.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.video.stream import VideoStream

from .codecs import Config
from .container.annexb import is_sidecar
from .decoder import decode
from .encoder import EncodeResult, encode
from .encoding.settings import EncodeSettings
from .errors import InputError
from .evaluation.cache import Cache, Job, write_record
from .evaluation.metrics import VMAF_SMALLEST, compare, metrics_version
from .files import check_output
from .measuring.measure import check_measurable, source_planes
from .media.opening import RawFormat, ffmpeg_name, open_container
from .media.planar import PicturesMD5, pix_fmt_of
from .media.sources import VideoSource

WHOLE = 160
"""Frames; of a video of no more, the sample is all of it."""
PIECES = 5
MAX_TRIALS = 8
_AGAIN = 2  # times that a file that came to another rate than its samples is coded again


@dataclass(frozen=True)
class _Kind:
    """called: for sentences. near: how far from the target is near enough, relative for rates.
    slope: of its value by one step of QP or CRF, until two trials tell; of rates, of the
    logarithm."""

    called: str
    unit: str
    near: float
    slope: float
    rate: bool = False


KINDS = {
    "bitrate": _Kind("a bit rate", "kbit/s", 0.03, -0.12, rate=True),
    "max_size": _Kind("a size", "bytes", 0.02, -0.12, rate=True),
    "vmaf": _Kind("VMAF", "", 0.5, -1.8),
    "psnr": _Kind("PSNR", "dB", 0.1, -0.55),
    "xpsnr": _Kind("XPSNR", "dB", 0.1, -0.6),
}


@dataclass(frozen=True)
class Target:
    """kind: of KINDS. value: kbit/s of both streams together; bytes of the whole file, at most; the
    mean over pictures of VMAF, of luma PSNR or of luma XPSNR."""

    kind: str
    value: float

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"no target {self.kind!r}; there are {', '.join(KINDS)}")
        most = 100 if self.kind == "vmaf" else math.inf
        if not 0 < self.value < most:
            upper = f" and less than {most}" if most == 100 else ""
            raise InputError(
                f"{KINDS[self.kind].called} to aim at is more than 0{upper}, not {self.value:g}"
            )

    @property
    def what(self) -> _Kind:
        return KINDS[self.kind]

    def text(self, value: float) -> str:
        """A value of this kind, for a sentence."""
        if self.kind == "max_size":
            return f"{value / 1e6:.3f} MB" if value >= 1e6 else f"{value / 1e3:.2f} kB"
        places = 1 if self.kind == "bitrate" else 2
        unit = f" {self.what.unit}" if self.what.unit else ""
        name = "" if self.what.rate else f"{self.what.called} "
        return f"{name}{value:.{places}f}{unit}"

    def error(self, value: float) -> float:
        """How far a value is off, in units of ``near``; above 0: there are bits to save."""
        if self.what.rate:
            return math.log(value / self.value) / self.what.near
        return (value - self.value) / self.what.near

    def met(self, value: float) -> bool:
        """Whether it is near enough. A size is never more than asked."""
        return -1 <= self.error(value) <= (0 if self.kind == "max_size" else 1)


@dataclass(frozen=True)
class Reached:
    """result: of the file. setting: "CRF 27.25". value: what it came to: of a rate, of the file
    itself; of a quality, on the samples. met: whether that is the target. encodes: how many times
    something was coded, samples and the file. known: trials that the cache had. frames: of the
    samples."""

    target: Target
    result: EncodeResult
    setting: str
    value: float
    met: bool
    encodes: int
    known: int
    frames: int

    def __str__(self) -> str:
        target, of = self.target, self.result.metadata.timeline.frames
        where = "" if target.what.rate or self.frames == of else f" on {self.frames} frames of {of}"
        asked = target.text(target.value)
        cached = f", {self.known} trials known before" if self.known else ""
        said = f"{self.setting}: {target.text(self.value)}{where}, {asked} asked"
        if not self.met:
            said += "; that is the nearest there is"
        return f"{said} ({self.encodes} encodes{cached})"


@dataclass(frozen=True)
class _Setting:
    """The settings there are to choose from: QPs, or CRFs in quarters."""

    name: str
    least: float
    most: float
    step: float
    start: float

    @classmethod
    def of(cls, settings: EncodeSettings) -> _Setting:
        adapter = settings.adapter()
        if bounds := adapter.crf_range():
            least, most = bounds
            return cls("crf", least, most, 0.25, least + (most - least) * 0.55)
        least, most = adapter.qp_range()
        return cls("qp", least, most, 1, least + (most - least) * 0.55)

    @property
    def count(self) -> int:
        return int((self.most - self.least) / self.step) + 1

    def value(self, place: int) -> float:
        return self.least + place * self.step

    def place(self, value: float) -> int:
        return min(max(0, round((value - self.least) / self.step)), self.count - 1)

    def text(self, place: int) -> str:
        return f"{self.name.upper()} {self.value(place):g}"

    def settings(self, settings: EncodeSettings, place: int) -> EncodeSettings:
        value = self.value(place)
        if self.name == "crf":
            return replace(settings, crf=value)
        return replace(settings, qp=round(value))


def search(
    measured: dict[int, float], target: Target, setting: _Setting, trials: int = MAX_TRIALS
) -> Iterator[int]:
    """Places of ``setting`` to try, each of which is in ``measured`` when the next is asked for.
    Values fall from place to place. Ends where the target is reached or lies between neighbours."""
    place = setting.place(setting.start)
    for trial in range(trials):
        if place not in measured:
            yield place
        if target.met(measured[place]):
            return
        errors = {p: target.error(v) * target.what.near for p, v in measured.items()}
        # A size of just the target may be over it in the file.
        aim = -target.what.near / 2 if target.kind == "max_size" else 0.0
        above = max((p for p, e in errors.items() if e > aim), default=None)
        below = min((p for p, e in errors.items() if e <= aim), default=None)
        if above is not None and below is not None:
            if below - above <= 1:
                return
            share = (errors[above] - aim) / (errors[above] - errors[below])
            # Where curves bend, lines come near from one side only.
            place = above + round((0.5 if trial >= 4 else share) * (below - above))
            place = min(max(place, above + 1), below - 1)
            continue
        known = sorted(errors)
        slope = target.what.slope * setting.step
        if len(known) > 1:
            a, b = known[0], known[-1]
            slope = min((errors[b] - errors[a]) / (b - a), slope / 4)
        end = above if above is not None else below
        assert end is not None
        move = round((aim - errors[end]) / slope)
        place = end + (max(1, move) if above is not None else min(-1, move))
        place = min(max(place, 0), setting.count - 1)
        if place in measured:
            return  # the end of what there is


def nearest(measured: dict[int, float], target: Target) -> int:
    """The place of the best value; of a size, of the largest that is none too large."""
    fitting = {p: v for p, v in measured.items() if target.error(v) <= 0}
    if target.kind == "max_size":
        return min(fitting, default=max(measured))
    return min(measured, key=lambda p: abs(target.error(measured[p])))


@dataclass
class _Samples:
    """Parts of a video as files that lose nothing. total: frames of the video."""

    files: list[Path]
    frames: int
    total: int
    rate: Fraction
    digest: str

    @classmethod
    def of(cls, video: VideoSource, settings: EncodeSettings, folder: Path) -> _Samples:
        expected = video.frames
        length = -(-WHOLE // PIECES)
        if settings.config is Config.RA:
            length = max(length, settings.intra_period)
        starts = [0]
        whole = expected <= max(WHOLE, PIECES * length)
        if not whole:
            starts = [(expected - length) * i // (PIECES - 1) for i in range(PIECES)]
        most = max(WHOLE, PIECES * length) if whole else length
        planar, md5 = video.planar(), PicturesMD5()
        files: list[Path] = []
        writer: _Writer | None = None
        total = frames = 0
        try:
            for frame in video:
                if total in starts:
                    if writer is not None:
                        writer.close()
                    files.append(folder / f"sample-{len(files)}.nut")
                    writer = _Writer(video, files[-1])
                if writer is not None and writer.frames < most:
                    picture = planar(frame)
                    md5.add(picture)
                    writer.write(picture)
                    frames += 1
                total += 1
        finally:
            if writer is not None:
                writer.close()
        if not total:
            raise InputError(f"{video.path} has no frames that decode")
        return cls(files, frames, total, video.rate, md5.hexdigest())


class _Writer:
    """A file of pictures as they go to the encoders, at their times."""

    def __init__(self, video: VideoSource, path: Path) -> None:
        self.frames = 0
        self._out = av.open(ffmpeg_name(path), "w", format="nut")
        self._stream = self._out.add_stream("ffv1", rate=video.rate)
        self._stream.width, self._stream.height = video.width, video.height
        self._stream.pix_fmt = pix_fmt_of(video.bit_depth, video.chroma)
        self._stream.time_base = self._stream.codec_context.time_base = video.time_base
        source = video.container.streams[video.index]
        assert isinstance(source, VideoStream)
        said = source.codec_context
        context = self._stream.codec_context
        context.color_range, context.colorspace = said.color_range, said.colorspace
        context.color_primaries, context.color_trc = said.color_primaries, said.color_trc

    def write(self, picture: av.VideoFrame) -> None:
        self.frames += 1
        for packet in self._stream.encode(picture):
            self._out.mux(packet)

    def close(self) -> None:
        for packet in self._stream.encode(None):
            self._out.mux(packet)
        self._out.close()


@dataclass
class _Trials:
    """Codes the samples and measures them. encodes, known: how often, and how often not."""

    samples: _Samples
    settings: EncodeSettings
    setting: _Setting
    target: Target
    folder: Path
    others: float  # bytes of what else is in the file
    cache: Cache
    workers: int | None
    tell: Callable[[str], None]
    encodes: int = 0
    known: int = 0

    def value(self, place: int) -> float:
        wanted = [self._job(place, False), self._job(place, True)]
        if not self.target.what.rate:
            wanted = wanted[1:]
        job = next((job for job in wanted if self.cache.has(job)), None)
        if job is not None:
            self.known += 1
        else:
            job = wanted[0]
            with self.cache.making(job) as folder:
                write_record(folder, self._measured(place, not self.target.what.rate))
            self.encodes += 1
        record = self.cache.record(job)
        value = self._of(record)
        self.tell(f"{self.setting.text(place)}: {self.target.text(value)} on the samples")
        return value

    def _of(self, record: dict[str, Any]) -> float:
        samples, bits = self.samples, float(record["bits"])
        if self.target.kind == "bitrate":
            return bits / float(samples.frames / samples.rate) / 1000
        if self.target.kind == "max_size":
            return float(record["bytes"]) / samples.frames * samples.total + self.others
        return float(record[self.target.kind])

    def _job(self, place: int, quality: bool) -> Job[Any]:
        settings = self.setting.settings(self.settings, place)
        spec = {
            "pictures": self.samples.digest,
            "settings": repr(settings),
            "encoder": settings.adapter().fingerprint(),
            "quality": metrics_version() if quality else "",
            "models": _installed(),
        }
        return Job("trial", spec)

    def _measured(self, place: int, quality: bool) -> dict[str, float]:
        settings = self.setting.settings(self.settings, place)
        bits = size = 0
        means: dict[str, list[float]] = {"psnr": [], "vmaf": [], "xpsnr": []}
        for sample in self.samples.files:
            coded = sample.with_suffix(".mp4")
            result = encode(str(sample), coded, settings, overwrite=True, workers=self.workers)
            bits += result.hr.bits + result.lr.bits
            size += coded.stat().st_size  # with an index, which grows with the frames too
            if not quality:
                continue
            with decode(coded) as pictures:
                depth = pictures.bit_depth
                sources = (
                    planes for _, planes in source_planes(str(sample), None, chroma=pictures.chroma)
                )
                pairs = (
                    ([*source], [*shown.planes])
                    for source, shown in zip(sources, pictures, strict=True)
                )
                found = compare(
                    *(pairs, depth, self.samples.rate, self.folder, os.cpu_count() or 1),
                    ms_ssim=False,
                )
            for name, values in (("psnr", found.y), ("vmaf", found.vmaf), ("xpsnr", found.xpsnr)):
                means[name] += [value for value in values if value is not None]
        record: dict[str, float] = {"bits": bits, "bytes": size}
        if quality:
            record |= {name: sum(values) / len(values) for name, values in means.items() if values}
        return record


def _installed() -> list[str]:
    """What may choose and enhance; another one is another video."""
    from . import models

    return sorted(model.sha256 for model in models.available())


def encode_to(
    target: Target,
    source: str,
    output: str | os.PathLike[str],
    settings: EncodeSettings,
    *,
    raw: RawFormat | None = None,
    video_track: int | None = None,
    overwrite: bool = False,
    on_trial: Callable[[str], None] = lambda said: None,
    **others: Any,
) -> Reached:
    """Codes a video with the setting that comes nearest to a target.

    The setting is the constant rate factor, in quarters, of encoders that have one, else the QP;
    those of ``settings`` do not count. Of a video of up to WHOLE frames all is tried, of longer
    ones PIECES parts. A file that comes to another rate than its samples is coded again, twice or
    until that is the target.
    on_trial: called with a sentence for each trial. others: as encode() takes them.

    Raises what encode() does, and InputError for a source that can be read only once.
    """
    check_measurable(source)
    check_output(output, overwrite, [source])
    if is_sidecar(output):
        raise InputError(
            f"a target is of one file, and {output} asks for raw streams; name an output with the "
            "suffix .mp4, or give --qp"
        )
    from .models.registry import cache_folder

    setting = _Setting.of(settings)
    cache = Cache(cache_folder() / "targets")
    with tempfile.TemporaryDirectory(prefix="tds-target-") as temporary:
        folder = Path(temporary)
        with VideoSource(source, raw, video_track) as video:
            if target.kind == "vmaf" and min(video.width, video.height) < VMAF_SMALLEST:
                raise InputError(
                    f"{source} is {video.width}x{video.height}, and VMAF is of {VMAF_SMALLEST} "
                    "samples a side or more; give --target-psnr or --target-xpsnr"
                )
            video.chroma, _ = settings.chroma_of(video)  # which encode() tells of
            samples = _Samples.of(video, settings, folder)
            rest = _bytes_beside(source, video.index) if target.kind == "max_size" else 0
        trials = _Trials(
            *(samples, settings, setting, target, folder, rest, cache),
            others.get("workers"),
            on_trial,
        )
        measured: dict[int, float] = {}
        for place in search(measured, target, setting):
            measured[place] = trials.value(place)
    place = nearest(measured, target)
    value = measured[place]
    files: dict[int, float] = {}

    def code() -> EncodeResult:
        trials.encodes += 1
        return encode(
            *(source, output, setting.settings(settings, place)), raw=raw, video_track=video_track,
            overwrite=overwrite or bool(files), **others,
        )  # fmt: skip

    result = code()
    while target.what.rate:
        value = files[place] = _rate(target, result)
        again = _other(place, target, setting, value)
        if target.met(value) or len(files) > _AGAIN or again in files:
            break
        on_trial(f"{setting.text(place)}: {target.text(value)} of the whole file")
        place = again
        result = code()
    if files and (best := nearest(files, target)) != place:
        place, value = best, files[best]
        result = code()
    return Reached(
        *(target, result, setting.text(place), value, target.met(value)),
        *(trials.encodes, trials.known, samples.frames),
    )


def _other(place: int, target: Target, setting: _Setting, value: float) -> int:
    """The place to try after the one by which a file came to ``value``; the same: there is none."""
    move = math.log(value / target.value) / (-target.what.slope * setting.step)
    # A size is never more than asked.
    move = math.ceil(move) if target.kind == "max_size" else round(move)
    return min(max(place + move, 0), setting.count - 1)


def _rate(target: Target, result: EncodeResult) -> float:
    if target.kind == "max_size":
        return float(result.path.stat().st_size)
    timeline = result.metadata.timeline
    return (result.hr.bits + result.lr.bits) / float(timeline.frames / timeline.rate) / 1000


def _bytes_beside(path: str, video: int) -> float:
    """Of sound, text and the like, which come along."""
    with open_container(path) as container:
        kinds = ("audio", "subtitle")
        rest = [s for s in container.streams if s.index != video and s.type in kinds]
        headers = [s.codec_context.extradata for s in rest if s.codec_context is not None]
        size = sum(len(header) for header in headers if header)
        return float(size + sum(p.size for p in container.demux(rest))) if rest else 0.0
