# SPDX-License-Identifier: LGPL-2.1-or-later
"""4:2:2 and 4:4:4 through encoders that code them, enhanced, and out again."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

import av
import numpy as np
import pytest

import tds
import tools
from tds.measuring.gain import measure_gain
from tds.media.planar import planes_of
from tds.targets import Target, encode_to
from test_hdr import BT2020, DISPLAY, LIGHT, looks

FORMS = ["yuv422p", "yuv444p", "yuv422p10le", "yuv444p10le"]


def make(city: Path, folder: Path, pix_fmt: str, frames: int = 9) -> Path:
    """The bundled clip, small; HDR10 where it is of 10 bits."""
    out, raw = folder / f"{pix_fmt}.mkv", folder / f"{pix_fmt}.yuv"
    tools.ffmpeg("-i", city, "-frames:v", frames, "-vf", "scale=128:72", "-pix_fmt", pix_fmt, raw)
    deep = pix_fmt.endswith("10le")
    said = ("-mastering_display", DISPLAY, "-content_light", LIGHT) if deep else ()
    tags = f"setparams={BT2020}:color_trc=smpte2084"
    if not deep:
        tags = "setparams=color_primaries=bt709:colorspace=bt709:range=tv:color_trc=bt709"
    tools.ffmpeg(
        *("-f", "rawvideo", "-pix_fmt", pix_fmt, "-s:v", "128x72", "-framerate", 25, *said),
        *("-i", raw, "-vf", tags, "-c:v", "ffv1", out),
    )
    raw.unlink()
    return out


@pytest.fixture(scope="module")
def sources(city: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("chroma")
    return {name: make(city, folder, name) for name in [*FORMS, "gbrp", "yuv410p"]}


@pytest.mark.parametrize(
    ("pix_fmt", "suffix", "encoder"),
    [
        ("yuv422p", "mp4", "libx265"),
        ("yuv444p", "mkv", "libx265"),
        ("yuv422p10le", "mkv", "libx265"),
        ("yuv444p10le", "mp4", "libx265"),
        ("yuv422p10le", "mp4", "libx264"),
        ("yuv444p", "ts", "libx264"),
    ],
)
def test_a_pair_keeps_format_tags_and_frames_and_its_key_frames_pass(
    sources, tmp_path, pix_fmt, suffix, encoder
):
    source, pair, out = sources[pix_fmt], tmp_path / f"pair.{suffix}", tmp_path / "out.mkv"
    tds.encode(source, pair, encoder=encoder, preset="ultrafast", qp=30, plan="tds")
    said = tools.tds("decode", "--model", "fast", "--vcodec", "ffv1", pair, out).stderr
    assert "(6 enhanced, 3 passed)" in said
    wanted = looks(source)
    assert wanted["fmt"] == pix_fmt
    assert looks(pair, 0) == looks(pair, 1) == looks(out) == wanted
    assert tools.times(out) == tools.times(source)
    with av.open(str(pair)) as container, tds.decode(pair, backend="bicubic") as pictures:
        assert pictures.chroma == int(pix_fmt[3:6])
        hr = container.decode(video=0)
        passed = [p for p in pictures if p.status == "passed"]
        for picture, frame in zip(passed, hr, strict=True):
            for ours, theirs in zip(picture.planes, planes_of(frame), strict=True):
                assert np.array_equal(ours, theirs)


def test_what_a_pair_shows_is_near_its_source_in_every_plane(sources, tmp_path):
    """Also where chroma has samples that 4:2:0 has not."""
    source, pair = sources["yuv444p"], tmp_path / "pair.mp4"
    tds.encode(source, pair, encoder="libx264", preset="ultrafast", qp=20, plan="tds")
    gain = measure_gain(str(source), str(pair), tds.EnhanceSettings(model="fast"))
    for frame in gain.frames:
        assert min(frame.after.y, frame.after.u, frame.after.v) > 30
        assert frame.after.y >= frame.before.y


def test_an_encoder_that_cannot_says_so_once_and_codes_4_2_0(sources, tmp_path):
    pair = tmp_path / "pair.mp4"
    options = ("--codec", "vvc", "--preset", "faster", "--plan", "tds")
    said = tools.tds("encode", sources["yuv422p10le"], pair, *options).stderr
    sentence = "is 4:2:2 and libvvenc codes none of 10 bit: it is coded as 4:2:0; --encoder libx265"
    assert said.count(sentence) == 1
    assert looks(pair)["fmt"] == "yuv420p10le"
    other = tmp_path / "other.mp4"
    told = {"codec": "vvc", "preset": "faster", "plan": "tds"}
    cannot = "libvvenc codes no 10 bit 4:2:2; `encoder` libx265 or libx264 codes it as it is, and "
    with pytest.raises(ValueError, match=f"{cannot}`chroma` 420 makes 4:2:0 of it"):
        tds.encode(sources["yuv422p10le"], other, chroma="source", **told)
    assert not other.exists()
    assert tds.encode(sources["yuv422p10le"], other, chroma="420", **told).notices == ()


@pytest.mark.parametrize(
    ("source", "chroma", "becomes"),
    [
        ("yuv444p", "420", "yuv420p"),
        ("yuv444p", "422", "yuv422p"),
        ("gbrp", "auto", "yuv420p"),
        ("gbrp", "source", "yuv444p"),
        ("yuv410p", "source", "yuv420p"),
    ],
)
def test_another_chroma_can_be_asked_for(sources, tmp_path, source, chroma, becomes):
    out = tmp_path / "out.mp4"
    result = tds.encode(
        sources[source], out, encoder="libx264", preset="ultrafast", plan="plain", chroma=chroma
    )
    assert looks(out)["fmt"] == becomes and result.notices == ()


def test_words_that_are_no_chroma_are_refused():
    with pytest.raises(ValueError, match="no chroma '411'; there are auto, source, 420, 422, 444"):
        tds.EncodeSettings(chroma="411")
    assert tds.EncodeSettings(chroma=422).chroma == "422"  # type: ignore[arg-type]


@pytest.mark.parametrize("plan", ["auto", "plain-enhanced"])
def test_what_is_measured_is_made_in_that_chroma(sources, tmp_path, plan):
    out = tmp_path / "out.mkv"
    result = tds.encode(
        *(sources["yuv422p"], out), encoder="libx265", preset="ultrafast", plan=plan, model="fast"
    )
    assert result.choice is not None
    assert looks(out)["fmt"] == "yuv422p"
    with tds.decode(out) as pictures:
        assert len({p.planes[1].shape for p in pictures}) == 1
        assert (pictures.chroma, pictures[0].planes[1].shape) == (422, (72, 64))


def test_any_video_is_enhanced_as_it_is(sources, tmp_path):
    out = tmp_path / "out.mkv"
    said = tools.tds(
        "enhance", "--model", "fast", "--vcodec", "ffv1", sources["yuv444p10le"], out
    ).stderr
    assert "converted" not in said and "9 refined" in said
    assert looks(out) == looks(sources["yuv444p10le"])


def test_raw_streams_and_raw_pictures(sources, tmp_path):
    """A sidecar's two streams; y4m says its chroma, and FFmpeg reads the same pictures."""
    sidecar = tmp_path / "pair.json"
    tds.encode(sources["yuv422p10le"], sidecar, encoder="libx265", preset="ultrafast", qp=30)
    hr, lr = tmp_path / "pair.hr.265", tmp_path / "pair.lr.265"
    for name in ("out.y4m", "out.mkv"):
        coded = ("--vcodec", "ffv1") if name.endswith("mkv") else ()
        pair = ("--hr", hr, "--lr", lr, "--sidecar", sidecar)
        tools.tds("enhance", "--backend", "bicubic", *pair, tmp_path / name, *coded)
    sums = [
        subprocess.run(
            [tools.FFMPEG, "-v", "error", "-i", tmp_path / name, "-f", "md5", "-"],
            capture_output=True,
            check=True,
        ).stdout
        for name in ("out.y4m", "out.mkv")
    ]
    assert sums[0] == sums[1]
    assert looks(tmp_path / "out.y4m")["fmt"] == "yuv422p10le"


