# SPDX-License-Identifier: LGPL-2.1-or-later
"""The filter gives the Python decoder's frames at the Python decoder's times, whatever way
the two streams come in."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from filter_tools import BICUBIC, Coded, Program, decoded

import tds
import tools

GRID = [(c, g, k) for c in ("hevc", "vvc") for g in ("ai", "ldp", "ra") for k in (2, 4)]


@pytest.mark.parametrize(("codec", "config", "scale"), GRID)
def test_codecs(ffmpeg: Program, coded: Coded, codec: str, config: str, scale: int) -> None:
    path = coded(codec=codec, config=config, scale=scale, intra_period=12).path
    want = decoded(path)
    assert ffmpeg.frames("-i", path, "-vf", BICUBIC) == want
    assert ffmpeg.frames("-i", path, "-filter_complex", BICUBIC) == want


@pytest.mark.parametrize("boundaries", ["independent", "shared"])
@pytest.mark.parametrize("group", [3, 7, 11])
def test_groups(ffmpeg: Program, coded: Coded, group: int, boundaries: str) -> None:
    path = coded(config="ldp", group=group, boundaries=boundaries).path
    assert ffmpeg.frames("-i", path, "-vf", BICUBIC) == decoded(path)


@pytest.mark.parametrize("codec", ["hevc", "vvc"])
def test_ten_bit(ffmpeg: Program, city: Path, coded: Coded, tmp_path: Path, codec: str) -> None:
    source = tmp_path / "ten.mkv"
    tools.ffmpeg("-i", city, "-vf", "scale=130:74,format=yuv420p10le,noise=alls=8:allf=t",
                 "-frames:v", 11, "-c:v", "ffv1", source)  # fmt: skip
    path = coded(source, codec=codec, config="ra").path
    assert ffmpeg.frames("-i", path, "-vf", BICUBIC) == decoded(path)


def test_ntsc_rate(ffmpeg: Program, city: Path, coded: Coded, tmp_path: Path) -> None:
    source = tmp_path / "ntsc.mp4"
    rate = ("-r", "30000/1001")
    tools.ffmpeg(*rate, "-i", city, "-vf", "scale=128:72", "-c:v", "libx264", "-qp", 0, "-bf", 0,
                 "-video_track_timescale", 30000, "-frames:v", 24, *rate, source)  # fmt: skip
    path = coded(source, config="ra").path
    frames = ffmpeg.frames("-i", path, "-vf", BICUBIC)
    assert frames == decoded(path)
    assert [time for time, _ in frames] == [Fraction(1001 * i, 30000) for i in range(24)]
    out = tmp_path / "out.mp4"
    ffmpeg("-i", path, "-vf", BICUBIC, "-c:v", "libx264", "-preset", "ultrafast", out)
    about = "stream=r_frame_rate,avg_frame_rate,nb_frames"
    assert "30000/1001,30000/1001,24" in ffmpeg.probe("-show_entries", about, "-of", "csv", out)


def test_variable_rate(ffmpeg: Program, city: Path, coded: Coded, tmp_path: Path) -> None:
    ticks = [0, 40, 80, 130, 131, 200, 240, 300, 333, 366, 400, 500]
    source = tmp_path / "variable.mp4"
    tools.variable_source(source, city, ticks, Fraction(1, 1000))
    path = coded(source, config="ai").path
    frames = ffmpeg.frames("-i", path, "-vf", BICUBIC)
    assert frames == decoded(path)
    assert [time for time, _ in frames] == [Fraction(t, 1000) for t in ticks]


def test_pads_in_any_order(ffmpeg: Program, pair: Path) -> None:
    want = decoded(pair)
    for pads in ("[0:v:0][0:v:1]", "[0:v:1][0:v:0]"):
        assert ffmpeg.frames("-i", pair, "-filter_complex", pads + BICUBIC) == want
    assert ffmpeg.frames("-i", pair, "-map", "0:v:1", "-vf", BICUBIC) == want


def test_two_files(ffmpeg: Program, coded: Coded, halves: tuple[Path, Path]) -> None:
    want = decoded(coded(codec="hevc", config="ai").path)
    for first, second in (halves, halves[::-1]):
        got = ffmpeg.frames("-copyts", "-i", first, "-i", second, "-filter_complex", BICUBIC)
        assert got == want


def test_two_files_shifted_apart_are_noticed(ffmpeg: Program, halves: tuple[Path, Path]) -> None:
    """Without -copyts ffmpeg moves each file's first frame to 0."""
    ran = ffmpeg("-i", halves[0], "-i", halves[1], "-filter_complex", BICUBIC, "-f", "null", "-")
    assert "-copyts" in ran.log


