# SPDX-License-Identifier: LGPL-2.1-or-later
"""A pair from two separate files: raw streams, y4m, yuv, any video, pipes and FIFOs.

Files that hold times (MP4, Matroska) pair by them. Raw ones have none: a
picture's place in output order and the plan (a sidecar, or a regular group)
give its time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Protocol

from av.video.frame import VideoFrame

from ._tds import RATE_PICTURES, frame_rate, lr_size, scale_of
from .container.metadata import Hints, Metadata, container_tag, read_tag
from .container.times import common_unit, ratio, rescale
from .decoder import Decoder, EnhanceSettings
from .errors import InputError
from .media.decoding import frames
from .media.opening import RawFormat, open_container, video_streams
from .media.pipes import PipeReader, is_pipe
from .media.planar import chroma_name, chroma_of, depth_of
from .media.times import exact
from .pair import QUEUED_PICTURES, Decoded, Item, Lost, Pair, Planned
from .plan import Boundaries, PlanSettings, Role
from .tracks import shape

_RAW = frozenset(("vvc", "hevc", "h264", "yuv4mpegpipe", "rawvideo", "obu", "m4v"))


@dataclass(frozen=True)
class RegularPlan:
    """Groups of ``group`` frames all along, at ``rate`` frames a second; the last may be short.

    lead: the LR stream starts with the down-sampled first boundary (LDP, RA).
    """

    group: int
    boundaries: Boundaries = Boundaries.INDEPENDENT
    rate: Fraction = Fraction(25)
    lead: bool = False

    def __post_init__(self) -> None:
        PlanSettings(self.group, self.boundaries)  # checks the group


def enhance_pair(
    hr: str,
    lr: str,
    *,
    sidecar: Metadata | None = None,
    plan: RegularPlan | None = None,
    raw: RawFormat | None = None,
    scale: int = 2,
    settings: EnhanceSettings | None = None,
) -> Decoder:
    """Pairs two files and iterates over the pictures at full size; see ``tds.enhance``."""
    files = _Files(hr, lr, raw, scale)
    try:
        known = None
        hints = sidecar.hints if sidecar else Hints()
        if sidecar is not None:
            streams, time_base, rate = by_sidecar(files, sidecar)
        elif plan is not None:
            streams, time_base, rate = by_plan(files, plan)
        elif files.timed:
            streams, time_base, rate = _by_time(files)
            known = files.planned()
            if files.tag is not None:
                hints = Metadata.of(files.tag).hints
        else:
            raise InputError(
                f"{hr} and {lr} hold no times; give --sidecar FILE, or --group and --rate"
            )
        pair = Pair(
            {role: _then_close(items, files.of(role)) for role, items in streams.items()},
            width=files.hr.width,
            height=files.hr.height,
            bit_depth=files.hr.bit_depth,
            chroma=files.hr.chroma,
            scale=files.scale,
            time_base=time_base,
            rate=rate,
            sample_aspect_ratio=files.hr.sample_aspect_ratio,
            full_range=files.hr.full_range,
            plan=known,
            hints=hints,
            strengths=sidecar.strengths_by_time() if sidecar else {},
            # An HR picture may wait for all LR pictures of its group to be read.
            queued=max(QUEUED_PICTURES, plan.group) if plan else QUEUED_PICTURES,
            interrupt=files.interrupt,
        )
        return Decoder(pair, settings)
    except BaseException:
        files.close()
        raise


def _then_close(items: Iterator[Item], file: _File) -> Iterator[Item]:
    """``items``, and once they or their reader have ended, the file they come from."""
    try:
        yield from items
    finally:
        file.close()


class PictureFile(Protocol):
    """One stream of pictures in output order, without times."""

    @property
    def path(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    def pictures(self) -> Iterator[Decoded]: ...


class FilePair(Protocol):
    @property
    def hr(self) -> PictureFile: ...
    @property
    def lr(self) -> PictureFile: ...
    @property
    def scale(self) -> int: ...
    def of(self, role: Role) -> PictureFile: ...


class _File:
    """One of the two files: its pictures in output order."""

    def __init__(self, path: str, raw: RawFormat | None, pipe: PipeReader | None) -> None:
        self.path = path
        raw = raw if _is_raw_yuv(path, raw) else None
        self._container = open_container(path, raw, pipe=pipe)
        try:
            self._open_stream()
        except BaseException:
            self.close()
            raise

    def _open_stream(self) -> None:
        path = self.path
        videos = video_streams(self._container)
        if not videos:
            raise InputError(f"{path} has no video stream")
        if len(videos) > 1:
            raise InputError(
                f"{path} has {len(videos)} video tracks, and each of two files has one; for a "
                "paired file, which has both streams, use tds decode"
            )
        stream = videos[0]
        self.timed = self._container.format.name.split(",")[0] not in _RAW
        self.time_base = exact(stream.time_base or 1)
        self.sample_aspect_ratio, self.full_range = shape(stream)
        self.damaged = 0
        self.width, self.height = stream.codec_context.width, stream.codec_context.height
        name = stream.codec_context.pix_fmt
        self.bit_depth, self.chroma = depth_of(name), chroma_of(name)
        if not self.bit_depth:
            raise InputError(
                f"{path} is {name or 'of an unknown format'}, not 8 or 10 bit 4:2:0, 4:2:2 or 4:4:4"
            )
        self.tag_text = container_tag(self._container)
        self._stream = stream
        self._decoded = self._decode()
        self._ahead = list(islice(self._decoded, RATE_PICTURES)) if self.timed else []

    @property
    def first_times(self) -> list[Fraction]:
        """In seconds, of the first pictures of a file that has times."""
        return [frame.pts * self.time_base for frame in self._ahead if frame.pts is not None]

    def pictures(self) -> Iterator[VideoFrame]:
        return chain(self._ahead, self._decoded)

    def _decode(self) -> Iterator[VideoFrame]:
        for frame in frames(self.path, self._container, self._stream, self._damage):
            if (frame.width, frame.height) != (self.width, self.height):
                raise InputError(f"{self.path}: its pictures change size")
            yield frame

    def _damage(self) -> None:
        self.damaged += 1

    def close(self) -> None:
        self._container.close()


def _is_raw_yuv(path: str, raw: RawFormat | None) -> bool:
    return raw is not None and Path(path).suffix.lower() not in (
        *(".y4m", ".mp4", ".mkv", ".mov", ".266", ".265", ".vvc", ".hevc", ".bin", ".bit"),
    )


class _Files:
    def __init__(self, hr: str, lr: str, raw: RawFormat | None, scale: int) -> None:
        if hr == lr or (Path(hr).is_file() and Path(lr).is_file() and Path(hr).samefile(lr)):
            raise InputError(
                f"{hr} is given as both HR and LR; name two files, or use tds decode for a paired "
                "file, which has both streams"
            )
        lr_raw = None
        if raw is not None and raw.size is not None:
            size = (lr_size(raw.size[0], scale), lr_size(raw.size[1], scale))
            lr_raw = RawFormat(size, raw.rate, raw.pix_fmt)
        self._pipes = [PipeReader(path) if is_pipe(path) else None for path in (hr, lr)]
        # Both at once: one program may feed both, and wait with the one until the other is read.
        with ThreadPoolExecutor(2) as threads:
            opening = [
                threads.submit(_File, path, form, pipe)
                for path, form, pipe in zip((hr, lr), (raw, lr_raw), self._pipes, strict=True)
            ]
            try:
                self.hr, self.lr = (one.result() for one in opening)
            except BaseException:
                self.interrupt()
                for one in opening:
                    if one.exception() is None:
                        one.result().close()
                raise
        self.scale = scale_of(self.hr.width, self.hr.height, self.lr.width, self.lr.height)
        if not self.scale:
            sizes = f"{self.hr.width}x{self.hr.height} and {lr} is {self.lr.width}x{self.lr.height}"
            self.close()
            raise InputError(
                f"{hr} is {sizes}, which is no ratio of 1, 2 or 4; "
                "these two files do not belong together (or are the wrong way round)"
            )
        if self.hr.bit_depth != self.lr.bit_depth:
            self.close()
            raise InputError(f"{hr} and {lr} have different bit depths; code both with the same")
        if self.hr.chroma != self.lr.chroma:
            self.close()
            raise InputError(
                f"{hr} is {chroma_name(self.hr.chroma)} and {lr} is {chroma_name(self.lr.chroma)}; "
                "code both with the same"
            )

        text = self.hr.tag_text or self.lr.tag_text
        self.tag = read_tag(text, hr if self.hr.tag_text else lr) if text and self.timed else None

    @property
    def timed(self) -> bool:
        return self.hr.timed and self.lr.timed

    def planned(self) -> Planned:
        """What the tag tells of their times, where one of the two files has it."""
        clocks = {role: self.of(role).time_base for role in Role}
        return Planned(self.hr.path, self.tag, clocks, {role: [] for role in Role})

    def of(self, role: Role) -> _File:
        return self.hr if role is Role.HR else self.lr

    def interrupt(self) -> None:
        """Ends reads that wait for a pipe's writer; from any thread."""
        for pipe in self._pipes:
            if pipe is not None:
                pipe.interrupt()

    def close(self) -> None:
        self.hr.close()
        self.lr.close()


