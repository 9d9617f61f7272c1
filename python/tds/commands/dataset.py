# SPDX-License-Identifier: LGPL-2.1-or-later
"""``tds dataset``: source clips through real codecs into a training set."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from ..codecs import DEFAULT, Codec, Config
from ..errors import InputError


def add_parser(subparsers: Any) -> None:
    p = subparsers.add_parser(
        "dataset",
        help="make a training set from clips, with real codecs",
        description="Code clips as TDS does, at a list of QPs, into a folder of bitstreams and "
        "originals with a manifest. Started again, it goes on where it stopped; started with "
        "other settings on the same folder, it adds to it.",
    )
    p.add_argument("sources", nargs="+", help="clips, or folders of clips")
    p.add_argument("--out", "-o", required=True, type=Path, help="the data set's folder")
    p.add_argument("--codec", nargs="+", choices=[c.value for c in Codec], default=["hevc"])
    p.add_argument("--config", nargs="+", choices=[c.value for c in Config], default=["ai"])
    p.add_argument("--qp", nargs="+", type=int, default=[22, 27, 32, 37, 42, 47], metavar="QP")
    p.add_argument(
        "--lr-qp-offset", type=int, default=0, help="added to the QP for the LR stream (0)"
    )
    p.add_argument(
        "--scale",
        "-k",
        type=int,
        choices=[1, 2, 4],
        default=2,
        help="1: plain streams of every frame, and no pairs (2)",
    )
    p.add_argument(
        "--group",
        "-n",
        type=int,
        help="frames a group, odd; 1: every frame in both streams, for all-intra (5; of plain "
        "streams, 1)",
    )
    p.add_argument("--boundaries", choices=["shared", "independent"], default="shared")
    p.add_argument("--preset", help="the encoders' preset (each one's own default)")
    p.add_argument("--share", type=float, default=1.0, help="make only this part of all pairs")
    p.add_argument("--max-frames", type=int, help="use only the first frames of each clip")
    p.add_argument("--jobs", "-j", type=int, default=max(1, (os.cpu_count() or 2) // 2))
    p.add_argument("--quiet", "-q", action="store_true")
    p.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    from ..training.dataset import Job, build, find_clips

    if not 0 < args.share <= 1:
        raise InputError(f"--share is above 0 and at most 1, not {args.share}")
    plain = args.scale == 1
    group = (1 if plain else 5) if args.group is None else args.group
    if plain and (group != 1 or args.lr_qp_offset):
        raise InputError("--scale 1 makes plain streams: --group and --lr-qp-offset are for pairs")
    clips = find_clips(args.sources)
    jobs = []
    count = turns = 0
    for codec in map(Codec, args.codec):
        preset = args.preset or DEFAULT[codec].default_preset
        for config in map(Config, args.config):
            if group == 1 and not plain and config is not Config.AI:
                raise InputError("--group 1 is for --config ai; RA and LDP need real groups")
            turns += 1
            for i, clip in enumerate(clips):
                # A share is spread evenly over clips and QPs, the same ones each time: each clip
                # begins with another QP, else every fourth of four would always be the last.
                first = (i + turns) % len(args.qp)
                for qp in args.qp[first:] + args.qp[:first]:
                    count += 1
                    if int(count * args.share) == int((count - 1) * args.share):
                        continue
                    lr_qp = min(max(qp + args.lr_qp_offset, 0), codec.max_qp)
                    jobs.append(
                        Job(
                            clip,
                            codec,
                            config,
                            args.scale,
                            group,
                            qp,
                            lr_qp,
                            preset,
                            args.boundaries == "independent",
                            args.max_frames,
                        )
                    )

    def show(done: int, of: int, what: str) -> None:
        if not args.quiet:
            print(f"{done}/{of} {what}", file=sys.stderr, flush=True)

    entries = build(jobs, args.out, args.jobs, show)
    if not args.quiet:
        size = sum(e.hr_bytes + e.lr_bytes for e in entries)
        pairs = sum(bool(e.lr_frames) for e in entries)
        alone = f" and {len(entries) - pairs} plain streams" if pairs < len(entries) else ""
        print(f"{args.out}: {pairs} pairs of streams{alone}, {size / 1e6:.1f} MB")
    return 0
