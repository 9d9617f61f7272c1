# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pictures on their way to the encoders: format, scene cuts, down-sampling.

All of it is FFmpeg's own filters, the down-sampling being the paper's
(``-sws_flags bicubic``, section 3.1).
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import av
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


class FilterChain:
    """FFmpeg video filters, one frame in, one frame out.

    Built from the first frame; the filters must not hold or drop frames.
    """

    def __init__(self, filters: list[tuple[str, str]], time_base: Fraction) -> None:
        self._filters = filters
        self._time_base = time_base
        self._graph: Graph | None = None

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        if not self._filters:
            return frame
        if self._graph is None:
            self._graph = self._build(frame)
        frame.time_base = self._time_base
        try:
            self._graph.push(frame)
            out = self._graph.pull()
        except av.error.FFmpegError as e:
            raise InputError(f"FFmpeg's filters refuse a picture ({e})") from e
        assert isinstance(out, VideoFrame)
        return out

    def _build(self, frame: VideoFrame) -> Graph:
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
        nodes += [graph.add(name, arguments) for name, arguments in self._filters]
        nodes.append(graph.add("buffersink"))
        for a, b in pairwise(nodes):
            a.link_to(b)
        graph.configure()
        return graph


def to_planar(
    pix_fmt: str, bit_depth: int, full_range: bool, detect_cuts: bool
) -> list[tuple[str, str]]:
    """Filters that bring a source to 8 or 10 bit planar 4:2:0 in its own range,
    noting scene cuts in each frame's metadata (lavfi.scd.score) on the way."""
    target = pix_fmt_of(bit_depth)
    filters = [("scdet", "threshold=100")] if detect_cuts else []
    if pix_fmt != target:
        name = "pc" if full_range or pix_fmt.startswith("yuvj") else "tv"
        # RGB has no range of its own to keep; it becomes limited range, as everywhere in FFmpeg.
        if not is_yuv(pix_fmt):
            filters.append(("scale", f"flags=bicubic:out_range=tv:out_color_matrix={RGB_MATRIX}"))
        else:
            filters.append(("scale", f"flags=bicubic:in_range={name}:out_range={name}"))
        filters.append(("format", target))
    return filters


def scene_score(frame: VideoFrame) -> float:
    """How likely a new scene begins here, 0 to 100 (FFmpeg's scdet)."""
    value = frame.metadata.get("lavfi.scd.score")
    return float(value) if value is not None else 0.0


def down_sample(width: int, height: int, scale: int) -> list[tuple[str, str]]:
    """Filters from (width, height) to the LR size of ``tds_lr_size``.

    The picture is first padded at the right and bottom, by repeating its last
    samples, to exactly k times the LR size, so that the ratio is k for any size.
    """
    lr_width, lr_height = lr_size(width, scale), lr_size(height, scale)
    right, bottom = lr_width * scale - width, lr_height * scale - height
    filters = []
    if right or bottom:
        filters.append(("pad", f"{lr_width * scale}:{lr_height * scale}:0:0"))
        filters.append(("fillborders", f"right={right}:bottom={bottom}:mode=smear"))
    filters.append(("scale", f"{lr_width}:{lr_height}:flags=bicubic"))
    return filters
