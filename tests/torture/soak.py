# SPDX-License-Identifier: LGPL-2.1-or-later
"""A pair looped for long through the filter and through `tds decode -` (`make soak SECONDS=3600`).

Memory must stay flat (2 %, or 1 MB, from the first tenth of the time to its end), every picture
must come out once, and sound must stay within a picture of it. Both doors are read at a steady
pace, as a player reads them, so that the machine is free for other work.

With --live, one ffmpeg command (docs/streaming.md) sends a pair over UDP in real time, and both
doors show it as it comes: also every picture once, sound beside it, and how long after a picture
has come it is shown."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import av
import imageio_ffmpeg

from torture import PAIRS, filter_program

RATE = 25
SIZE = 64 * 64 * 3 // 2
PERIOD = 1.0  # seconds from one look at the memory to the next
FLAT = 0.02
# MB of a live stream's beginning that FFmpeg keeps until more has come (its probesize), and the
# seconds after which it has let go of them: a sawtooth's one tooth. Pictures that stayed would be
# 9 MB a minute.
PROBED, SETTLED = 5, 300.0
# Packets of 188 bytes that FFmpeg's UDP reader keeps, some six seconds: of its usual 28 672 every
# page is touched for the first time within the first minutes, which would look like a leak.
FIFO = 2000


def looped(folder: Path, seconds: float) -> Path:
    """The HEVC pair again and again, and a tone; without its tag, which tells of one round."""
    path = folder / "long.mkv"
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-stream_loop", "-1", "-i",
        PAIRS / "hevc.mp4", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=8000",
        "-map", "0:v:0", "-map", "0:v:1", "-map", "1:a", "-map_metadata", "-1", "-c:v", "copy",
        "-af", "asetnsamples=320", "-c:a", "pcm_s16le", "-t", str(seconds), path,
    ]  # fmt: skip
    subprocess.run(command, check=True)
    return path


def resident(process: subprocess.Popen[Any]) -> int:
    """kB of a process and of all that it has started; 0 when it has ended."""
    total, waiting = 0, [process.pid]
    while waiting:
        pid = waiting.pop()
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except OSError:
            continue
        found = re.search(r"^VmRSS:\s+(\d+)", status, re.M)
        total += int(found[1]) if found else 0
    return total


class Watched:
    """A door at work: its memory, looked at as it goes."""

    def __init__(self, name: str, command: list[Any]) -> None:
        self.name = name
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self.errors, stdin=subprocess.DEVNULL
        )
        self.looks: list[int] = []
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()

    def _look(self) -> None:
        while self.process.poll() is None:
            if kilobytes := resident(self.process):
                self.looks.append(kilobytes)
            time.sleep(PERIOD)

    @property
    def output(self) -> IO[bytes]:
        assert self.process.stdout
        return self.process.stdout

    def end(self) -> dict[str, Any]:
        """How it ended, and how its memory went."""
        status = self.process.wait()
        self._watch.join()
        looks = self.looks[:-1]  # the last may be its end
        part = max(1, len(looks) // 10)
        warm = max(part, min(15, len(looks) // 3))
        first = statistics.median(looks[warm : warm + part] or [0])
        last = statistics.median(looks[-part:] or [0])
        self.errors.seek(0)
        return {
            "status": status,
            "memory_mb": [round(first / 1024, 1), round(last / 1024, 1)],
            "growth": round(last / first - 1, 4) if first else 0.0,
            "said": self.errors.read()[-500:] if status else "",
        }


def by_filter(path: Path, speed: float, result: dict[str, Any]) -> None:
    door = Watched("filter", [
        filter_program(), "-hide_banner", "-nostdin", "-v", "error", "-readrate", str(speed), "-i",
        path, "-vf", "tds_enhance=backend=bicubic", "-fps_mode", "passthrough", "-map", "0:v:0",
        "-map", "0:a", "-c:a", "copy", "-f", "framecrc", "-",
    ])  # fmt: skip
    bases: dict[int, Fraction] = {}
    ends = {0: Fraction(0), 1: Fraction(0)}  # of the pictures, and of the sound
    last, pictures = {0: -1, 1: -1}, 0
    for line in map(bytes.decode, door.output):
        if found := re.match(r"#tb (\d): (\S+)", line):
            bases[int(found[1])] = Fraction(found[2])
        elif line[0] != "#":
            stream, _, when, lasts = map(int, line.split(",")[:4])
            if when <= last[stream]:
                result["fault"] = f"what comes at {when} follows what came at {last[stream]}"
            last[stream] = when
            ends[stream] = (when + lasts) * bases[stream]
            pictures += stream == 0
    result.update(door.end(), pictures=pictures, apart=round(float(abs(ends[0] - ends[1])), 3))


def by_decode(path: Path, speed: float, result: dict[str, Any]) -> None:
    command = [sys.executable, "-m", "tds", "decode", path, "-", "--backend", "bicubic", "--quiet"]
    door = Watched("decode", command)
    begun = time.monotonic()
    door.output.readline()
    pictures = 0
    for _ in frames(door.output):
        pictures += 1
        ahead = pictures / (RATE * speed) - (time.monotonic() - begun)
        if ahead > 0.2:
            time.sleep(ahead)
    result.update(door.end(), pictures=pictures)


def frames(output: IO[bytes]) -> Iterator[None]:
    while (head := output.read(6)) == b"FRAME\n":
        if len(output.read(SIZE)) < SIZE:
            return
        yield
    assert not head, head


GROUP = 5
SILENT = 5  # seconds without a packet that are the end

# What a reader of the stream sees of it, at once: a line a picture.
SHOWN = """
import sys, time, tds
with tds.decode(sys.argv[1], backend="bicubic", timeout=float(sys.argv[2])) as pictures:
    for p in pictures:
        print(round(p.pts * pictures.time_base * 25), time.monotonic(), flush=True)
