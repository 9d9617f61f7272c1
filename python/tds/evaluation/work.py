# SPDX-License-Identifier: LGPL-2.1-or-later
"""The work itself: coding a stream, measuring what comes out, cutting crops.

Each function takes a job's plain description and writes into a folder; it knows nothing
of where it runs. Streams are coded by the package's own adapters and ``StreamCoder``, and
pairs are rebuilt by its own ``Decoder``, so what is measured is what a user gets.
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame

from .. import _tds
from ..codecs import ADAPTERS, Codec, Config, StreamSettings
from ..codecs.base import CodedSegment
from ..container.metadata import Hints
from ..container.writing import CodedStream
from ..decoder import Chosen, Decoder, EnhanceSettings
from ..encoding.settings import EncodeSettings
from ..encoding.streams import StreamCoder
from ..errors import ExternalError
from ..files import sha256_of, sha256_of_all
from ..measuring.comparison import residual_map, rgb_image
from ..measuring.measure import decode_segments, sizes_in_display_order
from ..measuring.psnr import psnr
from ..media.decoding import in_process, program_that_decodes
from ..media.pictures import FilterChain, down_sample
from ..media.planar import PicturesMD5, Plane, frame_of, picture_bytes, planes_in, planes_of
from ..media.programs import ffmpeg_version
from ..media.sources import VideoSource
from ..pair import Pair
from ..plan import Role
from ..session import Session
from .cache import RECORD, write_record
from .clips import ClipSource
from .layout import from_plain
from .machines import versions
from .metrics import compare, metrics_version
from .records import (
    CropRecord,
    CropSpec,
    MeasureRecord,
    MeasureSpec,
    StreamRecord,
    StreamSpec,
)

Record = StreamRecord | MeasureRecord | CropRecord

SAME = "same"
"""The part a finished measurement plays for another whose pictures should be the same."""

UPSAMPLED_LOSSES = frozenset(("lost", "ref-lost", "corrupt"))


@dataclass(frozen=True)
class Place:
    """Where a job runs.

    files: source clips by sha256, models by key. inputs: folders of the jobs it rests on, by
    the part they play. scratch: a folder for temporary files. threads: for the work in
    this process.
    """

    files: Mapping[str, Path]
    inputs: Mapping[str, Path]
    scratch: Path
    threads: int = 0


def run(kind: str, spec: Any, place: Place, out: Path) -> None:
    """Does one job and writes its record and files into ``out``. spec: of records.py, by kind."""
    started = time.perf_counter()
    works: dict[str, Callable[[Any, Place, Path], Record]]
    works = {"stream": _stream, "measure": _measure, "crop": _crop}
    record = works[kind](spec, place, out)
    record["seconds"] = round(time.perf_counter() - started, 3)
    write_record(out, record)


# ------------------------------------------------------------------- streams --


def _settings(spec: StreamSpec, video: VideoSource) -> StreamSettings:
    """As tds.encode has them; ``scale`` 1 is a full-size stream."""
    settings = EncodeSettings(
        codec=Codec(spec["codec"]),
        config=Config(spec["config"]),
        qp=spec["qp"],
        scale=max(2, spec["scale"]),
        lr_qp_offset=0,  # the QP is the stream's own
        encoder=spec["encoder"],
        preset=spec["preset"],
        intra_period=spec["intra_period"],
    )
    return settings.stream(video, None if spec["scale"] == 1 else Role.LR)


def _stream(spec: StreamSpec, place: Place, out: Path) -> StreamRecord:
    encoder = ADAPTERS[spec["encoder"]].fingerprint()
    if encoder != spec["version"]:
        raise ExternalError(
            f"this machine has {encoder} and the evaluation is of {spec['version']}: an anchor "
            "and a test of different versions are not comparable; install the same everywhere"
        )
    adapter = ADAPTERS[spec["encoder"]]
    segments = from_plain(spec["segments"])
    wanted = {i for s in segments for i in s.coded()}
    coded_frames = [i for s in segments for i in s.coded()]
    with ClipSource(str(place.files[spec["clip"]]), spec["frames"]) as video:
        settings = _settings(spec, video)
        full = video.planar()
        down = down_sample(video.width, video.height, spec["scale"]) if spec["scale"] > 1 else []
        lower = FilterChain(down, video.time_base)
        begins = {s.frames[0]: s for s in segments}
        leads: dict[int, bytes] = {}
        own = {i for s in segments for i in s.frames}
        with StreamCoder(adapter, settings, out, "coded") as coder:
            last = -1
            for last, frame in enumerate(video):
                if last not in wanted:
                    continue
                data = picture_bytes(lower(full(frame)))
                if last not in own:
                    leads[last] = data
                if last in begins:
                    coder.restart()
                    lead = begins[last].lead
                    if lead is not None:
                        coder.lead(lead, leads.pop(lead))
                if last in own:
                    coder.write(last, data)
            if last + 1 != spec["frames"]:
                raise ExternalError(
                    f"{video.path} has {last + 1} frames now and had {spec['frames']}"
                )
            coded = coder.finish()
        if list(coded.times) != coded_frames:
            raise ExternalError(f"{adapter.name} was to code frames {coded_frames}")
        sizes = [8 * size for size in sizes_in_display_order(coded)]
        if len(sizes) != len(coded_frames):
            raise ExternalError(
                f"the coded stream has {len(sizes)} pictures, not {len(coded_frames)}: frames "
                "were lost"
            )
        return {
            "frames": coded_frames,
            "leads": [
                s.lead is not None and j == 0 for s in segments for j in range(len(s.coded()))
            ],
            "bits": coded.bits(),
            "frame_bits": sizes,
            "segments": [(s.path.name, s.frames) for s in coded.segments],
            "clip": sha256_of(place.files[spec["clip"]]),
            "codec": adapter.codec.value,
            "config": settings.config.value,
            "qp": settings.qp,
            "encoder": encoder,
            "preset": settings.preset,
            "pictures_by": pictures_version(),
            "width": settings.width,
            "height": settings.height,
            "bit_depth": settings.bit_depth,
            "command": adapter.describe(settings),
            "cpus": os.cpu_count() or 1,
        }


def starts(record: StreamRecord) -> list[int]:
    """Where a coded stream restarts: the frame that each of its segments codes first."""
    out, at = [], 0
    for _, pictures in record["segments"]:
        out.append(int(record["frames"][at]))
        at += pictures
    return out


def coded_stream(folder: Path, record: StreamRecord) -> CodedStream:
    """The stream a finished job left in ``folder``."""
    segments = [CodedSegment(folder / name, n) for name, n in record["segments"]]
    return CodedStream(segments, record["frames"])


def decoded(folder: Path, record: StreamRecord) -> Iterator[VideoFrame]:
    """Its pictures in display order; ``pts`` is the frame's index in the clip.

    Raises ExternalError when it decodes to other pictures than went in."""
    frames = decode_segments(coded_stream(folder, record))
    for index in record["frames"]:
        frame = next(frames, None)
        if frame is None or frame.is_corrupt:
            raise ExternalError(f"frame {index} of a coded stream does not decode: it is lost")
        frame.pts = index
        yield frame
    if next(frames, None) is not None:
        raise ExternalError("a coded stream decodes to more frames than were coded")


# ----------------------------------------------------------------- measuring --


@dataclass(frozen=True)
class Shown:
    """A picture as it comes out: index in the clip, planes, how it was made."""

    index: int
    planes: list[Plane]
    status: str
    ran: str = ""  # the precision and device of a model


def _sources(spec: MeasureSpec, place: Place) -> Iterator[list[Plane]]:
    """The source's pictures. Dozens of jobs in a row are of one clip, so a small one stays."""
    path, frames = place.files[spec["clip"]], spec["frames"]
    samples = frames * spec["width"] * spec["height"] * 3 // 2
    if samples * (1 if spec["bit_depth"] == 8 else 2) > KEPT_BYTES:
        return _read_sources(path, frames)
    key = (spec["clip"], frames)  # not the path: on a cluster each job has a copy of its own
    if key not in _kept:
        _kept.clear()
        _kept[key] = list(_read_sources(path, frames))
    return iter(_kept[key])


