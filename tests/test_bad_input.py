# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bad input gets one clear sentence, a non-zero exit, and leaves nothing behind."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import yaml

import tds
import tools
from tds.codecs.base import Config, StreamSettings
from tds.codecs.libvvenc import LibVVenC
from tds.container.sidecar import read_sidecar
from tds.plan import Role

Coded = Callable[..., tds.EncodeResult]


def fails(folder: Path, *arguments: object, says: str, status: int = 1) -> str:
    """Runs ``tds``; checks the status, one sentence with ``says``, nothing new in ``folder``."""
    before = sorted(p.name for p in folder.iterdir())
    done = tools.tds(*arguments, status=status)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("tds: in ")]
    assert len(lines) == 1 and lines[0].startswith("tds: "), done.stderr
    assert says in lines[0]
    assert "Traceback" not in done.stderr and "Errno" not in done.stderr
    assert sorted(p.name for p in folder.iterdir()) == before
    return lines[0]


def encode_fails(folder: Path, source: Path, says: str, *options: object) -> str:
    return fails(folder, "encode", "--plan", "tds", source, folder / "out.mp4", *options, says=says)


def decode_fails(folder: Path, source: Path, says: str, *options: object) -> str:
    return fails(folder, "decode", source, folder / "out.y4m", *options, says=says)


def test_missing_file(tmp_path: Path) -> None:
    encode_fails(tmp_path, tmp_path / "none.mkv", "there is no such file")
    decode_fails(tmp_path, tmp_path / "none.mp4", "there is no such file")


