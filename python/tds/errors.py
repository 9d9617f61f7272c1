# SPDX-License-Identifier: LGPL-2.1-or-later
"""Errors a user can act on.

Each message is one sentence (or two) that names the file, the fault and the
way out; the command line prints it as it is and exits with 1. Every class is
also one of Python's built-in ones, so callers need not import this module.
"""

from __future__ import annotations


class TDSError(Exception):
    """Base of every error this package raises on purpose."""


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
