# SPDX-License-Identifier: LGPL-2.1-or-later
"""Small pairs of every encoder in every container, for the tests of all readers; and those of
the ffmpeg program alone."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest

import tds
import tools
from tds.container.forms import FORMS

RATE = Fraction(30000, 1001)
FRAMES = 11
FASTEST = {"libx264": "ultrafast", "libx265": "ultrafast", "libvvenc": "faster", "libsvtav1": "12"}
SUFFIX = {"mp4": ".mp4", "fmp4": ".mp4", "mkv": ".mkv", "ts": ".ts"}

# Every encoder in every container that holds its codec, and every configuration in each.
GRID = [
    ("libx264", "mp4", "ra"),
    ("libx264", "fmp4", "ai"),
    ("libx264", "mkv", "ldp"),
    ("libx264", "ts", "ra"),
    ("libx265", "mp4", "ai"),
    ("libx265", "fmp4", "ra"),
    ("libx265", "mkv", "ra"),
    ("libx265", "ts", "ldp"),
    ("libvvenc", "mp4", "ldp"),
    ("libvvenc", "fmp4", "ra"),
    ("libvvenc", "mkv", "ra"),
    ("libvvenc", "ts", "ai"),
    ("libsvtav1", "mp4", "ra"),
    ("libsvtav1", "fmp4", "ldp"),
    ("libsvtav1", "mkv", "ai"),
]


@dataclass(frozen=True)
class Written:
    form: str
    result: tds.EncodeResult

    @property
    def times(self) -> list[Fraction]:
        """Of the source's frames, as this container's clock has them."""
        tick = next(form.tick for form in FORMS if form.name == self.form)
        exact = [i / RATE for i in range(FRAMES)]
        return exact if tick is None else [round(time / tick) * tick for time in exact]


def encode(small: Path, folder: Path, encoder: str, form: str, config: str) -> Written:
    """The first pictures of ``small``, at a rate that few clocks hold, in ``folder``."""
    raw = tools.raw_yuv(folder / "in.yuv", small, FRAMES)
    result = tds.encode(
        *(raw, folder / f"out{SUFFIX[form]}"), raw=tds.RawFormat((128, 72), RATE), format=form,
        encoder=encoder, config=config, preset=FASTEST[encoder], intra_period=6, scene_cut=0,
        plan="tds",
    )  # fmt: skip
    return Written(form, result)


DOCS = Path(__file__).resolve().parent.parent / "docs"


def _run_block(page: str) -> str:
    """The one command of a page that a test runs."""
    block = re.search(r"runs this block.*?```sh\n(.*?)```", (DOCS / page).read_text(), re.S)
    assert block
    return block[1]


PLAIN = _run_block("pair-with-ffmpeg.md")
"""The command of docs/pair-with-ffmpeg.md: pair.mp4 of in.mp4."""
LIVE = _run_block("streaming.md")
"""The command of docs/streaming.md, which sends a pair and the sound of in.mp4 over UDP."""


def live_source(city: Path, folder: Path) -> None:
    """Makes in.mp4 there, three seconds of 25 pictures and sound."""
    tools.ffmpeg(
        *("-stream_loop", 2, "-i", city, "-f", "lavfi", "-i", "sine=d=3", "-vf", "scale=128:72"),
        *("-c:v", "libx264", "-qp", 10, "-c:a", "aac", folder / "in.mp4"),
    )


def live_file(folder: Path) -> Path:
    """What LIVE sends of in.mp4, as a file."""
    run(folder, re.sub(r'"udp:.*"', "pair.ts", LIVE).replace(" -re ", " "))
    return folder / "pair.ts"


@contextlib.contextmanager
def sent(folder: Path, address: str) -> Iterator[subprocess.Popen[bytes]]:
    """LIVE at work, in.mp4 over and over, to another address."""
    command = LIVE.replace("\\\n", " ").replace(" -i in.mp4", " -stream_loop -1 -i in.mp4")
    words = shlex.split(re.sub(r'"udp:.*"', shlex.quote(address), command))
    quiet = ("-nostdin", "-v", "error")
    with subprocess.Popen([tools.FFMPEG, *quiet, *words[1:]], cwd=folder) as sender:
        try:
            yield sender
        finally:
            sender.kill()


def quiet_port() -> int:
    """At which nobody listens to UDP yet."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# Half a second for what is sent again, and for a machine that is busy.
_SRT = "srt://127.0.0.1:{}?latency=500000"


def srt_addresses(*programs: str | Path) -> tuple[str, str]:
    """(at which the reader listens, to which the sender sends); skips where a program has no SRT,
    fails in CI."""
    for program in programs:
        said = subprocess.run([program, "-protocols"], capture_output=True, text=True, check=True)
        if not re.search(r"^\s+srt$", said.stdout, re.M):
            reason = f"{program} has no SRT; build it with libsrt"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
    address = _SRT.format(quiet_port())
    return f"{address}&mode=listener", f"{address}&pkt_size=1316"


def run(folder: Path, command: str) -> None:
    """As a shell runs it, with the ffmpeg that comes with imageio-ffmpeg."""
    program = folder / "ffmpeg"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(tools.FFMPEG)} -v error -nostdin "$@"\n')
    program.chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
