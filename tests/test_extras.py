# SPDX-License-Identifier: LGPL-2.1-or-later
"""What comes along beside the video, what is left out and why: known before coding."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import av
import pytest

import tds
import tools
from tds.media.extras import Extra, Way, plan_extras
from tds.media.opening import open_container

FAST: dict[str, Any] = {"codec": "hevc", "preset": "ultrafast", "qp": 37}
SINE = ("-f", "lavfi", "-t", 0.5, "-i", "sine=sample_rate=48000")


def with_sound(path: Path, small: Path, codec: str, *more: object) -> Path:
    tools.ffmpeg(
        *("-i", small, *SINE, "-frames:v", 6, "-c:v", "libx264", "-c:a", codec, "-ac", 2),
        *("-strict", -2, *more, path),
    )
    return path


def planned(path: Path, muxer: str) -> list[Extra]:
    with open_container(str(path)) as container:
        video = [container.streams.video[0].index]
        return list(plan_extras(str(path), container, video, muxer).table)


def codecs(path: Path, kind: str) -> list[str]:
    with av.open(str(path)) as container:
        streams = [s for s in container.streams if s.type == kind]
        return [s.codec_context.codec.canonical_name for s in streams]


def samples(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(frame.samples for frame in container.decode(audio=0))


def matrix(path: Path) -> list[float]:
    """a, b, c, d of the first track's header in an MP4 file."""
    data = path.read_bytes()
    at = data.index(b"tkhd") + 4
    at += 4 + (20 if data[at] == 0 else 32) + 16
    return [struct.unpack(">i", data[at + 4 * i : at + 4 * i + 4])[0] / 65536 for i in (0, 1, 3, 4)]


# ------------------------------------------------------------------- sound --


@pytest.mark.parametrize(
    ("encoder", "codec", "kept"),
    [("libmp3lame", "mp3", True), ("dca", "dts", True), ("flac", "flac", True),
     ("libopus", "opus", True), ("pcm_s16le", "pcm_s16le", True),
     ("truehd", "truehd", False), ("wavpack", "wavpack", False)],
)  # fmt: skip
def test_sound_is_copied_or_coded_as_aac_with_a_notice(
    tmp_path: Path, small: Path, encoder: str, codec: str, kept: bool
) -> None:
    source = with_sound(tmp_path / "in.mkv", small, encoder)
    result = tds.encode(source, tmp_path / "o.mp4", **FAST, plan="tds")
    assert codecs(result.path, "audio") == [codec if kept else "aac"]
    if kept:
        assert result.notices == ()
    else:
        notice = f"sound track 0 ({codec}) is coded as aac: mp4 files do not hold it"
        assert result.notices == (notice,)
    more = samples(result.path) - samples(source)
    # AAC's last packet is filled up, unless FFmpeg (since 9) ends it where the edit list does,
    # which counts in the file's ticks: of three samples here, and up to one too few.
    assert abs(more) < 3000 if kept else -3 < more <= 1024


@pytest.mark.parametrize(
    ("muxer", "codec", "way", "encoder"),
    [("webm", "aac", Way.CODE, "libopus"), ("mov", "libopus", Way.CODE, "aac"),
     ("mov", "flac", Way.CODE, "aac"), ("matroska", "truehd", Way.COPY, ""),
     ("webm", "libopus", Way.COPY, ""), ("webm", "pcm_s16le", Way.CODE, "libopus")],
)  # fmt: skip
def test_the_table_knows_other_containers(
    tmp_path: Path, small: Path, muxer: str, codec: str, way: Way, encoder: str
) -> None:
    source = with_sound(tmp_path / "in.mkv", small, codec)
    (row,) = planned(source, muxer)
    assert (row.way, row.encoder) == (way, encoder)
    assert bool(row.fate) == (way is not Way.COPY)


