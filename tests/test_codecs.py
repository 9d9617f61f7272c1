# SPDX-License-Identifier: LGPL-2.1-or-later
"""Encoder adapters by themselves: what they are asked is what is in the stream."""

from __future__ import annotations

import re
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import PictureType

import tds
import tools
from tds.codecs import ADAPTERS, Config, StreamSettings

FRAMES = 13
SIZE = (128, 72)


def settings(config: Config, qp: int = 30, depth: int = 8) -> StreamSettings:
    return StreamSettings(*SIZE, depth, Fraction(25), config, qp, "medium", period=8)


def raw(small: Path, depth: int) -> list[bytes]:
    form = "yuv420p" if depth == 8 else "yuv420p10le"
    command = [tools.FFMPEG, "-nostdin", "-v", "error", "-i", small, "-frames:v", str(FRAMES)]
    command += ["-pix_fmt", form, "-f", "rawvideo", "-"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    return [data[i : i + len(data) // FRAMES] for i in range(0, len(data), len(data) // FRAMES)]


@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize("config", Config)
def test_h264_has_every_picture_and_the_structure_asked_for(small, tmp_path, config, depth):
    adapter = ADAPTERS["libx264"]
    sizes = {}
    for qp in (24, 36):
        coder = adapter(settings(config, qp, depth), tmp_path / f"{qp}.mp4")
        pictures = raw(small, depth)
        for picture in pictures:
            coder.write(picture)
        segment = coder.finish()
        assert segment.frames == FRAMES
        sizes[qp] = segment.path.stat().st_size
        with av.open(str(segment.path)) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name == "h264"
            frames = list(container.decode(stream))
        kinds = "".join(PictureType(frame.pict_type).name for frame in frames)
        assert len(kinds) == FRAMES
        if config is Config.AI:
            assert set(kinds) == {"I"}
        elif config is Config.LDP:
            assert kinds == "I" + "P" * (FRAMES - 1)
        else:
            assert "B" in kinds and kinds.count("I") == 2
        # In display order, each nearest to its own source picture.
        sources = [np.frombuffer(p, np.uint8 if depth == 8 else np.uint16) for p in pictures]
        for i in (0, FRAMES // 2, FRAMES - 1):
            shown = frames[i].to_ndarray().astype(float).ravel()
            distances = [np.abs(shown - s).mean() for s in sources]
            assert int(np.argmin(distances)) == i
    assert sizes[24] > 1.5 * sizes[36]


@pytest.mark.parametrize(
    ("config", "wanted"), [(Config.AI, {"I": 30}), (Config.RA, {"I": 27, "P": 30, "B": 32})]
)
def test_h264_has_the_qps_asked_for_and_x264s_own_offsets(small, config, wanted):
    """By what x264 itself says of each type of picture."""
    arguments = ADAPTERS["libx264"].codec_arguments(settings(config))
    command = [tools.FFMPEG, "-nostdin", "-i", small, *arguments, "-f", "null", "-"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    found = {k: float(q) for k, q in re.findall(r"frame ([IPB]):\d+ +Avg QP: *([\d.]+)", said)}
    assert found.keys() == wanted.keys()
    for kind, qp in wanted.items():
        assert found[kind] == pytest.approx(qp, abs=1.0 if kind == "B" else 0.01)


def test_h264_is_for_plain_streams_and_no_pair_is_made_of_it(small, tmp_path):
    with pytest.raises(ValueError, match="a pair is coded with vvc or hevc, not h264"):
        tds.encode(small, tmp_path / "o.mp4", codec="h264")
    done = tools.tds("encode", small, tmp_path / "o.mp4", "--codec", "h264", status=2)
    assert "choose from vvc, hevc" in done.stderr.replace("'", "")
    assert not list(tmp_path.iterdir())