def test_not_a_video(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("this is no video\n" * 100)
    encode_fails(tmp_path, text, "text.mp4 is not a video file")
    decode_fails(tmp_path, text, "text.mp4 is not a video file")


def test_no_video_stream(tmp_path: Path) -> None:
    audio = tmp_path / "audio.wav"
    tools.ffmpeg("-f", "lavfi", "-i", "sine=440:duration=0.2", audio)
    encode_fails(tmp_path, audio, "has no video stream")
    decode_fails(tmp_path, audio, "has no video track")


def test_a_video_with_one_track(tmp_path: Path, small: Path) -> None:
    line = decode_fails(tmp_path, small, "has one video track")
    assert "tds encode" in line and "tds enhance" in line


def two_tracks(out: Path, source: Path, second: str) -> Path:
    tools.ffmpeg(
        *("-i", source, "-filter_complex", f"[0]split[a][b];[b]scale={second}[c]"),
        *("-map", "[a]", "-map", "[c]", "-c:v", "libx265", "-preset", "ultrafast"),
        *("-x265-params", "log-level=none", out),
    )
    return out


def test_tracks_of_a_ratio_that_is_no_k(tmp_path: Path, small: Path) -> None:
    file = two_tracks(tmp_path / "odd.mp4", small, "100:60")
    decode_fails(tmp_path, file, "HR is 128x72 and LR is 100x60")


def test_tracks_of_another_k_than_the_metadata_says(tmp_path: Path, coded: Coded) -> None:
    good = coded(codec="hevc", scale=2)
    quarter = coded(codec="hevc", scale=4)
    wrong = tmp_path / "wrong.mp4"
    tools.ffmpeg(
        *("-i", good.path, "-i", quarter.path, "-map", "0:v:0", "-map", "1:v:1", "-c", "copy"),
        *("-map_metadata", 0, "-movflags", "use_metadata_tags", wrong),
    )
    decode_fails(tmp_path, wrong, "its metadata says k = 2")


def test_odd_size(tmp_path: Path, small: Path) -> None:
    odd = tmp_path / "odd.mkv"
    tools.ffmpeg("-i", small, "-vf", "format=yuv444p,crop=127:71", "-c:v", "ffv1", odd)
    assert "crop=126:70" in encode_fails(tmp_path, odd, "is 127x71")


def test_zero_frames(tmp_path: Path, small: Path) -> None:
    empty = tmp_path / "empty.y4m"
    empty.write_bytes(b"YUV4MPEG2 W128 H72 F25:1 Ip A1:1 C420mpeg2\n")
    encode_fails(tmp_path, empty, "empty.y4m")
    nothing = tmp_path / "nothing.yuv"
    nothing.write_bytes(b"")
    encode_fails(tmp_path, nothing, "nothing.yuv", "--size", "128x72")


@pytest.mark.parametrize("frames", [1, 2])
def test_too_few_frames_to_down_sample_one(tmp_path: Path, small: Path, frames: int) -> None:
    short = tmp_path / "short.mkv"
    tools.ffmpeg("-i", small, "-frames:v", frames, "-c:v", "ffv1", short)
    encode_fails(tmp_path, short, f"has {frames} frame", "--codec", "hevc")


def test_raw_video_without_a_size(tmp_path: Path, small: Path) -> None:
    raw = tools.raw_yuv(tmp_path / "in.yuv", small, 3)
    encode_fails(tmp_path, raw, "give --size")


@pytest.mark.parametrize("size", ["128", "axb", "0x0", "99999x2"])
def test_a_size_that_is_none(tmp_path: Path, small: Path, size: str) -> None:
    raw = tools.raw_yuv(tmp_path / "in.yuv", small, 3)
    encode_fails(tmp_path, raw, "a size is WIDTHxHEIGHT", "--size", size)


def test_truncated_file(tmp_path: Path, coded: Coded) -> None:
    data = coded(codec="hevc").path.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: len(data) * 2 // 3])
    assert "--allow-truncated" in decode_fails(tmp_path, cut, "cut.mp4 is cut short")
    done = tools.tds("decode", cut, tmp_path / "o.y4m", "--allow-truncated", "--backend", "bicubic")
    assert "25 frames" in done.stderr and "affected by pictures that are missing" in done.stderr
    headless = tmp_path / "headless.mp4"
    headless.write_bytes(data[:200])
    decode_fails(tmp_path, headless, "headless.mp4")
    assert "CUT SHORT" in tools.tds("info", cut, status=1).stdout


@pytest.mark.parametrize("config", ["ai", "ra"])
@pytest.mark.parametrize("codec", ["hevc", "vvc"])
@pytest.mark.parametrize(("stream", "drop"), [(1, {4, 5}), (0, {4}), (0, {2, 3})])
def test_missing_packets_lose_no_frame(
    tmp_path: Path, coded: Coded, codec: str, config: str, stream: int, drop: set[int]
) -> None:
    result = coded(codec=codec, config=config, intra_period=12)
    lossy = tmp_path / "lossy.mp4"
    tools.drop_packets(result.path, lossy, stream, drop)
    times = list(result.metadata.timeline.times())
    base = result.metadata.timeline.time_base
    with tds.decode(lossy, backend="bicubic") as pictures:
        got = list(pictures)
        assert [p.pts * pictures.time_base for p in got] == [t * base for t in times]
    affected = [p for p in got if p.reason & {"lost", "ref-lost", "corrupt"}]
    assert affected and len(affected) < len(got)
    if config == "ai":  # exactly the dropped ones are gone, and HR's groups know of it
        role = (Role.HR, Role.LR)[stream]
        own = [t for t, r in zip(times, result.metadata.roles(), strict=True) if r is role]
        lost = [t * base for i, t in enumerate(own) if i in drop]
        marked = [p.pts * pictures.time_base for p in got if "lost" in p.reason]
        assert marked == lost
    facts = tools.tds("info", lossy, status=1).stdout
    assert "NOT WHOLE" in facts


def test_a_model_that_is_not_torchscript(tmp_path: Path, coded: Coded) -> None:
    model = tmp_path / "model.pt"
    model.write_bytes(b"PK\x03\x04 this is no archive" * 20)
    decode_fails(tmp_path, coded().path, "model.pt", "--model", model)
    decode_fails(tmp_path, coded().path, "no such model", "--model", tmp_path / "none.pt")
    unheard = 'there is no model "unheard" for k = 2'
    decode_fails(tmp_path, coded().path, unheard, "--model", "unheard")


def test_no_cuda(tmp_path: Path, coded: Coded) -> None:
    torch = pytest.importorskip("torch", reason="without torch there is no device to ask for")
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    model = tools.tiny_model(tmp_path / "tiny.pt", scale=2)
    line = decode_fails(tmp_path, coded().path, "cuda", "--model", model, "--device", "cuda")
    assert "cpu" in line
    decode_fails(tmp_path, coded().path, "abc", "--model", model, "--device", "abc")


def test_numbers_of_the_enhancer_that_cannot_be(tmp_path: Path, coded: Coded) -> None:
    for option, value, says in (
        ("--hr-qp", "64", "--hr-qp is a whole number from -1 to 63, not 64"),
        ("--lr-qp", "-7", "--lr-qp is a whole number from -1 to 63, not -7"),
        ("--threads", "9" * 20, "--threads is a whole number from 0 to 1024, not 9999"),
        ("--strength", "nan", "--strength is a number from 0 to 1, not nan"),
    ):
        decode_fails(tmp_path, coded().path, says, option, value)
    with pytest.raises(tds.InputError, match="`hr_qp` is a whole number"):
        tds.EnhanceSettings(hr_qp=30.5)  # type: ignore[arg-type]


def test_a_model_for_another_k(tmp_path: Path, coded: Coded) -> None:
    model = tools.tiny_model(tmp_path / "tiny.pt", scale=4)
    line = decode_fails(tmp_path, coded(scale=2).path, "tiny.pt", "--model", model)
    assert "4" in line and "2" in line


def test_a_model_that_was_replaced_is_used_with_a_notice(tmp_path: Path, small: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    tools.tiny_model(models / "tiny-k2.pt", scale=2)
    out = tmp_path / "named.mp4"
    tds.encode(
        small,
        out,
        codec="hevc",
        preset="ultrafast",
        model="tiny",
        model_sha256="0" * 64,
        plan="tds",
    )
    environment = {**os.environ, "TDS_MODEL_PATH": str(models)}
    done = tools.tds("decode", out, tmp_path / "o.y4m", env=environment)
    assert "another version than the one the video was made for" in done.stderr
    assert "with tiny" in done.stderr


def test_output_exists(tmp_path: Path, small: Path, coded: Coded) -> None:
    out = tmp_path / "out.mp4"
    out.write_text("precious")
    fails(tmp_path, "encode", "--plan", "tds", small, out, says="--overwrite")
    fails(tmp_path, "decode", coded().path, out, says="--overwrite")
    assert out.read_text() == "precious"
    tools.tds(
        "encode",
        "--plan",
        "tds",
        small,
        out,
        "--codec",
        "hevc",
        "--preset",
        "ultrafast",
        "--overwrite",
    )
    assert tds.open(out).scale == 2


def test_an_input_is_never_written_over(tmp_path: Path, small: Path, coded: Coded) -> None:
    paired, source = tmp_path / "paired.mp4", tmp_path / "source.mp4"
    paired.write_bytes(coded().path.read_bytes())
    tools.ffmpeg("-i", small, "-c:v", "libx264", source)
    before = paired.read_bytes(), source.read_bytes()
    fails(tmp_path, "decode", paired, paired, "-y", says="is the input too")
    fails(
        tmp_path,
        "encode",
        "--plan",
        "tds",
        source,
        source,
        "-y",
        "--codec",
        "hevc",
        says="is the input too",
    )
    assert (paired.read_bytes(), source.read_bytes()) == before


def test_no_stream_of_a_raw_pair_is_written_over(tmp_path: Path, small: Path) -> None:
    """Every file that is read, the sidecar too, and before any work is done."""
    hevc = ("--codec", "hevc", "--preset", "ultrafast")
    tools.tds("encode", "--plan", "tds", small, tmp_path / "y.json", *hevc)
    hr, lr, sidecar = (tmp_path / name for name in ("y.hr.265", "y.lr.265", "y.json"))
    mp4 = tmp_path / "y.mp4"
    mp4.write_bytes(hr.read_bytes())
    files = {p: p.read_bytes() for p in tmp_path.iterdir()}
    both = ("--hr", hr, "--lr", lr)
    for taken in (hr, lr, sidecar):
        for arguments in (
            ("postdec", "--decoder", "none", *both, "--sidecar", sidecar, "-y", taken),
            ("enhance", *both, "--sidecar", sidecar, "-y", taken),
            ("mux", sidecar, taken, "-y"),
        ):
            fails(tmp_path, *arguments, says="is the input too")
    fails(tmp_path, "mux", sidecar, mp4, "--hr", mp4, "-y", says="is the input too")
    fails(tmp_path, "encode", "--plan", "tds", hr, sidecar, *hevc, "-y", says="is the input too")
    sidecar.rename(tmp_path / "other.json")
    del files[sidecar]
    fails(tmp_path, "encode", "--plan", "tds", small, sidecar, *hevc, says="y.hr.265 exists")
    assert {p: p.read_bytes() for p in files} == files


@pytest.mark.parametrize("name", ["out.avi", "out.265", "out"])
def test_mux_writes_what_holds_a_pair(tmp_path: Path, small: Path, name: str) -> None:
    tools.tds(
        "encode",
        "--plan",
        "tds",
        small,
        tmp_path / "y.json",
        "--codec",
        "hevc",
        "--preset",
        "ultrafast",
    )
    fails(tmp_path, "mux", tmp_path / "y.json", tmp_path / name, says="a paired file is MP4")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--vcodec", "aac"), "an encoder of audio"),
        (("--vcodec", "nothing"), "no encoder 'nothing'"),
        (("--vcodec", "prores_ks"), "it codes yuv422p10le"),
        (("--vcodec-option", "crf=abc"), "does not start with crf=abc"),
        (("--vcodec-option", "foo=1"), "has no option foo"),
        (("--vcodec-option", "foo"), "KEY=VALUE"),
    ],
)
def test_encoders_of_the_output_that_cannot_be(
    tmp_path: Path, coded: Coded, options: tuple[str, ...], says: str
) -> None:
    out = ("--backend", "bicubic", tmp_path / "o.mkv")
    line = fails(tmp_path, "decode", coded().path, *out, *options, says=says)
    assert "cannot be written" not in line


