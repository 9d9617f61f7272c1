# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pairs of any encoder in any container: every frame once, at its time, HR as coded.

docs/container.md has a profile for each; tests/ffmpeg/test_forms_filter.py shows the filter the
same files.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest

import forms
import tds
import tools
from tds.plan import Role


def shown(path: Path) -> list[tuple[Fraction, str, str]]:
    with tds.decode(path, backend="bicubic") as pictures:
        return [(p.pts * pictures.time_base, p.status, tools.digest(p.planes)) for p in pictures]


def test_every_frame_comes_out_once_at_its_time(written: forms.Written, tmp_path: Path) -> None:
    path, metadata = written.result.path, written.result.metadata
    got = shown(path)
    assert [time for time, _, _ in got] == written.times
    roles = list(metadata.roles())
    assert [s for _, s, _ in got] == [
        "passed" if role is Role.HR else "upsampled" for role in roles
    ]
    hr = {time: digest for time, status, digest in got if status == "passed"}
    assert hr == dict(tools.pictures(path, 0))
    # The tag where there is place for one; the rate in any case.
    file = tds.open(path)
    assert (file.metadata is None) == (written.form == "ts")
    assert file.rate == forms.RATE
    assert file.hr.codec == metadata.codec == file.lr.codec
    # The file is what its name, or the format asked for, says.
    with av.open(str(path)) as container:
        assert (
            written.form.lstrip("f")
            in {"mp4": "mp4", "matroska": "mkv", "mpegts": "ts"}[
                next(
                    n
                    for n in container.format.name.split(",")
                    if n in ("mp4", "matroska", "mpegts")
                )
            ]
        )
    assert (b"moof" in path.read_bytes()) == (written.form == "fmp4")


@pytest.mark.parametrize("form", ["mp4", "fmp4", "mkv"])
@pytest.mark.parametrize("encoder", ["libx264", "libx265", "libsvtav1"])
def test_without_its_tag_it_is_the_same_video(
    small: Path, tmp_path: Path, encoder: str, form: str
) -> None:
    config = "ai" if encoder == "libsvtav1" else "ra"
    written = forms.encode(small, tmp_path, encoder, form, config)
    bare = tmp_path / f"bare{forms.SUFFIX[form]}"
    flags = "frag_keyframe+delay_moov" if form == "fmp4" else "faststart"
    more = ("-movie_timescale", 30000, "-movflags", flags) if bare.suffix == ".mp4" else ()
    tools.ffmpeg(
        *("-i", written.result.path, "-map", 0, "-c", "copy", "-map_metadata", -1, *more, bare)
    )
    assert tds.open(bare).metadata is None
    assert shown(bare) == shown(written.result.path)
