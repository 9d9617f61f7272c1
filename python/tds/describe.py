# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is in a file of ``tds encode``: behind ``tds info``."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from itertools import groupby
from typing import Any

import av
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from .arrivals import Arrivals
from .container.metadata import Metadata, container_tag
from .container.paired import Packets, PairedFile, Track, plain_track
from .media.hdr import HDR, hdr_of, name_of
from .media.opening import open_container
from .media.planar import chroma_name
from .media.sources import color_tags
from .pair import Lost, Pair
from .plain import PlainStream
from .plan import Role
from .tracks import pair_of, planned


def describe(
    file: PairedFile, decode: bool, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """What a paired file holds, as plain values for JSON. Reads all of it.

    decode: also decode both tracks and say whether they are whole."""
    packets = file.packets()
    out: dict[str, Any] = {"file": file.path, "scale": file.scale, "rate": str(file.rate)}
    shown = sorted({t for role in Role for t in packets[role].times})
    frames, notices = _frames(file, packets, len(shown))
    out["frames"] = frames
    out["notices"] = notices
    out.update(_of_metadata(file.metadata))
    out["choice"] = choice_of(file.path)
    out.update(_looks(file.path, file.hr.index))
    seconds = float((shown[-1] - shown[0]) * file.time_base + 1 / file.rate) if shown else 0.0
    out["tracks"] = {}
    for role in Role:
        out["tracks"][role.value] = _track(file.track(role), packets[role], seconds)
    if file.missing_bytes:
        out["missing_bytes"] = file.missing_bytes
    if decode:
        total = sum(packets[role].count for role in Role)
        out["decodes"], out["notices"] = _decodes(pair_of(file), total, progress)
        out["whole"] = _whole(out["decodes"])
    return out


def describe_one_stream(
    path: str, decode: bool, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """The same of a file with one stream and its tag (container.paired.is_one_stream)."""
    stream = PlainStream(path)
    try:
        track, packets = plain_track(path)
        m = Metadata.of(stream.tag) if stream.tag is not None else None
        rate = m.timeline.rate if m is not None else stream.source.rate
        out: dict[str, Any] = {"file": path, "scale": 1, "rate": str(rate)}
        out["frames"] = len(packets.times)
        out["notices"] = []
        out.update(_of_metadata(m))
        out["choice"] = choice_of(path)
        out.update(_looks(path, track.index))
        times = packets.times
        seconds = float((times[-1] - times[0]) * track.time_base + 1 / rate) if times else 0.0
        out["tracks"] = {"hr": _track(track, packets, seconds)}
        if decode:
            pair = stream.pair
            out["decodes"], out["notices"] = _decodes(pair, packets.count, progress)
            out["notices"] += pair.notices() if pair.notices is not None else ()
            out["whole"] = (
                _whole(out["decodes"]) and out["decodes"]["hr"]["pictures"] == packets.count
            )
        return out
    finally:
        stream.close()


def choice_of(path: str) -> dict[str, Any] | None:
    """How the encoder came to its plan, as a file's tag tells it for people; None: it does not, or
    in no words that are known."""
    with open_container(path) as container:
        text = container_tag(container)
    choice = json.loads(text).get("choice") if text else None  # a Tag was made of it
    if not isinstance(choice, dict):
        return None
    effort, chosen, tried = (choice.get(key) for key in ("effort", "chosen", "tried"))
    if not (isinstance(effort, int) and isinstance(chosen, str) and isinstance(tried, dict)):
        return None
    costs = {str(name)[:80]: c for name, c in tried.items() if isinstance(c, (int, float))}
    return {"effort": effort, "chosen": chosen[:80], "tried": dict(list(costs.items())[:40])}


def _looks(path: str, index: int) -> dict[str, Any]:
    """What a video stream says of colours, and its first picture of high dynamic range."""
    hdr = HDR()
    with open_container(path) as container:
        stream = container.streams[index]
        assert isinstance(stream, VideoStream)
        tags = color_tags(stream)
        with suppress(av.error.FFmpegError):  # whether it decodes is asked elsewhere
            if isinstance(first := next(container.decode(stream), None), VideoFrame):
                hdr = hdr_of(first)
    return {
        "colors": asdict(tags),
        "hdr": name_of(tags.transfer, hdr) or None,
        "mastering_display": hdr.display_text or None,
        "light_level": list(hdr.light) if hdr.light is not None else None,
    }


def _of_metadata(m: Metadata | None) -> dict[str, Any]:
    if m is None:
        return {"metadata": None}
    out: dict[str, Any] = {
        "planned_frames": m.timeline.frames,
        "regular_times": m.timeline.regular,
        "plan": {
            "group": m.group,
            "boundaries": m.boundaries.value,
            "groups": sum(n for _, n in m.groups),
            # The first group of a scene is of a sign of its own, not of another size.
            "sizes": [
                [size, sum(n for _, n in runs)]
                for size, runs in groupby(m.groups, lambda run: abs(run[0]))
            ],
        },
        "config": m.config,
        "qp": {"hr": m.hr_qp, "lr": m.lr_qp},
        "encoder": m.encoder,
        "preset": m.preset,
        "hr": "refine" if m.refine_hr else "pass",
        "strengths": [list(run) for run in m.strengths],
        "model": None,
    }
    if m.model:
        out["model"] = {
            "name": m.model,
            "sha256": m.model_sha256,
            "installed": _installed(m.model, m.scale, m.model_sha256),
        }
    return out


def _track(track: Track, packets: Packets, seconds: float) -> dict[str, Any]:
    out = {
        "index": track.index,
        "codec": track.codec,
        "width": track.width,
        "height": track.height,
        "bit_depth": track.bit_depth,
        "chroma": chroma_name(track.chroma),
        "packets": packets.count,
        "bits": packets.bytes * 8,
    }
    if seconds:
        out["kbit_per_s"] = round(packets.bytes * 8 / seconds / 1000, 2)
    return out


def _whole(decodes: dict[str, dict[str, int]]) -> bool:
    return all(d["lost"] == d["damaged"] == 0 for d in decodes.values())


def _frames(
    file: PairedFile, packets: dict[Role, Packets], different: int
) -> tuple[int, list[str]]:
    """(how many frames there are to show, what the times show that the plan does not tell),
    by the times of all packets, of which ``different`` ones differ."""
    plan = planned(file)
    if plan is None:
        return different, []
    times = plan.times(file.time_base)
    left = {role: iter(sorted(set(packets[role].times))) for role in Role}
    given = set()
    for role in Role:
        while (event := times.next(role)) is not None:
            if event:
                given.add(event[1])
                continue
            for wanted in map(Role, times.wants(role)):
                pts = next(left[wanted], None)
                if pts is None:
                    times.end(wanted)
                else:
                    times.push(wanted, pts)
    return len(given), times.notices


def _installed(name: str, scale: int, sha256: str | None) -> bool:
    """Whether decoding here would use the model a file names."""
    from . import models

    return any(
        found.name == name and (sha256 is None or found.sha256 == sha256.lower())
        for found in models.available(scale)
    )


def _decodes(
    pair: Pair, total: int, progress: Callable[[int, int], None] | None
) -> tuple[dict[str, dict[str, int]], list[str]]:
    counts = {role: {"pictures": 0, "lost": 0, "damaged": 0} for role in pair.streams}
    arrivals = Arrivals(pair)
    try:
        while True:
            heads = [(item, role) for role in counts if (item := arrivals.peek(role)) is not None]
            if not heads:
                break
            # The earlier of the two, so that neither is read far ahead of the other.
            item, role = min(heads, key=lambda head: head[0].pts or 0)
            if isinstance(item, Lost):
                counts[role]["lost"] += 1
            else:
                counts[role]["pictures"] += 1
                counts[role]["damaged"] += item.is_corrupt
            arrivals.take(role)
            if progress:
                progress(sum(c["pictures"] for c in counts.values()), total)
        for role, damaged in arrivals.damaged.items():
            counts[role]["damaged"] += damaged
        return {role.value: counts[role] for role in counts}, arrivals.notices
    finally:
        arrivals.close()