"""


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            for _ in range(count)
        ]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def sender(ports: list[int], seconds: float) -> list[Any]:
    """The command of docs/streaming.md, to several readers at once."""
    form = "[f=mpegts:flush_packets=1:omit_video_pes_length=0]"
    to = "|".join(f"{form}udp://127.0.0.1:{p}?pkt_size=1316" for p in ports)
    return [
        imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin",
        "-re", "-f", "lavfi", "-i", f"testsrc2=size=64x64:rate={RATE}",
        "-re", "-f", "lavfi", "-i", "sine=sample_rate=48000", "-filter_complex",
        f"[0:v]split[full][half];[full]select='not(mod(n,{GROUP - 1}))'[hr];"
        f"[half]select='mod(n,{GROUP - 1})',scale=iw/2:ih/2:flags=bicubic[lr]",
        "-map", "[hr]", "-map", "[lr]", "-map", "1:a", "-c:v", "libx264", "-preset", "veryfast",
        "-tune", "zerolatency", "-crf", "28", "-g", "1", "-pix_fmt", "yuv420p", "-fps_mode",
        "passthrough", "-enc_time_base", "demux", "-c:a", "aac", "-t", str(seconds),
        "-f", "tee", to,
    ]  # fmt: skip


def tap(port: int, came: dict[int, float], hr: set[int]) -> None:
    """When the packet of each picture came, by the picture's number; which are HR."""
    options = {"fflags": "noparse+nofillin", "analyzeduration": "1000000"}
    with (
        contextlib.suppress(av.error.FFmpegError),
        av.open(f"udp://127.0.0.1:{port}", options=options, timeout=SILENT + 15) as container,
    ):
        for packet in container.demux():
            if packet.stream.type == "video" and packet.pts is not None:
                number = round(packet.pts * packet.time_base * RATE)
                came[number] = time.monotonic()
                if packet.stream.index == 0:
                    hr.add(number)


def live_decode(port: int, shown: dict[int, float], result: dict[str, Any]) -> None:
    url = f"udp://127.0.0.1:{port}?fifo_size={FIFO}"
    door = Watched("live decode", [sys.executable, "-c", SHOWN, url, str(SILENT)])
    for number, at in map(bytes.split, door.output):
        if shown and int(number) <= max(shown):
            result["fault"] = f"picture {int(number)} comes after {max(shown)}"
        shown[int(number)] = float(at)
    result.update(door.end(), pictures=len(shown))


def live_filter(port: int, shown: dict[int, float], result: dict[str, Any]) -> None:
    url = f"udp://127.0.0.1:{port}?timeout={SILENT * 1_000_000}&fifo_size={FIFO}"
    door = Watched("live filter", [
        filter_program(), "-hide_banner", "-nostdin", "-v", "quiet", "-analyzeduration", "1000000",
        "-copyts", "-thread_type", "slice", "-i", url, "-vf",
        "tds_enhance=backend=bicubic,settb=1/25", "-fps_mode", "passthrough", "-enc_time_base",
        "1:25", "-map", "0:v:0", "-map", "0:a", "-c:a", "copy",
        "-flush_packets", "1", "-f", "framecrc", "-",
    ])  # fmt: skip
    bases: dict[int, Fraction] = {}
    ends = {0: Fraction(0), 1: Fraction(0)}
    for line in map(bytes.decode, door.output):
        if found := re.match(r"#tb (\d): (\S+)", line):
            bases[int(found[1])] = Fraction(found[2])
        elif line[0] != "#":
            stream, _, when, lasts = map(int, line.split(",")[:4])
            ends[stream] = (when + lasts) * bases[stream]
            if stream == 0:
                number = round(when * bases[0] * RATE)
                if shown and number <= max(shown):
                    result["fault"] = f"picture {number} comes after {max(shown)}"
                shown[number] = time.monotonic()
    result.update(door.end(), pictures=len(shown), apart=round(float(abs(ends[0] - ends[1])), 3))
    result["status"] = 0  # that UDP ends is an error to ffmpeg


