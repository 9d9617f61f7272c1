# SPDX-License-Identifier: LGPL-2.1-or-later
"""``tds enhance``: the same from two files of any kind."""

from __future__ import annotations

import argparse
from typing import Any

from ..two_files import enhance
from ._arguments import add_enhancer, add_output, add_raw, enhance_settings, raw_format
from ._output import write_pictures
from ._times import add_times, times_of


def add_parser(subparsers: Any) -> None:
    p = subparsers.add_parser(
        "enhance",
        help="pair two files, HR and LR, and enhance",
        description="Pair the pictures of two files of any kind (raw .266 or .265 streams, y4m, "
        "yuv, MP4, pipes) and rebuild the LR frames at full size. Raw files hold no times: a "
        "sidecar, or a regular group, tells the order.",
    )
    p.add_argument("--hr", required=True, help="the key frames at full size")
    p.add_argument("--lr", required=True, help="the frames between them, smaller")
    p.add_argument("output", help="a video file, .y4m or .yuv, or - for a pipe (y4m)")
    plan = add_times(p, "times, when the files have none")
    plan.add_argument("--scale", type=int, choices=(1, 2, 4), default=2, help="k, for raw yuv")
    add_raw(p)
    add_enhancer(p)
    add_output(p)
    p.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    sidecar, plan = times_of(args)
    raw = raw_format(args, rate_alone=args.group is not None)
    return write_pictures(
        args,
        lambda: enhance(
            args.hr,
            args.lr,
            sidecar=sidecar,
            plan=plan,
            raw=raw,
            scale=args.scale,
            settings=enhance_settings(args),
        ),
        f"{args.hr} with {args.lr}",
        sidecar.timeline.frames if sidecar else 0,
        None,
        [path for path in (args.hr, args.lr, args.sidecar) if path is not None],
    )
