# SPDX-License-Identifier: LGPL-2.1-or-later
"""The pair against the plain full-size stream: bits and PSNR of both.

Same encoder, version, preset, configuration and QP; the anchor restarts where
the pair does. Both countings of the field come from the same numbers: *whole
stream* (all frames, all bits) and *per frame type* (the frames that were
down-sampled against the same frames of the anchor).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import av
from rich.console import Console
from rich.table import Table

from ..container.writing import CodedStream
from ..decoder import Decoder, EnhanceSettings, decode
from ..encoder import EncodeResult
from ..encoding.streams import Progress, code_plain
from ..errors import ExternalError, InputError
from ..media.decoding import frames
from ..media.opening import STANDARD_INPUT, RawFormat, ffmpeg_name, is_read_once
from ..media.planar import Plane, depth_of, planes_of
from ..media.sources import VideoSource
from ..plan import Role
from .psnr import PSNR


@dataclass
class Measurement:
    """Bits in bits, PSNR in dB, of the source's own frames.

    hr: of the full-size frames as they come out, hr_coded: as they were coded. lr_bicubic,
    lr_enhanced: of the frames that were down-sampled; anchor_lr: of
    the same frames in the plain stream. model: what enhanced; None when only
    bicubic was measured. fps: frames a second of decoding and comparing, once the
    model is loaded. anchor_stream: the plain stream, when its folder was given and
    so outlives the measuring.
    """

    hr_bits: int
    lr_bits: int
    anchor_bits: int
    anchor_lr_bits: int
    hr: PSNR = field(default_factory=PSNR)
    hr_coded: PSNR = field(default_factory=PSNR)
    lr_bicubic: PSNR = field(default_factory=PSNR)
    lr_enhanced: PSNR = field(default_factory=PSNR)
    anchor: PSNR = field(default_factory=PSNR)
    anchor_lr: PSNR = field(default_factory=PSNR)
    model: str = ""
    fps: float = 0.0
    bicubic_fps: float = 0.0
    encoder: str = ""
    anchor_stream: CodedStream | None = None

    @property
    def pair(self) -> PSNR:
        """All frames as they come out: HR, and LR with the model."""
        return PSNR(self.hr.y + self.lr_enhanced.y, self.hr.u + self.lr_enhanced.u,
                    self.hr.v + self.lr_enhanced.v)  # fmt: skip


def check_measurable(source: str) -> None:
    """Raises InputError, before any work, for a source that cannot be read again."""
    if is_read_once(source):
        what = "standard input" if source == STANDARD_INPUT else source
        raise InputError(f"measuring reads the source again, and {what} cannot be; name a file")


def measure(
    source: str,
    result: EncodeResult,
    *,
    raw: RawFormat | None = None,
    video_track: int | None = None,
    enhance: EnhanceSettings | None = None,
    progress: Progress | None = None,
    anchor_folder: Path | None = None,
) -> Measurement:
    """Codes the anchor, decodes everything and compares with the source.

    raw, video_track: as encode() was given them. anchor_folder: where the plain stream is kept;
    None: nowhere.
    """
    settings = result.settings

    def original() -> Iterator[list[Plane]]:
        return (planes for _, planes in source_planes(source, raw, video_track, chroma))

    with tempfile.TemporaryDirectory(prefix="tds-measure-") as temporary:
        folder = anchor_folder or Path(temporary)
        with VideoSource(source, raw, video_track) as video:
            chroma = video.chroma = settings.chroma_of(video)[0]
            anchor = code_plain(video, settings, result.restarts, folder, progress)
        kept = anchor if anchor_folder is not None else None
        out = Measurement(result.hr.bits, result.lr.bits, anchor.bits(), 0)
        out.anchor_stream = kept
        out.encoder = f"{result.metadata.encoder}, preset {result.metadata.preset}"
        roles = list(result.metadata.roles())
        _compare_anchor(original(), anchor, roles, out)
        with decode(result.path, settings=EnhanceSettings(backend="bicubic")) as pictures:
            start = time.perf_counter()
            _compare(original(), pictures, roles, out.hr_coded, out.lr_bicubic)
        out.bicubic_fps = len(roles) / (time.perf_counter() - start)
        with decode(result.path, settings=enhance) as pictures:
            start = time.perf_counter()  # loading a model takes longer than a short clip
            out.model = pictures.model
            _compare(original(), pictures, roles, out.hr, out.lr_enhanced)
        out.fps = len(roles) / (time.perf_counter() - start)
    return out


def source_planes(
    source: str, raw: RawFormat | None, video_track: int | None = None, chroma: int = 420
) -> Iterator[tuple[int, list[Plane]]]:
    """(time, planes) of each source frame as it went to the encoder."""
    with VideoSource(source, raw, video_track, chroma=chroma) as video:
        full = video.planar()
        for frame in video:
            picture = full(frame)
            assert picture.pts is not None
            yield picture.pts, planes_of(picture)


def _compare(
    originals: Iterator[list[Plane]],
    pictures: Decoder,
    roles: Sequence[Role],
    hr: PSNR,
    lr: PSNR,
) -> None:
    depth = pictures.bit_depth
    for original, picture, role in zip(originals, pictures, roles, strict=True):
        (hr if role is Role.HR else lr).add(original, picture.planes, depth)


def _compare_anchor(
    originals: Iterator[list[Plane]],
    anchor: CodedStream,
    roles: Sequence[Role],
    out: Measurement,
) -> None:
    decoded = decode_segments(anchor)
    depth = None
    for i, original in enumerate(originals):
        frame = next(decoded, None)
        if frame is None:
            raise ExternalError("the plain stream decodes to fewer frames than the source has")
        depth = depth_of(frame.format.name)
        planes = planes_of(frame)
        out.anchor.add(original, planes, depth)
        if roles[i] is Role.LR:
            out.anchor_lr.add(original, planes, depth)
    if next(decoded, None) is not None:
        raise ExternalError("the plain stream decodes to more frames than the source has")
    sizes = sizes_in_display_order(anchor)
    out.anchor_lr_bits = sum(
        8 * size for size, role in zip(sizes, roles, strict=True) if role is Role.LR
    )


def decode_segments(coded: CodedStream) -> Iterator[av.VideoFrame]:
    """Every picture of a coded stream, in display order."""
    for segment in coded.segments:
        with av.open(ffmpeg_name(segment.path)) as container:
            yield from frames(str(segment.path), container, container.streams.video[0])


def sizes_in_display_order(coded: CodedStream) -> list[int]:
    """Bytes of each coded picture, without parameter sets kept beside the packets."""
    sizes: list[int] = []
    for segment in coded.segments:
        with av.open(ffmpeg_name(segment.path)) as container:
            packets = [
                (p.pts or 0, p.size) for p in container.demux(container.streams.video[0]) if p.size
            ]
        sizes += [size for _, size in sorted(packets)]
    return sizes


def table(m: Measurement) -> str:
    """The measurement as a table for a terminal."""
    t = Table(title=f"{m.encoder}; enhancer: {m.model}")
    for name in ("", "frames", "kbit", "PSNR Y (dB)", "PSNR UV (dB)"):
        t.add_column(name, justify="left" if not name else "right")

    def row(name: str, frames: int, bits: int | None, p: PSNR) -> None:
        kbit = "" if bits is None else f"{bits / 1000:.1f}"
        t.add_row(name, str(frames), kbit, f"{p.luma:.2f}", f"{p.chroma:.2f}")

    enhanced = not m.model.startswith("bicubic")
    if m.lr_enhanced.y:
        row("HR frames", len(m.hr.y), m.hr_bits, m.hr)
        row("LR frames, bicubic", len(m.lr_bicubic.y), m.lr_bits, m.lr_bicubic)
        if enhanced:
            row("LR frames, enhanced", len(m.lr_enhanced.y), m.lr_bits, m.lr_enhanced)
        anchor_lr = (len(m.anchor_lr.y), m.anchor_lr_bits, m.anchor_lr)
        row("the same frames in the plain stream", *anchor_lr)
        t.add_section()
        both = f"both (HR + LR, {'enhanced' if enhanced else 'bicubic'})"
        row(both, len(m.pair.y), m.hr_bits + m.lr_bits, m.pair)
    else:
        row("one stream, as coded", len(m.hr_coded.y), m.hr_bits, m.hr_coded)
        if enhanced:
            row("one stream, enhanced", len(m.hr.y), m.hr_bits, m.hr)
    row("plain stream (anchor)", len(m.anchor.y), m.anchor_bits, m.anchor)
    console = Console(width=100)
    with console.capture() as captured:
        console.print(t)
    ratio = (m.hr_bits + m.lr_bits) / m.anchor_bits
    return captured.get() + (
        f"Whole stream: {100 * (ratio - 1):+.1f} % bits at {m.pair.luma - m.anchor.luma:+.2f} dB "
        f"luma against the plain stream of the same settings.\n"
        f"Decoding: {m.bicubic_fps:.1f} frames/s with bicubic"
        + (f", {m.fps:.1f} with {m.model}." if enhanced else ".")
    )
