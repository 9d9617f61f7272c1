# SPDX-License-Identifier: LGPL-2.1-or-later
"""VTM and HM themselves: coded by their encoders, decoded by their patched decoders.

Run where TDS_VTM_BIN and TDS_HM_BIN name the folders of the built programs (in
their source trees, whose cfg/ is used); skipped elsewhere, saying so. Minutes,
most of them VTM's encoder.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import av
import pytest
from postdec_helpers import pictures, write_y4m

import tds
import tools
from tds.codecs import ADAPTERS
from tds.container.sidecar import read_sidecar
from tds.errors import ExternalError, MissingError
from tds.plan import Role
from tds.postdec import PostdecSettings, postdec
from tds.postdec.decoders import is_patched

FRAMES = 9
SIZE = (130, 70)  # no multiple of 8 in HR nor in LR: both need conformance cropping
BICUBIC = tds.EnhanceSettings(backend="bicubic")


@dataclass
class Coded:
    mp4: Path
    sidecar: Path
    hr: Path
    lr: Path


def code(folder: Path, encoder: str, codec: str, binary: Path | None, **options: object) -> Coded:
    """A raw pair and its sidecar, and the same two streams muxed to MP4."""
    depth = int(options.pop("depth", 8))  # type: ignore[call-overload]
    frames = pictures(options.pop("frames", FRAMES), *options.pop("size", SIZE), depth)  # type: ignore[arg-type,misc]
    source = write_y4m(folder / "in.y4m", frames, depth)
    sidecar = folder / "clip.json"
    path = {"encoder_path": str(binary)} if binary else {}
    tds.encode(source, sidecar, encoder=encoder, codec=codec, qp=37, **path, **options)
    mp4 = folder / "clip.mp4"
    subprocess.run([sys.executable, "-m", "tds", "mux", "-q", str(sidecar), str(mp4)], check=True)
    suffix = {"vvc": "266", "hevc": "265"}[codec]
    return Coded(mp4, sidecar, folder / f"clip.hr.{suffix}", folder / f"clip.lr.{suffix}")


def digest(decoder: tds.Decoder) -> tuple[str, list[str], int]:
    md5 = hashlib.md5()
    statuses, last = [], -1
    with decoder:
        for picture in decoder:
            assert picture.pts > last
            last = picture.pts
            statuses.append(picture.status)
            for plane in picture.planes:
                md5.update(plane.tobytes())
    return md5.hexdigest(), statuses, len(statuses)


def assert_postdec_is_decode(coded: Coded, decoder: str, binary: Path) -> None:
    settings = PostdecSettings(
        decoder=decoder,
        decoder_path=str(binary),
        sidecar=read_sidecar(coded.sidecar),
        enhance=BICUBIC,
    )
    got = digest(postdec(str(coded.hr), str(coded.lr), settings))
    assert got == digest(tds.decode(coded.mp4, settings=BICUBIC))
    assert got[2] == FRAMES


CASES = [
    (config, depth, scale)
    for config in ("ai", "ldp", "ra")
    for depth in (8, 10)
    for scale in (2, 4)
]


@pytest.mark.parametrize(("config", "depth", "scale"), CASES)
def test_vtm(tmp_path: Path, vtm_bin: Path, config: str, depth: int, scale: int) -> None:
    coded = code(tmp_path, "vtm", "vvc", vtm_bin, config=config, depth=depth, scale=scale)
    assert is_patched(str(vtm_bin / "DecoderApp"))
    assert_postdec_is_decode(coded, "vtm", vtm_bin)


@pytest.mark.parametrize(("config", "depth", "scale"), CASES)
def test_hm(tmp_path: Path, hm_bin: Path, config: str, depth: int, scale: int) -> None:
    coded = code(tmp_path, "hm", "hevc", hm_bin, config=config, depth=depth, scale=scale)
    assert is_patched(str(hm_bin / "TAppDecoder"))
    assert_postdec_is_decode(coded, "hm", hm_bin)


@pytest.mark.parametrize("config", ["ai", "ldp", "ra"])
@pytest.mark.parametrize("depth", [8, 10])
def test_vtm_on_streams_of_vvenc(tmp_path: Path, vtm_bin: Path, config: str, depth: int) -> None:
    coded = code(tmp_path, "libvvenc", "vvc", None, config=config, depth=depth, preset="faster")
    assert_postdec_is_decode(coded, "vtm", vtm_bin)


@pytest.mark.parametrize("config", ["ai", "ldp", "ra"])
@pytest.mark.parametrize("depth", [8, 10])
def test_hm_on_streams_of_x265(tmp_path: Path, hm_bin: Path, config: str, depth: int) -> None:
    coded = code(tmp_path, "libx265", "hevc", None, config=config, depth=depth, preset="faster")
    assert_postdec_is_decode(coded, "hm", hm_bin)


def test_random_access_points_inside_the_pair(tmp_path: Path, hm_bin: Path) -> None:
    """Both streams restart, and the LR stream then leads with a boundary again."""
    coded = code(tmp_path, "hm", "hevc", hm_bin, config="ra", intra_period=4, group=3)
    metadata = read_sidecar(coded.sidecar)
    assert len(metadata.lead_times()) > 1
    assert_postdec_is_decode(coded, "hm", hm_bin)


@pytest.mark.parametrize("depth", [8, 10])
def test_an_unpatched_vtm_joins_by_a_descriptor(tmp_path: Path, vtm_bin: Path, depth: int) -> None:
    """As a command that writes raw yuv; the patched program does that too."""
    coded = code(tmp_path, "libvvenc", "vvc", None, config="ra", depth=depth, preset="faster")
    settings = PostdecSettings(
        decoder=f"{vtm_bin / 'DecoderApp'} -b {{input}} -o {{output}}",
        sidecar=read_sidecar(coded.sidecar),
        enhance=BICUBIC,
    )
    got = digest(postdec(str(coded.hr), str(coded.lr), settings))
    assert got == digest(tds.decode(coded.mp4, settings=BICUBIC))


def test_without_a_session_the_patched_decoder_writes_what_it_always_wrote(
    tmp_path: Path, vtm_bin: Path
) -> None:
    coded = code(tmp_path, "libvvenc", "vvc", None, config="ra", preset="faster")
    out = tmp_path / "rec.yuv"
    subprocess.run(
        [str(vtm_bin / "DecoderApp"), "-b", str(coded.hr), "-o", str(out)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    planes = []
    with av.open(str(coded.mp4)) as container:
        for frame in container.decode(container.streams.video[0]):
            planes.append(frame.to_ndarray().tobytes())
    assert out.read_bytes() == b"".join(planes)


def test_a_damaged_stream_ends_with_what_vtm_says(tmp_path: Path, vtm_bin: Path) -> None:
    coded = code(tmp_path, "libvvenc", "vvc", None, config="ai", preset="faster")
    data = bytearray(coded.lr.read_bytes())
    for i in range(len(data) // 2, len(data) // 2 + 60):
        data[i] ^= 0x5A
    coded.lr.write_bytes(bytes(data))
    settings = PostdecSettings(
        decoder="vtm",
        decoder_path=str(vtm_bin),
        sidecar=read_sidecar(coded.sidecar),
        enhance=BICUBIC,
        timeout=30,
    )
    # VTM may also decode damage to something without noticing; then no frame is lost.
    statuses = [""] * FRAMES
    with suppress(ExternalError):
        statuses = digest(postdec(str(coded.hr), str(coded.lr), settings))[1]
    assert len(statuses) == FRAMES


def test_coding_straight_to_mp4_is_coding_raw_and_muxing(tmp_path: Path, hm_bin: Path) -> None:
    coded = code(tmp_path, "hm", "hevc", hm_bin, config="ra")
    straight = tmp_path / "straight.mp4"
    options = {"encoder": "hm", "codec": "hevc", "encoder_path": str(hm_bin), "config": "ra"}
    tds.encode(tmp_path / "in.y4m", straight, qp=37, **options)
    with tds.decode(straight, settings=BICUBIC) as a, tds.decode(coded.mp4, settings=BICUBIC) as b:
        assert a.time_base == b.time_base
        assert [p.pts for p in a] == [p.pts for p in b]
    again = tds.decode(straight, settings=BICUBIC)
    assert digest(again) == digest(tds.decode(coded.mp4, settings=BICUBIC))


def test_a_stream_that_is_cut_short_loses_no_frame(tmp_path: Path, hm_bin: Path) -> None:
    """The decoder ends well and gives fewer pictures than the sidecar tells of."""
    coded = code(tmp_path, "hm", "hevc", hm_bin, config="ai")
    stream = coded.lr.read_bytes()
    end = stream.rindex(b"\0\0\1", 0, len(stream) // 2)  # between two NAL units
    coded.lr.write_bytes(stream[:end].rstrip(b"\0"))
    settings = PostdecSettings(
        decoder="hm",
        decoder_path=str(hm_bin),
        sidecar=read_sidecar(coded.sidecar),
        enhance=BICUBIC,
    )
    _, statuses, count = digest(postdec(str(coded.hr), str(coded.lr), settings))
    assert count == FRAMES
    assert "repeated" in statuses


def test_the_mp4_has_the_times_of_the_source(tmp_path: Path, hm_bin: Path) -> None:
    coded = code(tmp_path, "hm", "hevc", hm_bin, config="ra")
    metadata = read_sidecar(coded.sidecar)
    with tds.decode(coded.mp4, settings=BICUBIC) as decoder:
        factor = decoder.time_base / metadata.timeline.time_base
        assert [p.pts * factor for p in decoder] == list(metadata.timeline.times())


def test_an_encoder_says_which_codec_is_meant(tmp_path: Path, small: Path) -> None:
    env = {**os.environ, "TDS_HM_BIN": "", "PATH": "/nowhere"}
    done = tools.tds(
        "encode", "--plan", "tds", small, tmp_path / "x.mp4", "--encoder", "hm", status=1, env=env
    )
    assert "no TAppEncoder was found" in done.stderr
    tools.tds(
        "encode",
        "--plan",
        "tds",
        small,
        tmp_path / "x.mp4",
        "--encoder",
        "libx265",
        "--preset",
        "ultrafast",
    )
    metadata = tds.open(tmp_path / "x.mp4").metadata
    assert metadata is not None and metadata.codec == "hevc"


def test_an_encoder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="EncoderApp"):
        code(tmp_path, "vtm", "vvc", tmp_path)


def test_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    program = tmp_path / "EncoderApp"
    program.write_text("#!/bin/sh\necho 'VTM Encoder Version 23.13'\n")
    program.chmod(0o755)
    with pytest.raises(MissingError, match="no encoder_intra_vtm"):
        code(tmp_path, "vtm", "vvc", tmp_path)


def test_a_configuration_that_was_edited_is_another_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streams that an evaluation keeps would else be compared with those of the one before."""
    program = tmp_path / "bin" / "EncoderApp"
    cfg = tmp_path / "cfg" / "encoder_intra_vtm.cfg"
    for path in (program, cfg):
        path.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'VTM Encoder Version 23.13'\n")
    program.chmod(0o755)
    cfg.write_text("DualITree : 1\n")
    monkeypatch.setenv("TDS_VTM_BIN", str(program))
    vtm = ADAPTERS["vtm"]
    first = vtm.fingerprint()
    assert first == vtm.fingerprint() and first.startswith(f"{vtm.version()} ")
    cfg.write_text("DualITree : 0\n")
    edited = vtm.fingerprint()
    assert edited != first and vtm.version() == "VTM 23.13"
    program.write_text(program.read_text() + "# built with other macros\n")
    assert vtm.fingerprint() not in (first, edited)


@pytest.mark.parametrize("role", list(Role))
def test_a_vtm_killed_in_the_middle(tmp_path: Path, vtm_bin: Path, role: Role) -> None:
    # More than fits into buffers: on a busy machine the LR decoder was done before it was killed.
    options = {"config": "ra", "preset": "faster", "frames": 400, "size": (416, 240)}
    coded = code(tmp_path, "libvvenc", "vvc", None, **options)
    settings = PostdecSettings(
        decoder="vtm",
        decoder_path=str(vtm_bin),
        sidecar=read_sidecar(coded.sidecar),
        enhance=BICUBIC,
        timeout=30,
    )
    with postdec(str(coded.hr), str(coded.lr), settings) as decoder:
        next(decoder)
        os.kill(
            next(p.pid for p in decoder._pair._processes if p.role is role),
            signal.SIGKILL,
        )
        with pytest.raises(ExternalError, match=rf"the {role.name} decoder .*SIGKILL"):
            list(decoder)
