# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pairs of any encoder in any container: every frame once, at its time, HR as coded.

docs/container.md has a profile for each; tests/ffmpeg/test_forms_filter.py shows the filter the
same files.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import pytest

import forms
import tds
import tools
from tds.container.annexb import mux_raw_pair
from tds.container.sidecar import read_sidecar
from tds.errors import InputError
from tds.plan import Role


def shown(path: Path) -> list[tuple[Fraction, str, str]]:
    with tds.decode(path, backend="bicubic") as pictures:
        return [(p.pts * pictures.time_base, p.status, tools.digest(p.planes)) for p in pictures]


def test_every_frame_comes_out_once_at_its_time(written: forms.Written) -> None:
    path, metadata = written.result.path, written.result.metadata
    got = shown(path)
    assert [time for time, _, _ in got] == written.times
    roles = list(metadata.roles())
    assert [s for _, s, _ in got] == [
        "passed" if role is Role.HR else "upsampled" for role in roles
    ]
    hr = {time: digest for time, status, digest in got if status == "passed"}
    assert hr == dict(tools.pictures(path, 0))
    # The tag where there is place for one; the rate in any case.
    file = tds.open(path)
    assert file.metadata == (None if written.form == "ts" else metadata)
    assert file.rate == forms.RATE
    assert file.hr.codec == metadata.codec == file.lr.codec
    # The file is what its name, or the format asked for, says.
    with av.open(str(path)) as container:
        assert (
            written.form.lstrip("f")
            in {"mp4": "mp4", "matroska": "mkv", "mpegts": "ts"}[
                next(
                    n
                    for n in container.format.name.split(",")
                    if n in ("mp4", "matroska", "mpegts")
                )
            ]
        )
    assert (b"moof" in path.read_bytes()) == (written.form == "fmp4")


# Not VVC in Matroska, whose times FFmpeg damages when it copies.
@pytest.mark.parametrize(
    ("encoder", "form"),
    [e for e in product(forms.FASTEST, ("mp4", "fmp4", "mkv")) if e != ("libvvenc", "mkv")],
)
def test_without_its_tag_it_is_the_same_video(
    small: Path, tmp_path: Path, encoder: str, form: str
) -> None:
    config = "ai" if encoder == "libsvtav1" else "ra"
    written = forms.encode(small, tmp_path, encoder, form, config)
    bare = tmp_path / f"bare{forms.SUFFIX[form]}"
    flags = "frag_keyframe+delay_moov" if form == "fmp4" else "faststart"
    more = ("-movie_timescale", 30000, "-movflags", flags) if bare.suffix == ".mp4" else ()
    tools.ffmpeg(
        *("-i", written.result.path, "-map", 0, "-c", "copy", "-map_metadata", -1, *more, bare)
    )
    assert tds.open(bare).metadata is None
    assert shown(bare) == shown(written.result.path)


@pytest.mark.parametrize("form", list(forms.SUFFIX))
def test_what_is_beside_the_pictures_comes_along_as_far_as_there_is_place(
    small: Path, tmp_path: Path, form: str
) -> None:
    """Of turned pictures with sound that begins before them, text and a title."""
    text, upright, source = (tmp_path / n for n in ("t.srt", "upright.mp4", "source.mp4"))
    text.write_text("1\n00:00:00,100 --> 00:00:00,500\nhello\n")
    tools.ffmpeg(
        *("-i", small, "-f", "lavfi", "-i", "sine=440:d=1", "-f", "lavfi", "-i", "sine=220:d=1"),
        *("-i", text, "-map", 0, "-map", 1, "-map", 2, "-map", 3, "-c:v", "libx264", "-qp", 5),
        *("-c:a:0", "aac", "-c:a:1", "flac", "-c:s", "mov_text", "-metadata", "title=A", upright),
    )
    tools.ffmpeg("-display_rotation", 90, "-i", upright, "-map", 0, "-c", "copy", source)
    out = tmp_path / f"out{forms.SUFFIX[form]}"
    notices = " / ".join(tds.encode(source, out, encoder="x264", format=form, plan="tds").notices)
    with tds.decode(out, backend="bicubic") as pictures:
        assert [p.pts * pictures.time_base * 25 for p in pictures] == list(range(25))
    with av.open(str(out)) as container:
        kinds = [s.codec_context.codec.canonical_name for s in container.streams]
        first = {}
        for packet in container.demux(container.streams.audio):
            if packet.pts is not None:
                first.setdefault(packet.stream.index, float(packet.pts * packet.time_base))
        container.seek(0)
        frame = next(container.decode(video=0))
        said = container.metadata
    assert kinds[:4] == ["h264", "h264", "aac", "aac" if form == "ts" else "flac"]
    assert kinds[4:] == {"mkv": ["subrip"], "ts": []}.get(form, ["mov_text"])
    # Before time 0 only where an edit list says that it is not heard.
    assert all(-0.05 < t < 0.05 and (t >= 0 or form in ("mp4", "fmp4")) for t in first.values())
    if form == "ts":
        assert "sound track 1 (flac) is coded as aac: mpegts files do not hold it" in notices
        assert "text track 0 (mov_text) is left out" in notices
        assert "holds no tag" in notices
        assert "does not hold how the source's pictures are turned" in notices
    else:
        assert said["title"] == "A" and frame.rotation == 90
        assert not notices or form == "mkv"


