# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where decoded pictures go: y4m, raw yuv, a video file, a pipe."""

from __future__ import annotations

import errno
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from .errors import ExternalError, InputError, OutputError
from .files import whole_file
from .media.along import Along
from .media.extras import decoding_time, not_before, plan_extras
from .media.hdr import HDR, hdr_of, with_hdr
from .media.opening import ffmpeg_name, open_container, reason
from .media.pictures import display_matrix
from .media.planar import at_depth, frame_of, pix_fmt_of
from .media.times import SourceClock
from .session import Picture

Y4M, YUV, VIDEO = "y4m", "yuv", "video"


@dataclass(frozen=True)
class Origin:
    """The file that the pictures come from, whose sound, text, tags and colours come along.

    video: indices of the streams that are the video, the first of which says how it is shown.
    clock: moves the times of the rest as those of the pictures were moved; None: not. container,
    first: of what can be read only once, open, and its first picture; None: it is opened again.
    along: the sound and text of that; None: they stay behind.
    """

    path: str
    video: tuple[int, ...]
    clock: SourceClock | None = None
    container: InputContainer | None = None
    first: VideoFrame | None = None
    along: Along | None = None


@dataclass(frozen=True)
class OutputFormat:
    """What the pictures are and how a video file codes them.

    width, height: luma samples. bit_depth: 8 or 10. chroma: 420, 422 or 444. time_base: of the
    pictures' ``pts``. codec: FFmpeg's name of a video encoder (None: by the container).
    options: that encoder's own (``{"crf": "18"}``). origin: the file whose sound, text,
    chapters, tags and colours come along (None: none). sample_aspect_ratio: None:
    not known. full_range: samples use all codes, and not those of television alone.
    """

    width: int
    height: int
    bit_depth: int
    time_base: Fraction
    rate: Fraction
    codec: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    origin: Origin | None = None
    sample_aspect_ratio: Fraction | None = None
    full_range: bool = False
    chroma: int = 420


class Shown(Protocol):
    """What a sink takes of a picture; ``tds.Picture`` is one."""

    @property
    def planes(self) -> Sequence[Any]: ...
    @property
    def pts(self) -> int: ...
    def to_av(self) -> VideoFrame: ...


class AtDepth:
    """A picture with samples of another depth than it was made with."""

    def __init__(self, picture: Picture, bit_depth: int) -> None:
        self.pts = picture.pts
        self.planes = at_depth(picture.planes, picture.bit_depth, bit_depth)
        self._bit_depth = bit_depth

    def to_av(self) -> VideoFrame:
        return frame_of(self.planes, self._bit_depth)


class Sink(ABC):
    notices: tuple[str, ...] = ()
    """Sentences about what of the origin does not come along as it is."""

    @abstractmethod
    def write(self, picture: Shown) -> None: ...

    @abstractmethod
    def close(self) -> None: ...


def kind_of(output: str, named: str | None = None) -> str:
    """Y4M, YUV or VIDEO, by name (``named``) or by the output's suffix; a pipe is y4m."""
    if named is not None:
        if named not in (Y4M, YUV, VIDEO):
            raise InputError(f"no output format {named!r}; there are {Y4M}, {YUV} and {VIDEO}")
        return named
    if output == "-":
        return Y4M
    suffix = Path(output).suffix.lower()
    if not suffix:
        raise InputError(
            f"{output} has no suffix to tell what to write; name it .mp4, .mkv, .mov, .y4m or "
            ".yuv, or give --format"
        )
    return {".y4m": Y4M, ".yuv": YUV, ".raw": YUV}.get(suffix, VIDEO)


@contextmanager
def open_sink(
    output: str, kind: str, what: OutputFormat, overwrite: bool = False
) -> Iterator[Sink]:
    """A sink for ``output`` (``-``: standard output), written whole or not at all."""
    if kind != VIDEO and (what.codec is not None or what.options):
        raise InputError(
            f"{kind} is not coded, so it takes no encoder and no option of one; leave --vcodec and "
            "--vcodec-option out, or name a video file (.mp4, .mkv, .mov)"
        )
    if output == "-":
        pipe = sys.stdout.buffer
        if kind == VIDEO:
            with _video_sink(_Flushed(pipe), what) as sink:
                yield sink
        else:
            yield _raw_sink(pipe, kind, what)
        pipe.flush()
        return
    with whole_file(output, overwrite) as beside:
        if kind == VIDEO:
            with _video_sink(beside, what) as sink:
                yield sink
        else:
            with open(beside, "wb", buffering=0) as file:
                yield _raw_sink(file, kind, what)


