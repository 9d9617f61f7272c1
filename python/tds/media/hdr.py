# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a video of high dynamic range says beside its colour tags: of the display it was mastered
on, and of how light it gets. Read of a picture, told to encoders and written to containers."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from io import BytesIO

import av
from av.buffer import Buffer
from av.container import InputContainer
from av.video.frame import VideoFrame

PQ, HLG = "smpte2084", "arib-std-b67"
_NAMES = {PQ: "PQ", HLG: "HLG"}

_CHROMA, _LUMINANCE = 50_000, 10_000  # units of H.265's mastering_display_colour_volume
_PARAMETERS = {  # of encoders in PyAV: the list, and what stands in it for display and light
    "libx265": ("x265-params", "master-display", "max-cll"),
    "libx264": ("x264-params", "mastering-display", "cll"),
}


@dataclass(frozen=True)
class HDR:
    """Static metadata (SMPTE ST 2086, CTA-861.3).

    display: x and y of green, blue, red and white in 1/50000, then the greatest and the least
    luminance in 1/10000 cd/m2; None: not said. light: the lightest sample, and the mean of the
    lightest picture, cd/m2; None: not said.
    """

    display: tuple[int, ...] | None = None
    light: tuple[int, int] | None = None

    def __bool__(self) -> bool:
        return self.display is not None or self.light is not None

    @property
    def display_text(self) -> str:
        """ "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)", as FFmpeg,
        x264 and x265 take it; "": not said."""
        if self.display is None:
            return ""
        return "G({},{})B({},{})R({},{})WP({},{})L({},{})".format(*self.display)

    @property
    def light_text(self) -> str:
        """ "1000,400"; "": not said."""
        return "" if self.light is None else "{},{}".format(*self.light)

    def arguments(self) -> list[str]:
        """Of an ffmpeg program, before its input (media.programs.takes_hdr)."""
        said = (("-mastering_display", self.display_text), ("-content_light", self.light_text))
        return [word for option, text in said if text for word in (option, text)]

    def told(self, encoder: str, options: dict[str, str]) -> dict[str, str]:
        """``options`` of an encoder of PyAV, with this for those that write it into the stream."""
        if not self or encoder not in _PARAMETERS:
            return options
        name, display, light = _PARAMETERS[encoder]
        said = ((display, self.display_text), (light, self.light_text))
        params = [f"{key}={text}" for key, text in said if text]
        given = options.get(name)
        return {**options, name: ":".join([*params, *([given] if given else [])])}


def hdr_of(frame: VideoFrame) -> HDR:
    """What a decoded picture says."""
    display = light = None
    data = frame.side_data.get("MASTERING_DISPLAY_METADATA")
    if isinstance(data, Buffer):
        # AVMasteringDisplayMetadata: red, green, blue, white, the least and the greatest luminance.
        *numbers, has_primaries, has_luminance = struct.unpack("22i", bytes(data)[:88])
        if has_primaries and has_luminance:
            ratios = list(zip(numbers[::2], numbers[1::2], strict=True))
            units = [_CHROMA] * 8 + [_LUMINANCE] * 2
            scaled = [
                (2 * n * unit + d) // (2 * d) if d > 0 else 0
                for (n, d), unit in zip(ratios, units, strict=True)
            ]
            red, rest, white, (least, most) = scaled[:2], scaled[2:6], scaled[6:8], scaled[8:]
            display = (*rest, *red, *white, most, least)
    data = frame.side_data.get("CONTENT_LIGHT_LEVEL")
    if isinstance(data, Buffer):
        most, mean = struct.unpack("2I", bytes(data)[:8])
        light = (most, mean) if most or mean else None
    return HDR(display, light)


def name_of(transfer: str, hdr: HDR) -> str:
    """ "HDR10", "PQ" or "HLG"; "": the video is of standard dynamic range. transfer: FFmpeg's
    name."""
    return "HDR10" if transfer == PQ and hdr else _NAMES.get(transfer, "")


def untrained(transfer: str) -> list[str]:
    """What is to be said where a model makes pictures of such a video; nothing of most."""
    if transfer not in _NAMES:
        return []
    return [
        f"the video is of high dynamic range ({_NAMES[transfer]}), and models were trained on "
        "standard range: what they gain here is not what is published"
    ]


def with_hdr(header: bytes, hdr: HDR) -> InputContainer:
    """An open file whose video stream is as ``header`` says, with HDR metadata: PyAV can write it
    to a container from such a template alone. header: the beginning of a Matroska file with one
    stream and without checksums."""
    more = b""
    if hdr.light is not None:
        for key, value in zip((b"\x55\xbc", b"\x55\xbd"), hdr.light, strict=True):
            more += _element(key, value.to_bytes(4, "big"))
    if hdr.display is not None:
        green, blue, red, white = (hdr.display[i : i + 2] for i in (0, 2, 4, 6))
        chroma = [v / _CHROMA for v in (*red, *green, *blue, *white)]
        values = [*chroma, *(v / _LUMINANCE for v in hdr.display[8:])]
        display = b"".join(
            _element(bytes((0x55, 0xD1 + i)), struct.pack(">d", value))
            for i, value in enumerate(values)
        )
        more += _element(b"\x55\xd0", display)
    path = (_SEGMENT, b"\x16\x54\xae\x6b", b"\xae", b"\xe0", b"\x55\xb0")
    cluster = _element(b"\x1f\x43\xb6\x75", _element(b"\xe7", b"\x00"))  # where readers stop
    return av.open(BytesIO(_grown(header + cluster, path, more)), "r", format="matroska")


_SEGMENT = b"\x18\x53\x80\x67"


def _element(key: bytes, payload: bytes) -> bytes:
    """One element of Matroska: id, size in 8 bytes, payload."""
    return key + (len(payload) | 1 << 56).to_bytes(8, "big") + payload


def _grown(data: bytes, path: tuple[bytes, ...], more: bytes) -> bytes:
    """Elements with ``more`` behind what is in the one at ``path``, which is made where it is not
    there."""
    if not path:
        return data + more
    at = 0
    while at < len(data):
        length = 9 - data[at].bit_length()
        key = data[at : at + length]
        width = 9 - data[at + length].bit_length()
        begin = at + length + width
        size = int.from_bytes(data[at + length : begin], "big") & ((1 << 7 * width) - 1)
        unknown = size == (1 << 7 * width) - 1
        end = len(data) if unknown else begin + size
        if key == path[0]:
            inner = _grown(data[begin:end], path[1:], more)
            return data[:at] + _element(key, inner) + data[end:]
        at = end
    return data + _element(path[0], _grown(b"", path[1:], more))
