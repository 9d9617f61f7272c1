# SPDX-License-Identifier: LGPL-2.1-or-later
"""All pictures of data sets in one flat file, for the family of enhancers.

A data set of many clips, codecs and QPs is thousands of streams: each is decoded once, into one
file that is memory-mapped. LR pictures are kept as they were decoded, and brought up as they are
cut, by the same bicubic as the engine's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .._tds import lr_size
from ..errors import InputError
from ..files import sha256_of_text, whole_file
from ..models.resample import BicubicUp, pack
from .dataset import Entry, entries_of
from .pictures import Bytes, Yuv, read
from .samples import ALIGNMENT, READ_BY

MARGIN = 4
"""LR samples that are brought up around a cut: the bicubic's taps reach two."""

_FLOOR = 2e-6
"""Of mean squared errors (57 dB), by which losses are divided."""


@dataclass(frozen=True)
class Track:
    """Pictures of one stream, or of a clip's originals.

    clip: its name. codec, config, qp: "", "", 0 for originals. scale: k, 1 for pictures of full
    size. width, height: of the clip. places: where in the stream each source frame is.
    start: of the stream in the bank, in bytes. whole: every source frame is in it. error: mean
    squared error of its luma at full size (0..1).
    """

    clip: str
    codec: str
    config: str
    qp: int
    scale: int
    width: int
    height: int
    places: Mapping[int, int]
    start: int
    whole: bool
    error: float = 1.0

    @property
    def size(self) -> tuple[int, int]:
        """Of its pictures, width and height."""
        if self.scale == 1:
            return self.width, self.height
        return lr_size(self.width, self.scale), lr_size(self.height, self.scale)


@dataclass(frozen=True)
class Source:
    """A coded track with what belongs to it. partner: the other stream of its pair, None: it
    is a plain stream, or one of every frame, which may go with any."""

    track: Track
    original: Track
    partner: Track | None = None


@dataclass(frozen=True)
class _Stream:
    """Of a file; frames: None, where its entry does not say."""

    width: int
    height: int
    frames: int | None


def _numbered(frames: Iterable[int], leads: int = 0) -> dict[int, int]:
    return {frame: leads + i for i, frame in enumerate(frames)}


