# SPDX-License-Identifier: LGPL-2.1-or-later
"""The clips of an evaluation: what they are, known by the hash of their content."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

from av.video.frame import VideoFrame

from ..errors import InputError
from ..files import sha256_of
from ..media.pictures import scene_score
from ..media.planar import PicturesMD5
from ..media.sources import VideoSource

SUFFIXES = (".mkv", ".mp4", ".y4m", ".mov", ".webm", ".avi", ".mpg", ".266", ".265", ".264")


class ClipSource(VideoSource):
    """A VideoSource that ends after ``limit`` frames (0: none)."""

    def __init__(self, path: str, limit: int) -> None:
        self._limit = limit
        super().__init__(path)

    @property
    def frames(self) -> int:
        known = super().frames
        return min(known, self._limit) if self._limit and known else known or self._limit

    def __iter__(self) -> Iterator[VideoFrame]:
        return islice(super().__iter__(), self._limit or None)


@dataclass(frozen=True)
class Clip:
    """One clip, as far as it is used.

    sha256: of the file. pictures_md5: of all its frames as planar 4:2:0, also those
    beyond ``frames``. times: display times of the frames used, in ticks of time_base.
    scores: FFmpeg's scene-change score of each.
    """

    name: str
    path: Path
    group: str
    sha256: str
    pictures_md5: str
    width: int
    height: int
    bit_depth: int
    rate: Fraction
    time_base: Fraction
    times: tuple[int, ...]
    scores: tuple[float, ...]

    @property
    def frames(self) -> int:
        return len(self.times)

    @property
    def seconds(self) -> float:
        return float(self.frames / self.rate)

    def cuts(self, threshold: float) -> list[bool]:
        """Whether each frame begins a new scene; none when ``threshold`` is 0."""
        return [bool(i) and 0 < threshold <= s for i, s in enumerate(self.scores)]


def examine(path: Path, limit: int, group: str | None = None) -> Clip:
    """Reads a clip once. group: the class it is averaged in (None: by its size)."""
    with ClipSource(str(path), 0) as video:
        full = video.planar(detect_cuts=True)
        times: list[int] = []
        scores: list[float] = []
        digest = PicturesMD5()
        for frame in video:
            picture = full(frame)
            assert picture.pts is not None
            if not limit or len(times) < limit:
                times.append(picture.pts)
                scores.append(scene_score(picture))
            digest.add(picture)
        if not times:
            raise InputError(f"{path} has no frames that decode")
        return Clip(
            path.stem,
            path,
            group or size_class(video.width, video.height),
            sha256_of(path),
            digest.hexdigest(),
            video.width,
            video.height,
            video.bit_depth,
            video.rate,
            video.time_base,
            tuple(times),
            tuple(scores),
        )


def size_class(width: int, height: int) -> str:
    """A class for clips that have none: the usual picture size nearest in samples."""
    samples = width * height
    for least, name in ((1_400_000, "1080p"), (640_000, "720p"), (250_000, "480p")):
        if samples >= least:
            return name
    return "240p"


def find_clips(paths: list[Path]) -> list[Path]:
    """Files as given, and the videos in folders by name. Raises InputError."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
            if not inside:
                raise InputError(f"{path} has no video in it ({', '.join(SUFFIXES)})")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise InputError(f"{path}: there is no such clip")
    names = [p.stem for p in found]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two clips are named {name}; rename one of them")
    return found
