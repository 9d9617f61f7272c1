# SPDX-License-Identifier: LGPL-2.1-or-later
"""Random timelines through real sessions: every frame once, in order, made as it should be."""

from __future__ import annotations

import bisect
import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tds import Picture, Session
from tds._tds import backend_available

WIDTH, HEIGHT = 32, 16


@dataclass(frozen=True)
class Timeline:
    """What is sent: times of HR and LR pictures, and those told to be lost."""

    hr: list[int]
    lr: list[int]
    lost_hr: set[int]
    lost_lr: set[int]


@st.composite
def timelines(draw: st.DrawFn, losses: bool = False) -> Timeline:
    count = draw(st.integers(0, 40))
    steps = draw(st.lists(st.integers(1, 5), min_size=count, max_size=count))
    times = [sum(steps[: i + 1]) - 20 for i in range(count)]
    kinds = draw(st.lists(st.sampled_from("hlllb"), min_size=count, max_size=count))
    hr = [t for t, kind in zip(times, kinds, strict=True) if kind in "hb"]
    lr = [t for t, kind in zip(times, kinds, strict=True) if kind in "lb"]
    lose = st.lists(st.booleans(), min_size=count, max_size=count)
    gone = draw(lose) if losses else [False] * count
    lost = {t for t, g in zip(times, gone, strict=True) if g}
    return Timeline(hr, lr, lost & set(hr), lost & set(lr))


