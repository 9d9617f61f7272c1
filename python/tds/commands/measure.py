# SPDX-License-Identifier: LGPL-2.1-or-later
"""``tds measure``: what enhancement gains on a file of one's own."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ._arguments import (
    add_enhancer,
    add_overwrite,
    add_raw,
    add_video_track,
    enhance_settings,
    raw_format,
)
from ._progress import progress_bar


def add_parser(subparsers: Any) -> None:
    p = subparsers.add_parser(
        "measure",
        help="what enhancement gains on a coded file, against its source",
        description="Compare every picture of a coded file, as it is decoded and as it is "
        "enhanced, with that of the source: bits and PSNR, in all and frame by frame, with "
        "pictures to look at.",
    )
    p.add_argument(
        "source", help="what was coded: a video, or numbered pictures as in frames/%%05d.png"
    )
    p.add_argument("coded", help="a file written by tds encode, or any other video")
    add_video_track(p)
    add_raw(p)
    add_enhancer(p)
    group = p.add_argument_group("output")
    group.add_argument("--csv", type=Path, metavar="FILE", help="a line for each picture")
    group.add_argument(
        "--picture",
        type=Path,
        metavar="FILE",
        help="the picture of median gain in every version, over residual maps (PNG)",
    )
    group.add_argument(
        "--page",
        type=Path,
        metavar="FILE",
        help="pictures before and after under a slider, and a chart, as one HTML file",
    )
    add_overwrite(group)
    p.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    from ..files import check_output, whole_file
    from ..measuring.gain import draw, gain_table, measure_gain, pictures_of, write_csv
    from ..measuring.measure import check_measurable
    from ..measuring.page import view_of, write_page

    for path in (args.source, args.coded):
        check_measurable(path)
    outputs = [path for path in (args.csv, args.picture, args.page) if path is not None]
    for path in outputs:
        check_output(path, args.overwrite, [args.source, args.coded])
    settings, raw = enhance_settings(args), raw_format(args)
    with progress_bar("measure", args.quiet) as progress:
        gain = measure_gain(
            args.source,
            args.coded,
            settings,
            raw=raw,
            video_track=args.video_track,
            progress=progress,
        )
    print(gain_table(gain))
    if args.csv is not None:
        write_csv(gain, args.csv, args.overwrite)
    if args.picture is not None or args.page is not None:
        numbers = gain.extremes if args.page is not None else [gain.middle]
        shown = pictures_of(gain, numbers, settings, raw, args.video_track)
        if args.picture is not None:
            middle = next(s for s in shown if s.frame.number == gain.middle)
            with whole_file(args.picture, args.overwrite) as beside:
                draw(gain, middle, beside)
        if args.page is not None:
            with whole_file(args.page, args.overwrite) as beside:
                title = f"{Path(args.coded).name}, enhanced by {gain.model}"
                write_page(beside, title, [view_of(s) for s in shown], gain)
    if outputs and not args.quiet:
        print(f"Written: {', '.join(map(str, outputs))}")
    return 0
