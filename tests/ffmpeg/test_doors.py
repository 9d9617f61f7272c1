# SPDX-License-Identifier: LGPL-2.1-or-later
"""tds decode, tds enhance, the filter and a C program (docs/examples/pair.c) say the same of one
file, whatever was done to it. What they say is the table of docs/doors.md; with TDS_WRITE_DOCS=1
this writes it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from filter_tools import BICUBIC, EXACT, Program, framemd5

import tds
import tools
from tds import models
from tds.session import native_dir

Coded = Callable[..., tds.EncodeResult]
ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "doors.md"
KEEP = ("-movflags", "use_metadata_tags")
FRAGMENTS = ("-movflags", "use_metadata_tags+frag_keyframe+empty_moov")
NO_TAG = ("-map_metadata", -1)
CASES: dict[str, tuple[tuple[object, ...], tuple[object, ...], str]] = {
    # what was done: (options before the input, options of the output, suffix)
    "as `tds encode` wrote it": ((), KEEP, ".mp4"),
    "in Matroska": ((), (), ".mkv"),
    "in a transport stream": ((), (), ".ts"),
    "fragmented": ((), FRAGMENTS, ".mp4"),
    "the first 0.8 s": ((), ("-t", 0.8, *KEEP), ".mp4"),
    "0.8 s from 0.4 s on": (("-ss", 0.4), ("-t", 0.8, *KEEP), ".mp4"),
    "the same in Matroska": (("-ss", 0.4), ("-t", 0.8), ".mkv"),
    "the same, fragmented": (("-ss", 0.4), ("-t", 0.8, *FRAGMENTS), ".mp4"),
}
PAIRS: tuple[dict[str, Any], ...] = (  # the columns of the table, AI and RA
    {"config": "ai"},
    {"config": "ra", "boundaries": "shared", "intra_period": 8},
)
REFUSAL = "do not tell where each really begins"
BICUBIC_SETTINGS = tds.EnhanceSettings("bicubic")


@dataclass(frozen=True)
class Answer:
    """Of one door: how many frames, their rate, the model, a digest of all."""

    frames: int
    rate: Fraction
    model: str
    digest: str

    def __str__(self) -> str:
        return f"{self.frames} frames, {self.rate} a second"


def of_decoder(pictures: tds.Decoder) -> Answer:
    with pictures:
        digests = [tools.digest(p.planes) for p in pictures]
        info = pictures.session.info
        return Answer(len(digests), pictures.rate, info.model_name, "".join(digests))


def of_filter(ffmpeg: Program, path: Path, filter: str = BICUBIC, **variables: str) -> Answer:
    whole = path.with_suffix(".y4m")
    ran = ffmpeg(
        *("-v", "verbose", "-copyts", "-i", path, "-filter_complex", f"{filter},split[a][b]"),
        *("-map", "[a]", *EXACT, "-f", "framemd5", "-"),
        *("-map", "[b]", "-fps_mode", "passthrough", whole),
        **variables,
    )
    frames = framemd5(ran.output)
    with open(whole, "rb") as file:
        header = file.readline().decode().split()
    rate = Fraction(next(word[1:] for word in header if word[0] == "F").replace(":", "/"))
    model = re.search(r"torchscript (\S+), cpu", ran.log)
    digest = "".join(digest for _, digest in frames)
    return Answer(len(frames), rate, model[1] if model else "", digest)


def two_files(path: Path, folder: Path) -> list[Path]:
    """Each track by itself, with the times it has in the whole file."""
    made = []
    for track in (0, 1):
        made.append(folder / f"{track}{path.suffix}")
        options = ("-movie_timescale", 90000) if path.suffix == ".mp4" else ()
        tools.ffmpeg("-copyts", "-i", path, "-map", f"0:v:{track}", "-c", "copy", *KEEP,
                     "-copyts", *options, made[-1])  # fmt: skip
    return made


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """docs/examples/pair.c, a program with a decoder of its own."""
    native = Path(native_dir())
    program = tmp_path_factory.mktemp("example") / "pair"
    subprocess.run(
        ["cc", "-Wall", "-Werror", ROOT / "docs/examples/pair.c", "-o", program,
         f"-I{ROOT / 'csrc/include'}",
         f"-L{native / 'lib'}", "-ltds", f"-Wl,-rpath,{native / 'lib'}"],
        check=True,
    )  # fmt: skip
    return program


def of_example(
    program: Path, source: Path, folder: Path, *model: str, refusal: str = REFUSAL
) -> Answer | str:
    """What it makes of the two tracks, their times and the tag."""
    arguments: list[Path | str] = []
    for track in (0, 1):
        raw, times = folder / f"{track}.yuv", folder / f"{track}.txt"
        one = ("-map", f"0:v:{track}", "-fps_mode", "passthrough")
        tools.ffmpeg("-copyts", "-i", source, *one, raw, *one, "-enc_time_base", "filter",
                     "-f", "framecrc", times)  # fmt: skip
        arguments += [raw, times]
    with av.open(str(source)) as file:
        text = next((v for k, v in file.metadata.items() if k.lower() == "tds"), None)
    if text:
        (folder / "tag.json").write_text(text)
    whole = folder / "example.yuv"
    ran = subprocess.run(
        [program, *arguments, folder / "tag.json" if text else "-", whole, *model],
        capture_output=True, text=True,
    )  # fmt: skip
    if ran.returncode:
        assert ran.returncode == 1 and refusal in ran.stderr, ran.stderr
        return "refused"
    said = re.fullmatch(r"(\d+) frames, (\d+/\d+) a second, (\S+)\n", ran.stdout)
    assert said, ran.stdout
    data, size = whole.read_bytes(), 128 * 72 * 3 // 2
    pictures = [data[at : at + size] for at in range(0, len(data), size)]
    digests = [hashlib.md5(picture).hexdigest() for picture in pictures]
    assert len(digests) == int(said[1])
    name = "" if said[3] == "bicubic" else said[3]
    return Answer(len(digests), Fraction(said[2]), name, "".join(digests))


def of_three_doors(ffmpeg: Program, path: Path, folder: Path) -> Answer | str:
    """What tds decode, tds enhance and the filter say of a file, without a model: one thing."""
    hr, lr = two_files(path, folder)
    try:
        answer = of_decoder(tds.decode(path, settings=BICUBIC_SETTINGS))
    except ValueError as error:
        assert REFUSAL in str(error) and str(path) in str(error)
        with pytest.raises(ValueError, match=REFUSAL):
            of_decoder(tds.enhance(hr, lr, settings=BICUBIC_SETTINGS))
        said = ffmpeg("-copyts", "-i", path, "-vf", BICUBIC, "-f", "null", "-", status=None).log
        assert REFUSAL in said
        return "refused"
    assert of_decoder(tds.enhance(hr, lr, settings=BICUBIC_SETTINGS)) == answer, path
    assert of_filter(ffmpeg, path) == answer, path
    return answer


def test_all_doors_give_the_same_and_the_page_says_it(
    tmp_path: Path, ffmpeg: Program, coded: Coded, example: Path
) -> None:
    rows = []
    for name, (before, after, suffix) in CASES.items():
        row = []
        for options in PAIRS:
            source = coded(codec="hevc", **options).path
            for tag in ((), NO_TAG):
                folder = tmp_path / f"{len(rows)}{len(row)}"
                folder.mkdir()
                path = folder / f"x{suffix}"
                tools.ffmpeg(*before, "-i", source, "-map", 0, "-c", "copy", *after, *tag, path)
                answer = of_three_doors(ffmpeg, path, folder)
                assert of_example(example, path, folder, "bicubic") == answer, name
                row.append(str(answer))
        rows.append(f"| {name} | {' | '.join(row)} |")
    begin, end = "<!-- made by tests/ffmpeg/test_doors.py -->", "<!-- end -->"
    before_it, rest = PAGE.read_text().split(begin)
    head = "| the pair | AI | AI, no tag | RA | RA, no tag |"
    made = "\n".join([head, "|---|---|---|---|---|", *rows])
    page = f"{before_it}{begin}\n{made}\n{end}{rest.split(end)[1]}"
    if os.environ.get("TDS_WRITE_DOCS"):
        PAGE.write_text(page)
    assert PAGE.read_text() == page


def test_all_doors_enhance_by_the_same_model(
    tmp_path: Path, ffmpeg: Program, coded: Coded, example: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that the tag names, with what else it tells the model (QPs); where it is gone, the
    one that is asked for."""
    archive = tmp_path / "fast-k2.pt"
    archive.symlink_to(models.find("fast", 2).path)
    monkeypatch.setenv("TDS_MODEL_PATH", str(tmp_path))
    tagged = coded(codec="hevc", config="ai", model="fast").path
    bare = tmp_path / "bare.mp4"
    tools.ffmpeg("-i", tagged, "-map", 0, "-c", "copy", *FRAGMENTS, *NO_TAG, bare)
    found = {}
    for path, model, option in ((tagged, None, ""), (bare, "fast", "model=fast:")):
        folder = tmp_path / path.stem
        folder.mkdir()
        settings = tds.EnhanceSettings(model=model, device="cpu")
        answers = [of_decoder(tds.decode(path, settings=settings))]
        hr, lr = two_files(path, folder)
        answers.append(of_decoder(tds.enhance(hr, lr, settings=settings)))
        filter = f"tds_enhance={option}device=cpu"
        copy = folder / "x.mp4"
        copy.symlink_to(path)
        answers.append(of_filter(ffmpeg, copy, filter, TDS_MODEL_PATH=str(tmp_path)))
        answers.append(of_example(example, path, folder, *([model] if model else [])))
        assert answers == answers[:1] * 4
        found[path] = answers[0]
    assert {a.model for a in found.values()} == {"fast"}
    assert {a.frames for a in found.values()} == {25}
    plain = of_decoder(tds.decode(bare, settings=BICUBIC_SETTINGS))
    assert len({a.digest for a in (*found.values(), plain)}) == 3


