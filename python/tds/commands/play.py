# SPDX-License-Identifier: LGPL-2.1-or-later
"""``tds play``: a video, enhanced, in a player or on a page."""

from __future__ import annotations

import argparse
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ExternalError, InputError, MissingError
from ..files import check_output, whole_file
from ._arguments import add_enhancer, add_overwrite, enhance_settings, remark

if TYPE_CHECKING:
    from ..decoder import Decoder

PLAYERS = ("mpv", "ffplay")
VIEWS = 5  # pictures of a page


def add_parser(subparsers: Any) -> None:
    p = subparsers.add_parser(
        "play",
        help="show a video, enhanced, in mpv or ffplay, or before and after on a page",
        description="Decode and enhance a file, of tds encode or any other, and show it in a "
        "player as fast as its pictures are made; mpv plays the sound too. With --page, write "
        "some of its pictures before and after under a slider instead.",
    )
    p.add_argument("input", help="a video file")
    p.add_argument(
        "--player", help="mpv or ffplay, or the path of one (default: the first that is here)"
    )
    p.add_argument(
        "--page", type=Path, metavar="FILE", help="write one HTML file instead of playing"
    )
    p.add_argument(
        "--frame",
        type=int,
        action="append",
        metavar="N",
        help="a picture of the page, from 0; again for each (default: five of them)",
    )
    add_enhancer(p)
    add_overwrite(p)
    p.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    if args.page is not None:
        return _page(args)
    if args.frame:
        raise InputError("--frame is of a page; give --page FILE, or leave it out")
    command = _command(_player(args.player), args.input)
    from ..measuring.gain import open_coded

    with open_coded(args.input, enhance_settings(args), before=False) as pictures:
        for notice in pictures.notices:
            remark(args, notice)
        return _play(command, pictures)


def _player(named: str | None) -> Path:
    for name in PLAYERS if named is None else (named,):
        if found := shutil.which(name):
            return Path(found)
    if named is not None:
        raise MissingError(f"no player {named!r} was found; name mpv or ffplay, or where one is")
    raise MissingError(
        "no player was found: install mpv or ffmpeg's ffplay, name one with --player, or write a "
        "page with --page FILE"
    )


def _command(player: Path, source: str) -> list[str]:
    title = f"{Path(source).name}, enhanced by tds"
    if "ffplay" in player.name:
        quiet = ["-loglevel", "error", "-autoexit"]
        return [str(player), *quiet, "-window_title", title, "-f", "yuv4mpegpipe", "-i", "-"]
    # The sound comes from the file; mpv takes a file without any as well.
    return [str(player), "--really-quiet", f"--title={title}", f"--audio-file={source}", "-"]


def _play(command: list[str], pictures: Decoder) -> int:
    from ..sinks import OutputFormat, Y4MSink

    what = OutputFormat(
        pictures.width,
        pictures.height,
        pictures.bit_depth,
        pictures.time_base,
        pictures.rate,
        sample_aspect_ratio=pictures.sample_aspect_ratio,
        full_range=pictures.full_range,
        chroma=pictures.chroma,
    )
    # Without a buffer, which would be flushed once more after the window was closed.
    with subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None
        try:
            sink = Y4MSink(process.stdin, what)  # type: ignore[arg-type]
            for picture in pictures:
                sink.write(picture)
            process.stdin.close()
        except BrokenPipeError:  # its window was closed
            pass
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise ExternalError(f"{command[0]} ended with {process.returncode}")
    return 0


def _page(args: argparse.Namespace) -> int:
    from ..measuring.gain import open_coded
    from ..measuring.page import View, write_page

    check_output(args.page, args.overwrite, [args.input])
    settings = enhance_settings(args)
    with (
        open_coded(args.input, settings, before=True) as before,
        open_coded(args.input, settings, before=False) as after,
    ):
        total = len(after)
        last = total - 1
        numbers = args.frame or sorted({last * (2 * i + 1) // (2 * VIEWS) for i in range(VIEWS)})
        wrong = [n for n in numbers if not 0 <= n < total]
        if wrong:
            raise InputError(f"{args.input} has no frame {wrong[0]}; it has {total}, from 0")
        views = []
        for n in numbers:
            made = after[n]
            name = f"frame {n} ({made.status})"
            views.append(View(name, after.bit_depth, before[n].planes, made.planes))
        with whole_file(args.page, args.overwrite) as beside:
            write_page(beside, f"{Path(args.input).name}, enhanced by {after.model}", views)
    if not args.quiet:
        print(f"Written: {args.page} (open it in a browser)")
    return 0