def test_a_container_that_loses_the_shape_of_samples_says_so(small: Path, tmp_path: Path) -> None:
    source = tmp_path / "wide.mkv"
    tools.ffmpeg("-i", small, "-frames:v", 5, "-vf", "setsar=4/3", "-c:v", "ffv1", source)
    for encoder, suffix, lost in (("x264", ".mkv", False), ("av1", ".mkv", True)):
        out = tmp_path / f"{encoder}{suffix}"
        notices = " ".join(tds.encode(source, out, encoder=encoder, plan="tds").notices)
        assert ("does not hold that samples are 4:3" in notices) == lost
        with tds.decode(out, backend="bicubic") as pictures:
            assert (pictures.sample_aspect_ratio == Fraction(4, 3)) == (not lost)


def test_frames_closer_than_a_clock_tells_apart_are_refused(small: Path, tmp_path: Path) -> None:
    """A third of a millisecond: too short for Matroska; a transport stream counts 1/90000 s."""
    ticks = [0, 30, 3600, 7200, 7230, 14400, 14401]
    source = tmp_path / "source.mp4"
    tools.variable_source(source, small, ticks, Fraction(1, 90000))
    with pytest.raises(InputError, match="closer than Matroska tells apart"):
        tds.encode(source, tmp_path / "out.mkv", encoder="x264", config="ra", plan="tds")
    assert not (tmp_path / "out.mkv").exists()
    tds.encode(source, tmp_path / "out.ts", encoder="x264", config="ai", plan="tds")
    assert [time * 90000 for time, _, _ in shown(tmp_path / "out.ts")] == ticks


def test_times_that_no_reader_would_find_without_the_tag_are_refused(
    small: Path, tmp_path: Path
) -> None:
    """In random access both tracks begin at one time, and irregular times do not tell that it is
    not a cut that made it so."""
    source = tmp_path / "source.mp4"
    ticks = [0, 30, 3600, 7200, 7230, 14400, 14401]
    tools.variable_source(source, small, ticks, Fraction(1, 90000))
    with pytest.raises(InputError, match="holds no tag, and without it the times of this video"):
        tds.encode(source, tmp_path / "out.ts", encoder="x264", config="ra", plan="tds")
    assert not (tmp_path / "out.ts").exists()


def test_a_pair_that_was_cut_short_is_known_as_cut(small: Path, tmp_path: Path) -> None:
    """Where the container says how long it is; of a transport stream what is there is shown."""
    for form in ("mkv", "fmp4", "ts"):
        written = forms.encode(small, tmp_path, "libx264", form, "ai")
        whole = written.result.path.read_bytes()
        cut = tmp_path / f"cut{forms.SUFFIX[form]}"
        cut.write_bytes(whole[: len(whole) - 1000])
        if form == "ts":
            assert 3 <= len(shown(cut)) <= forms.FRAMES
            continue
        with pytest.raises(InputError, match="is cut short"):
            tds.decode(cut)
        with tds.decode(cut, allow_truncated=True, backend="bicubic") as pictures:
            assert 0 < len(list(pictures)) <= forms.FRAMES


@pytest.mark.parametrize(("codec", "suffix"), [("h264", "264"), ("hevc", "265"), ("vvc", "266")])
def test_raw_streams_are_muxed_to_any_container(
    small: Path, tmp_path: Path, codec: str, suffix: str
) -> None:
    """And come out of it as they come out of the two files and their sidecar."""
    sidecar = tmp_path / "x.json"
    preset = tools.FASTEST.get(codec, "ultrafast")
    tds.encode(small, sidecar, codec=codec, config="ra", preset=preset, intra_period=8, plan="tds")
    raw = [tmp_path / f"x.{role}.{suffix}" for role in ("hr", "lr")]
    metadata = read_sidecar(sidecar)
    with tds.enhance(*raw, sidecar=metadata, backend="bicubic") as pictures:
        wanted = [(p.pts * pictures.time_base, p.status, tools.digest(p.planes)) for p in pictures]
    assert [time * 25 for time, _, _ in wanted] == list(range(25))
    for form, end in forms.SUFFIX.items():
        out = tmp_path / f"{form}{end}"
        mux_raw_pair(*raw, metadata, out, format=form)
        assert shown(out) == wanted


def test_a_transport_stream_that_is_joined_on_the_way_is_whole_from_its_next_restart(
    small: Path, tmp_path: Path
) -> None:
    """Also where what is there begins inside a packet; before it are LR pictures at most."""
    whole = tmp_path / "whole.ts"
    tds.encode(small, whole, encoder="x264", config="ra", intra_period=8, boundaries="shared")
    frames = shown(whole)
    assert [time * 25 for time, _, _ in frames] == list(range(25))
    for place in (1000, 188 * 40):
        rest = tmp_path / "rest.ts"
        rest.write_bytes(whole.read_bytes()[place:])
        got = shown(rest)
        assert got[-17:] == frames[8:]
        times = [time for time, _, _ in got]
        assert times == sorted(set(times)) and {status for _, status, _ in got[:-17]} <= {
            "upsampled"
        }
