# SPDX-License-Identifier: LGPL-2.1-or-later
"""``tds info``: what is in a file of ``tds encode``."""

from __future__ import annotations

import argparse
import json
from typing import Any

from ..container.paired import PairedFile, is_one_stream
from ..describe import describe, describe_one_stream
from ..media.opening import wait_at_most
from ._arguments import add_timeout
from ._progress import progress_bar
from ._text import printable


def add_parser(subparsers: Any) -> None:
    p = subparsers.add_parser(
        "info",
        help="say what is in a TDS file, and whether it decodes whole",
        description="Say what is in a TDS file: plan, groups, codec, QPs, model, bits of each "
        "stream, and whether both decode whole. Exits with 1 when they do not.",
    )
    p.add_argument("input")
    add_timeout(p)
    p.add_argument("--json", action="store_true", help="print JSON")
    p.add_argument("--no-decode", action="store_true", help="look at the packets only")
    p.add_argument("--quiet", "-q", action="store_true", help="no progress")
    p.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    wait_at_most(args.timeout)
    one = is_one_stream(args.input)
    file = None if one else PairedFile(args.input, allow_truncated=True)
    with progress_bar("check", args.quiet or args.json) as progress:
        if file is None:
            facts = describe_one_stream(args.input, not args.no_decode, progress)
        else:
            facts = describe(file, not args.no_decode, progress)
    print(json.dumps(facts, indent=1) if args.json else _text(facts))
    return 0 if facts.get("whole", True) and not facts.get("missing_bytes") else 1


def _model(model: dict[str, Any]) -> str:
    digest = f", sha256 {model['sha256'][:16]}..." if model["sha256"] else ""
    here = "installed here" if model["installed"] else "not installed here"
    return f"{model['name']} suggested{digest}, {here}"


def _quality(qp: dict[str, int], one: bool) -> str:
    if qp["hr"] < 0:
        return ""
    return f"QP {qp['hr']}, " if one else f"QP {qp['hr']} (HR) and {qp['lr']} (LR), "


def _colors(f: dict[str, Any]) -> str:
    said = ", ".join(filter(None, (f["hdr"], *f["colors"].values())))
    if f["mastering_display"]:
        said += f"; mastering display {f['mastering_display']}"
    if f["light_level"]:
        said += "; light level {} and {} cd/m2".format(*f["light_level"])
    return said


def _text(f: dict[str, Any]) -> str:
    hr, one = f["tracks"]["hr"], "lr" not in f["tracks"]
    kind = "one stream" if one else f"k = {f['scale']}"
    lines = [f"{f['file']}: {f['frames']} frames, {kind}"]
    if f.get("plan"):
        plan, qp = f["plan"], f["qp"]
        sizes = ", ".join(f"{n} of {size}" for size, n in plan["sizes"][:6])
        more = " ..." if len(plan["sizes"]) > 6 else ""
        times = "regular" if f["regular_times"] else "variable"
        lines += [
            "  plan    every frame at full size, "
            + ("made better by a model" if f["hr"] == "refine" else "shown as it is")
            if one
            else f"  plan    N = {plan['group']}, {plan['boundaries']} boundaries, "
            f"{plan['groups']} groups ({sizes}{more} frames)",
            f"  coded   {hr['codec']}, {f['config'].upper()}, {_quality(qp, one)}"
            f"preset {f['preset'] or 'its own'}, {f['encoder']}",
            f"  times   {f['rate']} frames/s, {times}",
        ]
        if choice := f.get("choice"):
            tried = ", ".join(f"{name} {cost:.1f} %" for name, cost in choice["tried"].items())
            lines.append(
                f"  chosen  {choice['chosen']}, at effort {choice['effort']}; bits of what "
                f"was tried, at equal quality, against the plain stream: {tried}"
            )
        model = f["model"]
        lines.append(f"  model   {_model(model) if model else 'none suggested'}")
    else:
        lines.append(
            "  no TDS metadata (a transport stream has none, a remux may drop it); pairs by the "
            "tracks' own times"
        )
    for name, track in f["tracks"].items():
        rate = f", {track['kbit_per_s']} kbit/s" if "kbit_per_s" in track else ""
        label, size = "video" if one else name.upper(), f"{track['width']}x{track['height']}"
        lines.append(
            f"  {label:7} {track['packets']} pictures {size}, "
            f"{track['bit_depth']} bit {track['chroma']}, {track['bits'] / 8000:.1f} kB{rate}"
        )
    if any(f["colors"].values()):
        lines.append(f"  colors  {_colors(f)}")
    lines += [f"  note    {notice}" for notice in f["notices"]]
    if f.get("missing_bytes"):
        lines.append(f"  CUT SHORT: {f['missing_bytes']} bytes are missing at its end")
    if "whole" in f:
        if f["whole"]:
            lines.append("  decodes whole")
        else:
            lines += [
                f"  NOT WHOLE: {role.upper()} has {d['pictures']} pictures, {d['lost']} lost, "
                f"{d['damaged']} damaged"
                for role, d in f["decodes"].items()
            ]
    return "\n".join(printable(line) for line in lines)