@contextmanager
def _video_sink(output: Path | _Flushed, what: OutputFormat) -> Iterator[Sink]:
    sink = VideoSink(output, what)
    try:
        yield sink
    except BaseException:
        sink.abort()
        raise
    sink.close()


class _Flushed:
    """A pipe as a file for PyAV, which is not to be sought in; what is written comes out."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        self._file.write(data)
        self._file.flush()
        return len(data)


def _raw_sink(file: BinaryIO, kind: str, what: OutputFormat) -> Sink:
    return Y4MSink(file, what) if kind == Y4M else YUVSink(file)


class YUVSink(Sink):
    """Planar without padding; 16-bit little-endian above 8 bits."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, picture: Shown) -> None:
        for plane in picture.planes:
            # Copies only where rows have padding.
            self._put(np.ascontiguousarray(plane).data.cast("B"))

    def _put(self, data: memoryview | bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) or 0 :]

    def close(self) -> None:
        pass


class Y4MSink(YUVSink):
    """YUV4MPEG2: the same with a header; it has one rate and no times."""

    def __init__(self, file: BinaryIO, what: OutputFormat) -> None:
        super().__init__(file)
        chroma = "420mpeg2" if what.chroma == 420 else str(what.chroma)
        if what.bit_depth > 8:
            chroma = f"{what.chroma}p10 XYSCSS={what.chroma}P10"
        rate = what.rate
        aspect = what.sample_aspect_ratio or Fraction(1)
        full = " XCOLORRANGE=FULL" if what.full_range else ""
        self._put(
            f"YUV4MPEG2 W{what.width} H{what.height} F{rate.numerator}:{rate.denominator} "
            f"Ip A{aspect.numerator}:{aspect.denominator} C{chroma}{full}\n".encode()
        )

    def write(self, picture: Shown) -> None:
        self._put(b"FRAME\n")
        super().write(picture)


# The encoder a container gets when none is named: what plays everywhere, at a
# quality that adds little to what two codecs have already lost.
_BY_SUFFIX = {".webm": ("libvpx-vp9", {"crf": "20", "b": "0"})}
_DEFAULT = ("libx264", {"crf": "16", "preset": "medium"})
_SOME_ENCODERS = "ffmpeg -encoders lists names, for example libx264, libx265, ffv1"
# Of a pipe, whose reader is waiting: Matroska, with nothing held back for what may come.
_PIPED = ("libx264", {"crf": "16", "preset": "veryfast", "tune": "zerolatency"})
_AT_ONCE = {"cluster_time_limit": "0", "max_interleave_delta": "500000", "flush_packets": "1"}
# Of containers with edit lists, which hold what comes before time 0.
_EDIT_LISTS = (".mp4", ".mov", ".m4v")


# FFmpeg's muxers that write HDR metadata of a stream.
_HOLD_HDR = ("mp4", "mov", "ipod", "matroska", "webm")


class _Draft:
    """A Matroska file that is not kept, for its header."""

    def __init__(self) -> None:
        self._data = BytesIO()
        self.file = av.open(self._data, "w", format="matroska", options={"write_crc32": "0"})

    def header(self) -> bytes:
        """Once its one stream is complete."""
        self.file.start_encoding()
        return self._data.getvalue()


