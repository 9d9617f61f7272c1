# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is evaluated is what ``tds.encode`` codes: same frames, same bits."""

from __future__ import annotations

import pytest

import tds
import tools
from tds.codecs import Config
from tds.errors import InputError
from tds.evaluation.clips import examine
from tds.evaluation.config import Plan
from tds.evaluation.layout import Segment, from_plain, lay_out, to_plain
from tds.evaluation.work import Place, coded_stream, run
from tds.plan import Boundaries, Role


def _lay_out(frames, config=Config.AI, period=64, cuts=None, **plan):
    return lay_out(frames, cuts or [False] * frames, Plan(**plan), config, period)


def _roles(layout):
    return "".join("H" if r is Role.HR else "L" for r in layout.roles)


def test_independent_groups():
    layout = _lay_out(10, group=5)
    assert _roles(layout) == "HLLLHHLLLH"
    assert layout.hr == (Segment((0, 4, 5, 9)),)
    assert layout.lr == (Segment((1, 2, 3, 6, 7, 8)),)


def test_shared_boundaries():
    layout = _lay_out(9, group=5, boundaries=Boundaries.SHARED)
    assert _roles(layout) == "HLLLHLLLH"


def test_ldp_and_ra_lead_with_the_down_sampled_boundary():
    assert _lay_out(10, Config.AI).lr[0].lead is None
    for config in (Config.LDP, Config.RA):
        assert _lay_out(10, config).lr == (Segment((1, 2, 3, 6, 7, 8), lead=0),)


def test_ra_restarts_everywhere_at_the_same_boundary():
    layout = _lay_out(20, Config.RA, period=8)
    assert [s.frames[0] for s in layout.hr] == [0, 10]
    assert [s.lead for s in layout.lr] == [0, 10]
    assert [s.frames[0] for s in layout.plain] == [0, 10]


def test_lr_only_has_no_hr_and_every_frame():
    layout = _lay_out(6, kind="lr-only")
    assert layout.hr == () and layout.lr == layout.plain
    assert layout.frames(Role.LR) == list(range(6))


def test_k_1_has_one_plain_stream():
    layout = _lay_out(10, kind="plain")
    assert layout.hr == layout.lr == ()
    assert layout.plain == (Segment(tuple(range(10))),)
    assert _roles(layout) == "L" * 10
    assert [s.frames[0] for s in _lay_out(10, Config.RA, period=4, kind="plain").plain] == [0, 4, 8]


def test_every_frame_is_coded_once():
    for kind in ("tds", "lr-only"):
        layout = _lay_out(23, Config.RA, period=7, kind=kind)
        own = [i for s in (*layout.hr, *layout.lr) for i in s.frames]
        assert sorted(own) == list(range(23))


def test_too_few_frames_are_refused():
    with pytest.raises(InputError, match="no group"):
        _lay_out(2)


def test_a_layout_survives_a_jobs_description():
    layout = _lay_out(20, Config.RA, period=8)
    assert from_plain(to_plain(layout.lr)) == layout.lr


@pytest.mark.parametrize("boundaries", list(Boundaries))
@pytest.mark.parametrize("config", ["ai", "ldp", "ra"])
def test_bits_and_pictures_are_those_of_tds_encode(small, tmp_path, config, boundaries):
    result = tds.encode(
        small, tmp_path / "pair.mp4", codec="hevc", preset="ultrafast", config=config,
        boundaries=boundaries, qp=34, lr_qp_offset=2, intra_period=8,
    )  # fmt: skip
    clip = examine(small, 0)
    plan = Plan(boundaries=boundaries, lr_qp_offset=2)
    layout = lay_out(clip.frames, clip.cuts(10), plan, Config(config), 8)
    for n, (segments, scale, qp, expected) in enumerate(
        [(layout.hr, 1, 34, result.hr), (layout.lr, 2, 36, result.lr)]
    ):
        out = tmp_path / f"stream{n}"
        out.mkdir()
        spec = {
            "clip": clip.sha256, "frames": clip.frames, "codec": "hevc", "encoder": "libx265",
            "version": result.settings.adapter().fingerprint(), "preset": "ultrafast",
            "config": config,
            "qp": qp, "scale": scale, "intra_period": 8, "segments": to_plain(segments),
        }  # fmt: skip
        run("stream", spec, Place({clip.sha256: small}, {}, tmp_path), out)
        import json

        record = json.loads((out / "record.json").read_text())
        assert record["bits"] == expected.bits
        assert len(record["frames"]) == expected.frames
        assert record["command"] == expected.command
        stream = coded_stream(out, record)
        ours = [d for s in stream.segments for _, d in tools.pictures(s.path)]
        assert ours == [d for _, d in tools.pictures(result.path, n)]
