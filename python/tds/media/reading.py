# SPDX-License-Identifier: LGPL-2.1-or-later
"""The pictures of a video file and nothing else of it: for training, benchmarks and measuring.

What is coded goes through ``sources.VideoSource``, which also has times, tags and notices. Both
decode by ``decoding.frames``, so that nobody is taught or judged by wrong pictures.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import av
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange

from ..errors import InputError
from .decoding import frames
from .opening import choose_video, open_container, reason
from .pictures import FilterChain, Filters, crop_to_even, to_planar
from .times import exact


def planar_frames(path: str | os.PathLike[str], bit_depth: int = 8) -> Iterator[VideoFrame]:
    """The video track that is shown by default, in display order, as planar 4:2:0 of
    ``bit_depth`` (8 or 10).

    Odd sizes lose their last column or row; other formats are converted, range and matrix kept.
    Raises MissingError, or InputError when something does not decode or the size changes."""
    name = os.fspath(path)
    with open_container(name) as container:
        stream = choose_video(name, container, None)
        unit = exact(stream.time_base or 1)
        chain = FilterChain(lambda frame: _planar(frame, bit_depth), unit)
        size = (0, 0)
        try:
            for frame in frames(name, container, stream):
                if (frame.width, frame.height) != size and size != (0, 0):
                    raise InputError(f"{name}: its size changes on the way; split it there")
                size = (frame.width, frame.height)
                yield chain(frame)
        except av.error.FFmpegError as e:
            raise InputError(f"{name} could not be decoded ({reason(e)})") from e
    if size == (0, 0):
        raise InputError(f"{name}: no picture could be decoded")


def _planar(frame: VideoFrame, bit_depth: int) -> Filters:
    full_range = frame.color_range == ColorRange.JPEG
    return crop_to_even(frame.width, frame.height) + to_planar(
        frame, bit_depth, full_range, detect_cuts=False
    )
