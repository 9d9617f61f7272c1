# SPDX-License-Identifier: LGPL-2.1-or-later
"""The paired file: two ordinary video tracks, or two raw files with a sidecar.

``metadata``: the JSON that says how the two streams belong together.
``mp4``: the MP4 profile, writing and reading. ``sidecar``: the same JSON as a
file beside two raw Annex-B streams. The specification is docs/container.md.
"""