@pytest.mark.parametrize("route", ["-vf", "-filter_complex"])
@pytest.mark.parametrize("start", [0, 8, 9, 11, 12, 13, 20, 23, 24])
@pytest.mark.parametrize("config", ["ra", "ai"])
def test_seek(ffmpeg: Program, coded: Coded, config: str, start: int, route: str) -> None:
    """At random-access points (frame 10, 20) and between them: the frames from there on, as they
    are when the whole video is decoded."""
    path = coded(codec="hevc", config=config, intra_period=8).path
    at = Fraction(start, 25)
    got = ffmpeg.frames("-ss", f"{float(at):.3f}", "-i", path, route, BICUBIC)
    assert got == [(time - at, md5) for time, md5 in decoded(path) if time >= at]


@pytest.mark.parametrize(("start", "length"), [(0, 10), (7, 9), (11, 3)])
def test_seek_and_length(ffmpeg: Program, pair: Path, start: int, length: int) -> None:
    """The last group is rebuilt from the HR frame that lies beyond the end."""
    cut = ("-ss", start / 25, "-t", length / 25)
    got = ffmpeg.frames(*cut, "-i", pair, "-vf", BICUBIC)
    assert [md5 for _, md5 in got] == [md5 for _, md5 in decoded(pair)][start : start + length]


def test_output_options_cut_too(ffmpeg: Program, pair: Path) -> None:
    got = ffmpeg.frames("-i", pair, "-vf", BICUBIC, "-ss", 7 / 25, "-t", 9 / 25)
    assert [md5 for _, md5 in got] == [md5 for _, md5 in decoded(pair)][7:16]


def test_several_outputs(ffmpeg: Program, pair: Path, tmp_path: Path) -> None:
    """Each -vf has the streams for itself, and a track may be copied beside it."""
    a, b, c = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    ffmpeg("-i", pair, "-vf", BICUBIC, "-f", "framemd5", a,
           "-vf", BICUBIC + ",scale=64:36", "-f", "framemd5", b,
           "-map", "0:v:0", "-c", "copy", "-f", "framemd5", c)  # fmt: skip
    md5s = [line.split()[-1] for line in a.read_text().splitlines() if line[0] != "#"]
    assert md5s == [md5 for _, md5 in decoded(pair)]
    count = [sum(line[0] != "#" for line in f.read_text().splitlines()) for f in (a, b, c)]
    assert count == [25, 25, 10]


@pytest.mark.parametrize("tagged", [True, False])
def test_constant_rate_outputs_lose_no_frame(
    ffmpeg: Program, pair: Path, tmp_path: Path, tagged: bool
) -> None:
    """Raw video and images have no times, so ffmpeg makes them at a constant rate: it must be
    told the right one, by the container or, when a remux has lost that, by the times."""
    path = pair
    if not tagged:
        path = tmp_path / "untagged.mp4"
        ffmpeg("-i", pair, "-map", 0, "-c", "copy", path)
        assert "groups" not in ffmpeg.probe("-show_entries", "format_tags", path)
    out = tmp_path / "out.yuv"
    ffmpeg("-i", path, "-vf", BICUBIC, "-f", "rawvideo", out)
    assert out.stat().st_size == 25 * 128 * 72 * 3 // 2
    y4m = tmp_path / "out.y4m"
    ffmpeg("-i", path, "-vf", BICUBIC + ",format=yuv420p,setsar=1", y4m)
    assert b" F25:1 " in y4m.read_bytes()[:80]
    assert len(tools.digests(y4m)) == 25


@pytest.mark.parametrize(
    "rate", ["24000/1001", "24", "25", "30000/1001", "30", "50", "60000/1001", "60", "120"]
)
def test_rate_by_rounded_times(
    ffmpeg: Program, city: Path, coded: Coded, tmp_path: Path, rate: str
) -> None:
    """Milliseconds (a source in Matroska) do not hold most rates. No frame may be lost, and none
    doubled in this second: 30 for 29.97 is good enough for that."""
    source, path = tmp_path / "source.mkv", tmp_path / "untagged.mp4"
    tools.ffmpeg("-r", rate, "-i", city, "-vf", "scale=64:64", "-c:v", "ffv1", "-r", rate, source)
    ffmpeg("-i", coded(source, config="ldp").path, "-map", 0, "-c", "copy", path)
    out = tmp_path / "out.yuv"
    ffmpeg("-i", path, "-vf", BICUBIC, "-f", "rawvideo", out)
    assert out.stat().st_size == 25 * 64 * 64 * 3 // 2