Streams = dict[Role, Iterator[Item]]


def _by_time(files: _Files) -> tuple[Streams, Fraction, Fraction]:
    base = common_unit((files.hr.time_base, files.lr.time_base))

    def timed(file: _File) -> Iterator[Item]:
        for frame in file.pictures():
            if frame.pts is not None:
                frame.pts = rescale(frame.pts, file.time_base, base)
                yield frame

    if files.tag is not None:
        rate = Fraction(*files.tag.rate)
    else:
        seconds = [*files.hr.first_times, *files.lr.first_times]
        ticks = [rescale(t.numerator, Fraction(1, t.denominator), base) for t in seconds]
        rate = Fraction(*frame_rate(ticks, ratio(base)))
    return {role: timed(files.of(role)) for role in Role}, base, rate


def by_sidecar(files: FilePair, m: Metadata) -> tuple[Streams, Fraction, Fraction]:
    """(pictures with their times, time base, rate), the times by a sidecar."""
    if (m.width, m.height, m.scale) != (files.hr.width, files.hr.height, files.scale):
        raise InputError(
            f"the sidecar is of a {m.width}x{m.height} video at k = {m.scale}, and "
            f"{files.hr.path} is {files.hr.width}x{files.hr.height} at k = {files.scale}"
        )
    if not m.timeline.known:
        raise InputError("the sidecar holds no times, and the raw files have none either")
    expected = m.expected()
    coded = {Role.HR: expected[Role.HR], Role.LR: sorted(expected[Role.LR] + m.lead_times())}

    def placed(role: Role) -> Iterator[Item]:
        def at_their_times() -> Iterator[Decoded]:
            file = files.of(role)
            extra = 0
            times = iter(coded[role])
            for frame in file.pictures():
                pts = next(times, None)
                if pts is None:
                    extra += 1
                    continue
                frame.pts = pts
                yield frame
            if extra:
                raise InputError(
                    f"{file.path} has {extra} pictures more than its sidecar tells of; "
                    "they do not belong together"
                )

        return fill_lost(at_their_times(), expected[role])

    return {role: placed(role) for role in Role}, m.timeline.time_base, m.timeline.rate


