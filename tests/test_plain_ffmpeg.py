# SPDX-License-Identifier: LGPL-2.1-or-later
"""docs/pair-with-ffmpeg.md: a pair that the ffmpeg program makes alone is one for every reader."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

import forms
import tds
import tools

# What the page says to write in place of parts of the command.
X265 = {"-c:v libx264 -crf 28 -g 1": "-c:v libx265 -crf 28 -g 1 -x265-params keyint=1"}
SVTAV1 = {"-c:v libx264 -crf 28": "-c:v libsvtav1 -crf 35"}
VVENC = {
    "-c:v libx264 -crf 28": "-c:v libvvenc -qp 32 -qpa 0 -preset faster",
    "-pix_fmt yuv420p": "-pix_fmt yuv420p10le",
}
CASES = [
    ("mp4", {}),
    ("mp4", X265),
    ("mp4", SVTAV1),
    ("mp4", VVENC),
    ("mp4", {"-g 1": "-g 64"}),
    ("mp4", {"-crf 28": "-crf:v:0 28 -crf:v:1 31"}),
    ("mp4", {"pair.mp4": "-movflags frag_keyframe+delay_moov pair.mp4"}),
    ("mkv", {"pair.mp4": "pair.mkv"}),
    ("mkv", {"pair.mp4": "pair.mkv", **SVTAV1}),
    ("ts", {"pair.mp4": "-muxdelay 0 -muxpreload 0 pair.ts"}),
    ("ts", {"pair.mp4": "-muxdelay 0 -muxpreload 0 pair.ts", **X265}),
]


@pytest.mark.parametrize("rate", ["25", "30000/1001"])
@pytest.mark.parametrize(("suffix", "changes"), CASES)
def test_every_frame_comes_out_once_at_its_time(
    city: Path, tmp_path: Path, suffix: str, changes: dict[str, str], rate: str
) -> None:
    source = tmp_path / "in.mp4"
    tools.ffmpeg(
        *("-r", rate, "-i", city, "-f", "lavfi", "-i", "sine=d=0.4", "-frames:v", 11),
        *("-vf", "scale=128:72", "-c:v", "libx264", "-qp", 10, "-c:a", "aac", source),
    )
    command = forms.PLAIN
    for part, other in changes.items():
        assert part in command
        command = command.replace(part, other)
    forms.run(tmp_path, command)
    pair = tmp_path / f"pair.{suffix}"
    with tds.decode(pair, backend="bicubic") as pictures:
        got = [(p.pts * pictures.time_base, p.status) for p in pictures]
        found = pictures.rate
    tick = {"mp4": None, "mkv": Fraction(1, 1000), "ts": Fraction(1, 90000)}[suffix]
    times = tools.times(source)
    begin = got[0][0]
    assert begin == 0 or (suffix == "ts" and begin < Fraction(1, 5))
    assert [t - begin for t, _ in got] == [
        t if tick is None else round(t / tick) * tick for t in times
    ]
    assert "".join(s[0] for _, s in got) == "puuupuuupuu"
    # Rounded to milliseconds, times of 29.97 frames a second are also those of 30.
    assert found in (Fraction(rate), Fraction(30) if suffix == "mkv" else Fraction(rate))


def test_its_sound_comes_along_and_tds_decode_makes_a_video_of_it(
    city: Path, tmp_path: Path
) -> None:
    source, out = tmp_path / "in.mp4", tmp_path / "full.mp4"
    tools.ffmpeg(
        *("-i", city, "-f", "lavfi", "-i", "sine=d=1", "-vf", "scale=128:72"),
        *("-c:v", "libx264", "-qp", 10, "-c:a", "aac", source),
    )
    forms.run(tmp_path, forms.PLAIN)
    done = tools.tds("decode", "--backend", "bicubic", tmp_path / "pair.mp4", out)
    assert not [line for line in done.stderr.splitlines() if "25 frames" not in line]
    assert tools.times(out) == tools.times(source)
    assert tools.ffmpeg("-i", out, "-map", "0:a", "-f", "md5", "-") == tools.ffmpeg(
        "-i", source, "-map", "0:a", "-f", "md5", "-"
    )
