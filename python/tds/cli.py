# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command ``tds``: finds its subcommands in tds.commands, prints errors as sentences."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import pkgutil
import signal
import sys
from types import FrameType

from . import commands


def build_parser(argv: list[str]) -> argparse.ArgumentParser:
    """The parser for these arguments: only the command they name is imported, so that a
    short job does not wait for what other commands need."""
    parser = argparse.ArgumentParser(
        prog="tds",
        description="Temporal down-sampling video coding: key frames at full size, the frames "
        "between them smaller, rebuilt after decoding.",
    )
    parser.add_argument(
        "--version", action=_Version, nargs=0, help="show the program's version number and exit"
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
    args = build_parser(argv).parse_args(argv)
    # These unwind like Ctrl-C, so that temporary files go. Under nohup a closed terminal is
    # to be ignored, and stays so.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _terminate)
    try:
        return int(args.func(args) or 0)
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except _Terminated as e:
        _say(f"ended by {e.signal.name}")
        return 128 + e.signal
    except BrokenPipeError:
        # Standard output is gone: keep Python from failing again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except _with_a_sentence() as e:
        if os.environ.get("TDS_DEBUG"):
            raise
        _say(_sentence(e))
        return 1


def _with_a_sentence() -> tuple[type[BaseException], ...]:
    """The errors whose text a user can read. FFmpeg's own belong to it as a last resort, where
    PyAV is loaded at all; it is slow to load, so not for this."""
    known = (OSError, ValueError, RuntimeError, MemoryError, NotImplementedError)
    av = sys.modules.get("av.error")
    return known if av is None else (*known, av.FFmpegError)


def _say(text: str) -> None:
    """On standard error, which may be a terminal that was closed."""
    with contextlib.suppress(OSError):
        print(f"tds: {text}", file=sys.stderr, flush=True)


class _Version(argparse.Action):
    """As argparse's own, but reading the package's metadata, which is slow, only when asked."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from . import __version__

        print(f"tds-codec {__version__}")
        parser.exit()


class _Terminated(BaseException):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = signal.Signals(number)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated(number)


def _sentence(error: BaseException) -> str:
    """An error's text without the "[Errno 28]" that OSError puts before it."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
