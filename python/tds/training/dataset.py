# SPDX-License-Identifier: LGPL-2.1-or-later
"""Builds a training set: source clips through real codecs, into bitstreams and originals.

    DATASET/manifest.json                         what is in it (see Entry)
    DATASET/originals/CLIP-HASH.mkv               the source, FFV1
    DATASET/streams/CLIP/CODEC-CONFIG-nN-kK-qpQ.hr.mp4  key frames at full size
    DATASET/streams/CLIP/CODEC-CONFIG-nN-kK-qpQ.lr.mp4  the frames between, at 1/k
    DATASET/streams/CLIP/CODEC-CONFIG-nN-kK-qpQ.json    that pair's entry

With ``scale`` 1 there is one plain stream of every frame, the HR one, and no LR stream.

A pair whose entry is there is done: building goes on where it stopped. What was made otherwise
under the same name (of another clip, by another preset) is not mixed in but refused. With
``group`` 1 every frame is in both streams, which only all-intra coding can do without changing
what a frame looks like; references may then be at any distance.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

from ..codecs import ADAPTERS, DEFAULT, Codec, Config, StreamSettings
from ..errors import InputError, MissingError
from ..files import sha256_of, whole_file
from .pictures import Yuv, down_sample, read, write_lossless

VIDEO = frozenset([".mkv", ".mp4", ".mov", ".webm", ".avi", ".y4m", ".mpg", ".ts"])


@dataclass(frozen=True)
class Entry:
    """A pair of streams, or with ``scale`` 1 a plain stream: ``hr``, and no ``lr``. Paths are
    relative to the data set's folder.

    ``hr_frames`` and ``lr_frames`` are the source frames in each stream, in order;
    ``lr_leads`` pictures come before the latter in the LR stream (the down-sampled first
    boundary, as in the paper). ``source_sha256``: of the source clip's file, which a model's
    card names; "" in sets of before. ``max_frames``: of the clip that were used at most, 0: all;
    None in sets of before.
    """

    clip: str
    original: str
    hr: str
    lr: str
    codec: str
    config: str
    scale: int
    group: int
    hr_qp: int
    lr_qp: int
    preset: str
    width: int
    height: int
    hr_frames: tuple[int, ...]
    lr_frames: tuple[int, ...]
    hr_bytes: int
    lr_bytes: int
    encoder: str
    lr_leads: int = 0
    source_sha256: str = ""
    max_frames: int | None = None

    @staticmethod
    def of(values: dict[str, object]) -> Entry:
        known = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return Entry(**known)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Job:
    """One pair to be made."""

    clip: Path
    codec: Codec
    config: Config
    scale: int
    group: int
    qp: int
    lr_qp: int
    preset: str
    independent: bool = False
    max_frames: int | None = None

    @property
    def stem(self) -> str:
        kind = f"n{self.group}{'i' if self.independent else ''}-k{self.scale}"
        qp = f"qp{self.qp}" + (f"-{self.lr_qp}" if self.lr_qp != self.qp else "")
        return f"{self.codec.value}-{self.config.value}-{kind}-{qp}"


def find_clips(sources: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The video files named, and those in the folders named, in order of name.

    Raises MissingError for a path that is not there, InputError when two have one name.
    """
    clips: list[Path] = []
    for source in map(Path, sources):
        if source.is_dir():
            clips += sorted(p for p in source.iterdir() if p.suffix.lower() in VIDEO)
        elif source.is_file():
            clips.append(source)
        else:
            raise MissingError(f"{source}: there is no such clip or folder")
    if not clips:
        raise InputError("there is no video file among the sources")
    names: dict[str, Path] = {}
    for clip in clips:
        if clip.stem in names:
            raise InputError(f"{clip} and {names[clip.stem]} have the same name; rename one")
        names[clip.stem] = clip
    return clips


def roles(frames: int, group: int, independent: bool = False) -> tuple[list[int], list[int]]:
    """Which of ``frames`` are HR and which LR, for whole groups of ``group`` only.

    Shared boundaries: 0, N-1, 2(N-1) ... are HR. Independent ones: 0, N-1, N, 2N-1 ...
    A group of 1 puts every frame in both.
    """
    if group == 1:
        return list(range(frames)), list(range(frames))
    if group < 3 or group % 2 == 0:
        raise InputError(f"a group has 1 frame or an odd number from 3 on, not {group}")
    if independent:
        whole = frames // group * group
        hr = [i for i in range(whole) if i % group in (0, group - 1)]
    else:
        whole = (frames - 1) // (group - 1) * (group - 1) + 1
        hr = [i for i in range(whole) if i % (group - 1) == 0]
    keys = set(hr)
    return hr, [i for i in range(whole) if i not in keys]


def _encode(pictures: Yuv, path: Path, job: Job, qp: int) -> str:
    adapter = ADAPTERS[DEFAULT[job.codec].name]
    settings = StreamSettings(
        pictures.width, pictures.height, 8, Fraction(25), job.config, qp, job.preset
    )
    adapter.check(settings)
    with whole_file(path, overwrite=True) as beside:
        run = adapter(settings, beside)
        try:
            for picture in pictures.data:
                run.write(picture.tobytes())
            run.finish()  # says so when packets and frames do not agree
        except BaseException:
            run.abort()
            raise
    return adapter.version()