def test_sound_that_changes_its_form_on_the_way_is_coded_anew(tmp_path: Path, small: Path) -> None:
    """A recording that goes from two channels to one at another rate, as broadcasts do."""
    parts = []
    for i, form in enumerate((("-ac", 2, "-ar", 48000), ("-ac", 1, "-ar", 44100))):
        part = tmp_path / f"{i}.mp2"
        tools.ffmpeg(*SINE, "-c:a", "mp2", *form, part)
        parts.append(part.read_bytes())
    (tmp_path / "both.mp2").write_bytes(b"".join(parts))
    source = tmp_path / "in.mkv"
    tools.ffmpeg(
        *("-i", small, "-f", "mp3", "-i", tmp_path / "both.mp2", "-map", 0, "-map", 1),
        *("-c:v", "libx264", "-c:a", "copy", source),
    )
    with open_container(str(source)) as container:
        table = plan_extras(str(source), container, [0], "webm")
    assert [row.encoder for row in table.table] == ["libopus"]
    out = tmp_path / "sound.webm"
    with av.open(str(out), "w") as file:
        for packet in table.add_to(file):
            file.mux(packet)
    assert samples(out) == pytest.approx(48_000, abs=3000)


# ------------------------------------------------------------ other streams --


def test_streams_without_a_decoder_are_left_out_with_a_notice(tmp_path: Path, small: Path) -> None:
    """Apple's spatial sound as a second track, and TTML: FFmpeg knows neither."""
    two, spatial = tmp_path / "two.mp4", tmp_path / "spatial.mp4"
    tools.ffmpeg(
        *("-i", small, *SINE, *SINE, "-map", 0, "-map", 1, "-map", 2, "-frames:v", 6),
        *("-c:v", "libx264", "-c:a", "aac", "-movflags", "+faststart", two),
    )
    data = bytearray(two.read_bytes())
    at = data.rfind(b"mp4a" + bytes(6))
    data[at : at + 4] = b"apac"
    at = data.find(b"esds", at)
    data[at : at + 4] = b"dapa"
    spatial.write_bytes(data)
    (tmp_path / "s.srt").write_text("1\n00:00:00,100 --> 00:00:00,200\nHello\n")
    ttml = tmp_path / "ttml.mp4"
    tools.ffmpeg(
        *("-i", small, "-i", tmp_path / "s.srt", "-frames:v", 6),
        *("-c:v", "libx264", "-c:s", "ttml", ttml),
    )
    for source, sounds, name in ((spatial, ["aac"], "sound track 1"), (ttml, [], "text track 0")):
        result = tds.encode(source, tmp_path / "o.mp4", overwrite=True, **FAST, plan="tds")
        assert codecs(result.path, "audio") == sounds
        (notice,) = result.notices
        assert notice.startswith(f"{name} is left out:") and "no decoder" in notice


def test_what_is_left_behind_is_said(tmp_path: Path, small: Path) -> None:
    cover, font, source = tmp_path / "c.jpg", tmp_path / "f.ttf", tmp_path / "in.mkv"
    tools.ffmpeg("-i", small, "-frames:v", 1, cover)
    font.write_bytes(b"font")
    tools.ffmpeg(
        *("-i", small, "-i", small, *SINE, "-map", "0:v", "-map", "1:v", "-map", 2),
        *("-frames:v", 6, "-c:v", "libx264", "-c:a", "aac", "-metadata:s:a:0", "title=Commentary"),
        *("-attach", cover, "-metadata:s:t:0", "mimetype=image/jpeg"),
        *("-metadata:s:t:0", "filename=cover.jpg", "-attach", font),
        *("-metadata:s:t:1", "mimetype=font/ttf", "-attach", font),
        *("-metadata:s:t:2", "mimetype=font/otf", "-metadata:s:t:2", "filename=g.otf", source),
    )
    early: list[str] = []
    frames_done: list[int] = []

    def on_notice(notice: str) -> None:
        assert not frames_done
        early.append(notice)

    result = tds.encode(
        *(source, tmp_path / "o.mp4"), on_notice=on_notice,
        progress=lambda done, _: frames_done.append(done), **FAST, plan="tds",
    )  # fmt: skip
    assert tuple(early) == result.notices and frames_done
    assert [notice.split(" left out:")[0] for notice in result.notices] == [
        "video track 1 (h264) is",
        "video track 2 (mjpeg, cover.jpg) is",
        "attachment 0 (font/ttf, f.ttf), attachment 1 (font/otf, g.otf) are",
    ]
    assert b"Commentary" in result.path.read_bytes()
    tools.tds("decode", result.path, tmp_path / "back.mp4", "--backend", "bicubic")


