# SPDX-License-Identifier: LGPL-2.1-or-later
"""A TDS file as segments for HTTP: CMAF tracks, with an HLS and a DASH manifest over the same
files.

Each track is a folder of fragments, written by FFmpeg's MP4 muxer one segment at a time, so that
the cuts are where they must be: where a group begins in both tracks. Specification:
docs/streaming.md.
"""

from __future__ import annotations

import io
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from ..errors import InputError
from ..files import whole_folder
from ..media.extras import Way, add_copied, not_before, plan_extras
from ..media.manifests import HLS
from ..media.opening import is_read_once, open_container, packets_of, tags, video_streams
from ..media.times import exact
from .forms import MP4
from .manifests import INIT, MANIFEST, MASTER, SEGMENT, Track, codecs_of, manifest, master, playlist
from .metadata import container_tag, is_plain, read_tag
from .paired import PairedFile
from .writing import add_copy

# No edit list: the first picture of a segment is at its time, and others are before or after it.
_MUXER = {
    "movflags": "frag_custom+empty_moov+default_base_moof+negative_cts_offsets+skip_trailer",
    "use_editlist": "0",
    "write_tmcd": "0",
}


@dataclass(frozen=True)
class Packaged:
    """What was written. folder: with master.m3u8 and manifest.mpd. segments: of each track.
    seconds: the longest. notices: what of the file does not come along."""

    folder: Path
    segments: int
    seconds: float
    notices: tuple[str, ...]


@dataclass
class _Coded:
    """The packets of a video track in the order of the file. times: in seconds."""

    times: list[Fraction] = field(default_factory=list)
    keys: list[bool] = field(default_factory=list)

    def add(self, packet: Packet[Any], where: str) -> None:
        if packet.pts is None:
            raise InputError(f"{where}: a packet of it has no time, so it cannot be cut")
        self.times.append(packet.pts * exact(packet.time_base))
        self.keys.append(packet.is_keyframe)

    def closed(self) -> dict[Fraction, int]:
        """Packets at which the track can be cut: random-access pictures that are shown after all
        that are coded before them and before all that follow. Their numbers by time."""
        cuts = {}
        least: Fraction | None = None
        after = [True] * len(self.times)
        for i in range(len(self.times) - 1, -1, -1):
            after[i] = least is None or self.times[i] < least
            least = self.times[i] if least is None else min(least, self.times[i])
        most: Fraction | None = None
        for i, time in enumerate(self.times):
            if self.keys[i] and after[i] and (most is None or time > most):
                cuts[time] = i
            most = time if most is None else max(most, time)
        return cuts


def package(path: str, folder: str, seconds: float = 2.0, overwrite: bool = False) -> Packaged:
    """Writes a TDS file as HLS and DASH into a folder, whole or not at all.

    seconds: a segment lasts so long or, to the next place where a group begins and both tracks can
    be cut, longer. Raises InputError for what is no TDS file and for what cannot be cut,
    OutputExistsError for a folder that is there."""
    if not 0 < seconds < 1e6:
        raise InputError(f"--seconds is more than 0 and less than 1000000, not {seconds:g}")
    if is_read_once(path):
        raise InputError(f"{path} can be read only once, and it is read twice here; name a file")
    with whole_folder(folder, overwrite, (MASTER, MANIFEST)) as beside:
        with open_container(path) as container:
            videos, tag = _videos(path, container)
            extras = plan_extras(path, container, [s.index for s in videos], MP4.muxer)
            sound = [e.index for e in extras.table if e.kind == "audio" and e.way is Way.COPY]
            left = [e for e in extras.table if e.index not in sound]
            tracks = _cut(path, container, videos, sound, Fraction(seconds))
        for track in tracks:
            with open_container(path) as container:
                _write(beside / track.name, container, track)
        (beside / MASTER).write_text(master(tracks, tag), encoding="utf-8")
        for track in tracks:
            (beside / f"{track.name}{HLS}").write_text(playlist(track), encoding="utf-8")
        (beside / MANIFEST).write_text(manifest(tracks, tag), encoding="utf-8")
    said = tuple(
        f"{e.name} is left out: HLS and DASH get the sound as it is, and no text" for e in left
    )
    return Packaged(Path(folder), len(tracks[0].starts), float(max(tracks[0].lasts)), said)


def _videos(path: str, container: InputContainer) -> tuple[list[VideoStream], str]:
    """HR and LR, or the one stream, and the text of the tag."""
    text = container_tag(container) or ""
    videos = video_streams(container)
    if len(videos) == 1 and text and is_plain(read_tag(text, path).groups):
        return videos, text
    with PairedFile(path) as file:  # which says what is wrong with it
        return [s for track in (file.hr, file.lr) for s in videos if s.index == track.index], text


def _cut(
    path: str,
    container: InputContainer,
    videos: Sequence[VideoStream],
    sound: Sequence[int],
    seconds: Fraction,
) -> list[Track]:
    """The tracks, cut: HR, LR, sound."""
    coded = {stream.index: _Coded() for stream in videos}
    heard: dict[int, list[Fraction]] = {index: [] for index in sound}
    for packet in packets_of(container):
        if not packet.size:
            continue
        if packet.stream.index in coded:
            coded[packet.stream.index].add(packet, path)
        elif packet.stream.index in heard and packet.pts is not None and packet.pts >= 0:
            heard[packet.stream.index].append(packet.pts * exact(packet.time_base))
    hr = coded[videos[0].index]
    lr = coded[videos[1].index] if len(videos) > 1 else None
    begins = _begins(path, hr, lr, seconds)
    cuts = hr.closed()
    tracks = [Track("hr", videos[0].index, [cuts[time] for time in begins])]
    if lr is not None:
        tracks[0].called = "TDS HR"
        cuts = lr.closed()
        own = sorted(cuts)
        starts = [cuts[own[bisect_left(own, time)]] for time in begins[1:]]
        tracks.append(Track("lr", videos[1].index, [0, *starts], called="TDS LR"))
    for number, index in enumerate(sound):
        if times := heard[index]:
            starts = [bisect_left(times, time) for time in begins[1:]]
            tracks.append(Track(f"sound{number}", index, [0, *starts]))
    return tracks


