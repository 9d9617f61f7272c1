# SPDX-License-Identifier: LGPL-2.1-or-later
"""What of a source comes along beside its video: audio, subtitles, chapters, tags, rotation."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av

from ..errors import ExternalError
from .opening import STANDARD_INPUT, ffmpeg_name, is_read_once
from .programs import find_ffmpeg
from .sources import VideoSource

# What FFmpeg's MP4 muxer takes as it is; other audio is coded to AAC, other text to mov_text.
_AUDIO = frozenset(
    [
        "aac",
        "ac3",
        "eac3",
        "alac",
        "dts",
        "flac",
        "mp1",
        "mp2",
        "mp3",
        "opus",
        "truehd",
        "vorbis",
        "pcm_s16le",
        "pcm_s16be",
        "pcm_s24le",
        "pcm_s24be",
        "pcm_s32le",
        "pcm_s32be",
        "pcm_f32le",
        "pcm_f32be",
    ]
)
_TEXT = frozenset(["ass", "mov_text", "ssa", "srt", "subrip", "text", "webvtt"])
# Keys of the source's container that describe that container, not the video.
_TECHNICAL = frozenset(
    [
        "tds",
        "encoder",
        "major_brand",
        "minor_version",
        "compatible_brands",
        "duration",
        "handler_name",
        "_statistics_tags",
        "_statistics_writing_app",
    ]
)


@dataclass
class Extras:
    """What comes along from the source.

    path: a file whose audio and subtitle streams are copied (all MP4 can carry).
    """

    path: Path | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    chapters: list[dict[str, Any]] = field(default_factory=list)
    rotation: int = 0


def collect(video: VideoSource, folder: Path) -> tuple[Extras, list[str]]:
    """What comes along of a source whose frames were read, and in sentences what does not.

    folder: where a file with the copied streams may be put.
    """
    extras = Extras(
        metadata={k: v for k, v in video.metadata.items() if k.lower() not in _TECHNICAL},
        chapters=video.chapters,
        rotation=video.rotation,
    )
    notices: list[str] = []
    audio, subtitles = video.audio, video.subtitles
    if not audio and not subtitles:
        return extras, notices
    if is_read_once(video.path):
        kinds = [k for k, names in (("audio", audio), ("subtitles", subtitles)) if names]
        what = "standard input" if video.path == STANDARD_INPUT else video.path
        notices.append(
            f"{what} can be read only once, and its pictures were; left out: its "
            f"{' and '.join(kinds)}; name a file to keep them"
        )
        return extras, notices
    extras.path = _copy_streams(video.path, audio, subtitles, folder / "extras.mp4", notices)
    return extras, notices


def _copy_streams(
    path: str, audio: list[str], subtitles: list[str], out: Path, notices: list[str]
) -> Path | None:
    command = [find_ffmpeg(), "-hide_banner", "-nostdin", "-loglevel", "error", "-y"]
    command += ["-copyts", "-i", ffmpeg_name(path), "-map_metadata", "-1", "-map_chapters", "-1"]
    kept = 0
    for i, name in enumerate(audio):
        command += ["-map", f"0:a:{i}", f"-c:a:{i}", "copy" if name in _AUDIO else "aac"]
        command += [f"-map_metadata:s:a:{i}", f"0:s:a:{i}"]
        kept += 1
        if name not in _AUDIO:
            notices.append(f"audio stream {i} is {name}, which MP4 cannot hold; coded as AAC")
    text = 0
    for i, name in enumerate(subtitles):
        if name not in _TEXT:
            notices.append(f"subtitle stream {i} is {name}, which MP4 cannot hold; left out")
            continue
        command += [
            "-map",
            f"0:s:{i}",
            f"-c:s:{text}",
            "copy" if name == "mov_text" else "mov_text",
        ]
        command += [f"-map_metadata:s:s:{text}", f"0:s:s:{i}"]
        text += 1
    if not kept and not text:
        return None
    done = subprocess.run(
        [*command, "-strict", "experimental", "-f", "mp4", ffmpeg_name(out)],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise ExternalError(
            f"{path}: its audio and subtitles could not be copied "
            f"({' / '.join(done.stderr.strip().splitlines()[-2:])})"
        )
    with av.open(ffmpeg_name(out)) as made:
        if not made.streams:
            return None
    return out


# How containers other than MP4 hold text; those not named hold none.
_TEXT_IN = {".mkv": "srt", ".mka": "srt", ".webm": "webvtt"}


def subtitles_for(path: str, suffix: str, out: Path) -> Path | None:
    """The MP4 file's subtitles as a container with this suffix holds them, written to
    ``out``; None when MP4's own will do, or when it holds none."""
    codec = _TEXT_IN.get(suffix.lower())
    if codec is None:
        return None
    command = [find_ffmpeg(), "-hide_banner", "-nostdin", "-loglevel", "error", "-y", "-copyts"]
    command += [
        "-i",
        ffmpeg_name(path),
        "-map",
        "0:s",
        "-c:s",
        codec,
        "-f",
        "matroska",
        ffmpeg_name(out),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ExternalError(
            f"{path}: its subtitles could not be converted "
            f"({' / '.join(done.stderr.strip().splitlines()[-2:])})"
        )
    return out
