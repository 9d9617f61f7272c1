# SPDX-License-Identifier: LGPL-2.1-or-later
"""Damaged pairs through every door (`make torture CASES=10000`).

A case is a number, which says which of the small pairs in pairs/ is damaged, how, and through which
door it goes. What must hold: the door ends in time, whatever the decoder does; times increase; no
picture is lost or doubled without a word; a door that gives up says why in a sentence. A decoder
that crashes takes its worker along, and is counted.

    python tests/torture/torture.py --cases 10000 [--record FILE]
    python tests/torture/torture.py --case 4711        # that one, here, with what it did
    python tests/torture/torture.py --pairs            # makes the pairs again
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import av

import tds
from tds.container.sidecar import read_sidecar
from tds.postdec.launcher import PostdecSettings, postdec

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PAIRS = HERE / "pairs"
FRAMES = 13
# Of a case; a picture takes a few milliseconds.
SECONDS = 20.0

# Codec and what holds it, each with the configuration it was made in.
FORMS = {
    "h264.mp4": "ra", "h264.mkv": "ldp", "h264.ts": "ai",
    "hevc.mp4": "ai", "hevc.mkv": "ra", "hevc.ts": "ldp",
    "vvc.mp4": "ldp", "vvc.mkv": "ai", "vvc.ts": "ra",
    "av1.mp4": "ra", "av1.mkv": "ai",
}  # fmt: skip
RAW = "hevc.json"


class Broken(AssertionError):
    """What must hold does not."""


@dataclass(frozen=True)
class Case:
    number: int
    door: str
    pair: str
    damage: str
    dice: random.Random

    @classmethod
    def of(cls, number: int, doors: tuple[str, ...]) -> Case:
        """Of ten cases eight are decoded, one goes through the filter, one through postdec."""
        dice = random.Random(f"case {number}")
        door = {8: "filter", 9: "postdec"}.get(number % 10, "decode")
        door = door if door in doors else "decode"
        if door == "postdec":
            return cls(number, door, RAW, dice.choice(["flip", "cut", "gap"]), dice)
        return cls(number, door, dice.choice(sorted(FORMS)), dice.choice(sorted(DAMAGES)), dice)


# ---------------------------------------------------------------------------- damage --


def packets(path: Path) -> list[tuple[int, int, int, tuple[bool, int], bytes]]:
    """(track, pts, dts, (key, duration), data) of both tracks, as they lie in the file."""
    with av.open(str(path)) as container:
        videos = container.streams.video
        return [
            (
                videos.index(p.stream),
                p.pts or 0,
                p.dts or 0,
                (p.is_keyframe, p.duration or 0),
                bytes(p),
            )
            for p in container.demux(videos)
            if p.size
        ]


def remuxed(path: Path, out: Path, change: Callable[[list[Any]], list[Any]]) -> None:
    """A copy with its packets changed, its tag and times as they were."""
    changed = change(packets(path))
    form = {".mp4": "mp4", ".mkv": "matroska", ".ts": "mpegts"}[path.suffix]
    options = {"movflags": "use_metadata_tags"} if form == "mp4" else {}
    with av.open(str(path)) as container, av.open(str(out), "w", form, options=options) as made:
        made.metadata.update(container.metadata)
        streams = [made.add_stream_from_template(s, opaque=True) for s in container.streams.video]
        bases = [s.time_base for s in container.streams.video]
        last = [-(1 << 62)] * len(streams)
        for track, pts, dts, (key, duration), data in changed:
            packet = av.Packet(data)
            packet.stream, packet.time_base = streams[track], bases[track]
            # Of a doubled packet both are of one time, where the muxer takes that.
            last[track] = packet.dts = max(dts, last[track] + (form != "matroska"))
            packet.pts = max(pts, packet.dts)
            packet.is_keyframe, packet.duration = key, duration
            made.mux(packet)


def flip(data: bytearray, dice: random.Random, most: int = 12) -> None:
    for _ in range(dice.randrange(1, most)):
        if data:
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def _flip_packets(entries: list[Any], dice: random.Random) -> list[Any]:
    """Of one track or of both, a few of their packets."""
    for _ in range(dice.randrange(1, 5)):
        at = dice.randrange(len(entries))
        data = bytearray(entries[at][4])
        flip(data, dice)
        entries[at] = (*entries[at][:4], bytes(data))
    return entries


def _lose(entries: list[Any], dice: random.Random) -> list[Any]:
    gone = set(dice.sample(range(len(entries)), dice.randrange(1, 6)))
    return [e for i, e in enumerate(entries) if i not in gone]


def _double(entries: list[Any], dice: random.Random) -> list[Any]:
    twice = set(dice.sample(range(len(entries)), dice.randrange(1, 6)))
    return [e for i, entry in enumerate(entries) for e in [entry] * (2 if i in twice else 1)]


def _exchange(entries: list[Any], dice: random.Random) -> list[Any]:
    a, b = dice.sample(range(len(entries)), 2)
    one, other = entries[a], entries[b]
    entries[a], entries[b] = (*one[:4], other[4]), (*other[:4], one[4])
    return entries


def _bytes(change: Callable[[bytearray, random.Random], None]) -> Callable[..., None]:
    def damage(path: Path, out: Path, dice: random.Random) -> None:
        data = bytearray(path.read_bytes())
        change(data, dice)
        out.write_bytes(data)

    return damage


def _packets(change: Callable[[list[Any], random.Random], list[Any]]) -> Callable[..., None]:
    def damage(path: Path, out: Path, dice: random.Random) -> None:
        remuxed(path, out, lambda entries: change(entries, dice))

    return damage


def _cut(data: bytearray, dice: random.Random) -> None:
    del data[dice.randrange(len(data)) :]


def _gap(data: bytearray, dice: random.Random) -> None:
    begin = dice.randrange(len(data))
    del data[begin : begin + dice.randrange(1, 600)]


DAMAGES: dict[str, Callable[[Path, Path, random.Random], None]] = {
    "flip": _bytes(flip),
    "cut": _bytes(_cut),
    "gap": _bytes(_gap),
    "flipped packets": _packets(_flip_packets),
    "lost packets": _packets(_lose),
    "doubled packets": _packets(_double),
    "exchanged packets": _packets(_exchange),
}


# ----------------------------------------------------------------------------- doors --


@cache
def whole(pair: str) -> tuple[Fraction, ...]:
    """When the pictures of the undamaged pair are shown, seconds."""
    with tds.decode(PAIRS / pair, backend="bicubic") as pictures:
        return tuple(p.pts * pictures.time_base for p in pictures)


def check_times(times: list[Fraction], case: Case, said: bool) -> None:
    for before, after in pairwise(times):
        if after <= before:
            raise Broken(f"a picture at {float(after)} s follows one at {float(before)} s")
    if case.damage == "flip" or case.pair.endswith(".ts"):
        return  # times themselves may be changed; without a tag what is missing is not known
    expected = whole(case.pair)
    if len(times) > len(expected) and not said:
        raise Broken(f"{len(times)} pictures of {len(expected)}, without a word")
    if len(times) < len(expected) and not said:
        raise Broken(
            f"{len(expected) - len(times)} of {len(expected)} pictures lost without a word"
        )


def sentence(text: str) -> str:
    if not text.strip() or "Traceback" in text:
        raise Broken(f"no sentence: {text[-300:]!r}")
    return "refused"


def decode(path: Path, case: Case, folder: Path) -> str:
    try:
        with tds.decode(path, backend="bicubic", allow_truncated=True) as pictures:
            times, odd = [], 0
            for picture in pictures:
                times.append(picture.pts * pictures.time_base)
                odd += bool(picture.reason - {"no-model"})
                if len(times) > 100 * FRAMES:
                    raise Broken("pictures without end")
            said = bool(pictures.notices) or any(pictures.damaged.values())
    except tds.TDSError as error:
        return sentence(str(error))
    check_times(times, case, said)
    return "marked" if odd or said else "whole"


# Of the filter, or of FFmpeg's own readers and writers.
_WORD = re.compile(
    r"tds_enhance|error|corrupt|invalid|prematurely|exceeds containing|truncat|nothing was",
    re.IGNORECASE,
)


def run_filter(path: Path, case: Case, folder: Path) -> str:
    done = subprocess.run(
        [filter_program(), "-hide_banner", "-nostdin", "-v", "info", "-i", path, "-vf"]
        + ["tds_enhance=backend=bicubic", "-fps_mode", "passthrough", "-enc_time_base", "filter"]
        + ["-an", "-f", "framemd5", "-"],
        capture_output=True, text=True, errors="replace", timeout=SECONDS,
    )  # fmt: skip
    if done.returncode < 0:  # above 128 are FFmpeg's own
        raise Broken(f"ffmpeg was killed by a signal: {done.returncode}")
    if done.returncode:
        return sentence(done.stderr)
    base = re.search(r"^#tb 0: (\S+)$", done.stdout, re.M)
    rows = [line.split(",") for line in done.stdout.splitlines() if line and line[0] != "#"]
    times = [int(row[2]) * Fraction(base[1]) for row in rows] if base else []
    odd = _WORD.search(done.stderr) is not None
    check_times(times, case, odd)
    return "marked" if odd else "whole"


def filter_program() -> Path:
    default = ROOT / "build" / "ffmpeg" / "current" / "bin" / "ffmpeg"
    return Path(os.environ.get("TDS_FILTER_FFMPEG", default))


def run_postdec(path: Path, case: Case, folder: Path) -> str:
    """``path``: the HR stream or the LR stream, damaged; the other is whole."""
    streams = {role: PAIRS / f"hevc.{role}.265" for role in ("hr", "lr")}
    streams["hr" if ".hr" in path.name else "lr"] = path
    settings = PostdecSettings(
        sidecar=read_sidecar(PAIRS / RAW), timeout=SECONDS / 2,
        enhance=tds.EnhanceSettings(backend="bicubic"),
    )  # fmt: skip
    times: list[Fraction] = []
    try:
        with postdec(str(streams["hr"]), str(streams["lr"]), settings) as pictures:
            times += (p.pts * pictures.time_base for p in pictures)
            said = bool(pictures.notices)
    except tds.TDSError as error:
        return sentence(str(error))
    if len(times) != FRAMES and not said:
        raise Broken(f"{len(times)} of {FRAMES} pictures, without a word")
    if times != sorted(set(times)):
        raise Broken("times that do not increase")
    return "marked" if said else "whole"


DOORS = {"decode": decode, "filter": run_filter, "postdec": run_postdec}


def run_case(number: int, doors: tuple[str, ...]) -> dict[str, Any]:
    case = Case.of(number, doors)
    told = {"case": number, "door": case.door, "pair": case.pair, "damage": case.damage}
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tds-torture-") as name:
        folder = Path(name)
        source = PAIRS / case.pair
        if case.door == "postdec":
            source = PAIRS / f"hevc.{case.dice.choice(['hr', 'lr'])}.265"
        damaged = folder / f"damaged.{source.name}"
        try:
            DAMAGES[case.damage](source, damaged, case.dice)
        except av.error.FFmpegError as error:  # no muxer writes it
            return {**told, "outcome": "not written", "why": str(error)}
        try:
            outcome, why = DOORS[case.door](damaged, case, folder), ""
        except Exception as error:
            outcome, why = "broken", f"{type(error).__name__}: {error}"
    seconds = time.monotonic() - begun
    return {**told, "outcome": outcome, "why": why, "seconds": round(seconds, 2)}


# --------------------------------------------------------------------------- workers --


class Worker:
    """A process that runs cases, and may be lost to one of them."""

    def __init__(self, doors: tuple[str, ...]) -> None:
        self._doors = doors
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--worker", *self._doors],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def run(self, number: int) -> dict[str, Any]:
        process = self._process
        assert process.stdin and process.stdout
        process.stdin.write(f"{number}\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], 3 * SECONDS)
        line = process.stdout.readline() if ready else ""
        if line:
            result: dict[str, Any] = json.loads(line)
            return result
        process.kill()
        process.wait()
        case = Case.of(number, self._doors)
        outcome = "crashed" if ready else "hung"
        self._start()
        return {"case": number, "door": case.door, "pair": case.pair, "damage": case.damage,
                "outcome": outcome, "why": f"status {process.returncode}"}  # fmt: skip

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def run_cases(
    numbers: list[int], doors: tuple[str, ...], workers: int = 2
) -> Iterator[dict[str, Any]]:
    pool = [Worker(doors) for _ in range(workers)]

    def share(index: int) -> Iterator[dict[str, Any]]:
        for number in numbers[index::workers]:
            yield pool[index].run(number)

    try:
        with ThreadPoolExecutor(workers) as threads:
            parts = threads.map(lambda i: list(share(i)), range(workers))
            for part in parts:
                yield from part
    finally:
        for worker in pool:
            worker.close()


def work(doors: tuple[str, ...]) -> None:
    for line in sys.stdin:
        print(json.dumps(run_case(int(line), doors)), flush=True)


# ----------------------------------------------------------------------------- pairs --


def make_pairs() -> None:
    """Of the bundled clip, at 64x64; VVC in 10 bits, which every FFmpeg decodes right."""
    PAIRS.mkdir(exist_ok=True)
    fast = {"h264": "ultrafast", "hevc": "ultrafast", "vvc": "faster", "av1": "12"}
    with tempfile.TemporaryDirectory() as name:
        for depth in (8, 10):
            source = Path(name) / f"{depth}.mkv"
            with (
                av.open(str(ROOT / "tests/data/city.mkv")) as clip,
                av.open(str(source), "w") as out,
            ):
                stream = out.add_stream("ffv1", rate=25)
                stream.width = stream.height = 64
                stream.pix_fmt = "yuv420p" if depth == 8 else "yuv420p10le"
                for frame, _ in zip(clip.decode(video=0), range(FRAMES), strict=False):
                    out.mux(stream.encode(frame.reformat(64, 64, stream.pix_fmt)))
                out.mux(stream.encode(None))
        for pair, config in {**FORMS, RAW: "ai"}.items():
            codec = pair.partition(".")[0]
            tds.encode(
                Path(name) / ("10.mkv" if codec == "vvc" else "8.mkv"), PAIRS / pair, codec=codec,
                config=config, preset=fast[codec], qp=36, plan="tds", group=5, intra_period=4,
                overwrite=True, scene_cut=0,
            )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--case", type=int)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--record", type=Path)
    parser.add_argument("--pairs", action="store_true")
    parser.add_argument("--worker", nargs="*")
    arguments = parser.parse_args()
    if arguments.worker is not None:
        work(tuple(arguments.worker))
        return 0
    if arguments.pairs:
        make_pairs()
        return 0
    doors = ("decode", "postdec", *(["filter"] if filter_program().is_file() else []))
    if "filter" not in doors:
        print(f"the filter is left out: there is no {filter_program()} (make ffmpeg)")
    if arguments.case is not None:
        print(json.dumps(run_case(arguments.case, doors), indent=1))
        return 0
    numbers = list(range(arguments.first, arguments.first + arguments.cases))
    counts: Counter[tuple[str, str]] = Counter()
    bad = []
    begun = time.monotonic()
    for result in run_cases(numbers, doors, arguments.workers):
        counts[result["door"], result["outcome"]] += 1
        if result["outcome"] in ("broken", "crashed", "hung"):
            bad.append(result)
            print(json.dumps(result), flush=True)
    table: dict[str, dict[str, int]] = {}
    for (door, outcome), count in sorted(counts.items()):
        table.setdefault(door, {})[outcome] = count
        print(f"{door:8} {outcome:12} {count:6}")
    print(f"{len(numbers)} cases in {time.monotonic() - begun:.0f} s")
    if arguments.record:
        record = json.loads(arguments.record.read_text()) if arguments.record.is_file() else {}
        record["torture"] = table
        arguments.record.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
