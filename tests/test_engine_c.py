# SPDX-License-Identifier: LGPL-2.1-or-later
"""The C header from outside: read by cffi, and by a C compiler for the example."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from cffi import FFI

from tds import Session, _tds

ROOT = Path(__file__).resolve().parent.parent
HEADER = ROOT / "csrc" / "include" / "tds" / "tds.h"
NATIVE = Path(_tds.native_dir())


def declarations() -> str:
    """The header as cffi takes it: no directives, constants worked out."""
    text = HEADER.read_text()
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    text = re.sub(r'#ifdef __cplusplus\n(extern "C" \{|\})\n#endif', "", text)
    constants = dict(re.findall(r"#define (TDS_[A-Z_]+) (\d+)", text))
    text = re.sub(r"^\s*#.*(\\\n.*)*$", "", text, flags=re.M)
    text = text.replace("TDS_API ", "")
    text = re.sub(r"= 1 << (\d+)", lambda m: f"= {1 << int(m[1])}", text)
    return text + "".join(f"\n#define {name} {value}" for name, value in constants.items())


def test_the_header_is_plain_c_and_the_library_has_all_of_it() -> None:
    ffi = FFI()
    text = declarations()
    ffi.cdef(text)
    lib = ffi.dlopen(str(NATIVE / "lib" / "libtds.so"))
    functions = re.findall(r"\b(tds_\w+)\(", re.sub(r"\(\*\w+\)\([^)]*\)", "", text))
    assert len(functions) >= 20
    for name in functions:
        assert getattr(lib, name), name
    assert ffi.string(lib.tds_version()).decode() == _tds.version()
    settings = ffi.new("tds_settings *")
    lib.tds_default_settings(settings)
    settings.width, settings.height = 64, 48
    session = ffi.new("tds_session **")
    assert lib.tds_session_open(settings, session) == lib.TDS_OK
    picture = ffi.new("tds_picture *")
    lib.tds_picture_init(picture)
    rows = [np.full(s, 50 + i, np.uint8) for i, s in enumerate(((24, 32), (12, 16), (12, 16)))]
    picture.width, picture.height, picture.pts = 32, 24, 3
    for i, plane in enumerate(rows):
        picture.data[i] = ffi.from_buffer(plane)
        picture.stride[i] = plane.strides[0]
    assert lib.tds_session_send(session[0], lib.TDS_LR, picture) == lib.TDS_OK
    assert lib.tds_session_send(session[0], lib.TDS_LR, picture) == lib.TDS_ERROR_ORDER
    assert b"must increase" in ffi.string(lib.tds_last_error())
    assert lib.tds_session_wants(session[0]) == 1 << lib.TDS_HR
    lib.tds_session_send(session[0], lib.TDS_HR, ffi.NULL)
    lib.tds_session_send(session[0], lib.TDS_LR, ffi.NULL)
    assert lib.tds_session_receive(session[0], picture) == lib.TDS_OK
    assert (picture.width, picture.height, picture.pts) == (64, 48, 3)
    assert picture.status == lib.TDS_STATUS_UPSAMPLED
    assert picture.reason & lib.TDS_REASON_NO_MODEL
    assert ffi.buffer(picture.data[1], 32)[:] == bytes([51] * 32)
    lib.tds_picture_release(picture)
    assert lib.tds_session_receive(session[0], picture) == lib.TDS_END
    lib.tds_session_close(session[0])


def symbols(library: str, *which: str) -> set[str]:
    """The names of the dynamic symbols of one of the engine's libraries."""
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("nm (binutils) is not here")
    path = NATIVE / "lib" / library
    listing = subprocess.run(
        [nm, "-D", *which, path], check=True, capture_output=True, text=True
    ).stdout
    # Linux adds the version that a symbol has in its library: name@GLIBCXX_3.4.
    return {line.split()[-1].partition("@")[0] for line in listing.splitlines()}


def test_the_library_exports_the_header_and_nothing_else() -> None:
    names = symbols("libtds.so", "--defined-only")
    declared = set(re.findall(r"TDS_API [^(;]*?\b(tds_\w+)\(", HEADER.read_text()))
    assert names == declared


