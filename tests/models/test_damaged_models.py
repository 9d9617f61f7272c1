# SPDX-License-Identifier: LGPL-2.1-or-later
"""Model files that were cut, changed or made to lie: refused in one sentence, or the same pictures.

A process of its own opens them: what is tested would end it.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tds import _tds

# Prints, for each file named, a hash of the enhanced picture, or why there is none.
PROGRAM = """
import hashlib, sys
import numpy as np
import tds

def picture(path):
    with tds.Session(64, 48, 2, model=path, device="cpu", log=lambda level, text: None) as session:
        noise = np.random.default_rng(0)
        for pts, role, k in ((0, "hr", 1), (1, "lr", 2), (2, "hr", 1)):
            sizes = ((48 // k, 64 // k), (24 // k, 32 // k), (24 // k, 32 // k))
            planes = [noise.integers(16, 235, size, np.uint8) for size in sizes]
            session.send(role, planes, pts=pts)
        session.end("hr")
        session.end("lr")
        enhanced = list(session)[1]
        return hashlib.sha256(enhanced.to_ndarray().tobytes()).hexdigest()

for path in sys.argv[1:]:
    try:
        print("made", picture(path), flush=True)
    except (ValueError, RuntimeError) as error:
        print("refused", str(error).replace("\\n", " // "), flush=True)
"""


def outcomes(paths: list[Path]) -> list[str]:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, paths)], capture_output=True, text=True
    )
    assert run.returncode == 0, f"after {len(run.stdout.splitlines())} files: {run.stderr[-2000:]}"
    return run.stdout.splitlines()


class Small(torch.nn.Module):
    """Weights, a constant and code enough to be damaged, and quick to load."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(18, 16, 3, padding=1)
        self.last = torch.nn.Conv2d(16, 6, 3, padding=1)

    def forward(self, first: Tensor, target: Tensor, last: Tensor, side: Tensor) -> Tensor:
        up = target.repeat_interleave(2, 2).repeat_interleave(2, 3)
        change = self.last(torch.relu(self.first(torch.cat([first, up, last], 1))))
        return up + 0.1 * torch.tanh(change)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        _tds.backend_available("torchscript")
    except NotImplementedError as error:
        pytest.skip(f"the engine was built without torch: {error}")
    torch.manual_seed(1)
    about = {"tds_model": 1, "name": "small", "version": "1", "scale": 2, "torch": "2.0"}
    path = tmp_path_factory.mktemp("model") / "small.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls TorchScript deprecated
        script = torch.jit.script(Small().eval())
        torch.jit.save(script, str(path), _extra_files={"tds.json": json.dumps(about)})
    return path


def rewritten(archive: Path, path: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """The archive with its records changed, and their checksums right."""
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            data = change(entry.filename.partition("/")[2], old.read(entry))
            if data is not None:
                new.writestr(entry.filename, data)
    return path


def weights(archive: Path) -> str:
    """The longest record: of one tensor."""
    with zipfile.ZipFile(archive) as file:
        names = [e for e in file.infolist() if "/data/" in e.filename]
        return max(names, key=lambda e: e.file_size).filename.partition("/")[2]


def test_the_archive_written_again_gives_the_same_picture(archive: Path, tmp_path: Path) -> None:
    again = rewritten(archive, tmp_path / "again.pt", lambda name, data: data)
    first, second = outcomes([archive, again])
    assert first == second and first.startswith("made")


def test_a_record_shorter_than_its_tensor_is_refused(archive: Path, tmp_path: Path) -> None:
    record = weights(archive)
    paths = [
        rewritten(
            archive, tmp_path / f"{left}.pt", lambda n, d, s=left: d[:s] if n == record else d
        )
        for left in (0, 1, 4)
    ]
    missing = rewritten(archive, tmp_path / "m.pt", lambda n, d: None if n == record else d)
    for left, said in zip((0, 1, 4), outcomes(paths), strict=True):
        assert said.startswith("refused") and f"{record} has {left} bytes" in said
    assert f"{record} is missing" in outcomes([missing])[0]


def test_a_flipped_bit_of_a_weight_is_refused(archive: Path, tmp_path: Path) -> None:
    data = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as file:
        record = weights(archive)
        info = next(e for e in file.infolist() if e.filename.endswith(record))
        with file.open(info) as stored:
            middle = data.index(stored.read()[:64]) + info.file_size // 2
    data[middle] ^= 1
    path = tmp_path / "flipped.pt"
    path.write_bytes(data)
    (said,) = outcomes([path])
    assert said.startswith("refused") and record in said and "checksum" in said


def test_mutated_archives_are_refused_or_give_the_same_picture(
    archive: Path, tmp_path: Path
) -> None:
    dice = random.Random(20261126)
    whole = archive.read_bytes()
    paths = [archive]
    for number in range(300):
        data = bytearray(whole)
        kind = number % 3
        if kind == 0:  # the directory and the end records are the last 2 kB
            place = len(data) - 1 - dice.randrange(2000)
            data[place] ^= 1 << dice.randrange(8)
        elif kind == 1:
            for _ in range(dice.randrange(1, 20)):
                data[dice.randrange(len(data))] = dice.randrange(256)
        else:
            begin = dice.randrange(len(data))
            del data[begin : begin + dice.randrange(1, 5000)]
        path = tmp_path / f"{number}.pt"
        path.write_bytes(data)
        paths.append(path)
    want, *got = outcomes(paths)
    other = [said for said in got if not said.startswith("refused") and said != want]
    assert other == []
    assert sum(said.startswith("refused") for said in got) > 200


def test_mutated_pickles_with_right_checksums_end_no_process(archive: Path, tmp_path: Path) -> None:
    dice = random.Random(1)

    def mutate(name: str, data: bytes) -> bytes:
        if name not in ("data.pkl", "constants.pkl"):
            return data
        changed = bytearray(data)
        for _ in range(dice.randrange(1, 4)):
            changed[dice.randrange(len(changed))] = dice.randrange(256)
        return bytes(changed)

    paths = [rewritten(archive, tmp_path / f"{n}.pt", mutate) for n in range(200)]
    said = outcomes(paths)
    assert len(said) == len(paths)
    assert sum("model file" in s for s in said) > 150


def test_an_archive_of_another_torch_says_whose_and_what_to_do(
    archive: Path, tmp_path: Path
) -> None:
    def other(name: str, data: bytes) -> bytes:
        if name == "extra/tds.json":
            return json.dumps({**json.loads(data), "torch": "99.1.0+cpu"}).encode()
        if name.endswith(".py") and b"def forward" in data:
            return data.replace(b"def forward", b"def forward(x) ->>\ndef forward", 1)
        return data

    path = rewritten(archive, tmp_path / "new.pt", other)
    (said,) = outcomes([path])
    assert said.startswith("refused")
    assert "torch 99.1.0" in said and torch.__version__.partition("+")[0] in said
    assert "tds export" in said
