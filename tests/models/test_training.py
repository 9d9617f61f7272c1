# SPDX-License-Identifier: LGPL-2.1-or-later
"""Data sets and training: what is made, what is repeated exactly, what is trained."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import yaml

import tools
from tds import cli
from tds._tds import lr_size
from tds.codecs import Codec, Config
from tds.errors import InputError, MissingError
from tds.media.decoding import KNOWN
from tds.media.pictures import FilterChain
from tds.media.pictures import down_sample as product_down_sample
from tds.media.planar import picture_bytes
from tds.models.build import build as build_network
from tds.models.registry import metadata
from tds.training.config import Stage, load_config
from tds.training.dataset import Job, build, load_manifest, make, roles
from tds.training.growing import grow
from tds.training.losses import charbonnier
from tds.training.pictures import Yuv, down_sample, read
from tds.training.recurrence import enhance_run
from tds.training.samples import (
    OnlineSamples,
    SampleSettings,
    draw_shot,
    load_pairs,
    turn,
)
from tds.training.trainer import Trainer, bicubic, freeze, learning_rate

ROOT = Path(__file__).resolve().parents[2]

# -- pictures


def test_pictures_are_decoded_as_the_product_decodes_them():
    """PyAV's own decoder gives wrong pictures of 8-bit VVC (media/decoding.py)."""
    stream = ROOT / "python" / "tds" / "media" / "data" / "vvc-8bit.266"
    assert hashlib.md5(read(stream).data.tobytes()).hexdigest() == KNOWN[8]


def test_pictures_are_down_sampled_as_the_product_down_samples_them(clips):
    source = read(clips / "one.mkv", 2)
    result = down_sample(source, 4)
    chain = FilterChain(product_down_sample(source.width, source.height, 4), Fraction(1, 25))
    frames = [
        av.VideoFrame.from_ndarray(p.reshape(-1, source.width), "yuv420p") for p in source.data
    ]
    assert [p.tobytes() for p in result.data] == [picture_bytes(chain(f)) for f in frames]


@pytest.mark.parametrize("form", ["yuv444p", "yuv420p10le", "gray"])
def test_odd_sizes_and_other_formats_become_even_and_planar(tmp_path, form):
    path = tmp_path / "odd.mkv"
    tools.ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=s=65x49:d=0.2", "-pix_fmt", form, "-c:v", "ffv1", path
    )
    found = read(path)
    assert (len(found), found.width, found.height) == (5, 64, 48)
    assert [len(read(path, n)) for n in (1, 3)] == [1, 3]


def test_a_size_that_changes_and_a_file_without_pictures_are_said(tmp_path):
    paths = []
    for size in ("64x48", "96x48"):
        paths.append(tmp_path / f"{size}.265")
        source = f"testsrc2=s={size}:d=0.2"
        tools.ffmpeg(
            "-f", "lavfi", "-i", source, "-c:v", "libx265", "-x265-params", "log-level=0", paths[-1]
        )
    joined = tmp_path / "joined.265"
    joined.write_bytes(b"".join(p.read_bytes() for p in paths))
    with pytest.raises(InputError, match="size changes on the way"):
        read(joined)
    sound = tmp_path / "sound.mka"
    tools.ffmpeg("-f", "lavfi", "-i", "sine=d=0.1", sound)
    with pytest.raises(InputError, match="has no video"):
        read(sound)


# -- data sets


def test_roles_of_shared_and_independent_groups():
    assert roles(10, 5) == ([0, 4, 8], [1, 2, 3, 5, 6, 7])
    assert roles(11, 5, independent=True) == ([0, 4, 5, 9], [1, 2, 3, 6, 7, 8])
    assert roles(3, 1) == ([0, 1, 2], [0, 1, 2])
    with pytest.raises(InputError, match="odd"):
        roles(10, 4)