def test_an_encoder_without_its_device_is_not_a_fault_of_the_file(
    tmp_path: Path, coded: Coded
) -> None:
    if "hevc_nvenc" not in av.codecs_available:
        pytest.skip("PyAV's FFmpeg has no hevc_nvenc")
    try:
        av.CodecContext.create("hevc_nvenc", "w").open()
    except (OSError, ValueError, av.error.FFmpegError):
        out = ("--backend", "bicubic", tmp_path / "o.mkv", "--vcodec", "hevc_nvenc")
        line = fails(
            tmp_path, "decode", coded().path, *out, says="the encoder hevc_nvenc does not start"
        )
        assert "cannot be written" not in line


def test_pictures_that_are_not_coded_take_no_encoder(tmp_path: Path, coded: Coded) -> None:
    for name, option in (("o.y4m", ("--vcodec", "ffv1")), ("o.yuv", ("--vcodec-option", "g=1"))):
        out = ("--backend", "bicubic", tmp_path / name)
        fails(tmp_path, "decode", coded().path, *out, *option, says="is not coded")


def test_a_container_that_does_not_hold_the_encoder_s_streams(tmp_path: Path, coded: Coded) -> None:
    out = ("--backend", "bicubic", tmp_path / "o.webm")
    fails(tmp_path, "decode", coded().path, *out, "--vcodec", "libx264", says="webm files do not")


