# SPDX-License-Identifier: LGPL-2.1-or-later
"""The filter gives the Python decoder's frames at the Python decoder's times, whatever way
the two streams come in."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from filter_tools import BICUBIC, Coded, Program, decoded, retagged, tag_of

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


def test_two_files_shifted_apart_are_put_right(
    ffmpeg: Program, coded: Coded, halves: tuple[Path, Path]
) -> None:
    """Without -copyts ffmpeg moves each file's first frame to 0."""
    apart = ("-i", halves[0], "-i", halves[1], "-filter_complex", BICUBIC)
    ran = ffmpeg(*apart, "-f", "null", "-")
    assert "0.040 s too early against those of HR; they are moved back" in ran.log
    assert ffmpeg.frames(*apart) == decoded(coded(codec="hevc", config="ai").path)


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


BEHIND = {
    "simple": ("-vf", "null,{}"),
    "both": ("-filter_complex", "[0:v:0]null[a];[0:v:1]null[b];[a][b]{}"),
    "one": ("-filter_complex", "[0:v:0]null,setsar=1[a];[0:v:1][a]{}"),
    "nv12": (
        "-filter_complex",
        "[0:v:0]format=nv12[a];[0:v:1]format=nv12[b];[a][b]{},format=yuv420p",
    ),
}


@pytest.mark.parametrize(("route", "graph"), BEHIND.values(), ids=BEHIND)
def test_seek_with_filters_in_front(
    ffmpeg: Program, pair: Path, tmp_path: Path, route: str, graph: str
) -> None:
    """They change nothing: the frames are exact, also with a model, to which it matters that the
    HR frame before the start is there, and the container is known."""
    model = str(tools.tiny_model(tmp_path / "tiny.pt"))
    given = (route, graph.format(f"tds_enhance=model={model}:device=cpu"))
    want = [md5 for _, md5 in decoded(pair, backend="torchscript", model=model, device="cpu")]
    got = ffmpeg.frames("-ss", 0.48, "-i", pair, *given)
    assert [md5 for _, md5 in got] == want[12:]
    got = ffmpeg.frames("-ss", 0.28, "-t", 0.36, "-i", pair, *given)
    assert [md5 for _, md5 in got] == want[7:16]
    ran = ffmpeg("-v", "verbose", "-i", pair, *given, "-f", "null", "-")
    assert "HR 128x72" in ran.log and "by the time stamps" not in ran.log


def test_what_is_split_in_front_is_cut_as_ever(ffmpeg: Program, pair: Path) -> None:
    """Other filters get no frame from before the start."""
    graph = f"[0:v:0]split[a][b];[a][0:v:1]{BICUBIC}[c];[b]null[d]"
    for pad, other, count in (("[c]", "[d]", 13), ("[d]", "[c]", 5)):
        got = ffmpeg.frames("-ss", 0.48, "-i", pair, "-filter_complex", graph,
                            "-map", other, "-f", "null", "-", "-map", pad)  # fmt: skip
        assert len(got) == count and got[0][0] >= 0


def test_the_hr_input_is_cut_for_both(
    ffmpeg: Program, halves: tuple[Path, Path], coded: Coded
) -> None:
    """Of two files each has options of its own; the last one's must not rule."""
    want = decoded(coded(codec="hevc", config="ai").path)
    for cut, first, last in (
        (("-ss", 0.4, "-t", 0.4), 0.4, 0.8),
        (("-ss", 0.28), 0.28, 9),
        (("-t", 0.6), 0, 0.6),
    ):
        graph = ("-filter_complex", BICUBIC)
        part = [frame for frame in want if first <= float(frame[0]) < last]
        assert ffmpeg.frames("-copyts", *cut, "-i", halves[0], "-i", halves[1], *graph) == part
        assert ffmpeg.frames("-copyts", "-i", halves[1], *cut, "-i", halves[0], *graph) == part
    got = ffmpeg.frames("-copyts", "-t", 0.8, "-i", halves[0], "-t", 0.4, "-i", halves[1],
                        "-filter_complex", BICUBIC)  # fmt: skip
    assert got[-1][0] == Fraction(19, 25) and set(got) <= set(want)


def test_options_of_the_filter_win(ffmpeg: Program, coded: Coded) -> None:
    path = coded(codec="hevc", config="ai").path
    want = decoded(path)
    got = ffmpeg.frames("-ss", 0, "-i", path, "-vf", BICUBIC + ":start_time=0.2")
    assert got == want[5:]
    got = ffmpeg.frames("-t", 0.8, "-i", path, "-vf", BICUBIC + ":duration=0.2")
    assert got == want[:5]
    timeline = {"time_base": "1/25", "frames": 25, "rate": "50", "known": False}
    tag = tag_of(ffmpeg, path, timeline=timeline).replace(":", "\\:")
    ran = ffmpeg("-v", "verbose", "-i", path, "-vf", f"{BICUBIC}:container='{tag}'",
                 "-f", "null", "-")  # fmt: skip
    assert "50 fps" in ran.log


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


AFTER = ["hflip", "vflip", "transpose", "drawbox", "setpts=PTS", "split[a][b];[a][b]blend"]


@pytest.mark.parametrize("after", AFTER)
def test_filters_behind_learn_the_rate(
    ffmpeg: Program, city: Path, coded: Coded, tmp_path: Path, after: str
) -> None:
    """Where it is not 25, which ffmpeg takes when nobody knows."""
    source = tmp_path / "source.mp4"
    rate = ("-r", 50)
    tools.ffmpeg(
        *rate, "-i", city, "-vf", "scale=64:64", "-c:v", "libx264", "-qp", 0, *rate, source
    )
    path = retagged(ffmpeg, coded(source, config="ai").path, tmp_path / "untagged.mp4", None)
    out = tmp_path / "out.yuv"
    ran = ffmpeg("-i", path, "-vf", f"{BICUBIC},{after}", "-f", "rawvideo", out)
    assert out.stat().st_size == 25 * 64 * 64 * 3 // 2
    assert "default value" not in ran.log


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


