# SPDX-License-Identifier: LGPL-2.1-or-later
"""What jobs are told, what they leave behind and what reports hold: types of plain values.

Specifications (``Job.spec``; the key of a job is the hash of its own and all else that determines
it), records (``record.json`` of a job in the cache) and rows (lists in ``results.json``) are
dictionaries, since they are JSON; here is what stands in them.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

Counting = Literal["whole", "type"]
"""Of all frames and bits, or of the frames that were down-sampled (docs/evaluation.md)."""
SideName = Literal["test", "anchor"]
Group = Literal["codec", "config", "plan", "enhancer"]
Metric = str
"""One of results.METRICS, or a task metric (machines.py)."""

# ------------------------------------------------------------ specifications --


class StreamSpec(TypedDict):
    """A stream to code. clip: sha256; frames: of the clip, from the first on; version: of the
    encoder; scale: 1/scale of the clip's size; segments: (lead or None, frames) of each run of
    the encoder (layout.to_plain)."""

    clip: str
    frames: int
    codec: str
    encoder: str
    version: str
    preset: str
    config: str
    qp: int
    scale: int
    intra_period: int
    segments: list[list[Any]]


class EnhancerSpec(TypedDict):
    """kind: bicubic, lanczos or model. device, precision: of what the engine runs. model: the
    key of its file. hr_model: of the one for k = 1 that enhances HR frames first."""

    kind: str
    device: NotRequired[str]
    precision: NotRequired[str]
    model: NotRequired[str]
    hr_model: NotRequired[str]


class PairedSpec(TypedDict, total=False):
    """Of what an enhancer is asked for. scale: k. base_scale: by what HR is smaller than the
    clip. roles: of each frame. hr_qp, lr_qp: of the two streams."""

    scale: int
    base_scale: int
    roles: list[str]
    hr_qp: int
    lr_qp: int


class MeasureSpec(PairedSpec):
    """What is shown of coded streams, against the source. clip, frames: as of StreamSpec. width,
    height, bit_depth, rate: of the clip. metrics, decoder, pictures, engine, torch: versions of
    what measures (work.tools). enhancer: None for the plain stream as it is, which is no pair.
    told: True where a model for plain streams is told the QP. tasks: task metrics and their
    versions, where there are any."""

    clip: str
    frames: int
    width: int
    height: int
    bit_depth: int
    rate: str
    metrics: str
    decoder: str
    pictures: str
    engine: NotRequired[str]
    torch: NotRequired[str]
    ms_ssim: bool
    perceptual: NotRequired[bool]
    tasks: NotRequired[dict[str, str]]
    told: NotRequired[bool]
    enhancer: EnhancerSpec | None


class CropSpec(MeasureSpec):
    """index: of the frame. box: x, y, width, height of the region, luma samples."""

    index: int
    box: list[int]


# ------------------------------------------------------------------- records --


class StreamRecord(TypedDict):
    """A coded stream. frames: source frames in the order in which pictures are shown; leads:
    which of them are a down-sampled boundary that is not shown; frame_bits: of each; bits: of all
    and, once, the parameter sets. segments: (file, pictures) of each encoder run. clip: sha256."""

    frames: list[int]
    leads: list[bool]
    bits: int
    frame_bits: list[int]
    segments: list[tuple[str, int]]
    clip: str
    codec: str
    config: str
    qp: int
    encoder: str
    preset: str
    pictures_by: NotRequired[str]
    width: int
    height: int
    bit_depth: int
    command: str
    cpus: int
    seconds: NotRequired[float]


class Quality(TypedDict):
    """Of each frame; metrics.FrameQuality says what and in which units."""

    y: list[float]
    u: list[float]
    v: list[float]
    ssim: list[float | None]
    ms_ssim: list[float | None]
    vmaf: list[float | None]
    xpsnr: list[float | None]
    temporal: list[float | None]
    tasks: NotRequired[dict[str, list[float | None]]]


class MeasureRecord(TypedDict):
    """A stream or a pair as it is shown, against the source. status: how each frame was made;
    fps: of decoding and enhancing; ran: precision and device of a model, "" without one."""

    frames: int
    quality: Quality
    status: list[str]
    fps: float | None
    ran: NotRequired[str]
    pictures_md5: NotRequired[str]
    seconds: NotRequired[float]


class CropRecord(TypedDict):
    """One region of one frame: luma PSNR of the whole frame and of the region."""

    psnr_y: float
    psnr_y_crop: float
    status: NotRequired[str]
    seconds: NotRequired[float]


# ---------------------------------------------------------------------- rows --


class Means(TypedDict):
    """Over frames; None where no frame has the figure."""

    psnr_y: float | None
    psnr_u: float | None
    psnr_v: float | None
    psnr_611: float | None
    ssim: float | None
    ms_ssim: float | None
    vmaf: float | None
    xpsnr: float | None
    temporal: float | None


class Side(Means):
    """One side of a point. kbps: bits over the clip's duration, in 1000 a second. Task metrics are
    further keys of it, by their names (results.value_of)."""

    bits: float
    kbps: float


class Sides(TypedDict):
    test: Side
    anchor: Side


class BitsRow(TypedDict):
    """By stream; the anchor's by the roles that its frames have in the pair."""

    hr: int
    lr: int
    lr_leads: int
    plain: int
    anchor_hr_frames: int
    anchor_lr_frames: int


