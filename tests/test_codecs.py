# SPDX-License-Identifier: LGPL-2.1-or-later
"""Encoder adapters by themselves: what they are asked is what is in the stream."""

from __future__ import annotations

import re
import signal
import subprocess
from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import PictureType

import tds
import tools
from tds.cli import main
from tds.codecs import ADAPTERS, Config, StreamSettings, find_adapter
from tds.errors import ExternalError

FRAMES = 13
SIZE = (128, 72)


def settings(config: Config, qp: int = 30, depth: int = 8) -> StreamSettings:
    return StreamSettings(*SIZE, depth, Fraction(25), config, qp, "medium", period=8)


def raw(small: Path, depth: int) -> list[bytes]:
    form = "yuv420p" if depth == 8 else "yuv420p10le"
    command = [tools.FFMPEG, "-nostdin", "-v", "error", "-i", small, "-frames:v", str(FRAMES)]
    command += ["-pix_fmt", form, "-f", "rawvideo", "-"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    return [data[i : i + len(data) // FRAMES] for i in range(0, len(data), len(data) // FRAMES)]


@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize("config", Config)
def test_h264_has_every_picture_and_the_structure_asked_for(small, tmp_path, config, depth):
    adapter = ADAPTERS["libx264"]
    sizes = {}
    for qp in (24, 36):
        coder = adapter(settings(config, qp, depth), tmp_path / f"{qp}.mp4")
        pictures = raw(small, depth)
        for picture in pictures:
            coder.write(picture)
        segment = coder.finish()
        assert segment.frames == FRAMES
        sizes[qp] = segment.path.stat().st_size
        with av.open(str(segment.path)) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name == "h264"
            frames = list(container.decode(stream))
        kinds = "".join(PictureType(frame.pict_type).name for frame in frames)
        assert len(kinds) == FRAMES
        if config is Config.AI:
            assert set(kinds) == {"I"}
        elif config is Config.LDP:
            assert kinds == "I" + "P" * (FRAMES - 1)
        else:
            assert "B" in kinds and kinds.count("I") == 2
        # In display order, each nearest to its own source picture.
        sources = [np.frombuffer(p, np.uint8 if depth == 8 else np.uint16) for p in pictures]
        for i in (0, FRAMES // 2, FRAMES - 1):
            shown = frames[i].to_ndarray().astype(float).ravel()
            distances = [np.abs(shown - s).mean() for s in sources]
            assert int(np.argmin(distances)) == i
    assert sizes[24] > 1.5 * sizes[36]


@pytest.mark.parametrize(
    ("config", "wanted"), [(Config.AI, {"I": 30}), (Config.RA, {"I": 27, "P": 30, "B": 32})]
)
def test_h264_has_the_qps_asked_for_and_x264s_own_offsets(small, config, wanted):
    """By what x264 itself says of each type of picture."""
    arguments = ADAPTERS["libx264"].codec_arguments(settings(config))
    command = [tools.FFMPEG, "-nostdin", "-i", small, *arguments, "-f", "null", "-"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    found = {k: float(q) for k, q in re.findall(r"frame ([IPB]):\d+ +Avg QP: *([\d.]+)", said)}
    assert found.keys() == wanted.keys()
    for kind, qp in wanted.items():
        assert found[kind] == pytest.approx(qp, abs=1.0 if kind == "B" else 0.01)


@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize("crf", [None, 28.0])
def test_hevc_of_intra_pictures_is_of_a_profile_that_hardware_decodes(small, tmp_path, crf, depth):
    """Main or Main 10, in the sample entry and in the parameter sets, and not Main Intra of the
    range extensions; the pictures are those of x265's own all-intra."""
    asked = replace(settings(Config.AI, depth=depth), crf=crf)
    adapter, pictures = ADAPTERS["libx265"], raw(small, depth)
    coder = adapter(asked, tmp_path / "main.mp4")
    for picture in pictures:
        coder.write(picture)
    main_profile = coder.finish().path
    command = adapter._command(
        *(asked, tools.FFMPEG, adapter.codec_arguments(asked), str(tmp_path / "own.mp4"))
    )
    at = command.index("-force_key_frames")
    command[at : at + 4] = []
    params = command.index("-x265-params") + 1
    assert "keyint=2:" in command[params]
    command[params] = command[params].replace("keyint=2:", "keyint=1:")
    subprocess.run(command, input=b"".join(pictures), check=True)
    shown = {}
    for path in (main_profile, tmp_path / "own.mp4"):
        with av.open(str(path)) as container:
            context = container.streams.video[0].codec_context
            entry, profile = context.extradata, context.profile
            packets = [bytes(p) for p in container.demux(video=0) if p.size]
        with av.open(str(path)) as container:
            decoded = [f.to_ndarray().tobytes() for f in container.decode(video=0)]
        shown[path.stem] = (entry[1] & 31, profile, decoded)
        if path == main_profile:  # IDR_N_LP, by whose number the segments can be mixed
            assert {packet[4] >> 1 & 63 for packet in packets} == {20}
            # general_profile_idc of the VPS: after two bytes of header and four of its own.
            vps = entry[entry.index(b"\x40\x01\x0c\x01\xff\xff") :]
            assert vps[6] & 31 == entry[1] & 31
    assert shown["main"][:2] == ((1, "Main") if depth == 8 else (2, "Main 10"))
    assert shown["own"][:2] == (4, "Rext")
    assert shown["main"][2] == shown["own"][2]


@pytest.mark.parametrize(
    ("name", "encoder", "codec"),
    [
        ("x264", "libx264", "h264"),
        ("H264", "libx264", "h264"),
        ("x265", "libx265", "hevc"),
        ("h265", "libx265", "hevc"),
        ("vvenc", "libvvenc", "vvc"),
        ("vvc", "libvvenc", "vvc"),
        ("svt-av1", "libsvtav1", "av1"),
        ("av1", "libsvtav1", "av1"),
        ("rav1e", "librav1e", "av1"),
        ("h264_nvenc", "h264_nvenc", "h264"),
        ("hevc_qsv", "hevc_qsv", "hevc"),
    ],
)
def test_an_encoder_goes_by_the_names_people_type_and_implies_its_codec(name, encoder, codec):
    settings = tds.EncodeSettings(encoder=name)
    assert settings.codec.value == codec
    assert settings.adapter().name == encoder


@pytest.mark.parametrize(("encoder", "config"), [*product(("libsvtav1", "librav1e"), Config)])
def test_av1_has_every_picture_and_the_structure_asked_for(small, tmp_path, encoder, config):
    """By an adapter that knows its encoder, and by the one that knows none."""
    adapter = find_adapter(encoder)
    sizes = []
    for qp in (20, 50):
        asked = replace(settings(config, qp), preset=adapter.default_preset)
        coder = adapter(asked, tmp_path / f"{qp}.mp4")
        for picture in raw(small, 8):
            coder.write(picture)
        segment = coder.finish()
        sizes.append(segment.path.stat().st_size)
        with av.open(str(segment.path)) as container:
            stream = container.streams.video[0]
            keys = [p.is_keyframe for p in container.demux(stream) if p.size]
            assert stream.codec_context.codec.canonical_name == "av1"
        assert len(keys) == FRAMES and keys[0]
        assert all(keys) if config is Config.AI else not all(keys)
        assert len(tools.pictures(segment.path)) == FRAMES
    assert sizes[0] > 1.2 * sizes[1]


def test_the_qp_and_the_lists_of_options_go_where_an_encoder_has_them():
    """Of encoders whose hardware few machines have: what the program is told."""

    def told(name: str, config: Config = Config.AI, **more: Any) -> str:
        return " ".join(
            find_adapter(name).codec_arguments(replace(settings(config), preset="", **more))
        )

    hevc = "-c:v hevc_nvenc -rc constqp -qp:v 30 -i_qfactor:v 1 -g 1 -bf 0 -tag:v hvc1"
    assert told("hevc_nvenc") == hevc
    assert told("hevc_nvenc", crf=28.0).startswith("-c:v hevc_nvenc -rc vbr -b:v 0 -cq 28 ")
    assert told("h264_qsv", Config.RA) == "-c:v h264_qsv -q:v 30 -g 8"
    assert "-rc cqp -qp_i:v 30 -qp_p:v 30" in told("h264_amf")
    assert told("libkvazaar", Config.RA).startswith("-c:v libkvazaar -kvazaar-params qp=30")


def test_options_reach_the_encoder_of_their_stream(small, tmp_path):
    """By what x264 says of itself in each stream; a tune is FFmpeg's own option of it, and the
    rest are x264's, one with a value that holds what separates them."""
    out = tmp_path / "o.mp4"
    done = tools.tds(
        *(
            "encode",
            "--plan",
            "tds",
            "-q",
            small,
            out,
            "--encoder",
            "x264",
            "--crf",
            28,
            "--hr-option",
            "cabac=0",
        ),
        *("--encoder-option", "tune=grain", "--lr-option", "deblock=1:-2"),
    )
    assert not done.stderr
    said = []
    for track in (0, 1):
        h264 = tmp_path / f"{track}.264"
        tools.ffmpeg("-i", out, "-map", f"0:v:{track}", "-c", "copy", h264)
        found = re.search(rb"x264 - core.*?options: ([ -~]+)", h264.read_bytes())
        assert found
        said.append(dict(word.split("=") for word in found[1].decode().split() if "=" in word))
    hr, lr = said
    assert (hr["cabac"], lr["cabac"]) == ("0", "1")
    assert (hr["deblock"], lr["deblock"]) == ("1:-2:-2", "1:1:-2")  # grain's own, and ours
    assert (hr["crf"], lr["crf"]) == ("28.0", "31.0")
    told = tds.open(out).metadata
    assert told.hr_qp == -1
    assert told.encoder.endswith(", CRF 28, tune=grain, HR cabac=0, LR deblock=1:-2")


@pytest.mark.parametrize("encoder", ["x264", "x265"])
def test_the_library_s_list_is_added_to_what_is_set_there(small, tmp_path, encoder):
    """As those know it who use FFmpeg; the QP and the structure are still ours."""
    option = {"x264": "b-bias=1", "x265": "b-intra=0"}[encoder]  # of B pictures, of which none are
    bits = [
        tds.encode(
            *(small, tmp_path / f"{number}.mp4"), encoder=encoder, preset="ultrafast", qp=40,
            config="ldp", encoder_options=options, plan="plain",
        ).hr.bits
        for number, options in enumerate([{f"{encoder}-params": option}, {}])
    ]  # fmt: skip
    assert bits[0] == pytest.approx(bits[1], rel=0.02)


def test_an_option_of_vvenc_is_its_own_library_s(small, tmp_path):
    """Tools of VVC are switched in its list, beside those that the adapter sets."""
    sizes = []
    for options in ({}, {"ALF": "0", "SAO": "0", "MRL": "0", "ISP": "0", "LFNST": "0"}):
        result = tds.encode(
            *(small, tmp_path / f"{len(options)}.mp4"), encoder="vvenc", preset="fast", qp=27,
            encoder_options=options, plan="tds",
        )  # fmt: skip
        sizes.append(result.hr.bits)
    assert sizes[0] != sizes[1]


REFUSED = [
    (("--encoder", "x264", "--encoder-option", "foo=1"), "libx264 does not take the option foo; "),
    (("--encoder", "x265", "--lr-option", "me=foo"), "it says: Invalid value for me: foo"),
    (("--encoder", "vvenc", "--hr-option", "foo=1"), "it says: Unknown vvenc option: foo"),
    (("--encoder", "svtav1", "--encoder-option", "foo=1"), "Error parsing option foo: 1"),
    (("--encoder", "x264", "--encoder-option", "tune=foo"), "does not start with tune=foo; it "),
    (("--encoder", "x265", "--encoder-option", "foo"), "is KEY=VALUE"),
    (("--encoder", "x265", "--encoder-option", "crf=20"), "is given by --crf"),
    (("--encoder", "x265", "--hr-option", "x265-params=me=hex:qp=20"), "is given by --qp"),
    (("--encoder", "x264", "--encoder-option", "x264opts=bitrate=90"), "asks for a bit rate"),
    (("--encoder", "x264", "--lr-option", "b=500k"), "asks for a bit rate, and a pair is coded at"),
    (("--encoder", "vvenc", "--crf", "20"), "libvvenc has no constant rate factor; give --qp"),
    (("--encoder", "x264", "--crf", "52"), "a CRF of libx264 is 0 to 51, not 52"),
    (("--encoder", "libaom-av1"), "libaom-av1 has no fixed QP that FFmpeg can set; give --crf"),
    (("--encoder", "svtav1", "--qp", "0"), "a QP of libsvtav1 is 1 to 63, not 0"),
    (("--encoder", "librav1e", "--preset", "fast"), "librav1e has no presets; "),
    (("--encoder", "librav1e", "--encoder-option", "cabac=1"), "cabac"),
    (("--encoder", "h264_v4l2m2m", "--encoder-option", "foo=1"), "h264_v4l2m2m "),
    (("--encoder", "hevc_vaapi"), "takes pictures of a device's memory alone (vaapi)"),
    (("--encoder", "mpeg4"), "mpeg4 codes mpeg4, and the streams of a pair are one of vvc, hevc"),
    (("--encoder", "nothing"), "no ffmpeg program at hand has a video encoder 'nothing'"),
    (("--encoder", "aac"), "no ffmpeg program at hand has a video encoder 'aac'"),
    (("--codec", "theora"), "no codec 'theora'; there are vvc, hevc, h264, av1"),
    (("--codec", "av1", "--encoder", "x264"), "libx264 codes h264, not av1"),
    (("--encoder", "vtm", "--encoder-option", "a=b"), "vtm is told by its configuration"),
]


@pytest.mark.parametrize(("options", "says"), REFUSED)
def test_what_an_encoder_refuses_is_one_sentence_before_any_work(
    small, tmp_path, capsys, options, says
):
    assert main(["encode", "--plan", "tds", str(small), str(tmp_path / "o.mp4"), *options]) == 1
    said = capsys.readouterr().err
    assert says in said
    assert said.startswith("tds: ") and said.count("\n") == 1, said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("encoder", "config"), [("libopenh264", "ai"), ("libkvazaar", "ra")])
def test_a_pair_of_an_encoder_that_nothing_is_known_of(city, tmp_path, encoder, config):
    """That has the QP asked for and, of HEVC, the sample entry that all players take."""
    source = tmp_path / "source.mkv"
    tools.ffmpeg("-i", city, "-frames:v", 7, "-vf", "scale=256:128", "-c:v", "ffv1", source)
    bits = []
    for qp in (24, 36):
        out = tmp_path / f"{qp}.mp4"
        result = tds.encode(source, out, encoder=encoder, config=config, qp=qp, plan="tds")
        bits.append(result.hr.bits + result.lr.bits)
        with tds.decode(out, backend="bicubic") as pictures:
            assert [p.pts * pictures.time_base for p in pictures] == tools.times(source)
    assert bits[0] > 1.5 * bits[1]
    with av.open(str(out)) as container:
        entries = [stream.codec_context.codec_tag for stream in container.streams.video]
    assert entries == ["hvc1" if encoder == "libkvazaar" else "avc1"] * 2


@pytest.mark.parametrize(
    ("config", "option", "says"),
    [
        ("ai", "keyint=8", "has pictures that are no random-access points"),
        ("ldp", "bframes=3", "has pictures out of display order"),
    ],
)
def test_a_stream_that_is_no_segment_is_refused(small, tmp_path, config, option, says):
    with pytest.raises(ExternalError, match=says) as e:
        tds.encode(
            *(small, tmp_path / "o.mp4"), encoder="x264", config=config,
            encoder_options=dict([option.split("=")]), plan="tds",
        )  # fmt: skip
    assert f"leave {option} out" in str(e.value)
    assert not list(tmp_path.iterdir())


def test_an_encoder_that_stands_still_is_not_waited_for(small, tmp_path, monkeypatch):
    """Stopped from outside, as one is that waits for a thread it has no memory for."""
    from tds.codecs import ffmpeg_program

    monkeypatch.setattr(ffmpeg_program, "_LOOK", 0.02)
    coder = ADAPTERS["libx264"](settings(Config.AI), tmp_path / "still.mp4")
    coder._process.send_signal(signal.SIGSTOP)
    picture = bytes(coder.settings.frame_bytes)
    with pytest.raises(ExternalError, match=r"stands still: .* is there memory enough"):
        for _ in range(100):
            coder.write(picture)
    coder.abort()
    assert coder._process.poll() is not None
    assert list(tmp_path.iterdir()) == []
