# SPDX-License-Identifier: LGPL-2.1-or-later
"""The HLS and the DASH manifest over the segments of one TDS file. Specification:
docs/streaming.md."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from math import ceil
from typing import Any
from xml.sax.saxutils import quoteattr

from ..media.manifests import DASH, DASH_TAG, HLS, encoded

MASTER, MANIFEST = f"master{HLS}", f"manifest{DASH}"
LR_SCHEME = "urn:tds:lr"
"""Of the property without which nobody is to show the LR track; players leave out what they do not
know (ISO/IEC 23009-1, 5.8.4.8)."""
SEGMENT = "segment_%05d.m4s"
INIT = "init.mp4"


@dataclass
class Track:
    """One track as it is written. name: of its folder. index: of its stream in the file."""

    name: str
    index: int
    starts: list[int]  # the number of each segment's first packet, among those of the stream
    codecs: str = ""
    language: str = ""
    title: str = ""
    called: str = ""  # in the file, to people
    timescale: int = 1
    begins: list[int] = field(default_factory=list)  # of segments, by the timescale
    end: int = 0
    sizes: list[int] = field(default_factory=list)
    width: int = 0
    height: int = 0
    rate: int = 0  # of sound

    @property
    def lasts(self) -> list[Fraction]:
        """Seconds of each segment."""
        return [Fraction(b - a, self.timescale) for a, b in pairwise([*self.begins, self.end])]

    @property
    def bandwidth(self) -> int:
        """Bits a second of the segment that has most."""
        rates = (8 * n / last for n, last in zip(self.sizes, self.lasts, strict=True) if last)
        return ceil(max(rates, default=Fraction(1)))


_SOUND = {
    "aac": "mp4a.40.2",
    "mp3": "mp4a.40.34",
    "ac3": "ac-3",
    "eac3": "ec-3",
    "opus": "Opus",
    "flac": "fLaC",
    "alac": "alac",
}


def codecs_of(context: Any) -> str:
    """RFC 6381's name of a track's codec; "" where it is not known."""
    name, data = context.codec.canonical_name, bytes(context.extradata or b"")
    if name == "h264" and len(data) >= 4 and data[0] == 1:
        return f"avc1.{data[1:4].hex()}"
    if name == "hevc" and len(data) >= 13 and data[0] == 1:
        space = ("", "A", "B", "C")[data[1] >> 6]
        flags = int(f"{int.from_bytes(data[2:6], 'big'):032b}"[::-1], 2)
        constraints = data[6:12].rstrip(b"\0")
        tier = "H" if data[1] & 0x20 else "L"
        parts = [f"hvc1.{space}{data[1] & 0x1F}", f"{flags:X}", f"{tier}{data[12]}"]
        return ".".join([*parts, *(f"{byte:X}" for byte in constraints)])
    if name == "av1" and len(data) >= 4 and data[0] == 0x81:
        depth = 10 if data[2] & 0x40 else 8
        tier = "H" if data[2] & 0x80 else "M"
        return f"av01.{data[1] >> 5}.{data[1] & 0x1F:02d}{tier}.{depth:02d}"
    if name == "vvc":
        return "vvc1"
    return _SOUND.get(name, "")


def _text(value: str) -> str:
    """For a quoted string of a playlist."""
    return re.sub(r'[\x00-\x1f"]', "", value)


def _by_kind(tracks: Sequence[Track]) -> tuple[Track, Track | None, list[Track]]:
    lr = next((track for track in tracks if track.name == "lr"), None)
    return tracks[0], lr, [track for track in tracks if track.rate]


def master(tracks: Sequence[Track], tag: str) -> str:
    hr, lr, sound = _by_kind(tracks)
    lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-INDEPENDENT-SEGMENTS"]
    if tag:
        lines.append(f'#EXT-X-SESSION-DATA:DATA-ID="tds",VALUE="{encoded(tag)}"')
    for number, track in enumerate(sound):
        first = "YES" if number == 0 else "NO"
        language = f',LANGUAGE="{_text(track.language)}"' if track.language else ""
        lines.append(
            f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="sound",NAME="{_text(track.title) or track.name}"'
            f'{language},DEFAULT={first},AUTOSELECT=YES,URI="{track.name}{HLS}"'
        )
    rate = hr.bandwidth + max((track.bandwidth for track in sound), default=0)
    names = dict.fromkeys(track.codecs for track in (hr, *sound))
    known = f',CODECS="{",".join(names)}"' if all(names) else ""
    groups = (',AUDIO="sound"' if sound else "") + (',VIDEO="tds"' if lr else "")
    if lr is not None:
        lines.append(
            '#EXT-X-MEDIA:TYPE=VIDEO,GROUP-ID="tds",NAME="TDS HR",DEFAULT=YES,AUTOSELECT=YES'
        )
    lines += [
        f"#EXT-X-STREAM-INF:BANDWIDTH={rate},RESOLUTION={hr.width}x{hr.height}{known}{groups}",
        f"{hr.name}{HLS}",
    ]
    if lr is not None:  # behind HR, which so is the first for all who read
        lines.append(
            '#EXT-X-MEDIA:TYPE=VIDEO,GROUP-ID="tds",NAME="TDS LR",DEFAULT=NO,AUTOSELECT=NO,'
            f'URI="{lr.name}{HLS}"'
        )
    return "\n".join(lines) + "\n"


def playlist(track: Track) -> str:
    lasts = track.lasts
    lines = [
        "#EXTM3U",
        "#EXT-X-VERSION:7",
        f"#EXT-X-TARGETDURATION:{ceil(max(lasts))}",
        "#EXT-X-MEDIA-SEQUENCE:1",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        f'#EXT-X-MAP:URI="{track.name}/{INIT}"',
    ]
    for number, last in enumerate(lasts, 1):
        lines += [f"#EXTINF:{float(last):.6f},", f"{track.name}/{SEGMENT % number}"]
    return "\n".join([*lines, "#EXT-X-ENDLIST"]) + "\n"


def manifest(tracks: Sequence[Track], tag: str) -> str:
    hr, lr, _ = _by_kind(tracks)
    end = max(Fraction(track.end, track.timescale) for track in tracks)
    longest = max(last for track in tracks for last in track.lasts)
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"',
        '  profiles="urn:mpeg:dash:profile:isoff-live:2011"',
        f'  mediaPresentationDuration="PT{float(end):.6f}S"',
        f'  minBufferTime="PT{float(longest):.3f}S">',
        '<Period id="0" start="PT0S">',
    ]
    for number, track in enumerate(tracks):
        lines += _adaptation(number, track, hr if track is lr else None)
    lines.append("</Period>")
    if tag:
        lines.append(f'<SupplementalProperty schemeIdUri="{DASH_TAG}" value="{encoded(tag)}"/>')
    return "\n".join([*lines, "</MPD>"]) + "\n"


def _adaptation(number: int, track: Track, depends: Track | None) -> list[str]:
    kind = "audio" if track.rate else "video"
    language = f" lang={quoteattr(track.language)}" if track.language else ""
    size = (
        f' audioSamplingRate="{track.rate}"'
        if track.rate
        else (f' width="{track.width}" height="{track.height}"')
    )
    named = f" codecs={quoteattr(track.codecs)}" if track.codecs else ""
    on = f' dependencyId="{depends.name}"' if depends is not None else ""
    lines = [
        f'<AdaptationSet id="{number}" contentType="{kind}" mimeType="{kind}/mp4"{language}'
        ' segmentAlignment="true" startWithSAP="1">',
    ]
    if depends is not None:
        lines.append(f'<EssentialProperty schemeIdUri="{LR_SCHEME}" value="{depends.name}"/>')
    lines += [
        f'<Representation id="{track.name}" bandwidth="{track.bandwidth}"{named}{size}{on}>',
        f'<SegmentTemplate timescale="{track.timescale}" startNumber="1"'
        f' initialization="$RepresentationID$/{INIT}"'
        f' media="$RepresentationID$/{SEGMENT.replace("%05d", "$Number%05d$")}">',
        "<SegmentTimeline>",
    ]
    for begin, after in pairwise([*track.begins, track.end]):
        lines.append(f'<S t="{begin}" d="{after - begin}"/>')
    return [
        *lines,
        "</SegmentTimeline>",
        "</SegmentTemplate>",
        "</Representation>",
        "</AdaptationSet>",
    ]
