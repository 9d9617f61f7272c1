# SPDX-License-Identifier: LGPL-2.1-or-later
"""tds decode, tds enhance, the filter and the C example say the same of one file, whatever was
done to it. What they say is the table of docs/doors.md; with TDS_WRITE_DOCS=1 this writes it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import pytest
from filter_tools import BICUBIC, Program

import tds
import tools
from tds.session import native_dir

Coded = Callable[..., tds.EncodeResult]
ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "doors.md"
KEEP = ("-movflags", "use_metadata_tags")
CASES: dict[str, tuple[tuple[object, ...], tuple[object, ...], str]] = {
    # what was done: (options before the input, options of the output, suffix)
    "as `tds encode` wrote it": ((), KEEP, ".mp4"),
    "without its tag": ((), ("-map_metadata", -1), ".mp4"),
    "in Matroska": ((), (), ".mkv"),
    "in Matroska, without its tag": ((), ("-map_metadata", -1), ".mkv"),
    "in a transport stream": ((), (), ".ts"),
    "fragmented": ((), ("-movflags", "use_metadata_tags+frag_keyframe+empty_moov"), ".mp4"),
    "the first 0.8 s": ((), ("-t", 0.8, *KEEP), ".mp4"),
    "0.8 s from 0.4 s on": (("-ss", 0.4), ("-t", 0.8, *KEEP), ".mp4"),
    "the same in Matroska": (("-ss", 0.4), ("-t", 0.8), ".mkv"),
}


@dataclass(frozen=True)
class Answer:
    """Of one door: how many frames, their rate, a digest of all."""

    frames: int
    rate: Fraction
    digest: str

    def __str__(self) -> str:
        return f"{self.frames} frames, {self.rate} a second"


def of_decoder(pictures: tds.Decoder) -> Answer:
    with pictures:
        digests = [tools.digest(p.planes) for p in pictures]
        return Answer(len(digests), pictures.rate, "".join(digests))


def of_filter(ffmpeg: Program, path: Path) -> Answer:
    frames = ffmpeg.frames("-copyts", "-i", path, "-vf", BICUBIC)
    whole = path.with_suffix(".y4m")
    ffmpeg("-i", path, "-vf", BICUBIC, "-fps_mode", "passthrough", whole)
    with open(whole, "rb") as file:
        header = file.readline().decode().split()
    rate = Fraction(next(word[1:] for word in header if word[0] == "F").replace(":", "/"))
    return Answer(len(frames), rate, "".join(digest for _, digest in frames))


def two_files(path: Path, folder: Path) -> list[Path]:
    """Each track by itself, with the times it has in the whole file."""
    made = []
    for track in (0, 1):
        made.append(folder / f"{track}{path.suffix}")
        options = ("-movie_timescale", 90000) if path.suffix == ".mp4" else ()
        tools.ffmpeg("-copyts", "-i", path, "-map", f"0:v:{track}", "-c", "copy", *KEEP,
                     "-copyts", *options, made[-1])  # fmt: skip
    return made


def of_example(source: Path, folder: Path) -> Answer:
    """docs/examples/enhance.c, which pairs raw files in groups of one size."""
    native = Path(native_dir())
    program = folder / "enhance"
    subprocess.run(
        ["cc", ROOT / "docs/examples/enhance.c", "-o", program, f"-I{ROOT / 'csrc/include'}",
         f"-L{native / 'lib'}", "-ltds", f"-Wl,-rpath,{native / 'lib'}"],
        check=True,
    )  # fmt: skip
    for track, name in enumerate(("hr", "lr")):
        tools.ffmpeg("-i", source, "-map", f"0:v:{track}", "-fps_mode", "passthrough", "-f",
                     "rawvideo", folder / f"{name}.yuv")  # fmt: skip
    names = [folder / f"{name}.yuv" for name in ("hr", "lr", "out")]
    subprocess.run([program, "128", "72", "2", "5", *names], check=True)
    data, size = names[2].read_bytes(), 128 * 72 * 3 // 2
    pictures = [data[at : at + size] for at in range(0, len(data), size)]
    digests = [hashlib.md5(picture).hexdigest() for picture in pictures]
    return Answer(len(digests), Fraction(25), "".join(digests))  # it has no times


def test_all_doors_give_the_same_and_the_page_says_it(
    tmp_path: Path, ffmpeg: Program, coded: Coded
) -> None:
    settings = tds.EnhanceSettings("bicubic")
    rows = []
    for name, (before, after, suffix) in CASES.items():
        row = []
        for config in ("ai", "ra"):
            folder = tmp_path / f"{config}{len(rows)}"
            folder.mkdir()
            path = folder / f"x{suffix}"
            source = coded(codec="hevc", config=config, boundaries="shared", intra_period=8).path
            tools.ffmpeg(*before, "-i", source, "-map", 0, "-c", "copy", *after, path)
            hr, lr = two_files(path, folder)
            answer = of_decoder(tds.decode(path, settings=settings))
            assert of_decoder(tds.enhance(hr, lr, settings=settings)) == answer, name
            assert of_filter(ffmpeg, path) == answer, name
            row.append(str(answer))
        rows.append(f"| {name} | {' | '.join(row)} |")
    source = coded(codec="hevc", config="ai").path
    answer = of_decoder(tds.decode(source, settings=settings))
    assert of_example(source, tmp_path) == of_filter(ffmpeg, source) == answer
    begin, end = "<!-- made by tests/ffmpeg/test_doors.py -->", "<!-- end -->"
    before_it, rest = PAGE.read_text().split(begin)
    made = "\n".join(["| the pair | AI | RA |", "|---|---|---|", *rows])
    page = f"{before_it}{begin}\n{made}\n{end}{rest.split(end)[1]}"
    if os.environ.get("TDS_WRITE_DOCS"):
        PAGE.write_text(page)
    assert PAGE.read_text() == page


def test_all_doors_refuse_the_same(tmp_path: Path, ffmpeg: Program, coded: Coded) -> None:
    source = coded(codec="hevc", config="ai").path
    with av.open(str(source)) as file:
        tag = json.loads(file.metadata["tds"])
    for changes, says in (
        ({"tds": 2}, "version 2"),
        ({"groups": [[5, 4]]}, "groups do not add up"),
        ({"scale": 3}, "scale"),
        ({"model": "../x"}, "a model's name"),
    ):
        path = tmp_path / "x.mp4"
        tools.ffmpeg("-i", source, "-map", 0, "-c", "copy", *KEEP, "-metadata",
                     f"tds={json.dumps({**tag, **changes})}", path)  # fmt: skip
        with pytest.raises(ValueError, match=says):
            tds.decode(path)
        with pytest.raises(ValueError, match=says):
            tds.enhance(*two_files(path, tmp_path))
        done = ffmpeg("-i", path, "-vf", BICUBIC, "-f", "null", "-", status=None)
        assert says in done.log
