#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""How near `tds encode` comes to a bit rate, a size and a VMAF, and in how many encodes.

    python benchmarks/targets.py --out docs/targets.md

Pairs (plan tds, x265 veryfast, all-intra, CRF, the model `fast`) of the ten smallest evaluation
clips, 25 frames of each at most, so that all of it is the sample. Asked for are VMAF 85, 0.3 bits a
luma sample, and as many bytes; each search begins with nothing known. Near enough is what
docs/targets.md says.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import av

from common import FFMPEG
from tds.encoding.settings import EncodeSettings
from tds.targets import Reached, Target, encode_to

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("TDS_DATA", ROOT.parent / "shared" / "data"))
BEGIN = "<!-- made by benchmarks/targets.py -->\n"
END = "<!-- end -->\n"
FRAMES = 25
BITS = 0.3  # a luma sample
VMAF = 85.0


def size_of(path: Path) -> tuple[int, int, int, float]:
    """Width, height, frames and frames a second."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        frames = sum(1 for packet in container.demux(video) if packet.size)
        return video.width, video.height, frames, float(video.average_rate or 25)


def smallest(count: int) -> list[Path]:
    clips = sorted((DATA / "eval").glob("*.mkv"))
    if not clips:
        sys.exit(f"there are no evaluation clips in {DATA / 'eval'}; name their folder in TDS_DATA")
    return sorted(clips, key=lambda path: size_of(path)[0] * size_of(path)[1])[:count]


def measured(clip: Path, folder: Path) -> list[Reached]:
    cut = folder / clip.name
    command = [FFMPEG, "-nostdin", "-loglevel", "error", "-y", "-i", clip]
    subprocess.run([*command, "-frames:v", str(FRAMES), "-an", "-c:v", "ffv1", cut], check=True)
    width, height, frames, rate = size_of(cut)
    bits = BITS * width * height
    settings = EncodeSettings(encoder="libx265", preset="veryfast", plan="tds", model="fast")
    out = []
    for target in (
        Target("vmaf", VMAF),
        Target("bitrate", bits * rate / 1000),
        Target("max_size", bits * frames / 8),
    ):
        print(f"{clip.stem}: {target.what.called}", file=sys.stderr)
        out.append(encode_to(target, str(cut), folder / "out.mp4", settings, overwrite=True))
    return out


def off(reached: Reached) -> str:
    target = reached.target
    if target.what.rate:
        return f"{100 * (reached.value / target.value - 1):+.1f} %"
    return f"{reached.value - target.value:+.2f}"


def table(found: dict[str, list[Reached]]) -> str:
    lines = [
        f"| clip | VMAF {VMAF:g} | encodes | bit rate | encodes | size | encodes |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in found.items():
        cells = [f"{off(r)}{'' if r.met else ', the nearest'} | {r.encodes}" for r in row]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    met = [sum(row[i].met for row in found.values()) for i in range(3)]
    encodes = [sum(row[i].encodes for row in found.values()) / len(found) for i in range(3)]
    cells = [f"**{m} of {len(found)}** | {e:.1f}" for m, e in zip(met, encodes, strict=True)]
    return "\n".join([*lines, f"| **met, mean** | {' | '.join(cells)} |"]) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--clips", type=int, default=10)
    parser.add_argument("--out", type=Path, help="the page to write the table into")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tds-targets-") as temporary:
        os.environ["TDS_CACHE"] = str(Path(temporary) / "cache")  # with no trial in it
        found = {clip.stem: measured(clip, Path(temporary)) for clip in smallest(args.clips)}
    print(table(found))
    if args.out:
        text = args.out.read_text()
        block = re.compile(re.escape(BEGIN) + r".*?" + re.escape(END), re.DOTALL)
        if not block.search(text):
            sys.exit(f"{args.out} has no place for the table: {BEGIN.strip()} … {END.strip()}")
        args.out.write_text(block.sub(lambda _: BEGIN + "\n" + table(found) + "\n" + END, text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