def make(job: Job, folder: Path) -> Entry:
    """Makes one pair, or returns the entry of one that is there."""
    streams = folder / "streams" / job.clip.stem
    note = streams / f"{job.stem}.json"
    sha256 = _sha256(job.clip)
    if note.is_file():
        entry = Entry.of(json.loads(note.read_text()))
        _check_same(entry, job, sha256, note)
        return entry
    source = read(job.clip, job.max_frames)
    hr, lr = roles(len(source), job.group, job.independent)
    plain = job.scale == 1
    if not lr or len(hr) < 2:
        raise InputError(f"{job.clip} has {len(source)} frames, too few for a group of {job.group}")
    streams.mkdir(parents=True, exist_ok=True)
    # Of this very clip, and of as many of its frames: streams of several calls share it.
    part = f"-{job.max_frames}f" if job.max_frames else ""
    original = folder / "originals" / f"{job.clip.stem}-{sha256[:12]}{part}.mkv"
    if not original.is_file():
        original.parent.mkdir(parents=True, exist_ok=True)
        write_lossless(source, original)
    hr_path, lr_path = streams / f"{job.stem}.hr.mp4", streams / f"{job.stem}.lr.mp4"
    encoder = _encode(source.take(hr), hr_path, job, job.qp)
    # As `tds encode` does: where pictures refer to others, LR starts with the first boundary.
    leads = hr[:1] if job.group > 1 and job.config is not Config.AI else []
    if not plain:
        _encode(down_sample(source.take(leads + lr), job.scale), lr_path, job, job.lr_qp)
    entry = Entry(
        clip=job.clip.stem,
        original=str(original.relative_to(folder)),
        hr=str(hr_path.relative_to(folder)),
        lr="" if plain else str(lr_path.relative_to(folder)),
        codec=job.codec.value,
        config=job.config.value,
        scale=job.scale,
        group=job.group,
        hr_qp=job.qp,
        lr_qp=job.lr_qp,
        preset=job.preset,
        width=source.width,
        height=source.height,
        hr_frames=tuple(hr),
        lr_frames=() if plain else tuple(lr),
        hr_bytes=hr_path.stat().st_size,
        lr_bytes=0 if plain else lr_path.stat().st_size,
        encoder=encoder,
        lr_leads=len(leads),
        source_sha256=sha256,
        max_frames=job.max_frames or 0,
    )
    _write(note, asdict(entry))
    return entry


def _check_same(entry: Entry, job: Job, sha256: str, note: Path) -> None:
    """Raises InputError when a pair that is there is not what the job would make. Sets of
    before do not say all of it."""
    frames = job.max_frames or 0
    for differs, what in (
        (entry.source_sha256 not in ("", sha256), "of another clip of this name"),
        (entry.preset != job.preset, f"with preset {entry.preset}"),
        (entry.max_frames not in (None, frames), f"of {entry.max_frames or 'all'} frames at most"),
    ):
        if differs:
            raise InputError(
                f"{note} was made {what}; make the new pairs in another folder, or remove "
                "it and its streams"
            )


_sha256 = functools.lru_cache(1024)(sha256_of)


def _write(path: Path, value: object) -> None:
    with whole_file(path, overwrite=True) as beside:
        beside.write_text(json.dumps(value, indent=1) + "\n")


def build(
    jobs: list[Job],
    folder: Path,
    parallel: int = 1,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Entry]:
    """Makes all pairs, ``parallel`` at a time, and writes the manifest of all in ``folder``.

    The first failure ends it; what is done stays and is not made again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = 0
    # Originals are shared by a clip's jobs: one job of each clip goes first.
    first: dict[Path, Job] = {}
    for job in jobs:
        first.setdefault(job.clip, job)
    waves = [list(first.values()), [j for j in jobs if first[j.clip] is not j]]
    with ThreadPoolExecutor(max_workers=max(1, parallel)) as pool:
        for wave in waves:
            running = {pool.submit(make, job, folder): job for job in wave}
            try:
                for future in as_completed(running):
                    future.result()
                    done += 1
                    if progress:
                        job = running[future]
                        progress(done, len(jobs), f"{job.clip.stem} {job.stem}")
            except BaseException:
                for future in running:
                    future.cancel()
                raise
    return collect(folder)


def collect(folder: Path) -> list[Entry]:
    """Writes ``manifest.json`` from the entries that are there."""
    notes = sorted((folder / "streams").glob("*/*.json"))
    entries = [Entry.of(json.loads(note.read_text())) for note in notes]
    _write(folder / "manifest.json", {"tds_dataset": 1, "entries": [asdict(e) for e in entries]})
    return entries


def entries_of(folders: Iterable[Path], keep: Callable[[Entry], bool]) -> list[tuple[Path, Entry]]:
    """Of data sets, folder and entry of what ``keep`` accepts. Raises MissingError, or InputError
    when there is nothing."""
    folders = list(folders)
    found = [(f, e) for f in folders for e in load_manifest(f) if keep(e)]
    if not found:
        names = ", ".join(map(str, folders))
        raise InputError(f"there is no stream in {names} that the settings allow")
    return found


def load_manifest(folder: str | os.PathLike[str]) -> list[Entry]:
    """The entries of a data set. Raises MissingError or InputError."""
    path = Path(folder) / "manifest.json"
    if not path.is_file():
        raise MissingError(f"{folder} has no manifest.json; make the data set with `tds dataset`")
    try:
        found = json.loads(path.read_text())
        if found.get("tds_dataset") != 1:
            raise InputError(f"{path} is of a version that this release does not know")
        return [Entry.of(entry) for entry in found["entries"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is damaged ({error}); run `tds dataset` again") from error
