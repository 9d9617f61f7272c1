# SPDX-License-Identifier: LGPL-2.1-or-later
"""One plain stream made better: any file, each picture from its neighbours."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

import tds
import tools


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half the way from each picture to the mean of the two beside it."""
    return tools.window_model(tmp_path_factory.mktemp("model") / "window-k1.pt")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, small: Path) -> Path:
    """H.264 in MP4 with sound."""
    path = tmp_path_factory.mktemp("plain") / "plain.mp4"
    tools.ffmpeg("-i", small, "-f", "lavfi", "-i", "sine=440:duration=1", "-frames:v", 9,
                 "-c:v", "libx264", "-c:a", "aac", path)  # fmt: skip
    return path


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [f.to_ndarray().astype(float) for f in container.decode(video=0)]


def test_each_picture_is_made_from_its_neighbours(source: Path, model: Path) -> None:
    own = decoded(source)
    with tds.enhance(source, model=str(model), device="cpu") as pictures:
        assert pictures.plain and pictures.scale == 1
        got = [(p.to_ndarray(), p.status, p.references) for p in pictures]
    assert len(got) == len(own) and {status for _, status, _ in got} == {"refined"}
    for i in range(1, 8):
        want = own[i] / 2 + (own[i - 1] + own[i + 1]) / 4
        assert np.abs(got[i][0] - want).max() <= 0.51
    with tds.enhance(source, model=str(model), device="cpu", causal=True) as pictures:
        for i, p in enumerate(pictures):
            if i:
                want = own[i] * 3 / 4 + own[i - 1] / 4
                assert np.abs(p.to_ndarray() - want).max() <= 0.51


def test_strength_0_passes_every_picture_bit_for_bit(source: Path, model: Path) -> None:
    with tds.enhance(source, model=str(model), device="cpu", strength=0.0) as pictures:
        got = [(p.to_ndarray(), p.status) for p in pictures]
    assert {status for _, status in got} == {"passed"}
    assert all((a == b).all() for (a, _), b in zip(got, decoded(source), strict=True))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_command_keeps_times_and_sound(
    tmp_path: Path, source: Path, model: Path, suffix: str
) -> None:
    out = tmp_path / f"o{suffix}"
    done = tools.tds("enhance", source, out, "--model", model, "--device", "cpu")
    assert "9 frames (9 refined) with window" in done.stderr
    assert tools.times(out) == tools.times(source)
    with av.open(str(out)) as a, av.open(str(source)) as b:
        assert a.streams.audio[0].codec_context.name == b.streams.audio[0].codec_context.name
        heard = [bytes(p) for p in a.demux(audio=0) if p.size]
        assert heard == [bytes(p) for p in b.demux(audio=0) if p.size][-len(heard) :]
        assert len(heard) >= 14


def test_pipes_in_and_out(tmp_path: Path, source: Path, model: Path) -> None:
    options = ("--model", model, "--device", "cpu", "--quiet")
    tools.tds("enhance", source, tmp_path / "o.y4m", *options)
    tools.ffmpeg("-i", source, "-c", "copy", "-an", "-f", "matroska", tmp_path / "in.mkv")
    with open(tmp_path / "in.mkv", "rb") as file:
        cat = subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE)
        piped = subprocess.run(
            [sys.executable, "-m", "tds", "enhance", "-", "-", *options],
            stdin=cat.stdout, capture_output=True, check=True,
        ).stdout  # fmt: skip
        cat.wait()
    assert piped == (tmp_path / "o.y4m").read_bytes()


@pytest.mark.parametrize(
    ("name", "filters", "says"),
    [
        ("a.mkv", "format=gbrp", "bgr0 to yuv420p"),
        ("a.mkv", "format=yuv422p12le", "yuv422p12le to yuv422p10le"),
        ("a.mkv", "format=yuv444p,crop=127:71:0:0:exact=1", "127x71 to 126x70"),
        ("a.mkv", "setfield=tff,interlace", "is interlaced"),
    ],
)
def test_other_formats_are_converted_with_a_notice(
    tmp_path: Path, small: Path, model: Path, name: str, filters: str, says: str
) -> None:
    tools.ffmpeg("-i", small, "-frames:v", 6, "-vf", filters, "-c:v", "ffv1", tmp_path / name)
    done = tools.tds("enhance", tmp_path / name, tmp_path / "o.y4m", "--model", model, "--device",
                     "cpu")  # fmt: skip
    assert says in done.stderr
    assert tools.times(tmp_path / "o.y4m")[0] == 0


