#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes what these pages say of configuration files, from the code that checks the files.

    python docs/tables.py            # what `make docs` does
    python docs/tables.py --check    # exits with 1, and names them, when files are not up to date

A table stands between ``<!-- keys: KIND -->`` and ``<!-- end -->``; the JSON Schemas, by which
editors check and complete a YAML file, are in configs/.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from tds import configuration
from tds.evaluation import config as evaluation
from tds.training import config as training

ROOT = Path(__file__).resolve().parent.parent
KINDS = {
    kind.__name__: kind
    for kind in (
        *(evaluation.Evaluation, evaluation.ClipEntry, evaluation.Coding, evaluation.Plan),
        *(training.TrainConfig, training.Data, training.SampleSettings, training.Stage),
        *(training.Optimizer, training.Loss, training.Validation, training.Log),
    )
}
SCHEMAS = {
    "evaluation": (evaluation.Evaluation, "Configuration of tds evaluate"),
    "training": (training.TrainConfig, "Configuration of tds train"),
}


def wanted() -> dict[Path, str]:
    """What each file should hold."""
    out = {}
    for page in sorted((ROOT / "docs").glob("*.md")):
        out[page] = re.sub(
            r"(<!-- keys: (\w+) -->\n).*?(<!-- end -->)",
            lambda m: f"{m[1]}{configuration.table(KINDS[m[2]])}\n{m[3]}",
            page.read_text(),
            flags=re.DOTALL,
        )
    for name, (kind, title) in SCHEMAS.items():
        text = json.dumps(configuration.schema(kind, title), indent=1)
        out[ROOT / "configs" / f"{name}.schema.json"] = text + "\n"
    return out


def main() -> int:
    stale = [p for p, text in wanted().items() if not p.is_file() or p.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not up to date: make docs", file=sys.stderr)
        return 1 if stale else 0
    for path, text in wanted().items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
