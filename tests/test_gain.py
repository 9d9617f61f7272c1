# SPDX-License-Identifier: LGPL-2.1-or-later
"""``tds measure``: what enhancement gains on a coded file, against its source."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tds
import tools
from tds.measuring.gain import measure_gain
from tds.measuring.psnr import psnr

Coded = Callable[..., tds.EncodeResult]


@pytest.mark.parametrize("config", ["ai", "ra"])
def test_a_pair_by_frame_and_in_all(coded: Coded, small: Path, config: str) -> None:
    result = coded(config=config, intra_period=10)
    gain = measure_gain(str(small), str(result.path), tds.EnhanceSettings(model="fast"))
    assert [f.number for f in gain.frames] == list(range(25))
    roles = [role.name for role in result.metadata.roles()]
    assert [f.kind for f in gain.frames] == roles
    # All packets count; parameter sets beside them, as encode counts them too, do not.
    sets = result.hr.bits + result.lr.bits - gain.bits
    assert 0 <= sets < 8 * 4000
    assert sum(f.bits or 0 for f in gain.frames) == gain.bits
    assert all(f.before == f.after for f in gain.of("HR"))
    assert np.mean([f.gain for f in gain.of("LR")]) > 0.5
    with (
        tds.decode(result.path, model="fast") as made,
        tds.enhance(small, model="fast", strength=0) as source,
    ):
        y = psnr(source[7].planes[0], made[7].planes[0])
    assert gain.frames[7].after.y == pytest.approx(y, abs=1e-9)


def test_any_other_video(city: Path, tmp_path: Path) -> None:
    source, plain = tmp_path / "s.mkv", tmp_path / "p.mp4"
    tools.ffmpeg("-i", city, "-vf", "scale=160:96", "-frames:v", 9, "-c:v", "ffv1", source)
    tools.ffmpeg("-i", source, "-c:v", "libx265", "-preset", "veryfast", "-crf", 34, plain)
    gain = measure_gain(str(source), str(plain), tds.EnhanceSettings(model="fast"))
    assert {f.kind for f in gain.frames} == {"plain"}
    assert {f.status for f in gain.frames} == {"refined"}
    packets = sum(size for size in tools_sizes(plain))
    assert gain.bits == 8 * packets == sum(f.bits or 0 for f in gain.frames)
    assert np.mean([f.gain for f in gain.frames]) > 0


def tools_sizes(path: Path) -> list[int]:
    import av

    with av.open(str(path)) as container:
        return [p.size for p in container.demux(video=0) if p.size]


def test_the_command_prints_a_table_and_writes_what_is_to_be_seen(
    coded: Coded, small: Path, tmp_path: Path
) -> None:
    path = coded().path
    outputs = [tmp_path / name for name in ("g.csv", "g.png", "g.html")]
    options = [word for o, p in zip(("--csv", "--picture", "--page"), outputs, strict=True)
               for word in (o, p)]  # fmt: skip
    done = tools.tds("measure", small, path, "--model", "fast", *options)
    assert re.search(r"LR +│ +1[0-9] │", done.stdout) and "kbit/s" in done.stdout
    rows = list(csv.DictReader(outputs[0].open()))
    assert len(rows) == 25 and rows[1]["kind"] == "LR" and float(rows[1]["psnr_y_after"]) > 20
    with Image.open(outputs[1]) as picture:
        assert picture.width > 3 * 128
    page = outputs[2].read_text()
    views = json.loads(re.search(r"const views = (.*);\n", page)[1].replace("<\\/", "</"))
    assert len(views) == 3 and all(
        {*view["images"]} == {"before", "after", "source"} for view in views
    )
    assert not re.search(r"(src|href)=[\"']?http", page) and "{{" not in page
    again = tools.tds("measure", small, path, "--csv", outputs[0], status=1)
    assert "--overwrite" in again.stderr


def test_a_source_of_numbered_pictures(coded: Coded, small: Path, tmp_path: Path) -> None:
    """For measuring and for coding, at the rate that is said."""
    frames = tmp_path / "frames"
    frames.mkdir()
    tools.ffmpeg("-i", small, "-frames:v", 9, frames / "%05d.png")
    done = tools.tds("encode", frames / "%05d.png", tmp_path / "o.mp4", "--codec", "hevc",
                     "--preset", "ultrafast", "--rate", "30", "--plan", "tds")  # fmt: skip
    assert "9 frames" in done.stdout
    with tds.decode(tmp_path / "o.mp4", backend="bicubic") as pictures:
        assert pictures.rate == 30 and len(pictures) == 9
    out = tools.tds("measure", frames / "%05d.png", tmp_path / "o.mp4", "--backend", "bicubic")
    assert "all" in out.stdout
    missing = tools.tds("encode", frames / "no%03d.png", tmp_path / "n.mp4", status=1)
    assert "there is no such picture" in missing.stderr


def test_the_demo_says_why_no_model_runs(small: Path, tmp_path: Path) -> None:
    """As with a torch that the package was not built with."""
    (tmp_path / "libtds_torchscript.so").write_bytes(b"no library")
    env = {**os.environ, "TDS_BACKEND_PATH": str(tmp_path)}
    done = tools.tds("demo", small, "--codec", "hevc", "--preset", "ultrafast", "--quiet",
                     "--out", tmp_path / "out", env=env)  # fmt: skip
    assert 'only up-sampled (built-in bicubic): the backend "torchscript" does not' in done.stdout


def test_what_does_not_belong_together_is_refused(coded: Coded, city: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.mkv"
    tools.ffmpeg("-i", city, "-vf", "scale=128:72", "-frames:v", 9, "-c:v", "ffv1", short)
    with pytest.raises(tds.InputError, match=r"has 25 pictures and .* has 9; give the source"):
        measure_gain(str(short), str(coded().path), tds.EnhanceSettings(backend="bicubic"))
    with pytest.raises(tds.InputError, match=r"is 480x256 and .* is 128x72; give the source"):
        measure_gain(str(city), str(coded().path), tds.EnhanceSettings(backend="bicubic"))
