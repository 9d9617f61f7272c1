# SPDX-License-Identifier: LGPL-2.1-or-later
"""The wire protocol between a decoder and this program.

Its description is the head of csrc/include/tds/push.h, whose PictureSender
writes what is parsed here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from .._tds import MAX_SIZE
from ..media.planar import picture_size
from ..plan import Role

MAGIC = b"TDSP"
VERSION = 1
HEAD = struct.Struct("<4sBBHQ")
HELLO_SIZE = 64
PICTURE = struct.Struct("<IIIIqq")
END = struct.Struct("<Q")
MAX_SENTENCE = 4096


class MessageType(IntEnum):
    HELLO = 1
    PICTURE = 2
    END = 3
    FAIL = 4


class ProtocolError(ValueError):
    """Bytes that are not this protocol; the text says what is wrong with them."""


@dataclass(frozen=True)
class Hello:
    role: Role
    program: str


@dataclass(frozen=True)
class PictureHead:
    """width, height: luma samples. bit_depth: 8 to 16. ordinal: place in output order."""

    width: int
    height: int
    bit_depth: int
    corrupt: bool
    ordinal: int
    picture_order_count: int

    @property
    def size(self) -> int:
        """Bytes of the samples: planar 4:2:0, 16 bits a sample above 8 bits."""
        return picture_size(self.width, self.height, self.bit_depth)


def parse_head(data: bytes) -> tuple[MessageType, int]:
    """Message type and payload size of 16 bytes."""
    magic, version, kind, _, size = HEAD.unpack(data)
    if magic != MAGIC:
        raise ProtocolError("its bytes are not the TDS picture protocol")
    if version != VERSION:
        raise ProtocolError(
            f"it speaks version {version} of the TDS picture protocol and this program version "
            f"{VERSION}; build the decoder with the tds/push.h of this release"
        )
    try:
        message = MessageType(kind)
    except ValueError:
        raise ProtocolError(f"it sent a message of the unknown type {kind}") from None
    limit = {
        MessageType.HELLO: HELLO_SIZE,
        MessageType.PICTURE: PICTURE.size + picture_size(MAX_SIZE, MAX_SIZE, 16),
        MessageType.END: END.size,
        MessageType.FAIL: MAX_SENTENCE,
    }[message]
    if size > limit or (message is not MessageType.FAIL and size < min(limit, PICTURE.size)):
        raise ProtocolError(f"it sent a {message.name} message of {size} bytes")
    return message, size


def parse_hello(data: bytes) -> Hello:
    if data[0] not in (0, 1):
        raise ProtocolError(f"it says its role is {data[0]}; 0 is HR and 1 is LR")
    name = data[1:].split(b"\0", 1)[0].decode("utf-8", "replace")
    return Hello(Role.LR if data[0] else Role.HR, name)


def parse_picture(data: bytes, payload: int) -> PictureHead:
    """The head of a PICTURE message whose payload has ``payload`` bytes in all."""
    width, height, depth, flags, ordinal, poc = PICTURE.unpack(data)
    if not (2 <= width <= MAX_SIZE and 2 <= height <= MAX_SIZE) or width % 2 or height % 2:
        raise ProtocolError(
            f"it sent a picture of {width}x{height}; sizes are even, 2 to {MAX_SIZE}"
        )
    if not 8 <= depth <= 16:
        raise ProtocolError(f"it sent a picture of {depth} bits")
    head = PictureHead(width, height, depth, bool(flags & 1), ordinal, poc)
    if head.size + PICTURE.size != payload:
        raise ProtocolError(
            f"it sent {payload - PICTURE.size} bytes for a picture of {width}x{height} and "
            f"{depth} bits"
        )
    return head
