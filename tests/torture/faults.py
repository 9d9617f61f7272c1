# SPDX-License-Identifier: LGPL-2.1-or-later
"""Faults put back on purpose, in a copy of the tree: each must be caught (`make faults`).

python tests/torture/faults.py [--record FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
COPY = ROOT / "build" / "faults"
BUILD = COPY / "build"


@dataclass(frozen=True)
class Fault:
    """What is changed where, and what must notice within so many seconds. fuzz: the target of
    tests/fuzz that is built and given its seeds; else ``command`` is run."""

    name: str
    file: str
    old: str
    new: str
    seconds: int
    fuzz: str = ""
    command: tuple[str, ...] = ()


FAULTS = (
    Fault(
        "an off-by-one in the tag's run lengths", "csrc/tag/tag.cpp",
        "if (++place.within == runs[place.run + 1]) {",
        "if (place.within++ == runs[place.run + 1]) {", 10, "tag",
    ),
    Fault(
        "a picture released twice", "csrc/session/api.cpp",
        "picture->release(picture->owner);",
        "picture->release(picture->owner), picture->release(picture->owner);", 10, "session",
    ),
    Fault(
        "a missing bound in the archive check", "csrc/session/zip.cpp",
        "if (!fits(at, kDirectorySize) || number(at, 4)", "if (number(at, 4)", 10, "archive",
    ),
    Fault(
        "a lost wake-up in the launcher", "python/tds/postdec/streams.py",
        'os.write(self._waker, b"x")', "pass", 180,
        command=("-m", "pytest", "-q", "-x", "tests/vtm/test_protocol.py", "-k", "interrupted"),
    ),
    Fault(
        "an output opened without O_EXCL", "python/tds/files.py",
        "os.O_CREAT | os.O_EXCL |", "os.O_CREAT |", 60,
        command=("-m", "pytest", "-q", "-x", "tests/test_files.py", "-k", "link"),
    ),
)  # fmt: skip


def copy_tree() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (COPY / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, COPY / name)
    for path in (ROOT / "python" / "tds").glob("_tds*.so"):
        shutil.copy2(path, COPY / "python" / "tds")
    native = ROOT / "python" / "tds" / "_native"
    if native.is_dir():
        shutil.copytree(native, COPY / "python" / "tds" / "_native", dirs_exist_ok=True)


def build(*targets: str) -> None:
    if not (BUILD / "build.ninja").is_file():
        subprocess.run(
            ["cmake", "-S", COPY, "-B", BUILD, "-G", "Ninja", "-DTDS_TESTS=ON", "-DTDS_TORCH=OFF",
             "-DCMAKE_BUILD_TYPE=Release"],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    subprocess.run(
        ["cmake", "--build", BUILD, "--target", *targets], check=True, stdout=subprocess.DEVNULL
    )


def notice(fault: Fault) -> tuple[bool, str]:
    """Whether what watches fails, and its last words."""
    command: list[Any] = [sys.executable, *fault.command]
    if fault.fuzz:
        build(f"fuzz_{fault.fuzz}")
        command = [
            BUILD / "tests" / "fuzz" / f"fuzz_{fault.fuzz}",
            COPY / "tests" / "fuzz" / "seeds" / fault.fuzz,
        ]
    try:
        done = subprocess.run(
            command, cwd=COPY, capture_output=True, text=True, errors="replace",
            timeout=fault.seconds,
            env={**os.environ, "PYTHONPATH": str(COPY / "python")},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return True, f"it hangs: ended after {fault.seconds} s"
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    for word in ("not true:", "ERROR:", "FAILED ", "terminate", "runtime error:"):
        said = [line for line in said if word in line] or said
    return done.returncode != 0, said[-1][:160] if said else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", type=Path)
    arguments = parser.parse_args()
    copy_tree()
    build("tds_record", *(f"fuzz_{fault.fuzz}" for fault in FAULTS if fault.fuzz))
    table: dict[str, dict[str, Any]] = {}
    missed = 0
    for fault in FAULTS:
        path = COPY / fault.file
        whole = path.read_text()
        assert whole.count(fault.old) == 1, f"{fault.file} has no {fault.old!r} any more"
        if notice(fault)[0]:
            raise SystemExit(f"{fault.name}: what is to notice it fails without it too")
        path.write_text(whole.replace(fault.old, fault.new))
        begun = time.monotonic()
        try:
            caught, said = notice(fault)
        finally:
            path.write_text(whole)
        seconds = round(time.monotonic() - begun, 1)
        by = f"fuzz_{fault.fuzz} with its seeds" if fault.fuzz else " ".join(fault.command[4:])
        table[fault.name] = {"caught": caught, "by": by, "said": said.replace(str(COPY), ""),
                             "seconds": seconds}  # fmt: skip
        print(fault.name, json.dumps(table[fault.name]), flush=True)
        missed += not caught
    if arguments.record:
        record = json.loads(arguments.record.read_text()) if arguments.record.is_file() else {}
        record["faults"] = table
        arguments.record.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