def _begins(path: str, hr: _Coded, lr: _Coded | None, seconds: Fraction) -> list[Fraction]:
    """Times of the HR pictures with which segments begin."""
    if not hr.times or (lr is not None and not lr.times):
        raise InputError(f"{path} has a video track without pictures; there is nothing to cut")
    first, places = min(hr.times), set(hr.closed())
    if first not in places or (lr is not None and min(lr.times) not in lr.closed()):
        raise InputError(
            f"{path} does not begin with a random-access picture of each track, so no player could "
            "begin there; package the file as tds encode wrote it"
        )
    if lr is not None:
        hr_shown, lr_shown, cuts = sorted(hr.times), sorted(lr.times), lr.closed()
        places = {
            time
            for time in places
            # A group begins with it: LR comes before the next HR, and can be cut there too.
            if (at := bisect_left(lr_shown, time)) < len(lr_shown)
            and lr_shown[at] in cuts
            and bisect_right(hr_shown, time) >= bisect_left(hr_shown, lr_shown[at])
        }
    begins = [first]
    for time in sorted(places):
        if time - begins[-1] >= seconds:
            begins.append(time)
    return begins


# ---------------------------------------------------------------- fragments --


def _write(folder: Path, container: InputContainer, track: Track) -> None:
    """Writes a track's segments, and into ``track`` what the manifests say of them."""
    folder.mkdir()
    stream = container.streams[track.index]
    unit = exact(stream.time_base or 1)
    track.timescale = _timescale(unit)
    _describe(track, stream)
    for number, packets in enumerate(_segments(container, stream, track.starts)):
        first = packets[0]
        assert first.pts is not None
        begin = first.pts * exact(first.time_base) * track.timescale
        if begin < 0:
            raise InputError(
                f"{container.name}: a track begins before 0, which segments cannot; copy it first: "
                "tds ffmpeg -i IN -map 0 -c copy OUT.mp4"
            )
        track.begins.append(round(begin))
        last = max(packets, key=lambda p: p.pts or 0)
        track.end = round(((last.pts or 0) + (last.duration or 0)) * unit * track.timescale)
        made = _fragment(packets, stream, track.timescale, track.called)
        header = made.index(b"moof") - 4
        if number == 0:
            (folder / INIT).write_bytes(made[:header])
        body = _placed(made[header:], number + 1, round(begin))
        (folder / (SEGMENT % (number + 1))).write_bytes(body)
        track.sizes.append(len(body))


def _segments(
    container: InputContainer, stream: Stream, starts: Sequence[int]
) -> Iterator[list[Packet[Any]]]:
    coming = (p for p in packets_of(container, stream) if p.size and p.pts is not None)
    if stream.type == "audio":
        coming = not_before(coming, lambda: Fraction(0))  # type: ignore[assignment]
    segment: list[Packet[Any]] = []
    begins = set(starts[1:])
    for number, packet in enumerate(coming):
        if number in begins and segment:
            yield segment
            segment = []
        segment.append(packet)
    if segment:
        yield segment


def _fragment(packets: Sequence[Packet[Any]], stream: Stream, timescale: int, name: str) -> bytes:
    """A fragmented MP4 file of these packets alone."""
    made = io.BytesIO()
    options = {**_MUXER, "movie_timescale": str(timescale)}
    if stream.type == "video":
        options["video_track_timescale"] = str(timescale)
    with av.open(made, "w", format=MP4.muxer, options=options) as out:
        target: Stream
        if isinstance(stream, VideoStream):
            target = add_copy(out, stream)
            if name:
                target.metadata[MP4.track_name] = name
        else:
            target = add_copied(out, stream)
        for packet in packets:
            packet.stream = target
            out.mux(packet)
    return made.getvalue()


def _placed(data: bytes, number: int, begin: int) -> bytes:
    """Fragments with their number, and their time in the track, which a file of its own begins
    at 0 (ISO/IEC 14496-12, 8.8.5 and 8.8.12)."""
    made = bytearray(data)
    at = made.index(b"mfhd") + 8
    made[at : at + 4] = number.to_bytes(4, "big")
    at = made.index(b"tfdt") + 4
    if made[at] != 1:
        raise AssertionError("FFmpeg writes decoding times of 64 bits")
    made[at + 4 : at + 12] = begin.to_bytes(8, "big")
    return bytes(made)


def _timescale(unit: Fraction) -> int:
    """Ticks a second as FFmpeg's muxer has them for times in ``unit``."""
    scale = unit.denominator
    while scale < 10_000:
        scale *= 2
    return scale


def _describe(track: Track, stream: Stream) -> None:
    track.codecs = codecs_of(stream.codec_context)
    said = tags(stream.metadata)
    language = said.get("language", "")
    track.language = "" if language == "und" else language
    track.title = said.get("title", "")
    if isinstance(stream, VideoStream):
        track.width, track.height = stream.codec_context.width, stream.codec_context.height
    elif isinstance(stream, AudioStream):
        track.rate = stream.codec_context.sample_rate
        track.timescale = track.rate
