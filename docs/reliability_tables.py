# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tables of docs/reliability.md, of the runs' own records (docs/results/reliability.json)."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reliability.md"
RECORDS = ROOT / "docs" / "results" / "reliability.json"


def rows(head: list[str], body: list[list[object]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def fuzz(record: dict[str, Any]) -> str:
    body = []
    for name, entry in record["fuzz"].items():
        lines = ", ".join(f"{f} {p:g} %" for f, p in entry.get("lines", {}).items())
        body.append([f"`{name}`", f"{entry['executions']:,}".replace(",", " "), lines])
    return rows(["target", "inputs", "lines reached"], body)


def torture(record: dict[str, Any]) -> str:
    doors = record["torture"]
    outcomes = sorted({outcome for door in doors.values() for outcome in door})
    body = [[door, *(counts.get(o, 0) for o in outcomes)] for door, counts in doors.items()]
    return rows(["door", *outcomes], body)


def hardship(record: dict[str, Any]) -> str:
    body = []
    for what, trials in record["hardship"].items():
        stages: dict[str, Counter[str]] = {}
        for how, outcome in trials.items():
            if found := re.match(r"(SIG\w+) at: (.*)", how):
                kind = f"signals at: {found[2]}"
            else:
                kind = re.sub(r" ?\d+( kB| MB)?$|of \d+ kB", "", how).strip()
            stages.setdefault(kind, Counter())[outcome.partition(":")[0]] += 1
        for kind, counts in stages.items():
            ended = ", ".join(f"{n} {outcome}" for outcome, n in sorted(counts.items()))
            body.append([what, kind, sum(counts.values()), ended])
    return rows(["command", "what was done to it", "times", "its output, or what it did"], body)


def soak(record: dict[str, Any]) -> str:
    run = record["soak"]
    body = [
        [door, run["seconds"], result["pictures"], *result["memory_mb"],
         f"{result.get('apart', 0):g} s" if "apart" in result else "no sound"]
        for door, result in run.items() if isinstance(result, dict)
    ]  # fmt: skip
    return rows(["door", "seconds", "pictures", "MB early", "MB late", "sound apart"], body)


def live(record: dict[str, Any]) -> str:
    run = record["live"]
    body = [
        [door.removeprefix("live "), run["seconds"], result["pictures"], result["missing"],
         *result["memory_mb"], f"{result['apart']:g} s" if "apart" in result else "no sound",
         f"{max(result['late_ms'])} ms", f"{result['late_most_ms']} ms"]
        for door, result in run.items() if isinstance(result, dict)
    ]  # fmt: skip
    head = ["door", "seconds", "pictures", "missing", "MB early", "MB late", "sound apart"]
    return rows([*head, "late, mostly", "late, 99 of 100"], body)


def faults(record: dict[str, Any]) -> str:
    body = [
        [name, f"`{entry['by']}`", "yes" if entry["caught"] else "NO", entry["seconds"]]
        for name, entry in record["faults"].items()
    ]
    return rows(["fault", "by", "caught", "seconds, with building"], body)


TABLES = {f.__name__: f for f in (fuzz, torture, hardship, soak, live, faults)}


def page() -> str:
    """docs/reliability.md with its tables as the records have them."""
    record = json.loads(RECORDS.read_text())

    def table(found: re.Match[str]) -> str:
        name = found[1]
        made = TABLES[name](record) if name in record else "Not run yet."
        return f"<!-- records: {name} -->\n{made}\n<!-- end -->"

    return re.sub(r"<!-- records: (\w+) -->\n.*?<!-- end -->", table, PAGE.read_text(), flags=re.S)
