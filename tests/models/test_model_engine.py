# SPDX-License-Identifier: LGPL-2.1-or-later
"""The engine and the plain Python recurrence give the same pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scenes import scene
from test_networks import NETWORKS, lively

from tds.models.build import build
from tds.models.export import export, script
from tds.models.resample import luma_of
from tds.training.pictures import Yuv, down_sample
from tds.training.recurrence import enhance_run
from tds.training.trainer import bicubic


@pytest.fixture(scope="module")
def engine():
    """The engine with its torch backend. It is a part of every build that has torch."""
    native = pytest.importorskip("tds._tds", reason="the engine is not built (make install)")
    try:
        native.backend_available("torchscript")
    except NotImplementedError as error:
        pytest.skip(f"the engine was built without torch: {error}")
    return native


def whole(video: Yuv, index: int, k: int) -> torch.Tensor:
    w, h = (-(-v * k // 16) * 16 // k for v in (video.width, video.height))
    return video.take([index]).padded(w, h).packed(0)[None].float() / 255.0


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_engine_agrees_with_the_python_recurrence(engine, name, tmp_path):
    """Within one code value at 8 bit, for a size that needs padding."""
    model = lively(NETWORKS[name], 2)
    about = {
        "tds_model": 1,
        "name": "x",
        "version": "1",
        "scale": 2,
        "alignment": 16,
        "features": True,
    }
    export(model, about, tmp_path / "x.pt")
    source = scene(5, 104, 72)
    low = down_sample(source, 2)
    with engine.Session(104, 72, 2, model=tmp_path / "x.pt", hr_qp=32, lr_qp=35) as session:
        for t in range(5):
            video, role = (source, "hr") if t % 4 == 0 else (low, "lr")
            planes = [np.ascontiguousarray(p) for p in video.planes(t)]
            assert session.send(role, planes, pts=t)
        session.end("hr")
        session.end("lr")
        got = list(session)
        assert session.info.enhanced == 3 and session.info.references == 3
    targets = [whole(low, t, 2) for t in (1, 2, 3)]
    want = enhance_run(model, whole(source, 0, 1), targets, whole(source, 4, 1), 32.0, 35.0)
    for picture, tensor in zip(got[1:4], want, strict=True):
        codes = (tensor[0] * 255.0).round()
        luma = torch.nn.functional.pixel_shuffle(codes[None, :4], 2)[0, 0, :72, :104]
        planes = [luma, codes[4, :36, :52], codes[5, :36, :52]]
        for ours, theirs in zip(picture.planes, planes, strict=True):
            assert np.abs(ours.astype(int) - theirs.numpy().astype(int)).max() <= 1


def test_the_paper_s_network_at_its_full_size_is_exported_and_runs(engine, tmp_path):
    """29.2 million weights, on pictures as small as they may be."""
    net = build({"preset": "quality-paper", "scale": 2}).eval()
    about = {"tds_model": 1, "name": "quality-paper", "version": "0", "scale": 2, "alignment": 16}
    export(net, {**about, "features": True}, tmp_path / "x.pt", size=(16, 16))
    source = scene(3, 16, 16)
    low = down_sample(source, 2)
    with engine.Session(16, 16, 2, model=tmp_path / "x.pt", device="cpu") as session:
        for t in range(3):
            video, role = (low, "lr") if t == 1 else (source, "hr")
            assert session.send(role, [np.ascontiguousarray(p) for p in video.planes(t)], pts=t)
        session.end("hr")
        session.end("lr")
        got = list(session)
    assert [p.status for p in got] == ["passed", "enhanced", "passed"]
    # Untrained it is bicubic.
    up = luma_of(bicubic(low.packed(1)[None].float() / 255.0, 2).clamp(0, 1))[0, 0]
    assert np.abs(got[1].planes[0].astype(int) - (up * 255).round().numpy().astype(int)).max() <= 1


def family(slots):
    net = build({"preset": "family-fast", "references": slots, "scale": 1})
    with torch.no_grad():
        net.tail.weight.normal_(std=0.02)
    about = {"tds_model": 2, "name": "x", "version": "1", "scale": 1, "alignment": 16}
    return net.eval(), {**about, "references": slots}


def plain(engine, path, video, **settings):
    with engine.Session(
        video.width, video.height, 1, kind="plain", model=path, **settings
    ) as session:
        for t in range(len(video)):
            planes = [np.ascontiguousarray(p) for p in video.planes(t)]
            while not session.send("hr", planes, pts=t):
                yield session.receive()
        session.end("hr")
        yield from session


@pytest.mark.parametrize("precision, off", [("float32", 0), ("bfloat16", 2)])
def test_engine_agrees_with_the_family(engine, precision, off, tmp_path):
    """Each picture of a plain stream from its two neighbours; half precision is near it."""
    net, about = family(["-1", "+1"])
    export(net, about, tmp_path / "x.pt")
    source = scene(5, 104, 72)
    got = list(plain(engine, tmp_path / "x.pt", source, precision=precision))
    assert [p.status for p in got] == ["refined"] * 5
    with torch.no_grad():
        for t, picture in enumerate(got):
            shown, side = [], []
            for d in (0, -1, 1):
                there = 0 <= t + d < 5
                shown.append(whole(source, t + d if there else t, 1))
                side.append([float(there), d * there, 1.0, 0.0, -1.0, -1.0, float(d == 0)])
            want = net(torch.stack(shown, 1), torch.tensor([side]))
            codes = (want[0] * 255.0).clamp(0, 255).round()
            luma = torch.nn.functional.pixel_shuffle(codes[None, :4], 2)[0, 0, :72, :104]
            error = np.abs(luma.numpy() - picture.planes[0]).max()
            assert error <= max(off, 1)


def test_a_model_that_fails_while_it_runs_is_an_error(engine, tmp_path):
    """And no crash: torch words an error of a frozen module by reading what is not there."""
    net, about = family(["-1", "+1"])
    net.tail = torch.nn.Conv2d(7, 72, 1)
    archive = str(tmp_path / "x.pt")
    torch.jit.save(script(net), archive, _extra_files={"tds.json": json.dumps(about)})
    with pytest.raises(RuntimeError, match="the model failed"):
        list(plain(engine, archive, scene(3, 104, 72)))