KEPT_BYTES = 256 << 20
_kept: dict[tuple[str, int], list[list[Plane]]] = {}  # one clip at most


def _read_sources(path: Path, frames: int) -> Iterator[list[Plane]]:
    with ClipSource(str(path), frames) as video:
        full = video.planar()
        for frame in video:
            data = picture_bytes(full(frame))
            yield planes_in(data, video.width, video.height, video.bit_depth)


def _records(place: Place) -> dict[str, StreamRecord]:
    """Of the streams that a job rests on."""
    return {
        name: json.loads((folder / RECORD).read_text())
        for name, folder in place.inputs.items()
        if name != SAME
    }


def shown(spec: MeasureSpec, place: Place) -> Iterator[Shown]:
    """Every picture of the clip as a viewer gets it, in display order.

    spec: ``enhancer`` None for the plain stream, else a map with ``kind`` bicubic, lanczos
    or model; ``scale``, ``base_scale``, ``roles``, ``width``, ``height``, ``bit_depth``."""
    records = _records(place)
    enhancer = spec["enhancer"]
    if enhancer is None:
        for frame in decoded(place.inputs["plain"], records["plain"]):
            assert frame.pts is not None
            yield Shown(frame.pts, planes_of(frame), "plain")
        return
    if "plain" in records:
        yield from _plain(spec, place, records)
        return
    pictures = (_lanczos if enhancer["kind"] == "lanczos" else _engine)(spec, place, records)
    base = spec["base_scale"]
    if base == 1:
        yield from pictures
        return
    size = (spec["width"], spec["height"])
    enlarge = _enlarger(tuple(_tds.lr_size(s, base) for s in size), size, base, "bicubic")
    for picture in pictures:
        frame = frame_of(picture.planes, spec["bit_depth"])
        frame.pts = picture.index
        yield replace(picture, planes=planes_of(enlarge(frame)))


