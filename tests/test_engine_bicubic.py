# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bicubic backend gives what FFmpeg's bicubic gives, sample positions included."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tools
from tds import Session
from tds._tds import lr_size

Planes = list[np.ndarray]


def split(raw: bytes, width: int, height: int, depth: int) -> Planes:
    data = np.frombuffer(raw, np.uint8 if depth == 8 else np.uint16)
    luma, chroma = width * height, width * height // 4
    return [
        data[:luma].reshape(height, width),
        data[luma : luma + chroma].reshape(height // 2, width // 2),
        data[luma + chroma : luma + 2 * chroma].reshape(height // 2, width // 2),
    ]


def ffmpeg(*arguments: object, stdin: bytes | None = None) -> bytes:
    command = [tools.FFMPEG, "-v", "error", *map(str, arguments)]
    return subprocess.run(command, input=stdin, check=True, capture_output=True).stdout


def upsampled(lr: Planes, width: int, height: int, scale: int, depth: int) -> Planes:
    with Session(width, height, scale, depth) as session:
        session.end("hr")
        session.send("lr", lr, 0)
        picture = session.receive()
    assert picture is not None
    return list(picture.planes)


def by_ffmpeg(raw: bytes, lw: int, lh: int, scale: int, pix_fmt: str, location: str) -> bytes:
    scaling = f"scale={lw * scale}:{lh * scale}:flags=bicubic+accurate_rnd"
    return ffmpeg(
        *("-f", "rawvideo", "-pix_fmt", pix_fmt, "-s", f"{lw}x{lh}", "-i", "-"),
        *("-vf", f"{scaling}:in_chroma_loc={location}:out_chroma_loc={location}"),
        *("-f", "rawvideo", "-pix_fmt", pix_fmt, "-"),
        stdin=raw,
    )


def difference(ours: Planes, theirs: Planes, edge: int) -> int:
    """The largest, away from the edges, where the two treat what is beyond differently."""
    return max(
        int(np.abs(a.astype(int) - b.astype(int))[edge:-edge, edge:-edge].max())
        for a, b in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize("name", ["city", "noise", "jct_RaceHorses", "vid4_calendar"])
def test_as_ffmpeg_does_it(
    name: str,
    depth: int,
    scale: int,
    city: Path,
    evaluation_clip: Callable[[str], Path],
) -> None:
    pix_fmt = "yuv420p" if depth == 8 else "yuv420p10le"
    lw, lh = 96, 64
    if name == "noise":
        # Nothing overshoots more than black and white at random.
        noise = np.random.default_rng(0).integers(0, 2, lw * lh * 3 // 2) * ((1 << depth) - 1)
        raw = noise.astype(np.uint8 if depth == 8 else "<u2").tobytes()
    else:
        clip = city if name == "city" else evaluation_clip(name)
        raw = ffmpeg(
            *("-i", clip, "-frames:v", 1, "-vf", f"scale={lw}:{lh},format={pix_fmt}"),
            *("-f", "rawvideo", "-"),
        )
    width, height = lw * scale, lh * scale
    ours = upsampled(split(raw, lw, lh, depth), width, height, scale, depth)
    theirs = split(by_ffmpeg(raw, lw, lh, scale, pix_fmt, "center"), width, height, depth)
    assert difference(ours, theirs, 2 * scale) <= 1


@pytest.mark.parametrize("encoder", ["libx265", "libvvenc"])
def test_chroma_lies_where_ffmpeg_takes_it_to_be(tmp_path: Path, city: Path, encoder: str) -> None:
    """Of a decoded stream that says nothing of it, FFmpeg scales each plane about its centre."""
    lw, lh = 96, 64
    stream = tmp_path / "lr.mp4"
    depth, pix_fmt = (8, "yuv420p") if encoder == "libx265" else (10, "yuv420p10le")
    tools.ffmpeg(
        *("-i", city, "-frames:v", 8, "-vf", f"scale={lw}:{lh}", "-pix_fmt", pix_fmt),
        *("-c:v", encoder, stream),
    )
    first = ("-i", stream, "-frames:v", 1)
    raw = ffmpeg(*first, "-f", "rawvideo", "-")
    scaling = f"scale={2 * lw}:{2 * lh}:flags=bicubic+accurate_rnd"
    up = ffmpeg(*first, "-vf", scaling, "-f", "rawvideo", "-")
    ours = upsampled(split(raw, lw, lh, depth), 2 * lw, 2 * lh, 2, depth)
    assert difference(ours, split(up, 2 * lw, 2 * lh, depth), 4) <= 1
    left = split(by_ffmpeg(raw, lw, lh, 2, pix_fmt, "left"), 2 * lw, 2 * lh, depth)
    assert difference(ours[1:], left[1:], 4) > 1


@pytest.mark.parametrize(("width", "height"), [(426, 240), (54, 38), (1918, 1078)])
@pytest.mark.parametrize("scale", [2, 4])
def test_sizes_that_k_does_not_divide_are_cropped(width: int, height: int, scale: int) -> None:
    """The rest is beyond the right and the bottom edge, where the encoder padded."""
    lw, lh = lr_size(width, scale), lr_size(height, scale)
    rng = np.random.default_rng(0)
    half = (lh // 2, lw // 2)
    lr = [rng.integers(0, 256, s, dtype=np.uint8) for s in ((lh, lw), half, half)]
    whole = upsampled(lr, lw * scale, lh * scale, scale, 8)
    for ours, full in zip(upsampled(lr, width, height, scale, 8), whole, strict=True):
        assert np.array_equal(ours, full[: ours.shape[0], : ours.shape[1]])


def test_threads_change_nothing() -> None:
    rng = np.random.default_rng(0)
    half = (135, 240)
    lr = [rng.integers(0, 256, s, dtype=np.uint8) for s in ((270, 480), half, half)]
    pictures = []
    for threads in (1, 2, 5):
        with Session(960, 540, 2, threads=threads) as session:
            session.end("hr")
            session.send("lr", lr, 0)
            picture = session.receive()
            assert picture is not None
            pictures.append(picture.to_ndarray())
    assert np.array_equal(pictures[0], pictures[1])
    assert np.array_equal(pictures[0], pictures[2])