def test_two_streams_of_different_chroma_do_not_belong_together(sources, tmp_path):
    files = []
    for name in ("yuv422p", "yuv444p"):
        files.append(tmp_path / f"{name}.mp4")
        tds.encode(sources[name], files[-1], encoder="libx265", preset="ultrafast", plan="tds")
    mixed = tmp_path / "mixed.mp4"
    tools.ffmpeg(
        *("-i", files[0], "-i", files[1], "-map", "0:v:0", "-map", "1:v:1", "-c", "copy"),
        *("-movflags", "use_metadata_tags", mixed),
    )
    said = tools.tds("decode", mixed, tmp_path / "out.mkv", status=1).stderr
    assert "HR is 4:2:2 and LR is 4:4:4; code both with the same" in said
    assert not (tmp_path / "out.mkv").exists()


def test_info_names_the_chroma(sources, tmp_path):
    out = tmp_path / "out.mp4"
    tds.encode(sources["yuv422p"], out, encoder="libx265", preset="ultrafast", plan="tds")
    facts = json.loads(tools.tds("info", "--json", out).stdout)
    assert {track["chroma"] for track in facts["tracks"].values()} == {"4:2:2"}
    assert "8 bit 4:2:2" in tools.tds("info", out).stdout


def test_targets_are_searched_on_samples_of_that_chroma(sources, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TDS_CACHE", str(tmp_path / "cache"))
    seen = set()

    def look(said: str) -> None:
        seen.update(looks(p)["fmt"] for p in tmp_path.glob("tds-target-*/sample-*.nut"))

    settings = tds.EncodeSettings(encoder="libx264", preset="ultrafast", plan="plain")
    source, out = str(sources["yuv444p"]), tmp_path / "out.mp4"
    encode_to(Target("bitrate", 400), source, str(out), settings, on_trial=look)
    assert seen == {"yuv444p"} == {looks(out)["fmt"]}
