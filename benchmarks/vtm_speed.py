#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""``tds postdec --decoder vtm`` with bicubic against two VTM decoders writing YUV files.

Both decode the same HR and LR streams (libvvenc's), two decoders at a time, in
turn, in one run. VTM alone leaves two YUV files of different sizes; postdec
writes one YUV file with every frame at full size. Also the transport alone: one
decoder writing a YUV file against the same one handing its pictures to a reader
that drops them. Prints medians of wall-clock and of processor seconds, and the ratios.

    benchmarks/vtm_speed.py --decoder .../DecoderApp [--size 832x480] [--frames 2000]

Needs a VTM patched with vtm_patches/vtm.patch (--decoder, or TDS_VTM_BIN).
"""

from __future__ import annotations

import argparse
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import tds
from common import CITY, looped
from tds.container.annexb import raw_paths
from tds.container.sidecar import read_sidecar
from tds.postdec.decoders import find_program, is_patched
from tds.postdec.streams import PictureStream

Times = tuple[float, float]  # wall, processor


def measure(call: Callable[[], object]) -> Times:
    before = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    start = time.perf_counter()
    call()
    wall = time.perf_counter() - start
    after = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(
        b.ru_utime + b.ru_stime - a.ru_utime - a.ru_stime
        for a, b in zip(before, after, strict=True)
    )
    return wall, cpu


def in_turn(
    calls: list[Callable[[], object]], runs: int, between: Callable[[], object]
) -> list[Times]:
    """Medians of each call, made in turn after one warm-up, so that a drift of the
    machine's speed is a drift for all. between: called before each, and not measured."""
    taken: list[list[Times]] = [[] for _ in calls]
    for i in range(runs + 1):
        for call, times in zip(calls, taken, strict=True):
            between()
            measured = measure(call)
            if i:
                times.append(measured)
    return [
        (statistics.median(t[0] for t in times), statistics.median(t[1] for t in times))
        for times in taken
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--decoder", help="VTM's DecoderApp, patched (default: in TDS_VTM_BIN)")
    parser.add_argument("--source", type=Path, default=CITY)
    parser.add_argument("--size", default="832x480")
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--config", default="ra", choices=("ai", "ldp", "ra"))
    parser.add_argument("--qp", type=int, default=22)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--pair", type=Path, help="sidecar of a raw pair to use instead")
    args = parser.parse_args()
    program = find_program("vtm", args.decoder)
    if not is_patched(program):
        raise SystemExit(f"{program} is not patched; see vtm_patches/README.md")

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sidecar = args.pair or folder / "clip.json"
        if args.pair is None:
            source = looped(args.source, folder / "source.mkv", args.frames, args.size)
            tds.encode(source, sidecar, config=args.config, qp=args.qp, preset="faster", plan="tds")
        metadata = read_sidecar(sidecar)
        hr, lr = raw_paths(sidecar, metadata.codec)

        def decode(path: Path, *more: str) -> subprocess.Popen[bytes]:
            out = str(folder / f"{path.stem}.yuv")
            command = [program, "-b", str(path), *(more or ("-o", out))]
            return subprocess.Popen(command, stdout=subprocess.DEVNULL)

        def two_files() -> None:
            for process in [decode(hr), decode(lr)]:
                if process.wait():
                    raise SystemExit("VTM failed")

        def postdec() -> None:
            command = [sys.executable, "-m", "tds", "postdec", "-q", "-y", "--decoder", "vtm"]
            command += ["--decoder-path", program, "--hr", str(hr), "--lr", str(lr)]
            command += ["--sidecar", str(sidecar), "--backend", "bicubic", str(folder / "out.yuv")]
            subprocess.run(command, check=True)

        def one_file() -> None:
            decode(hr).wait()

        def one_socket() -> None:
            ours, theirs = socket.socketpair()
            os.set_inheritable(theirs.fileno(), True)
            more = (f"--TdsSession=fd:{theirs.fileno()}", "--TdsRole=hr")
            process = subprocess.Popen(
                [program, "-b", str(hr), *more],
                pass_fds=(theirs.fileno(),),
                stdout=subprocess.DEVNULL,
            )
            theirs.close()
            stream = PictureStream(ours.detach(), "VTM", 60)
            for _ in stream:
                pass
            stream.close()
            process.wait()

        files = [folder / f"{hr.stem}.yuv", folder / f"{lr.stem}.yuv", folder / "out.yuv"]
        sizes = [0.0] * 3

        def remove_files() -> None:
            # Overwriting would also free what the run before wrote, and the larger file
            # would take longer.
            for i, path in enumerate(files):
                if path.exists():
                    sizes[i] = path.stat().st_size / 1e6
                    path.unlink()

        calls: list[Callable[[], object]] = [two_files, postdec, one_file, one_socket]
        results = in_turn(calls, args.runs, remove_files)

    rows = [
        (f"two VTM to YUV files ({sizes[0]:.0f} + {sizes[1]:.0f} MB)", results[0], None),
        (f"tds postdec, bicubic, one YUV file ({sizes[2]:.0f} MB)", results[1], results[0]),
        ("one VTM (HR) to a YUV file", results[2], None),
        ("one VTM (HR) to a socket", results[3], results[2]),
    ]
    m = metadata
    print(
        f"{m.timeline.frames} frames, {m.width}x{m.height}, {m.config.upper()}, QP {m.hr_qp}, "
        f"{m.encoder}, medians of {args.runs} runs in turn"
    )
    print(f"{'':48} {'wall s':>8} {'CPU s':>8} {'wall':>7} {'CPU':>7}")
    for title, (wall, cpu), against in rows:
        ratio = f" {wall / against[0] - 1:+7.1%} {cpu / against[1] - 1:+7.1%}" if against else ""
        print(f"{title:48} {wall:8.2f} {cpu:8.2f}{ratio}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
