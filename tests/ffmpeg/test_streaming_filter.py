# SPDX-License-Identifier: LGPL-2.1-or-later
"""The filter plays HLS and DASH (docs/streaming.md) as `tds decode` does, by the tag in the
manifest, and pairs that come over SRT."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import threading
from fractions import Fraction
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from filter_tools import BICUBIC, EXACT, Coded, Frames, Program, decoded, framemd5

import forms
import tools

MANIFESTS = ("master.m3u8", "manifest.mpd")
# FFmpeg's DASH gives twice what it has read to its end while it looked at it.
SHORT = ("-analyzeduration", 1000)


@pytest.fixture(scope="module")
def web(ffmpeg: Program, coded: Coded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    formats = ffmpeg("-demuxers").output
    if not {"hls", "dash"} <= set(re.findall(r"^ D +(\w+)", formats, re.M)):
        reason = f"{ffmpeg.path} has no HLS and DASH; run ffmpeg_filter/build again"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("web") / "web"
    tools.tds("package", coded(codec="hevc", config="ai").path, folder, "--seconds", 0.3)
    return folder


def by_filter(ffmpeg: Program, path: Path) -> Frames:
    return ffmpeg.frames(*SHORT, "-i", path, "-vf", BICUBIC)


@pytest.fixture
def bad(web: Path, tmp_path: Path) -> Path:
    """One with a segment that is gone."""
    folder = shutil.copytree(web, tmp_path / "bad")
    (folder / "lr" / "segment_00002.m4s").unlink()
    return folder


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_the_frames_are_those_of_tds_decode(ffmpeg: Program, web: Path, manifest: str) -> None:
    got = by_filter(ffmpeg, web / manifest)
    assert len(got) == 25
    assert got == decoded(web / manifest)


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_frames_of_a_segment_that_is_gone_are_known_by_the_tag_of_the_manifest(
    ffmpeg: Program, bad: Path, manifest: str
) -> None:
    got = by_filter(ffmpeg, bad / manifest)
    assert [time for time, _ in got] == [Fraction(n, 25) for n in range(25)]
    assert got == decoded(bad / manifest)


class Asked(SimpleHTTPRequestHandler):
    """Files for those who say who they are."""

    agents: ClassVar[list[tuple[str, str]]] = []

    def do_GET(self) -> None:
        self.agents.append((self.path, self.headers["User-Agent"]))
        with contextlib.suppress(ConnectionError):  # the reader has left
            if self.headers["X-Ticket"] == "7":
                super().do_GET()
            else:
                self.send_error(403)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_the_tag_is_read_with_the_options_that_the_user_gives(
    ffmpeg: Program, bad: Path, manifest: str
) -> None:
    handler = functools.partial(Asked, directory=str(bad))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/{manifest}"
        asked = ("-headers", "X-Ticket: 7\r\n", "-user_agent", "me", *SHORT)
        got = ffmpeg.frames(*asked, "-i", address, "-vf", BICUBIC)
        server.shutdown()
    assert got == decoded(bad / manifest)  # which knows by the tag what is missing
    assert Asked.agents.count((f"/{manifest}", "me")) == 1


def test_over_srt_every_frame_comes_once_at_its_time_and_the_sound_with_it(
    ffmpeg: Program, city: Path, tmp_path: Path
) -> None:
    here, there = forms.srt_addresses(tools.FFMPEG, ffmpeg.path)
    forms.live_source(city, tmp_path)
    stream = forms.live_file(tmp_path)
    shown = decoded(stream)
    assert len(shown) == 75

    def played(source: str | Path) -> tuple[Frames, list[str]]:
        """Frames, and packets of sound."""
        out = tmp_path / "sound.mkv"
        pictures = ("-map", "0:v:0", "-vf", BICUBIC, *EXACT, "-t", 3, "-f", "framemd5", "-")
        sound = ("-map", "0:a", "-c", "copy", "-t", 3, out)
        said = ffmpeg("-analyzeduration", 1_000_000, "-i", source, *pictures, *sound).output
        lines = tools.ffmpeg("-i", out, "-c", "copy", "-f", "framemd5", "-").splitlines()
        return framemd5(said), [line for line in lines if line[0] != "#"]

    # Three seconds; the sender goes on, since what SRT holds when one ends is lost.
    with forms.sent(tmp_path, there):
        frames, packets = played(here)
    assert frames == shown
    _, expected = played(stream)
    assert len(expected) > 125
    assert packets[: len(expected) - 3] == expected[:-3]  # the last know of the end
