# SPDX-License-Identifier: LGPL-2.1-or-later
"""What tds encode reads: whole and cut files, pipes, names, colours, raw video."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

import tds
import tools
from tds.codecs.ffmpeg_program import FFmpegEncoder
from tds.encoding.settings import EncodeSettings
from tds.encoding.streams import code_plain
from tds.measuring.measure import source_planes
from tds.media.planar import planes_of as planes
from tds.media.sources import VideoSource

FAST = ("--codec", "hevc", "--preset", "ultrafast")


def refused(folder: Path, *arguments: object, says: str, **options: object) -> str:
    """``tds encode`` fails with one sentence and leaves nothing in ``folder``."""
    before = sorted(p.name for p in folder.iterdir())
    done = tools.tds("encode", "--plan", "tds", *arguments, *FAST, status=1, **options)
    assert len(done.stderr.splitlines()) == 1 and says in done.stderr, done.stderr
    assert sorted(p.name for p in folder.iterdir()) == before
    return done.stderr


@pytest.fixture(scope="module")
def sounding(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven frames of H.264 with sound, in Matroska."""
    path = tmp_path_factory.mktemp("sounding") / "av.mkv"
    tools.ffmpeg(
        *("-i", small, "-f", "lavfi", "-i", "sine=440:duration=0.44", "-frames:v", 11),
        *("-c:v", "libx264", "-bf", 0, "-g", 1, "-c:a", "aac", path),
    )
    return path


# ------------------------------------------------------------- whole or not --


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_source_that_was_cut_short_is_refused(
    tmp_path: Path, sounding: Path, suffix: str
) -> None:
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    options = ("-movflags", "faststart") if suffix == ".mp4" else ()
    tools.ffmpeg("-i", sounding, "-c", "copy", *options, whole)
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    line = refused(tmp_path, cut, tmp_path / "o.mp4", says=f"cut{suffix} is cut short")
    assert str(cut.stat().st_size) in line and str(whole.stat().st_size) in line
    with VideoSource(str(whole)) as video:
        assert len(list(video)) == 11 and video.notices == []


def test_an_mp4_with_a_hole_is_refused(tmp_path: Path, sounding: Path) -> None:
    """All bytes are there, but some are zero, as in a download that did not end."""
    hole = tmp_path / "hole.mp4"
    tools.ffmpeg("-i", sounding, "-an", "-c", "copy", "-movflags", "faststart", hole)
    with av.open(str(hole)) as container:
        entries = list(container.streams.video[0].index_entries)[6:9]
    data = bytearray(hole.read_bytes())
    for e in entries:
        data[e.pos : e.pos + e.size] = bytes(e.size)
    hole.write_bytes(data)
    refused(tmp_path, hole, tmp_path / "o.mp4", says="hole.mp4")


@pytest.mark.parametrize("encoder", ["libx264", "libx265"])
def test_a_trimmed_start_is_no_damage(tmp_path: Path, small: Path, encoder: str) -> None:
    """Packets before the cut are there and not shown; with an open GOP some cannot be."""
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    parameters = "open-gop=1:bframes=3:keyint=8:scenecut=0"
    if encoder == "libx265":
        parameters += ":log-level=none"
    tools.ffmpeg("-i", small, "-c:v", encoder, f"-{encoder[3:]}-params", parameters, whole)
    for more in ((), ("-movflags", "frag_keyframe+empty_moov")):
        tools.ffmpeg("-ss", "0.5", "-i", whole, "-c", "copy", *more, cut)
        with VideoSource(str(cut)) as video:
            shown = [frame.pts for frame in video]
        assert shown == sorted(shown) and video.notices == []
        with av.open(str(cut)) as container:
            assert len(shown) < sum(1 for p in container.demux(video=0) if p.size)


