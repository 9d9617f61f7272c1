# SPDX-License-Identifier: LGPL-2.1-or-later
"""One module a subcommand of ``tds``.

Each has ``add_parser(subparsers)``, which sets ``func`` to a function that takes
the parsed arguments and returns the exit status. A module that begins with an
underscore is shared by several. Nothing here does work of its own: a command
reads arguments, calls the library, prints.
"""
