# SPDX-License-Identifier: LGPL-2.1-or-later
"""Errors a user can act on.

Each message is one sentence (or two) that names the file, the fault and the
way out; the command line prints it as it is and exits with 1. Every class is
also one of Python's built-in ones, so callers need not import this module.

Messages are written in the command line's words. Those who call from Python read
the names of arguments instead: ``overwrite=True`` for ``--overwrite``.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

# Options that are arguments, or fields of settings, of the same name in Python.
_ARGUMENTS = (
    *("allow-truncated", "backend", "bit-depth", "boundaries", "causal", "chroma", "codec"),
    *("config", "crf"),
    *("decoder", "decoder-path", "device", "encoder", "encoder-cfg", "encoder-path", "format"),
    *("group", "hr-pictures", "hr-qp", "input", "intra-period", "lead", "lr-qp"),
    *(
        "lr-qp-offset",
        "model",
        "output-bit-depth",
        "overwrite",
        "pix-fmt",
        "plain",
        "precision",
        "preset",
        "qp",
        "rate",
    ),
    *("scale", "scene-cut", "sidecar", "size", "strength", "threads", "timeout", "vcodec"),
    *("vcodec-option", "video-track"),
)
_OTHERWISE = {"hr-pictures": "hr"}
_FLAGS = ("allow-truncated", "causal", "lead", "overwrite", "plain")
_OPTION = re.compile(
    rf"(?<![\w-])--({'|'.join(sorted(_ARGUMENTS, key=len, reverse=True))})(?![\w-])"
)

_options = False


@contextlib.contextmanager
def in_options() -> Iterator[None]:
    """Errors and notices speak of options, for a person at a command line."""
    global _options
    before, _options = _options, True
    try:
        yield
    finally:
        _options = before


def worded(text: str) -> str:
    """A message for whoever reads it: with options, or with the names of arguments."""
    return text if _options else _OPTION.sub(lambda m: _argument(m[1]), text)


def _argument(option: str) -> str:
    name = _OTHERWISE.get(option, option.replace("-", "_"))
    return f"`{name}=True`" if option in _FLAGS else f"`{name}`"


class TDSError(Exception):
    """Base of every error this package raises on purpose."""

    def __str__(self) -> str:
        return worded(super().__str__())


class InputError(TDSError, ValueError):
    """A file or an argument that cannot be used as it is."""


class OutputError(TDSError, OSError):
    """An output that could not be written; nothing was left behind."""


class OutputExistsError(TDSError, FileExistsError):
    """The output is there already and overwriting was not asked for."""


class MissingError(TDSError, FileNotFoundError):
    """A file, program, codec or library that is not there."""


class ExternalError(TDSError, RuntimeError):
    """An encoder or decoder that failed or did not do what it was asked."""