def test_a_backend_that_is_none(coded: Coded) -> None:
    with pytest.raises(ValueError, match="no backend 'foo'; there are auto, bicubic, torchscript"):
        tds.decode(coded().path, backend="foo")


def test_two_files_that_are_one(tmp_path: Path, coded: Coded, small: Path) -> None:
    paired = coded().path
    out = tmp_path / "o.y4m"
    for hr, lr, says in (
        (paired, paired, "given as both HR and LR"),
        (small, small, "given as both HR and LR"),
        (small, paired, "2 video tracks"),
        (paired, small, "2 video tracks"),
    ):
        line = fails(tmp_path, "enhance", "--hr", hr, "--lr", lr, out, says=says)
        assert "tds decode" in line


@pytest.mark.parametrize("name", ["out.avi", "out", "-"])
def test_a_paired_file_has_the_name_of_one(tmp_path: Path, small: Path, name: str) -> None:
    out = name if name == "-" else tmp_path / name
    fails(
        tmp_path,
        "encode",
        "--plan",
        "tds",
        small,
        out,
        says="with the suffix .mp4, .mkv or .ts, or give --form",
    )


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        (
            "out.ts",
            ("--codec", "av1"),
            "no way to keep AV1 in an MPEG transport stream; name",
        ),
        ("out.json", ("--codec", "av1"), "raw streams beside a sidecar are named for vvc, hevc"),
        ("out.json", ("--format", "mkv"), "asks for two raw streams, which have no --format"),
    ],
)
def test_what_a_container_does_not_hold_is_said_before_any_work(
    tmp_path: Path, small: Path, name: str, options: tuple[str, ...], says: str
) -> None:
    fails(tmp_path, "encode", "--plan", "tds", small, tmp_path / name, *options, says=says)


