# SPDX-License-Identifier: LGPL-2.1-or-later
"""Encodes planar 4:2:0 pictures with real codecs and decodes the bitstreams again.

Only what building a training set needs: fixed QP, 8 bit inside, every frame in and every
frame out. The encoders are libx265 and libvvenc of the ``ffmpeg`` program that
``imageio-ffmpeg`` carries; the decoders are PyAV's own.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

CODECS = ("hevc", "vvc")
CONFIGURATIONS = ("AI", "RA", "LDP")
SUFFIX = {"hevc": "265", "vvc": "266"}

_X265 = {
    "AI": "keyint=1",
    "LDP": "bframes=0:keyint=-1:ref=4",
    "RA": "bframes=7:b-adapt=0:b-pyramid=1:keyint=32:open-gop=1:pbratio=1",
}
_VVENC = {
    "AI": "intraperiod=1:gopsize=1:intraqpoffset=0",
    "LDP": "intraperiod=-1:gopsize=8:picreordering=0:decodingrefreshtype=none:"
    "mctffuturereference=0",
    "RA": "intraperiod=64:gopsize=16:decodingrefreshtype=cra",
}


def ffmpeg_program() -> str:
    """Path of the ffmpeg program that has libvvenc and libx265."""
    import imageio_ffmpeg

    return imageio_ffmpeg.get_ffmpeg_exe()


@dataclass(frozen=True)
class Yuv:
    """Pictures of one size: ``y`` uint8 ``[T, H, W]``, ``u`` and ``v`` ``[T, H/2, W/2]``."""

    y: np.ndarray
    u: np.ndarray
    v: np.ndarray

    def __len__(self) -> int:
        return len(self.y)

    def take(self, indices: Iterable[int]) -> Yuv:
        index = list(indices)
        return Yuv(self.y[index], self.u[index], self.v[index])

    def padded(self, width: int, height: int) -> Yuv:
        """Repeats the last samples at the right and at the bottom up to an even size."""
        right, bottom = width - self.y.shape[2], height - self.y.shape[1]
        if right == 0 and bottom == 0:
            return self

        def pad(plane: np.ndarray, r: int, b: int) -> np.ndarray:
            return np.pad(plane, ((0, 0), (0, b), (0, r)), mode="edge")

        return Yuv(
            pad(self.y, right, bottom),
            pad(self.u, right // 2, bottom // 2),
            pad(self.v, right // 2, bottom // 2),
        )

    def frames(self) -> Iterator[bytes]:
        for y, u, v in zip(self.y, self.u, self.v, strict=True):
            yield y.tobytes() + u.tobytes() + v.tobytes()

    @staticmethod
    def from_bytes(data: bytes, width: int, height: int) -> Yuv:
        size = width * height * 3 // 2
        if len(data) % size:
            raise ValueError(f"{len(data)} bytes are not whole {width}x{height} 4:2:0 pictures")
        frames = np.frombuffer(data, np.uint8).reshape(-1, size)
        n, luma, chroma = len(frames), width * height, width * height // 4
        return Yuv(
            frames[:, :luma].reshape(n, height, width),
            frames[:, luma : luma + chroma].reshape(n, height // 2, width // 2),
            frames[:, luma + chroma :].reshape(n, height // 2, width // 2),
        )


def lr_size(size: int, scale: int) -> int:
    """The LR size of an HR size, as ``tds_lr_size``: ``2 * ceil(size / (2 k))``."""
    return 2 * -(-size // (2 * scale))


def _pipe(arguments: list[str], data: bytes, what: str) -> bytes:
    command = [ffmpeg_program(), "-hide_banner", "-loglevel", "error", "-nostdin", *arguments]
    command.remove("-nostdin")
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines()
        raise RuntimeError(f"{what} failed: {reason[-1] if reason else 'no message'}")
    return done.stdout


def down_sample(pictures: Yuv, scale: int) -> Yuv:
    """FFmpeg's bicubic by ``scale``, after padding to a multiple of it (see tds.h)."""
    height, width = pictures.y.shape[1:]
    w, h = lr_size(width, scale), lr_size(height, scale)
    padded = pictures.padded(w * scale, h * scale)
    raw = ["-f", "rawvideo", "-pix_fmt", "yuv420p"]
    size = f"{w * scale}x{h * scale}"
    out = _pipe(
        [*raw, "-s", size, "-i", "pipe:0", "-vf", f"scale={w}:{h}:flags=bicubic", *raw, "pipe:1"],
        b"".join(padded.frames()),
        "down-sampling",
    )
    return Yuv.from_bytes(out, w, h)


def encode(
    pictures: Yuv,
    path: Path,
    codec: str,
    configuration: str,
    qp: int,
    preset: str,
    threads: int = 1,
) -> int:
    """Encodes at a fixed QP into a raw Annex-B file, whole or not at all; returns its bytes.

    Raises RuntimeError when the encoder fails or gives another number of pictures.
    """
    if codec not in CODECS or configuration not in CONFIGURATIONS:
        raise ValueError(f"no such codec or configuration: {codec} {configuration}")
    height, width = pictures.y.shape[1:]
    source = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{width}x{height}", "-r", "25"]
    if codec == "hevc":
        parameters = (
            f"qp={qp}:aq-mode=0:cutree=0:scenecut=0:ipratio=1:log-level=error:"
            f"pools={threads}:frame-threads=1:{_X265[configuration]}"
        )
        if configuration == "LDP":
            parameters = parameters.replace("keyint=-1", f"keyint={max(len(pictures), 2)}")
        coder = ["-c:v", "libx265", "-preset", preset, "-x265-params", parameters, "-f", "hevc"]
    else:
        parameters = (
            "qpa=0:gopqpa=0:bim=0:sta=0:lookahead=0:internalbitdepth=8:poc0idr=1:"
            f"verbosity=1:{_VVENC[configuration]}"
        )
        coder = ["-pix_fmt", "yuv420p10le", "-c:v", "libvvenc", "-preset", preset]
        coder += ["-qp", str(qp), "-qpa", "0", "-threads", str(threads)]
        coder += ["-vvenc-params", parameters, "-f", "vvc"]
    part = path.with_name(path.name + ".part")
    _pipe(
        [*source, "-i", "pipe:0", *coder, "-y", str(part)],
        b"".join(pictures.frames()),
        f"encoding {path.name}",
    )
    got = sum(1 for _ in _decoded(part, "hevc" if codec == "hevc" else "vvc"))
    if got != len(pictures):
        raise RuntimeError(f"{path.name}: {len(pictures)} pictures went in, {got} came out")
    os.replace(part, path)
    return path.stat().st_size


def _decoded(path: Path, form: str | None = None) -> Iterator:
    import av

    with av.open(str(path), format=form) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        yield from container.decode(stream)


def decode(path: Path) -> Yuv:
    """All pictures of a file in output order, as 8-bit 4:2:0."""
    form = {"265": "hevc", "266": "vvc"}.get(path.suffix[1:])
    planes: list[list[np.ndarray]] = [[], [], []]
    for frame in _decoded(path, form):
        if frame.format.name not in ("yuv420p", "yuvj420p"):
            raise ValueError(f"{path}: {frame.format.name} pictures; 8-bit 4:2:0 is needed")
        for kept, plane in zip(planes, frame.planes, strict=True):
            rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
            kept.append(rows[: plane.height, : plane.width].copy())
    if not planes[0]:
        raise ValueError(f"{path}: no picture could be decoded")
    return Yuv(*(np.stack(p) for p in planes))
