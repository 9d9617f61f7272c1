# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fuzzes (`make fuzz SECONDS=600`): every C++ target by libFuzzer under AddressSanitizer and
UndefinedBehaviorSanitizer, every Python one by hypothesis, two at a time.

What is learned stays in build/fuzz/corpus and is begun from the next time; an input that ends a
target is written to build/fuzz/found, and belongs into tests/fuzz/found once it is mended.
``--record FILE`` adds what was run to a file of counts, from which docs/reliability.md is made.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "tests" / "fuzz"
BUILD = ROOT / "build" / "fuzz"
COVERAGE = ROOT / "build" / "fuzz-coverage"

# Longest input of each: what is longer says nothing new and costs.
CPP = {
    "archive": 2048, "metadata": 1024, "pickle": 512, "inflate": 1024, "tag": 2048, "times": 128,
    "session": 64, "push": 64,
}  # fmt: skip
# What each is there to read: the files whose coverage is stated.
PARSERS = {
    "archive": ["session/zip.cpp", "session/torch_archive.cpp", "session/inflate.cpp"],
    "metadata": ["session/model_file.cpp", "session/json.cpp"],
    "pickle": ["session/torch_archive.cpp"],
    "inflate": ["session/inflate.cpp"],
    "tag": ["tag/tag.cpp", "session/json.cpp"],
    "times": ["tag/times.cpp", "tag/beginning.cpp"],
    "session": [
        "session/session.cpp", "window/recurrence.cpp", "window/neighbourhood.cpp",
        "pairing/pairing.cpp",
    ],
    "push": ["include/tds/push.h"],
}  # fmt: skip


def python_targets() -> list[str]:
    sys.path.insert(0, str(HERE))
    import python_targets

    return list(python_targets.TARGETS)