def test_a_y4m_that_ends_inside_a_frame_is_said(tmp_path: Path, small: Path) -> None:
    whole, cut = tmp_path / "whole.y4m", tmp_path / "cut.y4m"
    tools.ffmpeg("-i", small, "-frames:v", 5, whole)
    cut.write_bytes(whole.read_bytes()[:-1000])
    for file, notices in ((whole, 0), (cut, 1)):
        with VideoSource(str(file)) as video:
            assert len(list(video)) == 5 - notices
            assert len(video.notices) == notices
    done = tools.tds("encode", "--plan", "tds", cut, tmp_path / "o.mp4", *FAST)
    assert "ends inside a frame" in done.stderr and "after 4 frames" in done.stderr


def test_frames_that_ffmpeg_calls_corrupt_are_said(tmp_path: Path, small: Path) -> None:
    bad = tmp_path / "bad.mkv"
    tools.ffmpeg("-i", small, "-frames:v", 9, "-c:v", "libx264", "-g", 1, "-qp", 20, bad)
    data = bytearray(bad.read_bytes())
    with av.open(str(bad)) as container:
        packet = [p for p in container.demux(video=0) if p.size][4]
        at = data.index(bytes(packet))
        middle = at + packet.size // 2
    data[middle : middle + 40] = bytes(b ^ 0xFF for b in data[middle : middle + 40])
    bad.write_bytes(data)
    result = tds.encode(bad, tmp_path / "o.mp4", codec="hevc", preset="ultrafast", plan="tds")
    assert result.metadata.timeline.frames == 9
    assert any("damaged" in n and "frame 4" in n for n in result.notices)


# --------------------------------------------------------------- read once --


def test_a_fifo_is_read_once(tmp_path: Path, small: Path) -> None:
    y4m, fifo, out = tmp_path / "in.y4m", tmp_path / "fifo.y4m", tmp_path / "o.mp4"
    tools.ffmpeg("-i", small, "-frames:v", 5, y4m)
    os.mkfifo(fifo)
    refused(tmp_path, fifo, out, "--measure", says="fifo.y4m cannot be")
    with subprocess.Popen(["sh", "-c", f"cat {y4m} > {fifo}"]):
        tools.tds("encode", "--plan", "tds", fifo, out, *FAST)
    assert tds.open(out).metadata.timeline.frames == 5  # type: ignore[union-attr]


def test_sound_that_a_pipe_cannot_give_is_said(tmp_path: Path, sounding: Path) -> None:
    out = tmp_path / "o.mp4"
    command = f"{sys.executable} -m tds encode <(cat {sounding}) {out} {' '.join(FAST)}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert "can be read only once" in done.stderr and "audio" in done.stderr
    with sounding.open("rb") as file:
        done = tools.tds("encode", "--plan", "tds", "-", out, "-y", *FAST, stdin=file)
    assert "standard input can be read only once" in done.stderr and "audio" in done.stderr
    refused(tmp_path, "-", tmp_path / "n.mp4", "--measure", says="standard input cannot be")


def test_what_reads_a_pair_more_than_once_says_that_it_reads_no_pipe(tmp_path: Path) -> None:
    done = tools.tds("info", "-", status=1, stdin=subprocess.DEVNULL)
    assert "can be read only once" in done.stderr


# ------------------------------------------------------------------- names --


def test_colons_in_names(tmp_path: Path, sounding: Path) -> None:
    """Relative ones: FFmpeg takes what comes before the colon for a protocol."""
    (tmp_path / "a:b.mkv").write_bytes(sounding.read_bytes())
    (tmp_path / "d:e").mkdir()
    for out in ("o:1.mp4", "d:e/o.mp4"):
        tools.tds("encode", "--plan", "tds", "a:b.mkv", out, *FAST, cwd=tmp_path)
        assert "decodes whole" in tools.tds("info", out, cwd=tmp_path).stdout
        with av.open(str(tmp_path / out)) as container:
            assert len(container.streams.audio) == 1
    tools.tds("decode", "o:1.mp4", "back:1.mkv", "--backend", "bicubic", cwd=tmp_path)
    tools.tds("encode", "--plan", "tds", "a:b.mkv", "o:2.json", *FAST, cwd=tmp_path)
    tools.tds("mux", "o:2.json", "o:3.mp4", cwd=tmp_path)
    assert (tmp_path / "back:1.mkv").is_file() and (tmp_path / "o:3.mp4").is_file()


