# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a player makes of a candidate, and how far from the source it is."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame

from ..closing import Closing
from ..errors import ExternalError
from ..media.decoding import frames
from ..media.opening import ffmpeg_name
from ..media.planar import Plane, planes_of
from ..session import Picture, Session


def squared_error(a: Plane, b: Plane) -> int:
    """The sum over a plane, in code values."""
    difference = np.subtract(a, b, dtype=np.int32)
    return int(np.square(difference, out=difference).sum(dtype=np.int64))


def half_way(decoded: Plane, enhanced: Plane) -> Plane:
    """About what half the change makes; the session rounds what the model changes, once."""
    mean = (decoded.astype(np.int32) + enhanced + 1) >> 1
    return mean.astype(np.uint8) if decoded.dtype == np.uint8 else mean.astype(np.uint16)


def decode_all(path: Path, count: int) -> list[VideoFrame]:
    """The pictures of a coded segment, in display order. Raises ExternalError when one lacks."""
    with av.open(ffmpeg_name(path)) as container:
        pictures = list(frames(str(path), container, container.streams.video[0]))
    if len(pictures) != count or any(picture.is_corrupt for picture in pictures):
        raise ExternalError(f"{path.name}: {len(pictures)} of the {count} frames coded decode")
    return pictures


@dataclass(frozen=True)
class Enhancers:
    """Archives of the models that measure. plain: for k = 1. pairs: by k. hr: for k = 1, to refine
    the HR pictures of pairs, where the models for pairs can; None: they cannot. hashes: sha256 of
    each as found, by k. code: hashes of what made archives of weights."""

    name: str
    plain: str
    pairs: Mapping[int, str] = field(default_factory=dict)
    hr: str | None = None
    hashes: Mapping[int, str] = field(default_factory=dict)
    code: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """What determines what they make of pictures."""
        return (*self.hashes.values(), *self.code)

    @property
    def paths(self) -> set[str]:
        """Of all archives."""
        return {self.plain, *self.pairs.values()} | ({self.hr} if self.hr else set())


@dataclass(frozen=True)
class Sent:
    """A decoded picture of a stream, at its place in display order. strength: 0 to 1."""

    place: int
    frame: VideoFrame
    strength: float = 1.0


class Rebuilder(Closing):
    """Sessions as players have them, of one thread, kept from one segment to the next. stop: where
    it is set, rebuilding ends with an ExternalError."""

    def __init__(
        self,
        size: tuple[int, int],
        bit_depth: int,
        chroma: int,
        enhancers: Enhancers,
        hr_qp: int,
        threads: int,
        stop: threading.Event,
    ) -> None:
        self._stop = stop
        self._size, self._bit_depth, self._chroma = size, bit_depth, chroma
        self._enhancers, self._hr_qp, self._threads = enhancers, hr_qp, threads
        self._sessions: dict[tuple[int, int, bool], Session] = {}

    def plain(self, pictures: Iterable[Sent]) -> Iterator[Picture]:
        """Of a stream without LR, made better."""
        return self._rebuild(self._session(1, -1, False), {"hr": iter(pictures)})

    def pair(
        self, scale: int, lr_qp: int, hr: Sequence[Sent], lr: Sequence[Sent], refine: bool = False
    ) -> Iterator[Picture]:
        """Of a pair."""
        session = self._session(scale, lr_qp, refine)
        return self._rebuild(session, {"hr": iter(hr), "lr": iter(lr)})

    def _session(self, scale: int, lr_qp: int, refine: bool) -> Session:
        key = (scale, lr_qp, refine)
        if key not in self._sessions:
            plain = scale == 1
            self._sessions[key] = Session(
                *self._size,
                scale,
                bit_depth=self._bit_depth,
                chroma=self._chroma,
                backend="torchscript",
                model=self._enhancers.plain if plain else self._enhancers.pairs[scale],
                threads=self._threads,
                hr_qp=self._hr_qp,
                lr_qp=lr_qp,
                kind="plain" if plain else "pair",
                hr_model=self._enhancers.hr if refine else None,
            )
        return self._sessions[key]

    def _rebuild(
        self, session: Session, streams: Mapping[str, Iterator[Sent]]
    ) -> Iterator[Picture]:
        session.flush()
        while not session.ended:
            self.check()
            for role in ("hr", "lr"):
                if role not in session.wants:
                    continue
                sent = next(streams[role], None)
                if sent is None:
                    session.end(role)
                else:
                    taken = session.send(
                        role,
                        sent.frame,
                        sent.place,
                        strength=sent.strength,
                    )
                    assert taken, "a session that wants a stream takes a picture of it"
            yield from session

    def check(self) -> None:
        """Raises ExternalError where the work is to end soon."""
        if self._stop.is_set():
            raise ExternalError("the work was ended")

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()


@dataclass
class Errors:
    """Squared luma errors of one picture at strengths of 0, 1/2 and 1."""

    passed: int
    half: int
    whole: int

    @property
    def by_halves(self) -> tuple[int, int, int]:
        return self.passed, self.half, self.whole


def enhanced_errors(
    rebuilder: Rebuilder, pictures: Iterable[tuple[Plane, VideoFrame]]
) -> Iterator[Errors]:
    """Of each decoded picture of a plain stream against the source's luma, as the session makes it
    better. Few pictures are held at a time."""
    waiting: dict[int, tuple[Plane, Plane]] = {}

    def sent() -> Iterator[Sent]:
        for place, (source, frame) in enumerate(pictures):
            waiting[place] = source, planes_of(frame)[0]
            yield Sent(place, frame)

    for picture in rebuilder.plain(sent()):
        source, decoded = waiting.pop(picture.pts)
        made = picture.planes[0]
        yield Errors(
            squared_error(source, decoded),
            squared_error(source, half_way(decoded, made)),
            squared_error(source, made),
        )
