# SPDX-License-Identifier: LGPL-2.1-or-later
"""4:2:2 and 4:4:4 in the engine: key frames pass, the rest comes back at its own ratio."""

from __future__ import annotations

import av
import numpy as np
import pytest

from tds import Session, models

W, H = 112, 76  # needs padding for LR and for models
RATIOS = {422: (0, 1), 444: (0, 0)}  # shifts down and across
Planes = list[np.ndarray]


def smooth(rng: np.random.Generator, rows: int, columns: int, depth: int) -> np.ndarray:
    """A plane with something to enlarge, and noise."""
    y, x = np.mgrid[0:rows, 0:columns]
    wave = np.sin(x / 5.0) + np.cos(y / 7.0) + rng.normal(0, 0.2, (rows, columns))
    top = (1 << depth) - 1
    codes = np.clip((0.5 + wave / 5) * top, 0, top).round()
    return codes.astype(np.uint8 if depth == 8 else np.uint16)


def picture(seed: int, chroma: int, depth: int, width: int = W, height: int = H) -> Planes:
    rng = np.random.default_rng(seed)
    down, across = RATIOS[chroma]
    sizes = [(height, width)] + [(height >> down, width >> across)] * 2
    return [smooth(rng, *size, depth) for size in sizes]


def made(session: Session, pictures: list[tuple[str, Planes]]) -> list[list[np.ndarray]]:
    for time, (role, planes) in enumerate(pictures):
        assert session.send(role, planes, pts=time)
    session.end("hr")
    if any(role == "lr" for role, _ in pictures):
        session.end("lr")
    return [list(p.planes) for p in session]


def mean(plane: np.ndarray, chroma: int) -> np.ndarray:
    """Of the samples that lie where one of 4:2:0 does."""
    wide = plane.astype(int)
    if chroma == 444:
        total = wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2]
        return ((total + 2) >> 2).astype(plane.dtype)
    return ((wide[::2] + wide[1::2] + 1) >> 1).astype(plane.dtype)


def small(planes: Planes, chroma: int) -> Planes:
    """The picture in 4:2:0."""
    return [planes[0], *(mean(p, chroma) for p in planes[1:])]


def enlarged(plane: np.ndarray, chroma: int) -> np.ndarray:
    """A plane of 4:2:0 at the size of another chroma: bicubic with C = 0.6, centres kept."""

    def weight(d: float) -> float:
        d = abs(d)
        if d < 1:
            return 1.4 * d**3 - 2.4 * d**2 + 1
        return -0.6 * d**3 + 3 * d**2 - 4.8 * d + 2.4

    def twice(rows: np.ndarray) -> np.ndarray:
        padded = np.pad(rows, ((2, 2), (0, 0)), "edge")
        out = np.empty((2 * len(rows), rows.shape[1]))
        for phase, first, at in ((0, 0, 1.75), (1, 1, 1.25)):
            parts = [padded[first + i : first + i + len(rows)] * weight(at - i) for i in range(4)]
            out[phase::2] = sum(parts)
        return out

    out = twice(plane.astype(float))
    return twice(out.T).T if chroma == 444 else out


