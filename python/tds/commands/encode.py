# SPDX-License-Identifier: LGPL-2.1-or-later
"""``tds encode``: a video as a TDS file."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..codecs import Codec, Config
from ..container.annexb import is_sidecar
from ..encoder import EncodeResult, encode, settings_for
from ..encoding.settings import CHROMA_WORDS, EFFORTS, MODEL, OF_PAIRS
from ..errors import InputError
from ..files import check_output, whole_file
from ..measuring.measure import check_measurable, measure, table
from ..plan import Boundaries, Plan
from ..targets import Target, encode_to
from ._arguments import (
    add_form,
    add_overwrite,
    add_raw,
    add_video_track,
    key_value,
    raw_format,
    remark,
)
from ._log import add_log, logged
from ._progress import progress_bar, progress_lines

_OF_RUNS = (
    *("raw", "video_track", "overwrite", "format", "progress", "on_notice", "workers", "ray"),
)  # arguments of encode() that are no settings


def add_parser(subparsers: Any) -> None:
    p = subparsers.add_parser(
        "encode",
        help="code a video as HR + LR, or as one stream, in one file",
        description="Code a video as two ordinary streams, HR key frames at full size and LR "
        "frames at 1/k of it, or as one stream whose pictures a decoder makes better, in one "
        "file.",
    )
    p.add_argument("input", help="any video FFmpeg reads, or - for standard input")
    p.add_argument(
        "output",
        help="the file to write: .mp4, .mkv or .ts; NAME.json instead writes the raw streams "
        "NAME.hr.266 and NAME.lr.266 (.265, .264) and NAME.json, the sidecar that pairs them",
    )
    p.add_argument(
        "--codec",
        metavar="{" + ",".join(c.value for c in Codec) + "}",
        help="default: the encoder's, else vvc",
    )
    p.add_argument(
        "--config",
        choices=[c.value for c in Config],
        default="ai",
        help="all intra (default), low delay P, random access",
    )
    quality = p.add_mutually_exclusive_group()
    quality.add_argument("--qp", type=int, default=32, help="fixed QP (default %(default)s)")
    quality.add_argument(
        "--crf", type=float, help="constant rate factor instead, of encoders that have one"
    )
    quality.add_argument(
        "--bitrate",
        metavar="RATE",
        help="come to this many bits a second (800k, 2.5M), of both streams together",
    )
    quality.add_argument(
        "--max-size", metavar="SIZE", help="come to a file of at most this many bytes (700k, 25M)"
    )
    for name, what in (("vmaf", "VMAF"), ("psnr", "luma PSNR, in dB"), ("xpsnr", "luma XPSNR, dB")):
        quality.add_argument(
            f"--target-{name}",
            type=float,
            metavar="VALUE",
            help=f"come to this mean {what}, of the pictures as they are shown",
        )
    p.add_argument(
        "--plan",
        choices=[plan.value for plan in Plan],
        help="what to code: what measures best, part by part (auto, the default, of outputs that "
        "hold a tag); a pair, HR and LR (tds); one stream (plain); one stream with the request to "
        "make its pictures better (plain-enhanced)",
    )
    p.add_argument(
        "--effort",
        type=int,
        choices=range(EFFORTS),
        help="how much auto tries, 0 (nothing is measured) to 4 (default 2)",
    )
    p.add_argument(
        "--encoder",
        help="libvvenc, libx265, libx264, libsvtav1, vtm, hm, or any other of the ffmpeg program's "
        "that codes VVC, HEVC, H.264 or AV1 (hevc_nvenc, h264_qsv, ...); x265, h264 and the like "
        "mean one of these. It implies the codec (default: the codec's)",
    )
    for option, streams in (("encoder", "both streams"), ("hr", "HR alone"), ("lr", "LR alone")):
        p.add_argument(
            f"--{option}-option",
            metavar="KEY=VALUE",
            action="append",
            default=[],
            help=f"an option of the encoder's own, for {streams}; again for each",
        )
    p.add_argument("--encoder-path", help="of the encoders vtm and hm: the program, or its folder")
    p.add_argument(
        "--encoder-cfg",
        help="of the encoders vtm and hm: a .cfg file, or the folder of the common test "
        "conditions' files (default: found in the source tree around the program)",
    )
    p.add_argument(
        "--chroma",
        choices=CHROMA_WORDS,
        default="auto",
        help="4:2:0, 4:2:2 or 4:4:4; the source's, or nothing; the source's where the encoder "
        "codes it, else 4:2:0 (auto, the default; RGB becomes 4:2:0)",
    )
    p.add_argument("--preset", help="the encoder's preset (libvvenc: fast, libx265: medium)")
    p.add_argument(
        "--intra-period",
        type=int,
        default=64,
        help="in RA, frames after which both streams restart (default 64)",
    )
    p.add_argument(
        "--scene-cut",
        type=float,
        default=10.0,
        help="scene score, 0 to 100, that ends a group (default 10; 0: never)",
    )
    p.add_argument(
        "--model",
        help="name of the model that measures, and that decoders are asked for (default: "
        f"{MODEL}; of --plan tds none)",
    )
    p.add_argument(
        "--strength",
        choices=("measure", "0", "0.5", "1"),
        default="measure",
        help="of the model's changes to each picture of a plan of one stream (default: what "
        "measures best)",
    )
    p.add_argument(
        "--measure",
        action="store_true",
        help="also code the plain full-size stream and print bits and PSNR of both",
    )
    pair = p.add_argument_group("what a pair is like (each implies --plan tds)")
    pair.add_argument("--group", type=int, help="N, frames in a group, odd (default 5)")
    pair.add_argument(
        "--boundaries",
        choices=[b.value for b in Boundaries],
        help="shared by neighbouring groups (default), or each group its own two HR frames "
        "(independent, the paper's)",
    )
    pair.add_argument("--scale", type=int, choices=(2, 4), help="k (default 2)")
    pair.add_argument("--lr-qp-offset", type=int, help="added to the QP for LR (default 3)")
    add_video_track(p)
    add_raw(p)
    group = p.add_argument_group("output")
    add_form(group)
    add_overwrite(group)
    add_log(group)
    group.add_argument(
        "--progress",
        choices=("bar", "json", "none"),
        default="bar",
        help="on standard error: a bar where that is a terminal (default), or lines of JSON",
    )
    group.add_argument(
        "--report",
        metavar="FILE.html",
        help="also write a page of what was tried and chosen: bits and quality over time, the plan",
    )
    group.add_argument(
        "--workers",
        type=int,
        help="parts of the video that are measured at once (default: one a core, 4 at most)",
    )
    group.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="measure on a Ray cluster instead: its address, or auto",
    )
    p.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    config = Config(args.config)
    plan = {
        name: value
        for name in (*OF_PAIRS, "plan", "effort")
        if (value := getattr(args, name)) is not None
    }
    if config is not Config.AI and (plan.get("plan") == "tds" or set(OF_PAIRS) & set(plan)):
        remark(
            args,
            f"in {config.value.upper()} two streams usually cost more bits than one; TDS pays over "
            "the whole stream in all-intra (--measure shows it for this video)",
        )
    raw = raw_format(args)
    if args.measure:
        check_measurable(args.input)
        if is_sidecar(args.output):
            raise InputError(
                f"--measure decodes one file, and {args.output} asks for raw streams; name an "
                "output with the suffix .mp4, or leave --measure out"
            )
    if args.report is not None:
        check_output(args.report, args.overwrite, [args.input, args.output])
        if Path(args.report).absolute() == Path(args.output).absolute():
            raise InputError(f"{args.report} is the output too; name another file for --report")
    shown = (
        progress_lines("encode")
        if args.progress == "json"
        else progress_bar("encode", args.quiet or args.progress == "none")
    )
    target = _target(args)
    code = encode if target is None else _encode_to(args, target)
    with logged(args), shown as progress:
        result = code(
            args.input,
            args.output,
            raw=raw,
            video_track=args.video_track,
            overwrite=args.overwrite,
            format=args.format,
            progress=progress,
            on_notice=lambda notice: remark(args, notice),
            codec=args.codec,
            config=config,
            qp=args.qp,
            crf=args.crf,
            encoder=args.encoder,
            encoder_path=args.encoder_path,
            encoder_cfg=args.encoder_cfg,
            encoder_options=[key_value(o) for o in args.encoder_option],
            hr_options=[key_value(o) for o in args.hr_option],
            lr_options=[key_value(o) for o in args.lr_option],
            preset=args.preset,
            chroma=args.chroma,
            intra_period=args.intra_period,
            scene_cut=args.scene_cut,
            model=args.model,
            strength=None if args.strength == "measure" else float(args.strength),
            workers=args.workers,
            ray=args.ray,
            **plan,
        )
    if not args.quiet:
        print(summary(result))
    if args.report is not None:
        _report(args, result)
    if args.measure:
        with progress_bar("measure", args.quiet) as progress:
            measured = measure(
                args.input, result, raw=raw, video_track=args.video_track, progress=progress
            )
        print(table(measured))
    return 0


def _target(args: argparse.Namespace) -> Target | None:
    given = {
        "bitrate": None if args.bitrate is None else _amount("--bitrate", args.bitrate) / 1000,
        "max_size": None if args.max_size is None else _amount("--max-size", args.max_size),
        "vmaf": args.target_vmaf,
        "psnr": args.target_psnr,
        "xpsnr": args.target_xpsnr,
    }
    return next((Target(k, value) for k, value in given.items() if value is not None), None)


def _amount(option: str, text: str) -> float:
    """ "800k" -> 800000. Raises InputError."""
    units = {"k": 1e3, "m": 1e6, "g": 1e9}
    try:
        number = float(text[:-1]) if text[-1:].lower() in units else float(text)
    except ValueError:
        raise InputError(f"{option} is a number, as in 800k or 2.5M, not {text!r}") from None
    return number * units.get(text[-1:].lower(), 1)


def _encode_to(args: argparse.Namespace, target: Target) -> Callable[..., EncodeResult]:
    """``encode`` for a target; says what it came to."""

    def code(source: str, output: str, **options: Any) -> EncodeResult:
        others = {name: options.pop(name) for name in _OF_RUNS}
        reached = encode_to(
            target,
            source,
            output,
            settings_for(output, others["format"], **options),
            on_trial=lambda said: remark(args, said),
            **others,
        )
        remark(args, str(reached))
        return reached.result

    return code


def _report(args: argparse.Namespace, result: EncodeResult) -> None:
    if result.choice is None:
        remark(args, f"{args.report} is not written: nothing was measured, so nothing was chosen")
        return
    from ..encoding.report import page

    text = page(result.choice, result.metadata, result.path.name)
    with whole_file(args.report, args.overwrite) as beside:
        beside.write_text(text, encoding="utf-8")


def summary(result: EncodeResult) -> str:
    m = result.metadata
    frames = m.timeline.frames
    seconds = frames / m.timeline.rate
    kbps = float((result.hr.bits + result.lr.bits) / seconds / 1000)
    if not result.lr.frames:
        return (
            f"{result.path}: {frames} frames at {m.width}x{m.height} "
            f"({result.hr.bits / 8000:.1f} kB), {kbps:.1f} kbit/s"
        )
    return (
        f"{result.path}: {frames} frames, HR {result.hr.frames} at {m.width}x{m.height} "
        f"({result.hr.bits / 8000:.1f} kB), LR {result.lr.frames} at 1/{m.scale} "
        f"({result.lr.bits / 8000:.1f} kB), {kbps:.1f} kbit/s"
    )
