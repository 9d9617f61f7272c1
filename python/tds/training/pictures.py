# SPDX-License-Identifier: LGPL-2.1-or-later
"""8-bit planar 4:2:0 pictures as arrays: reading, down-sampling, packing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from .._tds import lr_size
from ..errors import InputError
from ..files import whole_file
from ..media import pictures as media_pictures
from ..media.opening import ffmpeg_name
from ..media.pictures import FilterChain
from ..media.planar import Plane, frame_of, picture_bytes, planes_in
from ..media.reading import planar_frames

if TYPE_CHECKING:
    from torch import Tensor

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Yuv:
    """Pictures of one size: ``data`` is uint8 ``[T, H * W * 3 / 2]``, planes in a row."""

    data: Bytes
    width: int
    height: int

    def __len__(self) -> int:
        return len(self.data)

    def planes(self, index: int) -> list[Plane]:
        """Y ``[H, W]``, Cb and Cr ``[H/2, W/2]`` of one picture."""
        return planes_in(self.data[index], self.width, self.height, 8)

    def take(self, indices: Iterable[int]) -> Yuv:
        return Yuv(self.data[list(indices)], self.width, self.height)

    def padded(self, width: int, height: int) -> Yuv:
        """Edges repeated at the right and at the bottom, up to an even size."""
        right, bottom = width - self.width, height - self.height
        if right == 0 and bottom == 0:
            return self
        out = np.empty((len(self), width * height * 3 // 2), np.uint8)
        for i in range(len(self)):
            parts = [
                np.pad(plane, ((0, bottom // s), (0, right // s)), mode="edge").ravel()
                for plane, s in zip(self.planes(i), (1, 2, 2), strict=True)
            ]
            out[i] = np.concatenate(parts)
        return Yuv(out, width, height)

    def packed(self, index: int, y: int = 0, x: int = 0, h: int = 0, w: int = 0) -> Tensor:
        """One picture, or a part, as packed 4:2:0 uint8 ``[6, h/2, w/2]`` (docs/model.md).

        ``y, x, h, w`` are in luma samples and even; no ``h`` or ``w`` means all.
        """
        import torch

        h, w = h or self.height, w or self.width
        luma, cb, cr = self.planes(index)
        block = luma[y : y + h, x : x + w]
        part = (slice(y // 2, (y + h) // 2), slice(x // 2, (x + w) // 2))
        phases = (block[0::2, 0::2], block[0::2, 1::2], block[1::2, 0::2], block[1::2, 1::2])
        return torch.from_numpy(np.stack([*phases, cb[part], cr[part]]))


def down_sample(pictures: Yuv, scale: int) -> Yuv:
    """As ``tds encode`` makes LR pictures."""
    filters = media_pictures.down_sample(pictures.width, pictures.height, scale)
    lower = FilterChain(filters, Fraction(1, 25))
    made = [_bytes(lower(_frame(pictures, i))) for i in range(len(pictures))]
    return Yuv(np.stack(made), lr_size(pictures.width, scale), lr_size(pictures.height, scale))


def _frame(pictures: Yuv, index: int) -> VideoFrame:
    return frame_of(pictures.planes(index), 8)


def _bytes(frame: VideoFrame) -> Bytes:
    return np.frombuffer(picture_bytes(frame), np.uint8)


def read(path: Path, most: int | None = None) -> Yuv:
    """The pictures of a video file in display order, as 8-bit 4:2:0, cropped to even sizes.

    Raises InputError when nothing decodes or the size changes.
    """
    frames = islice(planar_frames(path), most)
    first = next(frames, None)
    if first is None:
        raise InputError(f"{path}: no picture was asked for")
    kept = [_bytes(first), *map(_bytes, frames)]
    return Yuv(np.stack(kept), first.width, first.height)


def write_lossless(pictures: Yuv, path: Path, rate: int = 25) -> None:
    """FFV1 in Matroska, whole or not at all."""
    with (
        whole_file(path, overwrite=True) as beside,
        av.open(ffmpeg_name(beside), "w") as container,
    ):
        stream = container.add_stream("ffv1", rate=rate)
        stream.width, stream.height = pictures.width, pictures.height
        stream.pix_fmt = "yuv420p"
        for i in range(len(pictures)):
            container.mux(stream.encode(_frame(pictures, i)))
        container.mux(stream.encode(None))
