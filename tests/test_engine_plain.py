# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plain streams and refined HR pictures: random timelines through a real model of contract 2."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tds import Picture, Session
from tds._tds import MAX_LOOK_AHEAD, backend_available

WIDTH, HEIGHT = 32, 16
SLOTS = ["-1", "+1", "full-before", "full-after"]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """k -> a model whose result tells what it saw: the target, and of each present reference r
    the 2^r-th part of 1/32 of its difference, times the strength."""
    try:
        backend_available("torchscript")
        import torch
    except (NotImplementedError, ImportError) as e:
        pytest.skip(f"models cannot run here: {e}")

    class Seen(torch.nn.Module):
        @torch.jit.export
        def features(self, picture: torch.Tensor, side: torch.Tensor) -> list[torch.Tensor]:
            return [picture * 0.5]

        @torch.jit.export
        def enhance(
            self,
            target: torch.Tensor,
            target_features: list[torch.Tensor],
            references: list[torch.Tensor],
            reference_features: list[list[torch.Tensor]],
            side: torch.Tensor,
        ) -> torch.Tensor:
            change = torch.zeros_like(target)
            for r in range(len(references)):
                seen = reference_features[r][0] + references[r] * 0.5
                present = side[:, 1 + r, 0].reshape(-1, 1, 1, 1)
                change = change + present * (seen - target) * (2.0**r / 32)
            return target + change * side[:, 0, 6].reshape(-1, 1, 1, 1)

        def forward(self, pictures: torch.Tensor, side: torch.Tensor) -> torch.Tensor:
            alike = [self.features(pictures[:, r], side[:, r, 2:6]) for r in range(5)]
            references = [pictures[:, r] for r in range(1, 5)]
            return self.enhance(pictures[:, 0], alike[0], references, alike[1:], side)

    folder = tmp_path_factory.mktemp("models")
    out = {}
    for scale in (1, 2):
        out[scale] = folder / f"seen-k{scale}.pt"
        about = {
            "tds_model": 2, "name": "seen", "version": "1", "scale": scale, "references": SLOTS,
        }  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            script = torch.jit.script(Seen())
            torch.jit.save(script, str(out[scale]), _extra_files={"tds.json": json.dumps(about)})
    return out


@dataclass(frozen=True)
class Shown:
    """A picture of a stream: its role, strength, and whether it is lost on the way."""

    role: str
    strength: float
    lost: bool


@st.composite
def timelines(draw: st.DrawFn, roles: str) -> list[Shown]:
    one = st.builds(
        Shown,
        st.sampled_from(roles).map({"h": "hr", "l": "lr"}.__getitem__),
        st.sampled_from([1.0, 1.0, 1.0, 0.5, 0.0]),
        st.sampled_from([False] * 7 + [True]),
    )
    return draw(st.lists(one, max_size=24))


def value_of(pts: int) -> int:
    """Of every sample; neighbours are too alike for a scene cut."""
    return 100 + pts * 7 % 15