# ----------------------------------------------------------------- colours --


def mean_colour(path: Path, stream: int) -> NDArray[np.float64]:
    """Red, green and blue as the ffmpeg program shows them."""
    raw = path.with_suffix(f".{stream}.rgb")
    # As exactly as it can: its quick conversion is darker by one code value.
    exact = ("-vf", "scale=flags=accurate_rnd+full_chroma_int+full_chroma_inp", "-pix_fmt", "rgb24")
    tools.ffmpeg("-i", path, "-map", f"0:v:{stream}", *exact, "-f", "rawvideo", raw)
    mean: NDArray[np.float64] = np.fromfile(raw, np.uint8).reshape(-1, 3).mean(0)
    return mean


@pytest.mark.parametrize("pix_fmt", ["gbrp", "bgr0", "gbrp10le"])
def test_rgb_keeps_its_colours(tmp_path: Path, pix_fmt: str) -> None:
    source, out = tmp_path / "rgb.mkv", tmp_path / "o.mp4"
    tools.ffmpeg(
        *("-f", "lavfi", "-i", "color=0xD02040:size=128x72:rate=25", "-frames:v", 5),
        # The noise makes the mean finer than one code value of chroma.
        *("-vf", f"noise=alls=20,format={pix_fmt}", "-c:v", "ffv1", source),
    )
    tds.encode(source, out, codec="hevc", preset="ultrafast", qp=4, plan="tds")
    wanted = mean_colour(source, 0)
    for stream in (0, 1):
        assert np.abs(mean_colour(out, stream) - wanted).max() < 2
        with av.open(str(out)) as container:
            context = container.streams.video[stream].codec_context
            assert (int(context.color_range), int(context.colorspace)) == (1, 1)
    _, coded = next(source_planes(str(source), None))
    depth = 10 if coded[0].dtype == np.uint16 else 8
    y = wanted @ (0.2126, 0.7152, 0.0722) * 219 / 255 + 16
    assert abs(float(coded[0].mean()) / 2 ** (depth - 8) - y) < 1


@pytest.mark.parametrize(("matrix", "range_"), [("bt709", "tv"), ("bt2020nc", "pc")])
def test_tagged_samples_stay_what_they_are(tmp_path: Path, matrix: str, range_: str) -> None:
    """FFmpeg must not convert the LR pictures to what it takes untagged ones for (BT.601)."""
    source, out = tmp_path / "tagged.mkv", tmp_path / "o.mp4"
    tools.ffmpeg(
        *("-f", "lavfi", "-i", "color=0xD02040:size=128x72:rate=25", "-frames:v", 5),
        *("-vf", "format=yuv420p", "-colorspace", matrix, "-color_range", range_),
        *("-c:v", "ffv1", source),
    )
    tds.encode(source, out, codec="hevc", preset="ultrafast", qp=4, plan="tds")
    with av.open(str(source)) as container:
        wanted = [p[0, 0] for p in planes(next(container.decode(video=0)))]
    with av.open(str(out)) as container:
        for stream in container.streams.video:
            frame = next(container.decode(stream))
            container.seek(0)
            got = [float(p.mean()) for p in planes(frame)]
            assert np.abs(np.subtract(got, wanted)).max() <= 1
            assert (int(frame.colorspace), int(frame.color_range)) == (
                {"bt709": 1, "bt2020nc": 9}[matrix], {"tv": 1, "pc": 2}[range_],
            )  # fmt: skip


# --------------------------------------------------------------- raw video --


def test_raw_options_only_for_raw_video(tmp_path: Path, small: Path) -> None:
    out, y4m = tmp_path / "o.mp4", tmp_path / "in.y4m"
    tools.ffmpeg("-i", small, "-frames:v", 3, y4m)
    refused(tmp_path, small, out, "--size", "64x64", says="a .mkv file says itself")
    refused(tmp_path, y4m, out, "--rate", 50, says="has times of its own, so --rate does not")
    refused(tmp_path, y4m, out, "--pix-fmt", "nv12", says="--pix-fmt without --size")


