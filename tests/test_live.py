# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pairs that are read once, as they come (docs/streaming.md): from pipes and over UDP, joined late,
with packets lost, from senders that stop or begin again."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest

import forms
import tds
import tds.live as live_pair
import tools

GROUP = Fraction(4, 25)  # seconds from one HR picture to the next
PACKET = 188
Seen = list[tuple[Fraction, str, str]]  # time, how it was made, digest


@pytest.fixture(scope="module")
def folder(city: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With in.mp4, three seconds and sound."""
    folder = tmp_path_factory.mktemp("live")
    forms.live_source(city, folder)
    return folder


@pytest.fixture(scope="module")
def stream(folder: Path) -> Path:
    """What the command of docs/streaming.md sends, as a file."""
    return forms.live_file(folder)


def seen(pictures: tds.Decoder) -> Seen:
    return [(p.pts * pictures.time_base, p.status, tools.digest(list(p.planes))) for p in pictures]


@pytest.fixture(scope="module")
def whole(stream: Path) -> Seen:
    with tds.decode(stream, backend="bicubic") as pictures:
        got = seen(pictures)
    assert len(got) == 75
    return got


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Callable[[bytes], Path]]:
    """``pipe(data)``: a FIFO that gives these bytes."""
    threads = []

    def feed(path: Path, data: bytes) -> None:
        with path.open("wb", buffering=0) as file:
            file.write(data)

    def make(data: bytes) -> Path:
        path = tmp_path / f"fifo{len(threads)}"
        os.mkfifo(path)
        threads.append(threading.Thread(target=feed, args=(path, data), daemon=True))
        threads[-1].start()
        return path

    yield make
    for thread in threads:
        thread.join(10)


def live(path: Path | str) -> tuple[Seen, list[str]]:
    with tds.decode(path, backend="bicubic") as pictures:
        return seen(pictures), pictures.notices


@pytest.mark.parametrize("form", ["ts", "mkv", "mp4"])
@pytest.mark.parametrize("config", ["ai", "ra"])
def test_a_pipe_gives_what_the_file_does(
    coded: Callable[..., tds.EncodeResult], tmp_path: Path, form: str, config: str
) -> None:
    source = coded(codec="hevc", config=config, intra_period=8).path
    path = tmp_path / f"pair.{form}"
    tools.ffmpeg("-i", source, "-map", 0, "-c", "copy", "-muxdelay", 0, "-muxpreload", 0, path)
    logs = [tmp_path / "file.csv", tmp_path / "pipe.csv"]
    outs = [tmp_path / "file.y4m", tmp_path / "pipe.y4m"]
    common = ("--backend", "bicubic", "-q", "--log")
    tools.tds("decode", path, outs[0], *common, logs[0])
    with path.open("rb") as data:
        tools.tds("decode", "-", outs[1], *common, logs[1], stdin=data)
    assert outs[0].read_bytes() == outs[1].read_bytes()
    assert logs[0].read_text() == logs[1].read_text()


def test_who_sends_faster_than_is_decoded_waits(
    stream: Path, whole: Seen, pipe: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_pair, "_MOST_WAITING", 40)  # of each track
    monkeypatch.setattr(live_pair, "_LOOK", 0.01)
    with tds.decode(pipe(stream.read_bytes()), backend="bicubic") as pictures:
        next(pictures)
        time.sleep(1)
        got = seen(pictures)
    assert [digest for _, _, digest in got] == [digest for _, _, digest in whole[1:]]


def test_it_is_joined_anywhere(stream: Path, whole: Seen, pipe: Callable[[bytes], Path]) -> None:
    data = stream.read_bytes()
    for place in (len(data) // 3, len(data) // 2 + 77):
        got, _ = live(pipe(data[place:]))
        assert got[-1] == whole[-1]
        assert [t for t, *_ in got] == [t for t, *_ in whole][-len(got) :]
        wrong = [t for t, status, digest in got if (t, status, digest) not in whole]
        assert not wrong or max(wrong) - got[0][0] < GROUP
        assert len(got) > 75 - 75 * (place / len(data)) - 8


def test_what_is_lost_on_the_way_costs_a_group(
    stream: Path, whole: Seen, pipe: Callable[[bytes], Path]
) -> None:
    data = bytearray(stream.read_bytes())
    middle = len(data) // 2 // PACKET * PACKET
    del data[middle : middle + 7 * PACKET]  # one datagram
    got, _ = live(pipe(bytes(data)))
    hurt = [entry for entry in whole if entry not in got]
    assert hurt
    assert hurt[-1][0] - hurt[0][0] <= 2 * GROUP
    times = [t for t, *_ in got]
    assert times == sorted(set(times))
    assert set(times) <= {t for t, *_ in whole}
    assert len(got) >= 75 - 3


def test_a_sender_that_begins_again_is_followed(
    stream: Path, whole: Seen, pipe: Callable[[bytes], Path]
) -> None:
    data = stream.read_bytes()
    stopped = data[: len(data) // 2 + 99]  # within a picture
    first, _ = live(pipe(stopped))
    got, notices = live(pipe(stopped + data))
    assert [n for n in notices if "begin anew" in n]
    assert got[: len(first) - 4] == whole[: len(first) - 4]
    times = [t for t, *_ in got]
    assert times == sorted(set(times))
    assert max(b - a for a, b in pairwise(times)) <= GROUP
    assert [entry[1:] for entry in got[-71:]] == [entry[1:] for entry in whole[-71:]]


def test_a_sender_that_stops_within_a_picture_is_the_end(
    stream: Path, whole: Seen, pipe: Callable[[bytes], Path], tmp_path: Path
) -> None:
    data = stream.read_bytes()
    path = pipe(data[: len(data) // 2 + 99])
    out = tmp_path / "out.mp4"
    tools.tds("decode", path, out, "--backend", "bicubic")
    assert 30 <= len(tools.times(out)) <= 45


def quiet() -> str:
    """An address at which nothing is sent yet."""
    return f"udp://127.0.0.1:{forms.quiet_port()}"


def test_the_command_of_the_page_is_shown_as_it_sends(folder: Path) -> None:
    address = quiet()
    with forms.sent(folder, f"{address}?pkt_size=1316") as sender:
        with tds.decode(address, backend="bicubic", timeout=20) as pictures:
            got = []
            for picture in pictures:
                got.append((picture.pts * pictures.time_base, picture.status))
                if len(got) == 100:
                    break
        assert sender.poll() is None
    times = [time for time, _ in got]
    assert times == sorted(set(times))
    assert sum(b - a == Fraction(1, 25) for a, b in pairwise(times)) > 90
    assert "puuupuuupuuu" in "".join(status[0] for _, status in got)


def test_over_srt_every_picture_comes_once_at_its_time(
    folder: Path, stream: Path, whole: Seen, tmp_path: Path
) -> None:
    here, there = forms.srt_addresses(tools.FFMPEG)
    # Three seconds; the sender goes on, since what SRT holds when one ends is lost.
    receive = ("-nostdin", "-v", "error", "-i", here, "-map", "0", "-c", "copy", "-t", "3")
    out, log = tmp_path / "out.y4m", tmp_path / "log.csv"
    with subprocess.Popen(
        [tools.FFMPEG, *receive, "-f", "mpegts", "-"], stdout=subprocess.PIPE
    ) as receiver:
        with forms.sent(folder, there):
            common = ("--backend", "bicubic", "--log", log)
            tools.tds("decode", "-", out, *common, stdin=receiver.stdout)
        assert receiver.wait(10) == 0
    with log.open() as lines:
        times = [Fraction(line["seconds"]) for line in csv.DictReader(lines)]
    assert [t - times[0] for t in times] == [t - whole[0][0] for t, *_ in whole]
    tools.tds("decode", stream, tmp_path / "whole.y4m", "--backend", "bicubic")
    assert out.read_bytes() == (tmp_path / "whole.y4m").read_bytes()


def test_silence_is_the_end_after_so_long(stream: Path) -> None:
    said = tools.tds(
        "decode", quiet(), "-", "--timeout", 1, "--backend", "bicubic", status=1
    ).stderr
    assert "nothing came from there for 1 s" in said


@pytest.mark.parametrize("where", ["", "-"])
def test_waiting_for_a_sender_is_ended_by_ctrl_c(where: str) -> None:
    waiting = subprocess.Popen(
        [sys.executable, "-m", "tds", "decode", where or quiet(), "-", "-q"],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, preexec_fn=tools.interruptible,
    )  # fmt: skip
    try:
        time.sleep(3)
        assert waiting.poll() is None
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(10) in (130, -signal.SIGINT)
    finally:
        waiting.kill()


def test_a_stream_of_one_video_is_refused(city: Path) -> None:
    with city.open("rb") as data:
        said = tools.tds("decode", "-", "-", stdin=data, status=1).stderr
    assert "two, HR and LR" in said
