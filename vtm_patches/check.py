#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Proves that vtm.patch and hm.patch fit the VTM and HM trees it is given.

    python3 vtm_patches/check.py [--compile] TREE [TREE ...]

TREE is an unpacked VTM or HM source tree; it is not changed. For each one the
decoder's folder is copied, the patch applied without fuzz, and the result
compared with what it must be: every added line present once (twice for HM's
two output places), each one directly after and before the lines it belongs
between, and nothing else changed. With --compile the two patched source files
are also compiled (syntax only) against the tree's own headers, without the
option and, with it, against tds/push.h.

Needs patch(1) and, for --compile, a C++ compiler ($CXX, default c++).
Exit status: 0 when every tree passes.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent

# (file, the line before, the added line, the line after): each by its start
# without indentation.
VTM = (
    "vtm.patch",
    "source/App/DecoderApp",
    [
        ("CMakeLists.txt", "add_executable(", "option( ENABLE_TDS_PUSH", "if( ENABLE_TDS_PUSH )"),
        ("CMakeLists.txt", "if( ENABLE_TDS_PUSH )", "find_package( tds", "target_link_libraries("),
        (
            "CMakeLists.txt",
            "target_link_libraries( ${EXE_NAME} tds",
            "target_compile_definitions( ${EXE_NAME} PRIVATE TDS_PUSH",
            "endif()",
        ),
        (
            "DecAppCfg.h",
            "#if TDS_PUSH",
            "#include <tds/push.h>",
            "#endif",
        ),
        (
            "DecAppCfg.h",
            "#if TDS_PUSH",
            "tds::PictureSender",
            "#endif",
        ),
        ("DecAppCfg.cpp", "#if TDS_PUSH", '("TdsSession"', '("TdsRole"'),
        ("DecAppCfg.cpp", '("TdsSession"', '("TdsRole"', "#endif"),
        ("DecApp.cpp", "#if TDS_PUSH", "m_tds.send_vtm(*pcPic);", "#endif"),
    ],
    # The push must be the first statement of the one function that VTM calls
    # once per output picture.
    (
        "DecApp.cpp",
        r"void DecApp::writeLineToOutputLog\(Picture \* ?pcPic\)\n\{\n"
        r"#if TDS_PUSH\n  m_tds\.send_vtm\(\*pcPic\);\n#endif\n",
        1,
    ),
    ["DecApp.cpp", "DecAppCfg.cpp"],
)
HM = (
    "hm.patch",
    "source/App/TAppDecoder",
    [
        ("CMakeLists.txt", "add_executable(", "option( ENABLE_TDS_PUSH", "if( ENABLE_TDS_PUSH )"),
        ("CMakeLists.txt", "if( ENABLE_TDS_PUSH )", "find_package( tds", "target_link_libraries("),
        (
            "CMakeLists.txt",
            "target_link_libraries( ${EXE_NAME} tds",
            "target_compile_definitions( ${EXE_NAME} PRIVATE TDS_PUSH",
            "endif()",
        ),
        (
            "TAppDecCfg.h",
            "#if TDS_PUSH",
            "#include <tds/push.h>",
            "#endif",
        ),
        (
            "TAppDecCfg.h",
            "#if TDS_PUSH",
            "tds::PictureSender",
            "#endif",
        ),
        ("TAppDecCfg.cpp", "#if TDS_PUSH", '("TdsSession"', '("TdsRole"'),
        ("TAppDecCfg.cpp", '("TdsSession"', '("TdsRole"', "#endif"),
        (
            "TAppDecTop.cpp",
            "#if TDS_PUSH",
            "m_tds.send_hm(*pcPic);",
            "#endif",
        ),
    ],
    # Both places where a frame is output: while decoding, and at a flush.
    (
        "TAppDecTop.cpp",
        r"// update POC of display order\n#if TDS_PUSH\n +m_tds\.send_hm\(\*pcPic\);\n#endif\n"
        r" +m_iPOCLastDisplay = pcPic->getPOC\(\);\n",
        2,
    ),
    ["TAppDecTop.cpp", "TAppDecCfg.cpp"],
)