def _streams(
    spec: MeasureSpec, place: Place, records: dict[str, StreamRecord]
) -> Mapping[Role, Iterator[VideoFrame]]:
    """Decoded frames by role."""
    return {
        role: decoded(place.inputs[role.value], records[role.value])
        if role.value in records
        else iter(())
        for role in Role
    }


def _base_size(spec: MeasureSpec) -> tuple[int, int]:
    """Of HR: the source's, or a part of it."""
    base = spec["base_scale"]
    size = (spec["width"], spec["height"])
    return size if base == 1 else (_tds.lr_size(size[0], base), _tds.lr_size(size[1], base))


def _settings_of(spec: MeasureSpec, place: Place) -> EnhanceSettings:
    enhancer = spec["enhancer"]
    assert enhancer is not None
    model = None
    if enhancer["kind"] == "model":
        model = str(place.files[enhancer["model"]])
    return EnhanceSettings(
        backend="torchscript" if model else "bicubic",
        model=model,
        device=enhancer["device"],
        precision=enhancer["precision"],
        threads=place.threads,
    )


def _hr_model(spec: MeasureSpec, place: Place) -> str | None:
    enhancer = spec["enhancer"]
    key = enhancer.get("hr_model") if enhancer else None
    return str(place.files[key]) if key else None


def _ran(session: Session) -> str:
    info = session.info
    return f"{info.precision} on {info.device}" if info.backend == "torchscript" else ""


def _plain(spec: MeasureSpec, place: Place, records: dict[str, StreamRecord]) -> Iterator[Shown]:
    """A plain stream, every picture enhanced by a model for k = 1, or passed."""
    settings = _settings_of(spec, place)
    frames = decoded(place.inputs["plain"], records["plain"])
    with Session(
        spec["width"],
        spec["height"],
        1,
        spec["bit_depth"],
        kind="plain",
        backend=settings.backend,
        model=settings.model,
        device=settings.device,
        precision=settings.precision,
        threads=settings.threads,
        hr_qp=spec["hr_qp"] if spec.get("told") else -1,
    ) as session:
        ran = _ran(session)
        while not session.ended:
            if session.wants:
                frame = next(frames, None)
                if frame is None:
                    session.end("hr")
                else:
                    session.send("hr", frame)
            for picture in session:
                if picture.status == "repeated":
                    raise ExternalError(f"frame {picture.pts} was lost between coding and output")
                yield Shown(int(picture.pts), list(picture.planes), picture.status, ran)


def _engine(spec: MeasureSpec, place: Place, records: dict[str, StreamRecord]) -> Iterator[Shown]:
    width, height = _base_size(spec)
    rate = Fraction(spec["rate"])
    pair = Pair(
        _streams(spec, place, records),
        width=width,
        height=height,
        bit_depth=spec["bit_depth"],
        scale=spec["scale"],
        time_base=1 / rate,
        rate=rate,
        hints=Hints(spec["hr_qp"], spec["lr_qp"]),
    )
    settings = _settings_of(spec, place)
    chosen = Chosen(settings.backend, settings.model, _hr_model(spec, place))
    with Decoder(pair, settings, chosen) as pictures:
        ran = _ran(pictures.session)
        for picture in pictures:
            if picture.status == "repeated" or UPSAMPLED_LOSSES & set(picture.reason):
                raise ExternalError(f"frame {picture.pts} was lost between coding and output")
            yield Shown(int(picture.pts), list(picture.planes), picture.status, ran)


