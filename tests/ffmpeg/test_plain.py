# SPDX-License-Identifier: LGPL-2.1-or-later
"""One video, each frame of which is enhanced: the pictures of a plain session, sound and times."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path

import av
import pytest
from filter_tools import Frames, Program, retagged, tag_of

import tds
import tools
from tds import models


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tools.tiny_family(tmp_path_factory.mktemp("models") / "tiny-k1.pt")


@pytest.fixture(scope="module")
def video(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("video") / "plain.mp4"
    sound = ("-f", "lavfi", "-i", "sine=d=1")
    tools.ffmpeg("-i", small, *sound, "-c:v", "libx264", "-qp", 34, "-bf", 2, "-c:a", "aac", out)
    return out


def session_frames(path: Path, model: Path, **settings: object) -> tuple[Frames, list[str]]:
    """What a plain session makes of a file: the frames, and what became of each."""
    frames: Frames = []
    statuses = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        base = Fraction(stream.time_base or 1)
        pictures = iter(list(container.decode(stream)))
        size = (stream.codec_context.width, stream.codec_context.height)
        session = tds.Session(*size, 1, kind="plain", model=model, device="cpu", **settings)
        while True:
            picture = session.receive()
            if picture is not None:
                frames.append((picture.pts * base, tools.digest(picture.planes)))
                statuses.append(picture.status)
            elif session.ended:
                return frames, statuses
            elif (frame := next(pictures, None)) is None:
                session.end("hr")
            else:
                session.send("hr", frame, frame.pts)


@pytest.mark.parametrize("route", ["-vf", "-filter_complex"])
@pytest.mark.parametrize("causal", [False, True])
def test_the_frames_are_those_of_a_plain_session(
    ffmpeg: Program, video: Path, model: Path, route: str, causal: bool
) -> None:
    want, statuses = session_frames(video, model, causal=causal)
    assert len(want) == 25 and set(statuses) == {"refined"}
    graph = f"tds_enhance=model={model}:device=cpu:causal={int(causal)}"
    if route == "-filter_complex":
        graph += ":inputs=1"  # with -vf the program sees that there is one video
    assert ffmpeg.frames("-i", video, route, graph) == want
    ran = ffmpeg("-i", video, route, graph + ",metadata=print:file=-", "-f", "null", "-")
    assert ran.output.count("status=refined") == 25 and ran.log == ""


def test_strength(ffmpeg: Program, video: Path, model: Path) -> None:
    graph = f"tds_enhance=model={model}:device=cpu:strength="
    assert ffmpeg.frames("-i", video, "-vf", graph + "0") == tools.pictures(video)
    half, _ = session_frames(video, model, strength=0.5)
    assert ffmpeg.frames("-i", video, "-vf", graph + "0.5") == half


def test_sound_comes_along_and_the_rate_is_the_video_s_own(
    ffmpeg: Program, video: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.mkv"
    ran = ffmpeg("-v", "verbose", "-i", video, "-vf", f"tds_enhance=model={model}:device=cpu",
                 "-c:v", "ffv1", out)  # fmt: skip
    assert "by the time stamps" not in ran.log
    with av.open(str(out)) as container:
        assert [s.type for s in container.streams] == ["video", "audio"]
        assert sum(1 for _ in container.decode(video=0)) == 25


def test_a_part_of_it(ffmpeg: Program, video: Path, model: Path) -> None:
    """What lies before the start serves as a reference where the input is read from before it."""
    graph = f"tds_enhance=model={model}:device=cpu"
    whole = [md5 for _, md5 in ffmpeg.frames("-i", video, "-vf", graph)]
    got = [md5 for _, md5 in ffmpeg.frames("-ss", 0.4, "-t", 0.4, "-i", video, "-vf", graph)]
    assert len(got) == 10 and got[1:] == whole[11:20]


def test_a_model_of_contract_1_is_none_for_it(ffmpeg: Program, video: Path, tmp_path: Path) -> None:
    old = tools.tiny_model(tmp_path / "old-k2.pt")
    graph = f"tds_enhance=model={old}:device=cpu"
    ran = ffmpeg("-i", video, "-vf", graph, "-f", "null", "-", status=None)
    assert "is a model for k = 2, and this video needs one for k = 1" in ran.log


def test_hr_pictures_of_a_pair_are_refined_where_asked(
    ffmpeg: Program, pair: Path, tmp_path: Path
) -> None:
    for scale in (1, 2):
        tools.tiny_family(tmp_path / f"both-k{scale}.pt", scale)
    tagged = retagged(ffmpeg, pair, tmp_path / "tagged.mp4", tag_of(ffmpeg, pair, hr="refine"))
    path = {"TDS_MODEL_PATH": str(tmp_path)}
    for source, hr, refined in ((pair, "auto", 0), (pair, "refine", 10), (tagged, "auto", 10),
                                (tagged, "pass", 0)):  # fmt: skip
        graph = f"tds_enhance=model=both:device=cpu:hr={hr},metadata=print:file=-"
        ran = ffmpeg("-i", source, "-vf", graph, "-f", "null", "-", **path)
        assert ran.output.count("status=refined") == refined
        assert ran.output.count("status=enhanced") == 15


def test_the_strengths_of_the_tag_are_used_with_the_model_it_names(
    ffmpeg: Program, pair: Path, tmp_path: Path
) -> None:
    model = tools.tiny_family(tmp_path / "mine-k2.pt", 2)
    named = {"model": "mine", "model_sha256": hashlib.sha256(model.read_bytes()).hexdigest()}
    runs = [[2, 7], [0, 1], [2, 17]]  # frame 7 is an LR frame
    tag = tag_of(ffmpeg, pair, **named, strengths=runs)
    tagged = retagged(ffmpeg, pair, tmp_path / "tagged.mp4", tag)
    path = {"TDS_MODEL_PATH": str(tmp_path)}
    graph = "tds_enhance=device=cpu"
    whole = ffmpeg.frames("-i", pair, "-vf", f"{graph}:model=mine", **path)
    got = ffmpeg.frames("-i", tagged, "-vf", graph, **path)
    assert [i for i, (a, b) in enumerate(zip(whole, got, strict=True)) if a != b] == [7]
    part = ffmpeg.frames("-ss", 0.2, "-i", tagged, "-vf", graph, **path)
    assert [md5 for _, md5 in part] == [md5 for _, md5 in got][5:]
    assert ffmpeg.frames("-i", tagged, "-vf", f"{graph}:strength=1", **path) == whole


def test_a_plain_plan_s_tag_is_followed(
    ffmpeg: Program, small: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Model, strengths, and that pictures of a plan without a model pass."""
    monkeypatch.setenv("TDS_MODEL_PATH", str(model.parent))
    options = {"codec": "hevc", "preset": "ultrafast", "qp": 37}
    made = tds.encode(small, tmp_path / "o.mp4", plan="plain-enhanced", model="tiny", **options)
    weak = tmp_path / "weak.mp4"
    tag = tag_of(ffmpeg, made.path, strengths=[[0, 5], [1, 10], [2, 10]])
    retagged(ffmpeg, made.path, weak, tag)
    with tds.decode(weak) as pictures:
        want = [(p.pts * pictures.time_base, tools.digest(p.planes)) for p in pictures]
    search = {"TDS_MODEL_PATH": str(model.parent)}
    for route in ("-vf", "-filter_complex"):
        graph = "tds_enhance=device=cpu" + (":inputs=1" if route == "-filter_complex" else "")
        assert ffmpeg.frames("-i", weak, route, graph, **search) == want
    ran = ffmpeg(
        "-i", weak, "-vf", "tds_enhance,metadata=print:file=-", "-f", "null", "-", **search
    )
    assert ran.output.count("status=refined") == 20 and ran.output.count("status=passed") == 5
    plain = tds.encode(small, tmp_path / "p.mp4", plan="plain", **options).path
    assert ffmpeg.frames("-i", plain, "-vf", "tds_enhance", **search) == tools.pictures(plain)


