# SPDX-License-Identifier: LGPL-2.1-or-later
"""The FFmpeg under test, and paired files for it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from filter_tools import Coded, Program

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """TDS_FILTER_FFMPEG, or what ffmpeg_filter/build made last; skips without, fails in CI.

    With the models beside it, and none of this machine's."""
    path = Path(
        os.environ.get("TDS_FILTER_FFMPEG", ROOT / "build" / "ffmpeg" / "current/bin/ffmpeg")
    )
    if not path.is_file():
        reason = f"there is no {path}; run ffmpeg_filter/build or set TDS_FILTER_FFMPEG"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TDS_")}
    return Program(path, {**environment, "TDS_CACHE": str(tmp_path_factory.mktemp("cache"))})


@pytest.fixture(scope="session")
def ffmpeg(built: Program, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The same with no model but those a test gives: libtds looks for them from where it is."""
    prefix = built.path.resolve().parent.parent
    if not (prefix / "share" / "tds" / "models").is_dir():
        return built
    folder = tmp_path_factory.mktemp("no_models")
    (folder / "bin").mkdir()
    for name in ("ffmpeg", "ffprobe"):
        shutil.copy2(prefix / "bin" / name, folder / "bin")
    (folder / "lib").symlink_to(prefix / "lib")
    return Program(folder / "bin" / "ffmpeg", built.environment)


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
