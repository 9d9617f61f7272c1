# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the library tells of its work, on standard error or in a file."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..files import check_output
from ._text import printable


def add_log(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=0,
        help="say what is done on standard error; twice: more of it",
    )
    group.add_argument(
        "--log-file", metavar="FILE", help="write all of that to a file, after what it holds"
    )


class _Printable(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


@contextmanager
def logged(args: argparse.Namespace) -> Iterator[None]:
    """The messages of the logger "tds", as -v and --log-file ask. Raises as files.check_output for
    a file that cannot be written."""
    logger = logging.getLogger("tds")
    handlers: list[logging.Handler] = []
    if args.verbose:
        terminal = logging.StreamHandler(sys.stderr)
        terminal.setLevel(logging.INFO if args.verbose == 1 else logging.DEBUG)
        terminal.setFormatter(_Printable("tds: %(message)s"))
        handlers.append(terminal)
    if args.log_file is not None:
        check_output(args.log_file, True, [args.input, args.output])
        file = logging.FileHandler(args.log_file, encoding="utf-8")
        file.setLevel(logging.DEBUG)
        file.setFormatter(_Printable("%(asctime)s %(levelname)s %(message)s"))
        handlers.append(file)
    before = logger.level
    try:
        for handler in handlers:
            logger.addHandler(handler)
        if handlers:
            logger.setLevel(logging.DEBUG)
        yield
    finally:
        logger.setLevel(before)
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
