# SPDX-License-Identifier: LGPL-2.1-or-later
"""Planar YCbCr of 8 or 10 bits, the form in which pictures travel: planes, bytes, frames.

*Planes* are Y [height, width], Cb and Cr [height / 2, width / 2] (4:2:2: [height, width / 2],
4:4:4: [height, width]): numpy arrays, uint8 at 8 bits and uint16 at 10. *Bytes* are FFmpeg's
rawvideo: the planes without padding, one after the other, 16-bit little-endian above 8 bits.
*Frames* are PyAV's. *Chroma* is 420, 422 or 444.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

Plane = NDArray[np.uint8] | NDArray[np.uint16]

CHROMAS = (420, 422, 444)

# FFmpeg's names of what TDS codes: bits, chroma; yuvj420p is yuv420p of full range.
_FORMATS = {
    name: (bits, chroma)
    for chroma in CHROMAS
    for name, bits in (
        (f"yuv{chroma}p", 8),
        (f"yuvj{chroma}p", 8),
        (f"yuv{chroma}p10le", 10),
    )
}


def depth_of(pix_fmt: str | None) -> int:
    """8 or 10, by FFmpeg's name of a pixel format; 0 for what is not planar YCbCr of these."""
    return _FORMATS.get(pix_fmt or "", (0, 0))[0]


def chroma_of(pix_fmt: str | None) -> int:
    """420, 422 or 444, by FFmpeg's name of a pixel format; 0 as for ``depth_of``."""
    return _FORMATS.get(pix_fmt or "", (0, 0))[1]


def chroma_name(chroma: int) -> str:
    """ "4:2:0"."""
    return ":".join(str(chroma))


def nearest_chroma(pix_fmt: str) -> int:
    """The least chroma of any pixel format that FFmpeg knows into which its own goes whole; RGB has
    as much of each component."""
    known = av.VideoFormat(pix_fmt)
    if len(known.components) < 3 and not known.has_palette:
        return 420  # gray
    across, down = known.chroma_width(64) < 64, known.chroma_height(64) < 64
    return 420 if across and down else 422 if across else 444


def most_bits(pix_fmt: str) -> int:
    """Bits of a sample of any pixel format that FFmpeg knows, in its deepest component."""
    return max(c.bits for c in av.VideoFormat(pix_fmt).components)


def pix_fmt_of(bit_depth: int, chroma: int = 420) -> str:
    """FFmpeg's name of planar YCbCr of 8 or 10 bits."""
    return f"yuv{chroma}p" if bit_depth == 8 else f"yuv{chroma}p{bit_depth}le"


def chroma_size(width: int, height: int, chroma: int) -> tuple[int, int]:
    """(width, height) of a chroma plane."""
    return width if chroma == 444 else width // 2, height // 2 if chroma == 420 else height


def chroma_in(planes: Sequence[Plane]) -> int:
    """Of a picture, by the shapes of its planes."""
    (height, width), (rows, columns) = planes[0].shape, planes[1].shape
    return 420 if rows < height else 422 if columns < width else 444


def sample_type(bit_depth: int) -> type[np.uint8] | type[np.uint16]:
    """numpy's type of a sample."""
    return np.uint8 if bit_depth == 8 else np.uint16


def sample_bytes(bit_depth: int) -> int:
    """Bytes of a sample."""
    return 1 if bit_depth == 8 else 2


def picture_size(width: int, height: int, bit_depth: int, chroma: int = 420) -> int:
    """Bytes of a picture of ``width`` x ``height`` luma samples."""
    columns, rows = chroma_size(width, height, chroma)
    return (width * height + 2 * columns * rows) * sample_bytes(bit_depth)


def planes_in(
    data: bytes | memoryview | NDArray[np.uint8],
    width: int,
    height: int,
    bit_depth: int,
    chroma: int = 420,
) -> list[Plane]:
    """The planes in a picture's bytes, as views of them."""
    samples: NDArray[Any] = np.frombuffer(data, sample_type(bit_depth))
    columns, rows = chroma_size(width, height, chroma)
    luma, each = width * height, columns * rows
    return [
        samples[:luma].reshape(height, width),
        samples[luma : luma + each].reshape(rows, columns),
        samples[luma + each :].reshape(rows, columns),
    ]


def planes_of(frame: VideoFrame) -> list[Plane]:
    """The planes of a planar frame, as views of its memory."""
    kind = sample_type(depth_of(frame.format.name))
    out: list[Plane] = []
    for plane in frame.planes:
        rows: NDArray[Any] = np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1)
        out.append(rows[:, : plane.width])
    return out


def frame_of(planes: Sequence[Plane], bit_depth: int) -> VideoFrame:
    """A frame with a copy of ``planes``."""
    height, width = planes[0].shape
    frame = VideoFrame(width, height, pix_fmt_of(bit_depth, chroma_in(planes)))
    for plane, samples in zip(frame.planes, planes, strict=True):
        rows: NDArray[Any] = np.frombuffer(memoryview(plane), samples.dtype)
        rows.reshape(plane.height, -1)[:, : plane.width] = samples
    return frame


def at_depth(planes: Sequence[Plane], bit_depth: int, wanted: int) -> list[Plane]:
    """The same pictures with samples of another depth, 8 or 10: shifted, and rounded on the
    way down as VTM and HM do with ``-d``."""
    if bit_depth == wanted:
        return list(planes)
    if wanted > bit_depth:
        return [np.left_shift(p, wanted - bit_depth, dtype=np.uint16) for p in planes]
    shift = bit_depth - wanted
    top = (1 << wanted) - 1
    rounded = [(p.astype(np.uint32) + (1 << shift >> 1)) >> shift for p in planes]
    return [np.minimum(p, top).astype(sample_type(wanted)) for p in rounded]


def picture_bytes(picture: VideoFrame | Sequence[Plane]) -> bytes:
    """A picture's bytes, of a frame or of planes."""
    if isinstance(picture, VideoFrame):
        if chroma_of(picture.format.name) == 420:
            return picture.to_ndarray().tobytes()
        picture = planes_of(picture)  # PyAV has no arrays of all of these, and converts some
    return b"".join(np.ascontiguousarray(plane).tobytes() for plane in picture)


class PicturesMD5:
    """MD5 of the bytes of pictures, one after the other, as FFmpeg's ``-f md5`` counts it."""

    def __init__(self) -> None:
        self._state = hashlib.md5(usedforsecurity=False)

    def add(self, picture: VideoFrame | Sequence[Plane] | bytes) -> None:
        self._state.update(picture if isinstance(picture, bytes) else picture_bytes(picture))

    def hexdigest(self) -> str:
        return self._state.hexdigest()