def planes(role: str, pts: int) -> list[np.ndarray]:
    k = 1 if role == "hr" else 2
    w, h = WIDTH // k, HEIGHT // k
    sizes = ((h, w), (h // 2, w // 2), (h // 2, w // 2))
    return [np.full(size, value_of(pts), np.uint8) for size in sizes]


def run(session: Session, line: list[Shown], plain: bool) -> list[Picture]:
    def stream(role: str) -> Iterator[tuple[int, Shown]]:
        return ((t, shown) for t, shown in enumerate(line) if shown.role == role)

    streams = {"hr": stream("hr"), "lr": stream("lr")}
    out: list[Picture] = []
    while not session.ended:
        assert session.wants <= ({"hr"} if plain else {"hr", "lr"})
        for role in session.wants:
            t, shown = next(streams[role], (0, None))
            if shown is None:
                session.end(role)
            elif shown.lost:
                assert session.send_lost(role, t)
            else:
                assert session.send(role, planes(role, t), t, strength=shown.strength)
        out.extend(session)
    return out


def slots_of(line: list[Shown], t: int, ahead: int) -> list[int | None]:
    """Times that the slots of ``SLOTS`` show (docs/model.md)."""
    there = [i for i, shown in enumerate(line) if not shown.lost]
    full = [i for i in there if line[i].role == "hr"]
    out: list[int | None] = [t - 1 if t - 1 in there else None, t + 1 if t + 1 in there else None]
    out.append(next((i for i in reversed(full) if i < t and i not in out), None))
    out.append(next((i for i in full if t < i <= t + ahead and i not in out), None))
    return [i if i is None or i <= t + ahead else None for i in out]


def made(target: float, strength: float, seen: list[float | None]) -> float:
    change = sum((v - target) * 2**r / 32 for r, v in enumerate(seen) if v is not None)
    return target + strength * change


def check(line: list[Shown], out: list[Picture], ahead: int, refines: bool) -> None:
    assert [p.pts for p in out] == list(range(len(line)))
    decoded = {t: float(value_of(t)) for t in range(len(line))}
    refined = dict(decoded)
    for t, shown in enumerate(line):
        if shown.role == "hr" and refines and shown.strength > 0:
            seen = [None if i is None else decoded[i] for i in slots_of(line, t, ahead)]
            refined[t] = float(round(made(decoded[t], shown.strength, seen)))
    for p in out:
        shown = line[p.pts]
        if shown.lost:
            assert p.status == "repeated"
            assert "lost" in p.reason
            continue
        if shown.strength == 0 or (shown.role == "hr" and not refines):
            assert p.status == ("passed" if shown.role == "hr" else "upsampled")
            assert all((plane == value_of(p.pts)).all() for plane in p.planes)
            continue
        assert p.status == ("refined" if shown.role == "hr" else "enhanced")
        others = decoded if shown.role == "hr" else refined
        seen = [None if i is None else others[i] for i in slots_of(line, p.pts, ahead)]
        want = made(decoded[p.pts], shown.strength, seen)
        for plane in p.planes:
            # A refined reference may have been rounded to the other side of a half.
            assert np.abs(plane - want).max() <= (0.6 if shown.role == "hr" else 1.1), p


@given(timelines("h"), st.integers(1, 5), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_plain_stream_is_refined_from_its_neighbours(
    models: dict[int, Path], line: list[Shown], batch: int, causal: bool
) -> None:
    with Session(
        WIDTH, HEIGHT, 1, model=models[1], kind="plain", max_batch=batch, causal=causal,
        device="cpu",
    ) as session:  # fmt: skip
        assert session.info.latency == (0 if causal else MAX_LOOK_AHEAD + batch - 1)
        out = run(session, line, True)
        check(line, out, 0 if causal else MAX_LOOK_AHEAD, True)
        assert session.info.refined == sum(p.status == "refined" for p in out)


@given(timelines("hlll"), st.booleans(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_pair_with_and_without_refined_hr_pictures(
    models: dict[int, Path], line: list[Shown], refines: bool, causal: bool
) -> None:
    hr_model = models[1] if refines else None
    with Session(
        WIDTH, HEIGHT, 2, model=models[2], hr_model=hr_model, causal=causal, device="cpu"
    ) as session:
        out = run(session, line, False)
        check(line, out, 0 if causal else len(line), refines)
        assert session.info.hr_model_name == ("seen" if refines else "")
        assert session.info.contract == 2


def test_refined_hr_pictures_serve_lr_pictures_in_4_4_4_too(models: dict[int, Path]) -> None:
    """What the model made of them, and of what it saw, and not what became of that at 4:4:4."""
    rng = np.random.default_rng(0)
    line = [Shown(role, 1.0, False) for role in ("hr", "lr", "lr", "hr")]
    lumas, chromas = [], []
    for shown in line:
        h, w = (HEIGHT, WIDTH) if shown.role == "hr" else (HEIGHT // 2, WIDTH // 2)
        lumas.append(rng.integers(90, 110, (h, w), np.uint8))
        chromas.append(rng.integers(90, 110, (2, h // 2, w // 2), np.uint8))
    made = []
    for chroma in (420, 444):
        with Session(
            *(WIDTH, HEIGHT, 2), model=models[2], hr_model=models[1], device="cpu", chroma=chroma
        ) as session:
            for time, shown in enumerate(line):
                both = chromas[time] if chroma == 420 else chromas[time].repeat(2, 1).repeat(2, 2)
                assert session.send(shown.role, [lumas[time], *both], pts=time)
            session.end("hr")
            session.end("lr")
            made.append([[plane.copy() for plane in p.planes] for p in session])
            assert (session.info.refined, session.info.enhanced) == (2, 2)
    for small, whole in zip(*made, strict=True):
        assert np.array_equal(small[0], whole[0])
        assert whole[1].shape == (HEIGHT, WIDTH)


def test_ten_bits_and_a_size_that_the_alignment_does_not_divide(models: dict[int, Path]) -> None:
    rng = np.random.default_rng(1)
    sizes = ((38, 54), (19, 27), (19, 27))
    frames = [[rng.integers(400, 440, s).astype(np.uint16) for s in sizes] for _ in range(3)]
    with Session(54, 38, 1, 10, model=models[1], kind="plain", device="cpu") as session:
        for t, frame in enumerate(frames):
            assert session.send("hr", frame, t)
            list(session)
        session.end("hr")
        out = list(session)
    assert [p.status for p in out] == ["refined"] * 3
    for i in range(3):
        a, b, c = (f[i].astype(float) for f in frames)
        assert np.abs(out[1].planes[i] - (b + (a - b) / 32 + (c - b) / 16)).max() <= 0.51


def test_what_python_refuses(models: dict[int, Path], tmp_path: Path) -> None:
    for change, word in (
        ({"kind": "both"}, "kind"),
        ({"strength": 2.0}, "strength"),
        ({"kind": "plain"}, "scale 1"),
        ({"model": models[1]}, "NAME-k2"),
        ({"hr_model": models[2]}, "NAME-k1"),
    ):
        with pytest.raises(ValueError, match=word):
            Session(WIDTH, HEIGHT, 2, **{"model": models[2], "device": "cpu", **change})  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        Session(WIDTH, HEIGHT, 2, model=models[2], hr_model=tmp_path / "none.pt", device="cpu")
    with Session(WIDTH, HEIGHT, 1, model=models[1], kind="plain", device="cpu") as session:
        with pytest.raises(ValueError, match="one stream"):
            session.send("lr", planes("hr", 0), 0)
        with pytest.raises(ValueError, match="strength"):
            session.send("hr", planes("hr", 0), 0, strength=-1.0)
        with pytest.raises(ValueError, match="type"):
            session.send("hr", planes("hr", 0), 0, type="X")