class Bank:
    """The pictures of the entries that ``keep`` accepts, in ``cache``.

    ``sources`` are its coded tracks in order of the manifests. Streams that are the same whatever
    k the data set is for (all-intra, every frame) stand there once. ``progress`` is called with
    how many streams are decoded, and of how many. Raises InputError when there is none, or when a
    stream does not hold what its entry says.
    """

    def __init__(
        self,
        folders: list[Path],
        cache: Path,
        keep: Callable[[Entry], bool],
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._ups = {k: BicubicUp(k) for k in (2, 4)}
        self.entries = entries_of(folders, keep)
        self._streams: dict[Path, _Stream] = {}
        for folder, e in self.entries:
            self._streams.setdefault(folder / e.original, _Stream(e.width, e.height, None))
            hr = _Stream(e.width, e.height, len(e.hr_frames))
            self._streams.setdefault(folder / e.hr, hr)
            if e.lr_frames:
                size = (lr_size(e.width, e.scale), lr_size(e.height, e.scale))
                self._streams[folder / e.lr] = _Stream(*size, e.lr_leads + len(e.lr_frames))
        self._path = cache / f"bank-{self._key()[:24]}.yuv"
        notes = self._path.with_suffix(".json")
        if notes.is_file() and self._path.is_file():
            found = json.loads(notes.read_text())
            self.sources = self._sources(found["frames"], found["errors"])
        else:
            frames = self._decode(progress)
            errors = [self._error(s) for s in self._sources(frames, None)]
            with whole_file(notes, overwrite=True) as beside:
                beside.write_text(json.dumps({"frames": frames, "errors": errors}) + "\n")
            self.sources = self._sources(frames, errors)

    def _key(self) -> str:
        stats = [(path.resolve(), path.stat()) for path in self._streams]
        return sha256_of_text(
            READ_BY + "".join(f" {p} {s.st_size} {s.st_mtime_ns}" for p, s in stats)
        )

    def _decode(self, progress: Callable[[int, int], None] | None) -> list[int]:
        """Writes the file; how many pictures each stream has."""
        frames = []
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(self._path, overwrite=True) as beside, open(beside, "wb") as file:
            for path, stream in self._streams.items():
                got = read(path)
                want = stream.frames or len(got)
                if (len(got), got.width, got.height) != (want, stream.width, stream.height):
                    raise InputError(
                        f"{path}: {len(got)} pictures of {got.width}x{got.height}, and the "
                        f"manifest says {want} of {stream.width}x{stream.height}; make the data "
                        "set again"
                    )
                got.data.tofile(file)
                frames.append(len(got))
                if progress:
                    progress(len(frames), len(self._streams))
        return frames

    def _sources(self, frames: list[int], errors: list[float] | None) -> list[Source]:
        starts, end = {}, 0
        for (path, stream), number in zip(self._streams.items(), frames, strict=True):
            starts[path] = end, number
            end += number * (stream.width * stream.height * 3 // 2)
        self._size = end
        sources: list[Source] = []
        seen = set()

        def error() -> float:
            return max(errors[len(sources)], _FLOOR) if errors else 1.0

        for folder, e in self.entries:
            about = (e.clip, e.codec, e.config)
            size = (e.width, e.height)
            start, number = starts[folder / e.original]
            original = Track(e.clip, "", "", 0, 1, *size, _numbered(range(number)), start, True)
            every = e.group == 1
            hr = Track(
                *(*about, e.hr_qp, 1, *size),
                *(_numbered(e.hr_frames), starts[folder / e.hr][0], every),
            )
            lr: Track | None = None
            if e.lr_frames:
                lr = Track(
                    *(*about, e.lr_qp, e.scale, *size),
                    *(_numbered(e.lr_frames, e.lr_leads), starts[folder / e.lr][0], every),
                )
            same = (*about, e.hr_qp, e.preset, original.start)
            if not every or same not in seen:
                hr = replace(hr, error=error())
                sources.append(Source(hr, original, None if every else lr))
            if every:
                seen.add(same)
            if lr is not None:
                lr = replace(lr, error=error())
                sources.append(Source(lr, original, None if every else hr))
        return sources

    def _error(self, source: Source) -> float:
        found = []
        whole = (0, 0, source.track.height, source.track.width)
        for frame in list(source.track.places)[::4]:
            made, want = (
                self.cut(source.track, frame, *whole),
                self.cut(source.original, frame, *whole),
            )
            found.append(float((made[:4] - want[:4]).square().mean()))
        return float(np.mean(found))

    # -- pictures

    @cached_property
    def _flat(self) -> Bytes:
        return np.memmap(self._path, np.uint8, "r", shape=(self._size,))

    def _video(self, track: Track, frame: int) -> Yuv:
        w, h = track.size
        size = w * h * 3 // 2
        start = track.start + track.places[frame] * size
        return Yuv(self._flat[start : start + size][None], w, h)

    def cut(self, track: Track, frame: int, y: int, x: int, height: int, width: int) -> Tensor:
        """A part of a picture at full size, packed ``[6, height/2, width/2]``, floats 0..1.

        All in luma samples; ``y`` and ``x`` are multiples of 2 k, ``height`` and ``width`` even.
        """
        video, k = self._video(track, frame), track.scale
        if k == 1:
            return video.packed(0, y, x, height, width).float() / 255.0
        luma, *chroma = video.planes(0)
        parts = []
        for planes, s in (([luma], 1), (chroma, 2)):
            top, left = y // s // k, x // s // k
            a, b = max(top - MARGIN, 0), max(left - MARGIN, 0)
            rows = slice(a, top + -(-height // s // k) + MARGIN)
            columns = slice(b, left + -(-width // s // k) + MARGIN)
            low = torch.from_numpy(np.stack([p[rows, columns] for p in planes])[None])
            up = self._ups[k](low.float() / 255.0).clamp(0.0, 1.0)
            i, j = (top - a) * k, (left - b) * k
            parts.append(up[:, :, i : i + height // s, j : j + width // s])
        return pack(*parts)[0]

    def picture(self, track: Track, frame: int) -> Tensor:
        """A whole picture, its edges repeated up to multiples of 16; as :meth:`cut`."""
        packed = self.cut(track, frame, 0, 0, track.height, track.width)
        right, bottom = (-v % ALIGNMENT for v in (track.width, track.height))
        if not right and not bottom:
            return packed
        luma = torch.nn.functional.pixel_shuffle(packed[None, :4], 2)
        luma = torch.nn.functional.pad(luma, [0, right, 0, bottom], mode="replicate")
        chroma = torch.nn.functional.pad(
            packed[None, 4:], [0, right // 2, 0, bottom // 2], mode="replicate"
        )
        return pack(luma, chroma)[0]