def test_sound_in_the_middle_of_a_transport_stream_is_said(tmp_path: Path, small: Path) -> None:
    parts = [tmp_path / "0.ts", tmp_path / "1.ts"]
    filled = ("-i", small, "-c:v", "libx264", "-preset", "ultrafast", "-b:v", "56M",
              "-maxrate", "56M", "-bufsize", "56M",
              "-x264-params", "nal-hrd=cbr:force-cfr=1")  # fmt: skip
    tools.ffmpeg(*filled, parts[0])
    tools.ffmpeg("-f", "lavfi", "-i", "sine=440", *filled, "-c:a", "aac", "-shortest", parts[1])
    source = tmp_path / "in.ts"
    source.write_bytes(b"".join(parts[i].read_bytes() for i in (0, 1, 0)))
    result = tds.encode(source, tmp_path / "o.mp4", codec="hevc", preset="ultrafast", plan="tds")
    assert result.metadata.timeline.frames == 75
    assert [n for n in result.notices if "sound track 0 (aac)" in n and "begins later" in n]


def test_a_time_code_comes_along_as_a_tag(tmp_path: Path, small: Path) -> None:
    """FFmpeg would make a third track of it in the pair; of the decoded video it may."""
    source, back = tmp_path / "in.mov", tmp_path / "back.mov"
    tools.ffmpeg(
        *("-i", small, "-frames:v", 6, "-c:v", "libx264", "-timecode", "01:00:00:00", source),
    )
    result = tds.encode(source, tmp_path / "o.mp4", **FAST, plan="tds")
    assert result.notices == ()
    with av.open(str(result.path)) as container:
        assert [s.type for s in container.streams] == ["video", "video"]
        assert container.metadata["timecode"] == "01:00:00:00"
    assert "decodes whole" in tools.tds("info", result.path).stdout
    tools.tds("decode", result.path, back, "--backend", "bicubic")
    with av.open(str(back)) as container:
        assert container.streams.video[0].metadata["timecode"] == "01:00:00:00"


def test_which_video_is_coded(tmp_path: Path, small: Path) -> None:
    """A thumbnail in front of the video that is meant to be shown; another by its number."""
    source = tmp_path / "in.mkv"
    tools.ffmpeg(
        *("-i", small, "-filter_complex", "[0:v]split[a][b];[a]scale=64:64[c]"),
        *("-map", "[c]", "-map", "[b]", "-frames:v", 6, "-c:v", "libx264"),
        *("-disposition:v:0", 0, "-disposition:v:1", "default", source),
    )
    out = tmp_path / "o.mp4"
    assert tds.encode(source, out, **FAST, plan="tds").metadata.width == 128
    result = tds.encode(source, out, overwrite=True, video_track=0, **FAST, plan="tds")
    assert result.metadata.width == 64
    arguments = ("encode", "--plan", "tds", source, out, "--codec", "hevc", "--video-track")
    done = tools.tds(*arguments, 2, "-y", status=1)
    assert "no video track 2; it has 0 (64x64), 1 (128x72)" in done.stderr
    done = tools.tds(*arguments, 0, "-y", "--measure", "--preset", "ultrafast")
    assert "at 64x64" in done.stdout and "both (HR + LR, enhanced)" in done.stdout


def test_a_pair_is_not_coded_again_unasked(tmp_path: Path, coded: Any) -> None:
    pair = coded().path
    done = tools.tds(
        "encode", "--plan", "tds", pair, tmp_path / "o.mp4", "--codec", "hevc", status=1
    )
    assert "is a TDS pair" in done.stderr and not (tmp_path / "o.mp4").exists()
    result = tds.encode(pair, tmp_path / "o.mp4", video_track=1, **FAST, plan="tds")
    assert result.metadata.width == 64