def _lanczos(spec: MeasureSpec, place: Place, records: dict[str, StreamRecord]) -> Iterator[Shown]:
    """Lanczos up-sampling by FFmpeg's scale filter; HR as it is."""
    streams = _streams(spec, place, records)
    width, height = _base_size(spec)
    k = spec["scale"]
    lr_size = (_tds.lr_size(width, k), _tds.lr_size(height, k))
    enlarge = _enlarger(lr_size, (width, height), k, "lanczos")
    for index, role in enumerate(Role(r) for r in spec["roles"]):
        frame = next(streams[role], None)
        while frame is not None and frame.pts is not None and frame.pts < index:
            frame = next(streams[role], None)  # a down-sampled boundary, not shown
        if frame is None or frame.pts != index:
            raise ExternalError(f"frame {index} was lost between coding and output")
        hr = role is Role.HR
        yield Shown(
            index, planes_of(frame if hr else enlarge(frame)), "passed" if hr else "upsampled"
        )


def _enlarger(small: tuple[int, ...], full: tuple[int, int], scale: int, flags: str) -> FilterChain:
    """From the size of tds_lr_size to the full one: exactly times ``scale``, then cropped."""
    filters = [("scale", f"{small[0] * scale}:{small[1] * scale}:flags={flags}")]
    if (small[0] * scale, small[1] * scale) != full:
        filters.append(("crop", f"{full[0]}:{full[1]}:0:0:exact=1"))
    return FilterChain(filters, Fraction(1, 1000))


def _check_tools(spec: MeasureSpec) -> None:
    """Raises ExternalError where what measures here is not what the job's key says."""
    for name, here in tools().items():
        told = spec.get(name)
        if told is not None and told != here:
            raise ExternalError(
                f"the {name} of this machine is {here}, and that of the evaluation {told}: "
                "their results are not comparable; install the same everywhere"
            )
    told_of = spec.get("tasks", {})
    for name, known in versions([*told_of]).items():
        if told_of[name] != known:
            raise ExternalError(
                f"the task metric {name} of this machine is {known}, and that of the evaluation "
                f"{told_of[name]}: install the same everywhere"
            )


@functools.cache
def tools() -> dict[str, str]:
    """Versions of what measures, by their names in a job's description."""
    return {
        "metrics": metrics_version(),
        "decoder": decoder_version(),
        "pictures": pictures_version(),
        "engine": engine_version(),
        "torch": package_version("torch"),
    }


def _measure(spec: MeasureSpec, place: Place, out: Path) -> MeasureRecord:
    _check_tools(spec)
    if SAME in place.inputs:
        known: MeasureRecord = json.loads((place.inputs[SAME] / RECORD).read_text())
        again = _measured_before(spec, place, known)
        if again is not None:
            return again
    status: list[str] = []
    ran = ""
    spent = 0.0
    digest = PicturesMD5()

    def pairs() -> Iterator[tuple[list[Plane], list[Plane]]]:
        nonlocal ran, spent
        pictures = shown(spec, place)
        for index, source in enumerate(_sources(spec, place)):
            begin = time.perf_counter()
            picture = next(pictures, None)
            spent += time.perf_counter() - begin
            if picture is None:
                raise ExternalError(
                    f"{index} frames came out and the source has {spec['frames']}: frames were "
                    "lost, so there is nothing to compare"
                )
            if picture.index != index:
                raise ExternalError(f"frame {picture.index} came out in the place of {index}")
            status.append(picture.status)
            ran = picture.ran
            digest.add(picture.planes)
            yield source, picture.planes
        if next(pictures, None) is not None:
            raise ExternalError(f"more frames came out than the source's {spec['frames']}")

    quality = compare(
        pairs(),
        spec["bit_depth"],
        Fraction(spec["rate"]),
        place.scratch,
        max(1, place.threads),
        spec["ms_ssim"],
        spec.get("perceptual", True),
        [*spec.get("tasks", {})],
    )
    if len(status) != spec["frames"]:
        raise ExternalError(f"{len(status)} frames were compared, not {spec['frames']}")
    return {
        "frames": len(status),
        "quality": quality.to_dict(),
        "status": status,
        "fps": round(len(status) / spent, 2) if spent else None,
        "ran": ran,
        "pictures_md5": digest.hexdigest(),
    }


