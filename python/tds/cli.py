# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command ``tds``: finds its subcommands in tds.commands, prints errors as sentences.

Little is imported with this module: before ``main`` runs, Ctrl-C prints a traceback.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from types import FrameType


def build_parser(argv: list[str]) -> argparse.ArgumentParser:
    """The parser for these arguments: only the command they name is imported, so that a
    short job does not wait for what other commands need."""
    import argparse
    import importlib
    import pkgutil

    from . import commands

    class Version(argparse.Action):
        """As argparse's own, but reading the version, which is slow, only when asked."""

        def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
            from . import __version__

            print(f"tds-codec {__version__}")
            parser.exit()

    parser = argparse.ArgumentParser(
        prog="tds",
        description="Temporal down-sampling video coding: key frames at full size, the frames "
        "between them smaller, rebuilt after decoding.",
    )
    parser.add_argument(
        "--version", action=Version, nargs=0, help="show the program's version number and exit"
    )
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    names = sorted(m.name for m in pkgutil.iter_modules(commands.__path__) if m.name[0] != "_")
    for name in argv[:1] if argv[:1] and argv[0] in names else names:
        importlib.import_module(f"{commands.__name__}.{name}").add_parser(subparsers)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0, 1 for a failure, 2 for wrong
    usage, 129, 130 and 143 after SIGHUP, Ctrl-C and SIGTERM, 141 when the reader of our pipe
    went away."""
    argv = sys.argv[1:] if argv is None else argv
    # While what the command needs is imported, nothing has begun that would have to be ended in
    # order: Ctrl-C simply ends the process.
    interrupts = signal.getsignal(signal.SIGINT)
    if interrupts is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        parser = build_parser(argv)
        args = parser.parse_args(argv)
    except (ImportError, MemoryError, OSError) as e:
        if os.environ.get("TDS_DEBUG"):
            raise
        _say(
            f"what it needs cannot be loaded ({str(e) or type(e).__name__}): is there memory "
            "enough, may files be opened, and is it installed whole? (pip install tds-codec)"
        )
        return 1
    finally:
        signal.signal(signal.SIGINT, interrupts)
    if argv.count("--") > 1 and argv[0] != "ffmpeg":  # argparse takes the second for an argument
        parser.error("-- may stand once, before the arguments that begin with a dash")
    # These unwind, so that temporary files go. Under nohup a closed terminal is to be ignored,
    # and stays so; so does Ctrl-C in a shell's background.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _terminate)
    _print_any_name()
    from .errors import in_options

    with in_options():
        try:
            return int(args.func(args) or 0)
        except BaseException as e:
            return _status(e)


def _status(error: BaseException) -> int:
    """What a command ended by, as an exit status and a sentence; raises what has neither."""
    if _ended_by:  # whatever became of the exception on its way, in an import for one
        number = _ended_by[0]
        _say("interrupted" if number == signal.SIGINT else f"ended by {number.name}")
        return 128 + number
    if isinstance(error, BrokenPipeError):
        # Standard output is gone: keep Python from failing again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    if not isinstance(error, _with_a_sentence()) or os.environ.get("TDS_DEBUG"):
        raise error
    _say(_sentence(error))
    return 1


def _print_any_name() -> None:
    """File names need not be in the terminal's encoding: they are printed as they are where that
    is UTF-8, else with escapes."""
    import io

    if isinstance(sys.stdout, io.TextIOWrapper):
        utf8 = sys.stdout.encoding.lower().replace("-", "") == "utf8"
        sys.stdout.reconfigure(errors="surrogateescape" if utf8 else "backslashreplace")


def _with_a_sentence() -> tuple[type[BaseException], ...]:
    """The errors whose text a user can read. FFmpeg's own belong to it as a last resort, where
    PyAV is loaded at all; it is slow to load, so not for this."""
    known = (OSError, ValueError, RuntimeError, MemoryError, NotImplementedError)
    av = sys.modules.get("av.error")
    return known if av is None else (*known, av.FFmpegError)


def _say(text: str) -> None:
    """On standard error, which may be a terminal that was closed."""
    try:
        from .commands._text import printable

        text = printable(text)
    except (ImportError, MemoryError):  # without the memory for it
        text = ascii(text)[1:-1]
    try:
        print(f"tds: {text}", file=sys.stderr, flush=True)
    except OSError:
        pass


class _Terminated(BaseException):
    """SIGTERM or SIGHUP."""


_ended_by: list[signal.Signals] = []


def _terminate(number: int, frame: FrameType | None) -> None:
    _ended_by.append(signal.Signals(number))
    raise KeyboardInterrupt if number == signal.SIGINT else _Terminated


def _sentence(error: BaseException) -> str:
    """An error's text without the "[Errno 28]" that OSError puts before it."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
