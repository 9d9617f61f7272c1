# SPDX-License-Identifier: LGPL-2.1-or-later
"""Quality of decoded pictures against the source's own, frame by frame.

Worked out from the planes as the decoder or the engine gives them, at the depth they
were coded with (8 bit for 8-bit sources), without conversion, cropping or clipping.

PSNR is ours, so that it is not capped (libvmaf stops at 60 dB). SSIM, MS-SSIM and VMAF
are those of FFmpeg's ``ssim`` and ``libvmaf`` filters on the same samples, XPSNR that of its
``xpsnr`` filter.
"""

from __future__ import annotations

import functools
import json
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import cast

import numpy as np

from ..errors import ExternalError, MissingError
from ..measuring.psnr import IDENTICAL, psnr
from ..media.planar import Plane, chroma_in, picture_bytes, pix_fmt_of
from ..media.programs import ffmpeg_version, find_ffmpeg
from .machines import Tasks
from .records import Means, Quality

VMAF_MODEL = "vmaf_v0.6.1"
MS_SSIM_SMALLEST = 176  # luma samples: five scales of an 11-sample window
VMAF_SMALLEST = 18  # luma samples: libvmaf crashes on fewer a side


@dataclass
class FrameQuality:
    """One list entry a frame, in display order.

    y, u, v: PSNR in dB (quality.psnr). ssim: of luma, 0 to 1. ms_ssim: of luma; None for
    pictures smaller than MS_SSIM_SMALLEST. vmaf: 0 to 100 by the model's definition; None for
    pictures smaller than VMAF_SMALLEST. xpsnr: of luma, in dB, IDENTICAL at most. All four are None
    where they were not asked for. temporal: mean absolute difference, in code values of luma,
    between this frame's change from the one before and the source's change; 0 is perfectly
    consistent. None for the first frame. tasks: by name, those of machines.py that were asked for.
    """

    y: list[float] = field(default_factory=list)
    u: list[float] = field(default_factory=list)
    v: list[float] = field(default_factory=list)
    ssim: list[float | None] = field(default_factory=list)
    ms_ssim: list[float | None] = field(default_factory=list)
    vmaf: list[float | None] = field(default_factory=list)
    xpsnr: list[float | None] = field(default_factory=list)
    temporal: list[float | None] = field(default_factory=list)
    tasks: dict[str, list[float | None]] = field(default_factory=dict)

    def to_dict(self) -> Quality:
        values = asdict(self)
        if not self.tasks:
            del values["tasks"]
        return cast(Quality, values)


def averages(quality: Quality, frames: Iterable[int]) -> Means:
    """Means over the given frames; None where no frame has the figure.

    psnr_611 is (6 Y + U + V) / 8 of each frame's PSNR, as the HEVC tests weigh them."""
    indexes = list(frames)
    mean = functools.partial(_mean, indexes)
    y, u, v = mean(quality["y"]), mean(quality["u"]), mean(quality["v"])
    return {
        "psnr_y": y,
        "psnr_u": u,
        "psnr_v": v,
        "psnr_611": None if y is None or u is None or v is None else (6 * y + u + v) / 8,
        "ssim": mean(quality["ssim"]),
        "ms_ssim": mean(quality["ms_ssim"]),
        "vmaf": mean(quality["vmaf"]),
        "xpsnr": mean(quality["xpsnr"]),
        "temporal": mean(quality["temporal"]),
    }


def task_averages(quality: Quality, frames: Iterable[int]) -> dict[str, float | None]:
    """Means of the task metrics over the given frames, by name."""
    indexes = list(frames)
    return {name: _mean(indexes, values) for name, values in quality.get("tasks", {}).items()}


def _mean(indexes: list[int], values: Sequence[float | None]) -> float | None:
    given = [x for x in (values[i] for i in indexes) if x is not None]
    return float(np.mean(given)) if given else None


def compare(
    pairs: Iterator[tuple[list[Plane], list[Plane]]],
    bit_depth: int,
    rate: Fraction,
    folder: Path,
    threads: int = 1,
    ms_ssim: bool = True,
    perceptual: bool = True,
    tasks: Sequence[str] = (),
) -> FrameQuality:
    """Quality of (source, decoded) planes, all of one size and chroma. perceptual: also what
    FFmpeg's filters work out (SSIM, MS-SSIM, VMAF, XPSNR), else None in their places. tasks: task
    metrics.

    folder: a scratch folder; both sequences are written there for FFmpeg and removed."""
    out = FrameQuality()
    machines = Tasks(tasks, bit_depth)
    out.tasks = machines.values
    measured = _measured(pairs, out, bit_depth, machines)
    if not perceptual:
        frames = sum(1 for _ in measured)
        for values in (out.ssim, out.ms_ssim, out.vmaf, out.xpsnr):
            values += [None] * frames
        return out
    size, chroma = (0, 0), 420
    names = ("source.yuv", "decoded.yuv")
    try:
        with (folder / names[0]).open("wb") as a, (folder / names[1]).open("wb") as b:
            for source, decoded in measured:
                size, chroma = source[0].shape, chroma_in(source)
                for file, planes in ((a, source), (b, decoded)):
                    file.write(picture_bytes(planes))
        if out.y:
            ms_ssim = ms_ssim and min(size) >= MS_SSIM_SMALLEST
            form = pix_fmt_of(bit_depth, chroma)
            _ffmpeg_metrics(out, folder, names, size, form, rate, threads, ms_ssim)
    finally:
        for name in names:
            (folder / name).unlink(missing_ok=True)
    return out


