# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writing a Decoder's pictures where the arguments say."""

from __future__ import annotations

import argparse
import csv
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..decoder import Decoder, check_complete
from ..errors import InputError
from ..files import check_output, whole_file
from ..session import Picture
from ..sinks import VIDEO, Y4M, AtDepth, Origin, OutputFormat, kind_of, open_sink
from ._arguments import key_value, remark


def write_pictures(
    args: argparse.Namespace,
    open_decoder: Callable[[], Decoder],
    name: str,
    total: int,
    origin: Callable[[], Origin | None] | None,
    inputs: Iterable[str] = (),
) -> int:
    """Decodes to ``args.output``; returns the exit status.

    open_decoder is called once the output is known to be writable, origin, for what comes along
    beside the pictures, when the decoder is open. inputs: files that are read."""
    kind = kind_of(args.output, args.format)
    if args.output != "-":
        check_output(args.output, args.overwrite, inputs)
    if args.log is not None:
        check_output(args.log, args.overwrite, (*inputs, args.output))
        if Path(args.log).absolute() == Path(args.output).absolute():
            raise InputError(f"{args.log} is the output too; name another file for --log")
    ways: Counter[str] = Counter()
    lost = 0
    with open_decoder() as decoder:
        from ._progress import progress_bar  # decoders that are programs are at work by now

        said = decoder.notices
        for notice in said:
            remark(args, notice)
        depth = args.output_bit_depth or decoder.bit_depth
        what = OutputFormat(
            decoder.width,
            decoder.height,
            depth,
            decoder.time_base,
            decoder.rate,
            args.vcodec,
            dict(key_value(o) for o in args.vcodec_option),
            origin() if origin is not None and kind == VIDEO else None,
            decoder.sample_aspect_ratio,
            decoder.full_range,
            decoder.chroma,
        )
        with (
            open_sink(args.output, kind, what, args.overwrite) as sink,
            progress_bar("decode", args.quiet) as progress,
            _picture_log(args, decoder) as log,
        ):
            for notice in sink.notices:
                remark(args, notice)
            for picture in decoder:
                sink.write(picture if depth == decoder.bit_depth else AtDepth(picture, depth))
                log(picture)
                ways[picture.status] += 1
                lost += bool(picture.reason & {"lost", "ref-lost", "corrupt"})
                progress(sum(ways.values()), total or decoder.frames)
            check_complete(decoder, name)
        for notice in decoder.notices:
            if notice not in said:
                remark(args, notice)
        counts = ", ".join(f"{n} {way}" for way, n in sorted(ways.items()))
        remark(args, f"{sum(ways.values())} frames ({counts}) with {decoder.model}")
        if lost:
            remark(args, f"{lost} of them are affected by pictures that are missing or damaged")
        if kind == Y4M and ways:
            _warn_variable(args, decoder)
    return 0


@contextmanager
def _picture_log(args: argparse.Namespace, decoder: Decoder) -> Iterator[Callable[[Picture], None]]:
    """Writes one line for each picture to ``--log``, whole or not at all."""
    if args.log is None:
        yield lambda picture: None
        return

    def seconds(time: int) -> str:
        return f"{float(time * decoder.time_base):.6f}"

    with whole_file(args.log, args.overwrite) as beside, beside.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["frame", "seconds", "status", "reason", "references"])
        frames = itertools.count()

        def write(picture: Picture) -> None:
            references = [seconds(t) for t in picture.references if t is not None]
            lines.writerow(
                [next(frames), seconds(picture.pts), picture.status]
                + [" ".join(sorted(picture.reason)), " ".join(references)]
            )

        yield write


def _warn_variable(args: argparse.Namespace, decoder: Decoder) -> None:
    if not decoder.regular:
        remark(args, "y4m has one frame rate and this video's varies; its times are not kept")
