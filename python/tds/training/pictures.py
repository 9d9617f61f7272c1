# SPDX-License-Identifier: LGPL-2.1-or-later
"""8-bit planar 4:2:0 pictures as arrays: reading, down-sampling, packing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import ExternalError, InputError
from ..media.programs import find_ffmpeg

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

    def planes(self, index: int) -> tuple[Bytes, Bytes, Bytes]:
        """Y ``[H, W]``, Cb and Cr ``[H/2, W/2]`` of one picture."""
        frame, luma, chroma = self.data[index], self.width * self.height, 0
        chroma = luma // 4
        half = (self.height // 2, self.width // 2)
        return (
            frame[:luma].reshape(self.height, self.width),
            frame[luma : luma + chroma].reshape(half),
            frame[luma + chroma :].reshape(half),
        )

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


def lr_size(size: int, scale: int) -> int:
    """The LR size of an HR size, as ``tds_lr_size``: ``2 * ceil(size / (2 k))``."""
    return 2 * -(-size // (2 * scale))


def down_sample(pictures: Yuv, scale: int) -> Yuv:
    """FFmpeg's bicubic, after padding to ``scale`` times the LR size (tds.h)."""
    w, h = lr_size(pictures.width, scale), lr_size(pictures.height, scale)
    source = pictures.padded(w * scale, h * scale)
    raw = ["-f", "rawvideo", "-pix_fmt", "yuv420p"]
    command = [find_ffmpeg(), "-hide_banner", "-loglevel", "error", *raw]
    command += ["-s", f"{source.width}x{source.height}", "-i", "pipe:0"]
    command += ["-vf", f"scale={w}:{h}:flags=bicubic", *raw, "pipe:1"]
    done = subprocess.run(command, input=source.data.tobytes(), capture_output=True, check=False)
    size = w * h * 3 // 2
    if done.returncode or len(done.stdout) != len(source) * size:
        last = done.stderr.decode(errors="replace").strip().splitlines()
        raise ExternalError(f"FFmpeg could not down-sample: {last[-1] if last else 'no message'}")
    return Yuv(np.frombuffer(done.stdout, np.uint8).reshape(-1, size), w, h)


def _frames(path: Path) -> Iterator[tuple[Bytes, int, int]]:
    import av

    from ..media.opening import ffmpeg_name

    with av.open(ffmpeg_name(path)) as container:
        if not container.streams.video:
            raise InputError(f"{path} has no video")
        for frame in container.decode(video=0):
            if frame.format.name not in ("yuv420p", "yuvj420p"):
                frame = frame.reformat(format="yuv420p", interpolation="BICUBIC")
            width, height = frame.width // 2 * 2, frame.height // 2 * 2
            parts = []
            for plane, s in zip(frame.planes, (1, 2, 2), strict=True):
                rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
                parts.append(rows[: height // s, : width // s].ravel())
            yield np.concatenate(parts), width, height


def read(path: Path, most: int | None = None) -> Yuv:
    """The pictures of a video file in display order, as 8-bit 4:2:0, cropped to even sizes.

    Raises InputError when nothing decodes or the size changes.
    """
    kept: list[Bytes] = []
    size = (0, 0)
    try:
        for data, width, height in _frames(path):
            if kept and (width, height) != size:
                raise InputError(f"{path}: its size changes on the way; split it there")
            size = (width, height)
            kept.append(data)
            if most is not None and len(kept) >= most:
                break
    except OSError as error:
        raise InputError(f"{path} could not be decoded: {error}") from error
    if not kept:
        raise InputError(f"{path}: no picture could be decoded")
    return Yuv(np.stack(kept), *size)


def write_lossless(pictures: Yuv, path: Path, rate: int = 25) -> None:
    """FFV1 in Matroska, whole or not at all."""
    import av

    from ..media.opening import ffmpeg_name

    part = path.with_name(f"{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        with av.open(ffmpeg_name(part), "w") as container:
            stream = container.add_stream("ffv1", rate=rate)
            stream.width, stream.height = pictures.width, pictures.height
            stream.pix_fmt = "yuv420p"
            for i in range(len(pictures)):
                array = pictures.data[i].reshape(-1, pictures.width)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(array, "yuv420p")))
            container.mux(stream.encode(None))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
