# SPDX-License-Identifier: LGPL-2.1-or-later
"""The engine and the plain Python recurrence give the same pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scenes import scene
from test_networks import NETWORKS, lively

from tds.models.export import export
from tds.training.pictures import Yuv, down_sample
from tds.training.recurrence import enhance_run


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
