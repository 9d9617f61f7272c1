# SPDX-License-Identifier: LGPL-2.1-or-later
"""What enhancement gains on a coded file: its pictures before and after, against the source.

*Before* are the pictures that a decoder gives: of a pair HR as they are and LR up-sampled by
bicubic, of any other video all as they are. *After* are those that ``tds decode`` or
``tds enhance`` makes.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from ..container.paired import PairedFile
from ..container.times import rescale
from ..decoder import Decoder, EnhanceSettings, decode
from ..encoding.streams import Progress
from ..enhancing import enhance
from ..errors import InputError
from ..files import whole_file
from ..media.opening import RawFormat, is_pair, open_container, packets_of
from ..media.planar import Plane, at_depth
from ..media.sources import VideoSource
from ..media.times import exact
from .comparison import side_by_side
from .psnr import psnr


class Quality(NamedTuple):
    """PSNR of a picture's planes, in dB."""

    y: float
    u: float
    v: float


@dataclass(frozen=True)
class FrameGain:
    """One picture. number: in display order, from 0. time: seconds from the first. kind: "HR",
    "LR", or "plain" where there is no pair. bits: of its packets, None: not known. status: how the
    engine made it."""

    number: int
    time: float
    kind: str
    bits: int | None
    before: Quality
    after: Quality
    status: str

    @property
    def gain(self) -> float:
        """dB of luma."""
        return self.after.y - self.before.y


