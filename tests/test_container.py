# SPDX-License-Identifier: LGPL-2.1-or-later
"""The paired file as everybody else sees it: ordinary tracks, real configurations."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest

import tds
import tools
from tds import models
from tds.container.annexb import to_mp4
from tds.plan import Role

Coded = Callable[..., tds.EncodeResult]
PAIRS = [(codec, config) for codec in ("hevc", "vvc") for config in ("ai", "ldp", "ra")]


def frame_types(path: Path, stream: int) -> str:
    """I, P and B of each picture in display order, by FFmpeg's own decoder."""
    done = subprocess.run(
        [tools.FFMPEG, "-hide_banner", "-i", path, "-map", f"0:v:{stream}", "-vf", "showinfo"]
        + ["-f", "null", "-"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return "".join(re.findall(r"\btype:([IPB])\b", done.stderr))


@pytest.mark.parametrize(("codec", "config"), PAIRS)
def test_tracks_taken_out_by_ffmpeg_decode_to_the_same_pictures(
    tmp_path: Path, coded: Coded, codec: str, config: str
) -> None:
    result = coded(codec=codec, config=config, intra_period=12)
    for stream in (0, 1):
        alone = tmp_path / f"{stream}.mp4"
        tools.ffmpeg("-i", result.path, "-map", f"0:v:{stream}", "-c", "copy", alone)
        raw = tmp_path / f"{stream}.{codec}"
        tools.ffmpeg(
            "-i", result.path, "-map", f"0:v:{stream}", "-c", "copy", *tools.ANNEX_B[codec], raw
        )
        inside = tools.digests(result.path, stream)
        assert tools.digests(alone) == inside
        assert tools.digests(raw) == inside


@pytest.mark.parametrize(("codec", "config"), PAIRS)
def test_a_plain_player_shows_the_hr_track(coded: Coded, codec: str, config: str) -> None:
    result = coded(codec=codec, config=config, intra_period=12)
    out = tools.ffmpeg("-i", result.path, "-fps_mode", "passthrough", "-f", "framemd5", "-")
    shown = [line for line in out.splitlines() if line and line[0] != "#"]
    assert len(shown) == result.hr.frames
    assert "128x72" in out
    with av.open(str(result.path)) as container:
        hr, lr = container.streams.video
        assert hr.disposition & hr.disposition.default
        assert not lr.disposition & lr.disposition.default
        tag = {"hevc": "hvc1", "vvc": "vvc1"}[codec]
        assert [s.codec_context.codec_tag for s in (hr, lr)] == [tag, tag]
        assert (hr.metadata["handler_name"], lr.metadata["handler_name"]) == ("TDS HR", "TDS LR")


@pytest.mark.parametrize(("codec", "config"), PAIRS)
def test_configurations_are_what_they_are_called(coded: Coded, codec: str, config: str) -> None:
    result = coded(codec=codec, config=config, intra_period=12)
    for stream in (0, 1):
        types = frame_types(result.path, stream)
        if config == "ai":
            assert set(types) == {"I"}
        elif config == "ldp":
            assert types == "I" + "P" * (len(types) - 1)
        else:
            assert types.count("I") == len(result.restarts) and "B" in types


@pytest.mark.parametrize("codec", ["hevc", "vvc"])
def test_random_access_points_of_both_streams_are_aligned(coded: Coded, codec: str) -> None:
    result = coded(codec=codec, config="ra", intra_period=8)
    assert len(result.restarts) == 3  # frames 0, 10, 20 of 25
    base = result.metadata.timeline.time_base
    with av.open(str(result.path)) as container:
        for stream in container.streams.video:
            container.seek(0)
            keys = [
                p.pts * Fraction(stream.time_base)
                for p in container.demux(stream)
                if p.size and p.is_keyframe
            ]
            assert keys == sorted(t * base for t in result.restarts)


@pytest.mark.parametrize("codec", ["hevc", "vvc"])
def test_the_lr_stream_of_ldp_and_ra_starts_with_the_down_sampled_boundary(
    coded: Coded, codec: str
) -> None:
    for config, leads in (("ai", 0), ("ldp", 1), ("ra", 3)):
        result = coded(codec=codec, config=config, intra_period=8)
        lr = [role for role in result.metadata.roles() if role is Role.LR]
        assert result.lr.frames == len(lr) + leads
        assert len(result.metadata.lead_times()) == leads


def test_qps_are_fixed_and_the_lr_offset_is_applied(coded: Coded) -> None:
    coarse = coded(codec="vvc", qp=32, lr_qp_offset=5)
    plain = coded(codec="vvc", qp=32)
    assert (coarse.metadata.hr_qp, coarse.metadata.lr_qp) == (32, 37)
    assert coarse.hr.bits == plain.hr.bits
    assert coarse.lr.bits < 0.8 * plain.lr.bits


def test_a_remux_that_drops_the_metadata_still_pairs(tmp_path: Path, coded: Coded) -> None:
    result = coded(codec="hevc")
    stripped = tmp_path / "stripped.mp4"
    tools.ffmpeg("-i", result.path, "-map", 0, "-c", "copy", "-map_metadata", -1, stripped)
    assert tds.open(stripped).metadata is None
    with (
        tds.decode(stripped, backend="bicubic") as a,
        tds.decode(result.path, backend="bicubic") as b,
    ):
        assert [tools.digest(p.planes) for p in a] == [tools.digest(p.planes) for p in b]


def test_a_remux_that_keeps_the_metadata_is_the_same_file(tmp_path: Path, coded: Coded) -> None:
    result = coded(codec="hevc", config="ra")
    copy = tmp_path / "copy.mp4"
    tools.ffmpeg(
        *("-i", result.path, "-map", 0, "-c", "copy", "-movflags", "use_metadata_tags"),
        *("-movie_timescale", 16000, copy),
    )
    assert tds.open(copy).metadata == result.metadata


@pytest.fixture(scope="module")
def rich_source(tmp_path_factory: pytest.TempPathFactory, city: Path) -> Path:
    """A source with all that should come along, in Matroska with what MP4 cannot hold as it is."""
    folder = tmp_path_factory.mktemp("rich")
    (folder / "s.srt").write_text("1\n00:00:00,200 --> 00:00:00,600\nHello, city\n")
    (folder / "chapters.txt").write_text(
        ";FFMETADATA1\ntitle=City at night\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=500\n"
        "title=One\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=500\nEND=1000\ntitle=Two\n"
    )
    plain, path = folder / "plain.mp4", folder / "rich.mkv"
    tools.ffmpeg(
        *("-i", city, "-f", "lavfi", "-i", "sine=440:duration=1", "-i", folder / "s.srt"),
        *("-i", folder / "chapters.txt", "-map", "0:v", "-map", "1:a", "-map", "2:s"),
        *("-map_metadata", 3, "-map_chapters", 3, "-c:v", "libx264", "-crf", 20),
        *("-vf", "scale=128:72,setparams=range=tv:color_primaries=bt709:color_trc=bt709:"
                 "colorspace=bt709,setsar=4/3"),
        *("-c:a", "aac", "-c:s", "mov_text", "-metadata:s:a:0", "language=deu", plain),
    )  # fmt: skip
    tools.ffmpeg(
        *(
            "-display_rotation:v:0",
            90,
            "-i",
            plain,
            "-map",
            "0:v",
            "-map",
            "0:a",
            "-map",
            "0:s",
            "-c",
            "copy",
            "-c:s",
            "srt",
            path,
        )
    )
    return path


def audio_packets(path: Path, heard: bool = False) -> list[bytes]:
    """heard: only those at or after time 0; Matroska has no place for others."""
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(audio=0) if p.size and p.pts is not None]
        return [bytes(p) for p in packets if p.pts >= 0 or not heard]


def first_frame(path: Path) -> av.VideoFrame:
    with av.open(str(path)) as container:
        return next(container.decode(video=0))


@pytest.mark.parametrize("codec", ["hevc", "vvc"])
def test_everything_beside_the_video_comes_along(
    tmp_path: Path, rich_source: Path, codec: str
) -> None:
    result = tds.encode(
        rich_source, tmp_path / "out.mp4", codec=codec, preset=tools.FASTEST[codec], plan="tds"
    )
    assert result.notices == ()
    tools.tds("decode", result.path, tmp_path / "back.mkv", "--backend", "bicubic")
    for path in (result.path, tmp_path / "back.mkv"):
        with av.open(str(path)) as container:
            assert container.metadata["title"] == "City at night"
            assert [c["metadata"]["title"] for c in container.chapters()] == ["One", "Two"]
            assert len(container.streams.subtitles) == 1
            assert container.streams.audio[0].language == "deu"
            assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
        assert audio_packets(path) == audio_packets(rich_source, heard=path.suffix == ".mkv")
        frame = first_frame(path)
        assert (frame.color_range, frame.color_primaries, frame.color_trc, frame.colorspace) == (
            1, 1, 1, 1,
        )  # fmt: skip
        assert frame.rotation == first_frame(rich_source).rotation != 0
    with tds.decode(result.path, backend="bicubic") as pictures:
        assert [p.pts * pictures.time_base for p in pictures] == tools.times(rich_source)


def test_full_range_stays_full_range(tmp_path: Path, city: Path) -> None:
    source = tmp_path / "full.mkv"
    tools.ffmpeg(
        *("-i", city, "-frames:v", 5, "-vf", "scale=128:72:out_range=pc,format=yuvj420p"),
        *("-c:v", "mjpeg", "-q:v", 2, source),
    )
    result = tds.encode(
        source, tmp_path / "out.mp4", codec="hevc", qp=1, preset="ultrafast", plan="tds"
    )
    with av.open(str(source)) as a, av.open(str(result.path)) as b:
        x, y = next(a.decode(video=0)), next(b.decode(video=0))
        assert y.color_range == 2
        difference = abs(x.to_ndarray().astype(int) - y.to_ndarray().astype(int))
        assert difference.mean() < 1  # a change of range would move luma by up to 16


def test_other_formats_become_planar(tmp_path: Path, city: Path) -> None:
    for pix_fmt in ("yuv444p", "rgb24", "nv12", "yuv422p10le", "gray"):
        source = tmp_path / f"{pix_fmt}.nut"
        tools.ffmpeg(
            *("-i", city, "-frames:v", 5, "-vf", f"scale=64:64,format={pix_fmt}"),
            *("-c:v", "rawvideo", source),
        )
        result = tds.encode(source, tmp_path / "o.mp4", codec="hevc", preset="ultrafast",
                            overwrite=True, plan="tds")  # fmt: skip
        assert tds.open(result.path).hr.bit_depth == (10 if "10" in pix_fmt else 8)


def test_info_tells_what_is_in_a_file(coded: Coded) -> None:
    result = coded(codec="vvc", config="ra", qp=37, intra_period=12)
    facts = json.loads(tools.tds("info", "--json", result.path).stdout)
    assert facts["frames"] == 25 and facts["scale"] == 2 and facts["config"] == "ra"
    assert facts["qp"] == {"hr": 37, "lr": 37} and facts["whole"]
    assert facts["plan"]["sizes"] == [[5, 5]]
    assert facts["decodes"]["hr"]["pictures"] == facts["tracks"]["hr"]["packets"] == 10
    assert "libvvenc" in facts["encoder"]
    text = tools.tds("info", result.path).stdout
    assert "decodes whole" in text and "N = 5, independent boundaries, 5 groups" in text


def test_info_counts_groups_of_one_size_together(coded: Coded) -> None:
    """The first one of a scene stands apart in the tag, where groups share their boundaries."""
    path = coded(config="ai", boundaries="shared").path
    assert "6 groups (6 of 5 frames)" in tools.tds("info", path).stdout


def test_info_tells_the_model_a_file_names(tmp_path: Path, small: Path) -> None:
    here = next(m for m in models.available(2) if m.name == "fast")
    for digest, words in ((None, "installed here"), ("ab" * 32, "not installed here")):
        tds.encode(small, tmp_path / "o.mp4", codec="hevc", preset="ultrafast", model="fast",
                   model_sha256=digest, overwrite=True, plan="tds")  # fmt: skip
        start = (digest or here.sha256)[:16]
        text = tools.tds("info", "--no-decode", tmp_path / "o.mp4").stdout
        assert f"fast suggested, sha256 {start}..., {words}" in text
        facts = json.loads(tools.tds("info", "--no-decode", "--json", tmp_path / "o.mp4").stdout)
        assert facts["model"]["installed"] is (digest is None)


@pytest.mark.parametrize("config", ["ai", "ra"])
def test_raw_hevc_is_muxed_as_hvc1(tmp_path: Path, small: Path, config: str) -> None:
    """Its parameter sets are the same all along, so MP4 has them once, beside the pictures."""
    sidecar, out = tmp_path / "y.json", tmp_path / "o.mp4"
    tds.encode(
        small, sidecar, codec="hevc", preset="ultrafast", config=config, intra_period=12, plan="tds"
    )
    tools.tds("mux", sidecar, out)
    with av.open(str(out)) as container:
        assert [s.codec_context.codec_tag for s in container.streams.video] == ["hvc1", "hvc1"]
        for packet in container.demux(video=0):
            data, at = bytes(packet), 0
            while at < len(data):
                assert data[at + 4] >> 1 & 63 not in (32, 33, 34)
                at += 4 + int.from_bytes(data[at : at + 4], "big")
    for i, role in enumerate(("hr", "lr")):
        assert tools.digests(out, i) == tools.digests(tmp_path / f"y.{role}.265")


def test_parameter_sets_that_change_stay_between_the_pictures(tmp_path: Path, city: Path) -> None:
    """hvc1 would leave the second half without its own."""
    halves = []
    for ctu in (16, 32):
        halves.append(tmp_path / f"{ctu}.265")
        tools.ffmpeg("-i", city, "-frames:v", 3, "-vf", "scale=128:72", "-c:v", "libx265",
                     "-x265-params", f"ctu={ctu}:log-level=none:keyint=1", halves[-1])  # fmt: skip
    raw, mp4 = tmp_path / "both.265", tmp_path / "both.mp4"
    raw.write_bytes(b"".join(h.read_bytes() for h in halves))
    to_mp4(raw, mp4, 6, "x265")
    with av.open(str(mp4)) as container:
        assert container.streams.video[0].codec_context.codec_tag == "hev1"
    assert tools.digests(mp4) == [d for h in halves for d in tools.digests(h)]


def test_doctor_finds_what_the_demo_needs() -> None:
    out = tools.tds("doctor").stdout
    for name in ("decoder vvc", "decoder hevc", "encoder libvvenc", "encoder libx265"):
        assert f"ok  {name}" in out


def test_text_of_a_file_does_not_reach_the_terminal_as_it_is(tmp_path: Path, coded: Coded) -> None:
    """A preset that clears the line, fakes another one and sets the window's title."""
    source, evil = coded(codec="hevc").path, tmp_path / "evil\x1b[2Jname.mp4"
    fake = "fast\x1b[2K\r  decodes whole\n  yes\x1b]0;title\x07\u202e\x9b1m"
    with av.open(str(source)) as file:
        tag = json.loads(file.metadata["tds"])
    tag.update(preset=fake, encoder=fake, codec=fake, config=fake)
    tools.ffmpeg(
        *("-i", source, "-map", 0, "-c", "copy", "-movflags", "use_metadata_tags"),
        *("-metadata", f"tds={json.dumps(tag)}", "-movie_timescale", 16000, evil),
    )
    for done in (
        tools.tds("info", "--no-decode", evil),
        tools.tds("info", tmp_path / "no\x1b[2Jsuch.mp4", status=1),
        tools.tds("decode", evil, tmp_path / "o.y4m", "--backend", "bicubic"),
    ):
        shown = done.stdout + done.stderr
        assert "\\x1b[2" in shown or not done.stdout
        assert all(c.isprintable() or c == "\n" for c in shown), repr(shown)
        assert "\n  decodes whole\n" not in shown


@pytest.mark.parametrize(
    ("sound", "name", "codec"),
    [("aac", "o.webm", "opus"), ("libopus", "o.mov", "aac"), ("aac", "o.mkv", "aac")],
)
def test_sound_that_a_container_does_not_hold_is_coded_anew(
    tmp_path: Path, city: Path, sound: str, name: str, codec: str
) -> None:
    source, paired = tmp_path / "s.mkv", tmp_path / "p.mp4"
    tools.ffmpeg(
        *("-i", city, "-f", "lavfi", "-i", "sine=440:duration=1:sample_rate=48000", "-c:v", "ffv1"),
        *("-vf", "scale=128:72", "-c:a", sound, source),
    )
    tds.encode(source, paired, codec="hevc", preset="ultrafast", plan="tds")
    done = tools.tds("decode", paired, tmp_path / name, "--backend", "bicubic")
    with av.open(str(tmp_path / name)) as container:
        assert container.streams.audio[0].codec_context.codec.canonical_name == codec
        heard = sum(frame.samples for frame in container.decode(audio=0))
    assert abs(heard - 48000) < 3000
    assert tools.times(tmp_path / name) == tools.times(source)
    assert ("files do not hold it" in done.stderr) == (name != "o.mkv")


def test_a_mirrored_video_stays_mirrored(tmp_path: Path, small: Path) -> None:
    """An angle alone would show it upside down."""
    plain, mirrored = tmp_path / "plain.mp4", tmp_path / "mirrored.mp4"
    tools.ffmpeg("-i", small, "-frames:v", 5, "-c:v", "libx264", plain)
    tools.ffmpeg("-display_rotation", 90, "-display_hflip", "-i", plain, "-c", "copy", mirrored)
    tds.encode(mirrored, tmp_path / "pair.mp4", codec="hevc", preset="ultrafast", plan="tds")
    matrix = bytes(first_frame(mirrored).side_data.get("DISPLAYMATRIX"))
    for name in ("o.mp4", "o.mov", "o.mkv"):
        tools.tds("decode", tmp_path / "pair.mp4", tmp_path / name, "--backend", "bicubic")
        shown = first_frame(tmp_path / name).side_data.get("DISPLAYMATRIX")
        assert bytes(shown) == matrix, name


def test_what_a_container_refuses_is_known_before_any_picture(tmp_path: Path, coded: Coded) -> None:
    done = tools.tds(
        *("decode", coded(codec="hevc").path, tmp_path / "o.avi", "--vcodec", "libx264"),
        *("--vcodec-option", "bf=0", "--backend", "bicubic"),
    )
    assert "frames" in done.stderr
    done = tools.tds(
        *("decode", coded(codec="hevc").path, tmp_path / "o.flv", "--vcodec", "ffv1"),
        *("--backend", "bicubic"),
        status=1,
    )
    assert "do not hold" in done.stderr and "frames" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["o.avi"]
