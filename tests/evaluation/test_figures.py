# SPDX-License-Identifier: LGPL-2.1-or-later
"""Means of both BD figures and the curves as PNG, of made-up points: nothing is coded."""

from __future__ import annotations

import pytest
from PIL import Image

from tds.evaluation import plots
from tds.evaluation.report import _quality, _summary, summary_rows
from tds.evaluation.results import METRICS, assemble_again

BLUE = (31, 119, 180)  # matplotlib's C0


def _side(rate, quality):
    return {"bits": rate, "kbps": rate} | dict.fromkeys([*METRICS, "temporal"], quality)


def _points(clip, rise, plan="P", enhancer="bicubic"):
    """The test has the anchor's bits and ``rise`` dB more, over a range of 9 dB."""
    out = []
    for i, qp in enumerate((37, 32, 27, 22)):
        rate, quality = 100.0 * 2**i, 30.0 + 3 * i
        sides = {"test": _side(rate, quality + rise), "anchor": _side(rate, quality)}
        out.append(
            {"clip": clip, "class": "240p", "codec": "VVC", "config": "ai", "plan": plan,
             "kind": "tds", "enhancer": enhancer, "seen": False, "qp": qp, "whole": sides,
             "type": sides, "bits": {"hr": rate, "lr": 0, "lr_leads": 0}}
        )  # fmt: skip
    return out


def _mean(results):
    (row,) = summary_rows(results)
    return row["whole"]


def test_bd_psnr_has_an_overlap_of_its_own():
    """Ranges of bits overlap wholly where those of quality overlap in a half, or not at all."""
    results = assemble_again(_points("a", 3) + _points("b", 10), [])
    luma = [r for r in results.bd if r["metric"] == "psnr_y" and r["method"] == "pchip"]
    half, none = (next(r for r in luma if r["clip"] == c) for c in "ab")
    assert (half["overlap"], half["trusted"]) == (0.5, False)
    assert (half["quality_overlap"], half["quality_trusted"]) == (1, True)
    assert half["quality"] == pytest.approx(3)
    assert none["rate"] is None and none["quality"] == pytest.approx(10)
    m = _mean(results)
    assert (m["clips"], m["without_figure"], m["low_overlap"]) == (1, 1, 1)
    assert (m["quality_clips"], m["quality_without_figure"], m["quality_low_overlap"]) == (2, 0, 0)


def test_an_anchor_with_qps_of_its_own_reaches_as_far_as_the_test():
    """Of its points those are taken that span what the test spans, so what lies beyond takes
    nothing from the overlap; those of other plans do not count."""

    def anchor(quality, plan="P"):
        side = _side(100 * 2 ** ((quality - 30) / 3), quality)
        return {"clip": "a", "codec": "VVC", "config": "ai", "plan": plan, "qp": 0,
                "whole": side, "type": side}  # fmt: skip

    def luma(points, anchors):
        found = assemble_again(points, [], anchors=anchors)
        return next(r for r in found.bd if (r["metric"], r["method"]) == ("psnr_y", "pchip"))

    points = _points("a", -6)  # 24 to 33 dB, the anchor 30 to 39
    assert luma(points, [anchor(q, "Q") for q in (24, 27)])["overlap"] == pytest.approx(0.2)
    row = luma(points, [anchor(q) for q in (27, 24, 21, 18, 15)])
    assert (row["overlap"], row["trusted"]) == (1, True)
    assert row["rate"] == pytest.approx(300, abs=0.1)  # 6 dB less at equal bits: four times
    assert row["quality"] == pytest.approx(-6, abs=0.01)


def test_a_bd_psnr_of_little_overlap_is_marked_and_counted():
    far = _points("c", 1)
    for p in far:
        for counting in ("whole", "type"):
            p[counting] = {"test": _side(4 * p[counting]["anchor"]["kbps"],
                                         p[counting]["anchor"]["psnr_y"]),
                           "anchor": p[counting]["anchor"]}  # fmt: skip
    without = _points("d", 1)
    for p in without:
        for counting in ("whole", "type"):
            p[counting] = p[counting] | {"test": _side(1e6 * p[counting]["anchor"]["kbps"], 31)}
    results = assemble_again(_points("a", 1) + _points("b", 2) + far + without, [])
    m = _mean(results)
    assert (m["quality_clips"], m["quality_without_figure"], m["quality_low_overlap"]) == (3, 1, 1)
    assert m["quality_low"] < m["quality"] < m["quality_high"]
    text = _quality(m)
    assert text.startswith(f"{m['quality']:+.2f} dB [") and text.endswith(
        "\N{DAGGER} (3 of 4 clips)"
    )
    assert "1 of 3 clips with little overlap" in _summary(results)
    assert any("luma BD-PSNRs" in mark and "are marked" in mark for mark in results.marks)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (90, 2100, [100, 200, 500, 1000, 2000]),
        (210, 450, [300, 400, 250, 350]),
        (1000, 1400, [1000, 1100, 1200, 1300, 1400]),
    ],
)
def test_ticks_are_round_and_few(low, high, ticks):
    found = plots.rate_ticks(low, high)
    assert found == sorted(found)
    assert 3 <= len(found) <= 9
    assert all(low <= v <= high for v in found)
    assert set(found) >= set(ticks[:2])


def test_curves_can_be_read(tmp_path, monkeypatch):
    """Colours as drawn, plain numbers on the axis, and all anchors in the legend."""
    points = [p for plan in ("P", "Q") for e in ("bicubic", "x") for p in _points("a", 1, plan, e)]
    figures = []
    save = plots._save

    def keep(figure, path):
        figures.append(figure)
        save(figure, path)

    monkeypatch.setattr(plots, "_save", keep)
    plots.write_plots(points, tmp_path)
    curves = figures[0]
    (legend,) = curves.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names[:3] == ["plain", "plain, frames of P", "plain, frames of Q"]
    assert len(set(names)) == len(names) == 3 + 4
    labels = [t.get_text() for t in curves.axes[0].get_xticklabels()]
    assert labels == ["100", "200", "500"]
    with Image.open(tmp_path / "vvc-ai-psnr_y.png") as picture:
        assert picture.mode == "P"
        counted = {c: n for n, c in picture.convert("RGB").getcolors(1 << 24)}
    assert counted[BLUE] > 50
    assert max(counted, key=counted.get) == (255, 255, 255)
