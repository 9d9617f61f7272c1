#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the wheel is made of, as CycloneDX 1.6 (what packaging/wheel.py writes).

    python packaging/sbom.py WHEEL    # lists what a wheel says it has inside, or ends with 1

Inside the wheel (dist-info/sboms, PEP 770) is what was compiled into it; beside the wheel is what
the image runs it with: the pins of packaging/locks/runtime.txt and the torch that it was built for.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from cyclonedx.model import (
    ExternalReference,
    ExternalReferenceType,
    HashAlgorithm,
    HashType,
    Property,
    XsUri,
)
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.license import LicenseExpression
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "packaging" / "locks"
NAME = "tds-codec"
VERSION = SchemaVersion.V1_6
LICENCE = "LGPL-2.1-or-later"


class Pin(NamedTuple):
    """One line of a lock: a version, when it is taken, its files' sha256, who asks for it."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]
    via: tuple[str, ...]


def pins(lock: Path) -> list[Pin]:
    """Every pin of a lock, in its order."""
    found = []
    for block in re.split(r"\n(?=[a-z0-9])", lock.read_text()):
        head = re.match(r"([a-z0-9-]+)==(\S+)(?: ; ([^\\]+?))?\s*(?:\\|$)", block)
        if head is None:
            continue
        via = block.partition("# via")[2].replace("#", "").splitlines()
        asking = tuple(line.strip() for line in via if line.strip() and "-c " not in line)
        hashes = tuple(re.findall(r"--hash=sha256:([0-9a-f]{64})(?!\S)", block))
        found.append(Pin(head[1], head[2], head[3] or "", hashes, asking))
    return found


def of_engine() -> str:
    """The one version there is (csrc/include/tds/tds.h)."""
    header = (ROOT / "csrc" / "include" / "tds" / "tds.h").read_text()
    return ".".join(re.findall(r"^#define TDS_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)$", header, re.M))


def of_json() -> str:
    header = (ROOT / "csrc" / "third_party" / "nlohmann" / "json.hpp").read_text()
    pattern = r"^#define NLOHMANN_JSON_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)"
    return ".".join(re.findall(pattern, header, re.M)[:3])


def _python(name: str, version: str, **more: object) -> Component:
    purl = PackageURL("pypi", name=name, version=version)
    return Component(name=name, version=version, purl=purl, bom_ref=str(purl), **more)  # type: ignore


def _licensed(expression: str) -> list[LicenseExpression]:
    return [LicenseExpression(expression)]


def _bom(components: Iterable[Component]) -> tuple[Bom, Component]:
    root = _python(NAME, of_engine(), type=ComponentType.APPLICATION, licenses=_licensed(LICENCE))
    bom = Bom(components=components)
    bom.metadata.component = root
    return bom, root


def _written(bom: Bom) -> str:
    return make_outputter(bom, OutputFormat.JSON, VERSION).output_as_string(indent=1) + "\n"


def _torch(version: str) -> Component:
    """Linked and never inside; its build, which its index chooses, is not ours to say."""
    said = [Property(name="tds:included", value="no: linked, installed beside the wheel")]
    return _python(
        "torch", version.partition("+")[0], scope=ComponentScope.OPTIONAL, properties=said
    )


def inside(torch: str) -> str:
    """What is compiled into the wheel, and the torch that it is linked against."""
    engine = Component(
        name="libtds", version=of_engine(), bom_ref="libtds", licenses=_licensed(LICENCE)
    )
    json = Component(
        name="json", group="nlohmann", version=of_json(), bom_ref="nlohmann-json",
        purl=PackageURL("github", "nlohmann", "json", f"v{of_json()}"), licenses=_licensed("MIT"),
    )  # fmt: skip
    binding = _python(
        "pybind11", importlib.metadata.version("pybind11"), licenses=_licensed("BSD-3-Clause")
    )
    linked = _torch(torch)
    bom, root = _bom([engine, json, binding, linked])
    bom.register_dependency(root, [engine, binding])
    bom.register_dependency(engine, [json, linked])
    return _written(bom)


def beside(torch: str) -> str:
    """The Python packages that the released image has, each with the hashes that it was let in
    by; who needs whom is what the lock says. Versions for other Pythons are there too, marked."""
    locked = pins(LOCKS / "runtime.txt")
    by_name: dict[str, list[Component]] = {}
    for pin in locked:
        purl = str(PackageURL("pypi", name=pin.name, version=pin.version))
        files = ExternalReference(
            type=ExternalReferenceType.DISTRIBUTION, url=XsUri(purl),
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=h) for h in pin.hashes],
        )  # fmt: skip
        marked = [Property(name="tds:marker", value=pin.marker)] if pin.marker else []
        part = _python(pin.name, pin.version, external_references=[files], properties=marked)
        by_name.setdefault(pin.name, []).append(part)
    linked = _torch(torch)
    bom, root = _bom([linked, *(part for parts in by_name.values() for part in parts)])
    needed: dict[Component, list[Component]] = {root: [linked], linked: []}
    for pin in locked:
        for asking in pin.via:
            if asking.startswith(f"{NAME} "):
                asks = [root]
            else:
                asks = [linked] if asking.endswith("torch.in") else by_name[asking]
            for one in asks:
                needed.setdefault(one, []).extend(by_name[pin.name])
    for one, parts in needed.items():
        bom.register_dependency(one, parts)
    return _written(bom)


def faults(text: str) -> str:
    """Why this is no CycloneDX document; "" where it is one."""
    from cyclonedx.validation.json import JsonStrictValidator

    error = JsonStrictValidator(VERSION).validate_str(text)
    return "" if error is None else str(error)


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    import json

    with zipfile.ZipFile(sys.argv[1]) as wheel:
        names = [n for n in wheel.namelist() if re.search(rf"\.dist-info/sboms/{NAME}\.", n)]
        if not names:
            sys.exit(f"{sys.argv[1]} has no SBOM: make it by `make wheel`")
        text = wheel.read(names[0]).decode()
    if fault := faults(text):
        sys.exit(f"{sys.argv[1]}: {names[0]} is no CycloneDX: {fault}")
    for part in json.loads(text)["components"]:
        print(part["name"], part["version"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
