# SPDX-License-Identifier: LGPL-2.1-or-later
"""The encoder that measures, behind ``--plan auto`` and ``plain-enhanced``: docs/encoding.md.

``tries``: what is tried at which effort. ``segments``: the parts of a video that are chosen for by
themselves. ``rebuilding``: what a player makes of a candidate, and its error. ``choosing``: the
best of what was measured, in numbers alone. ``measured``: one segment, coded and measured.
``auto``: all of them, and the file's streams. ``report``: the page of what was tried and chosen.
"""
