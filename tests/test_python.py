# SPDX-License-Identifier: LGPL-2.1-or-later
"""The package as Python users meet it: names, sequences of pictures, arrays, notebooks, objects."""

from __future__ import annotations

import dataclasses
import inspect
import io
import subprocess
import typing
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tds
import tools
from tds.options import EncodeOptions, EnhanceOptions

Coded = Callable[..., tds.EncodeResult]


def digest(picture: tds.Picture) -> str:
    return tools.digest(list(picture.planes))


# ----------------------------------------------------------------- names --


def test_every_public_name_is_there_and_in_dir():
    for name in tds.__all__:
        assert getattr(tds, name) is not None
    assert set(tds.__all__) <= set(dir(tds))
    assert all(issubclass(getattr(tds, n), tds.TDSError) for n in tds.__all__ if "Error" in n)


def test_enumerations_and_their_values_are_the_same_settings():
    named = tds.EncodeSettings(tds.Codec.HEVC, tds.Config.RA, boundaries=tds.Boundaries.SHARED)
    assert named == tds.EncodeSettings(codec="hevc", config="ra", boundaries="shared")


@pytest.mark.parametrize(
    ("options", "settings"),
    [(EncodeOptions, tds.EncodeSettings), (EnhanceOptions, tds.EnhanceSettings)],
)
def test_typed_keywords_are_the_fields_of_the_settings(options, settings):
    fields = {field.name for field in dataclasses.fields(settings)}
    assert set(options.__annotations__) == fields


def test_a_type_checker_is_told_the_keywords():
    for function, options in (
        (tds.encode, "EncodeOptions"),
        (tds.decode, "EnhanceOptions"),
        (tds.enhance, "EnhanceOptions"),
    ):
        keywords = inspect.signature(function).parameters["options"]
        assert keywords.annotation == f"Unpack[{options}]"


def test_errors_speak_of_arguments_in_python_and_of_options_on_the_command_line(tmp_path, small):
    there = tmp_path / "there.mp4"
    there.touch()
    with pytest.raises(tds.OutputExistsError, match="give `overwrite=True` to replace"):
        tds.encode(small, there, plan="tds")
    assert (
        "give --overwrite to replace"
        in tools.tds("encode", "--plan", "tds", small, there, status=1).stderr
    )
    with pytest.raises(tds.InputError, match=r"leave `encoder` out or give `codec` hevc"):
        tds.EncodeSettings(codec="vvc", encoder="libx265").adapter()
    raw = tmp_path / "a.yuv"
    raw.write_bytes(bytes(100))
    with pytest.raises(tds.TDSError, match=r"give `size` \(and `rate`, `pix_fmt`\)"):
        tds.enhance(raw)


# ------------------------------------------------- pictures as a sequence --


@pytest.fixture(scope="module", params=["ai", "ra", "shared"])
def pair(request: pytest.FixtureRequest, coded: Coded) -> Path:
    """25 pictures: all intra, random access (with an LR stream that has leads), shared."""
    if request.param == "shared":
        return coded(boundaries="shared").path
    return coded(config=request.param, intra_period=10).path


def test_pictures_of_a_pair_by_number_are_those_that_iterating_gives(pair):
    options = {"model": "fast", "device": "cpu"}
    with tds.decode(pair, **options) as pictures:
        whole = [(p.pts, digest(p)) for p in pictures]
    with tds.decode(pair, **options) as pictures:
        assert len(pictures) == len(whole) == 25
        assert list(pictures.times) == [pts for pts, _ in whole]
        for number in (17, 3, 4, 24, 0, -2, 11):
            picture = pictures[number]
            assert (picture.pts, digest(picture)) == whole[number], number
        assert [digest(p) for p in pictures[6:14:3]] == [d for _, d in whole[6:14:3]]
        assert pictures[30:] == []
        with pytest.raises(IndexError, match="no picture 25, of 25"):
            pictures[25]


def test_an_index_does_not_move_the_place_of_iterating(coded):
    with tds.decode(coded().path, backend="bicubic") as pictures:
        first = [next(pictures).pts for _ in range(3)]
        assert pictures[20].pts == pictures.times[20]
        assert [*first, *(p.pts for p in pictures)] == list(pictures.times)
        assert next(pictures, None) is None
        assert pictures[2].pts == first[2]
        assert next(pictures, None) is None