def test_an_output_without_a_suffix(tmp_path: Path, coded: Coded) -> None:
    fails(tmp_path, "decode", coded().path, tmp_path / "out", says="has no suffix")


def test_no_such_folder(tmp_path: Path, small: Path) -> None:
    fails(
        tmp_path,
        "encode",
        "--plan",
        "tds",
        small,
        tmp_path / "no" / "out.mp4",
        says="there is no folder",
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--qp", 64), "0 to 63"),
        (("--codec", "hevc", "--qp", 52), "0 to 51"),
        (("--group", 4), "odd number"),
        (("--scene-cut", 300), "0 to 100"),
        (("--preset", "warp"), "no preset 'warp'"),
        (("--codec", "hevc", "--encoder", "libvvenc"), "codes vvc, not hevc"),
    ],
)
def test_settings_that_cannot_be(
    tmp_path: Path, small: Path, options: tuple[object, ...], says: str
) -> None:
    encode_fails(tmp_path, small, says, *options)


def wrapper(path: Path, script: str) -> Path:
    """A program that stands between the encoder adapter and the real ffmpeg."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_an_encoder_that_gives_fewer_packets_than_frames(tmp_path: Path, small: Path) -> None:
    """ffmpeg told to stop after two frames: it exits with 0, as libvvenc was seen to."""
    program = wrapper(
        tmp_path / "ffmpeg",
        f'case "$*" in *rawvideo*) for last; do :; done\n'
        f"cat | {tools.FFMPEG} -f rawvideo -pix_fmt yuv420p -s:v 128x72 -i - -frames:v 2 "
        f'-c:v libx265 -preset ultrafast -y -loglevel error -f mp4 "$last"; cat >/dev/null;;\n'
        f'*) exec {tools.FFMPEG} "$@";; esac',
    )
    done = tools.tds(
        *(
            "encode",
            "--plan",
            "tds",
            small,
            tmp_path / "out.mp4",
            "--codec",
            "hevc",
            "--preset",
            "ultrafast",
        ),
        status=1,
        env={**os.environ, "TDS_FFMPEG": str(program)},
    )
    assert "gave 2 packets" in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ffmpeg"]


def test_an_encoder_that_gave_nothing_is_run_again(tmp_path: Path, small: Path) -> None:
    """FFmpeg's libvvenc exits with 0 and no packets now and then; here on its first run."""
    seen = tmp_path / "seen"
    program = wrapper(
        tmp_path / "ffmpeg",
        f'case "$*" in *rawvideo*) [ -e {seen} ] || {{ touch {seen}; cat >/dev/null; exit 0; }};;\n'
        f'esac\nexec {tools.FFMPEG} "$@"',
    )
    tools.tds(
        *(
            "encode",
            "--plan",
            "tds",
            small,
            tmp_path / "out.mp4",
            "--codec",
            "vvc",
            "--preset",
            "faster",
        ),
        env={**os.environ, "TDS_FFMPEG": str(program)},
    )
    assert seen.exists()
    assert "decodes whole" in tools.tds("info", tmp_path / "out.mp4").stdout


