# SPDX-License-Identifier: LGPL-2.1-or-later
"""``tds enhance``: any video made better, or the whole of a pair in two files."""

from __future__ import annotations

import argparse
from typing import Any

from ..decoder import Decoder
from ..errors import InputError
from ..media.opening import wait_at_most
from ..sinks import VIDEO, kind_of
from ..two_files import enhance_pair
from ._arguments import (
    add_enhancer,
    add_output,
    add_raw,
    add_timeout,
    add_video_track,
    enhance_settings,
    raw_format,
)
from ._output import write_pictures
from ._times import add_times, times_of


def add_parser(subparsers: Any) -> None:
    p = subparsers.add_parser(
        "enhance",
        help="make the pictures of any video better, or pair two files, HR and LR",
        usage="tds enhance [options] INPUT OUTPUT\n"
        "       tds enhance [options] --hr HR --lr LR OUTPUT",
        description="With INPUT: decode any file that FFmpeg reads, make each picture better from "
        "its neighbours and write it with the file's sound and text. With --hr and --lr: pair the "
        "pictures of two files of any kind (raw .266 or .265 streams, y4m, yuv, MP4, pipes) and "
        "rebuild the LR frames at full size. Raw files hold no times: a sidecar, or a regular "
        "group, tells the order.",
    )
    p.add_argument("input", nargs="?", help="a video file, or - for standard input")
    p.add_argument(
        "output", help="a video file, .y4m or .yuv, or - for a pipe (y4m; --format video: Matroska)"
    )
    add_video_track(p)
    add_timeout(p)
    pair = p.add_argument_group("a pair in two files")
    pair.add_argument("--hr", help="the key frames at full size")
    pair.add_argument("--lr", help="the frames between them, smaller")
    plan = add_times(p, "times of a pair, when the files have none")
    plan.add_argument("--scale", type=int, choices=(1, 2, 4), default=2, help="k, for raw yuv")
    add_raw(p)
    add_enhancer(p)
    add_output(p)
    p.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    wait_at_most(args.timeout)
    if (args.hr is None) != (args.lr is None):
        raise InputError("a pair is two files: give --hr and --lr")
    if args.input is not None and args.hr is not None:
        raise InputError("give one input, or --hr and --lr, not both")
    if args.input is not None:
        return _plain(args)
    if args.hr is None:
        raise InputError("give an input and an output, or --hr, --lr and an output")
    sidecar, plan = times_of(args)
    raw = raw_format(args, rate_alone=args.group is not None)
    return write_pictures(
        args,
        lambda: enhance_pair(
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


def _plain(args: argparse.Namespace) -> int:
    from ..enhancing import decoder_of_plain
    from ..plain import PlainStream

    for name in ("sidecar", "group"):
        if getattr(args, name) is not None:
            raise InputError(
                f"--{name} is of a pair in two files; leave it out, or give --hr, --lr"
            )
    opened: list[PlainStream] = []

    def decoder() -> Decoder:
        sound = kind_of(args.output, args.format) == VIDEO
        opened.append(PlainStream(args.input, raw_format(args), args.video_track, sound=sound))
        return decoder_of_plain(opened[0], enhance_settings(args))

    return write_pictures(args, decoder, args.input, 0, lambda: opened[0].origin, [args.input])
