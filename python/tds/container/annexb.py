# SPDX-License-Identifier: LGPL-2.1-or-later
"""Raw byte streams (Annex B, .266 and .265): to MP4 with true times, and from it."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
from av.bitstream import BitStreamFilterContext

from ..codecs.base import CodedSegment
from ..errors import ExternalError

_FILTERS = {"vvc": "vvc_mp4toannexb", "hevc": "hevc_mp4toannexb"}


def to_mp4(raw: Path, mp4: Path, frames: int, name: str) -> None:
    """Muxes a raw stream with one packet a picture and times that sort into display order.

    Raw streams hold no times. The stream is decoded once with each packet's
    place in coded order as its time; the order in which those come out is the
    display order. ``name``: the encoder's, for messages. Raises ExternalError
    when the stream has not ``frames`` pictures, or not all of them decode.
    """
    shown: list[int] = []
    coded = 0
    try:
        with av.open(str(raw)) as container:
            stream = container.streams.video[0]
            for packet in container.demux(stream):
                if packet.size:
                    packet.pts = packet.dts = coded
                    coded += 1
                shown += [f.pts for f in packet.decode() if f.pts is not None]
    except av.error.FFmpegError as e:
        raise ExternalError(f"{name} gave a stream that does not decode ({e})") from e
    if coded != frames or sorted(shown) != list(range(frames)):
        raise ExternalError(
            f"{name} took {frames} frames and gave {coded} packets, of which {len(shown)} decode"
        )
    rank = {index: place for place, index in enumerate(shown)}
    delay = max(index - place for index, place in rank.items())
    with av.open(str(raw)) as container, av.open(str(mp4), "w", format="mp4") as out:
        source = container.streams.video[0]
        stream = out.add_stream_from_template(source, opaque=True)
        index = 0
        for packet in container.demux(source):
            if not packet.size:
                continue
            packet.stream = stream
            packet.time_base = Fraction(1, 25)
            packet.pts, packet.dts, packet.duration = rank[index] + delay, index, 1
            out.mux(packet)
            index += 1


def write_annexb(segments: Iterable[CodedSegment], file: BinaryIO) -> None:
    """Writes coded segments as one raw byte stream, each with its parameter sets."""
    for segment in segments:
        with av.open(str(segment.path)) as container:
            stream = container.streams.video[0]
            name = _FILTERS.get(stream.codec_context.name)
            if name is None:
                raise ExternalError(f"{segment.path.name} is neither VVC nor HEVC")
            bsf = BitStreamFilterContext(name, stream)
            for packet in container.demux(stream):
                if packet.size:
                    for filtered in bsf.filter(packet):
                        file.write(bytes(filtered))
            for filtered in bsf.filter(None):
                file.write(bytes(filtered))
