# SPDX-License-Identifier: LGPL-2.1-or-later
"""Streams copied from one container to another, packet by packet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av
from av.container import OutputContainer
from av.packet import Packet

from ..media.opening import ffmpeg_name


def copied_packets(
    out: OutputContainer, path: str, kinds: tuple[str, ...]
) -> Iterator[Packet[Any]]:
    """Adds the streams of these kinds ("audio", "subtitle") of a file to ``out`` now, and
    gives their packets, to be muxed in the order of ``decoding_time`` with all others."""
    source = av.open(ffmpeg_name(path))
    copies = {}
    try:
        for stream in source.streams:
            if stream.type in kinds:
                copy = out.add_stream_from_template(stream, opaque=True)
                if stream.language:
                    copy.metadata["language"] = stream.language
                copy.disposition = stream.disposition
                copies[stream.index] = copy
    except BaseException:
        source.close()
        raise

    def packets() -> Iterator[Packet[Any]]:
        with source:
            if not copies:  # an empty list would mean all streams
                return
            for packet in source.demux([s for s in source.streams if s.index in copies]):
                if packet.dts is not None:
                    packet.stream = copies[packet.stream.index]
                    yield packet

    return packets()
