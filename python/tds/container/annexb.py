# SPDX-License-Identifier: LGPL-2.1-or-later
"""Raw byte streams (Annex B; .266, .265, .264): to files with true times, and from them."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
from av.bitstream import BitStreamFilterContext

from ..codecs.base import Codec, CodedSegment
from ..errors import ExternalError, InputError, MissingError
from ..files import check_output, whole_file
from ..media.extras import Extras
from ..media.opening import ffmpeg_name
from ..plan import Role
from .forms import form_of
from .metadata import Metadata
from .writing import CodedStream, write_paired

_FILTERS = {c: f"{c}_mp4toannexb" for c in ("vvc", "hevc", "h264")}
_SUFFIXES = {"vvc": ".266", "hevc": ".265", "h264": ".264"}


def is_sidecar(path: str | os.PathLike[str]) -> bool:
    """Whether an output asked for is a sidecar with two raw streams beside it."""
    return Path(path).suffix.lower() in (".json", ".yaml", ".yml")


def raw_paths(sidecar: Path, codec: str) -> tuple[Path, Path]:
    """(HR, LR): ``clip.json`` has ``clip.hr.266`` and ``clip.lr.266`` beside it."""
    suffix = _SUFFIXES.get(codec)
    if suffix is None:
        raise InputError(
            f"{sidecar} says codec {codec!r}, and raw streams beside a sidecar are named for vvc, "
            "hevc or h264"
        )
    return sidecar.with_suffix(f".hr{suffix}"), sidecar.with_suffix(f".lr{suffix}")


def write_raw_pair(
    sidecar: Path,
    beside: Path,
    hr: CodedStream,
    lr: CodedStream,
    metadata: Metadata,
    overwrite: bool,
) -> None:
    """Writes both raw streams beside ``sidecar``, each whole or not at all, and the
    sidecar's text to ``beside`` (of files.whole_file), which comes to its name last."""
    if not metadata.timeline.known:
        raise InputError(
            "the source's times are too irregular for a sidecar, and raw streams have none of "
            "their own; write an MP4 file"
        )
    paths = raw_paths(sidecar, metadata.codec)
    for path in paths:
        check_output(path, overwrite)
    with ExitStack() as stack:
        files = [stack.enter_context(whole_file(path, overwrite)) for path in paths]
        for path, coded in zip(files, (hr, lr), strict=True):
            with path.open("wb") as file:
                write_annexb(coded.segments, file)
        text = json.dumps(json.loads(metadata.to_json()), indent=1)
        beside.write_text(text + "\n", encoding="utf-8")


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
        with av.open(ffmpeg_name(raw)) as container:
            stream = container.streams.video[0]
            for packet in container.demux(stream):
                if packet.size:
                    packet.pts = packet.dts = coded
                    coded += 1
                shown += [f.pts for f in packet.decode() if f.pts is not None]
    except av.error.FFmpegError as e:
        raise ExternalError(f"{name}: the stream does not decode ({e})") from e
    if coded != frames or sorted(shown) != list(range(frames)):
        raise ExternalError(
            f"{name}: {frames} frames should be there, and there are {coded} packets, of which "
            f"{len(shown)} decode"
        )
    rank = {index: place for place, index in enumerate(shown)}
    delay = max(index - place for index, place in rank.items())
    made = ffmpeg_name(mp4)
    with av.open(ffmpeg_name(raw)) as container, av.open(made, "w", format="mp4") as out:
        source = container.streams.video[0]
        stream = out.add_stream_from_template(source, opaque=True)
        if source.codec_context.name == "hevc" and not _sets_change(raw):
            stream.codec_context.codec_tag = "hvc1"  # else the muxer takes hev1
        index = 0
        for packet in container.demux(source):
            if not packet.size:
                continue
            packet.stream = stream
            packet.time_base = Fraction(1, 25)
            packet.pts, packet.dts, packet.duration = rank[index] + delay, index, 1
            out.mux(packet)
            index += 1


def _sets_change(raw: Path) -> bool:
    """Whether an HEVC stream holds parameter sets other than those it begins with: MP4's
    hvc1 has one of each beside the pictures, and hev1 any of them between.
    """
    with av.open(ffmpeg_name(raw), format="hevc") as container:
        stream = container.streams.video[0]
        first = _parameter_sets(stream.codec_context.extradata or b"")
        return any(_parameter_sets(bytes(p)) - first for p in container.demux(stream) if p.size)


def _parameter_sets(data: bytes) -> set[bytes]:
    """VPS, SPS and PPS of HEVC in Annex B."""
    units = (unit.rstrip(b"\0") for unit in data.split(b"\0\0\1"))
    return {unit for unit in units if unit and unit[0] >> 1 & 63 in (32, 33, 34)}


def mux_raw_pair(
    hr: Path,
    lr: Path,
    metadata: Metadata,
    output: str | os.PathLike[str],
    overwrite: bool = False,
    format: str | None = None,
) -> tuple[int, int]:
    """Muxes two raw streams into one file; how many pictures each has. format: of forms.form_of
    (None: by the output's suffix).

    Raises MissingError, InputError when a stream is not what ``metadata`` speaks
    of or ``output`` is one of the streams, ExternalError when it does not decode."""
    check_output(output, overwrite, [hr, lr])
    form = form_of(output, format)
    if metadata.codec:
        form.check(output, Codec(metadata.codec))
    if not metadata.timeline.known:
        raise InputError("the sidecar holds no times, and the raw streams have none either")
    expected = metadata.expected()
    times = {
        Role.HR: expected[Role.HR],
        Role.LR: sorted(expected[Role.LR] + metadata.lead_times()),
    }
    with whole_file(output, overwrite) as beside:
        with tempfile.TemporaryDirectory(prefix=".tds-", dir=beside.parent) as folder:
            coded = {}
            for role, raw in ((Role.HR, hr), (Role.LR, lr)):
                if not raw.is_file():
                    raise MissingError(f"{raw}: there is no such {role.name} stream")
                mp4 = Path(folder) / f"{role.value}.mp4"
                frames = len(times[role])
                to_mp4(
                    raw,
                    mp4,
                    frames,
                    f"{raw} (for which the sidecar tells {frames} frames)",
                )
                coded[role] = CodedStream([CodedSegment(mp4, frames)], times[role])
            write_paired(beside, coded[Role.HR], coded[Role.LR], metadata, Extras(), form=form)
    return len(times[Role.HR]), len(times[Role.LR])


def write_annexb(segments: Iterable[CodedSegment], file: BinaryIO) -> None:
    """Writes coded segments as one raw byte stream, each with its parameter sets."""
    for segment in segments:
        with av.open(ffmpeg_name(segment.path)) as container:
            stream = container.streams.video[0]
            name = _FILTERS.get(stream.codec_context.name)
            if name is None:
                raise ExternalError(f"{segment.path.name} is none of VVC, HEVC and H.264")
            bsf = BitStreamFilterContext(name, stream)
            for packet in container.demux(stream):
                if packet.size:
                    file.writelines(bytes(filtered) for filtered in bsf.filter(packet))
            file.writelines(bytes(filtered) for filtered in bsf.filter(None))
