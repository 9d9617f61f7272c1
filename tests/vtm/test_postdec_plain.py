# SPDX-License-Identifier: LGPL-2.1-or-later
"""One stream that is no TDS video, decoded by any program and enhanced on the fly: the pictures
are those of ``tds.enhance``, whatever way they come."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from postdec_helpers import MakePair, Pair

import tds
import tools
from tds.errors import ExternalError, InputError
from tds.postdec import PostdecSettings, postdec_plain

Shown = list[tuple[int, str, NDArray[np.generic]]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tools.window_model(tmp_path_factory.mktemp("model") / "window-k1.pt")


@pytest.fixture(scope="module")
def stream(city: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HEVC with B pictures, 50 a second, raw."""
    path = tmp_path_factory.mktemp("stream") / "plain.265"
    tools.ffmpeg(
        *("-r", 50, "-i", city, "-vf", "scale=128:72", "-c:v", "libx265"),
        *("-preset", "ultrafast", "-x265-params", "bframes=3:log-level=none", "-f", "hevc", path),
    )
    return path


def drain(decoder: tds.Decoder) -> Shown:
    with decoder:
        return [(p.pts, p.status, p.to_ndarray()) for p in decoder]


def settings(model: Path, decoder: str, **more: object) -> PostdecSettings:
    enhance = tds.EnhanceSettings(model=str(model), device="cpu")
    options: dict[str, object] = {"decoder": decoder, "timeout": 20.0, "enhance": enhance, **more}
    return PostdecSettings(**options)  # type: ignore[arg-type]


def assert_same(a: Shown, b: Shown) -> None:
    assert [x[:2] for x in a] == [x[:2] for x in b]
    assert all(np.array_equal(x, y) for (_, _, x), (_, _, y) in zip(a, b, strict=True))


def y4m_of(stream: Path) -> Path:
    path = stream.with_suffix(".y4m")
    if not path.exists():
        tools.ffmpeg("-i", stream, "-fps_mode", "passthrough", path)
    return path


def fake_hm(folder: Path) -> Path:
    """Takes the options of an unpatched HM and writes raw yuv."""
    program = folder / "TAppDecoder"
    program.write_text(
        "#!/bin/sh\n[ $1 = --help ] && exit\n"
        f'exec {tools.FFMPEG} -loglevel error -i "$2" -fps_mode passthrough -f rawvideo -y "$4"\n'
    )
    program.chmod(0o755)
    return program


@pytest.mark.parametrize("way", ["ffmpeg", "hm", "y4m", "yuv", "pushed"])
def test_every_way_gives_the_pictures_of_enhance(
    stream: Path, model: Path, tmp_path: Path, pusher: str, way: str
) -> None:
    options: dict[str, object] = {}
    path = stream
    if way == "hm":
        options["decoder_path"] = str(fake_hm(tmp_path))
    elif way == "y4m":
        path = y4m_of(stream)
    elif way == "yuv":
        path = tmp_path / "plain.yuv"
        tools.ffmpeg("-i", stream, "-fps_mode", "passthrough", "-f", "rawvideo", path)
        options["size"] = (128, 72)
    elif way == "pushed":
        path = y4m_of(stream)
    decoder = {"y4m": "none", "yuv": "none", "pushed": pusher}.get(way, way)
    got = drain(postdec_plain(str(path), settings(model, decoder, **options)))
    want = drain(tds.enhance(stream, model=str(model), device="cpu"))
    assert len(got) == 25 and {status for _, status, _ in got} == {"refined"}
    assert_same(got, [(i, status, x) for i, (_, status, x) in enumerate(want)])


def test_the_rate_is_the_stream_s_unless_told(stream: Path, model: Path, tmp_path: Path) -> None:
    for options, rate in (({}, Fraction(50)), ({"rate": Fraction(24)}, Fraction(24))):
        with postdec_plain(str(stream), settings(model, "ffmpeg", **options)) as decoder:
            assert decoder.rate == rate == 1 / decoder.time_base
    hm = settings(model, "hm", decoder_path=str(fake_hm(tmp_path)))
    with postdec_plain(str(stream), hm) as decoder:  # whose raw yuv says nothing
        assert decoder.rate == 50


def test_a_patched_decoder_started_by_someone_else(
    stream: Path, model: Path, pusher: str, tmp_path: Path
) -> None:
    socket = tmp_path / "s"
    y4m = y4m_of(stream)

    def start(role: str) -> None:
        while not socket.exists():
            time.sleep(0.01)
        subprocess.run([pusher.split()[0], f"unix:{socket}", role, str(y4m)], stderr=-3)

    def run(role: str) -> Shown:
        thread = threading.Thread(target=start, args=(role,))
        thread.start()
        try:
            return drain(postdec_plain(None, settings(model, "none", listen=str(socket))))
        finally:
            thread.join()

    assert_same(run("hr"), drain(postdec_plain(str(y4m), settings(model, "none"))))
    with pytest.raises(ExternalError, match="says it is LR; a plain stream is sent as hr"):
        run("lr")


def test_a_decoder_that_dies_is_named(stream: Path, model: Path, pusher: str) -> None:
    with pytest.raises(ExternalError, match=r"the decoder \(push_y4m\) ended after 5 pictures"):
        drain(postdec_plain(str(y4m_of(stream)), settings(model, f"{pusher} die=5")))


def test_the_command(stream: Path, model: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "out.y4m", tmp_path / "enhance.y4m"
    use = ("--model", model, "--device", "cpu", "--quiet")
    tools.tds("postdec", "--plain", "--input", stream, out, *use)
    tools.tds("enhance", stream, other, *use)
    assert out.read_bytes() == other.read_bytes()
    tools.tds("postdec", "--plain", "--input", stream, out, *use, "-y", "--strength", 0)
    frames = out.read_bytes().split(b"FRAME\n")[1:]
    assert frames == y4m_of(stream).read_bytes().split(b"FRAME\n")[1:]


def test_what_is_no_plain_stream_is_one_sentence(
    stream: Path, model: Path, make_pair: MakePair, tmp_path: Path
) -> None:
    pair: Pair = make_pair()
    out = tmp_path / "out.y4m"
    for arguments, says in (
        (("--plain",), "no stream; name it with --input"),
        (("--plain", "--input", stream, "--hr", stream), "--plain is of one stream"),
        (("--input", stream), "give --plain with it"),
        (("--plain", "--input", stream, "--group", 5), "a plain stream is no pair"),
        (("--plain", "--input", stream, "--sidecar", pair.sidecar), "a plain stream is no pair"),
        (("--plain", "--input", tmp_path / "none.265"), "there is no such file"),
        (("--plain", "--input", stream, "--backend", "bicubic"), "model alone"),
    ):
        command = [sys.executable, "-m", "tds", "postdec", *map(str, arguments), str(out)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1 and says in done.stderr, done.stderr
        assert done.stderr.count("\n") == 1 and not out.exists()
    with pytest.raises(InputError, match="a plain stream is no pair"):
        postdec_plain(str(stream), settings(model, "ffmpeg", plan=tds.RegularPlan(5)))