@pytest.mark.parametrize("config", [Config.AI, Config.LDP, Config.RA])
@pytest.mark.parametrize("count", [1, 15, 16, 17])
def test_vvenc_codes_runs_of_every_length(tmp_path: Path, config: Config, count: int) -> None:
    """Of 15 and 16 pictures in low delay, its first run gives no packet at all."""
    settings = StreamSettings(64, 36, 8, Fraction(25), config, 37, "faster")
    random = np.random.default_rng(0)
    encoder = LibVVenC(settings, tmp_path / "out.mp4")
    for _ in range(count):
        encoder.write(random.integers(0, 256, settings.frame_bytes, np.uint8).tobytes())
    assert encoder.finish().frames == count
    assert len(tools.pictures(tmp_path / "out.mp4")) == count


@pytest.mark.parametrize("config", [Config.AI, Config.LDP, Config.RA])
def test_vvenc_run_again_gives_the_same_stream(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = StreamSettings(64, 36, 8, Fraction(25), config, 37, "faster")
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, settings.frame_bytes, np.uint8).tobytes() for _ in range(9)]
    streams = []
    for again in (False, True):
        if again:
            monkeypatch.setattr(LibVVenC, "codec_arguments", LibVVenC.again_arguments)
        encoder = LibVVenC(settings, tmp_path / f"{again}.mp4")
        for picture in pictures:
            encoder.write(picture)
        encoder.finish()
        with av.open(str(tmp_path / f"{again}.mp4")) as container:
            streams.append([bytes(p) for p in container.demux(video=0) if p.size])
    assert len(streams[0]) == 9 and streams[0] == streams[1]


def test_an_encoder_that_dies(tmp_path: Path, small: Path) -> None:
    program = wrapper(
        tmp_path / "ffmpeg",
        f'case "$*" in *rawvideo*) head -c 30000 >/dev/null; echo "out of luck" >&2; exit 3;;\n'
        f'*) exec {tools.FFMPEG} "$@";; esac',
    )
    done = tools.tds(
        *("encode", "--plan", "tds", small, tmp_path / "out.mp4", "--codec", "hevc"),
        status=1,
        env={**os.environ, "TDS_FFMPEG": str(program)},
    )
    assert "libx265 failed" in done.stderr and "out of luck" in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ffmpeg"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_in_the_middle(tmp_path: Path, city: Path, number: int) -> None:
    out = tmp_path / "out.mp4"
    process = subprocess.Popen(
        [sys.executable, "-m", "tds", "encode", "--plan", "tds", str(city), str(out)]
        + ["--preset", "slower"],
        stderr=subprocess.PIPE, text=True, preexec_fn=tools.interruptible,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".tds-*/*.mp4")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    word = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
    assert said.strip().splitlines()[-1] == f"tds: {word}" and "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", ["av", "numpy"])
def test_interrupted_while_it_starts(tmp_path: Path, module: str) -> None:
    """Most of a command's first second is imports, here of one that takes its time."""
    (tmp_path / f"{module}.py").write_text(
        f"import pathlib, time; pathlib.Path({str(tmp_path / 'begun')!r}).touch(); time.sleep(60)"
    )
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-m", "tds", "decode", "in.mp4", "out.mp4"],
        stderr=subprocess.PIPE, text=True, preexec_fn=tools.interruptible,
        env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT and said == ""


