# SPDX-License-Identifier: LGPL-2.1-or-later
"""``tds postdec``: from VTM, HM, VVdeC or any decoder straight to the enhancer."""

from __future__ import annotations

import argparse
from typing import Any

from ..errors import InputError
from ..media.sources import parse_rate, parse_size
from ..postdec import PostdecSettings, postdec, postdec_plain
from ..postdec.decoders import split_words
from ._arguments import add_enhancer, add_output, enhance_settings
from ._output import write_pictures
from ._times import add_times, times_of


def add_parser(subparsers: Any) -> None:
    p = subparsers.add_parser(
        "postdec",
        help="decode with VTM, HM, VVdeC or any decoder and enhance on the fly",
        description="Start two decoders, one for each stream of a pair, or one for a plain "
        "stream, hand their pictures to the enhancer through sockets or pipes, and write the "
        "video at full size. No file in between. See docs/vtm.md.",
    )
    p.add_argument(
        "output", help="a video file, .y4m or .yuv, or - for a pipe (y4m; --format video: Matroska)"
    )
    p.add_argument("--hr", help="the HR stream (.266, .265, or what the decoder reads)")
    p.add_argument("--lr", help="the LR stream")
    p.add_argument(
        "--plain",
        action="store_true",
        help="decode and enhance one stream that is no TDS video, named with --input",
    )
    p.add_argument("--input", help="the stream, with --plain")
    group = p.add_argument_group("decoder")
    group.add_argument(
        "--decoder",
        default="ffmpeg",
        help="vtm, hm, vvdec, ffmpeg (default); a command with {input} in it, and {output} or "
        "{session} unless it writes y4m to standard output; or none: the inputs are y4m or yuv, "
        "files, FIFOs or -",
    )
    group.add_argument("--decoder-path", help="its program, or the folder that holds it")
    group.add_argument(
        "--decoder-args",
        default="",
        metavar="ARGS",
        help="more arguments for it, in one string; {role} in it becomes hr or lr, {input} the "
        "stream's path",
    )
    group.add_argument(
        "--listen",
        metavar="SOCKET",
        help="start no decoder: wait at this unix socket for two patched ones",
    )
    group.add_argument(
        "--timeout",
        type=float,
        default=120.0,
        help="seconds without a byte after which a decoder counts as hanging (default 120)",
    )
    plan = add_times(p, "times (raw streams have none)")
    plan.add_argument(
        "--rate",
        help="frames a second, without a sidecar (default: what the streams say where they are "
        "plain, else 25)",
    )
    raw = p.add_argument_group("raw yuv from the decoder")
    raw.add_argument("--size", help="WIDTHxHEIGHT of HR in luma samples, without a sidecar")
    raw.add_argument(
        "--bit-depth",
        type=int,
        choices=(8, 10),
        help="of its samples; default: the stream's with VTM and HM, else the sidecar's, else 8",
    )
    raw.add_argument(
        "--scale", type=int, choices=(1, 2, 4), default=2, help="k, without a sidecar (2)"
    )
    add_enhancer(p)
    add_output(p)
    p.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    sidecar, plan = times_of(args)
    settings = PostdecSettings(
        decoder=args.decoder,
        decoder_path=args.decoder_path,
        decoder_arguments=split_words(args.decoder_args, "--decoder-args"),
        sidecar=sidecar,
        plan=plan,
        size=parse_size(args.size) if args.size else None,
        bit_depth=args.bit_depth,
        scale=args.scale,
        listen=args.listen,
        timeout=args.timeout,
        rate=parse_rate(args.rate) if args.rate else None,
        enhance=enhance_settings(args),
    )
    _check_streams(args)
    name = args.input if args.plain else f"{args.hr} with {args.lr}"
    inputs = (args.input, args.hr, args.lr, args.sidecar)
    return write_pictures(
        args,
        lambda: (
            postdec_plain(args.input, settings)
            if args.plain
            else postdec(args.hr, args.lr, settings)
        ),
        name if args.listen is None else args.listen,
        sidecar.timeline.frames if sidecar else 0,
        None,
        [path for path in inputs if path is not None],
    )


def _check_streams(args: argparse.Namespace) -> None:
    """Raises InputError where one plain stream and a pair are both, or neither, meant."""
    if args.plain and (args.hr or args.lr):
        raise InputError("--plain is of one stream: name it with --input, not --hr and --lr")
    if args.input is not None and not args.plain:
        raise InputError("--input is of one stream that is no pair: give --plain with it")