def _measured_before(spec: MeasureSpec, place: Place, known: MeasureRecord) -> MeasureRecord | None:
    """The record, by what was measured of the same pictures; None where they are others."""
    status: list[str] = []
    digest = PicturesMD5()
    started = time.perf_counter()
    for index, picture in enumerate(shown(spec, place)):
        if picture.index != index:
            raise ExternalError(f"frame {picture.index} came out in the place of {index}")
        status.append(picture.status)
        digest.add(picture.planes)
    spent = time.perf_counter() - started
    if digest.hexdigest() != known.get("pictures_md5"):
        return None
    return {**known, "status": status, "fps": round(len(status) / spent, 2)}


# --------------------------------------------------------------------- crops --


def _crop(spec: CropSpec, place: Place, out: Path) -> CropRecord:
    """PNGs of one region of one frame: the source, and a version with its residual map."""
    _check_tools(spec)
    index, (x, y, w, h) = spec["index"], spec["box"]
    source = next(islice(_sources(spec, place), index, None))
    picture = next((p for p in shown(spec, place) if p.index == index), None)
    if picture is None:
        raise ExternalError(f"frame {index} was lost")
    cut_source, cut = (cut_box(planes, x, y, w, h) for planes in (source, picture.planes))
    depth = spec["bit_depth"]
    rgb_image(cut_source, depth).save(out / "source.png", optimize=True)
    rgb_image(cut, depth).save(out / "version.png", optimize=True)
    residual_map(cut, cut_source, depth - 8).save(out / "residual.png", optimize=True)
    return {
        "psnr_y": psnr(picture.planes[0], source[0], depth),
        "psnr_y_crop": psnr(cut[0], cut_source[0], depth),
        "status": picture.status,
    }


def cut_box(planes: list[Plane], x: int, y: int, width: int, height: int) -> list[Plane]:
    """A region of 4:2:0 planes; all numbers even, in luma samples."""
    out = [planes[0][y : y + height, x : x + width]]
    out += [p[y // 2 : (y + height) // 2, x // 2 : (x + width) // 2] for p in planes[1:]]
    return out


def busiest_box(planes: list[Plane], width: int, height: int) -> tuple[int, int, int, int]:
    """(x, y, width, height) of the region with most detail, in even luma samples.

    Detail is the sum of absolute differences to the right and lower neighbours."""
    luma = planes[0].astype(np.int32)
    full_height, full_width = luma.shape
    width, height = min(width, full_width) & ~1, min(height, full_height) & ~1
    detail = np.zeros_like(luma)
    detail[:, :-1] += np.abs(np.diff(luma, axis=1))
    detail[:-1] += np.abs(np.diff(luma, axis=0))
    total = np.pad(detail.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    best, box = -1, (0, 0, width, height)
    for y in range(0, full_height - height + 1, 16):
        for x in range(0, full_width - width + 1, 16):
            here = int(
                total[y + height, x + width] - total[y, x + width]
                - total[y + height, x] + total[y, x]
            )  # fmt: skip
            if here > best:
                best, box = here, (x, y, width, height)
    return box


def engine_version() -> str:
    """The engine's version and the hash of its library, so that a rebuilt one counts as new."""
    module = Path(str(_tds.__file__))
    libraries = [module, *sorted(module.parent.glob("_native/lib/libtds*.so*"))]
    real = (path for path in libraries if path.is_file() and not path.is_symlink())
    return f"{_tds.version()} {sha256_of_all(real)[:12]}"


def _library(name: str) -> str:
    return f"{name} {'.'.join(map(str, av.library_versions[name]))}"


def package_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def pictures_version() -> str:
    """What decodes a source, and converts and scales pictures."""
    return f"PyAV {av.__version__}, {_library('libavcodec')}, {_library('libswscale')}"


def device_of(backend: str, wanted: str) -> str:
    """The device a backend takes for ``wanted``, as the engine chooses it: ``auto`` is the first
    CUDA device, else the CPU. Bicubic has the CPU only, whatever the models run on."""
    if backend == "bicubic":
        return "cpu"
    if wanted != "auto":
        return "cuda:0" if wanted == "cuda" else wanted
    return next((d for d in _tds.backend_devices(backend) if d != "cpu"), "cpu")


def decoder_version() -> str:
    """What decodes the streams: PyAV's libavcodec, or a program where that is wrong."""
    out = f"PyAV {av.__version__}, {_library('libavcodec')}"
    for depth in (8, 10):
        if not in_process(depth):
            program = program_that_decodes(depth)
            by = f"FFmpeg {ffmpeg_version(program)}" if program else "nothing at hand"
            out += f"; {depth}-bit VVC by {by}"
    return out
