# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pictures keep their samples on the way between planes, bytes and frames."""

from __future__ import annotations

import av
import numpy as np
import pytest

from tds.media.planar import (
    CHROMAS,
    chroma_in,
    chroma_of,
    depth_of,
    frame_of,
    most_bits,
    nearest_chroma,
    picture_bytes,
    picture_size,
    pix_fmt_of,
    planes_in,
    planes_of,
)


# 18 and 50 samples a row are not what FFmpeg aligns rows to: frames have padding, bytes have none.
@pytest.mark.parametrize("size", [(2, 2), (18, 10), (50, 34)])
@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize("chroma", CHROMAS)
def test_samples_stay_the_same_through_every_form(
    size: tuple[int, int], depth: int, chroma: int
) -> None:
    width, height = size
    random = np.random.default_rng(width + depth)
    data = random.integers(0, 1 << 8, picture_size(width, height, depth, chroma), np.uint8)
    if depth == 10:
        data = (data.view(np.uint16) & 1023).view(np.uint8)
    planes = planes_in(data, width, height, depth, chroma)
    small = {420: (height // 2, width // 2), 422: (height, width // 2), 444: (height, width)}
    assert [p.shape for p in planes] == [(height, width)] + 2 * [small[chroma]]
    assert chroma_in(planes) == chroma
    frame = frame_of(planes, depth)
    name = frame.format.name
    assert name == pix_fmt_of(depth, chroma)
    assert (depth_of(name), chroma_of(name)) == (depth, chroma)
    assert picture_bytes(planes) == picture_bytes(frame) == data.tobytes()
    for got, want in zip(planes_of(frame), planes, strict=True):
        assert got.dtype == want.dtype and np.array_equal(got, want)


def test_the_depth_of_a_format_is_told_by_its_name() -> None:
    assert [depth_of(n) for n in ("yuv420p", "yuvj420p", "yuv420p10le")] == [8, 8, 10]
    assert [depth_of(n) for n in ("yuv411p", "nv12", "gray10le", "", None)] == [0] * 5
    assert [depth_of(n) for n in ("yuv422p", "yuvj444p", "yuv444p10le")] == [8, 8, 10]
    assert [chroma_of(n) for n in ("yuvj420p", "yuv422p10le", "nv16")] == [420, 422, 0]
    names = ("nv12", "uyvy422", "yuva444p12le", "gbrp", "pal8", "gray", "yuv411p", "yuv410p")
    wanted = [420, 422, 444, 444, 444, 420, 422, 420]
    assert [nearest_chroma(n) for n in names] == wanted
    assert [most_bits(n) for n in ("yuv444p12le", "rgb24", "p010le")] == [12, 8, 10]
    for depth in (8, 10):
        assert av.VideoFormat(pix_fmt_of(depth)).components[0].bits == depth