@dataclass(frozen=True)
class Gain:
    """All pictures of a file. bits: of all packets of its pictures. seconds: how long it lasts."""

    source: str
    coded: str
    model: str
    paired: bool
    bits: int
    seconds: float
    frames: tuple[FrameGain, ...]

    def of(self, kind: str) -> list[FrameGain]:
        return [frame for frame in self.frames if frame.kind == kind]

    @property
    def middle(self) -> int:
        """The picture whose gain is the median of those that may change; the later of two."""
        changed = self.of("LR") or list(self.frames)
        return sorted(changed, key=lambda f: f.gain)[len(changed) // 2].number

    @property
    def extremes(self) -> list[int]:
        """The pictures that gain least, in the middle, and most."""
        changed = sorted(self.of("LR") or self.frames, key=lambda f: f.gain)
        return sorted({changed[0].number, self.middle, changed[-1].number})


def open_coded(coded: str, settings: EnhanceSettings, before: bool) -> Decoder:
    """The pictures of a pair, or of any other video. before: as they are without a model."""
    with open_container(coded) as container:
        paired = is_pair(container)
    if not paired:
        # Strength 0 hands full-size pictures on as they are, bit for bit.
        return enhance(coded, settings=replace(settings, strength=0.0) if before else settings)
    return decode(coded, settings=EnhanceSettings(backend="bicubic") if before else settings)


def _source_pictures(
    source: str, raw: RawFormat | None, track: int | None, bit_depth: int, chroma: int
) -> Iterator[list[Plane]]:
    from .measure import source_planes

    with VideoSource(source, raw, track) as video:
        depth = video.bit_depth
    for _, planes in source_planes(source, raw, track, chroma):
        yield at_depth(planes, depth, bit_depth)


def measure_gain(
    source: str,
    coded: str,
    settings: EnhanceSettings | None = None,
    *,
    raw: RawFormat | None = None,
    video_track: int | None = None,
    progress: Progress | None = None,
) -> Gain:
    """Compares every picture of ``coded``, before and after, with that of ``source``.

    source: what was coded: any file FFmpeg reads, raw video with ``raw``, or numbered pictures
    (``frames/%05d.png``). coded: a pair, or any other video. Pictures are compared in display
    order, at the depth of ``coded``.

    Raises InputError where sizes or numbers of pictures differ, MissingError."""
    wanted = settings or EnhanceSettings()
    frames: list[FrameGain] = []
    with (
        open_coded(coded, wanted, before=True) as before,
        open_coded(coded, wanted, before=False) as after,
    ):
        paired, total = not after.plain, len(after)
        bits = _bits(coded, after)
        originals = _source_pictures(source, raw, video_track, after.bit_depth, after.chroma)
        first: int | None = None
        for number, (plain, made) in enumerate(zip(before, after, strict=True)):
            original = next(originals, None)
            if original is None:
                raise InputError(
                    f"{coded} has {total} pictures and {source} has {number}; give the source that "
                    "it was coded from"
                )
            if original[0].shape != made.planes[0].shape:
                h, w = original[0].shape
                raise InputError(
                    f"{source} is {w}x{h} and {coded} is {made.width}x{made.height}; give the "
                    "source that it was coded from"
                )
            first = made.pts if first is None else first
            kind = "plain" if not paired else "HR" if plain.status == "passed" else "LR"
            were, are = (_quality(original, p.planes, after.bit_depth) for p in (plain, made))
            time = float((made.pts - first) * after.time_base)
            frames.append(FrameGain(number, time, kind, bits.get(made.pts), were, are, made.status))
            if progress:
                progress(number + 1, total)
        if next(originals, None) is not None:
            raise InputError(
                f"{coded} has {len(frames)} pictures and {source} has more; give the source that "
                "it was coded from"
            )
        whole, seconds = sum(bits.values()), float(after.duration)
        return Gain(source, coded, after.model, paired, whole, seconds, tuple(frames))


def _quality(original: Sequence[Plane], planes: Sequence[Plane], bit_depth: int) -> Quality:
    y, u, v = (psnr(a, b, bit_depth) for a, b in zip(original, planes, strict=True))
    return Quality(y, u, v)


def _bits(coded: str, decoder: Decoder) -> dict[int, int]:
    """Bits of the packets that are shown at each time, in the decoder's ``time_base``; those of
    a pair's down-sampled boundaries count at the time of their HR pictures."""
    bits: dict[int, int] = {}
    with open_container(coded) as container:
        if decoder.plain:
            with VideoSource(coded, lenient=True) as video:
                indices = [video.index]
        else:
            file = PairedFile(coded)
            indices = [file.hr.index, file.lr.index]
        for packet in packets_of(container, [container.streams[i] for i in indices]):
            if packet.size and packet.pts is not None and packet.time_base:
                time = rescale(packet.pts, exact(packet.time_base), decoder.time_base)
                bits[time] = bits.get(time, 0) + 8 * packet.size
    return bits


# ------------------------------------------------------------------- results --


def gain_table(gain: Gain) -> str:
    """For a terminal: each kind of picture, and all."""
    t = Table(title=f"{Path(gain.coded).name}, enhanced by {gain.model}")
    before = "before" if not gain.paired else "before (LR: bicubic)"
    for name in ("", "frames", "kbit", f"PSNR Y {before}", "after", "gain (dB)", "UV gain (dB)"):
        t.add_column(name, justify="left" if not name else "right")

    def row(name: str, frames: Sequence[FrameGain], bits: int | None) -> None:
        if not frames:
            return
        y = [np.mean([getattr(f, when).y for f in frames]) for when in ("before", "after")]
        chroma = np.mean([(f.after.u - f.before.u + (f.after.v - f.before.v)) / 2 for f in frames])
        kbit = "" if bits is None else f"{bits / 1000:.1f}"
        t.add_row(name, str(len(frames)), kbit, f"{y[0]:.2f}", f"{y[1]:.2f}",
                  f"{y[1] - y[0]:+.2f}", f"{chroma:+.2f}")  # fmt: skip

    for kind in ("HR", "LR"):
        known = [f.bits for f in gain.of(kind)]
        total = sum(b for b in known if b is not None)
        row(kind, gain.of(kind), None if None in known else total)
    row("all", gain.frames, gain.bits)
    console = Console(width=110)
    with console.capture() as captured:
        console.print(t)
    rate = gain.bits / gain.seconds / 1000 if gain.seconds else math.nan
    worse = sum(frame.gain < 0 for frame in gain.frames)
    return captured.get() + f"{rate:.1f} kbit/s; {worse} of {len(gain.frames)} pictures got worse."


def write_csv(gain: Gain, path: Path, overwrite: bool = False) -> None:
    """A line for each picture: PSNR in dB."""
    with (
        whole_file(path, overwrite) as beside,
        open(beside, "w", newline="", encoding="utf-8") as file,
    ):
        rows = csv.writer(file)
        planes = [f"psnr_{plane}_{when}" for when in ("before", "after") for plane in "yuv"]
        rows.writerow(["frame", "seconds", "kind", "status", "bits", *planes])
        for f in gain.frames:
            known = "" if f.bits is None else f.bits
            values = [f"{value:.4f}" for value in (*f.before, *f.after)]
            rows.writerow([f.number, f"{f.time:.6f}", f.kind, f.status, known, *values])


@dataclass(frozen=True)
class Shown:
    """A picture to look at: planes of the source, of before and of after; RGB of the same."""

    frame: FrameGain
    planes: tuple[Sequence[Plane], Sequence[Plane], Sequence[Plane]]
    bit_depth: int


def pictures_of(
    gain: Gain,
    numbers: Sequence[int],
    settings: EnhanceSettings | None = None,
    raw: RawFormat | None = None,
    video_track: int | None = None,
) -> list[Shown]:
    """These pictures of what was measured."""
    wanted = settings or EnhanceSettings()
    with (
        open_coded(gain.coded, wanted, before=True) as before,
        open_coded(gain.coded, wanted, before=False) as after,
    ):
        out = []
        kind = after.bit_depth, after.chroma
        originals = _source_pictures(gain.source, raw, video_track, *kind)
        read = 0
        for number in sorted(numbers):
            original = next(islice(originals, number - read, None))
            read = number + 1
            planes = (original, before[number].planes, after[number].planes)
            out.append(Shown(gain.frames[number], planes, after.bit_depth))
        return out


def draw(gain: Gain, shown: Shown, path: Path) -> None:
    """One picture in every version over residual maps, as PNG."""
    original, before, after = shown.planes
    frame = shown.frame
    name = "LR, bicubic" if frame.kind == "LR" else "as decoded"
    side_by_side(
        path,
        original,
        [(name, before), (gain.model, after)],
        shown.bit_depth,
        f"{Path(gain.coded).name}, frame {frame.number} ({frame.kind}): {frame.gain:+.2f} dB luma",
    )
