# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pairs that are read once, as they come (docs/streaming.md): from pipes and over UDP, joined late,
with packets lost, from senders that stop or begin again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest

import forms
import tds
import tds.live as live_pair
import tools
from tds import cli
from tds.media import along

GROUP = Fraction(4, 25)  # seconds from one HR picture to the next
PACKET = 188
Heard = list[tuple[Fraction, str]]  # time, digest
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
    shown = tools.times(out)
    assert 30 <= len(shown) <= 45
    assert abs(sound(out)[-1][0] - shown[-1]) < Fraction(1, 2)


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


def test_over_srt_every_picture_comes_once_at_its_time_and_the_sound_with_it(
    folder: Path, stream: Path, tmp_path: Path
) -> None:
    here, there = forms.srt_addresses(tools.FFMPEG)
    # Three seconds; the sender goes on, since what SRT holds when one ends is lost.
    receive = ("-nostdin", "-v", "error", "-i", here, "-map", "0", "-c", "copy", "-t", "3")
    outs = [tmp_path / "srt.mkv", tmp_path / "file.mkv"]
    common = ("--backend", "bicubic", "--vcodec", "ffv1")
    with subprocess.Popen(
        [tools.FFMPEG, *receive, "-f", "mpegts", "-"], stdout=subprocess.PIPE
    ) as receiver:
        with forms.sent(folder, there):
            tools.tds("decode", "-", outs[0], *common, stdin=receiver.stdout)
        assert receiver.wait(10) == 0
    tools.tds("decode", stream, outs[1], *common)
    got, expected = (tools.pictures(out) for out in outs)
    later = got[0][0] - expected[0][0]  # as ffmpeg writes transport streams
    assert len(got) == 75
    assert [digest for _, digest in got] == [digest for _, digest in expected]
    assert at_once([time - later for time, _ in got], [time for time, _ in expected])
    heard, whole = (sound(out) for out in outs)
    assert len(heard) >= len(whole) - 5  # whose end is not that of the loop
    heard, whole = heard[: len(whole) - 5], whole[:-5]
    assert [digest for _, digest in heard] == [digest for _, digest in whole]
    assert at_once([time - later for time, _ in heard], [time for time, _ in whole])


# ------------------------------------------------------------------ sound --


def sound(path: Path) -> Heard:
    """(time in seconds, digest) of each packet of its sound, as Matroska holds it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.mkv"
        tools.ffmpeg("-copyts", "-i", path, "-map", "0:a", "-c", "copy", copy)
        text = tools.ffmpeg("-copyts", "-i", copy, "-c", "copy", "-f", "framemd5", "-")
    rows = [line.split(",") for line in text.splitlines() if line[0] != "#"]
    return [(Fraction(int(row[2]), 1000), row[5].strip()) for row in rows]


def at_once(times: list[Fraction], expected: list[Fraction]) -> bool:
    """By Matroska's clock, which has milliseconds."""
    return all(abs(a - b) <= Fraction(1, 1000) for a, b in zip(times, expected, strict=True))