# ------------------------------------------------------- pictures and text --


@pytest.mark.parametrize("turn", [("-display_hflip",), ("-display_rotation", 90, "-display_hflip")])
def test_a_mirrored_video_stays_mirrored(
    tmp_path: Path, small: Path, turn: tuple[object, ...]
) -> None:
    plain, source = tmp_path / "plain.mp4", tmp_path / "in.mp4"
    tools.ffmpeg("-i", small, "-frames:v", 6, "-c:v", "libx264", plain)
    tools.ffmpeg(*turn, "-i", plain, "-c", "copy", source)
    result = tds.encode(source, tmp_path / "o.mp4", **FAST, plan="tds")
    a, b, c, d = matrix(source)
    assert a * d - b * c < 0
    assert matrix(result.path) == [a, b, c, d]


def test_a_pixel_format_that_changes_on_the_way(tmp_path: Path, small: Path) -> None:
    """Joined streams; ffmpeg converts what comes later to the format of before, too."""
    data = b""
    for i, pix_fmt in enumerate(("yuv420p", "yuv422p", "yuv420p10le")):
        part = tmp_path / f"{i}.ts"
        tools.ffmpeg(
            *("-i", small, "-frames:v", 6, "-c:v", "libx264", "-qp", 10, "-pix_fmt", pix_fmt),
            *("-output_ts_offset", 5 * i, part),
        )
        data += part.read_bytes()
    joined = tmp_path / "joined.ts"
    joined.write_bytes(data)
    result = tds.encode(joined, tmp_path / "o.mp4", group=3, **{**FAST, "qp": 10})
    assert result.metadata.timeline.frames == 18
    shown = tmp_path / "shown.yuv"
    tools.tds("decode", result.path, shown, "--backend", "bicubic")
    size = 128 * 72 * 3 // 2
    pictures = shown.read_bytes()
    first, second, third = (pictures[6 * i * size :][:size] for i in range(3))
    for other in (second, third):
        assert sum(abs(a - b) for a, b in zip(first, other, strict=True)) / size < 3


def test_texts_at_one_time_all_come_along(tmp_path: Path, small: Path) -> None:
    """Muxers take no two packets at one time, and titles often begin together."""
    source = tmp_path / "in.mkv"
    (tmp_path / "s.ass").write_text(
        "[Script Info]\nScriptType: v4.00+\n[V4+ Styles]\n[Events]\n"
        "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
        + "".join(f"Dialogue: 0,0:00:00.10,0:00:00.20,,,0,0,0,,{x}\n" for x in ("One", "Two"))
    )
    tools.ffmpeg(
        *("-i", small, "-i", tmp_path / "s.ass", "-frames:v", 6),
        *("-c:v", "libx264", "-c:s", "ass", source),
    )
    result = tds.encode(source, tmp_path / "o.mp4", **FAST, plan="tds")
    assert [n.split(":")[0] for n in result.notices] == ["text track 0 (ass) is coded as mov_text"]
    with av.open(str(result.path)) as container:
        texts = b"".join(bytes(p) for p in container.demux(subtitles=0))
    assert b"One" in texts and b"Two" in texts


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "avi"])
def test_tags_that_are_not_utf_8(tmp_path: Path, small: Path, suffix: str) -> None:
    source = tmp_path / f"in.{suffix}"
    title = b"title=caf\xe9".decode(errors="surrogateescape")
    tools.ffmpeg("-i", small, "-frames:v", 6, "-c:v", "libx264", "-metadata", title, source)
    result = tds.encode(source, tmp_path / "o.mp4", **FAST, plan="tds")
    with av.open(str(result.path)) as container:
        assert container.metadata["title"] == "caf\ufffd"
    tools.tds("decode", result.path, tmp_path / "back.mkv", "--backend", "bicubic")
