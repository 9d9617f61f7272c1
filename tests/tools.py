# SPDX-License-Identifier: LGPL-2.1-or-later
"""Independent looks at files: by the ffmpeg program and by PyAV, never by the code under test."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
import pytest

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
# The filter by name: FFmpeg's raw muxers take a first length of 256 to 511 bytes for a start
# code, and then write a stream that nothing reads.
ANNEX_B = {c: ("-bsf:v", f"{c}_mp4toannexb", "-f", c) for c in ("hevc", "vvc")}
FASTEST = {"hevc": "ultrafast", "vvc": "faster", "av1": "12"}


def ffmpeg(*arguments: Any) -> str:
    """Runs ffmpeg, overwriting; returns what it wrote to standard output."""
    command = [FFMPEG, "-hide_banner", "-nostdin", "-loglevel", "error", "-y", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def tds(
    *arguments: Any, status: int | None = 0, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Runs the command ``tds`` in a process of its own and checks its exit status (None: any)."""
    done = subprocess.run(
        [sys.executable, "-m", "tds", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        **options,
    )
    assert status in (None, done.returncode), f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def interruptible() -> None:
    """As preexec_fn: a shell's background jobs ignore SIGINT, those of nohup SIGHUP, and what
    they start inherits it."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def digest(planes: list[np.ndarray[Any, Any]]) -> str:
    """Of the samples of a picture, whatever its strides."""
    md5 = hashlib.md5()
    for plane in planes:
        md5.update(np.ascontiguousarray(plane).tobytes())
    return md5.hexdigest()


def pictures(path: Path, stream: int = 0) -> list[tuple[Fraction, str]]:
    """(time in seconds, digest) of each picture of a video stream, as the ffmpeg program
    decodes it (PyAV 18 decodes 8-bit VVC wrongly; see tds/media/decoding.py)."""
    text = ffmpeg(
        *(
            "-copyts",
            "-noautorotate",
            "-i",
            path,
            "-map",
            f"0:v:{stream}",
            "-fps_mode",
            "passthrough",
        ),
        *("-enc_time_base", "demux", "-f", "framemd5", "-"),
    )
    base = Fraction(1)
    out = []
    for line in text.splitlines():
        if line.startswith("#tb 0: "):
            base = Fraction(line.split()[-1])
        elif line and line[0] != "#":
            fields = [field.strip() for field in line.split(",")]
            out.append((int(fields[2]) * base, fields[5]))
    return out


def digests(path: Path, stream: int = 0) -> list[str]:
    """Of each picture in output order, also for files that hold no times."""
    text = ffmpeg(
        *("-noautorotate", "-i", path, "-map", f"0:v:{stream}", "-fps_mode", "passthrough"),
        *("-vf", "setpts=N/25/TB", "-f", "framemd5", "-"),
    )
    return [line.split(",")[5].strip() for line in text.splitlines() if line and line[0] != "#"]


def times(path: Path, stream: int = 0) -> list[Fraction]:
    return [time for time, _ in pictures(path, stream)]


def variable_source(path: Path, source: Path, ticks: list[int], time_base: Fraction) -> None:
    """A copy of ``source``'s first pictures at the given times, lossless, in MP4 or Matroska."""
    scale = str(time_base.denominator)
    options = {"video_track_timescale": scale, "movie_timescale": scale}
    with (
        av.open(str(source)) as inp,
        av.open(str(path), "w", options=options if path.suffix == ".mp4" else {}) as out,
    ):
        stream = out.add_stream("libx264", rate=25, options={"qp": "0", "bf": "0"})
        assert isinstance(stream, av.VideoStream)
        video = inp.streams.video[0]
        stream.width, stream.height = video.width, video.height
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = time_base
        for frame, pts in zip(inp.decode(video), ticks, strict=False):
            frame.pts, frame.time_base = pts, time_base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def raw_yuv(path: Path, source: Path, frames: int | None = None) -> Path:
    limit = ["-frames:v", frames] if frames else []
    ffmpeg("-i", source, *limit, "-f", "rawvideo", path)
    return path


def drop_packets(source: Path, out: Path, stream: int, drop: set[int]) -> None:
    """Remuxes a paired file without some packets (by coded order) of one video stream,
    keeping its metadata, as a lossy channel would leave it."""
    with (
        av.open(str(source)) as inp,
        av.open(
            str(out),
            "w",
            format="mp4",
            options={
                "movflags": "use_metadata_tags",
                "movie_timescale": "90000",
                "video_track_timescale": str(inp.streams.video[0].time_base.denominator),
            },
        ) as container,
    ):
        container.metadata.update(inp.metadata)
        copies = {
            s.index: container.add_stream_from_template(s, opaque=True)
            for s in inp.streams
            if s.type in ("video", "audio")
        }
        seen = 0
        target = inp.streams.video[stream].index
        for packet in inp.demux([s for s in inp.streams if s.index in copies]):
            if packet.dts is None:
                continue
            if packet.stream.index == target:
                seen += 1
                if seen - 1 in drop:
                    continue
            packet.stream = copies[packet.stream.index]
            container.mux(packet)


def tiny_family(
    path: Path, scale: int = 1, gain: float = 1.0, references: tuple[str, ...] = ("-1", "+1")
) -> Path:
    """A real archive of contract 2 of docs/model.md: the target moved half way to the mean of
    the references that are present, times ``gain``."""
    import json

    import torch

    class Blend(torch.nn.Module):
        def __init__(self, gain: float) -> None:
            super().__init__()
            self.gain = gain

        @torch.jit.export
        def features(self, picture: torch.Tensor, side: torch.Tensor) -> list[torch.Tensor]:
            return [picture * 1.0]

        @torch.jit.export
        def enhance(
            self,
            target: torch.Tensor,
            target_features: list[torch.Tensor],
            references: list[torch.Tensor],
            reference_features: list[list[torch.Tensor]],
            side: torch.Tensor,
        ) -> torch.Tensor:
            total = torch.zeros_like(target)
            for i, reference in enumerate(reference_features):
                present = side[:, i + 1, 0].view(-1, 1, 1, 1)
                total = total + present * (reference[0] - target)
            count = side[:, 1:, 0].sum(1).clamp(min=1.0).view(-1, 1, 1, 1)
            strength = side[:, 0, 6].view(-1, 1, 1, 1)
            return target + strength * self.gain * 0.5 * total / count

        def forward(self, pictures: torch.Tensor, side: torch.Tensor) -> torch.Tensor:
            target, facts = pictures[:, 0], side[:, :, 2:6]
            references = [pictures[:, i] for i in range(1, pictures.shape[1])]
            features = [
                self.features(pictures[:, i], facts[:, i]) for i in range(1, pictures.shape[1])
            ]
            own = self.features(target, facts[:, 0])
            return self.enhance(target, own, references, features, side)

    metadata = {
        "tds_model": 2, "name": path.stem, "version": "1", "scale": scale,
        "bit_depths": [8, 10], "references": references,
    }  # fmt: skip
    torch.jit.save(
        torch.jit.script(Blend(gain)), str(path), _extra_files={"tds.json": json.dumps(metadata)}
    )
    return path


def tiny_model(path: Path, scale: int = 2, gain: float = 1.0) -> Path:
    """A real TorchScript archive after docs/model.md: the mean of both references and of
    the target, brought to full size by nearest-neighbour up-sampling, times ``gain``."""
    import json

    import torch

    class Mean(torch.nn.Module):
        def __init__(self, scale: int, gain: float) -> None:
            super().__init__()
            self.scale, self.gain = scale, gain

        def forward(
            self,
            first: torch.Tensor,
            target: torch.Tensor,
            last: torch.Tensor,
            side: torch.Tensor,
        ) -> torch.Tensor:
            up = target.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)
            return (first + up + last) / 3 * self.gain

    metadata = {"tds_model": 1, "name": path.stem, "version": "1", "scale": scale}
    torch.jit.save(
        torch.jit.script(Mean(scale, gain)),
        str(path),
        _extra_files={"tds.json": json.dumps(metadata)},
    )
    return path


