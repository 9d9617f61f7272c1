# SPDX-License-Identifier: LGPL-2.1-or-later
"""Planar 4:2:0 of 8 or 10 bits, the form in which pictures travel: planes, bytes, frames.

*Planes* are Y [height, width], Cb and Cr [height / 2, width / 2]: numpy arrays, uint8 at 8 bits
and uint16 at 10. *Bytes* are FFmpeg's rawvideo: the planes without padding, one after the other,
16-bit little-endian above 8 bits. *Frames* are PyAV's.
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

# FFmpeg's names of what TDS codes; yuvj420p is yuv420p of full range.
_DEPTHS = {"yuv420p": 8, "yuvj420p": 8, "yuv420p10le": 10}


def depth_of(pix_fmt: str | None) -> int:
    """8 or 10, by FFmpeg's name of a pixel format; 0 for what is not planar 4:2:0 of these."""
    return _DEPTHS.get(pix_fmt or "", 0)


def most_bits(pix_fmt: str) -> int:
    """Bits of a sample of any pixel format that FFmpeg knows, in its deepest component."""
    return max(c.bits for c in av.VideoFormat(pix_fmt).components)


def pix_fmt_of(bit_depth: int) -> str:
    """FFmpeg's name of planar 4:2:0 of 8 or 10 bits."""
    return "yuv420p" if bit_depth == 8 else f"yuv420p{bit_depth}le"


def sample_type(bit_depth: int) -> type[np.uint8] | type[np.uint16]:
    """numpy's type of a sample."""
    return np.uint8 if bit_depth == 8 else np.uint16


def sample_bytes(bit_depth: int) -> int:
    """Bytes of a sample."""
    return 1 if bit_depth == 8 else 2


def picture_size(width: int, height: int, bit_depth: int) -> int:
    """Bytes of a picture of ``width`` x ``height`` luma samples."""
    return width * height * 3 // 2 * sample_bytes(bit_depth)


def planes_in(
    data: bytes | memoryview | NDArray[np.uint8], width: int, height: int, bit_depth: int
) -> list[Plane]:
    """The planes in a picture's bytes, as views of them."""
    samples: NDArray[Any] = np.frombuffer(data, sample_type(bit_depth))
    luma, chroma = width * height, width * height // 4
    return [
        samples[:luma].reshape(height, width),
        samples[luma : luma + chroma].reshape(height // 2, width // 2),
        samples[luma + chroma :].reshape(height // 2, width // 2),
    ]


def planes_of(frame: VideoFrame) -> list[Plane]:
    """The planes of a planar 4:2:0 frame, as views of its memory."""
    kind = sample_type(depth_of(frame.format.name))
    out: list[Plane] = []
    for plane in frame.planes:
        rows: NDArray[Any] = np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1)
        out.append(rows[:, : plane.width])
    return out


def frame_of(planes: Sequence[Plane], bit_depth: int) -> VideoFrame:
    """A frame with a copy of ``planes``."""
    height, width = planes[0].shape
    flat = np.concatenate([np.ascontiguousarray(p).reshape(-1) for p in planes])
    return VideoFrame.from_ndarray(
        flat.reshape(height * 3 // 2, width), format=pix_fmt_of(bit_depth)
    )


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
        return picture.to_ndarray().tobytes()
    return b"".join(np.ascontiguousarray(plane).tobytes() for plane in picture)


class PicturesMD5:
    """MD5 of the bytes of pictures, one after the other, as FFmpeg's ``-f md5`` counts it."""

    def __init__(self) -> None:
        self._state = hashlib.md5(usedforsecurity=False)

    def add(self, picture: VideoFrame | Sequence[Plane] | bytes) -> None:
        self._state.update(picture if isinstance(picture, bytes) else picture_bytes(picture))

    def hexdigest(self) -> str:
        return self._state.hexdigest()
