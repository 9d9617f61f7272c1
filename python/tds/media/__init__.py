# SPDX-License-Identifier: LGPL-2.1-or-later
"""Video in general: what FFmpeg and PyAV do for everything else here, and nothing of TDS.

``opening``, ``sources`` and ``extras`` read files: pictures, colours, sound and all that comes
along. ``decoding`` decodes what PyAV may get wrong. ``pictures`` converts, down-samples and finds
scene cuts. ``programs`` finds the ffmpeg program.
"""
