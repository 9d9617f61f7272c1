# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pictures on their way to the encoders: format, scene cuts, down-sampling.

All of it is FFmpeg's own filters, the down-sampling being the paper's
(``-sws_flags bicubic``, section 3.1).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import av
from av.buffer import Buffer
from av.filter import Graph
from av.video.frame import VideoFrame

from .._tds import lr_size
from ..errors import InputError
from .planar import pix_fmt_of

SCENE_CUT = 10.0  # scdet's own default threshold, in percent of the largest difference


RGB_MATRIX = "bt709"
"""By which pictures that are not YUV become it; the streams are tagged so."""


def is_yuv(pix_fmt: str) -> bool:
    """YUV or gray, which keep their range and matrix; not RGB, palettes, XYZ, or black and
    white, which FFmpeg takes for RGB."""
    known = av.VideoFormat(pix_fmt)
    return not (known.is_rgb or known.has_palette or pix_fmt.startswith(("xyz", "mono")))


Filters = list[tuple[str, str]]
"""FFmpeg filters in order, each its name and its arguments."""


class FilterChain:
    """FFmpeg video filters, one frame in, one frame out.

    filters: for all frames, or a function that says them for a frame; the filters must not
    hold or drop frames. They are built for the first frame, and again for one whose format,
    size or colours differ from those of the frame before.
    """

    def __init__(
        self, filters: Filters | Callable[[VideoFrame], Filters], time_base: Fraction
    ) -> None:
        self._filters = filters
        self._time_base = time_base
        self._graph: Graph | None = None
        self._built_for: tuple[object, ...] | None = None

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        shape = (
            *(frame.format.name, frame.width, frame.height),
            *(int(frame.colorspace), int(frame.color_range)),
        )
        if shape != self._built_for:
            filters = self._filters(frame) if callable(self._filters) else self._filters
            self._graph = self._build(frame, filters) if filters else None
            self._built_for = shape
        if self._graph is None:
            return frame
        frame.time_base = self._time_base
        try:
            self._graph.push(frame)
            out = self._graph.pull()
        except av.error.FFmpegError as e:
            raise InputError(f"FFmpeg's filters refuse a picture ({e})") from e
        assert isinstance(out, VideoFrame)
        return out

    def _build(self, frame: VideoFrame, filters: Filters) -> Graph:
        graph = Graph()
        nodes = [
            # Not Graph.add_buffer, which says nothing of colours: what comes out then counts as
            # BT.601 of limited range, and FFmpeg converts to it what is tagged otherwise.
            graph.add(
                "buffer",
                video_size=f"{frame.width}x{frame.height}",
                pix_fmt=frame.format.name,
                time_base=str(self._time_base),
                pixel_aspect="1/1",
                colorspace=str(int(frame.colorspace)),
                range=str(int(frame.color_range)),
            )
        ]
        nodes += [graph.add(name, arguments) for name, arguments in filters]
        nodes.append(graph.add("buffersink"))
        for a, b in pairwise(nodes):
            a.link_to(b)
        graph.configure()
        return graph


def to_planar(
    frame: VideoFrame, bit_depth: int, full_range: bool, detect_cuts: bool, chroma: int = 420
) -> Filters:
    """Filters that bring a frame to 8 or 10 bit planar YCbCr of the given range and chroma, noting
    scene cuts in each frame's metadata (lavfi.scd.score) on the way."""
    target = pix_fmt_of(bit_depth, chroma)
    wanted = "pc" if full_range else "tv"
    name = frame.format.name
    said = {1: "tv", 2: "pc"}.get(int(frame.color_range), wanted)
    own = "pc" if name.startswith("yuvj") else said
    filters = [("scdet", "threshold=100")] if detect_cuts else []
    # RGB has no range of its own to keep; it becomes limited range, as everywhere in FFmpeg.
    if not is_yuv(name):
        filters.append(("scale", f"flags=bicubic:out_range={wanted}:out_color_matrix={RGB_MATRIX}"))
    elif name != target or own != wanted:
        filters.append(("scale", f"flags=bicubic:in_range={own}:out_range={wanted}"))
    if name != target:
        filters.append(("format", target))
    return filters


def crop_to_even(width: int, height: int) -> Filters:
    """Filters that take the last column and row away where their number is odd."""
    even = (width // 2 * 2, height // 2 * 2)
    return [] if even == (width, height) else [("crop", f"{even[0]}:{even[1]}:0:0:exact=1")]


def display_matrix(frame: VideoFrame) -> tuple[int, ...] | None:
    """How a picture is turned and mirrored to be shown, as FFmpeg's nine numbers
    (``stream.set_display_matrix`` takes them); None: it is shown as it is."""
    data = frame.side_data.get("DISPLAYMATRIX")
    return struct.unpack("9i", data) if isinstance(data, Buffer) else None


def scene_score(frame: VideoFrame) -> float:
    """How likely a new scene begins here, 0 to 100 (FFmpeg's scdet)."""
    value = frame.metadata.get("lavfi.scd.score")
    return float(value) if value is not None else 0.0


def down_sample(width: int, height: int, scale: int) -> Filters:
    """Filters from (width, height) to the LR size of ``tds_lr_size``.

    The picture is first padded at the right and bottom, by repeating its last
    samples, to exactly k times the LR size, so that the ratio is k for any size.
    """
    lr_width, lr_height = lr_size(width, scale), lr_size(height, scale)
    right, bottom = lr_width * scale - width, lr_height * scale - height
    filters: Filters = []
    if right or bottom:
        filters.append(("pad", f"{lr_width * scale}:{lr_height * scale}:0:0"))
        filters.append(("fillborders", f"right={right}:bottom={bottom}:mode=smear"))
    filters.append(("scale", f"{lr_width}:{lr_height}:flags=bicubic"))
    return filters