def test_all_doors_refine_hr_pictures_alike(
    tmp_path: Path, ffmpeg: Program, coded: Coded, example: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LR pictures, of a model of contract 1, are made from the refined ones."""
    path = tmp_path / "pair.mp4"
    path.symlink_to(coded(plan="auto", effort=1, model="fast").path)
    for k in (1, 2):
        (tmp_path / f"fast-k{k}.pt").symlink_to(models.find("fast", k).path)
    monkeypatch.setenv("TDS_MODEL_PATH", str(tmp_path))
    with tds.decode(path, device="cpu") as pictures:
        assert {p.status for p in pictures} == {"refined", "enhanced"}
    want = of_decoder(tds.decode(path, device="cpu"))
    assert of_filter(ffmpeg, path, "tds_enhance=device=cpu", TDS_MODEL_PATH=str(tmp_path)) == want
    assert of_example(example, path, tmp_path) == want
    passed = of_decoder(tds.decode(path, device="cpu", hr="pass"))
    assert passed.digest != want.digest and passed.frames == want.frames == 25


def test_all_doors_refuse_the_same(
    tmp_path: Path, ffmpeg: Program, coded: Coded, example: Path
) -> None:
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
        assert of_example(example, path, tmp_path, "bicubic", refusal=says) == "refused"