@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize("chroma", RATIOS)
@pytest.mark.parametrize("scale", [2, 4])
def test_without_a_model_every_plane_is_enlarged_as_luma_is(scale, chroma, depth):
    lw, lh = (2 * -(-v // (2 * scale)) for v in (W, H))
    hr, lr = picture(0, chroma, depth), picture(1, chroma, depth, lw, lh)
    with Session(W, H, scale, depth, chroma=chroma) as session:
        passed, got = made(session, [("hr", hr), ("lr", lr)])
    assert all(np.array_equal(a, b) for a, b in zip(hr, passed, strict=True))
    down, across = RATIOS[chroma]
    for plane, ours in zip(lr[1:], got[1:], strict=True):
        # As the luma of another session, whose pictures are as large as this plane.
        width, height = W >> across, H >> down
        luma = [plane, *([np.zeros((plane.shape[0] // 2, plane.shape[1] // 2), plane.dtype)] * 2)]
        with Session(width, height, scale, depth) as session:
            (alone,) = made(session, [("lr", luma)])
        assert np.array_equal(alone[0], ours)


@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize("chroma", RATIOS)
def test_a_model_sees_the_mean_of_chroma_and_what_it_changes_is_added(chroma, depth):
    """The luma is what the same model makes of the same pictures in 4:2:0, and so is, within
    rounding, the mean of the change of chroma."""
    lr_size = (W // 2, H // 2)
    pair = [
        ("hr", picture(0, chroma, depth)),
        *(("lr", picture(n, chroma, depth, *lr_size)) for n in (1, 2, 3)),
        ("hr", picture(4, chroma, depth)),
    ]
    pair_420 = [(role, small(planes, chroma)) for role, planes in pair]
    model = models.find("fast", 2).path
    with Session(W, H, 2, depth, model=model, chroma=chroma) as session:
        got = made(session, pair)
        assert (session.info.passed, session.info.enhanced) == (2, 3)
    with Session(W, H, 2, depth, model=model) as session:
        reference = made(session, pair_420)
    with Session(W, H, 2, depth, chroma=chroma) as session:
        plain = made(session, pair)
    with Session(W, H, 2, depth) as session:
        plain_small = made(session, pair_420)
    for n in (1, 2, 3):
        assert np.array_equal(got[n][0], reference[n][0])
        for c in (1, 2):
            change = reference[n][c].astype(int) - plain_small[n][c]
            assert np.abs(change).max() > 2  # it does change something
            wanted = plain[n][c] + enlarged(change, chroma)
            assert np.abs(got[n][c] - wanted.clip(0, (1 << depth) - 1)).max() <= 1


@pytest.mark.parametrize("chroma", RATIOS)
def test_the_pictures_of_a_plain_stream_keep_chroma_that_the_model_leaves(chroma):
    pictures = [("hr", picture(n, chroma, 8)) for n in range(4)]
    model = models.find("fast", 1).path
    with Session(W, H, 1, kind="plain", model=model, chroma=chroma) as session:
        got = made(session, pictures)
        assert session.info.refined == 4
    with Session(W, H, 1, kind="plain", model=model, chroma=chroma, strength=0) as session:
        same = made(session, pictures)
    for (_, source), left in zip(pictures, same, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(source, left, strict=True))
    with Session(W, H, 1, kind="plain", model=model) as session:
        reference = made(session, [(role, small(planes, chroma)) for role, planes in pictures])
    for (_, source), refined, alike in zip(pictures, got, reference, strict=True):
        assert np.array_equal(refined[0], alike[0])
        for c, given in ((1, small(source, chroma)[1]), (2, small(source, chroma)[2])):
            wanted = source[c] + enlarged(alike[c].astype(int) - given, chroma)
            assert np.abs(refined[c] - wanted.clip(0, 255)).max() <= 1


@pytest.mark.parametrize("pix_fmt", ["yuv422p", "yuv422p10le", "yuv444p", "yuv444p10le"])
def test_frames_of_pyav_go_in_and_come_out(pix_fmt):
    chroma, depth = int(pix_fmt[3:6]), 10 if pix_fmt.endswith("10le") else 8
    frame = av.VideoFrame(W, H, pix_fmt)
    planes = picture(0, chroma, depth)
    for plane, samples in zip(frame.planes, planes, strict=True):
        rows = np.frombuffer(plane, samples.dtype).reshape(plane.height, -1)
        rows[:, : plane.width] = samples
    with Session(W, H, 2, depth, chroma=chroma) as session:
        session.send("hr", frame, pts=0)
        session.end("hr")
        session.end("lr")
        (out,) = session
        assert (out.chroma, out.bit_depth, out.to_av().format.name) == (chroma, depth, pix_fmt)
        assert all(np.array_equal(a, b) for a, b in zip(planes, out.planes, strict=True))
        flat = out.to_ndarray()
    assert flat.tobytes() == b"".join(p.tobytes() for p in planes)
    with Session(W, H, 2, depth, chroma=chroma) as session:  # and as one array again
        session.send("hr", flat, pts=0)
        session.end("hr")
        session.end("lr")
        (out,) = session
        assert all(np.array_equal(a, b) for a, b in zip(planes, out.planes, strict=True))


def test_pictures_of_another_chroma_are_refused():
    with Session(W, H, 2) as session:
        with pytest.raises(ValueError, match="HR picture of 4:4:4: this session takes 4:2:0"):
            session.send("hr", picture(0, 444, 8), pts=0)
    with Session(W, H, 2, chroma=422) as session:
        with pytest.raises(ValueError, match="HR picture of 4:4:4: this session takes 4:2:2"):
            session.send("hr", picture(0, 444, 8), pts=0)
    with pytest.raises(ValueError, match="chroma is 420, 422 or 444, not 411"):
        Session(W, H, 2, chroma=411)
    with pytest.raises(NotImplementedError, match="4:4:4 pictures are made in host memory"):
        Session(W, H, 2, chroma=444, output_memory="cuda")