def test_what_cannot_be_enhanced_is_one_sentence(
    tmp_path: Path, small: Path, source: Path, model: Path, coded: object
) -> None:
    sound, grown = tmp_path / "sound.mp4", tmp_path / "grown.h264"
    tools.ffmpeg("-i", source, "-vn", "-c", "copy", sound)
    parts = []
    for size in ("128:72", "64:64"):
        parts.append(tmp_path / f"{size[:3]}.h264")
        scaled = ("-vf", f"scale={size}", "-c:v", "libx264")
        tools.ffmpeg("-i", small, "-frames:v", 4, *scaled, parts[-1])
    grown.write_bytes(b"".join(part.read_bytes() for part in parts))
    pair = coded(codec="hevc").path  # type: ignore[operator]
    tiny = tools.tiny_model(tmp_path / "tiny.pt")
    for file, options, says in (
        (sound, (), "has no video"),
        (grown, (), "its size changes"),
        (pair, (), "tds decode makes one video of both"),
        (source, ("--model", tiny), "k = 2"),
        (source, ("--model", "nothing-of-this-name"), "nothing-of-this-name"),
        (source, ("--backend", "bicubic", "--model", ""), "bicubic"),
        (source, ("--group", 5), "pair in two files"),
    ):
        given = ("--model", model) if "--model" not in options else ()
        out = tmp_path / "o.mkv"
        done = tools.tds("enhance", file, out, *given, *options, "--device", "cpu", status=1)
        assert len(done.stderr.splitlines()) == 1 and says in done.stderr, done.stderr
        assert not out.exists()


def test_a_stream_that_starts_broken_is_shown_from_where_it_decodes(
    tmp_path: Path, small: Path, model: Path
) -> None:
    """Cut into in the middle of a group of pictures, as a recording is that was joined late."""
    whole, late = tmp_path / "whole.ts", tmp_path / "late.ts"
    tools.ffmpeg("-stream_loop", 2, "-i", small, "-c:v", "libx264", "-g", 20, "-f", "mpegts", whole)
    data = whole.read_bytes()
    late.write_bytes(data[len(data) // 4 // 188 * 188 :])
    done = tools.tds("enhance", late, tmp_path / "o.mkv", "--model", model, "--device", "cpu")
    count = len(tools.times(tmp_path / "o.mkv"))
    assert 40 <= count <= 75 and f"{count} frames" in done.stderr


# -- what the tag of a pair asks for ----------------------------------------


def tagged(out: Path, source: Path, **changes: object) -> Path:
    import json

    with av.open(str(source)) as file:
        tag = {**json.loads(file.metadata["tds"]), **changes}
    tools.ffmpeg("-i", source, "-map", 0, "-c", "copy", "-movflags", "use_metadata_tags",
                 "-movie_timescale", 16000, "-metadata", f"tds={json.dumps(tag)}", out)  # fmt: skip
    return out


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    tools.window_model(folder / "window-k1.pt")
    tools.window_model(folder / "window-k2.pt", scale=2)
    monkeypatch.setenv("TDS_MODEL_PATH", str(folder))
    return folder


def test_hr_pictures_are_refined_where_the_tag_or_an_option_asks(
    tmp_path: Path, coded: object, models: Path
) -> None:
    plain = coded(codec="hevc").path  # type: ignore[operator]
    asks = tagged(tmp_path / "asks.mp4", plain, hr="refine", model="window")
    for file, options, refined in (
        (asks, {}, 10), (asks, {"hr": "pass"}, 0),
        (plain, {"model": "window"}, 0), (plain, {"model": "window", "hr": "refine"}, 10),
    ):  # fmt: skip
        with tds.decode(file, device="cpu", **options) as pictures:
            statuses = [p.status for p in pictures]
        assert len(statuses) == 25 and statuses.count("refined") == refined


def test_strengths_of_the_tag_hold_for_its_very_model(
    tmp_path: Path, coded: object, models: Path
) -> None:
    sha256 = hashlib.sha256((models / "window-k2.pt").read_bytes()).hexdigest()
    source = coded(codec="hevc").path  # type: ignore[operator]
    strengths = [[2, 7], [0, 6], [1, 12]]
    for digest, weaker in ((sha256, 4), ("0" * 64, 0)):
        path = tagged(tmp_path / f"{weaker}.mp4", source, model="window", model_sha256=digest,
                      strengths=strengths)  # fmt: skip
        with tds.decode(path, device="cpu") as pictures:
            ways = [p.status for p in pictures]
            assert any("another version" in n for n in pictures.notices) == (not weaker)
        assert len(ways) == 25
        assert ways[7:13].count("upsampled") == weaker and ways.count("upsampled") == weaker


def test_strengths_of_a_sidecar_hold_for_raw_streams(
    tmp_path: Path, coded: object, models: Path
) -> None:
    source = coded(codec="hevc").path  # type: ignore[operator]
    sha256 = hashlib.sha256((models / "window-k2.pt").read_bytes()).hexdigest()
    path = tagged(tmp_path / "a.mp4", source, model="window", model_sha256=sha256,
                  strengths=[[2, 7], [0, 6], [1, 12]])  # fmt: skip
    metadata = tds.open(path).metadata
    assert metadata is not None
    raw = [tmp_path / f"{track}.265" for track in (0, 1)]
    for track, stream in enumerate(raw):
        tools.ffmpeg(
            "-i", path, "-map", f"0:v:{track}", "-c", "copy", *tools.ANNEX_B["hevc"], stream
        )
    with tds.decode(path, device="cpu") as pictures:
        want = [(p.status, tools.digest(p.planes)) for p in pictures]
    with tds.enhance(raw[0], raw[1], sidecar=metadata, device="cpu") as pictures:
        assert [(p.status, tools.digest(p.planes)) for p in pictures] == want
    assert [status for status, _ in want].count("upsampled") == 4
