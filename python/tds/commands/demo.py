# SPDX-License-Identifier: LGPL-2.1-or-later
"""``tds demo``: the whole job on one clip, with a table and a picture."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ..bundled import demo_clip
from ..codecs import Codec
from ..decoder import EnhanceSettings, decode
from ..encoder import EncodeResult, encode
from ..measuring.comparison import side_by_side
from ..measuring.measure import (
    Measurement,
    check_measurable,
    decode_segments,
    measure,
    source_planes,
    table,
)
from ..media.planar import Plane, planes_of
from ..models import unusable
from ..plan import Boundaries, Role
from ._arguments import add_enhancer, add_video_track, enhance_settings
from ._progress import progress_bar
from .encode import summary


def add_parser(subparsers: Any) -> None:
    p = subparsers.add_parser(
        "demo",
        help="code, decode, enhance and compare one clip",
        description="Code a clip as HR + LR, decode and enhance it, code the plain stream too, "
        "print one table and write a side-by-side picture with residual maps.",
    )
    p.add_argument("input", nargs="?", help="a short video (default: a clip that comes along)")
    p.add_argument("--out", default="out", help="folder for the results (default %(default)s)")
    p.add_argument("--codec", choices=[codec.value for codec in Codec], default="vvc")
    p.add_argument("--config", choices=("ai", "ldp", "ra"), default="ai")
    p.add_argument("--qp", type=int, default=32)
    p.add_argument("--scale", type=int, choices=(2, 4), default=2)
    p.add_argument(
        "--boundaries", choices=[b.value for b in Boundaries], default=Boundaries.SHARED.value
    )
    p.add_argument("--preset", help="the encoder's preset")
    add_video_track(p)
    p.add_argument("--quiet", "-q", action="store_true", help="no progress")
    add_enhancer(p)
    p.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    if args.input is None:
        args.input = str(demo_clip())
    check_measurable(args.input)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    paired = out / "demo.mp4"
    with progress_bar("code HR and LR", args.quiet) as progress:
        result = encode(
            args.input,
            paired,
            video_track=args.video_track,
            overwrite=True,
            progress=progress,
            codec=args.codec,
            config=args.config,
            qp=args.qp,
            scale=args.scale,
            boundaries=args.boundaries,
            lr_qp_offset=0,
            group=5,
            preset=args.preset,
        )
    print(summary(result))
    with progress_bar("code the plain stream", args.quiet) as progress:
        m = measure(
            args.input,
            result,
            video_track=args.video_track,
            enhance=enhance_settings(args),
            progress=progress,
            anchor_folder=out,
        )
    print(table(m))
    if m.model.startswith("bicubic"):
        why = unusable() or "it was asked for, or there is none for this k"
        print(f"Model: none, so LR frames are only up-sampled (built-in bicubic): {why}.")
    else:
        print(f"Model: {m.model}.")
    picture = out / "demo.png"
    draw(picture, args.input, args.video_track, result, m, enhance_settings(args))
    assert m.anchor_stream is not None
    for segment in m.anchor_stream.segments:
        segment.path.unlink()
    print(f"Written: {paired} (the coded pair), {picture} (look at it)")
    return 0


def draw(
    path: Path,
    source: str,
    track: int | None,
    result: EncodeResult,
    m: Measurement,
    settings: EnhanceSettings,
) -> None:
    """The LR frame nearest the middle of the clip, in every version."""
    meta = result.metadata
    roles = list(meta.roles())
    lr = [i for i, role in enumerate(roles) if role is Role.LR]
    index = min(lr, key=lambda i: abs(i - len(roles) // 2))
    original = next(islice(source_planes(source, None, track), index, None))[1]
    versions: list[tuple[str, Sequence[Plane]]] = []
    bicubic = EnhanceSettings(backend="bicubic")
    wanted = [("bicubic", bicubic)]
    if not m.model.startswith("bicubic"):
        wanted.append((m.model, settings))
    for name, enhancer in wanted:
        with decode(result.path, settings=enhancer) as pictures:
            versions.append((f"LR, {name}", next(islice(pictures, index, None)).planes))
    assert m.anchor_stream is not None
    plain = next(islice(decode_segments(m.anchor_stream), index, None))
    versions.append(("plain stream", planes_of(plain)))
    pair_kbit, plain_kbit = (result.hr.bits + result.lr.bits) / 1000, m.anchor_bits / 1000
    side_by_side(
        path,
        original,
        versions,
        meta.bit_depth,
        f"{Path(source).name}, frame {index}: {meta.codec.upper()} {meta.config.upper()}, QP "
        f"{result.settings.qp}, k = {meta.scale}; whole clip {pair_kbit:.0f} kbit as HR + LR, "
        f"{plain_kbit:.0f} kbit as the plain stream",
    )