def test_a_backend_exports_what_its_header_says_and_nothing_else() -> None:
    if not (NATIVE / "lib" / "libtds_torchscript.so").is_file():
        pytest.skip("libtds was built without torch")
    assert symbols("libtds_torchscript.so", "--defined-only") == {
        "tds_backend_entry",
        "tds_backend_misfit",
    }


def test_a_backend_has_its_cpp_runtime_with_torch() -> None:
    """What torch throws is caught, however the rest is linked; with a runtime of the backend's
    own, the first error of a model aborts."""
    if not (NATIVE / "lib" / "libtds_torchscript.so").is_file():
        pytest.skip("libtds was built without torch")
    wanted = symbols("libtds_torchscript.so", "--undefined-only")
    assert {"__cxa_begin_catch", "__cxa_throw", "_Unwind_Resume"} <= wanted


def test_the_library_uses_no_streams_and_no_locale() -> None:
    # With libstdc++ linked statically, these crash beside another libstdc++ of the process.
    wanted = symbols("libtds.so", "--undefined-only")
    assert {n for n in wanted if re.match("_Z.*(stream|locale|ios_base)", n)} == set()


@pytest.mark.parametrize("first", ["numpy", "torch", "av"])
def test_a_model_loads_whatever_was_imported_before(first: str, tmp_path: Path) -> None:
    """Other libraries, with another C++ runtime maybe, are in the process before ours."""
    torch = pytest.importorskip("torch")

    class Repeat(torch.nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, first, target, last, side):  # type: ignore[no-untyped-def]
            return target.repeat_interleave(2, 2).repeat_interleave(2, 3)

    about = {"tds_model": 1, "name": "repeat", "version": "1", "scale": 2.0, "no_reference": True}
    path = tmp_path / "repeat.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.script(Repeat())
        torch.jit.save(script, str(path), _extra_files={"tds.json": json.dumps(about)})
    code = f"""
import {first}
import numpy as np
import tds
with tds.Session(64, 48, scale=2, model={str(path)!r}, device="cpu", threads=1) as session:
    planes = [np.full(size, 90, np.uint8) for size in ((24, 32), (12, 16), (12, 16))]
    session.send("lr", planes, pts=0)
    session.end("hr")
    session.end("lr")
    (picture,) = session
    print(session.info.model_name, picture.status, picture.planes[0].mean())
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (out.returncode, out.stdout) == (0, "repeat enhanced 90.0\n"), out.stderr


def test_without_a_backend_that_loads_auto_falls_back_and_says_why(tmp_path: Path) -> None:
    """As after torch was removed, or changed, under an engine that was built with it."""
    torch = pytest.importorskip("torch")

    class Repeat(torch.nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, first, target, last, side):  # type: ignore[no-untyped-def]
            return target.repeat_interleave(2, 2).repeat_interleave(2, 3)

    path = tmp_path / "repeat.pt"
    about = {"tds_model": 1, "name": "repeat", "version": "1", "scale": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.script(Repeat())
        torch.jit.save(script, str(path), _extra_files={"tds.json": json.dumps(about)})
    (tmp_path / "libtds_torchscript.so").write_bytes(b"no library")
    code = f"""
import numpy as np
import tds
from tds import _tds
def said(level, text):
    print(level, text)
with tds.Session(64, 48, scale=2, model={str(path)!r}, log=said) as session:
    planes = [np.full(size, 90, np.uint8) for size in ((24, 32), (12, 16), (12, 16))]
    session.send("lr", planes, pts=0)
    session.end("hr")
    session.end("lr")
    (picture,) = session
    print(session.info.backend, picture.status, *picture.reason)
try:
    tds.Session(64, 48, scale=2, model={str(path)!r}, backend="torchscript")
except NotImplementedError as error:
    print("refused", error)