def _measured(
    pairs: Iterator[tuple[list[Plane], list[Plane]]],
    out: FrameQuality,
    bit_depth: int,
    machines: Tasks,
) -> Iterator[tuple[list[Plane], list[Plane]]]:
    """Hands the pairs on; PSNR, temporal error and task metrics noted."""
    before: tuple[Plane, Plane] | None = None
    for source, decoded in pairs:
        for values, x, z in zip((out.y, out.u, out.v), source, decoded, strict=True):
            values.append(psnr(x, z, bit_depth))
        now: tuple[Plane, Plane] = (source[0].copy(), decoded[0].copy())
        out.temporal.append(None if before is None else temporal_error(before, now))
        before = now
        machines.add(*now)
        yield source, decoded


def temporal_error(before: tuple[Plane, Plane], now: tuple[Plane, Plane]) -> float:
    """Mean |(decoded change) - (source change)| between two frames' (source, decoded) luma."""
    (s0, d0), (s1, d1) = (tuple(p.astype(np.int32) for p in pair) for pair in (before, now))
    return float(np.mean(np.abs((d1 - d0) - (s1 - s0))))


def _ffmpeg_metrics(
    out: FrameQuality,
    folder: Path,
    names: tuple[str, str],
    size: tuple[int, int],
    pix_fmt: str,
    rate: Fraction,
    threads: int,
    with_ms: bool,
) -> None:
    """SSIM, XPSNR, and of pictures that are large enough VMAF and MS-SSIM."""
    program = metrics_program()
    height, width = size
    raw = ["-f", "rawvideo", "-pix_fmt", pix_fmt, "-s:v", f"{width}x{height}"]
    raw += ["-framerate", str(Fraction(rate).limit_denominator(100_000))]
    # Relative names in the scratch folder: nothing to escape in the filter's arguments.
    with_vmaf = min(size) >= VMAF_SMALLEST
    vmaf = f"libvmaf=log_fmt=json:log_path=vmaf.json:n_threads={threads}"
    vmaf += f":model=version={VMAF_MODEL}" + (":feature=name=float_ms_ssim" if with_ms else "")
    graph = (
        "[0:v]split=3[d1][d2][d3];[1:v]split=3[s1][s2][s3];"
        "[d1][s1]ssim=stats_file=ssim.txt,nullsink;"
        f"[d2][s2]{vmaf if with_vmaf else 'ssim'};"
        # What the eye minds is weighed by the first one.
        "[s3][d3]xpsnr=stats_file=xpsnr.txt,nullsink"
    )
    command = [program, "-hide_banner", "-nostdin", "-loglevel", "error"]
    command += [*raw, "-i", names[1], *raw, "-i", names[0], "-lavfi", graph, "-f", "null", "-"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise ExternalError(f"ffmpeg's quality filters failed: {done.stderr.strip()[-400:]}")
    stats = (folder / "ssim.txt").read_text()
    out.ssim = [float(m) for m in re.findall(r"\bY:([\d.]+)", stats)]
    found = re.findall(r"^n: .*?XPSNR y: *(\S+)", (folder / "xpsnr.txt").read_text(), re.M)
    out.xpsnr = [min(float(value), IDENTICAL) for value in found]
    if with_vmaf:
        frames = json.loads((folder / "vmaf.json").read_text())["frames"]
        out.vmaf = [f["metrics"]["vmaf"] for f in frames]
        out.ms_ssim = [f["metrics"].get("float_ms_ssim") for f in frames]
    else:
        out.vmaf, out.ms_ssim = [None] * len(out.y), [None] * len(out.y)
    for name in ("ssim.txt", "vmaf.json", "xpsnr.txt"):
        (folder / name).unlink(missing_ok=True)
    if not len(out.ssim) == len(out.vmaf) == len(out.xpsnr) == len(out.y):
        raise ExternalError(
            f"ffmpeg's quality filters compared {len(out.ssim)} frames of {len(out.y)}"
        )


@functools.cache
def metrics_program() -> str:
    """An ffmpeg program with the ssim, libvmaf and xpsnr filters. Raises MissingError."""
    program = find_ffmpeg()
    listing = subprocess.run(
        [program, "-hide_banner", "-filters"], capture_output=True, text=True, timeout=60
    ).stdout
    for name in ("ssim", "libvmaf", "xpsnr"):
        if not re.search(rf"^ \S+ +{name} ", listing, re.MULTILINE):
            raise MissingError(
                f"{program} has no {name} filter, which the evaluation needs: "
                "pip install imageio-ffmpeg, or set TDS_FFMPEG to an ffmpeg that has it"
            )
    return program


def metrics_version() -> str:
    """What works out SSIM, MS-SSIM, VMAF and XPSNR, for the cache and for reports."""
    return f"FFmpeg {ffmpeg_version(metrics_program())}, {VMAF_MODEL}, XPSNR"