def planes(width: int, height: int, value: int) -> list[np.ndarray]:
    return [
        np.full((h, w), value, np.uint8)
        for h, w in ((height, width), (height // 2, width // 2), (height // 2, width // 2))
    ]


def hr_value(pts: int) -> int:
    return 40 + pts * 3 % 90


def lr_value(pts: int) -> int:
    return 140 + pts * 3 % 90


def run(session: Session, line: Timeline, eager: list[bool]) -> list[Picture]:
    """Sends all of a timeline; ``eager`` says, again and again, which stream is tried first
    regardless of what the session wants (a caller that cannot choose)."""
    streams = {"hr": line.hr, "lr": line.lr}
    lost = {"hr": line.lost_hr, "lr": line.lost_lr}
    sent = {"hr": 0, "lr": 0}
    done: set[str] = set()
    out: list[Picture] = []
    turn = 0

    def send(role: str) -> bool:
        if role in done:
            return False
        if sent[role] == len(streams[role]):
            session.end(role)
            done.add(role)
            return True
        pts = streams[role][sent[role]]
        if pts in lost[role]:
            taken = session.send_lost(role, pts)
        elif role == "hr":
            taken = session.send("hr", planes(WIDTH, HEIGHT, hr_value(pts)), pts)
        else:
            taken = session.send("lr", planes(WIDTH // 2, HEIGHT // 2, lr_value(pts)), pts)
        sent[role] += taken
        return taken

    while not session.ended:
        wants = session.wants
        picture = session.receive()
        if picture is not None:
            assert not wants
            out.append(picture)
            continue
        if session.ended:
            break
        assert wants
        if eager:
            role = "hr" if eager[turn % len(eager)] else "lr"
            turn += 1
            if send(role):
                continue
        assert send(sorted(wants)[0]), "a stream that is wanted was refused"
    return out


def check_frames(line: Timeline, out: list[Picture]) -> None:
    """Every time once, in order; HR untouched; LR dropped where there is HR."""
    assert [p.pts for p in out] == sorted(set(line.hr) | set(line.lr))
    for p in out:
        if p.pts in line.hr and p.pts not in line.lost_hr:
            assert p.status == "passed"
            assert all((plane == hr_value(p.pts)).all() for plane in p.planes)
        elif p.pts in line.lr and p.pts not in line.lost_lr:
            assert p.status in ("upsampled", "enhanced")
        else:
            assert p.status == "repeated"
            assert "lost" in p.reason


@given(timelines(losses=True), st.lists(st.booleans(), max_size=6), st.integers(1, 9))
@settings(max_examples=200, deadline=None)
def test_bicubic_gives_every_frame_once(line: Timeline, eager: list[bool], group: int) -> None:
    with Session(WIDTH, HEIGHT, 2, backend="bicubic", max_group=group) as session:
        out = run(session, line, eager)
        check_frames(line, out)
        for p in out:
            if p.status == "upsampled":
                assert (p.planes[0] == lr_value(p.pts)).all()
                assert "no-model" in p.reason
        info = session.info
        assert info.passed + info.upsampled + info.repeated == len(out)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """(first + 2 target + 4 last) / 7, which tells what a picture was made from."""
    try:
        backend_available("torchscript")
        import torch
    except (NotImplementedError, ImportError) as e:
        pytest.skip(f"models cannot run here: {e}")

    class Mix(torch.nn.Module):
        def forward(
            self,
            first: torch.Tensor,
            target: torch.Tensor,
            last: torch.Tensor,
            side: torch.Tensor,
        ) -> torch.Tensor:
            up = target.repeat_interleave(2, 2).repeat_interleave(2, 3)
            return (first + 2 * up + 4 * last) / 7

    path = tmp_path_factory.mktemp("model") / "mix.pt"
    about = {"tds_model": 1, "name": "mix", "version": "1", "scale": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(
            torch.jit.script(Mix()), str(path), _extra_files={"tds.json": json.dumps(about)}
        )
    return path


def expected_values(line: Timeline) -> dict[int, float]:
    """The paper's recurrence by hand, for a timeline without losses: time -> value."""
    values = {t: float(hr_value(t)) for t in line.hr}
    runs: dict[int, list[int]] = {}
    for t in line.lr:
        if t not in values:
            runs.setdefault(bisect.bisect(line.hr, t), []).append(t)
    for i, times in runs.items():
        a = values[line.hr[i - 1]] if i > 0 else None
        b = values[line.hr[i]] if i < len(line.hr) else None

        def mix(a: float | None, t: int, b: float | None) -> float:
            if a is None and b is None:
                return float(lr_value(t))
            first, last = b if a is None else a, a if b is None else b
            assert first is not None
            assert last is not None
            return (first + 2 * lr_value(t) + 4 * last) / 7

        if a is None or b is None:
            values |= {t: mix(a, t, b) for t in times}
            continue
        m = (len(times) - 1) // 2
        middle = mix(a, times[m], b)
        values |= {t: mix(a, t, middle) for t in times[:m]}
        values[times[m]] = middle
        values |= {t: mix(middle, t, b) for t in times[m + 1 :]}
    return values


@given(timelines(), st.lists(st.booleans(), max_size=6), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_a_model_gets_the_references_of_the_paper(
    model: Path, line: Timeline, eager: list[bool], batch: int
) -> None:
    with Session(WIDTH, HEIGHT, 2, model=model, device="cpu", max_batch=batch) as session:
        out = run(session, line, eager)
    check_frames(line, out)
    want = expected_values(line)
    for p in out:
        for plane in p.planes:
            assert np.abs(plane - want[p.pts]).max() <= 0.51, p
        alone = not any(t < p.pts for t in line.hr), not any(t > p.pts for t in line.hr)
        if p.status != "passed":
            assert ("no-first" in p.reason, "no-last" in p.reason) == alone
            assert p.status == ("upsampled" if all(alone) else "enhanced")


@given(timelines(losses=True), st.lists(st.booleans(), max_size=6), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_losses_and_long_runs_with_a_model(
    model: Path, line: Timeline, eager: list[bool], group: int
) -> None:
    with Session(WIDTH, HEIGHT, 2, model=model, device="cpu", max_group=group) as session:
        out = run(session, line, eager)
        check_frames(line, out)
        by_time = {p.pts: p for p in out}
        for p in out:
            for reference in p.references:
                if reference is not None:
                    assert by_time[reference].status in ("passed", "enhanced")


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("depth", [8, 10])
def test_flat_pictures_stay_flat(scale: int, depth: int) -> None:
    dtype = np.uint8 if depth == 8 else np.uint16
    lr = [p.astype(dtype) for p in planes(WIDTH // scale, max(HEIGHT // scale, 2), 77)]
    with Session(WIDTH, HEIGHT, scale, depth) as session:
        session.end("hr")
        assert session.send("lr", lr, 0)
        picture = session.receive()
        assert picture is not None
        assert all((p == 77).all() for p in picture.planes)