"""
    env = {**os.environ, "TDS_BACKEND_PATH": str(tmp_path)}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert out.returncode == 0, out.stderr
    warned, made, refused = out.stdout.splitlines()
    assert warned.startswith("warning") and "does not load" in warned and "bicubic" in warned
    assert made.startswith("bicubic upsampled") and "no-model" in made
    assert refused.startswith("refused") and "build libtds again" in refused


def test_a_backend_that_was_built_for_another_torch_says_so(tmp_path: Path) -> None:
    """Also where every symbol is found: the C++ interface of another minor version is another."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler is here")
    source = tmp_path / "backend.c"
    source.write_text(
        'const char *tds_backend_misfit(void) { return "torch here is 9.9"; }\n'
        "const void *tds_backend_entry(void) { __builtin_trap(); }\n"
    )
    library = tmp_path / "libtds_torchscript.so"
    subprocess.run([compiler, "-shared", "-fPIC", source, "-o", library], check=True)
    code = "from tds.models import unusable; print(unusable())"
    env = {**os.environ, "TDS_BACKEND_PATH": str(tmp_path)}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert out.returncode == 0, out.stderr
    assert "does not fit: torch here is 9.9; " in out.stdout
    built = _tds.TORCH_VERSION
    assert not built or f"pip install 'torch=={built.rpartition('.')[0]}.*'" in out.stdout


def test_the_backend_fits_the_torch_it_was_built_with() -> None:
    if not _tds.TORCH_VERSION:
        pytest.skip("built without torch")
    torch = pytest.importorskip("torch")
    assert torch.__version__.startswith(_tds.TORCH_VERSION)
    assert _tds.backend_available("torchscript")


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """docs/examples/enhance.c, compiled as a user would."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler is here")
    program = tmp_path_factory.mktemp("example") / "enhance"
    flags = [f"-I{HEADER.parent.parent}", f"-L{NATIVE / 'lib'}", "-ltds"]
    config = NATIVE / "lib" / "pkgconfig"
    if shutil.which("pkg-config") and (config / "tds.pc").is_file():
        flags = subprocess.run(
            ["pkg-config", "--cflags", "--libs", "tds"],
            env={**os.environ, "PKG_CONFIG_PATH": str(config)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
    source = ROOT / "docs" / "examples" / "enhance.c"
    command = [compiler, "-std=c99", "-Wall", "-Werror", source, "-o", program, *flags]
    subprocess.run([*command, f"-Wl,-rpath,{NATIVE / 'lib'}"], check=True)
    return program


def pictures(width: int, height: int, count: int, seed: int) -> list[list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    sizes = ((height, width), (height // 2, width // 2), (height // 2, width // 2))
    return [[rng.integers(0, 256, s, dtype=np.uint8) for s in sizes] for _ in range(count)]


@pytest.mark.parametrize("with_model", [False, True])
def test_a_c_caller_and_a_python_caller_get_the_same_pixels(
    example: Path, tmp_path: Path, with_model: bool
) -> None:
    model = None
    if with_model:
        torch = pytest.importorskip("torch")
        try:
            _tds.backend_available("torchscript")
        except NotImplementedError as e:
            pytest.skip(str(e))

        class Net(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.conv = torch.nn.Conv2d(18, 6, 3, padding=1)

            def forward(
                self,
                first: torch.Tensor,
                target: torch.Tensor,
                last: torch.Tensor,
                side: torch.Tensor,
            ) -> torch.Tensor:
                up = target.repeat_interleave(2, 2).repeat_interleave(2, 3)
                return up + self.conv(torch.cat([first, up, last], 1))

        model = tmp_path / "net.pt"
        torch.manual_seed(1)
        about = {"tds_model": 1, "name": "net", "version": "1", "scale": 2, "alignment": 16}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.save(
                torch.jit.script(Net()), str(model), _extra_files={"tds.json": json.dumps(about)}
            )
    hr, lr = pictures(86, 46, 4, 0), pictures(44, 24, 6, 1)
    for name, frames in (("hr.yuv", hr), ("lr.yuv", lr)):
        (tmp_path / name).write_bytes(b"".join(p.tobytes() for f in frames for p in f))
    command = [example, "86", "46", "2", "5", "hr.yuv", "lr.yuv", "out.yuv"]
    subprocess.run([*command, *([model] if model else [])], cwd=tmp_path, check=True)
    times = {"hr": [0, 4, 5, 9], "lr": [1, 2, 3, 6, 7, 8]}
    frames = {"hr": hr, "lr": lr}
    out = b""
    with Session(86, 46, 2, model=model) as session:
        while not session.ended:
            for role in session.wants:
                if times[role]:
                    assert session.send(role, frames[role].pop(0), times[role].pop(0))
                else:
                    session.end(role)
            for picture in session:
                out += picture.to_ndarray().tobytes()
    assert len(out) == 10 * 86 * 46 * 3 // 2
    assert (tmp_path / "out.yuv").read_bytes() == out