def test_a_model_is_told_the_qp_by_the_tag_or_by_a_person(
    ffmpeg: Program, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same by every door; and it makes a difference."""
    (tmp_path / "fast-k1.pt").symlink_to(models.find("fast", 1).path)
    monkeypatch.setenv("TDS_MODEL_PATH", str(tmp_path))
    coding = {"codec": "hevc", "preset": "ultrafast", "qp": 37}
    tagged = tds.encode(
        small, tmp_path / "o.mp4", plan="plain-enhanced", model="fast", strength=1.0, **coding
    ).path
    bare = tmp_path / "bare.mp4"
    tools.ffmpeg("-i", tagged, "-map", 0, "-c", "copy", "-map_metadata", -1, bare)

    def shown(pictures: tds.Decoder) -> list[str]:
        with pictures:
            return [tools.digest(p.planes) for p in pictures]

    options = {"model": "fast", "device": "cpu"}
    told = shown(tds.decode(tagged, **options))
    assert shown(tds.enhance(bare, **options, hr_qp=37)) == told
    assert shown(tds.enhance(bare, **options)) != told
    graph = "tds_enhance=inputs=1:model=fast:device=cpu"
    for source, more in ((tagged, ""), (bare, ":hr_qp=37")):
        frames = ffmpeg.frames(
            "-i", source, "-filter_complex", graph + more, TDS_MODEL_PATH=str(tmp_path)
        )
        assert [digest for _, digest in frames] == told
