# SPDX-License-Identifier: LGPL-2.1-or-later
"""4:2:2 and 4:4:4 through the filter, and what ffprobe says of source, pair and result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from filter_tools import Program

import tds
import tools
from tds import models

DISPLAY = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
STREAM = ("pix_fmt", "color_range", "color_space", "color_transfer", "color_primaries", "width")


def make(city: Path, out: Path, pix_fmt: str) -> Path:
    """Nine frames; HDR10 at 10 bits."""
    raw, deep = out.with_suffix(".yuv"), pix_fmt.endswith("10le")
    tools.ffmpeg("-i", city, "-frames:v", 9, "-vf", "scale=128:72", "-pix_fmt", pix_fmt, raw)
    name, transfer = ("bt2020", "smpte2084") if deep else ("bt709", "bt709")
    matrix = "bt2020nc" if deep else "bt709"
    hdr = ("-mastering_display", DISPLAY, "-content_light", "1000,400") if deep else ()
    tags = f"setparams=color_primaries={name}:colorspace={matrix}:range=tv:color_trc={transfer}"
    tools.ffmpeg(
        *("-f", "rawvideo", "-pix_fmt", pix_fmt, "-s:v", "128x72", "-framerate", 25, *hdr),
        *("-i", raw, "-vf", tags, "-c:v", "ffv1", out),
    )
    return out


def probed(ffmpeg: Program, path: Path, stream: int = 0) -> dict[str, object]:
    """Format, colours and number of frames, and the HDR metadata of the first one."""
    entries = f"stream={','.join(STREAM)},nb_read_frames:frame_side_data"
    wanted = ("-count_frames", "-show_frames", "-show_entries", entries, "-of", "json")
    said = json.loads(ffmpeg.probe("-select_streams", f"v:{stream}", *wanted, path))
    out = {key: said["streams"][0].get(key) for key in (*STREAM, "nb_read_frames")}
    for side in said["frames"][0].get("side_data_list", ()):
        kind = side.pop("side_data_type")
        if kind in ("Mastering display metadata", "Content light level metadata"):
            # Ratios: demuxers count them in other units.
            values = {k: str(v).split("/") for k, v in side.items()}
            out[kind] = {k: round(int(v[0]) / int((*v, "1")[1]), 3) for k, v in values.items()}
    return out


def picture_sum(path: Path) -> str:
    return tools.ffmpeg("-i", path, "-map", "0:v", "-f", "md5", "-")


@pytest.mark.parametrize(
    ("pix_fmt", "codec", "suffix"),
    [
        ("yuv422p", "hevc", "mp4"),
        ("yuv444p", "hevc", "mkv"),
        ("yuv422p10le", "hevc", "mkv"),
        ("yuv444p10le", "hevc", "mp4"),
        ("yuv420p10le", "hevc", "mp4"),
        ("yuv420p10le", "vvc", "mkv"),
        ("yuv420p10le", "vvc", "mp4"),
    ],
)
def test_what_ffprobe_says_goes_through_the_pair(ffmpeg, city, tmp_path, pix_fmt, codec, suffix):
    """Of HR and LR, of what the filter makes and of what tds decode makes, which are the same."""
    source, pair = make(city, tmp_path / "source.mkv", pix_fmt), tmp_path / f"pair.{suffix}"
    tds.encode(source, pair, codec=codec, preset=tools.FASTEST[codec], qp=32, plan="tds")
    wanted = probed(ffmpeg, source)
    assert (wanted["pix_fmt"], wanted["nb_read_frames"]) == (pix_fmt, "9")
    assert ("Mastering display metadata" in wanted) == pix_fmt.endswith("10le")
    hr, lr = (probed(ffmpeg, pair, stream) for stream in (0, 1))
    assert int(hr.pop("nb_read_frames")) + int(lr.pop("nb_read_frames")) == 9
    of_frames = {"nb_read_frames": "9", "width": 128}
    assert {**hr, **of_frames} == {**lr, **of_frames} == wanted
    shown, decoded = tmp_path / "shown.mkv", tmp_path / "decoded.mkv"
    ffmpeg("-i", pair, "-filter_complex", "tds_enhance=backend=bicubic", "-c:v", "ffv1", shown)
    tools.tds("decode", "--backend", "bicubic", "--vcodec", "ffv1", pair, decoded)
    assert probed(ffmpeg, shown) == probed(ffmpeg, decoded) == wanted
    assert picture_sum(shown) == picture_sum(decoded)


@pytest.mark.parametrize("pix_fmt", ["yuv422p10le", "yuv444p"])
def test_a_model_makes_the_same_of_it_as_tds_enhance(ffmpeg, city, tmp_path, pix_fmt):
    source = make(city, tmp_path / "source.mkv", pix_fmt)
    shown, enhanced = tmp_path / "shown.mkv", tmp_path / "enhanced.mkv"
    model = models.find("fast", 1).path
    ffmpeg("-i", source, "-vf", f"tds_enhance=model={model}", "-c:v", "ffv1", shown)
    tools.tds("enhance", "--model", model, "--vcodec", "ffv1", source, enhanced)
    assert picture_sum(shown) == picture_sum(enhanced) != picture_sum(source)
    assert probed(ffmpeg, shown)["pix_fmt"] == pix_fmt


def test_an_output_of_more_chroma_gets_it_after_the_filter(ffmpeg, city, tmp_path):
    """The model sees 4:2:0 as it is, whatever the encoder wants."""
    out, plain = tmp_path / "out.mkv", tmp_path / "plain.mkv"
    source = make(city, tmp_path / "source.mkv", "yuv420p")
    model = models.find("fast", 1).path
    chain = f"tds_enhance=model={model}"
    ffmpeg("-i", source, "-vf", chain, "-pix_fmt", "yuv444p", "-c:v", "ffv1", out)
    ffmpeg("-i", source, "-vf", f"{chain},format=yuv420p", "-c:v", "ffv1", plain)
    luma = ("-vf", "extractplanes=y", "-f", "md5", "-")
    assert tools.ffmpeg("-i", out, *luma) == tools.ffmpeg("-i", plain, *luma)
