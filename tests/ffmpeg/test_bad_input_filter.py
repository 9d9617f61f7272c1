# SPDX-License-Identifier: LGPL-2.1-or-later
"""What does not fit is said in one sentence with a way out: no crash, no hang, no lost frame."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from filter_tools import BICUBIC, Coded, Program, decoded, retagged, tag_of

import tools

NULL = ("-f", "null", "-")


def one_track(ffmpeg: Program, pair: Path, folder: Path, track: int = 0) -> Path:
    out = folder / f"track{track}.mp4"
    ffmpeg("-i", pair, "-map", f"0:v:{track}", "-c", "copy", out)
    return out


def test_one_track_only(ffmpeg: Program, pair: Path, tmp_path: Path) -> None:
    hr = one_track(ffmpeg, pair, tmp_path)
    ran = ffmpeg("-i", hr, "-vf", BICUBIC + ":inputs=2", *NULL, status=None)
    assert "has 2 inputs, but input file 0 has no more video streams" in ran.log
    assert "no TDS file" in ran.log and "inputs=1" in ran.log
    ran = ffmpeg("-i", hr, "-filter_complex", BICUBIC, *NULL, status=None)
    assert "Cannot find" in ran.log and "tds_enhance" in ran.log
    assert "no TDS file" in ran.log and "inputs=1" in ran.log


@pytest.mark.parametrize("inputs", ["", ":inputs=1"])
def test_one_video_without_a_model_passes(
    ffmpeg: Program, pair: Path, tmp_path: Path, inputs: str
) -> None:
    """A simple graph finds by itself that the file has one video."""
    hr = one_track(ffmpeg, pair, tmp_path)
    assert ffmpeg.frames("-i", hr, "-vf", BICUBIC + inputs) == tools.pictures(hr)
    assert ffmpeg("-i", hr, "-vf", BICUBIC + inputs, *NULL).log == ""
    ran = ffmpeg("-i", hr, "-vf", "tds_enhance=device=auto" + inputs, *NULL)
    assert "no model is installed for k = 1" in ran.log and "Frames pass as they are" in ran.log
    for given in ("fallback=error", "model=fast", "backend=torchscript"):
        ran = ffmpeg("-i", hr, "-vf", f"tds_enhance={given}{inputs}", *NULL, status=None)
        assert "for k = 1" in ran.log


def with_cover(ffmpeg: Program, video: Path, folder: Path) -> Path:
    cover, out = folder / "cover.png", folder / f"cover_{video.name}"
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x64", "-frames:v", 1, cover)
    videos = len(ffmpeg.probe("-select_streams", "v", "-show_entries", "stream=index", "-of",
                              "csv", video).split())  # fmt: skip
    ffmpeg("-i", cover, "-i", video, "-map", "1:v", "-map", "0:v", "-c", "copy",
           f"-disposition:v:{videos}", "attached_pic", out)  # fmt: skip
    return out


@pytest.mark.parametrize("route", ["-vf", "-filter_complex"])
def test_a_cover_is_no_part_of_the_video(
    ffmpeg: Program, pair: Path, tmp_path: Path, route: str
) -> None:
    hr = with_cover(ffmpeg, one_track(ffmpeg, pair, tmp_path), tmp_path)
    if route == "-vf":
        assert len(ffmpeg.frames("-i", hr, route, BICUBIC)) == len(tools.pictures(pair))
    else:
        ran = ffmpeg("-i", hr, route, BICUBIC, *NULL, status=None)
        assert "no TDS file" in ran.log and "are not the HR and LR" not in ran.log
    both = with_cover(ffmpeg, pair, tmp_path)
    assert ffmpeg.frames("-i", both, route, BICUBIC) == decoded(pair)
    if route == "-filter_complex":  # other filters get the cover, as ever
        lone = tmp_path / "lone.mp4"
        ffmpeg("-i", hr, "-map", "0:v:1", "-c", "copy", "-disposition:v", "attached_pic", lone)
        ffmpeg("-i", lone, route, "hflip", *NULL)


def test_two_videos_of_one_size(ffmpeg: Program, pair: Path, city: Path) -> None:
    graph = f"[0:v]scale=128:72,split[a][b];[a][b]{BICUBIC}"
    ran = ffmpeg("-i", city, "-filter_complex", graph, *NULL)
    assert "Both videos are 128x72" in ran.log and "no HR and LR at all" in ran.log
    tag = tag_of(ffmpeg, pair, scale=1).replace(":", "\\:")
    graph += f":container='{tag}'"
    assert "Both videos" not in ffmpeg("-i", city, "-filter_complex", graph, *NULL).log


def test_a_container_names_a_model_never_a_file(
    ffmpeg: Program, pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive is code. Whoever made the video must not choose which is run."""
    monkeypatch.chdir(tmp_path)
    models = tmp_path / "models"
    models.mkdir()
    archive = tools.tiny_model(models / "mine-k2.pt")
    for name in ("evil.pt", "evil.ts", ".evil", "evil"):
        (tmp_path / name).write_bytes(archive.read_bytes())
    want = decoded(pair)

    def tagged(model: str) -> Path:
        tag = tag_of(ffmpeg, pair, model=model)
        return retagged(ffmpeg, pair, tmp_path / "tagged.mp4", tag)

    for name in (str(tmp_path / "evil.pt"), "evil.pt", "evil.ts", "./evil", ".evil",
                 "models/mine-k2.pt", "../models/mine-k2", "evil.safetensors", "a" * 65,
                 "x" * 400, "a b", "-k2"):  # fmt: skip
        log = ffmpeg("-i", tagged(name), "-vf", "tds_enhance", *NULL, status=None).log
        assert "a model's name has letters" in log and "container=none" in log, name
    graph = "tds_enhance=container=none"
    assert ffmpeg.frames("-i", tagged("a b"), "-vf", graph) == want
    for name in ("evil", "mine"):  # a plain name, but of nothing on the path
        path = tagged(name)
        assert ffmpeg.frames("-i", path, "-vf", "tds_enhance") == want
    empty = {"TDS_MODEL_PATH": str(models)}
    assert ffmpeg.frames("-i", path, "-vf", "tds_enhance", **empty) != want
    assert ffmpeg("-i", path, "-vf", "tds_enhance", *NULL, **empty).log == ""
    log = ffmpeg("-i", tagged("gone"), "-vf", "tds_enhance=fallback=bicubic", *NULL, **empty).log
    assert "no model is installed" in log
    tools.tiny_model(models / "fast-k2.pt")
    log = ffmpeg("-i", tagged("gone"), "-vf", "tds_enhance=device=cpu", *NULL, **empty).log
    assert "made for the model gone, which is not here for k = 2; fast is used" in log
    tag = tag_of(ffmpeg, pair, model="mine", model_sha256="0" * 64, strengths=[[0, 25]])
    path = retagged(ffmpeg, pair, tmp_path / "other.mp4", tag)
    log = ffmpeg("-i", path, "-vf", "tds_enhance=device=cpu", *NULL, **empty).log
    assert "another version" in log and "strengths" in log


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"hr_qp": 99}, "hr_qp is 99"),
        ({"tds": 2}, "version 2"),
        ({"scale": 4}, "k = 4, and the sizes of the two videos say 2"),
        ({"groups": [[5, 50]]}, "groups"),
        ({"timeline": {"time_base": "1/25", "frames": 25, "rate": "1e9"}}, "rate"),
    ],
)
def test_a_tag_that_no_reader_takes(
    ffmpeg: Program, pair: Path, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    path = retagged(ffmpeg, pair, tmp_path / "tagged.mp4", tag_of(ffmpeg, pair, **change))
    log = ffmpeg("-i", path, "-vf", BICUBIC, *NULL, status=None).log
    assert says in log and "container=none goes on without it" in log
    assert ffmpeg.frames("-i", path, "-vf", BICUBIC + ":container=none") == decoded(pair)


@pytest.mark.parametrize("size", ["150x90", "48x24", "96x54", "64x38"])
def test_sizes_that_are_no_pair(ffmpeg: Program, city: Path, size: str) -> None:
    graph = f"[0:v]scale=128:72,split[a][b];[b]scale={size}[c];[a][c]{BICUBIC}"
    ran = ffmpeg("-i", city, "-filter_complex", graph, *NULL, status=None)
    large = "150x90" if size == "150x90" else "128x72"
    assert "are not the HR and LR parts of one TDS video" in ran.log
    assert f"to {large} belongs " in ran.log


def test_two_versions_of_one_video_are_noticed(ffmpeg: Program, city: Path) -> None:
    graph = f"[0:v]scale=128:72,split[a][b];[b]scale=64:36[c];[a][c]{BICUBIC}"
    ran = ffmpeg("-i", city, "-filter_complex", graph, *NULL)
    assert "not the parts of one TDS video" in ran.log


@pytest.mark.parametrize("which", ["HR", "LR"])
@pytest.mark.parametrize("route", ["-vf", "-filter_complex"])
def test_size_that_changes(
    ffmpeg: Program, coded: Coded, city: Path, tmp_path: Path, which: str, route: str
) -> None:
    """One stream goes on with that of another video, of twice the size."""
    large = tmp_path / "large.mkv"
    tools.ffmpeg("-i", city, "-vf", "scale=256:144", "-c:v", "ffv1", large)
    videos = [coded(config="ai").path, coded(large, config="ai").path]
    raw = []
    for track, role in enumerate(("HR", "LR")):
        raw.append(tmp_path / f"{role}.hevc")
        with open(raw[-1], "wb") as out:
            for video in videos if role == which else videos[:1]:
                piece = tmp_path / "piece.hevc"
                tools.ffmpeg("-i", video, "-map", f"0:v:{track}", "-c", "copy",
                             *tools.ANNEX_B["hevc"], piece)  # fmt: skip
                out.write(piece.read_bytes())
    joined = tmp_path / "joined.mkv"
    later = "setts=pts=PTS+0.05/TB:dts=DTS+0.05/TB"
    ffmpeg("-r", 10, "-i", raw[0], "-r", 15, "-i", raw[1], "-map", 0, "-map", 1,
           "-c", "copy", "-bsf:v:1", later, "-strict", "-2", joined)  # fmt: skip
    ran = ffmpeg("-i", joined, route, BICUBIC, *NULL, status=None)
    assert f"The {which} video changes from" in ran.log


def test_models_that_do_not_load(ffmpeg: Program, pair: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.pt"
    damaged.write_bytes(b"not an archive" * 100)
    want = decoded(pair)
    for model, said in (
        (str(damaged), "not a TorchScript archive"),
        (str(tmp_path / "nowhere.pt"), "there is no such model file"),
        ("nobody", 'there is no model "nobody" for k = 2'),
        (str(tools.tiny_model(tmp_path / "other.pt", scale=4)), "k = 4"),
    ):
        ran = ffmpeg("-i", pair, "-vf", f"tds_enhance=model={model}", *NULL, status=None)
        assert said in ran.log
        given = f"tds_enhance=model={model}:fallback=bicubic"
        ran = ffmpeg("-i", pair, "-vf", given, *NULL)
        assert said in ran.log and "up-sampled by bicubic" in ran.log
        assert ffmpeg.frames("-i", pair, "-vf", given) == want


def test_no_model_at_all(ffmpeg: Program, pair: Path) -> None:
    """Works, with one warning that says what to do; an error for who wants it so."""
    ran = ffmpeg("-i", pair, "-vf", "tds_enhance", *NULL)
    assert len(ran.log.splitlines()) == 1
    assert "TDS_MODEL_PATH" in ran.log and "backend=bicubic" in ran.log
    ran = ffmpeg("-i", pair, "-vf", "tds_enhance=fallback=error", *NULL, status=None)
    assert "no model is installed" in ran.log
    assert ffmpeg("-i", pair, "-vf", BICUBIC, *NULL).log == ""


def test_device_that_is_not_there(ffmpeg: Program, pair: Path, tmp_path: Path) -> None:
    model = tools.tiny_model(tmp_path / "tiny.pt")
    for device in ("cuda63", r"cuda\\:63", "abacus"):
        given = f"tds_enhance=model={model}:device={device}"
        ran = ffmpeg("-i", pair, "-vf", given, *NULL, status=None)
        assert "cuda:63" in ran.log or "abacus" in ran.log


@pytest.mark.parametrize("rate", ["fast", "0", "-25", "25/0"])
def test_rate_that_is_none(ffmpeg: Program, pair: Path, rate: str) -> None:
    ran = ffmpeg("-i", pair, "-vf", f"{BICUBIC}:rate={rate}", *NULL, status=None)
    assert f"'{rate}' is no frame rate" in ran.log


def ended_early(ffmpeg: Program, path: Path, folder: Path) -> Path:
    out = folder / f"short_{path.name}"
    ffmpeg("-copyts", "-i", path, "-t", 0.5, "-c", "copy", "-copyts", out)
    return out


def test_hr_that_ends_early(
    ffmpeg: Program, halves: tuple[Path, Path], coded: Coded, tmp_path: Path
) -> None:
    want = decoded(coded(codec="hevc", config="ai").path)
    hr = ended_early(ffmpeg, halves[0], tmp_path)
    run = ("-copyts", "-i", hr, "-i", halves[1], "-filter_complex")
    got = ffmpeg.frames(*run, BICUBIC)
    lr_times = {time for time, _ in tools.pictures(halves[1])}
    hr_times = {time for time, _ in tools.pictures(hr)}
    assert [time for time, _ in got] == sorted(lr_times | hr_times)
    assert set(got) <= set(want)  # bicubic needs no neighbour
    assert "LR frames lacked the HR frame" in ffmpeg(*run, BICUBIC, *NULL).log
    got = ffmpeg.frames(*run, BICUBIC + ":on_missing=drop")
    assert [time for time, _ in got] == sorted(
        hr_times | {time for time in lr_times if time < max(hr_times)}
    )
    ran = ffmpeg(*run, BICUBIC + ":on_missing=error", *NULL, status=None)
    assert "has no HR picture after it" in ran.log


def test_lr_that_ends_early(
    ffmpeg: Program, halves: tuple[Path, Path], coded: Coded, tmp_path: Path
) -> None:
    want = decoded(coded(codec="hevc", config="ai").path)
    lr = ended_early(ffmpeg, halves[1], tmp_path)
    run = ("-copyts", "-i", halves[0], "-i", lr, "-filter_complex")
    times = {t for half in (halves[0], lr) for t, _ in tools.pictures(half)}
    assert ffmpeg.frames(*run, BICUBIC) == [frame for frame in want if frame[0] in times]
    assert "The LR video ends early" in ffmpeg(*run, BICUBIC, *NULL).log
    ran = ffmpeg(*run, BICUBIC + ":on_missing=error", *NULL, status=None)
    assert "The LR video has ended" in ran.log


def test_halves_of_two_videos(
    ffmpeg: Program, halves: tuple[Path, Path], city: Path, coded: Coded, tmp_path: Path
) -> None:
    """Of one size but with other times: nothing is lost, and it is said."""
    other = tmp_path / "other.mp4"
    source = tmp_path / "source.mp4"
    small = tmp_path / "small.mkv"
    tools.ffmpeg("-i", city, "-vf", "scale=128:72", "-c:v", "ffv1", small)
    tools.variable_source(source, small, [1001 * i for i in range(25)], Fraction(1, 30000))
    ffmpeg("-copyts", "-i", coded(source, config="ai").path, "-map", "0:v:1", "-c", "copy",
           "-copyts", "-movie_timescale", 90000, other)  # fmt: skip
    run = ("-copyts", "-i", coded(codec="hevc", config="ai").path, "-i", other)
    ran = ffmpeg(*run, "-filter_complex", f"[0:v:0][1:v]{BICUBIC}", *NULL)
    assert "parts of one TDS video" in ran.log


def test_damaged_file(ffmpeg: Program, pair: Path, tmp_path: Path) -> None:
    """What the decoders still give comes out, each frame once."""
    damaged = tmp_path / "damaged.mp4"
    data = bytearray(pair.read_bytes())
    middle = len(data) * 2 // 3
    data[middle : middle + 400] = bytes(400)
    damaged.write_bytes(data)
    ran = ffmpeg("-i", damaged, "-vf", BICUBIC, "-f", "framemd5", tmp_path / "out.md5")
    rows = [r for r in (tmp_path / "out.md5").read_text().splitlines() if r[0] != "#"]
    times = [int(row.split(",")[2]) for row in rows]
    assert times == sorted(set(times)) and 8 < len(times) <= 25, ran.log


def test_help_names_every_option(ffmpeg: Program) -> None:
    text = ffmpeg("-h", "filter=tds_enhance").output
    for option in ("model", "device", "backend", "precision", "rate", "on_missing", "fallback"):
        assert f"\n   {option} " in text
    for value in ("enhance", "drop", "error", "bicubic", "torchscript", "float16"):
        assert f"\n     {value} " in text