def test_rate_option_wins(ffmpeg: Program, pair: Path, tmp_path: Path) -> None:
    ran = ffmpeg("-i", pair, "-vf", BICUBIC + ":rate=12.5", "-f", "rawvideo", tmp_path / "o.yuv")
    assert "rate=auto" in ran.log
    out = tmp_path / "out.mkv"
    ffmpeg("-i", pair, "-vf", BICUBIC + ":rate=50", "-c:v", "ffv1", out)
    assert len(tools.digests(out)) == 25


def test_nv12(ffmpeg: Program, pair: Path) -> None:
    graph = "[0:v:0]format=nv12[a];[0:v:1]format=nv12[b];[a][b]" + BICUBIC + ",format=yuv420p"
    assert ffmpeg.frames("-i", pair, "-filter_complex", graph) == decoded(pair)


def test_audio_comes_along(ffmpeg: Program, city: Path, coded: Coded, tmp_path: Path) -> None:
    source, out = tmp_path / "sound.mkv", tmp_path / "out.mp4"
    tools.ffmpeg("-i", city, "-f", "lavfi", "-i", "sine=d=1", "-vf", "scale=64:64", "-c:v", "ffv1",
                 "-c:a", "aac", source)  # fmt: skip
    path = coded(source, config="ai").path
    ffmpeg("-i", path, "-vf", BICUBIC, "-c:v", "libx264", "-c:a", "copy", out)
    assert len(tools.digests(out)) == 25

    def packets(file: Path) -> str:
        return ffmpeg("-i", file, "-map", "0:a", "-c", "copy", "-f", "md5", "-").output

    assert packets(out) == packets(path)


def test_model(
    ffmpeg: Program, pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A TorchScript model by file, by name, and as the default for this k: as in Python."""
    model = tools.tiny_model(tmp_path / "fast-k2.pt")
    want = decoded(pair, backend="torchscript", model=str(model), device="cpu")
    assert want != decoded(pair)
    for given in (f"model={model}:device=cpu", "model=fast:device=cpu", "device=cpu"):
        got = ffmpeg.frames("-i", pair, "-vf", "tds_enhance=" + given, TDS_MODEL_PATH=str(tmp_path))
        assert got == want
    ran = ffmpeg("-i", pair, "-vf", "tds_enhance", "-f", "null", "-", TDS_MODEL_PATH=str(tmp_path))
    assert ran.log == ""


def test_model_of_another_k_is_not_taken(ffmpeg: Program, pair: Path, tmp_path: Path) -> None:
    tools.tiny_model(tmp_path / "fast-k4.pt", scale=4)
    ran = ffmpeg("-i", pair, "-vf", "tds_enhance", "-f", "null", "-", TDS_MODEL_PATH=str(tmp_path))
    assert "no model is installed for k = 2" in ran.log


def test_real_clips(ffmpeg: Program, evaluation_clip: Callable[[str], Path], coded: Coded) -> None:
    for name, codec, config in (
        ("davis_breakdance", "vvc", "ra"),
        ("jct_KristenAndSara", "hevc", "ra"),
    ):
        path = coded(evaluation_clip(name), codec=codec, config=config, intra_period=16).path
        assert ffmpeg.frames("-i", path, "-vf", BICUBIC) == decoded(path)


def test_the_command(pair: Path, ffmpeg: Program) -> None:
    """`tds ffmpeg` runs the one that was built."""
    ran = tools.tds("ffmpeg", "-v", "error", "-i", pair, "-vf", BICUBIC, "-an", "-f", "md5", "-",
                    env={**tds_environment(), "TDS_FILTER_FFMPEG": str(ffmpeg.path)})  # fmt: skip
    assert ran.stdout == ffmpeg("-i", pair, "-vf", BICUBIC, "-an", "-f", "md5", "-").output
    missing = {**tds_environment(), "TDS_FILTER_FFMPEG": "/nowhere/ffmpeg"}
    assert "/nowhere/ffmpeg" in tools.tds("ffmpeg", "-version", status=1, env=missing).stderr


def tds_environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(Path(tds.__file__).parent.parent)}
