# SPDX-License-Identifier: LGPL-2.1-or-later
"""What this machine has, and what to do about what is missing: behind ``tds doctor``."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

import av

from . import __version__, _tds
from .codecs import ADAPTERS, ReferenceEncoder
from .errors import MissingError
from .media.decoding import in_process, program_that_decodes
from .media.programs import ffmpeg_version, find_ffmpeg
from .models.registry import torch_version, torch_wanted

# The engine's torch backend is built where torch is found, so not in pip's isolated build.
_REBUILD = "in the source tree pip install --no-build-isolation --force-reinstall --no-deps ."


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
    findings.append(_ffmpeg())
    findings += [_decoder(name) for name in ("vvc", "hevc")]
    findings += [_encoder(name) for name in ADAPTERS]
    findings += [_torch(), _backend("bicubic"), _backend("torchscript")]
    free = shutil.disk_usage(os.getcwd()).free
    findings.append(Finding("free disk here", f"{free / 2**30:.1f} GiB"))
    return findings


def bundle(findings: Sequence[Finding]) -> dict[str, Any]:
    """What a bug report needs: what ``examine`` found, the system, versions of packages, and which
    variables of TDS are set (not what to). Folders, the user and the machine have no name in it."""
    packages = ("av", "imageio-ffmpeg", "numpy", "pillow", "pyyaml", "rich", "safetensors", "torch")
    versions = {}
    for name in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    whole = {
        "findings": [asdict(finding) for finding in findings],
        "system": {
            "kernel": platform.release(),
            "libc": " ".join(platform.libc_ver()),
            "machine": platform.machine(),
            "encoding": sys.getfilesystemencoding(),
        },
        "packages": versions,
        "variables": sorted(name for name in os.environ if name.startswith("TDS_")),
    }
    found: dict[str, Any] = json.loads(_nameless(json.dumps(whole)))
    return found


def _nameless(text: str) -> str:
    """Without folders (the last name of a path stays), the user's name and the machine's."""
    text = re.sub(r"(?<![\w.:/])~?/(?:[^\s/\"',;()]+/)+", "…/", text)
    with contextlib.suppress(KeyError, OSError):  # a user without a name
        names = {getpass.getuser(), platform.node()} - {"", "root", "localhost"}
        for name in names:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "…", text)
    return text


def _dotted(library: str) -> str:
    return ".".join(str(n) for n in av.library_versions.get(library, ()))


def _ffmpeg() -> Finding:
    try:
        program = find_ffmpeg()
    except MissingError as e:
        return Finding("ffmpeg program", "missing", False, str(e))
    return Finding("ffmpeg program", f"{ffmpeg_version(program)} ({program})")


def _decoder(name: str) -> Finding:
    if name not in av.codecs_available:
        return Finding(
            f"decoder {name}", "missing", False, "pip install 'av>=18', whose FFmpeg decodes it"
        )
    wrong = [depth for depth in (8, 10) if name == "vvc" and not in_process(depth)]
    if not wrong:
        return Finding(f"decoder {name}", "in PyAV")
    depths = " and ".join(str(depth) for depth in wrong)
    program = None
    with contextlib.suppress(MissingError):  # of which the ffmpeg program's line tells
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
    if found := torch_version():
        return Finding("torch", found)
    advice = f"models need it: pip install {torch_wanted()}"
    if not _tds.TORCH_VERSION:
        advice += f", then {_REBUILD}"
    return Finding("torch", "missing", False, advice)


def _backend(name: str) -> Finding:
    try:
        _tds.backend_available(name)
        devices = ", ".join(_tds.backend_devices(name))
    except (RuntimeError, OSError, ValueError, NotImplementedError) as e:
        advice = str(e)
        if name == "torchscript" and torch_version():
            built = _tds.TORCH_VERSION
            advice += f"; built {f'with torch {built}' if built else 'without torch'}: {_REBUILD}"
        return Finding(f"backend {name}", "not usable", False, advice)
    advice = ""
    if name == "torchscript" and "cuda" not in devices:
        advice = "no CUDA device is seen; models run on the CPU"
    return Finding(f"backend {name}", f"on {devices}", True, advice)
