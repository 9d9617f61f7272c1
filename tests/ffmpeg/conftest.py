# SPDX-License-Identifier: LGPL-2.1-or-later
"""The FFmpeg under test, and paired files for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filter_tools import Coded, Program

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="session")
def ffmpeg(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """TDS_FILTER_FFMPEG, or what ffmpeg_filter/build made last; skips without, fails in CI."""
    path = Path(
        os.environ.get("TDS_FILTER_FFMPEG", ROOT / "build" / "ffmpeg" / "current/bin/ffmpeg")
    )
    if not path.is_file():
        reason = f"there is no {path}; run ffmpeg_filter/build or set TDS_FILTER_FFMPEG"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    # No model but those a test gives: this machine's do not count.
    nothing = tmp_path_factory.mktemp("no_models")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TDS_")}
    return Program(path, {**environment, "TDS_CACHE": str(nothing)})


@pytest.fixture(scope="session")
def pair(coded: Coded) -> Path:
    """A paired file: HEVC, RA, k = 2, restarts every 8 frames."""
    return coded(codec="hevc", config="ra", intra_period=8).path


@pytest.fixture(scope="session")
def halves(
    ffmpeg: Program, coded: Coded, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """HR and LR of an all-intra pair in two files, with their own times."""
    source = coded(codec="hevc", config="ai").path
    folder = tmp_path_factory.mktemp("halves")
    hr, lr = folder / "hr.mp4", folder / "lr.mp4"
    for track, path in enumerate((hr, lr)):
        ffmpeg("-copyts", "-i", source, "-map", f"0:v:{track}", "-c", "copy", "-copyts",
               "-movie_timescale", 90000, path)  # fmt: skip
    return hr, lr