def test_seek_and_times(coded):
    with tds.decode(coded().path, backend="bicubic") as pictures:
        assert pictures.duration == 1
        assert pictures[0.5].pts == pictures[Fraction(1, 2)].pts == pictures.times[12]
        assert [p.pts for p in pictures[0.2:0.4]] == list(pictures.times[5:10])
        pictures.seek(0.96)
        assert [p.pts for p in pictures] == [pictures.times[24]]
        pictures.seek(0)
        assert len([*pictures]) == 25
        pictures.seek(np.int64(20))
        assert next(pictures).pts == pictures.times[20]
        for place, error in ((1.0, IndexError), (-0.1, IndexError), ("a", TypeError)):
            with pytest.raises(error):
                pictures.seek(place)
        with pytest.raises(ValueError, match="forwards"):
            pictures[5:2:-1]


def test_a_plain_file_is_a_sequence_too(city, tmp_path):
    source = tmp_path / "b.mp4"  # with B pictures, an edit list, and a first time above 0
    tools.ffmpeg("-itsoffset", 3, "-i", city, "-vf", "scale=96:64", "-c:v", "libx264", source)
    with tds.enhance(source, model="fast", device="cpu") as pictures:
        whole = [(p.pts, digest(p)) for p in pictures]
    with tds.enhance(source, model="fast", device="cpu") as pictures:
        assert len(pictures) == len(whole)
        for number in (20, 2, 13):
            picture = pictures[number]
            assert (picture.pts, digest(picture)) == whole[number], number
        assert [p.pts for p in pictures[0.0:0.1]] == [pts for pts, _ in whole[:3]]


def test_a_pair_whose_tag_a_remux_dropped_is_a_sequence_too(coded, tmp_path):
    remuxed = tmp_path / "remuxed.mkv"
    source = coded(config="ra", intra_period=10).path
    tools.ffmpeg("-i", source, "-map", "0", "-c", "copy", "-map_metadata", "-1", remuxed)
    with tds.decode(remuxed, backend="bicubic") as pictures:
        whole = [digest(p) for p in pictures]
        assert len(pictures) == len(whole) == 25
        assert [digest(pictures[i]) for i in (22, 7)] == [whole[22], whole[7]]


