# SPDX-License-Identifier: LGPL-2.1-or-later
"""Opening files with PyAV: names, raw formats, standard input, sentences for errors."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import av
from av.container import InputContainer
from av.format import ContainerFormat, Flags
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.video.stream import VideoStream

from ..errors import InputError, MissingError
from ..files import is_special
from .manifests import (
    DASH,
    HLS,
    Representation,
    check_count,
    is_live,
    manifest_kind,
    media_playlists,
    representations,
    tag_in,
)
from .pipes import STANDARD_INPUT as STANDARD_INPUT
from .pipes import Interrupted, PipeReader, is_pipe

TAG = "tds"
"""The key of the tag of TDS among those of a file."""

# Tags come from anywhere; bytes that are no UTF-8 must not keep a video unread. PyAV 19 always
# has them as lone surrogates, its predecessors only where told so.
_TAGS: dict[str, Any] = (
    {"metadata_errors": "surrogateescape"} if int(av.__version__.partition(".")[0]) < 19 else {}
)


@dataclass(frozen=True)
class RawFormat:
    """What a raw file does not say itself.

    size: luma (width, height) of planar video; None: numbered pictures, or a coded stream without
    times (.264, .265, .266, ...), of which only the rate is said. rate: frames a second. pix_fmt:
    FFmpeg's name, of planar video.
    """

    size: tuple[int, int] | None
    rate: Fraction = Fraction(25)
    pix_fmt: str = "yuv420p"

    def __post_init__(self) -> None:
        try:
            av.VideoFormat(self.pix_fmt)
        except ValueError:
            raise InputError(
                f"FFmpeg has no pixel format {self.pix_fmt!r}; ffmpeg -pix_fmts lists them, for "
                "example yuv420p, yuv420p10le, nv12"
            ) from None


def ffmpeg_name(path: str | os.PathLike[str]) -> str:
    """A path as FFmpeg and PyAV must be told it: without ``file:`` what comes before a ':'
    in a name would be taken for a protocol. Addresses (``http://...``) stay as they are."""
    name = os.fspath(path)
    return name if "://" in name else f"file:{name}"


def is_numbered(path: str) -> bool:
    """Whether this stands for numbered pictures, as in ``frames/%05d.png``."""
    return bool(re.search(r"%0?\d*d", Path(path).name)) and not Path(path).exists()


def is_read_once(path: str) -> bool:
    """Whether opening this a second time would not give the same again: standard input, a
    FIFO, a process substitution, a device, an address at which something is being sent."""
    if "://" in path:
        return path.partition("://")[0].lower() in _SENT
    return path == STANDARD_INPUT or is_special(path)


# Protocols of what is sent now, and not kept.
_SENT = ("udp", "tcp", "rtp", "srt", "rist", "rtsp", "rtmp", "unix")

_ANNEX_B = {".265": "hevc", ".hevc": "hevc", ".266": "vvc", ".vvc": "vvc"}


def _is_transport_stream(path: Path) -> bool:
    """By its sync bytes. One that was joined on the way may begin inside a packet, and FFmpeg then
    takes a short one for a raw stream."""
    with path.open("rb") as file:
        data = file.read(6 * 188)
    starts = range(min(188, len(data) - 4 * 188))
    return any(all(data[at + 188 * i] == 0x47 for i in range(5)) for at in starts)


def open_container(
    path: str,
    raw: RawFormat | None = None,
    options: dict[str, str] | None = None,
    pipe: PipeReader | None = None,
) -> InputContainer:
    """PyAV's container for a path, ``-`` being standard input. pipe: reads it, where it is a
    FIFO or standard input (None: one is made).

    Raises MissingError or InputError with a sentence in place of FFmpeg's codes."""
    # FFmpeg guesses raw streams by their content, which a short one has too little of.
    format_name = _ANNEX_B.get(Path(path).suffix.lower())
    planar = raw is not None and raw.size is not None
    numbered = not planar and is_numbered(path)
    if numbered:
        format_name = "image2"
        options = {**(options or {}), "framerate": str(raw.rate if raw is not None else 25)}
    if raw is not None and raw.size is not None:
        _check_raw_name(path)
        format_name = "rawvideo"
        options = {
            **(options or {}),
            "video_size": f"{raw.size[0]}x{raw.size[1]}",
            "pixel_format": raw.pix_fmt,
            "framerate": str(raw.rate),
        }
    if path != STANDARD_INPUT and "://" not in path:
        p = Path(path)
        if not p.exists() and not numbered:
            raise MissingError(f"{path}: there is no such file")
        if p.is_dir():
            raise InputError(f"{path} is a folder, not a video file")
        if p.suffix.lower() == ".ts" and p.is_file() and _is_transport_stream(p):
            format_name = "mpegts"
    try:
        if pipe is None and is_pipe(path):
            pipe = PipeReader(path)
        container = (
            _open_manifest(path)
            if manifest_kind(path)
            else _open(ffmpeg_name(path) if pipe is None else pipe, format_name, options)
        )
    except Interrupted as e:
        raise e.pending from None
    except PermissionError as e:
        raise InputError(f"{path}: not allowed to read it") from e
    except av.error.ExitError as e:
        raise InputError(_too_slow(path)) from e
    except av.error.FFmpegError as e:
        if manifest_kind(path):
            raise InputError(
                f"{path}: it, or what it names, cannot be read ({reason(e)}); check its address, "
                "and that all of its files are there"
            ) from e
        if numbered:
            raise MissingError(
                f"{path}: there is no such picture, numbered from 0 to 4, to begin with "
                f"({reason(e)})"
            ) from e
        if not planar and Path(path).suffix.lower() in {".yuv", ".raw", ".rgb"}:
            raise InputError(
                f"{path}: raw video says nothing of itself; give --size (and --rate, --pix-fmt)"
            ) from e
        raise InputError(
            f"{path} is not a video file that FFmpeg can read, or it is cut short "
            f"({reason(e)}); check it with ffprobe"
        ) from e

    if (
        raw is not None
        and not planar
        and not numbered
        and not has_flag(container, Flags.no_timestamps)
    ):
        container.close()
        raise InputError(
            f"{path} has times of its own, so --rate does not apply; leave it out, or give --size "
            "too for raw planar video"
        )
    return container


def _open(
    named: str | PipeReader, format_name: str | None, options: Mapping[str, str] | None = None
) -> InputContainer:
    container: InputContainer = av.open(
        named,
        "r",
        format=format_name,
        options=dict(options or {}),
        buffer_size=1 << 18,
        timeout=_waits if is_waited_for(named, format_name) else None,
        **_TAGS,
    )
    return container


def is_waited_for(name: object, format_name: str | None) -> bool:
    """Whether what comes next may be as late as whoever sends it wants."""
    return isinstance(name, str) and ("://" in name or format_name == "hls")


_waits: float = 30.0


def wait_at_most(seconds: float) -> None:
    """How long a server may take to answer, or to send the next packet. Of this process; 30 s
    unless told. Raises InputError."""
    global _waits
    if not 0 < seconds < 1e6:
        raise InputError(f"--timeout is more than 0 s, not {seconds:g}")
    _waits = float(seconds)


_LONGEST_MANIFEST = 32_000_000  # bytes


def read_manifest(path: str, named_by: str | None = None) -> str:
    """The text of a playlist or a DASH manifest, from a file or an address. named_by: the manifest
    that has the address, which leads from elsewhere to no file of this machine.

    Raises FFmpegError, OSError, or InputError for what is far longer than any."""
    data = bytearray()
    options = {"protocol_whitelist": _protocols(named_by or path)}
    with _open(ffmpeg_name(path), "data", options) as container:
        for packet in container.demux():
            data += bytes(packet) if packet.size else b""
            if len(data) > _LONGEST_MANIFEST:
                raise InputError(f"{path} has more than 32 MB, and no manifest has; check its name")
    return data.decode(errors="replace")


# What a manifest may lead to: from elsewhere, to no file of this machine.
_PROTOCOLS = "http,https,tls,tcp,httpproxy,crypto,data"


def _protocols(manifest: str) -> str:
    return _PROTOCOLS if "://" in manifest else f"file,{_PROTOCOLS}"


def is_live_playlist(path: str) -> bool:
    """Whether this is HLS that is still being written. Raises InputError where no answer comes."""
    if manifest_kind(path) != HLS:
        return False
    try:
        text = read_manifest(path)
        if named := media_playlists(text, path):
            text = read_manifest(named[0], path)
    except av.error.ExitError as e:
        raise InputError(_too_slow(path)) from e
    except (av.error.FFmpegError, OSError):
        return False  # for who opens it to say
    return is_live(text)


def _open_manifest(path: str) -> InputContainer:
    """HLS or DASH, with the tag that is in it."""
    text = read_manifest(path)
    tag = tag_in(text)
    with _playlist(path, text) as (name, options):
        container = _open(name, "hls", options)
    if tag is not None:
        container.metadata[TAG] = tag
    return container


@contextlib.contextmanager
def _playlist(path: str, text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """What FFmpeg's HLS demuxer is told for a manifest, to open it within the block."""
    if manifest_kind(path) != DASH:
        _check_master(path, text)
        yield ffmpeg_name(path), {"protocol_whitelist": _protocols(path)}
        return
    base = path if "://" in path else Path(path).absolute().as_uri()
    with tempfile.TemporaryDirectory(prefix="tds-dash-") as folder:
        master = _as_hls(Path(folder), representations(text, path, base))
        yield ffmpeg_name(master), {"protocol_whitelist": f"file,{_PROTOCOLS}"}


@contextlib.contextmanager
def input_of_program(path: str) -> Iterator[list[str]]:
    """Arguments by which an ffmpeg program reads what ``open_container`` opens, within the block;
    of what is in the file, streams have the same numbers, and what is not waited for here is not
    there either."""
    waits = ["-rw_timeout", str(round(_waits * 1e6))]
    if not manifest_kind(path):
        name = ffmpeg_name(path)
        yield [*(waits if "://" in name else []), "-i", name]
        return
    with _playlist(path, read_manifest(path)) as (name, options):
        told = [word for key, value in options.items() for word in (f"-{key}", value)]
        yield ["-f", "hls", *told, *(waits if "://" in path else []), "-i", name]


def _check_master(path: str, text: str) -> None:
    """Raises InputError for a playlist that leads FFmpeg in circles, which no timeout ends while
    it reads files."""
    named = media_playlists(text, path)
    check_count(path, len(named))
    for name in named:
        if urlsplit(name).scheme not in ("", "file"):
            continue
        with contextlib.suppress(av.error.FFmpegError, OSError):  # for who opens it to say
            if media_playlists(read_manifest(name, path), name):
                raise InputError(
                    f"{path} names {name}, which names playlists in turn; name one that does not"
                )


def _as_hls(folder: Path, found: Sequence[Representation]) -> Path:
    lines = ["#EXTM3U"]
    for number, one in enumerate(found):
        playlist = folder / f"{number}.m3u8"
        playlist.write_text(one.playlist(), encoding="utf-8")
        lines += ["#EXT-X-STREAM-INF:BANDWIDTH=1", playlist.name]
    master = folder / "master.m3u8"
    master.write_text("\n".join([*lines, ""]))
    return master


def packets_of(
    container: InputContainer, streams: Stream | Sequence[Stream] | None = None
) -> Iterator[Packet[Any]]:
    """The packets of an open file, of all its streams or of some, with one without data for
    each at the end. Those of streams that begin on the way (in transport streams) are left out.

    Raises Silence where a server does not go on in time."""
    if streams is not None and container.format.name == "hls":  # what is not wanted is not fetched
        wanted = [streams] if isinstance(streams, Stream) else streams
        for other in set(container.streams) - set(wanted):
            other.discard = Discard.all
    begun = time.monotonic()
    waited = is_waited_for(container.name, container.format.name)
    silent = False
    before: Stream | None = None
    try:
        for packet in container.demux(*([] if streams is None else [streams])):
            # FFmpeg's HLS takes a playlist that it no longer waits for as ended, and waits for it
            # as long again at each packet of another: that of the packet before, in whose place
            # one is due.
            if waited and time.monotonic() - begun > _waits:
                silent = True
                if before is not None:
                    before.discard = Discard.all
            if silent and not packet.size:
                raise Silence(_too_slow(container.name))
            yield packet
            before, begun = packet.stream, time.monotonic()
    except IndexError:
        pass  # PyAV, at the end, of streams that it did not know when it began
    except av.error.ExitError as e:
        raise Silence(_too_slow(container.name)) from e


class Silence(InputError):
    """Of what comes from elsewhere, nothing came for too long."""


def _too_slow(path: str) -> str:
    return (
        f"{path}: nothing came from there for {_waits:g} s; check that it is sent still, or wait "
        "longer with --timeout"
    )


def open_part(path: str, start: int) -> InputContainer:
    """A file of a format that can be joined anywhere (transport streams), from a byte on.

    Raises FFmpegError where nothing is to be found there."""
    return cast(
        InputContainer, av.open(f"subfile,,start,{start},end,0,,:{ffmpeg_name(path)}", **_TAGS)
    )


def video_streams(container: InputContainer) -> list[VideoStream]:
    """Its video streams, in order; cover pictures, which FFmpeg also calls video, are none, nor
    is what FFmpeg has no decoder for. Raises InputError where that is all there is."""
    videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    known = [s for s in videos if s.codec_context is not None]
    if videos and not known:
        raise InputError(
            f"{container.name.removeprefix('file:')}: its video is in a codec that FFmpeg has no "
            "decoder for, or its header is damaged"
        )
    return known


def choose_video(path: str, container: InputContainer, track: int | None) -> VideoStream:
    """The video stream to code: number ``track`` of the file's, or (None) of those that are
    to be shown by default the largest. Raises InputError."""
    videos = video_streams(container)
    if not videos:
        raise InputError(f"{path} has no video stream")
    if track is None:
        return max(videos, key=_precedence)
    numbered = list(container.streams.video)
    if 0 <= track < len(numbered) and numbered[track] in videos:
        return numbered[track]
    known = ", ".join(
        f"{i} ({s.codec_context.width}x{s.codec_context.height})"
        for i, s in enumerate(numbered)
        if s in videos
    )
    raise InputError(f"{path} has no video track {track}; it has {known}")


def _precedence(stream: VideoStream) -> tuple[bool, bool, int]:
    small = Disposition.timed_thumbnails | Disposition.still_image
    context = stream.codec_context
    return (
        bool(stream.disposition & Disposition.default),
        not stream.disposition & small,
        context.width * context.height,
    )


def is_pair(container: InputContainer) -> bool:
    """Whether a file is what ``tds encode`` writes."""
    videos = video_streams(container)
    if len(videos) < 2:
        return False
    names = [stream.metadata.get("handler_name", "") for stream in videos]
    return "tds" in map(str.lower, container.metadata) or "TDS HR" in names


def tags(said: Mapping[str, str]) -> dict[str, str]:
    """The tags of a file, stream or chapter that ``open_container`` has opened, as text that
    can be printed and written: U+FFFD stands for what is no UTF-8."""
    return {
        key.encode(errors="surrogateescape").decode(errors="replace"): value.encode(
            errors="surrogateescape"
        ).decode(errors="replace")
        for key, value in said.items()
    }


def has_flag(container: InputContainer, flag: Flags) -> bool:
    """Whether a container's format has one of FFmpeg's AVFMT flags."""
    return bool(container.format.flags & cast(int, flag.value))


def _check_raw_name(path: str) -> None:
    suffix = Path(path).suffix.lower()
    if suffix[1:] in _suffixes_of_containers():
        raise InputError(
            f"{path}: a {suffix} file says itself what is in it, so --size, --rate and --pix-fmt "
            "do not apply; leave them out, or name a raw video .yuv"
        )


@functools.cache
def _suffixes_of_containers() -> frozenset[str]:
    """Of the formats that FFmpeg writes and that are not raw video. (Those that it only
    reads are old and rare, and claim suffixes that raw files have too, such as .dat.)"""
    known: set[str] = set()
    for name in av.formats_available - {"rawvideo"}:
        try:
            known |= ContainerFormat(name, "w").extensions
        except ValueError:
            pass  # one that FFmpeg only reads
    return frozenset(known - ContainerFormat("rawvideo", "w").extensions)


def reason(error: Exception) -> str:
    """FFmpeg's words for an error, for the middle of a sentence."""
    text = getattr(error, "strerror", None) or str(error)
    return text.strip().rstrip(".")