@pytest.fixture(scope="module")
def with_sound(city: Path, coded: Coded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("sound") / "sound.mkv"
    tools.ffmpeg("-i", city, "-f", "lavfi", "-i", "sine=d=1", "-vf", "scale=64:64", "-c:v", "ffv1",
                 "-c:a", "aac", source)  # fmt: skip
    return coded(source, config="ai").path


@pytest.mark.parametrize("name", ["out.mkv", "out.avi", "out.m4v", "out.mov"])
def test_usual_outputs_need_no_option(
    ffmpeg: Program, with_sound: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / name
    ffmpeg("-i", with_sound, "-vf", BICUBIC, out)
    assert len(tools.digests(out)) == 25
    assert "audio" in ffmpeg.probe("-show_entries", "stream=codec_type", out)


def test_the_result_is_no_tds_file(ffmpeg: Program, with_sound: Path, tmp_path: Path) -> None:
    """One video and the sound, without the tag that describes two; a copy of both keeps it."""
    about = ("-show_entries", "format_tags:stream=codec_type", "-of", "flat")
    given = ("-map", "0:v:0", "-map", "0:a?", "-c:a", "copy")
    out, copy = tmp_path / "out.mkv", tmp_path / "copy.mkv"
    ffmpeg("-i", with_sound, "-vf", BICUBIC, *given, out)
    text = ffmpeg.probe(*about, out)
    assert text.count('"video"') == 1 and text.count('"audio"') == 1
    assert "groups" not in text and "tags.tds" not in text.lower()
    ffmpeg("-i", with_sound, "-map", 0, "-c", "copy", copy)
    assert "groups" in ffmpeg.probe(*about, copy)


def test_audio_comes_along(ffmpeg: Program, with_sound: Path, tmp_path: Path) -> None:
    path, out = with_sound, tmp_path / "out.mp4"
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


def remuxed(ffmpeg: Program, source: Path, out: Path, *arguments: object) -> Path:
    ffmpeg(
        "-i", source, "-map", 0, "-c", "copy", "-movflags", "+use_metadata_tags", *arguments, out
    )
    return out


def test_times_in_milliseconds_and_without_edit_lists(
    ffmpeg: Program, coded: Coded, city: Path, tmp_path: Path
) -> None:
    """Another container's times are rounded, or moved: no frame is made up or lost for that."""
    source = tmp_path / "source.mp4"
    rate = ("-r", "24000/1001")
    tools.ffmpeg(
        *rate, "-i", city, "-vf", "scale=128:72", "-c:v", "libx264", "-qp", 0, *rate, source
    )
    pair = coded(source, codec="hevc", config="ai").path
    want = [md5 for _, md5 in ffmpeg.frames("-i", pair, "-vf", BICUBIC)]
    assert len(want) == 25
    mkv = remuxed(ffmpeg, pair, tmp_path / "a.mkv")
    fragments = remuxed(ffmpeg, pair, tmp_path / "a.mp4", "-use_editlist", 0,
                        "-movflags", "+use_metadata_tags+frag_keyframe+empty_moov")  # fmt: skip
    ts = remuxed(ffmpeg, pair, tmp_path / "a.ts")
    for path in (mkv, fragments, ts):
        assert [md5 for _, md5 in ffmpeg.frames("-i", path, "-vf", BICUBIC)] == want, path


def test_a_part_that_was_cut_out_has_its_own_length(
    ffmpeg: Program, coded: Coded, tmp_path: Path
) -> None:
    pair = coded(codec="hevc", config="ai").path
    part = remuxed(ffmpeg, pair, tmp_path / "part.mp4", "-t", 0.4)
    assert len(ffmpeg.frames("-i", part, "-vf", BICUBIC)) == 10
    assert (
        "so that the video ends early" in ffmpeg("-i", part, "-vf", BICUBIC, "-f", "null", "-").log
    )


def test_a_picture_that_is_missing_is_repeated_and_said(
    ffmpeg: Program, coded: Coded, tmp_path: Path
) -> None:
    pair = coded(codec="hevc", config="ai").path
    hole = remuxed(ffmpeg, pair, tmp_path / "hole.mkv", "-bsf:v:1", r"noise=drop=eq(n\,4)")
    got = ffmpeg.frames("-i", hole, "-vf", BICUBIC)
    assert len(got) == 25
    ran = ffmpeg("-i", hole, "-vf", BICUBIC + ",metadata=print:file=-", "-f", "null", "-")
    assert ran.output.count("status=repeated") == 1
    assert "0 HR and 1 LR pictures of the plan are missing" in ran.log
    assert len(ffmpeg.frames("-i", hole, "-vf", BICUBIC + ":on_missing=drop")) == 24
    ran = ffmpeg("-i", hole, "-vf", BICUBIC + ":on_missing=error", "-f", "null", "-", status=None)
    assert "is missing" in ran.log


def test_without_its_tag_a_shared_pair_plays_at_its_rate(
    ffmpeg: Program, coded: Coded, tmp_path: Path
) -> None:
    """The times of HR alone are those of key frames: 6.25 a second."""
    pair = coded(codec="hevc", config="ai", boundaries="shared").path
    bare = retagged(ffmpeg, pair, tmp_path / "bare.mp4", None)
    ran = ffmpeg("-v", "verbose", "-i", bare, "-vf", BICUBIC, "-f", "null", "-")
    assert "Frame rate by the time stamps: 25/1" in ran.log