def test_raw_video_of_another_size_than_said(tmp_path: Path, small: Path) -> None:
    out, raw = tmp_path / "o.mp4", tools.raw_yuv(tmp_path / "in.yuv", small, 3)
    refused(tmp_path, raw, out, "--size", "128x72", "--pix-fmt", "foo", says="'foo'")
    with raw.open("ab") as file:
        file.write(bytes(7))
    refused(tmp_path, raw, out, "--size", "128x72", says="7 bytes left over after 3 frames")
    refused(tmp_path, raw, out, "--size", "512x512", says="less than one frame")


# ---------------------------------------------------------------- settings --


def test_measure_and_raw_streams(tmp_path: Path, small: Path) -> None:
    refused(tmp_path, small, tmp_path / "x.json", "--measure", says="asks for raw streams")


@pytest.mark.parametrize(
    "wrong",
    [
        {"qp": 32.5}, {"qp": "32"}, {"qp": True}, {"group": "5"}, {"codec": "vp9"},
        {"scene_cut": "10"}, {"preset": 3}, {"scale": 3}, {"intra_period": 0},
        {"model": "../x", "model_sha256": "0" * 64}, {"model": "x", "model_sha256": "zz"},
    ],
)  # fmt: skip
def test_settings_of_the_wrong_kind_are_refused_before_any_work(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=" "):
        EncodeSettings(**wrong)  # type: ignore[arg-type]


def test_settings_take_values_of_enumerations() -> None:
    settings = EncodeSettings(codec="hevc", qp=np.int64(30))  # type: ignore[arg-type]
    assert settings.adapter().name == "libx265" and type(settings.qp) is int


@pytest.mark.parametrize(("codec", "scale", "least"), [("hevc", 2, 30), ("vvc", 4, 58)])
def test_a_stream_that_is_too_small(
    tmp_path: Path, small: Path, codec: str, scale: int, least: int
) -> None:
    tiny = tmp_path / "tiny.mkv"
    tools.ffmpeg("-i", small, "-frames:v", 3, "-vf", f"scale=64:{least - 2}", tiny)
    with pytest.raises(ValueError, match=rf"LR stream of k = {scale} would be .* needs {least}"):
        tds.encode(tiny, tmp_path / "o.mp4", codec=codec, scale=scale)
    tools.ffmpeg("-i", small, "-frames:v", 3, "-vf", f"scale=64:{least}", tiny)
    tds.encode(
        tiny, tmp_path / "o.mp4", codec=codec, scale=scale, preset=tools.FASTEST[codec], qp=37
    )


def test_an_encoder_s_words_begin_with_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = EncodeSettings(codec="hevc", preset="ultrafast")  # type: ignore[arg-type]
    adapter = settings.adapter()
    assert issubclass(adapter, FFmpegEncoder)
    stream = tds.codecs.StreamSettings(8, 8, 8, Fraction(25), settings.config, 32, "ultrafast")
    encoder = adapter(stream, tmp_path / "o.mp4")
    with pytest.raises(RuntimeError, match=r"libx265 failed .*: Image size is too small \(8x8\)"):
        encoder.write(bytes(stream.frame_bytes))
        encoder.finish()
    encoder.abort()


@pytest.mark.parametrize("config", ["ldp", "ra"])
def test_x265_has_its_own_offsets_between_frame_types(
    tmp_path: Path, small: Path, config: str
) -> None:
    """An I picture beside P or B pictures is coded 3 QPs finer; in all-intra QP is QP."""

    def first_packet(qp: int, of: str) -> int:
        settings = EncodeSettings(codec="hevc", config=of, qp=qp)  # type: ignore[arg-type]
        with VideoSource(str(small)) as video:
            folder = tmp_path / f"{of}-{qp}"
            folder.mkdir()
            coded = code_plain(video, settings, (), folder)
        with av.open(str(coded.segments[0].path)) as container:
            return next(container.demux(video=0)).size

    finer, asked = first_packet(29, "ai"), first_packet(32, "ai")
    assert abs(first_packet(32, config) - finer) < (finer - asked) / 2
