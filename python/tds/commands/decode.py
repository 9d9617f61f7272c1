# SPDX-License-Identifier: LGPL-2.1-or-later
"""``tds decode``: a file of ``tds encode`` back to one video."""

from __future__ import annotations

import argparse
from typing import Any

from ..container.paired import PairedFile, is_one_stream
from ..decoder import Decoder, decoder_of
from ..live import AT_ONCE, FOR_A_FILE, LivePair, is_streamed, open_streamed
from ..media.opening import wait_at_most
from ..plain import PlainStream
from ..sinks import VIDEO, Origin, kind_of
from ._arguments import add_enhancer, add_output, add_timeout, enhance_settings
from ._output import write_pictures


def add_parser(subparsers: Any) -> None:
    p = subparsers.add_parser(
        "decode",
        help="decode and enhance a file of tds encode",
        description="Decode the streams of a TDS file, rebuild the LR frames at full size, make "
        "better what the file asks for, and write one video with the source's frames, times and "
        "audio.",
    )
    p.add_argument(
        "input", help="a file written by tds encode, or its address; also of an .m3u8 or .mpd"
    )
    p.add_argument(
        "output", help="a video file, .y4m or .yuv, or - for a pipe (y4m; --format video: Matroska)"
    )
    p.add_argument(
        "--allow-truncated",
        action="store_true",
        help="decode what is there of a file that is cut short",
    )
    add_timeout(p)
    add_enhancer(p)
    add_output(p)
    p.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    wait_at_most(args.timeout)
    if is_streamed(args.input):
        live: list[LivePair | PlainStream] = []

        def now() -> Decoder:
            with_sound = kind_of(args.output, args.format) == VIDEO
            looked_at = FOR_A_FILE if with_sound and args.output != "-" else AT_ONCE
            live.append(open_streamed(args.input, with_sound, looked_at))
            return decoder_of(live[0], enhance_settings(args))

        return write_pictures(args, now, args.input, 0, lambda: live[0].origin)
    if is_one_stream(args.input):
        opened: list[PlainStream] = []

        def decoder() -> Decoder:
            opened.append(PlainStream(args.input))
            return decoder_of(opened[0], enhance_settings(args))

        return write_pictures(args, decoder, args.input, 0, lambda: opened[0].origin, [args.input])
    file = PairedFile(args.input, args.allow_truncated)
    total = file.hr.indexed + file.lr.indexed
    return write_pictures(
        args,
        lambda: decoder_of(file, enhance_settings(args)),
        args.input,
        total,
        lambda: Origin(args.input, (file.hr.index, file.lr.index)),
        [args.input],
    )
