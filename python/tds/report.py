# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is in a file, and what this machine has: behind ``tds info`` and ``tds doctor``."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import av

from . import __version__, _tds
from .codecs import ADAPTERS, ReferenceEncoder
from .container.mp4 import PairedFile
from .decoder import Lost, TrackPictures
from .media.decoding import in_process, program_that_decodes
from .media.programs import ffmpeg_version
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


@dataclass(frozen=True)
class Finding:
    """One line of the doctor: ok, or what to do about it."""

    name: str
    value: str
    ok: bool = True
    advice: str = ""


def examine() -> list[Finding]:
    """What this machine has, and what to do about what is missing."""
    findings = [
        Finding("tds-codec", f"{__version__}, libtds {_tds.version()}"),
        Finding("Python", f"{platform.python_version()} ({sys.executable})"),
        Finding("processors", str(os.cpu_count())),
        Finding("PyAV", f"{av.__version__}, FFmpeg libavcodec {_dotted('libavcodec')}"),
    ]
    findings += [_decoder(name) for name in ("vvc", "hevc")]
    findings += [_encoder(name) for name in ADAPTERS]
    findings += [_torch(), _backend("bicubic"), _backend("torchscript")]
    free = shutil.disk_usage(os.getcwd()).free
    findings.append(Finding("free disk here", f"{free / 2**30:.1f} GiB"))
    return findings


def _dotted(library: str) -> str:
    return ".".join(str(n) for n in av.library_versions.get(library, ()))


def _decoder(name: str) -> Finding:
    if name not in av.codecs_available:
        return Finding(
            f"decoder {name}", "missing", False, "pip install 'av>=18', whose FFmpeg decodes it"
        )
    wrong = [depth for depth in (8, 10) if name == "vvc" and not in_process(depth)]
    if not wrong:
        return Finding(f"decoder {name}", "in PyAV")
    depths = " and ".join(str(depth) for depth in wrong)
    program = program_that_decodes(wrong[0])
    if program is None:
        return Finding(
            f"decoder {name}",
            f"in PyAV, but wrong at {depths} bit",
            False,
            "pip install -U imageio-ffmpeg, or set TDS_FFMPEG to an ffmpeg that decodes it right",
        )
    return Finding(
        f"decoder {name}",
        f"in PyAV; at {depths} bit by ffmpeg {ffmpeg_version(program)}",
        True,
        f"this PyAV's FFmpeg decodes {depths}-bit VVC wrongly on this processor",
    )


def _encoder(name: str) -> Finding:
    try:
        return Finding(f"encoder {name}", ADAPTERS[name].version())
    except FileNotFoundError as e:
        # The reference encoders are for those who have them; nothing else needs them.
        optional = issubclass(ADAPTERS[name], ReferenceEncoder)
        value = "not here (optional)" if optional else "missing"
        return Finding(f"encoder {name}", value, optional, "" if optional else str(e))


def _torch() -> Finding:
    try:
        return Finding("torch", version("torch"))
    except PackageNotFoundError:
        return Finding(
            "torch", "missing", False, "pip install torch, then reinstall tds-codec, for models"
        )


def _backend(name: str) -> Finding:
    try:
        _tds.backend_available(name)
        devices = ", ".join(_tds.backend_devices(name))
    except (RuntimeError, OSError, ValueError, NotImplementedError) as e:
        return Finding(f"backend {name}", "not usable", False, str(e))
    advice = ""
    if name == "torchscript" and "cuda" not in devices:
        advice = "no CUDA device is seen; models run on the CPU"
    return Finding(f"backend {name}", f"on {devices}", True, advice)
