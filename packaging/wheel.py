#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes the wheel that others install: what `make wheel` does.

    python packaging/wheel.py [--out dist]

It is built without isolation, against the torch of this environment, which it then asks for by
its minor version; torch's libraries stay where they are, in torch. auditwheel checks that nothing
else is needed and names the wheel after the oldest systems that it runs on. What is compiled in is
said in the wheel, and what it runs with beside it (packaging/sbom.py).
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import sbom
import torch

ROOT = Path(__file__).resolve().parent.parent
TORCH_LIBRARIES = ("libtorch*.so", "libc10*.so")


def run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], cwd=ROOT, check=True)


def build(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps"]
    for setting in ("TDS_PORTABLE=ON", "TDS_TORCH=ON"):
        command += ["--config-settings", f"cmake.define.{setting}"]
    run(*command, "--wheel-dir", folder, ROOT)
    return next(folder.glob("*.whl"))


def complete(wheel: Path, folder: Path) -> Path:
    """Its extras ask for any torch that the source can be built with; a wheel fits one. And it
    says what it is made of (PEP 770)."""
    run(sys.executable, "-m", "wheel", "unpack", "--dest", folder / "tree", wheel)
    tree = next((folder / "tree").iterdir())
    metadata = next(tree.glob("*.dist-info")) / "METADATA"
    major, minor = torch.__version__.split(".")[:2]
    asked, times = re.subn(
        r"^(Requires-Dist: torch)>=[\d.]+(;.*)$",
        rf"\g<1>=={major}.{minor}.*\2",
        metadata.read_text(),
        flags=re.MULTILINE,
    )
    if not times:
        raise SystemExit("packaging/wheel.py: the wheel's metadata names no torch to ask for")
    metadata.write_text(asked)
    sboms = metadata.parent / "sboms"
    sboms.mkdir()
    (sboms / f"{sbom.NAME}.cdx.json").write_text(sbom.inside(torch.__version__))
    wheel.unlink()
    run(sys.executable, "-m", "wheel", "pack", "--dest-dir", folder, tree)
    return next(folder.glob("*.whl"))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    out: Path = parser.parse_args().out
    with tempfile.TemporaryDirectory(prefix="tds-wheel-") as temporary:
        wheel = complete(build(Path(temporary)), Path(temporary))
        excluded = [word for name in TORCH_LIBRARIES for word in ("--exclude", name)]
        run(sys.executable, "-m", "auditwheel", "repair", *excluded, "--wheel-dir", out, wheel)
    beside = out / f"{sbom.NAME}-{sbom.of_engine()}.cdx.json"
    beside.write_text(sbom.beside(torch.__version__))
    return 0


if __name__ == "__main__":
    sys.exit(main())
