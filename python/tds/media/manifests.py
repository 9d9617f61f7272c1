# SPDX-License-Identifier: LGPL-2.1-or-later
"""HLS and DASH manifests: the tag of TDS in them, and DASH for an FFmpeg that reads HLS alone.

PyAV's FFmpeg has no DASH demuxer; a static manifest says the same as a playlist for each
representation does, and is read as such.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import PurePosixPath
from urllib.parse import unquote, urljoin, urlsplit
from xml.etree import ElementTree

from ..errors import InputError

HLS, DASH = ".m3u8", ".mpd"
DASH_TAG = "urn:tds:tag"
"""Scheme of the property whose value is the tag."""
_SESSION_DATA = re.compile(r'^#EXT-X-SESSION-DATA:(?=.*DATA-ID="tds")(?:.*,)?VALUE="([^"]*)"', re.M)
MOST_PLAYLISTS = 256  # of one manifest; FFmpeg takes minutes for many more, which nothing ends
_MOST_SEGMENTS = 100_000  # of all representations
_LONGEST_ADDRESS = 2048


def manifest_kind(path: str) -> str:
    """HLS or DASH, by the suffix of a file's name or of an address; "" for what is no manifest."""
    name = urlsplit(path).path if "://" in path else path
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if suffix in (HLS, DASH) else ""


def encoded(tag: str) -> str:
    """A tag for a manifest; its quotation marks would end an attribute."""
    return base64.b64encode(tag.encode()).decode()