def test_data_set_has_a_packet_for_every_frame_and_the_originals(data_set, clips):
    entries = load_manifest(data_set)
    assert len(entries) == 6
    for e in entries:
        hr, lr = read(data_set / e.hr), read(data_set / e.lr)
        assert (len(hr), len(lr) - e.lr_leads) == (len(e.hr_frames), len(e.lr_frames))
        assert (hr.width, hr.height) == (e.width, e.height)
        assert (lr.width, lr.height) == (lr_size(e.width, 2), lr_size(e.height, 2))
        original = read(data_set / e.original)
        assert np.array_equal(original.data, read(clips / f"{e.clip}.mkv").data)
        # Each stream holds the frames it says: decoded, they are nearest to those originals.
        for i, frame in enumerate(e.hr_frames):
            distances = [
                np.abs(hr.data[i].astype(int) - o.astype(int)).mean() for o in original.data
            ]
            assert int(np.argmin(distances)) == frame
    finer = {e.hr_qp: e.hr_bytes for e in entries if e.clip == "one" and e.config == "ai"}
    assert finer[27] > finer[37]


def test_low_delay_starts_with_the_down_sampled_boundary_as_the_product_does(data_set, clips):
    (entry,) = (e for e in load_manifest(data_set) if e.clip == "one" and e.config == "ldp")
    assert entry.lr_leads == 1 and 0 not in entry.lr_frames
    source = read(clips / "one.mkv")
    lead = read(data_set / entry.lr).planes(0)[0].astype(int)
    distances = [
        np.abs(lead - down_sample(source.take([i]), 2).planes(0)[0]).mean() for i in range(9)
    ]
    assert int(np.argmin(distances)) == 0
    # And what stands in the stream as frame 1 is frame 1.
    pair = next(p for p in load_pairs([data_set], data_set / "c", 2) if p.entry == entry)
    video, at = pair.lr(1)
    assert at == 1 and len(video) == 1 + len(entry.lr_frames)
    with (clips / "one.mkv").open("rb") as file:
        assert entry.source_sha256 == hashlib.file_digest(file, "sha256").hexdigest()


def test_building_again_makes_nothing_again(data_set, clips, monkeypatch):
    from tds.training import dataset

    def refuse(*arguments):
        raise AssertionError("encoded again")

    monkeypatch.setattr(dataset, "_encode", refuse)
    job = Job(clips / "one.mkv", Codec.HEVC, Config.AI, 2, 1, 27, 27, "ultrafast")
    assert make(job, data_set).hr_qp == 27


def test_what_was_made_otherwise_is_not_mixed_in(clips, data_set, tmp_path):
    one = Job(clips / "one.mkv", Codec.HEVC, Config.AI, 2, 1, 27, 27, "ultrafast")
    with pytest.raises(InputError, match="with preset ultrafast"):
        make(dataclasses.replace(one, preset="veryfast"), data_set)
    with pytest.raises(InputError, match="of all frames at most"):
        make(dataclasses.replace(one, max_frames=3), data_set)
    other = tmp_path / "one.mkv"
    other.write_bytes((clips / "two.mkv").read_bytes())
    with pytest.raises(InputError, match="of another clip of this name"):
        make(dataclasses.replace(one, clip=other), data_set)
    # Each pair has the original of its own frames.
    folder = tmp_path / "set"
    few = make(dataclasses.replace(one, max_frames=3), folder)
    more = make(dataclasses.replace(one, qp=32, lr_qp=32), folder)
    assert len(read(folder / few.original)) == 3 == len(few.hr_frames)
    assert len(read(folder / more.original)) == len(more.hr_frames) > 3


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_a_share_is_of_all_qps(clips, tmp_path, monkeypatch, share):
    """Every fourth of four QPs was always the last one."""
    made: list[Job] = []
    names = [tmp_path / f"{i}.mkv" for i in range(8)]
    monkeypatch.setattr("tds.training.dataset.find_clips", lambda sources: names)
    monkeypatch.setattr("tds.training.dataset.build", lambda jobs, *_: made.extend(jobs) or [])
    qps = ["27", "32", "37", "42"]
    assert cli.main(
        ["dataset", "x", "-o", str(tmp_path), "--config", "ra", "ldp", "--codec", "vvc", "hevc",
         "--share", str(share), "-q", "--qp", *qps]
    ) == 0  # fmt: skip
    for codec, config in product((Codec.VVC, Codec.HEVC), (Config.RA, Config.LDP)):
        of = [j for j in made if (j.codec, j.config) == (codec, config)]
        assert Counter(j.qp for j in of) == {int(qp): 8 * share for qp in qps}
        assert {j.clip for j in of} == set(names)