def build(folder: Path, *options: str) -> None:
    if not shutil.which("clang++"):
        sys.exit("fuzzing needs clang with its sanitizers (Debian: apt install clang llvm)")
    configure = [
        "cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=RelWithDebInfo",
        "-DCMAKE_C_COMPILER=clang", "-DCMAKE_CXX_COMPILER=clang++", "-DTDS_TESTS=ON",
        "-DTDS_TORCH=OFF", *options,
    ]  # fmt: skip
    subprocess.run(configure, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", folder, "--target", "fuzz"], check=True)


def environment() -> dict[str, str]:
    # A small quarantine: sessions are opened by the million.
    return {**os.environ, "ASAN_OPTIONS": "quarantine_size_mb=4:malloc_context_size=4"}


def run_cpp(name: str, amount: list[str]) -> dict[str, Any]:
    corpus = BUILD / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    found = BUILD / "found"
    found.mkdir(exist_ok=True)
    before = set(found.iterdir())
    begun = time.monotonic()
    run = subprocess.run(
        [
            BUILD / "tests" / "fuzz" / f"fuzz_{name}", *amount, f"-max_len={CPP[name]}",
            "-timeout=20", "-rss_limit_mb=2048", "-entropic=0", "-print_final_stats=1",
            "-verbosity=0", f"-artifact_prefix={found}/{name}-", corpus, HERE / "seeds" / name,
            *([HERE / "found" / name] if (HERE / "found" / name).is_dir() else []),
        ],
        stderr=subprocess.PIPE, env=environment(), text=True, errors="replace",
    )  # fmt: skip
    executions = re.search(r"number_of_executed_units: (\d+)", run.stderr)
    if run.returncode:
        print(run.stderr[-4000:], file=sys.stderr)
    return {
        "executions": int(executions[1]) if executions else 0,
        "seconds": round(time.monotonic() - begun),
        "failed": run.returncode != 0,
        "found": sorted(str(p) for p in set(found.iterdir()) - before),
    }


def run_python(name: str, seconds: float, runs: int) -> dict[str, Any]:
    begun = time.monotonic()
    run = subprocess.run(
        [sys.executable, HERE / "python_targets.py", name, "--seconds", str(seconds)]
        + ["--runs", str(runs)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    lines = run.stdout.splitlines()
    return {
        "executions": int(lines[-1]) if lines and lines[-1].isdigit() else 0,
        "seconds": round(time.monotonic() - begun),
        "failed": run.returncode != 0,
        "found": [] if run.returncode == 0 else lines,
    }


def coverage() -> dict[str, dict[str, float]]:
    """Lines of each parser that the corpus and the seeds reach, in percent."""
    build(
        COVERAGE,
        "-DCMAKE_BUILD_TYPE=Debug",  # no line is optimised away, and it builds sooner
        "-DCMAKE_C_FLAGS=-fprofile-instr-generate -fcoverage-mapping",
        "-DCMAKE_CXX_FLAGS=-fprofile-instr-generate -fcoverage-mapping",
    )
    out: dict[str, dict[str, float]] = {}
    for name, files in PARSERS.items():
        raw, merged = COVERAGE / f"{name}.profraw", COVERAGE / f"{name}.profdata"
        program = COVERAGE / "tests" / "fuzz" / f"fuzz_{name}"
        folders = [BUILD / "corpus" / name, HERE / "seeds" / name, HERE / "found" / name]
        subprocess.run(
            [program, *(f for f in folders if f.is_dir())],
            check=True, env={**os.environ, "LLVM_PROFILE_FILE": str(raw)},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        subprocess.run(["llvm-profdata", "merge", "-o", merged, raw], check=True)
        report = subprocess.run(
            ["llvm-cov", "export", "-summary-only", f"-instr-profile={merged}", program],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        # Chosen here: the names are as the compiler was told them, relative with ccache.
        found = {
            Path(os.path.normpath(COVERAGE / file["filename"])): file["summary"]["lines"]
            for file in json.loads(report.stdout)["data"][0]["files"]
        }
        out[name] = {
            file: round(found[ROOT / "csrc" / file]["percent"], 1)
            for file in files
            if ROOT / "csrc" / file in found
        }
        if missing := set(files) - set(out[name]):
            sys.exit(f"fuzz target {name} has no {', '.join(sorted(missing))} in it any more")
    return out


def record(path: Path, results: dict[str, Any], lines: dict[str, dict[str, float]]) -> None:
    all_records = json.loads(path.read_text()) if path.is_file() else {}
    targets = all_records.setdefault("fuzz", {})
    for name, result in results.items():
        entry = targets.setdefault(name, {"executions": 0, "seconds": 0})
        entry["executions"] += result["executions"]
        entry["seconds"] += result["seconds"]
    for name, files in lines.items():
        targets.setdefault(name, {"executions": 0, "seconds": 0})["lines"] = files
    path.write_text(json.dumps(all_records, indent=1, sort_keys=True) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="of all together")
    parser.add_argument("--runs", type=int, default=0, help="of each target, in place of seconds")
    parser.add_argument("--targets", nargs="*", help="these alone")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--coverage", action="store_true", help="state it, and do not fuzz")
    parser.add_argument("--record", type=Path)
    arguments = parser.parse_args()
    if arguments.coverage:
        lines = coverage()
        print(json.dumps(lines, indent=1))
        if arguments.record:
            record(arguments.record, {}, lines)
        return 0

    python = python_targets()
    names = arguments.targets or [*CPP, *python]
    unknown = set(names) - {*CPP, *python}
    if unknown:
        sys.exit(f"no fuzz target is named {', '.join(sorted(unknown))}; there are: "
                 + ", ".join([*CPP, *python]))  # fmt: skip
    if set(names) & set(CPP):
        build(BUILD, "-DTDS_FUZZ=ON", "-DTDS_SANITIZE=address,undefined")
    share = arguments.seconds * arguments.jobs / len(names)

    def run(name: str) -> tuple[str, dict[str, Any]]:
        if name in CPP:
            limit = [f"-runs={arguments.runs}"] if arguments.runs else []
            result = run_cpp(name, limit or [f"-max_total_time={max(1, int(share))}"])
        else:
            result = run_python(name, share, arguments.runs)
        print(f"{name:12} {result['executions']:>9} inputs in {result['seconds']:>5} s"
              + ("  FAILED: " + " ".join(result["found"]) if result["failed"] else ""),
              flush=True)  # fmt: skip
        if arguments.record and not result["failed"]:
            record(arguments.record, {name: result}, {})
        return name, result

    with ThreadPoolExecutor(arguments.jobs) as pool:
        results = dict(pool.map(run, names))
    return 1 if any(result["failed"] for result in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