def live(seconds: float) -> dict[str, dict[str, Any]]:
    """Both doors at one sender; for each how it went, and when pictures were shown after they came,
    in milliseconds: the median by place in the group, HR first, and that of 99 of 100."""
    doors = {"live decode": live_decode}
    if filter_program().is_file():
        doors["live filter"] = live_filter
    ports = free_ports(1 + len(doors))
    came: dict[int, float] = {}
    hr: set[int] = set()
    results: dict[str, dict[str, Any]] = {name: {} for name in doors}
    shown: dict[str, dict[int, float]] = {name: {} for name in doors}
    threads = [threading.Thread(target=tap, args=(ports[0], came, hr))]
    for (name, door), port in zip(doors.items(), ports[1:], strict=True):
        args = (port, shown[name], results[name])
        threads.append(threading.Thread(target=door, args=args))
    for thread in threads:
        thread.start()
    time.sleep(3)  # until they listen
    subprocess.run(sender(ports, seconds), check=True)
    for thread in threads:
        thread.join()
    for name, result in results.items():
        steady = [n for n in shown[name] if n in came and n > max(came) // 2]
        by_place: dict[int, list[float]] = {}
        for number in steady:
            late = 1000 * (shown[name][number] - came[number])
            by_place.setdefault((number - min(hr)) % (GROUP - 1), []).append(late)
        every = sorted(late for some in by_place.values() for late in some)
        result["late_ms"] = [round(statistics.median(by_place[p])) for p in sorted(by_place)]
        result["late_most_ms"] = round(every[int(0.99 * len(every))]) if every else None
        numbers = shown[name]
        result["missing"] = max(numbers) - min(numbers) + 1 - len(numbers) if numbers else None
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--speed", type=float, default=4, help="times the video's own pace")
    parser.add_argument("--record", type=Path)
    parser.add_argument("--live", action="store_true", help="sent over UDP at the video's own pace")
    arguments = parser.parse_args()
    if arguments.live:
        return finish(live(arguments.seconds), arguments, arguments.seconds * RATE - 2 * RATE)
    doors = {"decode": by_decode}
    if filter_program().is_file():
        doors["filter"] = by_filter
    else:
        print(f"the filter is left out: there is no {filter_program()} (make ffmpeg)")
    folder = Path(tempfile.mkdtemp(prefix="tds-soak-"))
    try:
        path = looped(folder, arguments.seconds * arguments.speed)
        expected = round(arguments.seconds * arguments.speed * RATE)
        results: dict[str, dict[str, Any]] = {name: {} for name in doors}
        threads = [
            threading.Thread(target=run, args=(path, arguments.speed, results[name]))
            for name, run in doors.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        shutil.rmtree(folder)
    return finish(results, arguments, expected - 1)


def finish(results: dict[str, dict[str, Any]], arguments: argparse.Namespace, least: float) -> int:
    """Prints, records and judges. least: so many pictures there must be."""
    faults = []
    for name, result in results.items():
        if result.get("status") != 0:
            faults.append(f"{name}: it ended with {result.get('status')}: {result.get('said')}")
        if result.get("pictures", 0) < least or result.get("missing"):  # -t may cut one
            faults.append(
                f"{name}: {result.get('pictures')} pictures, and {least:.0f} should be; "
                f"{result.get('missing', 0)} are missing between them"
            )
        before, after = result.get("memory_mb", (0, 0))
        kept = PROBED if arguments.live and arguments.seconds < SETTLED else 0
        if result.get("growth", 0) > FLAT and after - before > 1 + kept:
            faults.append(f"{name}: its memory grew by {result['growth']:.1%}")
        if result.get("apart", 0) > 1 / RATE + 0.001:
            faults.append(f"{name}: sound is {result['apart']} s from the picture")
        if "fault" in result:
            faults.append(f"{name}: {result['fault']}")
        print(name, json.dumps(result))
    print("\n".join(faults) or f"flat for {arguments.seconds:.0f} s")
    if arguments.record:
        record = json.loads(arguments.record.read_text()) if arguments.record.is_file() else {}
        kind = "live" if arguments.live else "soak"
        record[kind] = {"seconds": arguments.seconds, **results}
        if not arguments.live:
            record[kind]["speed"] = arguments.speed
        arguments.record.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