def tag_in(text: str) -> str | None:
    """The text of the tag in a manifest; None: there is none."""
    found = _SESSION_DATA.search(text)
    if found is None:
        found = re.search(rf'schemeIdUri="{DASH_TAG}"\s+value="([^"]*)"', text)
    if found is None:
        return None
    try:
        return base64.b64decode(found[1], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return found[1]  # for the reader of tags to refuse


def is_live(text: str) -> bool:
    """Whether a media playlist goes on being written."""
    return "#EXTINF" in text and "#EXT-X-ENDLIST" not in text


def media_playlists(text: str, base: str) -> list[str]:
    """Addresses of the media playlists that a master playlist names; none of a media playlist."""
    if "#EXTINF" in text:
        return []
    lines = [line.strip() for line in text.splitlines()]
    named = [line for line in lines if line and not line.startswith("#")]
    named += re.findall(r'^#EXT-X-MEDIA:.*URI="([^"]*)"', text, re.M)
    return [urljoin(base, name) for name in named]


def check_count(path: str, playlists: int) -> None:
    """Raises InputError for a manifest of more than any video has."""
    if playlists > MOST_PLAYLISTS:
        raise InputError(
            f"{path} names {playlists} tracks, and at most {MOST_PLAYLISTS} are read; name the "
            "playlist of one"
        )


@dataclass(frozen=True)
class Representation:
    """One of a DASH manifest. kind: "video" or "audio". init, segments: addresses. lasts: seconds
    of each segment. depends: on another one."""

    id: str
    kind: str
    init: str
    segments: tuple[str, ...]
    lasts: tuple[Fraction, ...]
    depends: bool

    def playlist(self) -> str:
        lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-TARGETDURATION:1"]
        lines += ["#EXT-X-PLAYLIST-TYPE:VOD", f'#EXT-X-MAP:URI="{self.init}"']
        for last, address in zip(self.lasts, self.segments, strict=True):
            lines += [f"#EXTINF:{float(last):.6f},", address]
        return "\n".join([*lines, "#EXT-X-ENDLIST", ""])


def representations(text: str, path: str, base: str) -> list[Representation]:
    """The video and the sound of a DASH manifest, video first. base: what its addresses are
    relative to. Raises InputError for one that is not understood."""
    try:
        root = ElementTree.fromstring(text.encode())
    except (ElementTree.ParseError, LookupError, ValueError) as e:  # an encoding that is unknown
        raise InputError(f"{path} is no DASH manifest ({e}); check its address") from e
    _strip_namespaces(root)
    periods = root.findall("Period")
    if root.tag != "MPD" or not periods:
        raise InputError(f"{path} is no DASH manifest, or has no period; check its address")
    if root.get("type") == "dynamic":
        raise InputError(
            f"{path} is a live DASH manifest, which is read by the filter alone (tds ffmpeg -i "
            f"{path}); name the HLS playlist beside it"
        )
    if len(periods) > 1:
        raise InputError(f"{path} has {len(periods)} periods, and one is read; name one of HLS")
    # By where the manifest is, whatever it says of itself.
    places = _Places(path, urlsplit(base).scheme)
    base = _based(periods[0], _based(root, base))
    sets = periods[0].findall("AdaptationSet")
    check_count(path, sum(len(one.findall("Representation")) for one in sets))
    found = [r for one in sets for r in _of_set(one, base, places)]
    return sorted(found, key=lambda r: (r.kind != "video", r.depends))


@dataclass
class _Places:
    """Where segments of the manifest ``path`` may lie: on the web, or at addresses of ``scheme``,
    its own. left: how many more of them are read."""

    path: str
    scheme: str
    left: int = _MOST_SEGMENTS

    def address(self, base: str, name: str) -> str:
        """Raises InputError for one that a playlist must not name."""
        address = urljoin(base, name)
        scheme = urlsplit(address).scheme
        if scheme == "file":  # which FFmpeg takes as it stands
            address = unquote(address)
        said = address[:80] if address.isprintable() else repr(address[:80])
        if scheme not in ("http", "https", self.scheme):
            raise InputError(
                f"{self.path}: its segment {said} is not at an address of the web; it is not read"
            )
        if len(address) > _LONGEST_ADDRESS or not address.isprintable() or '"' in address:
            raise InputError(f"{self.path}: its segment {said} is at no address; it is not read")
        return address


def _of_set(sets: ElementTree.Element, base: str, places: _Places) -> Iterator[Representation]:
    base = _based(sets, base)
    for one in sets.findall("Representation"):
        mime = one.get("mimeType") or sets.get("mimeType") or sets.get("contentType") or ""
        kind = mime.partition("/")[0]
        if kind not in ("video", "audio"):
            continue
        own = _based(one, base)
        template = one.find("SegmentTemplate")
        template = template if template is not None else sets.find("SegmentTemplate")
        timeline = template.find("SegmentTimeline") if template is not None else None
        if template is None or timeline is None:
            raise InputError(
                f"{places.path}: its representation {one.get('id')} has no SegmentTemplate with a "
                "SegmentTimeline, which is what is read; name the HLS playlist beside it, or "
                "make it with tds package"
            )
        yield _templated(one, template, timeline, own, kind, places)


def _templated(
    one: ElementTree.Element,
    template: ElementTree.Element,
    timeline: ElementTree.Element,
    base: str,
    kind: str,
    places: _Places,
) -> Representation:
    name = one.get("id", "")
    try:
        scale = int(template.get("timescale", "1"))
        number = int(template.get("startNumber", "1"))
        segments: list[str] = []
        lasts: list[Fraction] = []
        time = 0
        for entry in timeline.findall("S"):
            time = int(entry.get("t", time))
            last = int(entry.get("d", ""))
            count = 1 + int(entry.get("r", "0"))
            places.left -= count
            fit = 0 < last < 1 << 53 and 0 <= time < 1 << 62 and 0 < scale < 1 << 32
            if count < 1 or places.left < 0 or not fit:
                raise ValueError
            for _ in range(count):
                media = _filled(template.get("media", ""), name, number, time)
                segments.append(places.address(base, media))
                lasts.append(Fraction(last, scale))
                number, time = number + 1, time + last
    except InputError:
        raise
    except (ValueError, ZeroDivisionError):
        raise InputError(
            f"{places.path}: the segments of its representation {name} are not understood; name "
            "the HLS playlist beside it"
        ) from None
    init = places.address(base, _filled(template.get("initialization", ""), name, 0, 0))
    depends = bool(one.get("dependencyId"))
    return Representation(name, kind, init, tuple(segments), tuple(lasts), depends)


def _filled(template: str, name: str, number: int, time: int) -> str:
    """ISO/IEC 23009-1, 5.3.9.4.4."""

    def value(found: re.Match[str]) -> str:
        what, width = found[1], int(found[2] or 0)
        if what == "RepresentationID":
            return name
        return f"{number if what == 'Number' else time:0{width}d}"

    named = r"\$(RepresentationID|Number|Time)(?:%0(\d)d)?\$"
    return re.sub(named, value, template).replace("$$", "$")


def _based(element: ElementTree.Element, base: str) -> str:
    own = element.findtext("BaseURL")
    return urljoin(base, own.strip()) if own else base


def _strip_namespaces(root: ElementTree.Element) -> None:
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
