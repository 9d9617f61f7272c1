# SPDX-License-Identifier: LGPL-2.1-or-later
"""Outputs, two-file enhancing, and the doors agreeing with each other."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import tds
import tools
from tds.container.sidecar import read_sidecar, write_sidecar
from tds.postdec import PostdecSettings, postdec

Coded = Callable[..., tds.EncodeResult]


def digests(path: Path, **options: object) -> list[str]:
    with tds.decode(path, **options) as pictures:
        return [tools.digest(p.planes) for p in pictures]


def raw_digests(path: Path, width: int, height: int, sample: int = 1) -> list[str]:
    """Digests of the pictures of a planar yuv file, as tools.digest makes them."""
    import hashlib

    data = path.read_bytes()
    size = width * height * 3 // 2 * sample
    assert len(data) % size == 0
    return [hashlib.md5(data[i : i + size]).hexdigest() for i in range(0, len(data), size)]


@pytest.mark.parametrize("codec", ["hevc", "vvc"])
def test_every_output_holds_the_same_pictures(tmp_path: Path, coded: Coded, codec: str) -> None:
    source = coded(codec=codec).path
    want = digests(source, backend="bicubic")
    bicubic = ("--backend", "bicubic", "--quiet")
    tools.tds("decode", source, tmp_path / "o.yuv", *bicubic)
    assert raw_digests(tmp_path / "o.yuv", 128, 72) == want
    tools.tds("decode", source, tmp_path / "o.y4m", *bicubic)
    assert [d for _, d in tools.pictures(tmp_path / "o.y4m")] == want
    tools.tds("decode", source, tmp_path / "o.mkv", "--vcodec", "ffv1", *bicubic)
    assert [d for _, d in tools.pictures(tmp_path / "o.mkv")] == want
    tools.tds("decode", source, tmp_path / "o.mp4", "--vcodec", "libx264", *bicubic,
              "--vcodec-option", "qp=0")  # fmt: skip
    assert [d for _, d in tools.pictures(tmp_path / "o.mp4")] == want
    piped = subprocess.run(
        [sys.executable, "-m", "tds", "decode", source, "-", *bicubic],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    assert piped == (tmp_path / "o.y4m").read_bytes()


def test_ten_bit_outputs(tmp_path: Path, city: Path) -> None:
    source, coded = tmp_path / "ten.mkv", tmp_path / "ten.mp4"
    tools.ffmpeg(
        *("-i", city, "-frames:v", 5, "-vf", "scale=128:72", "-pix_fmt", "yuv420p10le"),
        *("-c:v", "ffv1", source),
    )
    tds.encode(source, coded, codec="hevc", preset="ultrafast", plan="tds")
    want = digests(coded, backend="bicubic")
    for name in ("o.yuv", "o.y4m"):
        tools.tds("decode", coded, tmp_path / name, "--backend", "bicubic", "--quiet")
    assert raw_digests(tmp_path / "o.yuv", 128, 72, 2) == want
    assert [d for _, d in tools.pictures(tmp_path / "o.y4m")] == want


@pytest.mark.parametrize("name", ["o.mp4", "o.mkv", "o.mov"])
def test_video_outputs_keep_every_time(tmp_path: Path, coded: Coded, name: str) -> None:
    result = coded(codec="hevc", config="ra")
    tools.tds("decode", result.path, tmp_path / name, "--backend", "bicubic")
    base = result.metadata.timeline.time_base
    assert tools.times(tmp_path / name) == [t * base for t in result.metadata.timeline.times()]


def test_pictures_say_how_they_were_made(coded: Coded) -> None:
    with tds.decode(coded().path, backend="bicubic") as pictures:
        for i, picture in enumerate(pictures):
            if i % 5 in (0, 4):
                assert picture.status == "passed" and not picture.reason
            else:
                assert picture.status == "upsampled" and picture.reason == {"no-model"}


def test_a_model_is_used_and_its_references_are_the_group_s(tmp_path: Path, coded: Coded) -> None:
    """The tiny model is linear, so the paper's order of work can be followed by hand."""
    source = coded(codec="hevc", config="ai").path
    model = tools.tiny_model(tmp_path / "tiny.pt")
    with tds.decode(source, model=str(model), device="cpu") as pictures:
        got = [(p.status, p.planes[0].astype(float)) for p in pictures]
        assert "tiny" in pictures.model
    with av.open(str(source)) as container:
        # The model repeats samples of the packed picture, so each phase by itself.
        rows, columns = (np.arange(n) // 4 * 2 + np.arange(n) % 2 for n in (72, 128))
        lr = [
            f.to_ndarray()[:36, :64].astype(float)[np.ix_(rows, columns)]
            for f in container.decode(video=1)
        ]
    a, b = got[0][1], got[4][1]
    assert [status for status, _ in got[:5]] == ["passed", *["enhanced"] * 3, "passed"]
    middle = (a + lr[1] + b) / 3
    assert np.abs(got[2][1] - middle).max() <= 0.51
    assert np.abs(got[1][1] - (a + lr[0] + middle) / 3).max() <= 0.51
    assert np.abs(got[3][1] - (middle + lr[2] + b) / 3).max() <= 0.51


def loudness(path: Path) -> dict[int, float]:
    """Mean square of the sound in each 10 ms of time, by its number of 10 ms."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("flt", "mono")
        found: dict[int, list[float]] = {}
        for frame in container.decode(audio=0):
            for part in resampler.resample(frame):
                assert part.pts is not None and part.time_base is not None
                samples = part.to_ndarray()[0]
                start = float(part.pts * part.time_base)
                for i, sample in enumerate(samples):
                    found.setdefault(int((start + i / part.sample_rate) * 100), []).append(sample)
    return {at: float(np.mean(np.square(samples))) for at, samples in found.items()}


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize("name", ["o.mkv", "o.mp4"])
def test_sound_moves_no_picture_and_stays_in_step(
    tmp_path: Path, city: Path, suffix: str, name: str
) -> None:
    """AAC begins before time 0, for which Matroska has no place."""
    source, paired, out = tmp_path / f"s{suffix}", tmp_path / "p.mp4", tmp_path / name
    beep = "aevalsrc=0.5*sin(2764*t)*between(t\\,0.4\\,0.7):d=1:s=44100"
    tools.ffmpeg(
        *("-i", city, "-f", "lavfi", "-i", beep, "-vf", "scale=128:72", "-c:v", "libx264"),
        *("-bf", 0, "-c:a", "aac", source),
    )
    with av.open(str(source)) as container:
        assert min(p.pts for p in container.demux(audio=0) if p.pts is not None) < 0
    tds.encode(source, paired, codec="hevc", preset="ultrafast", plan="tds")
    tools.tds("decode", paired, out, "--backend", "bicubic")
    assert tools.times(out) == tools.times(source)
    assert tools.times(out)[0] == 0
    want, got = loudness(source), loudness(out)
    assert got[55] > 0.01
    for at in range(2, 99):  # before and after the beep, and at its ends
        assert got[at] == pytest.approx(want[at], abs=0.02)


def test_y4m_says_shape_and_range(tmp_path: Path, city: Path) -> None:
    source, paired = tmp_path / "s.mkv", tmp_path / "p.mp4"
    tools.ffmpeg(
        *("-i", city, "-frames:v", 5, "-c:v", "libx264", "-color_range", "pc"),
        *("-vf", "scale=128:72:out_range=pc,format=yuvj420p,setparams=color_primaries=bt709:"
                 "color_trc=bt709:colorspace=bt709,setsar=4/3", source),
    )  # fmt: skip
    for codec in ("hevc", "vvc"):
        tds.encode(
            source, paired, codec=codec, preset=tools.FASTEST[codec], overwrite=True, plan="tds"
        )
        tds.encode(
            source, tmp_path / f"{codec}.json", codec=codec, preset=tools.FASTEST[codec], plan="tds"
        )
        raw = [tmp_path / f"{codec}.{role}.{'265' if codec == 'hevc' else '266'}"
               for role in ("hr", "lr")]  # fmt: skip
        tools.tds("decode", paired, tmp_path / f"{codec}.y4m", "--backend", "bicubic")
        with open(tmp_path / f"{codec}.y4m", "rb") as file:
            words = file.readline().split()
        assert b"A4:3" in words and b"XCOLORRANGE=FULL" in words
        tools.tds("decode", paired, tmp_path / "o.mkv", "-y", "--backend", "bicubic")
        with av.open(str(tmp_path / "o.mkv")) as container:
            assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
            assert next(container.decode(video=0)).color_range == 2
        if codec == "vvc":  # whose streams do not hold the shape of a sample
            continue
        two = ("--hr", raw[0], "--lr", raw[1], "--sidecar", tmp_path / f"{codec}.json")
        for command in ("enhance", "postdec"):
            for name in ("o.y4m", "o.mkv"):
                tools.tds(command, *two, tmp_path / name, "-y", "--backend", "bicubic")
            with open(tmp_path / "o.y4m", "rb") as file:
                assert file.readline().split() == words
            with av.open(str(tmp_path / "o.mkv")) as container:
                assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
                assert next(container.decode(video=0)).color_range == 2


def test_times_of_a_y4m_are_the_source_s_rate(tmp_path: Path, small: Path, coded: Coded) -> None:
    tools.tds("decode", coded().path, tmp_path / "o.y4m", "--backend", "bicubic")
    assert tools.times(tmp_path / "o.y4m") == tools.times(small)


# -- two files --------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, coded: Coded) -> Callable[..., Path]:
    """A folder with a coded clip's two streams as raw files, y4m and yuv, and its sidecar."""

    def make(codec: str, config: str, **options: object) -> Path:
        folder = tmp_path_factory.mktemp(f"{codec}-{config}")
        result = coded(codec=codec, config=config, **options)
        write_sidecar(folder / "plan.json", result.metadata)
        suffix = {"vvc": "266", "hevc": "265"}[codec]
        for i, name in enumerate(("hr", "lr")):
            pick = ("-i", result.path, "-map", f"0:v:{i}")
            tools.ffmpeg(*pick, "-c", "copy", *tools.ANNEX_B[codec], folder / f"{name}.{suffix}")
            tools.ffmpeg(*pick, "-c", "copy", folder / f"{name}.mp4")
            for kind in ("y4m", "yuv"):
                tools.ffmpeg(*pick, "-fps_mode", "passthrough", folder / f"{name}.{kind}")
        (folder / "whole.mp4").symlink_to(result.path)
        return folder

    return make


@pytest.mark.parametrize("codec", ["hevc", "vvc"])
@pytest.mark.parametrize("config", ["ai", "ldp", "ra"])
@pytest.mark.parametrize("boundaries", ["independent", "shared"])
def test_two_files_give_what_the_paired_file_gives(
    tmp_path: Path, pair: Callable[..., Path], codec: str, config: str, boundaries: str
) -> None:
    folder = pair(codec, config, boundaries=boundaries, intra_period=12, group=5)
    want = digests(folder / "whole.mp4", backend="bicubic")
    suffix = {"vvc": "266", "hevc": "265"}[codec]
    for kind in (suffix, "y4m", "yuv"):
        raw = ("--size", "128x72") if kind == "yuv" else ()
        out = tmp_path / f"{kind}.yuv"
        tools.tds(
            *("enhance", "--hr", folder / f"hr.{kind}", "--lr", folder / f"lr.{kind}", out),
            *("--sidecar", folder / "plan.json", "--backend", "bicubic", *raw),
        )
        assert raw_digests(out, 128, 72) == want


@pytest.mark.parametrize("group", [5, 11])
@pytest.mark.parametrize("boundaries", ["independent", "shared"])
@pytest.mark.parametrize("config", ["ai", "ldp"])
def test_a_regular_plan_needs_no_sidecar(
    tmp_path: Path, pair: Callable[..., Path], config: str, boundaries: str, group: int
) -> None:
    folder = pair("hevc", config, boundaries=boundaries, group=group)
    lead = ("--lead",) if config == "ldp" else ()
    out = tmp_path / "o.mkv"
    tools.tds(
        *("enhance", "--hr", folder / "hr.265", "--lr", folder / "lr.265", out, "--group", group),
        *("--boundaries", boundaries, "--rate", 50, "--vcodec", "ffv1", "--backend", "bicubic"),
        *lead,
    )
    got = tools.pictures(out)
    assert [d for _, d in got] == digests(folder / "whole.mp4", backend="bicubic")
    assert [round(float(t) * 50) for t, _ in got] == list(range(25))


def test_two_files_that_hold_times_pair_by_them(tmp_path: Path, pair: Callable[..., Path]) -> None:
    folder = pair("hevc", "ai")
    with tds.enhance(
        str(folder / "hr.mp4"), str(folder / "lr.mp4"), settings=tds.EnhanceSettings("bicubic")
    ) as pictures:
        got = [tools.digest(p.planes) for p in pictures]
    assert got == digests(folder / "whole.mp4", backend="bicubic")


def test_fifos_in_and_a_pipe_out(tmp_path: Path, pair: Callable[..., Path]) -> None:
    folder = pair("hevc", "ai")
    threads = []
    for name in ("hr", "lr"):
        fifo = tmp_path / f"{name}.y4m"
        os.mkfifo(fifo)
        data = (folder / f"{name}.y4m").read_bytes()
        threads.append(threading.Thread(target=fifo.write_bytes, args=(data,), daemon=True))
        threads[-1].start()
    done = subprocess.run(
        [sys.executable, "-m", "tds", "enhance", "--hr", tmp_path / "hr.y4m", "--lr"]
        + [tmp_path / "lr.y4m", "-", "--format", "yuv", "--group", "5", "--backend", "bicubic"],
        capture_output=True, check=True, timeout=120,
    )  # fmt: skip
    for thread in threads:
        thread.join(10)
    (tmp_path / "o.yuv").write_bytes(done.stdout)
    assert raw_digests(tmp_path / "o.yuv", 128, 72) == digests(
        folder / "whole.mp4", backend="bicubic"
    )


def test_one_program_that_feeds_both_fifos(tmp_path: Path, pair: Callable[..., Path]) -> None:
    """It opens the second one only when the first one is read, and waits with the first one's
    pictures while the second one's are not read."""
    folder = pair("hevc", "ai")
    for order in (("hr", "lr"), ("lr", "hr")):
        fifos = [tmp_path / f"{name}{order[0]}.y4m" for name in order]
        for fifo in fifos:
            os.mkfifo(fifo)
        writer = subprocess.Popen(
            [tools.FFMPEG, "-nostdin", "-loglevel", "error", "-y"]
            + [x for name in order for x in ("-i", str(folder / f"{name}.mp4"))]
            + ["-map", "0:v", "-fps_mode", "passthrough", fifos[0]]
            + ["-map", "1:v", "-fps_mode", "passthrough", fifos[1]]
        )
        try:
            named = dict(zip(order, fifos, strict=True))
            tools.tds("enhance", "--hr", named["hr"], "--lr", named["lr"], tmp_path / "o.yuv",
                      "-y", "--group", 5, "--backend", "bicubic")  # fmt: skip
        finally:
            writer.kill()
            writer.wait()
        want = digests(folder / "whole.mp4", backend="bicubic")
        assert raw_digests(tmp_path / "o.yuv", 128, 72) == want


@pytest.mark.parametrize(("number", "written"), [(signal.SIGINT, 60), (signal.SIGTERM, 0)])
def test_a_pipe_that_nobody_writes_can_be_left(
    tmp_path: Path, pair: Callable[..., Path], number: signal.Signals, written: int
) -> None:
    """With half a picture in it, and with less."""
    fifo = tmp_path / "f.y4m"
    os.mkfifo(fifo)
    for arguments in (
        ("enhance", "--hr", fifo, "--lr", pair("hevc", "ai") / "lr.y4m", "o.y4m", "--group", 5),
        ("encode", "--plan", "tds", fifo, "o.mp4", "--codec", "hevc"),
    ):
        command = [sys.executable, "-m", "tds", *map(str, arguments)]
        process = subprocess.Popen(
            command, cwd=tmp_path, stderr=subprocess.PIPE, preexec_fn=tools.interruptible
        )
        descriptor = os.open(fifo, os.O_RDWR)  # a writer that goes on
        os.write(descriptor, b"YUV4MPEG2 W128 H72 F25:1 Ip A1:1 C420jpeg\nFRAME\n" + bytes(written))
        time.sleep(3)
        assert process.poll() is None
        process.send_signal(number)
        _, said = process.communicate(timeout=20)
        os.close(descriptor)
        assert process.returncode == 128 + number, said
        assert sorted(path.name for path in tmp_path.iterdir()) == ["f.y4m"]


def test_two_files_that_do_not_belong_together(
    tmp_path: Path, pair: Callable[..., Path], coded: Coded
) -> None:
    folder = pair("hevc", "ai")
    hr, lr = folder / "hr.265", folder / "lr.265"
    for arguments, says in (
        (("--hr", lr, "--lr", hr, "--group", 5), "wrong way round"),
        (("--hr", hr, "--lr", lr), "hold no times"),
        (("--hr", hr, "--lr", lr, "--group", 4), "odd number"),
        (("--hr", hr, "--lr", lr, "--sidecar", tmp_path / "none.json"), "no such sidecar"),
        (("--hr", hr, "--lr", tmp_path / "none.265", "--group", 5), "no such file"),
    ):
        done = tools.tds("enhance", *arguments, tmp_path / "o.yuv", status=1)
        assert says in done.stderr and not (tmp_path / "o.yuv").exists()
    fewer = coded(codec="hevc", config="ai", group=11).metadata
    write_sidecar(tmp_path / "other.json", fewer)
    done = tools.tds(
        *("enhance", "--hr", hr, "--lr", lr, "--sidecar", tmp_path / "other.json"),
        tmp_path / "o.yuv",
        status=1,
    )
    assert "more than its sidecar" in done.stderr
    assert read_sidecar(folder / "plan.json").timeline.frames == 25


# -- from Python ------------------------------------------------------------


def test_the_session_takes_pictures_from_any_decoder(coded: Coded) -> None:
    """tds.Session fed by PyAV's own decoding gives what tds.decode gives."""
    path = coded(codec="hevc", config="ldp").path
    want = digests(path, backend="bicubic")
    got = []
    with av.open(str(path)) as a, av.open(str(path)) as b:
        streams = {"hr": a.decode(a.streams.video[0]), "lr": b.decode(b.streams.video[1])}
        heads = {role: next(frames, None) for role, frames in streams.items()}
        session = tds.Session(128, 72, 2, backend="bicubic")
        while True:
            picture = session.receive()
            if picture is not None:
                got.append(tools.digest(picture.planes))
                continue
            if session.ended:
                break
            for role in session.wants:
                frame = heads[role]
                if frame is None:
                    session.end(role)
                elif session.send(role, frame):
                    heads[role] = next(streams[role], None)
    assert got == want


def threads_and_files() -> tuple[int, int]:
    """Of this process, once those that are about to end have ended."""
    gc.collect()
    counts = (0, 0)
    for _ in range(100):
        last, counts = counts, (threading.active_count(), len(os.listdir("/proc/self/fd")))
        if counts == last:
            break
        time.sleep(0.3)
    return counts


@pytest.mark.parametrize("door", ["decode", "enhance", "postdec"])
def test_a_decoder_let_go_unclosed_leaves_nothing(pair: Callable[..., Path], door: str) -> None:
    folder = pair("hevc", "ai")
    hr, lr = str(folder / "hr.265"), str(folder / "lr.265")
    plan, bicubic = read_sidecar(folder / "plan.json"), tds.EnhanceSettings("bicubic")

    def begun() -> tds.Decoder:
        if door == "decode":
            return tds.decode(folder / "whole.mp4", settings=bicubic)
        if door == "enhance":
            return tds.enhance(hr, lr, sidecar=plan, settings=bicubic)
        return postdec(hr, lr, PostdecSettings(sidecar=plan, enhance=bicubic))

    with begun() as decoder:  # what is loaded once stays
        next(decoder)
    before = threads_and_files()
    for _ in range(4):
        decoder = begun()
        next(decoder)
        del decoder
    assert threads_and_files() == before
    for _ in range(4):
        decoder = begun()
        next(decoder)
        decoder.close()
        decoder.close()
        assert len(os.listdir("/proc/self/fd")) == before[1], "a file is open after close"
    assert threads_and_files() == before


def test_the_package_says_what_it_has() -> None:
    for name in tds.__all__:
        assert getattr(tds, name) is not None
    with pytest.raises(AttributeError):
        tds.nothing  # noqa: B018
