# SPDX-License-Identifier: LGPL-2.1-or-later
"""10 bit, PQ and HLG: tags, mastering display and light level travel with the pictures."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import av
import pytest

import tds
import tools

DISPLAY = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
LIGHT = "1000,400"
BT2020 = "color_primaries=bt2020:colorspace=bt2020nc:range=tv"


def make(city: Path, out: Path, transfer: str, *, hdr: bool = True, depth: int = 10) -> Path:
    """Nine frames of the bundled clip, tagged."""
    form = "yuv420p10le" if depth == 10 else "yuv420p"
    tags = f"setparams={BT2020}:color_trc={transfer}"
    if transfer == "bt709":
        tags = "setparams=color_primaries=bt709:colorspace=bt709:range=tv:color_trc=bt709"
    raw = out.with_suffix(".yuv")
    tools.ffmpeg("-i", city, "-frames:v", 9, "-vf", "scale=128:72", "-pix_fmt", form, raw)
    said = ("-mastering_display", DISPLAY, "-content_light", LIGHT) if hdr else ()
    tools.ffmpeg(
        *("-f", "rawvideo", "-pix_fmt", form, "-s:v", "128x72", "-framerate", 25, *said, "-i", raw),
        *("-vf", tags, "-c:v", "ffv1", out),
    )
    return out


@pytest.fixture(scope="module")
def hdr10(city: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(city, tmp_path_factory.mktemp("hdr10") / "hdr10.mkv", "smpte2084")


def looks(path: Path, stream: int = 0) -> dict[str, object]:
    """What FFmpeg's own program says of the first picture of a video stream. Ratios are rounded:
    AV1 and some demuxers count them in other units."""
    command = [tools.FFMPEG, "-hide_banner", "-nostdin", "-i", str(path)]
    command += ["-map", f"0:v:{stream}", "-frames:v", "1", "-vf", "showinfo", "-f", "null", "-"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    shown = said[said.index("[Parsed_showinfo") :]
    found: dict[str, object] = {
        key: re.search(rf"\b{key}:([\w-]+)", shown)[1]  # type: ignore[index]
        for key in ("fmt", "color_range", "color_space", "color_primaries", "color_trc")
    }
    for name in ("mastering display", "content light level", "Content Light Level"):
        if line := re.search(rf"side data - {name}[^:]*: *(.*)", shown, re.IGNORECASE):
            numbers = re.findall(r"\d+\.?\d*", line[1])
            found[name.lower()] = [round(float(n), 3) for n in numbers]
    return found


def test_what_this_looks_at_says_all_there_is(hdr10: Path) -> None:
    seen = looks(hdr10)
    assert seen["color_trc"] == "smpte2084" and seen["fmt"] == "yuv420p10le"
    assert seen["content light level"] == [1000.0, 400.0]
    assert seen["mastering display"][:2] == [1, 1]  # type: ignore[index]


@pytest.mark.parametrize(
    ("codec", "suffix"), [("hevc", "mp4"), ("hevc", "ts"), ("vvc", "mkv"), ("vvc", "ts")]
)
def test_hdr10_travels_through_both_streams_and_out_again(hdr10, tmp_path, codec, suffix):
    """A transport stream holds only what is in the coded stream itself."""
    pair, out = tmp_path / f"pair.{suffix}", tmp_path / "out.mkv"
    preset = tools.FASTEST[codec]
    tds.encode(hdr10, pair, codec=codec, preset=preset, qp=34, plan="tds")
    tools.tds("decode", "--backend", "bicubic", pair, out)
    source = looks(hdr10)
    assert looks(pair, 0) == looks(pair, 1) == looks(out) == source
    assert tools.times(out) == tools.times(hdr10)


@pytest.mark.parametrize(
    "encoder",
    [("mp4",), ("mp4", "libx265", "x265-params=log-level=error"), ("mkv", "ffv1"), ("ts",)]
    + [("mp4", "libsvtav1")],
    ids="-".join,
)
def test_every_container_that_holds_them_gets_them(hdr10, tmp_path, encoder):
    """With every encoder, whether or not it writes them into its stream; sound and times too."""
    source, out = tmp_path / "source.mkv", tmp_path / f"out.{encoder[0]}"
    sound = ("-f", "lavfi", "-i", "sine=d=0.36:r=48000")
    tools.ffmpeg("-i", hdr10, *sound, "-map", "0:v", "-map", "1:a", "-c:v", "copy", source)
    named = [f"--vcodec={encoder[1]}"] if len(encoder) > 1 else []
    option = [f"--vcodec-option={encoder[2]}"] if len(encoder) > 2 else []
    tds.encode(source, tmp_path / "one.mkv", codec="hevc", preset="ultrafast", plan="plain")
    tools.tds("decode", tmp_path / "one.mkv", out, *named, *option)
    assert looks(out) == looks(source)
    begin = tools.times(out)[0] if encoder == ("ts",) else 0  # which has nothing before time 0
    assert [time - begin for time in tools.times(out)] == tools.times(source)
    with av.open(str(out)) as container:
        assert len(container.streams.audio) == 1


def test_hlg_is_enhanced_at_10_bit_and_says_once_what_models_know(city, tmp_path):
    source = make(city, tmp_path / "hlg.mkv", "arib-std-b67", hdr=False)
    out = tmp_path / "out.mp4"
    said = tools.tds("enhance", "--model", "fast", source, out).stderr
    assert said.count("the video is of high dynamic range (HLG), and models were trained on") == 1
    assert looks(out) == looks(source)
    assert looks(out)["color_trc"] == "arib-std-b67" and looks(out)["fmt"] == "yuv420p10le"
    pair = tmp_path / "pair.mp4"
    tds.encode(source, pair, codec="vvc", preset="faster", qp=34, plan="tds")
    assert looks(pair, 0) == looks(pair, 1) == looks(source)
    assert json.loads(tools.tds("info", "--json", pair).stdout)["hdr"] == "HLG"


def test_sdr_with_hdr_metadata_stays_sdr(city, tmp_path):
    """VVenC takes the metadata for the wish to code PQ."""
    source = make(city, tmp_path / "sdr.mkv", "bt709", depth=8)
    pair, out = tmp_path / "pair.mp4", tmp_path / "out.mp4"
    tds.encode(source, pair, codec="vvc", preset="faster", qp=34, plan="tds")
    assert looks(pair, 0) == looks(pair, 1) == looks(source)
    said = tools.tds("decode", pair, out).stderr
    assert "dynamic range" not in said
    assert looks(out) == looks(source)


def test_info_names_them(hdr10, tmp_path):
    file = tmp_path / "one.mp4"
    tds.encode(hdr10, file, codec="hevc", preset="ultrafast", plan="plain")
    facts = json.loads(tools.tds("info", "--json", file).stdout)
    assert facts["hdr"] == "HDR10" and facts["mastering_display"] == DISPLAY
    assert facts["light_level"] == [1000, 400]
    assert facts["colors"] == {
        "range": "tv", "primaries": "bt2020", "transfer": "smpte2084", "matrix": "bt2020nc"
    }  # fmt: skip
    said = tools.tds("info", file).stdout
    assert f"HDR10, tv, bt2020, smpte2084, bt2020nc; mastering display {DISPLAY}; light " in said


def test_an_ffmpeg_that_cannot_take_them_is_told_of(hdr10, tmp_path):
    """As FFmpeg 8 is; the tags still go along."""
    program = tmp_path / "ffmpeg"
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *"-h long"*) "{tools.FFMPEG}" "$@" | grep -v mastering;;\n'
        f'*) exec "{tools.FFMPEG}" "$@";; esac\n'
    )
    program.chmod(0o755)
    out = tmp_path / "out.mp4"
    said = tools.tds(
        *("encode", "--plan", "plain", "--codec", "hevc", "--preset", "ultrafast", hdr10, out),
        env={**os.environ, "TDS_FFMPEG": str(program)},
    ).stderr
    assert "libx265 is not told of the mastering display and light level of the source" in said
    seen = looks(out)
    assert seen["color_trc"] == "smpte2084" and "mastering display" not in seen
