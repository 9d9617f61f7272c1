# SPDX-License-Identifier: LGPL-2.1-or-later
"""The file that TDS writes: a pair of ordinary video tracks or one, or raw files with a sidecar.

``metadata``: the JSON that says how the streams belong together. ``forms``: what each container
holds. ``writing``: coded streams into one of them. ``paired``: what is in such a file. ``times``:
from one unit to another. ``annexb``: raw streams, and ``sidecar``: the JSON as a file beside them.
The specification is docs/container.md.
"""