def by_plan(files: FilePair, plan: RegularPlan) -> tuple[Streams, Fraction, Fraction]:
    """Times from the order alone. Only the LR stream's end tells how long the last
    group is, so an HR picture that ends a group waits for the LR pictures before it."""
    inner = plan.group - 2
    lr_count = _Counter()
    check = _CountsCheck(plan)

    def lr() -> Iterator[Item]:
        count = -plan.lead
        try:
            for count, frame in enumerate(files.lr.pictures(), 1 - plan.lead):
                if count == 0:
                    frame.pts = 0
                else:
                    frame.pts = _start((count - 1) // inner, plan) + 1 + (count - 1) % inner
                    lr_count.up()
                yield frame
            check.ended(Role.LR, count + plan.lead)
        finally:  # also when the decoder is closed early: HR's thread may be waiting
            lr_count.end()

    def hr() -> Iterator[Item]:
        shared = plan.boundaries is Boundaries.SHARED
        j = -1
        for j, frame in enumerate(files.hr.pictures()):
            if shared:
                group, ends = (j - 1, True) if j else (0, False)
            else:
                group, ends = j // 2, bool(j % 2)
            if ends:
                have = lr_count.wait(inner * (group + 1)) - inner * group
                frame.pts = _start(group, plan) + 1 + max(0, min(inner, have))
            else:
                frame.pts = _start(group, plan)
            yield frame
        check.ended(Role.HR, j + 1)

    rate = plan.rate
    return {Role.HR: hr(), Role.LR: lr()}, 1 / rate, rate


def _start(group: int, plan: RegularPlan) -> int:
    shared = plan.boundaries is Boundaries.SHARED
    return group * (plan.group - 1 if shared else plan.group)


class _CountsCheck:
    """Whether the two streams can be of this plan, told once both have ended."""

    def __init__(self, plan: RegularPlan) -> None:
        self._plan = plan
        self._counts: dict[Role, int] = {}
        self._lock = threading.Lock()

    def ended(self, role: Role, count: int) -> None:
        """Raises InputError when both have ended and their numbers of pictures do not go together;
        the pictures then had wrong times."""
        with self._lock:
            self._counts[role] = count
            if len(self._counts) < len(Role):
                return
        hr, lr, plan = self._counts[Role.HR], self._counts[Role.LR], self._plan
        least, most = lr_counts(hr, plan)
        if least <= lr <= most:
            return
        wanted = f"{least}" if least == most else f"{least} to {most}"
        lead = ", and one more as the lead," if plan.lead else ""
        raise InputError(
            f"{_count(hr, 'HR picture')} make {wanted} LR{lead} in groups of {plan.group} with "
            f"{plan.boundaries.value} boundaries, and {lr} came; {_way_out(hr, lr, plan)}"
        )


def lr_counts(hr: int, plan: RegularPlan) -> tuple[int, int]:
    """(fewest, most) pictures of an LR stream that goes with ``hr`` HR pictures: the last group
    may be short."""
    inner = plan.group - 2
    if plan.boundaries is Boundaries.SHARED:
        whole, short = max(0, hr - 2), hr > 1
    else:
        whole, short = max(0, (hr - 1) // 2), hr > 0 and hr % 2 == 0
    least = whole * inner + plan.lead
    return least, least + inner * short


def _way_out(hr: int, lr: int, plan: RegularPlan) -> str:
    """Which other plan the counts go with, as the end of a sentence."""

    def fits(other: RegularPlan) -> bool:
        least, most = lr_counts(hr, other)
        return least <= lr <= most

    if fits(replace(plan, lead=not plan.lead)):
        return "is there no lead?" if plan.lead else "is --lead missing?"
    for boundaries in Boundaries:
        if fits(replace(plan, boundaries=boundaries)):
            return f"are the boundaries {boundaries.value}?"
    for group in range(3, 66, 2):
        if fits(replace(plan, group=group)):
            return f"is it --group {group}?"
    return "give --group, --boundaries and --lead as they were encoded, or --sidecar"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' if n != 1 else ''}"


class _Counter:
    """LR pictures read so far, waited for by the thread that reads HR."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._count = 0
        self._ended = False

    def up(self) -> None:
        with self._condition:
            self._count += 1
            self._condition.notify_all()

    def end(self) -> None:
        with self._condition:
            self._ended = True
            self._condition.notify_all()

    def wait(self, count: int) -> int:
        """Waits until ``count`` have been read or there are no more; how many were."""
        with self._condition:
            while self._count < count and not self._ended:
                self._condition.wait(0.2)
            return self._count


def fill_lost(decoded: Iterable[Decoded], expected: list[int]) -> Iterator[Item]:
    """``decoded`` with ``Lost`` at every expected time none of them has.

    Frames at other times (the LR stream's down-sampled boundaries) stay."""
    due = 0
    for frame in decoded:
        assert frame.pts is not None
        while due < len(expected) and expected[due] < frame.pts:
            yield Lost(expected[due])
            due += 1
        if due < len(expected) and expected[due] == frame.pts:
            due += 1
        yield frame
    for pts in expected[due:]:
        yield Lost(pts)
