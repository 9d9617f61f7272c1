# SPDX-License-Identifier: LGPL-2.1-or-later
"""Arguments and remarks shared by several commands."""

from __future__ import annotations

import argparse
import sys

from ..container.forms import FORMS
from ..decoder import HR, EnhanceSettings
from ..errors import InputError
from ..media.opening import RawFormat
from ..media.sources import parse_rate, parse_size
from ._text import printable


def add_raw(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("raw video as input")
    group.add_argument(
        "--size", help="of planar video (.yuv): WIDTHxHEIGHT in luma samples, as in 1920x1080"
    )
    group.add_argument(
        "--rate",
        help="frames a second, as in 25 or 30000/1001, of planar video and of numbered "
        "pictures (default 25) or of a stream without times (.264, .265, .266; default: what the "
        "stream says)",
    )
    group.add_argument(
        "--pix-fmt", help="of planar video: FFmpeg's name of the format (default yuv420p)"
    )


def raw_format(args: argparse.Namespace, rate_alone: bool = False) -> RawFormat | None:
    """From --size, --rate, --pix-fmt; None where none is given.

    rate_alone: without --size, --rate is not about the input."""
    if args.size is None and args.pix_fmt is not None:
        raise InputError(
            "--pix-fmt without --size: raw planar video needs its size too, and other files say "
            "themselves what they are; give --size, or leave --pix-fmt out"
        )
    if args.size is None and (args.rate is None or rate_alone):
        return None
    size = None if args.size is None else parse_size(args.size)
    return RawFormat(size, parse_rate(args.rate or "25"), args.pix_fmt or "yuv420p")


def add_video_track(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--video-track",
        type=int,
        metavar="N",
        help="which of the input's video tracks, counted from 0 (default: the one that is to be "
        "shown by default)",
    )


def add_timeout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout",
        type=float,
        default=30.0,
        metavar="S",
        help="of an address: how many seconds to wait for an answer, and for what comes next "
        "(default 30)",
    )


def add_enhancer(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("enhancer")
    group.add_argument(
        "--backend",
        choices=("auto", "bicubic", "torchscript"),
        default="auto",
        help="what rebuilds LR frames (default: a model if there is one)",
    )
    group.add_argument("--model", help="a TorchScript file or the name of an installed model")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    group.add_argument(
        "--precision",
        choices=("auto", "float32", "float16", "bfloat16"),
        default="auto",
        help="of the model's arithmetic (default: float32 on the CPU, the model's choice on CUDA)",
    )
    group.add_argument("--threads", type=int, default=0, help="CPU threads of the model; 0: all")
    group.add_argument(
        "--strength",
        type=float,
        default=1.0,
        metavar="S",
        help="of the model's changes, 0 (none) to 1 (default)",
    )
    group.add_argument(
        "--causal",
        action="store_true",
        help="make each picture from those before it alone, at once",
    )
    group.add_argument(
        "--hr-pictures",
        choices=HR,
        default="auto",
        help="of a pair: pass them as they are or refine them too (default: as the file tells)",
    )
    group.add_argument(
        "--hr-qp",
        type=int,
        default=-1,
        metavar="QP",
        help="that the HR stream, or the one there is, was coded with: models do better when they "
        "are told (default: as the file tells)",
    )
    group.add_argument(
        "--lr-qp", type=int, default=-1, metavar="QP", help="likewise of the LR stream"
    )


def enhance_settings(args: argparse.Namespace) -> EnhanceSettings:
    return EnhanceSettings(
        args.backend,
        args.model,
        args.device,
        args.precision,
        args.threads,
        args.strength,
        args.causal,
        args.hr_pictures,
        args.hr_qp,
        args.lr_qp,
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument("--format", choices=("y4m", "yuv", "video"), help="default: by the suffix")
    group.add_argument(
        "--output-bit-depth",
        type=int,
        choices=(8, 10),
        help="of its samples (default: the streams'), as for a source of 8 bits coded at 10",
    )
    group.add_argument(
        "--log",
        metavar="FILE",
        help="also write a line for each picture: its time, how it was made and from which others "
        "(CSV)",
    )
    group.add_argument(
        "--vcodec", help="FFmpeg's name of the encoder of a video file (default libx264, crf 16)"
    )
    group.add_argument(
        "--vcodec-option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of that encoder, as in crf=20; may be repeated",
    )
    add_overwrite(group)


def key_value(text: str) -> tuple[str, str]:
    """Of an option that is given on to an encoder."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise InputError(f"an encoder option is KEY=VALUE, as in crf=20, not {text!r}")
    return key, value


def add_form(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--format",
        choices=[form.name for form in FORMS],
        help="what file to write, whatever its name: MP4, Matroska, MPEG transport stream, or MP4 "
        "in fragments (default: by the suffix)",
    )


def add_overwrite(group: argparse._ActionsContainer) -> None:
    group.add_argument("--overwrite", "-y", action="store_true", help="replace an existing output")
    group.add_argument("--quiet", "-q", action="store_true", help="no progress, no remarks")


def remark(args: argparse.Namespace, text: str) -> None:
    """A sentence for a person, on standard error."""
    if not args.quiet:
        print(f"tds: {printable(text)}", file=sys.stderr)
