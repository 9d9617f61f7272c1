# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is in a paired file: behind ``tds info``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from .container.mp4 import PairedFile
from .decoder import TrackPictures
from .pair import Lost
from .plan import Role


def describe(file: PairedFile, decode: bool, progress: Any = None) -> dict[str, Any]:
    """What a paired file holds, as plain values for JSON.

    decode: also decode both tracks and say whether they are whole."""
    seconds = None
    out: dict[str, Any] = {"file": file.path, "scale": file.scale, "rate": str(file.rate)}
    m = file.metadata
    if m is None:
        out["metadata"] = None
    else:
        seconds = float(m.timeline.frames / m.timeline.rate)
        out["frames"] = m.timeline.frames
        out["regular_times"] = m.timeline.known and m.timeline.deltas is None
        out["plan"] = {
            "group": m.group,
            "boundaries": m.boundaries.value,
            "groups": sum(n for _, n in m.groups),
            "sizes": [[abs(size), n] for size, n in m.groups],
        }
        out["config"] = m.config
        out["qp"] = {"hr": m.hr_qp, "lr": m.lr_qp}
        out["encoder"] = m.encoder
        out["preset"] = m.preset
        out["model"] = None
        if m.model:
            out["model"] = {
                "name": m.model,
                "sha256": m.model_sha256,
                "installed": _installed(m.model, m.scale, m.model_sha256),
            }
    out["tracks"] = {}
    for role in Role:
        track = file.track(role)
        facts = {k: v for k, v in asdict(track).items() if k not in ("role", "time_base", "bytes")}
        facts["bits"] = track.bytes * 8
        if seconds:
            facts["kbit_per_s"] = round(track.bytes * 8 / seconds / 1000, 2)
        out["tracks"][role.value] = facts
    if file.missing_bytes:
        out["missing_bytes"] = file.missing_bytes
    if decode:
        out["decodes"] = {role.value: _decodes(file, role, progress) for role in Role}
        out["whole"] = all(d["lost"] == d["damaged"] == 0 for d in out["decodes"].values())
    return out


def _installed(name: str, scale: int, sha256: str | None) -> bool:
    """Whether decoding here would use the model a file names."""
    from . import models

    return any(
        found.name == name and (sha256 is None or found.sha256 == sha256.lower())
        for found in models.available(scale)
    )


def _decodes(file: PairedFile, role: Role, progress: Any) -> dict[str, int]:
    pictures = TrackPictures(file, role, file.expected()[role])
    counts = {"pictures": 0, "lost": 0, "damaged": 0}
    for item in pictures:
        if isinstance(item, Lost):
            counts["lost"] += 1
        else:
            counts["pictures"] += 1
            counts["damaged"] += item.is_corrupt
        if progress:
            progress(counts["pictures"], file.track(role).packets)
    counts["damaged"] += pictures.damaged
    return counts
