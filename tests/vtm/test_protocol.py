# SPDX-License-Identifier: LGPL-2.1-or-later
"""The picture protocol, y4m and raw yuv as they arrive at a descriptor."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
import time
from contextlib import suppress
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from postdec_helpers import MakePair

from tds.errors import ExternalError, InputError
from tds.media.planar import picture_size
from tds.plan import Role
from tds.postdec import protocol
from tds.postdec.protocol import MessageType, ProtocolError
from tds.postdec.streams import (
    Format,
    Picture,
    PictureStream,
    Stopped,
    StreamEnded,
    parse_y4m_header,
    y4m_shape,
)

HELLO = struct.pack("<4sBBHQ", b"TDSP", 1, 1, 0, 64) + b"\0test".ljust(64, b"\0")


def message(kind: int, payload: bytes) -> bytes:
    return struct.pack("<4sBBHQ", b"TDSP", 1, kind, 0, len(payload)) + payload


def picture(ordinal: int, width: int = 16, height: int = 16, depth: int = 8) -> bytes:
    size = picture_size(width, height, depth)
    samples = bytes((ordinal + i) % 251 for i in range(size))
    return message(2, struct.pack("<IIIIqq", width, height, depth, 0, ordinal, 0) + samples)


def end(count: int) -> bytes:
    return message(3, struct.pack("<Q", count))


def stream_of(data: bytes, timeout: float = 5, format: Format | None = None) -> PictureStream:
    """A stream of bytes that are all there, written by a thread, and then end."""
    ours, theirs = os.pipe()

    def write() -> None:
        try:
            with os.fdopen(theirs, "wb") as file:
                file.write(data)
        except BrokenPipeError:
            pass

    threading.Thread(target=write, daemon=True).start()
    return PictureStream(ours, "the HR decoder (test)", timeout, format, Role.HR)


def read(data: bytes, **options: object) -> list[Picture]:
    stream = stream_of(data, **options)  # type: ignore[arg-type]
    try:
        return list(stream)
    finally:
        stream.close()


def test_pictures_arrive_whole_and_in_order() -> None:
    got = read(HELLO + picture(0) + picture(1) + end(2))
    assert [bytes(p.data[:3]) for p in got] == [b"\0\1\2", b"\1\2\3"]
    assert [p.shape for p in got[0].planes] == [(16, 16), (8, 8), (8, 8)]


def test_a_stream_without_pictures_is_one() -> None:
    assert read(HELLO + end(0)) == []


def test_samples_above_8_bits_are_16_bit_little_endian() -> None:
    (got,) = read(HELLO + picture(0, depth=10) + end(1))
    assert got.planes[0].dtype == np.dtype("<u2")
    assert got.planes[0][0, 0] == 0x0100


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (HELLO[:4] + b"\2" + HELLO[5:], "version 2"),
        (message(9, b""), "unknown type 9"),
        (picture(0), "first message is PICTURE"),
        (HELLO + HELLO, "HELLO in the middle"),
        (HELLO + picture(1), "says it is 1"),
        (HELLO + picture(0) + end(2), "sent 2 pictures and 1 arrived"),
        (HELLO + message(2, struct.pack("<IIIIqq", 15, 16, 8, 0, 0, 0)), "15x16"),
        (HELLO + message(2, struct.pack("<IIIIqq", 16, 16, 7, 0, 0, 0)), "7 bits"),
        (
            HELLO + message(2, struct.pack("<IIIIqq", 1 << 30, 16, 8, 0, 0, 0)),
            "1073741824x16",
        ),
        (
            HELLO + message(2, struct.pack("<IIIIqq", 16, 16, 8, 0, 0, 0) + b"x"),
            "sent 1 bytes",
        ),
        (
            HELLO + struct.pack("<4sBBHQ", b"TDSP", 1, 2, 0, 1 << 60),
            "1152921504606846976 bytes",
        ),
        (HELLO[:16] + b"\1" + HELLO[17:] + end(0), "says it is LR"),
        (HELLO[:16] + b"\7" + HELLO[17:] + end(0), "role is 7"),
        (HELLO + b"junkjunkjunkjunk", "not the TDS picture protocol"),
        (HELLO + message(4, b"no more memory"), "gave up: no more memory"),
    ],
)
def test_bytes_that_break_the_protocol_name_the_decoder_and_the_fault(
    data: bytes, what: str
) -> None:
    with pytest.raises(ExternalError, match=r"the HR decoder \(test\)") as e:
        read(data)
    assert what in str(e.value)


@pytest.mark.parametrize("cut", [0, 3, 10, 40, 80, 85, 100, 150, 500])
def test_bytes_that_end_early_are_no_end(cut: int) -> None:
    with pytest.raises(StreamEnded):
        read((HELLO + picture(0))[:cut])


@given(
    data=st.binary(max_size=300),
    start=st.sampled_from([b"", b"TDSP", HELLO, HELLO + picture(0)]),
)
def test_no_bytes_do_more_than_raise(data: bytes, start: bytes) -> None:
    with suppress(ExternalError, InputError, StreamEnded):
        read(start + data, format=Format(16, 16, 8))


@given(st.binary(min_size=16, max_size=16))
def test_no_head_announces_more_than_a_picture(head: bytes) -> None:
    try:
        kind, size = protocol.parse_head(b"TDSP\1" + head[5:])
    except ProtocolError:
        return
    assert kind in MessageType
    assert size <= 32 + 16384 * 16384 * 3


def test_a_stream_that_stalls_is_ended_and_says_where() -> None:
    ours, theirs = os.pipe()
    os.write(theirs, HELLO + picture(0) + picture(1)[:100])
    stream = PictureStream(ours, "the HR decoder (test)", 0.3)
    begun = time.monotonic()
    with pytest.raises(ExternalError, match=r"wrote nothing for 0.3 s, in the middle of picture 1"):
        list(stream)
    assert time.monotonic() - begun < 5
    stream.close()
    os.close(theirs)


def test_interrupt_ends_a_read_that_waits() -> None:
    ours, theirs = os.pipe()
    stream = PictureStream(ours, "x", 60)
    threading.Timer(0.2, stream.interrupt).start()
    with pytest.raises(Stopped):
        list(stream)
    stream.close()
    os.close(theirs)


def test_closing_twice_touches_no_descriptor_of_others() -> None:
    ours, theirs = os.pipe()
    stream = PictureStream(ours, "x", 60)
    stream.close()
    others = [os.open("/dev/null", os.O_RDWR) for _ in range(4)]  # the numbers that became free
    stream.interrupt()
    stream.close()
    for fd in (*others, theirs):
        os.close(fd)  # raises if it is closed already


def test_y4m_says_the_shape_of_samples_and_their_range() -> None:
    assert y4m_shape(b"YUV4MPEG2 W8 H8 F25:1 A4:3 XCOLORRANGE=FULL") == (Fraction(4, 3), True)
    for unknown in (b"", b" A0:0", b" A", b" Ax:1 XCOLORRANGE=LIMITED"):
        assert y4m_shape(b"YUV4MPEG2 W8 H8" + unknown) == (None, False)


def test_y4m_is_known_by_its_first_bytes() -> None:
    samples = bytes(range(96))
    got = read(
        b"YUV4MPEG2 W8 H8 F30000:1001 Ip C420mpeg2\nFRAME\n" + samples + b"FRAME Ix\n" + samples
    )
    assert [bytes(p.data) for p in got] == [samples, samples]
    stream = stream_of(b"YUV4MPEG2 W8 H8 F30000:1001\n")
    assert list(stream) == []
    assert stream.rate == Fraction(30000, 1001)


def test_raw_yuv_needs_its_format() -> None:
    samples = bytes(range(96))
    assert [bytes(p.data) for p in read(samples * 2, format=Format(8, 8, 8))] == [samples] * 2
    with pytest.raises(InputError, match="says nothing of its size"):
        read(samples * 2)


@pytest.mark.parametrize("cut", [5, 97, 191])
def test_half_a_raw_picture_is_no_picture(cut: int) -> None:
    with pytest.raises(StreamEnded):
        read(bytes(192)[:cut], format=Format(8, 8, 8))


@pytest.mark.parametrize(
    ("header", "what"),
    [
        (b"YUV4MPEG2 W8 H8 C444", "444"),
        (b"YUV4MPEG2 W8 H8 C420p12", "420p12"),
        (b"YUV4MPEG2 W8 H8 It", "interlaced"),
        (b"YUV4MPEG2 W7 H8", "7x8"),
        (b"YUV4MPEG2 W8", "damaged"),
        (b"YUV4MPEG2 W8 H8 Fx", "damaged"),
    ],
)
def test_y4m_that_tds_does_not_take_is_refused(header: bytes, what: str) -> None:
    with pytest.raises(InputError, match=what):
        parse_y4m_header(header, "x")


def test_a_10_bit_y4m_header_of_any_writer_is_understood() -> None:
    for chroma in (b"C420p10", b"C420p10 XYSCSS=420P10", b"XYSCSS=420P10 C420p10"):
        format, _ = parse_y4m_header(b"YUV4MPEG2 W8 H8 F25:1 Ip " + chroma, "x")
        assert format == Format(8, 8, 10)


# -- the header the decoders use, through push_y4m ----------------------------


@pytest.fixture
def connection() -> tuple[int, int]:
    a, b = socket.socketpair()
    return a.detach(), b.detach()


@pytest.mark.parametrize("depth", [8, 10])
def test_the_glue_header_sends_what_it_was_given(
    pusher: str, make_pair: MakePair, connection: tuple[int, int], depth: int
) -> None:
    pair = make_pair(frames=6, depth=depth)
    ours, theirs = connection
    program = pusher.split()[0]
    process = subprocess.Popen(
        [program, f"fd:{theirs}", "hr", str(pair.hr)],
        pass_fds=(theirs,),
        stdin=subprocess.DEVNULL,
    )
    os.close(theirs)
    stream = PictureStream(ours, "x", 10)
    got = list(stream)
    stream.close()
    assert process.wait(10) == 0
    assert stream.program == "push_y4m"
    wanted = [s for s, r in zip(pair.source, pair.roles, strict=True) if r is Role.HR]
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted, strict=True):
        for plane, other in zip(a.planes, b, strict=True):
            assert np.array_equal(plane, other)


@pytest.mark.parametrize(
    ("session", "role", "what"),
    [
        ("tcp:1", "hr", "no session address"),
        ("fd:x", "hr", "no session address"),
        ("fd:", "hr", "no session address"),
        ("fd:987", "hr", "descriptor 987 of the session address is not open"),
        (
            "unix:/nonexistent/socket",
            "hr",
            "no enhancer listens at /nonexistent/socket",
        ),
        ("unix:" + "x" * 200, "hr", "too long"),
        ("fd:1", "main", 'role of this decoder is "main"'),
    ],
)
def test_a_decoder_that_cannot_connect_says_why(
    pusher: str, make_pair: MakePair, session: str, role: str, what: str
) -> None:
    pair = make_pair(frames=6)
    done = subprocess.run(
        [pusher.split()[0], session, role, str(pair.hr)],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 1
    assert what in done.stderr


def test_a_decoder_whose_enhancer_goes_away_ends_with_a_sentence(
    pusher: str, make_pair: MakePair, connection: tuple[int, int]
) -> None:
    pair = make_pair(frames=100, size=(256, 256))
    ours, theirs = connection
    process = subprocess.Popen(
        [pusher.split()[0], f"fd:{theirs}", "hr", str(pair.hr)],
        pass_fds=(theirs,),
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(theirs)
    os.read(ours, 1000)
    os.close(ours)
    _, words = process.communicate(timeout=20)
    assert process.returncode == 1  # and not by SIGPIPE
    assert "the enhancer closed the connection" in words


def test_a_wait_for_bytes_that_do_not_come_ends_when_it_is_interrupted() -> None:
    """Of a decoder that somebody else started, which nobody ends when the output is closed."""
    reading, writing = os.pipe()
    stream = PictureStream(reading, "the decoder", 30)
    ended = threading.Event()

    def read() -> None:
        with suppress(Stopped):
            next(iter(stream))
        ended.set()

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    stream.interrupt()
    try:
        assert ended.wait(10)
    finally:
        os.close(writing)
        thread.join()
        stream.close()