def version(tree: Path) -> str:
    for name in ("source/Lib/CommonLib/version.h", "source/Lib/CommonLib/CommonDef.h"):
        if (path := tree / name).exists():
            found = re.search(r'#define VTM_VERSION\s+"([^"]+)"', path.read_text(errors="replace"))
            if found:
                return "VTM " + found.group(1)
    path = tree / "source/Lib/TLibCommon/CommonDef.h"
    if path.exists():
        found = re.search(r'#define NV_VERSION\s+"([^"]+)"', path.read_text(errors="replace"))
        if found:
            return "HM " + found.group(1)
    return tree.name


def standard(tree: Path) -> str:
    text = (tree / "CMakeLists.txt").read_text(errors="replace")
    found = re.search(r"CMAKE_CXX_STANDARD\s+(\d+)", text)
    return "-std=gnu++" + (found.group(1) if found else "11")


def compiles(tree: Path, app: Path, sources: list[str], *defines: str) -> str | None:
    libraries = tree / "source/Lib"
    includes = [libraries, *sorted(x for x in libraries.iterdir() if x.is_dir())]
    for source in sources:
        done = subprocess.run(
            [
                *os.environ.get("CXX", "c++").split(),
                "-fsyntax-only",
                "-w",
                standard(tree),
                *defines,
                "-msse4.1",
                f"-I{app}",
                *[f"-I{folder}" for folder in includes],
                f"-isystem{HERE.parent / 'csrc/include'}",
                str(app / source),
            ],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            first = next((x for x in done.stderr.splitlines() if "error" in x), done.stderr)
            return f"{source} does not compile: {first.strip()}"
    return None


def check(tree: Path, compile_too: bool) -> str | None:
    """None when the patch fits, else what is wrong."""
    kind = next((k for k in (VTM, HM) if (tree / k[1] / "CMakeLists.txt").exists()), None)
    if kind is None:
        return "is no VTM or HM source tree with a CMake build (VTM 8.0 on, HM 16.21 on)"
    patch, folder, places, (pushed, pattern, times), sources = kind
    if compile_too and (wrong := compiles(tree, tree / folder, sources)):
        return f"unpatched already, {wrong}"

    with tempfile.TemporaryDirectory() as scratch:
        app = Path(scratch) / folder
        shutil.copytree(tree / folder, app)
        done = subprocess.run(
            ["patch", "-p1", "-F0", "--no-backup-if-mismatch", "-i", str(HERE / patch)],
            cwd=scratch,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            return f"{patch} does not apply: {done.stdout.strip().splitlines()[-1]}"

        for name, before, line, after in places:
            lines = [x.strip() for x in (app / name).read_text(errors="replace").splitlines()]
            at = [i for i, x in enumerate(lines) if x.startswith(line)]
            wanted = times if name == pushed else 1
            if len(at) != wanted:
                return f"{name}: {line!r} is there {len(at)} times, not {wanted}"
            for i in at:
                if not lines[i - 1].startswith(before) or not lines[i + 1].startswith(after):
                    return f"{name}: {line!r} is in the wrong place, line {i + 1}"
        found = len(re.findall(pattern, (app / pushed).read_text(errors="replace")))
        if found != times:
            return f"{pushed}: the picture is handed over at {found} places, not {times}"
        if compile_too and (wrong := compiles(tree, app, sources)):
            return f"patched and off, {wrong}"
        if compile_too and (wrong := compiles(tree, app, sources, "-DTDS_PUSH=1")):
            return f"patched and on, {wrong}"

        undone = subprocess.run(
            [
                "patch",
                "-p1",
                "-F0",
                "-R",
                "--no-backup-if-mismatch",
                "-i",
                str(HERE / patch),
            ],
            cwd=scratch,
            capture_output=True,
            text=True,
        )
        if undone.returncode:
            return f"{patch} does not come off again"
        for path in sorted((tree / folder).rglob("*")):
            if path.is_file():
                copy = app / path.relative_to(tree / folder)
                if path.read_bytes() != copy.read_bytes():
                    return f"{path.name} changed beyond the patch"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--compile", action="store_true", help="also compile what was patched")
    parser.add_argument("trees", nargs="+", type=Path, metavar="TREE")
    options = parser.parse_args()
    failed = 0
    for tree in options.trees:
        wrong = check(tree, options.compile)
        failed += wrong is not None
        print(f"{version(tree):12} {tree}: {wrong or 'ok'}")
    print(f"{len(options.trees) - failed} of {len(options.trees)} trees ok")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
