# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is between a source and the streams of its file: docs/encoding.md.

``settings``: what is asked for, checked. ``streams``: what is coded when the plan is known.

The encoder that measures, behind ``--plan auto`` and ``plain-enhanced``. ``tries``: what is tried
at which effort. ``segments``: the parts of a video that are chosen for by themselves.
``rebuilding``: what a player makes of a candidate, and its error. ``choosing``: the best of what
was measured, in numbers alone. ``measured``: one segment, coded and measured. ``workers``: many of
them at once. ``candidates``: what the whole file would be. ``auto``: all of it, and the file's
streams. ``state``: what is kept of a job that ended early. ``report``: the
page of what was tried and chosen.
"""
