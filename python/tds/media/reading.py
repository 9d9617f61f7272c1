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
from .opening import open_container, reason, video_streams
from .pictures import FilterChain, to_planar


def planar_frames(path: str | os.PathLike[str], bit_depth: int = 8) -> Iterator[VideoFrame]:
    """The first video track in display order, as planar 4:2:0 of ``bit_depth`` (8 or 10).

    Odd sizes lose their last column or row; other formats are converted, range and matrix kept.
    Raises MissingError, or InputError when something does not decode or the size changes."""
    name = os.fspath(path)
    with open_container(name) as container:
        videos = video_streams(container)
        if not videos:
            raise InputError(f"{name} has no video")
        stream = videos[0]
        time_base = stream.time_base
        assert time_base is not None
        size, form = (0, 0), ""
        chain: FilterChain | None = None
        try:
            for frame in frames(name, container, stream):
                if (frame.width, frame.height) != size and chain is not None:
                    raise InputError(f"{name}: its size changes on the way; split it there")
                if chain is None or frame.format.name != form:
                    size, form = (frame.width, frame.height), frame.format.name
                    chain = FilterChain(_even(*size) + _planar(frame, bit_depth), time_base)
                yield chain(frame)
        except av.error.FFmpegError as e:
            raise InputError(f"{name} could not be decoded ({reason(e)})") from e
    if chain is None:
        raise InputError(f"{name}: no picture could be decoded")


def _even(width: int, height: int) -> list[tuple[str, str]]:
    if width % 2 == 0 and height % 2 == 0:
        return []
    return [("crop", f"{width // 2 * 2}:{height // 2 * 2}:0:0:exact=1")]


def _planar(frame: VideoFrame, bit_depth: int) -> list[tuple[str, str]]:
    full_range = frame.color_range == ColorRange.JPEG
    return to_planar(frame.format.name, bit_depth, full_range, detect_cuts=False)
