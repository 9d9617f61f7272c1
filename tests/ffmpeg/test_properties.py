# SPDX-License-Identifier: LGPL-2.1-or-later
"""What FFmpeg knows about a frame survives: colours, shape, side data; and how it was made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from filter_tools import BICUBIC, Coded, Program

import tools


def shown(ffmpeg: Program, path: Path, *graph: str) -> list[str]:
    """showinfo's lines about the frames the filter gives."""
    route, text = graph or ("-vf", BICUBIC)
    ran = ffmpeg("-v", "info", "-i", path, route, text + ",showinfo", "-f", "null", "-")
    return [line for line in ran.log.splitlines() if "showinfo" in line]


def colours(lines: list[str]) -> set[tuple[str, ...]]:
    """(range, space, primaries, transfer) of all frames."""
    keys = ("color_range", "color_space", "color_primaries", "color_trc")
    found = [line for line in lines if "color_range:" in line]
    assert len(found) == 25
    return {tuple(re.search(rf"{key}:(\S+)", line)[1] for key in keys) for line in found}


def test_status_and_reason(ffmpeg: Program, pair: Path) -> None:
    text = ffmpeg("-i", pair, "-vf", BICUBIC + ",metadata=print:file=-", "-f", "null", "-").output
    status = [line.split("=")[1] for line in text.splitlines() if "tds.status" in line]
    reason = [line.split("=")[1] for line in text.splitlines() if "tds.reason" in line]
    assert status == (["passed"] + ["upsampled"] * 3 + ["passed"]) * 5
    assert reason == (["none"] + ["no-model"] * 3 + ["none"]) * 5


def test_status_with_a_model(ffmpeg: Program, pair: Path, tmp_path: Path) -> None:
    model = tools.tiny_model(tmp_path / "tiny.pt")
    graph = f"tds_enhance=model={model}:device=cpu,metadata=print:file=-"
    text = ffmpeg("-i", pair, "-vf", graph, "-f", "null", "-").output
    assert text.count("status=enhanced") == 15 and text.count("status=passed") == 10


def test_with_no_option_the_model_beside_the_program_is_used(built: Program, pair: Path) -> None:
    if not (built.path.resolve().parents[1] / "share" / "tds" / "models").is_dir():
        pytest.skip("this ffmpeg was built without models: call make install before make ffmpeg")
    ran = built("-i", pair, "-vf", "tds_enhance,metadata=print:file=-", "-f", "null", "-")
    assert ran.output.count("status=enhanced") == 15
    assert "bicubic" not in ran.log


def test_missing_references_are_named(
    ffmpeg: Program, halves: tuple[Path, Path], tmp_path: Path
) -> None:
    hr = tmp_path / "hr.mp4"
    ffmpeg("-copyts", "-i", halves[0], "-t", 0.5, "-c", "copy", "-copyts", hr)
    graph = f"{BICUBIC},metadata=print:file=-"
    text = ffmpeg("-copyts", "-i", hr, "-i", halves[1], "-filter_complex", graph,
                  "-f", "null", "-").output  # fmt: skip
    assert "reason=no-last,no-model" in text


def test_colours_and_shape(ffmpeg: Program, city: Path, coded: Coded, tmp_path: Path) -> None:
    source = tmp_path / "colours.mkv"
    tags = "range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
    graph = f"scale=128:72,setsar=4/3,setparams={tags}"
    tools.ffmpeg("-i", city, "-vf", graph, "-c:v", "ffv1", source)
    path = coded(source, config="ai").path
    lines = shown(ffmpeg, path)
    assert colours(lines) == {("tv", "bt709", "bt709", "bt709")}
    sizes = [re.search(r"sar:(\S+) s:(\S+)", line) for line in lines]
    assert {found.groups() for found in sizes if found} == {("4/3", "128x72")}


@pytest.mark.parametrize("track", [0, 1])
def test_one_aspect_ratio_also_where_one_track_lost_it(
    ffmpeg: Program, pair: Path, track: int
) -> None:
    graph = f"[0:v:{track}]setsar=4/3[a];[0:v:{1 - track}]setsar=0[b];[a][b]{BICUBIC}"
    found = re.findall(
        r"sar:(\S+) s:128x72", "\n".join(shown(ffmpeg, pair, "-filter_complex", graph))
    )
    assert len(found) == 25 and set(found[1:4] if track else found) == {"4/3"}


def test_lr_tags_that_got_lost_come_from_hr(ffmpeg: Program, pair: Path) -> None:
    """And the samples are not converted for it."""
    graph = (
        "[0:v:0]setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709[a];"
        f"[a][0:v:1]{BICUBIC}"
    )
    lines = shown(ffmpeg, pair, "-filter_complex", graph)
    assert {found[1:] for found in colours(lines)} == {("bt709", "bt709", "bt709")}
    assert ffmpeg.frames("-i", pair, "-filter_complex", graph) == ffmpeg.frames(
        "-i", pair, "-vf", BICUBIC
    )


def test_hdr_side_data(ffmpeg: Program, city: Path, tmp_path: Path) -> None:
    """Mastering display and light level stand on every frame, also where only HR had them."""
    params = (
        "log-level=none:master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)"
        "L(10000000,1):max-cll=1000,400"
    )
    hr, lr, pair = tmp_path / "hr.mp4", tmp_path / "lr.mp4", tmp_path / "pair.mp4"
    ffmpeg("-i", city, "-vf", "scale=128:72,select='not(mod(n,4))'", "-fps_mode", "passthrough",
           "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", params, hr)  # fmt: skip
    ffmpeg("-i", city, "-vf", "scale=64:36,select='mod(n,4)'", "-fps_mode", "passthrough",
           "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none",
           "-copyts", lr)  # fmt: skip
    ffmpeg("-copyts", "-i", hr, "-i", lr, "-map", 0, "-map", 1, "-c", "copy", "-copyts",
           "-movie_timescale", 90000, pair)  # fmt: skip
    lines = [line.lower() for line in shown(ffmpeg, pair)]
    for name in ("pts_time:", "side data - mastering display", "side data - content light level"):
        assert sum(name in line for line in lines) == 25


def test_lr_frames_are_no_key_frames(ffmpeg: Program, coded: Coded) -> None:
    """-force_key_frames source must follow the HR stream."""
    path = coded(codec="hevc", config="ai").path
    text = ffmpeg("-v", "info", "-i", path, "-vf", BICUBIC + ",showinfo", "-f", "null", "-").log
    keys = [line.split("iskey:")[1][0] for line in text.splitlines() if "iskey:" in line]
    assert "".join(keys) == "10001" * 5


def test_live_change(ffmpeg: Program, halves: tuple[Path, Path], tmp_path: Path) -> None:
    """on_missing is a run-time option: sent by sendcmd, it takes effect from there on."""
    hr = tmp_path / "hr.mp4"
    ffmpeg("-copyts", "-i", halves[0], "-t", 0.5, "-c", "copy", "-copyts", hr)
    run = ("-copyts", "-i", hr, "-i", halves[1], "-filter_complex")
    command = "sendcmd=c='0 tds_enhance on_missing drop'"
    dropped = ffmpeg.frames(*run, f"[0:v]{command}[a];[a][1:v]{BICUBIC}")
    assert dropped == ffmpeg.frames(*run, BICUBIC + ":on_missing=drop")
    assert len(dropped) < len(ffmpeg.frames(*run, BICUBIC))
