# SPDX-License-Identifier: LGPL-2.1-or-later
"""What of a file comes along beside its video into another: one table, known beforehand.

``plan_extras`` opens the real muxer for every stream, with the stream's own first packets, so
the table says what will happen and why before any picture is coded: a stream is copied, or
coded anew in the first way that the container holds, or left out. ``Extras.add_to`` then
does what the table says.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from fractions import Fraction
from math import ceil
from typing import Any, TypeVar

import av
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.subtitles.stream import SubtitleStream

from .along import Along
from .extent import file_size
from .opening import STANDARD_INPUT, is_read_once, open_container, open_part, packets_of, tags
from .times import SourceClock, exact

# Keys of a file that describe its container, and not what is in it.
_TECHNICAL = frozenset(
    [
        "tds",
        "encoder",
        "major_brand",
        "minor_version",
        "compatible_brands",
        "duration",
        "handler_name",
        "_statistics_tags",
        "_statistics_writing_app",
    ]
)
# Of a stream's own tags, those that name it to a person.
_NAMING = ("language", "title", "handler_name")
# Encoders to try, in order, where a container does not hold a stream as it is.
_ENCODERS = {
    "audio": ("aac", "libopus", "libvorbis", "libmp3lame", "flac", "pcm_s16le"),
    "subtitle": ("mov_text", "srt", "webvtt", "ass"),
}
_WORDS = {
    "audio": "sound track",
    "subtitle": "text track",
    "video": "video track",
    "data": "data track",
    "attachment": "attachment",
}
# Muxers that take what they do not know for private data, which no reader understands.
_UNKNOWING = ("mpegts",)
_SAMPLED = 4  # packets of a stream that are muxed to see whether its container takes them
_SEARCHED = 400  # packets among which they are looked for
_PROBED = 5_000_000  # bytes in which FFmpeg looks for streams when it opens a file

_REFUSALS = (av.error.FFmpegError, ValueError, OSError, RuntimeError, NotImplementedError)


class Way(Enum):
    """What becomes of a stream."""

    COPY = "copied"
    CODE = "coded anew"
    LEAVE = "left out"


@dataclass(frozen=True)
class Extra:
    """One stream beside the video, and what becomes of it.

    index: among all streams of the file; -1: it is not among those that it was opened with.
    number: among those of its kind, as in FFmpeg's
    ``0:a:N``. kind: FFmpeg's ("audio", "subtitle", "video", "data", "attachment").
    codec: FFmpeg's name of the codec, "" for none that it knows. encoder: the one that codes it
    anew, else "". why: for a person, why it is not copied. header: the codec's own, where the file
    has it in each packet instead.
    """

    index: int
    number: int
    kind: str
    codec: str
    title: str
    way: Way
    encoder: str = ""
    why: str = ""
    header: bytes = b""

    @property
    def name(self) -> str:
        """ "sound track 1 (dts, Commentary)"."""
        about = ", ".join(text for text in (self.codec, self.title) if text)
        return f"{_WORDS.get(self.kind, 'stream')} {self.number}" + (f" ({about})" if about else "")

    @property
    def fate(self) -> str:
        """What is worth saying of it: "left out: ..."; "" for a stream that is copied, or
        plain text that changes its form."""
        plain_text = self.kind == "subtitle" and self.codec != "ass"  # which has styles to lose
        if self.way is Way.COPY or (self.way is Way.CODE and plain_text):
            return ""
        what = f"coded as {self.encoder}" if self.way is Way.CODE else self.way.value
        return f"{what}: {self.why}"


@dataclass
class Extras:
    """What comes along from ``path``: the table, and the file's own tags and chapters."""

    path: str = ""
    table: tuple[Extra, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    chapters: list[dict[str, Any]] = field(default_factory=list)

    @property
    def notices(self) -> list[str]:
        """A sentence for all streams that have one fate."""
        named: dict[str, list[str]] = {}
        for extra in self.table:
            if extra.fate:
                named.setdefault(extra.fate, []).append(extra.name)
        return [
            f"{', '.join(names)} {'are' if len(names) > 1 else 'is'} {fate}"
            for fate, names in named.items()
        ]

    def add_to(
        self, out: OutputContainer, clock: SourceClock | None = None
    ) -> Iterator[Packet[Any]]:
        """Adds tags, chapters and the streams of the table to ``out`` now, and gives their
        packets, to be muxed in the order of ``decoding_time`` with all others.

        clock: moves their times as those of the pictures were (VideoSource.clock)."""
        out.metadata.update(self.metadata)
        if self.chapters:
            shift = clock.shift if clock is not None else Fraction(0)
            out.set_chapters([_moved(c, shift) for c in self.chapters])  # type: ignore[misc]
        if not self._coming:
            return iter(())
        source = open_container(self.path)
        try:
            ways = self._ways(out, source)
        except BaseException:
            source.close()
            raise
        return _packets(source, ways, clock)

    def add_as_they_come(
        self, out: OutputContainer, along: Along, shift: Fraction
    ) -> Iterator[Packet[Any] | None]:
        """The same of what is read once; None where there is no packet now. shift: seconds that are
        added to their times."""
        out.metadata.update(self.metadata)
        return _packets_as_they_come(along, self._ways(out, along.container), shift)

    @property
    def _coming(self) -> list[Extra]:
        return [extra for extra in self.table if extra.way is not Way.LEAVE]

    def _ways(self, out: OutputContainer, source: InputContainer) -> _Ways:
        return {e.index: _way(out, source.streams[e.index], e) for e in self._coming}


_Come = TypeVar("_Come", bound="Packet[Any] | None")


def not_before(packets: Iterable[_Come], begin: Callable[[], Fraction]) -> Iterator[_Come]:
    """Without the packets before ``begin()``, which is where the picture begins or time 0,
    whichever is earlier: for containers without edit lists, which have no place for them. A
    decoder of sound starts on these and throws away what they give; FFmpeg would move all
    streams, the video's times with them, to make room. Without, sound fades in over its first
    20 ms."""
    return (
        p for p in packets if p is None or p.pts is None or p.pts * exact(p.time_base) >= begin()
    )


def decoding_time(packet: Packet[Any]) -> Fraction:
    """In seconds, of a packet that has one (of the caller's making, or checked)."""
    assert packet.dts is not None
    return packet.dts * exact(packet.time_base)


def plan_extras(
    path: str,
    container: InputContainer,
    video: Collection[int],
    muxer: str,
    options: Mapping[str, str] | None = None,
    along: Along | None = None,
) -> Extras:
    """The table for an open file. What cannot come along is in it with the reason.

    video: indices of the streams that are the video itself. muxer, options: FFmpeg's, of the
    file that will be written. along: holds what comes along of what is read once."""
    extras = Extras(
        path,
        metadata={k: v for k, v in tags(container.metadata).items() if k.lower() not in _TECHNICAL},
        chapters=[{**c, "metadata": tags(c["metadata"])} for c in container.chapters()],
    )
    others = [s for s in container.streams if s.index not in video]
    once = along is not None or is_read_once(path)
    candidates = [s for s in others if s.type in _ENCODERS]
    if once:
        candidates = [s for s in candidates if along is not None and s.index in along.streams]
    indices = [s.index for s in candidates]
    samples = (
        _samples(path, indices)
        if along is None
        else {i: [_Sample.of(p) for p in along.first(i, _SAMPLED)] for i in indices}
    )
    target = _Target(muxer, {k: v for k, v in (options or {}).items() if k != "movflags"})
    rows = []
    numbers: dict[str, int] = {}
    for stream in container.streams:
        said = tags(stream.metadata)
        number = numbers[stream.type] = numbers.get(stream.type, -1) + 1
        if stream.index in video:
            continue
        if stream.type == "data" and "timecode" in said:
            # A track that says no more than this tag, of which muxers make such a track again.
            extras.metadata.setdefault("timecode", said["timecode"])
            continue
        title = said.get("title", "") or said.get("filename", "")
        row = Extra(stream.index, number, stream.type, _codec(stream), title, Way.LEAVE)
        if stream in candidates:
            row = target.way_of(stream, row, samples[stream.index])
        else:
            row = replace(row, why=_left(path, stream, once))
        rows.append(row)
    for kind, codec in _later(path, container):
        number = numbers[kind] = numbers.get(kind, -1) + 1
        why = "it begins later in the file than streams are looked for"
        rows.append(Extra(-1, number, kind, codec, "", Way.LEAVE, "", why))
    extras.table = tuple(rows)
    return extras


def _later(path: str, container: InputContainer) -> list[tuple[str, str]]:
    """(kind, codec) of the streams of a transport stream that are not there where it begins nor
    where it ends, in both of which FFmpeg has looked; as the parts between show them."""
    size = file_size(path)
    if container.format.name != "mpegts" or is_read_once(path) or not size or size <= _PROBED:
        return []
    known = {stream.id for stream in container.streams}
    found: list[tuple[str, str]] = []
    for start in (size // 4, size // 2, size * 3 // 4):
        with contextlib.suppress(av.error.FFmpegError), open_part(path, start) as part:
            for stream in part.streams:
                if stream.id not in known and stream.codec_context is not None:
                    known.add(stream.id)
                    found.append((stream.type, _codec(stream)))
    return found


def _left(path: str, stream: Stream, once: bool) -> str:
    """Why a stream that is neither sound nor text, or that cannot be read, stays behind."""
    if stream.type in _ENCODERS and once:
        what = "standard input" if path == STANDARD_INPUT else path
        kind = "audio" if stream.type == "audio" else "subtitles"
        return f"{what} can be read only once, and its pictures are; name a file to keep its {kind}"
    if stream.type == "video":
        if stream.disposition & Disposition.attached_pic:
            return "it is a cover picture"
        return "one video is taken, and --video-track names another"
    return "only sound and text come along beside the video"


def _codec(stream: Stream) -> str:
    if stream.codec_context is not None:
        return str(stream.codec_context.codec.canonical_name)
    with contextlib.suppress(AttributeError, ValueError):
        tag = stream.codec_tag
        if tag and tag.isprintable():
            return tag.strip()
    return tags(stream.metadata).get("mimetype", "")


def _samples(path: str, indices: Collection[int]) -> dict[int, list[_Sample]]:
    """The first packets of each stream, as far as they come near the beginning."""
    found: dict[int, list[_Sample]] = {index: [] for index in indices}
    if not found:
        return found
    with open_container(path) as container:
        for stream in container.streams:
            if stream.index not in found:
                stream.discard = Discard.all
        for count, packet in enumerate(packets_of(container)):
            sample = found.get(packet.stream.index)
            if sample is not None and packet.size and len(sample) < _SAMPLED:
                sample.append(_Sample.of(packet))
            if count > _SEARCHED or all(len(s) == _SAMPLED for s in found.values()):
                break
    return found


@dataclass(frozen=True)
class _Sample:
    data: bytes
    pts: int | None
    dts: int | None
    duration: int | None
    time_base: Fraction
    key: bool

    @classmethod
    def of(cls, p: Packet[Any]) -> _Sample:
        return cls(bytes(p), p.pts, p.dts, p.duration, exact(p.time_base), p.is_keyframe)

    def packet(self) -> Packet[Any]:
        packet: Packet[Any] = Packet(self.data)
        packet.pts, packet.dts, packet.duration = self.pts, self.dts, self.duration or 0
        packet.time_base, packet.is_keyframe = self.time_base, self.key
        return packet


@dataclass(frozen=True)
class _Target:
    muxer: str
    options: dict[str, str]

    def way_of(self, stream: Stream, left: Extra, samples: list[_Sample]) -> Extra:
        """A sound or text stream with what becomes of it; left: as if it were left out."""
        own = _aac_header(samples[0].data) if samples and _is_adts(stream) else b""
        copied = replace(left, way=Way.COPY, header=own)
        if self._takes(stream, copied, samples):
            return copied
        why = f"{self.muxer} files do not hold it"
        if stream.codec_context is None:
            return replace(left, why=f"{why}, and FFmpeg has no decoder for it")
        if stream.type == "subtitle" and not stream.codec_context.codec.text_sub:
            return replace(left, why=f"{why}, and it is made of pictures, not of text")
        for encoder in _ENCODERS[stream.type]:
            coded = replace(left, way=Way.CODE, encoder=encoder, why=why)
            if self._takes(stream, coded, samples):
                return coded
        return replace(left, why=f"{why}, nor anything it could be coded to")

    def _takes(self, stream: Stream, extra: Extra, samples: list[_Sample]) -> bool:
        """Whether a file with this stream can be begun, filled and ended."""
        made, filled = io.BytesIO(), False
        try:
            with av.open(made, "w", format=self.muxer, options=self.options) as out:
                way = _way(out, stream, extra)
                out.start_encoding()
                order = _Order()
                for sample in samples:
                    packet = sample.packet()
                    packet.stream = stream
                    packets = list(order.of(way.give(packet)))
                    out.mux(packets)
                    filled = filled or bool(packets)
                codec = _codec(way.stream)
            return self.muxer not in _UNKNOWING or not filled or _reads_as(made, self.muxer, codec)
        except _REFUSALS:
            return False


def _is_adts(stream: Stream) -> bool:
    """Whether each packet begins with a header (ISO/IEC 14496-3), as in transport streams."""
    context = stream.codec_context
    return context is not None and _codec(stream) == "aac" and not context.extradata


def _aac_header(data: bytes) -> bytes:
    """AudioSpecificConfig by a packet's ADTS header, which a muxer that cannot go back has to know
    when it begins; b"": the header is damaged, at which muxers end."""
    if len(data) < 10 or data[0] != 0xFF or data[1] & 0xF6 != 0xF0:
        return b""
    profile, rate = data[2] >> 6, data[2] >> 2 & 15
    channels = (data[2] & 1) << 2 | data[3] >> 6
    size = (data[3] & 3) << 11 | data[4] << 3 | data[5] >> 5
    if rate > 12 or size < 7:
        return b""
    return ((profile + 1) << 11 | rate << 7 | channels << 3).to_bytes(2, "big")


def _reads_as(made: io.BytesIO, demuxer: str, codec: str) -> bool:
    """Whether a file's one stream is read as what it was written as."""
    made.seek(0)
    with av.open(made, format=demuxer) as container:  # too short to be known by itself
        return [_codec(stream) for stream in container.streams] == [codec]


# ----------------------------------------------------------------- the ways --


class _Copied:
    """A stream that comes along packet by packet."""

    def __init__(self, out: OutputContainer, source: Stream, header: bytes = b"") -> None:
        self.stream = out.add_stream_from_template(source, opaque=True)
        if isinstance(self.stream, AudioStream):
            if header and not self.stream.codec_context.extradata:
                self.stream.codec_context.extradata = header
            self.stream.codec_context.layout = _layout(self.stream)
        self._adts = _is_adts(source)
        _name(self.stream, source)

    def give(self, packet: Packet[Any]) -> Iterable[Packet[Any]]:
        if self._adts and not _aac_header(bytes(packet)):  # passed over, as where it is decoded
            return []
        packet.stream = self.stream
        return [packet]

    def finish(self) -> Iterable[Packet[Any]]:
        return []


class _Sound:
    """A sound stream that is decoded and coded anew, with the rate and the channels it has
    where the encoder takes them."""

    def __init__(self, out: OutputContainer, source: AudioStream, encoder: str) -> None:
        self._decoder = context = source.codec_context
        codec = av.Codec(encoder, "w")
        rates = codec.audio_rates or [context.sample_rate]
        least = min(context.sample_rate, max(rates))
        rate = min((r for r in rates if r >= least), default=max(rates))
        stream = out.add_stream(encoder, rate=rate)
        assert isinstance(stream, AudioStream)
        self.stream = stream
        self.stream.codec_context.layout = layout = _layout(source)
        self.stream.codec_context.bit_rate = 64_000 * max(2, layout.nb_channels)
        _name(self.stream, source)
        self.stream.codec_context.open()
        self._resampler: AudioResampler | None = None
        self._takes: tuple[str, str, int] | None = None
        self._tick = exact(source.time_base or 0)
        self._due: Fraction | None = None  # where the sound so far ends

    def give(self, packet: Packet[Any] | None) -> Iterable[Packet[Any]]:
        try:
            frames = self._decoder.decode(packet)
        except (av.error.FFmpegError, ValueError):  # damaged: passed over, as by ffmpeg
            return
        for frame in frames:
            self._time(frame)
            yield from self._code(frame)

    def _time(self, frame: AudioFrame) -> None:
        """By the samples where that is what the file's coarser clock (Matroska's) means."""
        if frame.pts is None or frame.time_base is None:
            if self._due is None:
                return
            time = self._due
        else:
            time = frame.pts * exact(frame.time_base)
            if self._due is not None and abs(time - self._due) <= self._tick:
                time = self._due
        frame.time_base = Fraction(1, frame.sample_rate)
        frame.pts = round(time * frame.sample_rate)
        self._due = time + Fraction(frame.samples, frame.sample_rate)

    def _code(self, frame: AudioFrame) -> Iterator[Packet[Any]]:
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._takes:
            yield from self._flush()
            context = self.stream.codec_context
            self._resampler = AudioResampler(context.format, context.layout, context.sample_rate)
            self._takes = shape
        assert self._resampler is not None
        for resampled in self._resampler.resample(frame):
            yield from self.stream.encode(resampled)

    def _flush(self) -> Iterator[Packet[Any]]:
        if self._resampler is not None:
            for resampled in self._resampler.resample(None):
                yield from self.stream.encode(resampled)

    def finish(self) -> Iterable[Packet[Any]]:
        yield from self.give(None)
        yield from self._flush()
        yield from self.stream.encode(None)


class _Text:
    """Text that is written anew in another form."""

    def __init__(self, out: OutputContainer, source: SubtitleStream, encoder: str) -> None:
        self._decoder = source.codec_context
        self._decoder.open(strict=False)
        stream = out.add_stream(encoder)
        assert isinstance(stream, SubtitleStream)
        self.stream = stream
        self._encoder = self.stream.codec_context
        self.stream.time_base = self._encoder.time_base = exact(source.time_base or 1)
        self._encoder.subtitle_header = self._decoder.subtitle_header
        _name(self.stream, source)
        self._encoder.open()

    def give(self, packet: Packet[Any]) -> Iterable[Packet[Any]]:
        if packet.pts is None or not packet.size:
            return []
        try:
            text = self._decoder.decode2(packet)
            if text is None or not len(text):  # a pause, which other forms do not write down
                return []
            made = self._encoder.encode_subtitle(text)
        except (av.error.FFmpegError, ValueError):
            return []
        made.pts = made.dts = packet.pts
        made.duration, made.time_base = packet.duration or 0, packet.time_base
        made.stream = self.stream
        return [made]

    def finish(self) -> Iterable[Packet[Any]]:
        return []


def add_copied(out: OutputContainer, source: Stream) -> Stream:
    """A stream of ``out`` for the packets of a sound or text stream as they are."""
    return _Copied(out, source).stream


def _way(out: OutputContainer, source: Stream, extra: Extra) -> _Copied | _Sound | _Text:
    encoder = extra.encoder
    if not encoder:
        return _Copied(out, source, extra.header)
    if isinstance(source, AudioStream):
        return _Sound(out, source, encoder)
    assert isinstance(source, SubtitleStream)
    return _Text(out, source, encoder)


# Of channels that a file counts and does not name (WAV's, for one), as FFmpeg guesses them.
_LAYOUTS = ("mono", "stereo", "2.1", "4.0", "5.0", "5.1", "6.1", "7.1")


def _layout(stream: AudioStream) -> AudioLayout:
    layout = stream.codec_context.layout
    named = not layout.name.endswith(" channels")
    if named or not 1 <= layout.nb_channels <= len(_LAYOUTS):
        return layout
    return AudioLayout(_LAYOUTS[layout.nb_channels - 1])


def _name(stream: Stream, source: Stream) -> None:
    said = tags(source.metadata)
    for key in _NAMING:
        if said.get(key):
            stream.metadata[key] = said[key]
    stream.disposition = source.disposition


_Ways = Mapping[int, _Copied | _Sound | _Text]


def _packets(
    source: InputContainer, ways: _Ways, clock: SourceClock | None
) -> Iterator[Packet[Any]]:
    order = _Order()
    with source:
        # All streams: the clock has to see what it saw when the pictures were read.
        for packet in packets_of(source):
            if clock is not None:
                clock.move(packet)
            way = ways.get(packet.stream.index)
            if way is not None and packet.size:
                yield from order.of(way.give(packet))
        for way in ways.values():
            yield from order.of(way.finish())


def _packets_as_they_come(
    along: Along, ways: _Ways, shift: Fraction
) -> Iterator[Packet[Any] | None]:
    order = _Order()
    for packet in along.packets():
        if packet is None:
            yield None
        elif packet.stream.index in ways:
            ticks = round(shift / exact(packet.time_base))
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
            yield from order.of(ways[packet.stream.index].give(packet))
    for way in ways.values():
        yield from order.of(way.finish())


class _Order:
    """Decoding times that increase in each stream, as muxers ask: no two packets at one time,
    also not where only the container's coarser clock makes it one."""

    def __init__(self) -> None:
        self._next: dict[int, Fraction] = {}

    def of(self, packets: Iterable[Packet[Any]]) -> Iterator[Packet[Any]]:
        """The packets, without those that have no time at all."""
        for packet in packets:
            if packet.dts is None:
                packet.dts = packet.pts
            if packet.dts is None:
                continue
            base = exact(packet.time_base)
            if packet.dts * base < self._next.get(packet.stream.index, packet.dts * base):
                packet.dts = ceil(self._next[packet.stream.index] / base)
            tick = max(base, exact(packet.stream.time_base or 0))
            self._next[packet.stream.index] = packet.dts * base + tick
            if packet.pts is None or packet.pts < packet.dts:
                packet.pts = packet.dts
            yield packet


def _moved(chapter: dict[str, Any], shift: Fraction) -> dict[str, Any]:
    ticks = round(shift / exact(chapter["time_base"]))
    return {**chapter, "start": chapter["start"] + ticks, "end": chapter["end"] + ticks}
