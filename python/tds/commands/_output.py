# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writing a Decoder's pictures where the arguments say."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterable

from ..decoder import Decoder, check_complete
from ..errors import InputError
from ..files import check_output
from ..sinks import VIDEO, Y4M, OutputFormat, kind_of, open_sink
from ._arguments import remark


def write_pictures(
    args: argparse.Namespace,
    open_decoder: Callable[[], Decoder],
    name: str,
    total: int,
    extras: str | None,
    inputs: Iterable[str] = (),
) -> int:
    """Decodes to ``args.output``; returns the exit status.

    open_decoder is called once the output is known to be writable. extras: a file
    whose audio, subtitles and chapters come along. inputs: files that are read."""
    kind = kind_of(args.output, args.format)
    if args.output != "-":
        check_output(args.output, args.overwrite, inputs)
    ways: Counter[str] = Counter()
    lost = 0
    with open_decoder() as decoder:
        from ._progress import progress_bar  # decoders that are programs are at work by now

        for notice in decoder.notices:
            remark(args, notice)
        what = OutputFormat(
            decoder.width,
            decoder.height,
            decoder.bit_depth,
            decoder.time_base,
            decoder.rate,
            args.vcodec,
            dict(_key_value(o) for o in args.vcodec_option),
            extras if kind == VIDEO else None,
            decoder.sample_aspect_ratio,
            decoder.full_range,
        )
        with (
            open_sink(args.output, kind, what, args.overwrite) as sink,
            progress_bar("decode", args.quiet) as progress,
        ):
            for picture in decoder:
                sink.write(picture)
                ways[picture.status] += 1
                lost += bool(picture.reason & {"lost", "ref-lost", "corrupt"})
                progress(sum(ways.values()), total)
            check_complete(decoder, name)
        counts = ", ".join(f"{n} {way}" for way, n in sorted(ways.items()))
        remark(args, f"{sum(ways.values())} frames ({counts}) with {decoder.model}")
        if lost:
            remark(args, f"{lost} of them are affected by pictures that are missing or damaged")
        if kind == Y4M and ways:
            _warn_variable(args, decoder)
    return 0


def _warn_variable(args: argparse.Namespace, decoder: Decoder) -> None:
    if not decoder.regular:
        remark(args, "y4m has one frame rate and this video's varies; its times are not kept")


def _key_value(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise InputError(f"an encoder option is KEY=VALUE, as in crf=20, not {text!r}")
    return key, value