class OverTime(TypedDict):
    """Luma PSNR of every frame; roles: "H" or "L" of each."""

    test: list[float]
    anchor: list[float]
    roles: str


PointRow = TypedDict(
    "PointRow",
    {
        "clip": str,
        "class": str,
        "codec": str,
        "config": str,
        "plan": str,
        "kind": str,
        "enhancer": str,
        "seen": bool,
        "qp": int,
        "frames": int,
        "down_sampled": int,
        "whole": Sides,
        "type": Sides,
        "bits": BitsRow,
        "psnr_y_over_time": NotRequired[OverTime],
        "statuses": dict[str, int],
        "fps": float | None,
    },
)
"""One clip, codec, configuration, plan, enhancer and QP, with the anchor beside it."""


class AnchorRow(TypedDict):
    """The plain stream at a QP of its own, as the anchor of one plan (whose frames are counted
    per frame type)."""

    clip: str
    codec: str
    config: str
    plan: str
    qp: int
    whole: Side
    type: Side


BdRow = TypedDict(
    "BdRow",
    {
        "clip": str,
        "class": str,
        "codec": str,
        "config": str,
        "plan": str,
        "enhancer": str,
        "seen": bool,
        "counting": Counting,
        "metric": Metric,
        "method": str,
        "rate": float | None,
        "quality": float | None,
        "overlap": float,
        "trusted": bool,
        "note": str,
        "quality_overlap": float,
        "quality_trusted": bool,
    },
)
"""One curve against its anchor. rate: percent. quality: dB or the metric's unit."""

MeanRow = TypedDict(
    "MeanRow",
    {
        "class": str,
        "codec": str,
        "config": str,
        "plan": str,
        "enhancer": str,
        "counting": Counting,
        "metric": Metric,
        "method": str,
        "rate": float | None,
        "low": float | None,
        "high": float | None,
        "clips": int,
        "without_figure": int,
        "low_overlap": int,
        "quality": float | None,
        "quality_low": float | None,
        "quality_high": float | None,
        "quality_clips": int,
        "quality_without_figure": int,
        "quality_low_overlap": int,
    },
)
"""Over the clips of a class. low, high: the bootstrap interval's."""


class TemporalRow(TypedDict):
    """Temporal error of both sides, mean over clips and QPs; code values of 8 bit."""

    codec: str
    config: str
    plan: str
    enhancer: str
    counting: Counting
    test: float | None
    anchor: float | None
    difference: float | None
    clips: int


class ComplexityRow(TypedDict):
    """What a model costs at one size; complexity.examine_models says in which units."""

    model: str
    scale: int
    size: str
    parameters_m: float
    kmac_per_pixel: float
    kmac_per_pixel_group: float
    bytes_per_pixel: int
    operations: NotRequired[int]
    memory_mib: int | None
    fps: float | None
    device: str
    precision: str
    note: str