def test_a_build_that_fails_leaves_no_half_pair(clips, tmp_path):
    job = Job(clips / "one.mkv", Codec.HEVC, Config.AI, 2, 11, 27, 27, "ultrafast")
    with pytest.raises(InputError, match="too few"):
        build([job], tmp_path / "set")
    assert not list((tmp_path / "set").rglob("*.mp4"))


def test_odd_ratios_pad_before_down_sampling():
    flat = Yuv(np.full((2, 50 * 38 * 3 // 2), 77, np.uint8), 50, 38)
    small = down_sample(flat, 4)
    assert (small.width, small.height) == (14, 10)
    assert (small.data == 77).all()


def test_a_folder_without_manifest_says_what_to_do(tmp_path):
    with pytest.raises(MissingError, match="tds dataset"):
        load_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text('{"tds_dataset": 1, "entries": [{}]}')
    with pytest.raises(InputError, match="damaged"):
        load_manifest(tmp_path)


# -- samples


def test_what_another_process_is_still_decoding_is_not_read(data_set, tmp_path, monkeypatch):
    pairs = load_pairs([data_set], tmp_path, 2)
    names = []
    monkeypatch.setattr(os, "replace", lambda part, target: names.append((part, target)))
    with pytest.raises(FileNotFoundError):
        pairs[0].hr(0)
    ((part, target),) = names
    key = target.name.split("-")[0]
    assert part.is_file() and list(tmp_path.glob(f"{key}-*.npy")) == []


def test_threads_share_what_one_of_them_decodes(data_set, tmp_path):
    decoded = load_pairs([data_set], tmp_path, 2)[0].decoded
    entries = load_manifest(data_set)
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(decoded.get, [entries[0].original] * 16))
    assert all(g is got[0] for g in got)
    assert len(list(tmp_path.glob("*.npy"))) == 1


def test_a_sample_depends_on_its_index_alone(data_set, tmp_path):
    pairs = load_pairs([data_set], tmp_path, 2)
    settings = SampleSettings(patch=64, border=8)
    one, two = (OnlineSamples(pairs, settings, 5) for _ in range(2))
    for index in (7, 3, 7):
        a, b = one(index), two(index)
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    other = OnlineSamples(pairs, settings, 6)
    assert any(not torch.equal(one(i)["original"], other(i)["original"]) for i in range(4))


def test_references_are_where_a_decoder_would_have_them(data_set):
    rng = np.random.default_rng(0)
    for entry in load_manifest(data_set):
        kinds = set()
        for _ in range(200):
            shot = draw_shot(rng, entry, SampleSettings(recurrent=0.5, missing=0.1))
            kinds.add((shot.recurrent, shot.first is None, shot.last is None))
            assert shot.target in entry.lr_frames
            for frame, number in ((shot.first, 1), (shot.last, 2)):
                if shot.recurrent == number:
                    assert frame == shot.middle[0] and frame in entry.lr_frames
                    assert set(shot.middle[1:]) <= set(entry.hr_frames)
                elif frame is not None:
                    assert frame in entry.hr_frames
            if shot.first is not None and shot.last is not None:
                assert shot.first < shot.target < shot.last
        assert {k[0] for k in kinds} == {0, 1, 2} and (0, True, False) in kinds


def test_cuts_of_target_and_original_are_of_the_same_place(data_set, tmp_path):
    """At a fine QP the down-sampled original is the target, wherever the cut is."""
    pairs = load_pairs([data_set], tmp_path, 2, lambda e: e.hr_qp == 27)
    samples = OnlineSamples(pairs, SampleSettings(patch=64, border=8), 1)
    for index in range(12):
        s = samples(index)
        luma = torch.nn.functional.pixel_shuffle(s["original"][None, :4].float(), 2)
        low = torch.nn.functional.pixel_shuffle(s["target"][None, :4].float(), 2)
        error = (torch.nn.functional.avg_pool2d(luma, 2) - low)[:, :, 4:-4, 4:-4].abs().mean()
        moved = (torch.nn.functional.avg_pool2d(luma, 2) - low.roll(2, 3))[:, :, 4:-4, 4:-4]
        assert float(error) < 0.7 * float(moved.abs().mean())


@pytest.mark.parametrize("across, down, transpose", list(product((False, True), repeat=3)))
def test_turning_packed_pictures_turns_the_picture(across, down, transpose):
    y, c = torch.rand(1, 1, 8, 12), torch.rand(1, 2, 4, 6)
    packed = torch.cat([torch.nn.functional.pixel_unshuffle(y, 2), c], 1)
    got = turn(packed, across, down, transpose)
    dims = [3] * across + [2] * down
    want_y, want_c = (x.flip(dims).transpose(2, 3) if transpose else x.flip(dims) for x in (y, c))
    assert torch.equal(torch.nn.functional.pixel_shuffle(got[:, :4], 2), want_y)
    assert torch.equal(got[:, 4:], want_c)
    several = turn(torch.cat([packed, 1 - packed], 1), across, down, transpose)
    assert torch.allclose(several, torch.cat([got, 1 - got], 1))


# -- training


@pytest.fixture
def configuration(data_set, tmp_path):
    """Writes a small configuration; keywords replace whole sections."""

    def write(**sections) -> Path:
        values = {
            "network": {"preset": "fast", "scale": 2},
            "data": {"folders": [str(data_set)], "cache": str(tmp_path / "decoded")},
            "samples": {"patch": 48, "border": 8},
            "optimizer": {"batch": 2, "threads": 1, "deterministic": True},
            "stages": [{"steps": 6, "warmup": 2}],
            "log": {"every": 2, "tensorboard": False},
            **sections,
        }
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    return write


def weights_of(folder: Path) -> dict:
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    return {**state["model"], **{f"average {k}": v for k, v in state["average"].items()}}


def train(path: Path, out: Path, stop_after: int | None = None) -> Trainer:
    trainer = Trainer(load_config(path), out, quiet=True)
    trainer.run(stop_after)
    return trainer


def test_stopped_and_resumed_gives_the_same_weights(configuration, tmp_path):
    path = configuration()
    train(path, tmp_path / "whole")
    train(path, tmp_path / "parts", stop_after=2)
    torch.rand(100)  # whatever happens in between
    train(path, tmp_path / "parts", stop_after=5)
    train(path, tmp_path / "parts")
    whole, parts = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert [k for k in whole if not torch.equal(whole[k], parts[k])] == []
    fresh = Trainer(load_config(path), tmp_path / "other", quiet=True).model.state_dict()
    assert any(not torch.equal(fresh[k], whole[k]) for k in fresh), "nothing was trained"


def test_killed_and_resumed_gives_the_same_weights(configuration, tmp_path):
    """SIGKILL in the middle of a step: what follows starts from the last checkpoint."""
    path = configuration(
        stages=[{"steps": 6, "warmup": 2}],
        log={"every": 1, "tensorboard": False, "checkpoint_minutes": 1e-6},
    )
    train(path, tmp_path / "whole")
    code = (
        "import sys, os, signal\n"
        "from pathlib import Path\n"
        "from tds.training import trainer\n"
        "from tds.training.config import load_config\n"
        "t = trainer.Trainer(load_config(sys.argv[1]), Path(sys.argv[2]), quiet=True)\n"
        "step = t._step\n"
        "def die(*a):\n"
        "    if t.step == 4: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return step(*a)\n"
        "t._step = die\n"
        "t.run()\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code, str(path), str(tmp_path / "killed")], check=False
    )
    assert killed.returncode == -9
    train(path, tmp_path / "killed")
    whole, again = weights_of(tmp_path / "whole"), weights_of(tmp_path / "killed")
    assert [k for k in whole if not torch.equal(whole[k], again[k])] == []


def test_a_signal_ends_training_with_a_checkpoint_and_its_own_status(configuration, tmp_path):
    """Not with 0: what comes next in a script would take half-trained weights for whole ones."""
    path = configuration(stages=[{"steps": 100000}], log={"every": 1, "tensorboard": False})
    out = tmp_path / "run"
    command = [sys.executable, "-m", "tds", "train", str(path), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = iter(process.stdout.readline, "")
    assert any(" 2/100000 " in line for line in said)
    process.terminate()
    rest = "".join(said)
    assert process.wait(60) == 128 + signal.SIGTERM
    assert "the same command goes on from here" in rest and "tds: ended by SIGTERM" in rest
    assert (out / "checkpoint.pt").is_file() and "Traceback" not in rest


def test_cached_alignment_trains_and_resumes_exactly(configuration, tmp_path, data_set):
    data = {
        "folders": [str(data_set)],
        "cache": str(tmp_path / "decoded"),
        "alignment": "cached",
        "shots": 2,
    }
    path = configuration(data=data)
    train(path, tmp_path / "whole")
    train(path, tmp_path / "parts", stop_after=3)
    train(path, tmp_path / "parts")
    whole, parts = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
    assert [k for k in whole if not torch.equal(whole[k], parts[k])] == []


def test_training_learns_and_validation_says_so(configuration, tmp_path, data_set):
    path = configuration(
        data={
            "folders": [str(data_set)],
            "cache": str(tmp_path / "decoded"),
            "held_out": ["two"],
        },
        optimizer={"batch": 4, "threads": 1},
        stages=[{"steps": 40, "lr": 2e-3, "warmup": 5}],
        validation={"every": 40, "qps": [27]},
    )
    train(path, tmp_path / "run")
    with (tmp_path / "run" / "validation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {r["qp"] for r in rows} == {"27"}
    assert float(rows[-1]["gain"]) > 0.5  # a scene that only moves: references fit
    assert (tmp_path / "run" / "curve.png").stat().st_size > 1000
    with (tmp_path / "run" / "log.csv").open() as file:
        losses = [float(r["loss"]) for r in csv.DictReader(file)]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    # Started again at its end, it neither validates nor logs the same once more.
    with (tmp_path / "run" / "log.csv").open("a") as file:
        file.write("9999,1,1,1,1,1\n")
    train(path, tmp_path / "run")
    with (tmp_path / "run" / "validation.csv").open() as file:
        assert list(csv.DictReader(file)) == rows
    with (tmp_path / "run" / "log.csv").open() as file:
        assert [float(r["loss"]) for r in csv.DictReader(file)] == losses
    # The model says which clips it saw; the held-out one it did not.
    seen = {e.source_sha256 for e in load_manifest(data_set) if e.clip == "one"}
    assert metadata(tmp_path / "run" / "weights.safetensors")["training"]["sources"] == [*seen]
    # Going on with other clips it has still seen the first ones.
    data = {**yaml.safe_load(path.read_text())["data"], "held_out": ["one"]}
    more = configuration(data=data, stages=[{"steps": 40}, {"steps": 1}])
    train(more, tmp_path / "run")
    seen = {e.source_sha256 for e in load_manifest(data_set)}
    about = metadata(tmp_path / "run" / "weights.safetensors")
    assert about["training"]["sources"] == sorted(seen)


def test_a_held_out_clip_that_is_not_there_is_said(configuration, tmp_path, data_set):
    data = {"folders": [str(data_set)], "cache": str(tmp_path / "d"), "held_out": ["tow", "two"]}
    with pytest.raises(InputError, match="held_out: there is no clip 'tow'"):
        train(configuration(data=data), tmp_path / "run")


def test_chroma_of_the_paper_s_network_is_no_coarser_in_bfloat16():
    """The offset of 128 codes in the conversion from RGB would leave it steps of a code."""
    torch.manual_seed(1)
    small = {"channels": 16, "front_blocks": 1, "back_blocks": 1, "groups": 4,
             "iqem_layers": 2, "iqem_channels": 16}  # fmt: skip
    model = build_network({"preset": "quality-paper", "scale": 2, **small}).eval()
    torch.nn.init.normal_(model.iqem.last.weight, 0, 0.002)
    x = torch.rand(1, 6, 32, 32)
    arguments = (x, torch.rand(1, 6, 16, 16), x, torch.zeros(1, 5))
    with torch.no_grad():
        exact = model(*arguments)
        with torch.autocast("cpu", torch.bfloat16):
            made = model(*arguments)
    error = (made.float() - exact).abs() * 255
    assert float(error[:, 4:].mean()) < 0.02


def test_two_processes_train_as_one_with_twice_the_batch(configuration, tmp_path):
    """The same samples, halved between two: the same weights, but for rounding."""
    path = configuration(optimizer={"batch": 4, "threads": 1, "clip": 1e9})
    train(path, tmp_path / "one")
    path = configuration(optimizer={"batch": 2, "threads": 1, "clip": 1e9})
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from tds.training.trainer import Trainer\n"
        "from tds.training.config import load_config\n"
        "Trainer(load_config(sys.argv[1]), Path(sys.argv[2]), quiet=True).run()\n"
    )
    running = []
    for rank in range(2):
        env = {
            **os.environ,
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        command = [sys.executable, "-c", code, str(path), str(tmp_path / "two")]
        running.append(subprocess.Popen(command, env=env))
    assert [p.wait(timeout=300) for p in running] == [0, 0]
    one, two = weights_of(tmp_path / "one"), weights_of(tmp_path / "two")
    for key, value in one.items():
        assert torch.allclose(value, two[key], atol=2e-4), key


def test_stages_train_what_they_say_and_nothing_else(configuration, tmp_path):
    network = {
        "preset": "quality-paper",
        "scale": 2,
        "channels": 16,
        "front_blocks": 1,
        "back_blocks": 1,
        "groups": 4,
        "iqem_layers": 3,
        "iqem_channels": 16,
    }
    stages = [
        {"name": "alignment", "steps": 2, "freeze": ["fusion.mta."], "warmup": 1},
        {"name": "fusion", "steps": 2, "train": ["fusion.", "iqem."], "warmup": 1},
    ]
    path = configuration(network=network, stages=stages)
    first = Trainer(load_config(path), tmp_path / "run", quiet=True)
    start = {k: v.clone() for k, v in first.model.state_dict().items()}
    first.run(stop_after=2)
    middle = {k: v.clone() for k, v in first.model.state_dict().items()}
    changed = {k for k in start if not torch.equal(start[k], middle[k])}
    assert changed and not any(k.startswith("fusion.mta.") for k in changed)
    assert {"pcd", "front", "back", "iqem"} <= {k.split(".")[0] for k in changed}
    last = train(path, tmp_path / "run").model.state_dict()
    changed = {k for k in last if not torch.equal(middle[k], last[k])}
    assert {k.split(".")[0] for k in changed} == {"fusion", "iqem"}
    assert any(k.startswith("fusion.mta.") for k in changed)


def test_gradients_reach_all_that_a_stage_trains_and_nothing_frozen():
    from test_networks import SMALL_PAPER, lively

    from tds.models.export import example

    shipped = Path(__file__).resolve().parents[2] / "configs" / "training"
    cases = [({}, Stage(train=["fusion.", "iqem."]), 0.0)]
    for name, options in (("quality-paper", {}), ("quality-paper-tsa", {"fusion": "tsa"})):
        config = load_config(shipped / f"{name}.yaml")
        assert config.network.get("fusion") == options.get("fusion")
        cases += [(options, stage, at) for stage in config.stages for at in (0.0, 0.9)]
    assert len(cases) == 9
    for options, stage, at in cases:
        model = lively({**SMALL_PAPER, **options}, 2).train()
        trained = set(freeze(model, stage, at))
        assert trained
        model(*example(2, 32, 32)).square().sum().backward()
        got = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        # A key's bias adds the same to every score, so softmax takes it out again.
        silent = {n for n in trained if n.endswith("key.bias")}
        assert got | silent == trained


@pytest.mark.parametrize("large", [{"channels": 24, "blocks": 4, "convolutions": 2}, {}])
def test_a_grown_network_is_the_same_function_and_trains_everywhere(large):
    torch.manual_seed(0)
    small = build_network({"preset": "fast", "scale": 2, "channels": 16})
    for p in small.parameters():
        torch.nn.init.normal_(p, std=0.1)
    grown = build_network({"preset": "fast", "scale": 2, "channels": 16, **large})
    grow(small, grown)
    first, last = torch.rand(2, 2, 6, 32, 48).unbind()
    target, side = torch.rand(2, 6, 16, 24), torch.rand(2, 5)
    want = small(first, target, last, side)
    assert not torch.allclose(want, bicubic(target, 2), atol=1e-2)
    assert torch.allclose(grown(first, target, last, side), want, atol=1e-5)
    # Two steps: what begins at zero lets gradients through once it has moved.
    optimizer = torch.optim.SGD(grown.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        grown(first, target, last, side).square().mean().backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in grown.parameters())


def test_a_network_for_another_k_starts_from_what_fits():
    small = build_network({"preset": "fast", "scale": 2})
    other = build_network({"preset": "fast", "scale": 4})
    grow(small, other)
    assert torch.equal(other.body[1].first.weight, small.body[1].first.weight)
    low, at = small.head.weight[:, 50:54], other.head.weight[:, 50:51]
    assert torch.allclose(low.sum(1, keepdim=True), at)


def test_hypotheses_share_what_was_learned_for_one():
    torch.manual_seed(0)
    full = {"preset": "fast", "scale": 2, "full_search": True, "settle": []}
    small = build_network(full)
    for p in small.parameters():
        torch.nn.init.normal_(p, std=0.1)
    grown = build_network({**full, "hypotheses": 4})
    grow(small, grown)
    first, last = torch.rand(2, 2, 6, 32, 48).unbind()
    target, side = torch.rand(2, 6, 16, 24), torch.rand(2, 5)
    # Where all hypotheses are alike it is the same function.
    alike = [x.repeat(1, 4, 1, 1) for x in (first, last)]
    got = grown.fuse(alike[0], target, alike[1], side)
    assert torch.allclose(got, small.fuse(first, target, last, side), atol=1e-4)
    with pytest.raises(InputError, match="one hypothesis"):
        grow(grown, build_network(full))


def test_a_network_does_not_shrink():
    small = build_network({"preset": "fast", "scale": 2, "channels": 16})
    large = build_network({"preset": "fast", "scale": 2})
    with pytest.raises(InputError, match="at most as many"):
        grow(large, small)


def test_late_in_a_stage_frozen_layers_are_thawed():
    from test_networks import SMALL_PAPER, lively

    model = lively(SMALL_PAPER, 2)
    stage = Stage(freeze=["pcd."], thaw=["pcd.cascade_"], thaw_at=0.75)
    assert not any(n.startswith("pcd.") for n in freeze(model, stage, 0.5))
    late = [n for n in freeze(model, stage, 0.8) if n.startswith("pcd.")]
    assert late and all(n.startswith("pcd.cascade_") for n in late)
    with pytest.raises(InputError, match=r"no parameter nothing\*"):
        freeze(model, Stage(train=["nothing"]), 0.0)


def test_schedule_warms_up_and_falls_to_its_end():
    stage = Stage(steps=100, lr=1.0, min_lr=0.1, warmup=10)
    rates = [learning_rate(stage, i, i / 100) for i in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) < 1.0
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert learning_rate(stage, 100, 1.0) == pytest.approx(0.1)


def test_charbonnier_is_its_formula():
    a, b = torch.rand(2, 6, 4, 4), torch.rand(2, 6, 4, 4)
    d = ((a - b) ** 2 + 1e-6) ** 0.5
    want = d[:, :4].mean() + 0.15 * d[:, 4:].mean()
    assert torch.allclose(charbonnier(a, b), want)
    inner = charbonnier(a, b, border=2)
    assert torch.allclose(inner, charbonnier(a[:, :, 1:-1, 1:-1], b[:, :, 1:-1, 1:-1]))


def test_recurrence_uses_the_enhanced_middle():
    asked = []

    class Recorder(torch.nn.Module):
        def forward(self, first, target, last, side):
            asked.append(
                (
                    float(first[0, 0, 0, 0]),
                    float(target[0, 0, 0, 0]),
                    float(last[0, 0, 0, 0]),
                    side[0].tolist(),
                )
            )
            return first * 0 + target[0, 0, 0, 0] + 0.5

    def flat(v, size=8):
        return torch.full((1, 6, size, size), v)

    targets = [flat(v, 4) for v in (0.1, 0.2, 0.3)]
    got = enhance_run(Recorder(), flat(0.0), targets, flat(1.0), 30, 33)
    assert [round(float(g.mean()), 3) for g in got] == [0.6, 0.7, 0.8]
    seen = [tuple(round(v, 3) for v in a[:3]) for a in asked]
    assert seen == [(0.0, 0.2, 1.0), (0.0, 0.1, 0.7), (0.7, 0.3, 1.0)]
    assert [a[3] for a in asked] == [[1, 1, 0.5, 30, 33]] * 3


def test_bad_configurations_are_refused_in_a_sentence(configuration, tmp_path):
    for sections, words in (
        ({"optimizer": {"bach": 3}}, "no key 'bach' in optimizer; did you mean batch"),
        ({"optimizer": {"batch": "3"}}, 'optimizer.batch should be a whole number, not "3"'),
        ({"stages": [{"lr": "1e-3"}]}, "write 1.0e-3"),
        ({"data": {"folders": []}}, "data.folders is empty"),
        ({"samples": {"distances": [[0.5, [1]]]}}, r"samples.distances\[0\]\[1\]\[1\] is missing"),
        ({"samples": {"patch": 50}}, "multiple of 16"),
        ({"network": {"preset": "fast"}}, "network.scale"),
        ({"loss": {"space": "xyz"}}, "loss.space should be 'yuv' or 'rgb'"),
    ):
        with pytest.raises(InputError, match=words):
            load_config(configuration(**sections))
    with pytest.raises(MissingError):
        load_config(tmp_path / "none.yaml")
    for given, words in (
        ("optimizer.batch", "takes section.key=value"),
        ("stages.7.lr=1", "has no such place"),
        ("optimizer.batch=[1", "not YAML"),
    ):
        with pytest.raises(InputError, match=words):
            load_config(configuration(), [given])
    changed = load_config(configuration(), ["optimizer.batch=9", "stages.0.lr=0.5"])
    assert changed.optimizer.batch == 9 and changed.stages[0].lr == 0.5


def test_a_checkpoint_of_another_network_is_refused(configuration, tmp_path):
    train(configuration(), tmp_path / "run", stop_after=1)
    other = configuration(network={"preset": "fast", "scale": 2, "channels": 16})
    with pytest.raises(InputError, match="another network"):
        train(other, tmp_path / "run")
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"x")
    with pytest.raises(InputError, match="cannot be read"):
        train(configuration(), tmp_path / "run")


def test_shipped_configurations_are_valid():
    folder = Path(__file__).resolve().parents[2] / "configs" / "training"
    files = sorted(folder.glob("*.yaml"))
    assert files
    for path in files:
        config = load_config(path)
        assert json.dumps(config.network)