def window_model(path: Path, scale: int = 1, name: str = "window", version: str = "1") -> Path:
    """An archive of contract 2 (docs/model.md): half the way from the picture to the mean of
    what its references t - 1 and t + 1 show, times the strength."""
    import json

    import torch

    class Window(torch.nn.Module):
        @torch.jit.export
        def features(self, picture: torch.Tensor, side: torch.Tensor) -> list[torch.Tensor]:
            return [picture]

        @torch.jit.export
        def enhance(
            self,
            target: torch.Tensor,
            target_features: list[torch.Tensor],
            references: list[torch.Tensor],
            reference_features: list[list[torch.Tensor]],
            side: torch.Tensor,
        ) -> torch.Tensor:
            mean = (references[0] + references[1]) / 2
            strength = side[:, 0, 6].reshape(-1, 1, 1, 1)
            return target + strength * (mean - target) / 2

        def forward(self, pictures: torch.Tensor, side: torch.Tensor) -> torch.Tensor:
            target = pictures[:, 0]
            mean = (pictures[:, 1] + pictures[:, 2]) / 2
            return target + side[:, 0, 6].reshape(-1, 1, 1, 1) * (mean - target) / 2

    scripted = torch.jit.script(Window().eval())
    metadata = {
        "tds_model": 2, "name": name, "version": version, "scale": scale,
        "references": ["-1", "+1"],
    }  # fmt: skip
    torch.jit.save(scripted, str(path), _extra_files={"tds.json": json.dumps(metadata)})
    return path


def require_ray() -> Any:
    """Ray; skips what calls it where that is not installed."""
    return pytest.importorskip(
        "ray",
        reason="Ray is not installed (it is large, so not among what tests need): pip install "
        "'tds-codec[ray]', then pytest tests/evaluation/test_ray.py tests/test_encode_ray.py",
    )
