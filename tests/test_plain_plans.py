# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plans of one stream: an ordinary MP4 with the tag, which every door takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import pytest

import tds
import tools
from tds.container.metadata import Metadata
from tds.errors import InputError
from tds.models import available
from tds.session import Picture

Coded = Callable[..., tds.EncodeResult]


def statuses(path: Path, **settings: object) -> list[str]:
    with tds.decode(path, **settings) as pictures:
        return [picture.status for picture in pictures]


def digests(pictures: tds.Decoder) -> list[str]:
    with pictures:
        return [tools.digest(list(picture.planes)) for picture in pictures]


def retagged(path: Path, out: Path, **changes: object) -> Path:
    """The same file with another tag."""
    with av.open(str(path)) as container:
        metadata = Metadata.from_json(container.metadata["tds"], "the test's")
    text = replace(metadata, **changes).to_json()
    tools.ffmpeg("-i", path, "-map", 0, "-c", "copy", "-movflags", "use_metadata_tags",
                 "-metadata", f"tds={text}", out)  # fmt: skip
    return out


@pytest.mark.parametrize("config", ["ai", "ldp", "ra"])
def test_a_plain_plan_is_the_encoder_s_own_stream(coded: Coded, config: str) -> None:
    result = coded(plan="plain", config=config, intra_period=8)
    assert (result.hr.frames, result.lr.frames) == (25, 0)
    assert len(result.restarts) == (4 if config == "ra" else 1)
    with av.open(str(result.path)) as container:
        assert len(container.streams.video) == 1
    assert statuses(result.path) == ["passed"] * 25
    assert digests(tds.decode(result.path)) == tools.digests(result.path, 0)


def test_an_enhanced_plan_names_its_model_and_its_pictures_are_made_better(coded: Coded) -> None:
    plain = coded(plan="plain")
    result = coded(plan="plain-enhanced", model="fast", strength=1)
    fast = next(m for m in available(1) if m.name == "fast")
    assert (result.metadata.model, result.metadata.model_sha256) == ("fast", fast.sha256)
    assert result.hr == plain.hr
    assert statuses(result.path) == ["refined"] * 25
    assert statuses(result.path, hr="pass") == ["passed"] * 25
    assert digests(tds.decode(result.path)) == digests(tds.enhance(plain.path, model="fast"))


def test_strengths_of_the_tag_are_those_of_the_pictures(coded: Coded, tmp_path: Path) -> None:
    result = coded(plan="plain-enhanced", model="fast", strength=1)
    runs = ((2, 3), (0, 5), (1, 7), (2, 10))
    path = retagged(result.path, tmp_path / "o.mp4", strengths=runs)
    assert statuses(path) == ["refined"] * 3 + ["passed"] * 5 + ["refined"] * 17

    def pictures(**settings: float) -> list[Picture]:
        with tds.enhance(path, **settings) as decoder:
            return list(decoder)

    whole, half = pictures(), pictures(strength=0.5)
    told = [2] * 3 + [0] * 5 + [1] * 7 + [2] * 10
    for halves, picture, weak in zip(told, whole, half, strict=True):
        assert (picture.status == "refined") is (weak.status == "refined") is (halves > 0)
    with tds.decode(path) as decoder:
        for i in (20, 12, 5):  # 12: at half strength
            assert tools.digest(list(decoder[i].planes)) == tools.digest(list(whole[i].planes))
    path = retagged(result.path, tmp_path / "other.mp4", strengths=runs, model_sha256="ab" * 32)
    with tds.decode(path) as decoder:
        assert [picture.status for picture in decoder] == ["refined"] * 25
        assert any("strengths" in notice for notice in decoder.notices)


def test_a_lost_picture_of_a_plain_plan_is_known_from_its_tag(coded: Coded, tmp_path: Path) -> None:
    path = coded(plan="plain").path
    with av.open(str(path)) as source, av.open(str(tmp_path / "gap.mp4"), "w", options={
        "movflags": "use_metadata_tags"
    }) as out:  # fmt: skip
        out.metadata["tds"] = source.metadata["tds"]
        stream = out.add_stream_from_template(source.streams.video[0], opaque=True)
        for i, packet in enumerate(source.demux(video=0)):
            if packet.size and i != 9:
                packet.stream = stream
                out.mux(packet)
    with tds.decode(tmp_path / "gap.mp4") as decoder:
        pictures = list(decoder)
    assert len(pictures) == 25 and "lost" in pictures[9].reason
    facts = tools.tds("info", "--json", tmp_path / "gap.mp4", status=1).stdout
    assert json.loads(facts)["decodes"]["hr"] == {"pictures": 24, "lost": 1, "damaged": 0}


def test_info_tells_of_one_stream(coded: Coded) -> None:
    path = coded(plan="plain-enhanced", model="fast", strength=1).path
    text = tools.tds("info", path).stdout
    assert "25 frames, one stream" in text and "made better by a model" in text
    assert "decodes whole" in text and "installed here" in text
    facts = json.loads(tools.tds("info", "--json", path).stdout)
    assert list(facts["tracks"]) == ["hr"] and facts["hr"] == "refine" and facts["whole"]


def test_one_track_that_no_plan_is_of_is_refused(coded: Coded, small: Path, tmp_path: Path) -> None:
    done = tools.tds("decode", small, tmp_path / "o.y4m", status=1)
    assert "one video track and no TDS tag" in done.stderr and "tds enhance" in done.stderr
    part = tmp_path / "hr.mp4"
    tools.ffmpeg("-i", coded().path, "-map", "0:v:0", "-c", "copy", "-movflags",
                 "use_metadata_tags", part)  # fmt: skip
    done = tools.tds("decode", part, tmp_path / "o.y4m", status=1)
    assert "its tag speaks of two, HR and LR" in done.stderr
    with tds.enhance(part, model="fast") as pictures:  # a part of a pair is a video like any other
        assert {picture.status for picture in pictures} == {"refined"}
    assert not (tmp_path / "o.y4m").exists()


def test_options_of_pairs_are_of_no_other_plan(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.mp4"
    for options in ({"group": 5}, {"boundaries": "shared"}, {"scale": 2}, {"lr_qp_offset": 0}):
        with pytest.raises(InputError, match="is of --plan tds"):
            tds.encode(small, out, plan="plain", **options)
    with pytest.raises(InputError, match="asks for two raw streams"):
        tds.encode(small, tmp_path / "o.json", plan="plain")
    with pytest.raises(InputError, match="transport stream holds no tag"):
        tds.encode(small, tmp_path / "o.ts", codec="hevc", plan="plain-enhanced", model="fast")
    with pytest.raises(InputError, match="asks for no model"):
        tds.encode(small, out, plan="plain", model="fast")
    with pytest.raises(InputError, match="no plan 'best'"):
        tds.encode(small, out, plan="best")
    assert list(tmp_path.iterdir()) == []


def test_the_pair_s_defaults_are_shared_boundaries_and_a_coarser_lr(coded: Coded) -> None:
    result = coded(plan="tds", boundaries="shared", lr_qp_offset=3)
    assert tds.EncodeSettings(plan="tds") == tds.EncodeSettings(
        plan="tds", group=5, boundaries="shared", scale=2, lr_qp_offset=3
    )
    assert (result.metadata.hr_qp, result.metadata.lr_qp) == (37, 40)
    assert tds.EncodeSettings(codec="hevc", qp=50).lr_qp == 51  # HEVC has none above