class VideoSink(Sink):
    """A video file by PyAV, or Matroska in a pipe: pictures at their own times, the rest copied."""

    def __init__(self, output: Path | _Flushed, what: OutputFormat) -> None:
        self._what = what
        named: Any = output
        form: str | None = "matroska"
        suffix, (codec, options), muxer = "", _PIPED, _AT_ONCE
        if isinstance(output, Path):
            named, form, suffix = ffmpeg_name(output), None, output.suffix.lower()
            codec, options = _BY_SUFFIX.get(suffix, _DEFAULT)
            muxer = self._muxer_options(suffix)
        if what.codec is not None:
            codec, options = what.codec, {}
        options = {**options, **what.options}
        self._holds_before_0 = suffix in _EDIT_LISTS
        self._begin = Fraction(0)  # seconds; what is before it is not in the file
        self._next: Packet[Any] | None = None
        try:
            self._out = av.open(named, "w", format=form, options=muxer)
        except (av.error.FFmpegError, ValueError) as e:
            raise InputError(
                f"{suffix or output}: no video container that FFmpeg writes has that "
                "suffix; use .mp4, .mkv, .mov, .y4m or .yuv"
            ) from e
        try:
            with self._shown() as (container, first):
                hdr = hdr_of(first) if first is not None else HDR()
                options = hdr.told(codec, options)
                holds = bool(hdr) and self._out.format.name in _HOLD_HDR
                draft = self._draft = _Draft() if holds else None
                # Encodes; its packets go into _stream, which mostly is the same.
                self._encoder = self._add_stream(draft.file if draft else self._out, codec, options)
                if first is not None:
                    self._look_like(first)
                self._open_encoder(codec, options)
                self._stream = self._like(draft, hdr) if draft else self._encoder
                if first is not None:
                    self._stream.set_display_matrix(display_matrix(first))
                self._left = self._bring_extras(container, muxer)
            self._begin_file()
        except BaseException:
            self.abort()
            raise

    def _muxer_options(self, suffix: str) -> dict[str, str]:
        if suffix not in _EDIT_LISTS:
            return {}
        # Edit lists count in movie ticks; too few of them would move the first frame.
        scale = self._what.time_base.denominator
        while scale < 10_000:
            scale *= 2
        return {"movie_timescale": str(scale), "video_track_timescale": str(scale)}

    def _add_stream(self, out: OutputContainer, codec: str, options: dict[str, str]) -> VideoStream:
        what = self._what
        try:
            kind = av.Codec(codec, "w").type
        except (ValueError, av.error.FFmpegError) as e:
            raise InputError(f"no encoder {codec!r} in this FFmpeg; {_SOME_ENCODERS}") from e
        if kind != "video":  # which add_stream would take for one of this kind
            raise InputError(f"{codec} is an encoder of {kind}, not of video; {_SOME_ENCODERS}")
        try:
            stream = out.add_stream(codec, rate=what.rate, options=options)
        except (ValueError, av.error.FFmpegError) as e:
            raise self._not_held(codec) from e
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = what.width, what.height
        stream.pix_fmt = pix_fmt_of(what.bit_depth, what.chroma)
        stream.time_base = what.time_base
        stream.codec_context.time_base = what.time_base
        if what.sample_aspect_ratio is not None:
            stream.codec_context.sample_aspect_ratio = what.sample_aspect_ratio
        if what.full_range:
            stream.codec_context.color_range = ColorRange.JPEG
        return stream

    def _not_held(self, codec: str) -> InputError:
        return InputError(
            f"{self._out.format.name} files do not hold what {codec} codes; name another "
            "encoder, or a file with another suffix (.mkv holds nearly everything)"
        )

    def _like(self, draft: _Draft, hdr: HDR) -> VideoStream:
        """A stream of the file for the encoder's packets, with HDR metadata."""
        context = self._encoder.codec_context
        with with_hdr(draft.header(), hdr) as template:
            try:
                stream = self._out.add_stream_from_template(template.streams.video[0], opaque=True)
            except ValueError as e:
                raise self._not_held(context.codec.name) from e
        stream.time_base = self._what.time_base
        own = stream.codec_context
        own.extradata, own.pix_fmt = context.extradata, context.pix_fmt
        if self._what.sample_aspect_ratio is not None:
            own.sample_aspect_ratio = self._what.sample_aspect_ratio
        return stream

    def _open_encoder(self, codec: str, options: dict[str, str]) -> None:
        """Now, when all that it needs to know is set, and not at the first picture: what it
        refuses is then not taken for a fault of the file."""
        context = self._encoder.codec_context
        given = ", ".join(f"{k}={v}" for k, v in self._what.options.items())
        try:
            context.open()
        except (ValueError, OSError, av.error.FFmpegError) as e:
            # Asked by name: a context that failed to open may have lost its codec.
            takes = [f.name for f in av.Codec(codec, "w").video_formats or ()]
            why = f"with {given}" if given else "as it is"
            if takes and context.pix_fmt not in takes:
                why = f"since it codes {', '.join(takes)} and the pictures are {context.pix_fmt}"
            raise InputError(
                f"the encoder {codec} does not start {why} ({reason(e)}); change --vcodec-option, "
                f"or name another encoder ({_SOME_ENCODERS})"
            ) from e
        unknown = [key for key in options if key in context.options]  # what it did not take
        if unknown:
            raise InputError(
                f"the encoder {codec} has no option {' and no option '.join(unknown)}; "
                f"ffmpeg -h encoder={codec} lists those it has"
            )

    def _begin_file(self) -> None:
        """Writes what comes before the first picture, so that what the container refuses is
        known before any work is done."""
        try:
            self._out.start_encoding()
        except (av.error.ArgumentError, av.error.InvalidDataError, av.error.PatchWelcomeError) as e:
            raise InputError(
                f"{self._out.format.name} files do not hold this video ({reason(e)}); name another "
                "encoder, or a file with another suffix (.mkv holds nearly everything)"
            ) from e

    @contextmanager
    def _shown(self) -> Iterator[tuple[InputContainer | None, VideoFrame | None]]:
        """The origin, open, and its first picture."""
        origin = self._what.origin
        if origin is None:
            yield None, None
        elif origin.container is not None:
            yield origin.container, origin.first
        else:
            with open_container(origin.path) as container:
                shown = container.streams[origin.video[0]]
                assert isinstance(shown, VideoStream)
                yield container, next(container.decode(shown), None)

    def _bring_extras(
        self, container: InputContainer | None, options: dict[str, str]
    ) -> Iterator[Packet[Any] | None]:
        """Tags and chapters now; sound and text as packets, None where there is none now."""
        origin = self._what.origin
        if origin is None or container is None:
            return iter(())
        along = origin.along
        extras = plan_extras(
            origin.path, container, origin.video, self._out.format.name, options, along
        )
        self.notices = tuple(extras.notices)
        packets: Iterator[Packet[Any] | None] = (
            extras.add_to(self._out, origin.clock)
            if along is None
            else extras.add_as_they_come(
                self._out, along, origin.clock.shift if origin.clock is not None else Fraction(0)
            )
        )
        return packets if self._holds_before_0 else not_before(packets, lambda: self._begin)

    def _look_like(self, first: VideoFrame) -> None:
        """Colours of the origin's first picture."""
        context = self._encoder.codec_context
        if not self._what.full_range:  # which not every stream says beside its container
            context.color_range = first.color_range
        context.color_primaries, context.color_trc = first.color_primaries, first.color_trc
        context.colorspace = first.colorspace

    def _mux(self, packet: Packet[Any]) -> None:
        """Muxes a video packet, and before it what belongs before it in the file."""
        self._mux_extras(decoding_time(packet))
        self._out.mux(packet)

    def _mux_extras(self, until: Fraction | None = None) -> None:
        """Those that are there, up to a time or to the end."""
        while True:
            if self._next is None:
                self._next = next(self._left, None)
            if self._next is None or (until is not None and decoding_time(self._next) > until):
                return
            self._out.mux(self._next)
            self._next = None

    def write(self, picture: Shown) -> None:
        frame = picture.to_av()
        frame.pts = picture.pts
        self._begin = min(self._begin, picture.pts * self._what.time_base)
        frame.time_base = self._what.time_base
        for packet in self._encode(frame):
            self._mux(packet)

    def _encode(self, frame: VideoFrame | None) -> list[Packet[Any]]:
        try:
            packets = self._encoder.encode(frame)
        except (OSError, av.error.FFmpegError) as e:
            name = self._encoder.codec_context.codec.name
            raise ExternalError(f"the encoder {name} failed ({reason(e)})") from e
        if self._encoder is not self._stream:
            nominal = round(1 / (self._what.rate * self._what.time_base))
            for packet in packets:  # which no rate of the stream gives a duration
                packet.stream, packet.duration = self._stream, packet.duration or nominal
        return packets

    def close(self) -> None:
        for packet in self._encode(None):
            self._mux(packet)
        self._mux_extras()
        try:
            self._out.close()
        except av.error.FFmpegError as e:
            raise OutputError(
                getattr(e, "errno", errno.EIO), f"could not finish the file: {e}"
            ) from e

    def abort(self) -> None:
        try:
            self._out.close()
        except (av.error.FFmpegError, OSError, ValueError):
            pass  # it is thrown away