def test_what_comes_from_a_pipe_is_no_sequence(small):
    with subprocess.Popen(
        [tools.FFMPEG, "-loglevel", "error", "-i", small, "-f", "yuv4mpegpipe", "-"],
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        with tds.enhance(f"/dev/fd/{process.stdout.fileno()}", model="fast") as pictures:
            with pytest.raises(TypeError, match="iterate over them"):
                len(pictures)
            assert len(list(pictures)) == 25


# ------------------------------------------------------- arrays, notebooks --


def test_rgb_is_what_ffmpeg_makes_of_the_same_samples(coded):
    """By the tags of the file; BT.601 where a small video does not say."""
    for matrix, full in (("", False), ("bt709", False), ("bt470bg", True)):
        with tds.decode(coded().path, backend="bicubic") as pictures:
            pictures.session.colors = tds.Colors(matrix, full)
            picture = pictures[0]
        y, u, v = (p.astype(float) for p in picture.planes)
        kr, kb = (0.2126, 0.0722) if matrix == "bt709" else (0.299, 0.114)
        luma = (y / 255) if full else (y - 16) / 219
        cb, cr = ((c - 128) / (255 if full else 224) for c in (u, v))
        big = [c.repeat(2, 0).repeat(2, 1) for c in (cb, cr)]
        red = luma + 2 * (1 - kr) * big[1]
        blue = luma + 2 * (1 - kb) * big[0]
        green = (luma - kr * red - kb * blue) / (1 - kr - kb)
        want = np.clip(np.stack([red, green, blue], -1) * 255, 0, 255)
        rgb = picture.to_rgb()
        assert rgb.shape == (72, 128, 3) and rgb.dtype == np.uint8
        assert abs(rgb - want).mean() < 3  # chroma is interpolated there and repeated here
        assert abs((rgb - want).mean((0, 1))).max() < 0.8


def test_the_colours_of_a_file_go_with_its_pictures(city, tmp_path):
    source = tmp_path / "tagged.mkv"
    tools.ffmpeg("-i", city, "-vf", "scale=64:48", "-frames:v", 3, "-c:v", "libx264",
                 "-colorspace", "bt2020nc", "-color_range", "pc", source)  # fmt: skip
    with tds.enhance(source, model="fast") as pictures:
        assert next(pictures).colors == tds.Colors("bt2020nc", True)


def test_pictures_as_tensors(coded):
    torch = pytest.importorskip("torch")
    with tds.decode(coded().path) as pictures:
        batch = pictures.to_tensor(3, 7)
        assert batch.shape == (4, 3, 72, 128) and batch.dtype == torch.uint8
        assert np.array_equal(batch[1].permute(1, 2, 0).numpy(), pictures[4].to_rgb())
        assert torch.equal(batch[0], pictures[3].to_tensor())
        assert pictures.to_rgb(0.0, 0.1).shape == (3, 72, 128, 3)


def test_notebooks_show_pictures_and_pairs(coded):
    path = coded().path
    with tds.decode(path, backend="bicubic") as pictures:
        png = Image.open(io.BytesIO(pictures[2]._repr_png_()))
        assert png.size == (128, 72) and np.array_equal(np.asarray(png), pictures[2].to_rgb())
        shown = pictures._repr_html_()
        assert "data:image/png;base64," in shown and "25, 1 s" in shown
        assert repr(pictures).startswith("<tds.Decoder 128x72 8 bit, k = 2, 25 frames/s, bicubic")
        assert next(pictures).pts == 0  # being shown took nothing away
    assert repr(pictures).endswith(", closed>")
    with tds.open(path) as file:
        assert repr(file) == (
            f"<tds.PairedFile {str(path)!r} hevc ai QP 37, 25 frames, HR 128x72, LR 64x36>"
        )
        html = file._repr_html_()
        assert html.count("<rect") == 25 and "frame 1: LR" in html


# ----------------------------------------------------------- file objects --


class Stream(io.RawIOBase):
    """What can be read once and has no place to go back to, as an upload."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: typing.Any) -> int:
        return self._data.readinto(buffer)


def test_sources_may_be_file_objects(coded, small, tmp_path):
    path = coded().path
    with tds.decode(path, backend="bicubic") as pictures:
        want = [digest(p) for p in pictures]
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(path, "clip.mp4")
    with zipfile.ZipFile(archive) as opened, open(path, "rb") as plain:
        for source in (
            io.BytesIO(path.read_bytes()),
            Stream(path.read_bytes()),
            opened.open("clip.mp4"),
            plain,
        ):
            with tds.decode(source, backend="bicubic") as pictures:
                assert [digest(p) for p in pictures] == want
                assert digest(pictures[9]) == want[9]
    with tds.open(io.BytesIO(path.read_bytes())) as file:
        assert file.metadata is not None
    result = tds.encode(
        io.BytesIO(small.read_bytes()),
        tmp_path / "o.mp4",
        codec="hevc",
        preset="ultrafast",
        plan="tds",
    )
    assert result.metadata.timeline.frames == 25
    with tds.enhance(io.BytesIO(small.read_bytes()), model="fast") as pictures:
        assert len(pictures) == 25


def test_copies_of_file_objects_go_again(coded, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    data = coded().path.read_bytes()
    with tds.decode(io.BytesIO(data), backend="bicubic") as pictures:
        assert len(list(tmp_path.iterdir())) == 1
        next(pictures)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(tds.InputError):
        tds.decode(io.BytesIO(b"no video"))
    assert list(tmp_path.iterdir()) == []


def test_objects_that_are_no_sources_are_refused_with_a_sentence(small):
    with pytest.raises(tds.InputError, match="text and not bytes"):
        tds.open(io.StringIO("a"))
    read = open(small, "rb")
    with read:
        read.read()
        with pytest.raises(tds.InputError, match=r"no bytes; was it read"):
            tds.enhance(read)
    with pytest.raises(TypeError, match="not int"):
        tds.decode(3)