def test_interrupted_in_an_import_that_turns_it_into_another_error() -> None:
    code = (
        "import argparse, os, signal, sys, tds.cli\n"
        "class Parser:\n"
        "    def parse_args(self, argv): return argparse.Namespace(func=self.fail)\n"
        "    def fail(self, args):\n"
        "        try: os.kill(os.getpid(), signal.SIGINT)\n"
        "        except KeyboardInterrupt: raise ImportError('half of a module')\n"
        "tds.cli.build_parser = lambda argv: Parser()\n"
        "sys.exit(tds.cli.main([]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        preexec_fn=tools.interruptible,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (130, "tds: interrupted\n")


@pytest.mark.parametrize("program", ["/no/such/ffmpeg", "/bin/true", "/tmp", "no-such-ffmpeg"])
def test_a_tds_ffmpeg_that_is_none_is_not_passed_over(
    tmp_path: Path, small: Path, program: str
) -> None:
    done = tools.tds(
        *("encode", "--plan", "tds", small, tmp_path / "out.mp4", "--codec", "hevc"),
        status=1,
        env={**os.environ, "TDS_FFMPEG": program},
    )
    assert done.stderr.startswith(f"tds: TDS_FFMPEG is {program}, which is no ffmpeg program")
    assert list(tmp_path.iterdir()) == []
    done = tools.tds("doctor", status=1, env={**os.environ, "TDS_FFMPEG": program})
    assert f"TDS_FFMPEG is {program}" in done.stdout and done.stderr == ""


@pytest.mark.parametrize(
    "name, encoding", [(b"caf\xe9", "utf-8"), ("смотри 見".encode(), "iso-8859-15")]
)
def test_names_in_any_encoding(tmp_path: Path, small: Path, name: bytes, encoding: str) -> None:
    """Linux takes any bytes for a name, and a command that has written says so and ends well."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    folder.mkdir()
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    source, pair, back = (folder / (folder.name + s) for s in (".mkv", ".mp4", ".y4m"))
    source.write_bytes(small.read_bytes())
    fast = ("--codec", "hevc", "--preset", "ultrafast")
    tools.tds("encode", "--plan", "tds", source, pair, *fast, env=env, encoding="latin-1")
    tools.tds("decode", pair, back, "--backend", "bicubic", env=env, encoding="latin-1")
    tools.tds("info", pair, "--no-decode", env=env, encoding="latin-1")
    raw = folder / (folder.name + ".json")
    tools.tds("encode", "--plan", "tds", source, raw, *fast, env=env, encoding="latin-1")
    again = folder / "again.y4m"
    tools.tds(
        *("postdec", "--hr", raw.with_suffix(".hr.265"), "--lr", raw.with_suffix(".lr.265")),
        *("--sidecar", raw, again, "--backend", "bicubic"),
        env=env,
        encoding="latin-1",
    )
    assert again.read_bytes() == back.read_bytes()
    lines = tools.tds("info", folder / "none.mp4", status=1, env=env, encoding="latin-1").stderr
    assert len(lines.splitlines()) == 1


def test_a_model_whose_name_is_not_utf_8(tmp_path: Path, coded: Coded) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    model = tools.tiny_model(tmp_path / "tiny.pt").rename(folder / "tiny.pt")
    source = coded(codec="hevc").path
    with tds.decode(source, model=str(model), device="cpu") as pictures:
        assert {p.status for p in pictures} == {"passed", "enhanced"}
    said = tools.tds("decode", source, tmp_path / "o.y4m", "--model", folder / "no.pt", status=1)
    assert "\\xe9/no.pt" in said.stderr and len(said.stderr.splitlines()) == 1


def test_a_package_built_without_torch_still_decodes(tmp_path: Path, coded: Coded) -> None:
    """As pip builds it in isolation: torch that is installed afterwards does not help it."""
    result = coded()
    package = Path(tds.__file__).parent
    without = tmp_path / "site" / "tds"
    ignore = shutil.ignore_patterns("libtds_torchscript*", "__pycache__")
    shutil.copytree(package, without, symlinks=True, ignore=ignore)
    shelf = str(package.parents[1] / "models")
    env = {**os.environ, "PYTHONPATH": str(without.parent), "TDS_MODEL_PATH": shelf}
    out = tmp_path / "out.y4m"
    done = tools.tds("decode", result.path, out, env=env)
    assert 'the backend "torchscript" is not installed' in done.stderr
    assert "LR pictures are up-sampled by bicubic" in done.stderr and "upsampled" in done.stderr
    done = tools.tds("doctor", status=1, env=env)
    assert "built with torch" in done.stdout and "--no-build-isolation" in done.stdout
    named = tools.tds("decode", result.path, out, "-y", "--model", "fast", status=1, env=env)
    assert 'the backend "torchscript" is not installed' in named.stderr


def test_without_torch_decoding_says_so(tmp_path: Path, coded: Coded) -> None:
    code = (
        "import sys, tds.models.registry as r; r.torch_version = lambda: ''\n"
        "from tds.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "decode", coded().path, tmp_path / "out.y4m"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "models need torch, which is not installed (pip install 'torch==" in done.stderr


def test_an_error_of_ffmpeg_s_own_is_a_sentence_too() -> None:
    code = (
        "import argparse, av, sys, tds.cli\n"
        "class Parser:\n"
        "    def parse_args(self, argv): return argparse.Namespace(func=self.fail)\n"
        "    def fail(self, args): raise av.error.ProtocolNotFoundError(1, 'Protocol not found')\n"
        "tds.cli.build_parser = lambda argv: Parser()\n"
        "sys.exit(tds.cli.main([]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("tds: ") and "Protocol not found" in done.stderr


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Path:
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    yield folder  # type: ignore[misc]
    subprocess.run(["umount", folder], check=True)


def test_disk_full(tiny_disk: Path, city: Path, coded: Coded) -> None:
    result = coded(city)
    for arguments in (
        ("encode", "--plan", "tds", city, tiny_disk / "o.mp4", "--codec", "hevc", "--qp", 4),
        ("decode", result.path, tiny_disk / "o.yuv", "--backend", "bicubic", "--quiet"),
        ("decode", result.path, tiny_disk / "o.mp4", "--backend", "bicubic", "--quiet")
        + ("--vcodec", "libx264", "--vcodec-option", "qp=0"),
    ):
        fails(tiny_disk, *arguments, says="o space left")


def test_standard_input_that_is_closed() -> None:
    for command in ("decode", "enhance"):
        done = subprocess.run(
            ["sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-m", "tds", command, "-", "-"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert done.stderr == "tds: standard input cannot be read (Bad file descriptor)\n"


def test_a_reader_that_goes_away(coded: Coded) -> None:
    command = f"{sys.executable} -m tds decode {coded().path} - --backend bicubic | head -c 1000"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, check=False, timeout=120
    )
    assert done.returncode == 141
    assert b"Traceback" not in done.stderr


def test_a_sidecar_is_json_or_yaml(small: Path, tmp_path: Path) -> None:
    """JSON is read as such and not as YAML; what only JavaScript has is neither."""
    hevc = ("--codec", "hevc", "--config", "ai", "--preset", "ultrafast")
    sidecar = tmp_path / "y.json"
    tools.tds("encode", "--plan", "tds", small, sidecar, *hevc)
    text = sidecar.read_text()
    known = read_sidecar(sidecar)
    sidecar.write_text(yaml.safe_dump(json.loads(text)))
    assert read_sidecar(sidecar) == known
    bomb = "a: &a [0,0,0,0,0,0,0,0,0,0]\n" + "".join(
        f"{y}: &{y} [{','.join([f'*{x}'] * 10)}]\n" for x, y in pairwise("abcdefghijkl")
    )
    nan = text.replace('"scale": 2', '"scale": NaN')
    for wrong in (nan, "a: [", "\xff", "encoder: 2024-01-01", "&a [*a]", bomb):
        assert wrong != text
        sidecar.write_text(wrong, encoding="latin-1")
        fails(tmp_path, "mux", sidecar, tmp_path / "z.mp4", says="neither JSON nor YAML")


def test_a_sidecar_that_names_no_codec_does_not_name_the_streams(
    small: Path, tmp_path: Path
) -> None:
    hevc = ("--codec", "hevc", "--config", "ai", "--preset", "ultrafast")
    sidecar, out = tmp_path / "y.json", tmp_path / "z.mp4"
    tools.tds("encode", "--plan", "tds", small, sidecar, *hevc)
    value = json.loads(sidecar.read_text())
    del value["codec"]
    sidecar.write_text(json.dumps(value))
    fails(tmp_path, "mux", sidecar, out, says="says codec '', and raw streams")
    tools.tds("mux", sidecar, out, "--hr", tmp_path / "y.hr.265", "--lr", tmp_path / "y.lr.265")
    assert out.is_file()


def test_version_and_help_say_what_they_are() -> None:
    assert tools.tds("--version").stdout == f"tds-codec {tds.__version__}\n"
    assert tds.__version__ == importlib.metadata.version("tds-codec")
    assert "--version" in tools.tds("--help").stdout