@pytest.fixture(scope="module")
def sounding(
    folder: Path, stream: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """``sounding("ts", "ac3", begin=2)``: the pair with such sound, from so many seconds on."""
    made = tmp_path_factory.mktemp("sounding")

    def make(form: str, codec: str, begin: float = 0, length: float = 3) -> Path:
        path = made / f"{codec}-{begin}-{length}.{form}"
        tools.ffmpeg(
            *("-copyts", "-i", stream, "-itsoffset", begin, "-f", "lavfi", "-i"),
            *(f"sine=d={length - begin}", "-map", "0:v", "-map", "1:a", "-c:v", "copy"),
            *("-c:a", codec, "-muxdelay", 0, "-muxpreload", 0, path),
        )
        return path

    return make


@pytest.mark.parametrize(
    ("form", "codec", "begin"),
    [("ts", "aac", 0), ("ts", "ac3", 0), ("ts", "libopus", 0), ("ts", "aac", 2),
     ("mkv", "aac", 2), ("mp4", "aac", 0)],
)  # fmt: skip
def test_sound_comes_along_out_of_a_pipe_as_out_of_a_file(
    sounding: Callable[..., Path], tmp_path: Path, form: str, codec: str, begin: float
) -> None:
    source = sounding(form, codec, begin)
    out = tmp_path / ("out.mp4" if form == "mp4" else "out.mkv")
    with source.open("rb") as data:
        tools.tds("decode", "-", out, "--backend", "bicubic", "-q", stdin=data)
    heard, expected = sound(out), sound(source)
    assert [digest for _, digest in heard] == [digest for _, digest in expected]
    assert len(heard) > 80 if begin == 0 else 30 < len(heard) < 60
    assert at_once([time for time, _ in heard], [time for time, _ in expected])
    assert len(tools.times(out)) == 75


def test_sound_of_one_stream_comes_along_out_of_a_pipe_too(folder: Path, tmp_path: Path) -> None:
    coded, cut = tmp_path / "plain.mkv", tmp_path / "cut.mkv"
    tds.encode(folder / "in.mp4", coded, plan="plain", codec="h264", preset="ultrafast", qp=37)
    few = ("-frames:v", 2, "-t", 0.2, "-c:v", "libx264", "-c:a", "copy")  # read before all is open
    tools.ffmpeg("-i", coded, *few, cut)
    for command, source in (("decode", coded), ("enhance", cut)):
        out = tmp_path / f"{command}.mkv"
        with source.open("rb") as data:
            said = tools.tds(command, "-", out, stdin=data).stderr
        assert "only once" not in said
        assert len(tools.times(out)) == len(tools.times(source))
        heard, expected = sound(out), sound(source)
        assert [digest for _, digest in heard] == [digest for _, digest in expected]
        assert at_once([time for time, _ in heard], [time for time, _ in expected])


def test_a_pipe_carries_sound_with_the_pictures_as_they_come(stream: Path) -> None:
    data = stream.read_bytes()
    command = [sys.executable, "-m", "tds", "decode", "-", "-", "--format", "video", "-q"]
    with subprocess.Popen(
        [*command, "--backend", "bicubic"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as decoding:
        assert decoding.stdin
        assert decoding.stdout
        watchdog = threading.Timer(60, decoding.kill)
        watchdog.start()
        decoding.stdin.write(data[: len(data) * 3 // 4])  # the sender goes on later
        counts = {"video": 0, "audio": 0}
        with av.open(decoding.stdout, options={"analyzeduration": "0"}) as container:
            for packet in container.demux():
                counts[packet.stream.type] += packet.size > 0
                if decoding.stdin.closed is False and min(counts["video"], counts["audio"]) > 40:
                    decoding.stdin.write(data[len(data) * 3 // 4 :])
                    decoding.stdin.close()
        watchdog.cancel()
    assert counts == {"video": 75, "audio": len(sound(stream))}


def test_who_looks_at_a_pipe_may_leave(stream: Path) -> None:
    command = f"{sys.executable} -m tds decode {stream} - --format video -q | head -c 3000 | wc -c"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "3000"
    assert not done.stderr


def test_pictures_without_sound_come_alone(stream: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in.ts", tmp_path / "out.mkv"
    tools.ffmpeg("-i", stream, "-map", "0:v", "-c", "copy", source)
    with source.open("rb") as data:
        tools.tds("decode", "-", out, "--backend", "bicubic", stdin=data)
    with av.open(str(out)) as container:
        assert [s.type for s in container.streams] == ["video"]
    assert len(tools.times(out)) == 75


def test_sound_goes_on_with_the_pictures_where_a_sender_begins_again(
    stream: Path, whole: Seen, pipe: Callable[[bytes], Path], tmp_path: Path
) -> None:
    data, out = stream.read_bytes(), tmp_path / "out.mkv"
    said = tools.tds(
        "decode", pipe(data[: len(data) // 2 + 99] + data), out, "--backend", "bicubic"
    ).stderr
    assert said.count("begin anew") == 1
    heard, expected = sound(out), sound(stream)
    times = [time for time, _ in heard]
    assert times == sorted(set(times))
    assert max(b - a for a, b in pairwise(times)) < Fraction(1, 2)
    assert len(heard) > 1.4 * len(expected)
    # As far from the pictures as before.
    assert heard[-1][1] == expected[-1][1]
    apart = tools.times(out)[-1] - heard[-1][0], whole[-1][0] - expected[-1][0]
    assert abs(apart[0] - apart[1]) < Fraction(1, 100)


def test_damaged_sound_is_passed_over(stream: Path, tmp_path: Path) -> None:
    """A header that FFmpeg's muxers end at."""
    data, source = bytearray(stream.read_bytes()), tmp_path / "damaged.ts"
    data[data.index(b"\xff\xf1", len(data) // 2) + 2] |= 0x3C  # a rate that there is none of
    source.write_bytes(data)
    for number, path in enumerate(("-", source)):
        out = tmp_path / f"{number}.mkv"
        with source.open("rb") as file:
            tools.tds("decode", path, out, "--backend", "bicubic", stdin=file)
        assert len(tools.times(out)) == 75
        assert len(sound(stream)) - 3 <= len(sound(out)) < len(sound(stream))


def test_sound_that_pictures_do_not_follow_is_held_up_to_a_bound(
    sounding: Callable[..., Path],
    pipe: Callable[[bytes], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(along, "_MOST", 200_000)
    source, out = sounding("ts", "aac", length=20), tmp_path / "out.mkv"
    path = pipe(source.read_bytes())
    assert cli.main(["decode", str(path), str(out), "--backend", "bicubic"]) == 0
    said = capsys.readouterr().err
    assert said.count("some of it is lost") == 1
    assert len(tools.times(out)) == 75
    heard = sound(out)
    assert heard[-1] == sound(source)[-1]
    assert 100 < len(heard) < 400


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


@pytest.mark.parametrize("form", ["mkv", "mp4"])
def test_one_stream_of_tds_encode_is_decoded_from_a_pipe_too(
    small: Path, tmp_path: Path, pipe: Callable[[bytes], Path], form: str
) -> None:
    """Which of the two `tds encode` writes is for it to choose."""
    out = tmp_path / f"out.{form}"
    tds.encode(
        *(small, out), plan="plain-enhanced", strength=1, model="fast",
        codec="hevc", config="ra", preset="ultrafast",
    )  # fmt: skip
    made = []
    for source in (out, pipe(out.read_bytes())):
        with tds.decode(source) as pictures:
            made.append((seen(pictures), pictures.model, pictures.notices))
    assert made[0] == made[1]
    assert {status for _, status, _ in made[0][0]} == {"refined"}
    with out.open("rb") as data:
        assert "25 refined" in tools.tds("decode", "-", tmp_path / "o.mkv", stdin=data).stderr


def test_a_stream_of_one_video_is_refused(city: Path) -> None:
    with city.open("rb") as data:
        said = tools.tds("decode", "-", "-", stdin=data, status=1).stderr
    assert "two, HR and LR" in said
