# SPDX-License-Identifier: LGPL-2.1-or-later
from __future__ import annotations

import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tds.container.metadata import MAX_FRAMES, Metadata, Timeline
from tds.plan import Boundaries, Role


def metadata(**changes: object) -> Metadata:
    values: dict[str, object] = {
        "scale": 2, "width": 416, "height": 240, "bit_depth": 8, "codec": "vvc", "config": "ai",
        "hr_qp": 32, "lr_qp": 32, "group": 5, "boundaries": Boundaries.SHARED,
        "groups": ((-5, 1), (5, 1)), "model": "fast", "model_sha256": "a" * 64,
        "timeline": Timeline(Fraction(1, 25), 0, 9, Fraction(25)), "leads": ((0, 1), (4, 1)),
    }  # fmt: skip
    return Metadata(**{**values, **changes})  # type: ignore[arg-type]


def test_it_survives_its_json() -> None:
    m = metadata()
    assert Metadata.from_json(m.to_json(), "x") == m


def test_roles_and_times_come_out_together() -> None:
    m = metadata()
    assert m.expected() == {Role.HR: [0, 4, 8], Role.LR: [1, 2, 3, 5, 6, 7]}
    assert m.lead_times() == [0, 4]


@given(st.lists(st.integers(1, 5000), max_size=60), st.integers(-100, 100))
def test_a_timeline_gives_back_any_times(steps: list[int], start: int) -> None:
    times = [start]
    for step in steps:
        times.append(times[-1] + step)
    timeline = Timeline.of(times, Fraction(1, 1000), Fraction(25))
    assert timeline.known and list(timeline.times()) == times


@pytest.mark.parametrize("rate", ["24", "25", "30000/1001", "50", "60000/1001", "60"])
def test_times_rounded_to_milliseconds_stay_short(rate: str) -> None:
    """Matroska holds 29.97 fps as 0, 33, 67, 100 ms; the metadata must not grow with it."""
    fps = Fraction(rate)
    times = [int(i * 1000 / fps + Fraction(1, 2)) for i in range(5000)]
    timeline = Timeline.of(times, Fraction(1, 1000), fps)
    assert timeline.deltas is None and list(timeline.times()) == times


def test_times_too_irregular_to_store_are_said_to_be_unknown() -> None:
    times = [i * 10 + i % 2 for i in range(50_000)]
    timeline = Timeline.of(times, Fraction(1, 1000), Fraction(100))
    assert not timeline.known and list(timeline.times()) == []


def test_nothing_is_written_that_a_reader_would_refuse() -> None:
    many = tuple((3 + 2 * (i % 2), 1) for i in range(20_001))
    frames = sum(size for size, _ in many)
    timeline = Timeline(Fraction(1, 25), 0, frames, Fraction(25))
    long = {"boundaries": Boundaries.INDEPENDENT, "groups": many, "timeline": timeline, "leads": ()}
    with pytest.raises(ValueError, match=r"20000 runs.*split the video"):
        metadata(**long).to_json()
    for wrong in ({"hr_qp": 32.5}, {"groups": ((5, 1),)}, {"model": "../x"}, {"width": 1}):
        with pytest.raises(ValueError, match="TDS metadata"):
            metadata(**wrong).to_json()


BAD = {
    "tds": [0, 2, "1", None],
    "scale": [0, 3, 8, "2", 2.0, True, None],
    "width": [0, 1 << 20, -2],
    "bit_depth": [9, 16],
    "boundaries": ["both", None, 3],
    "groups": [[[5, 1]], [[5, 10**9]], "x", [[5]], [[0, 9]], [[-5, 2], [5, 1]]],
    "leads": [[[9, 1]], [[1, 10**6]], [[-1, 1]]],
    "model": ["../../etc/passwd", "http://x/y", "a b", ""],
    "model_sha256": ["zz", "a" * 63],
    "timeline": [
        {},
        {"time_base": "1/0", "frames": 9, "rate": "25"},
        {"time_base": "1/25", "frames": MAX_FRAMES + 1, "rate": "25"},
        {"time_base": "1/25", "frames": 9, "rate": "-1"},
        {"time_base": "1/25", "frames": 9, "rate": "25", "deltas": [[1, 9]]},
        {"time_base": "1/25", "frames": 9, "rate": "25", "deltas": [[0, 8]]},
    ],
}


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, values in BAD.items() for v in values])
def test_what_a_reader_could_not_rely_on_is_refused_with_the_file_s_name(
    key: str, value: object
) -> None:
    changed = json.loads(metadata().to_json())
    changed[key] = value
    with pytest.raises(ValueError, match=r"^clip\.mp4: its TDS metadata"):
        Metadata.from_json(json.dumps(changed), "clip.mp4")


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with pytest.raises(ValueError, match="TDS metadata"):
        Metadata.from_json(text, "x")


def test_unknown_keys_are_ignored() -> None:
    changed = json.loads(metadata().to_json())
    changed["new"] = {"in": "version 1.1"}
    assert Metadata.from_json(json.dumps(changed), "x") == metadata()


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(ValueError, match="TDS metadata"):
        Metadata.from_json("[" * 100_000, "x")


@pytest.mark.parametrize(
    "value", ['"1e1000000000"', "1e400", "NaN", "-Infinity", "true", '"25/0"', '"-25"', "[25]"]
)
def test_a_rate_is_a_number_or_a_fraction_and_costs_nothing_to_read(value: str) -> None:
    for name in ("rate", "time_base"):
        changed = json.loads(metadata().to_json())
        changed["timeline"][name] = "HERE"
        with pytest.raises(ValueError, match="TDS metadata is damaged"):
            Metadata.from_json(json.dumps(changed).replace('"HERE"', value), "x")


@pytest.mark.parametrize("key", ["codec", "encoder", "preset"])
def test_what_is_no_json_is_refused_wherever_it_stands(key: str) -> None:
    text = json.dumps({**json.loads(metadata().to_json()), key: float("nan")})
    assert "NaN" in text
    with pytest.raises(ValueError, match="its TDS metadata is damaged"):
        Metadata.from_json(text, "x")
