# SPDX-License-Identifier: LGPL-2.1-or-later
"""What Python reads, fuzzed by hypothesis: bytes and words changed at random, and what must hold.

Each target takes what another could have written, and ends in the sentence it is to end in, never
in a traceback. A small sample runs with the tests; ``python tests/fuzz/python_targets.py NAME
--runs 100000`` runs more, and prints how many at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tds import cli, configuration
from tds.container.metadata import Metadata
from tds.container.paired import PairedFile, is_one_stream
from tds.container.sidecar import read_sidecar
from tds.errors import TDSError
from tds.plan import Role
from tds.postdec.streams import Format, PictureStream, StreamEnded

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Target:
    inputs: st.SearchStrategy[Any]
    check: Callable[[Any], None]


def folder() -> Path:
    """Of this process; in memory where that is possible."""
    global _folder
    if _folder is None:
        memory = Path("/dev/shm")
        _folder = tempfile.TemporaryDirectory(
            prefix="tds-fuzz-", dir=memory if os.access(memory, os.W_OK) else None
        )
    return Path(_folder.name)


_folder: tempfile.TemporaryDirectory[str] | None = None


def seeds(name: str) -> list[bytes]:
    return [p.read_bytes() for p in sorted((HERE / "seeds" / name).iterdir())]


@st.composite
def changed(draw: st.DrawFn, name: str, words: tuple[bytes, ...] = ()) -> bytes:
    """A seed with some of its bytes changed, cut out, doubled, or words put between."""
    data = bytearray(draw(st.sampled_from(seeds(name))))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.integers(0, 5 if words else 4))
        if kind == 0 and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == 1:
            data[at : at + 1] = draw(st.binary(max_size=4))
        elif kind == 2:
            del data[at : at + draw(st.integers(1, 64))]
        elif kind == 3:
            data[at:at] = data[at : at + draw(st.integers(1, 64))]
        elif kind == 4 and draw(st.integers(0, 3)) == 0:
            del data[at:]
        elif kind == 5:
            data[at:at] = draw(st.sampled_from(words))
    return bytes(data)


def written(data: bytes, name: str) -> Path:
    path = folder() / name
    path.write_bytes(data)
    return path


def check_sentence(error: Exception, *names: str) -> None:
    said = str(error)
    assert said and "Traceback" not in said, said
    for name in names:
        assert name in said, said


# -- sidecars and configurations ---------------------------------------------------------

_YAML = (
    b"&a ", b"*a ", b"[", b"]", b"{", b"}", b"- ", b": ", b"!!int ", b"!!float ", b"!!bool ",
    b"!!timestamp ", b"!!binary ", b"!!set ", b"!!null ", b"? ", b"<<: ", b"'", b'"', b"1e999",
    b".nan", b"0x", b"-", b"190:20:30", b"2001-99-99", b"\n", b"\t", b"|", b">", b"%YAML 9.9\n",
    b"---\n", b"=", b"~", b"\\ud800", b"[[[[[[[[[[[[[[[[",
)  # fmt: skip


def check_sidecar(data: bytes) -> None:
    path = written(data, "pair.yaml")
    try:
        metadata = read_sidecar(path)
    except TDSError as error:
        check_sentence(error, "pair.yaml")
        return
    again = Metadata.from_json(metadata.to_json(), "again")
    assert again == metadata
    if metadata.timeline.frames < 10000:
        assert sum(1 for _ in metadata.roles()) == metadata.timeline.frames


def check_configuration(data: bytes) -> None:
    from tds.evaluation.config import Evaluation
    from tds.training.config import TrainConfig

    path = written(data, "job.yaml")
    kind: type[Any] = TrainConfig if b"data:" in data else Evaluation
    try:
        configuration.load(path, kind)
    except TDSError as error:
        check_sentence(error, "job.yaml")


# -- containers ---------------------------------------------------------------------------

_BOXES = (
    b"moov", b"moof", b"trak", b"mdia", b"stts", b"ctts", b"stsz", b"stco", b"elst", b"edts",
    b"udta", b"meta", b"keys", b"ilst", b"\x00\x00\x00\x00", b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x08",
    b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x01\xff\xff\xff\xff\xff\xff\xff", b"G",
)  # fmt: skip


def check_container(data: bytes) -> None:
    path = str(written(data, "pair.mp4"))
    try:
        with PairedFile(path) as pair:
            assert pair.scale in (1, 2, 4)
            assert pair.rate > 0
            for role, packets in pair.packets().items():
                assert packets.count >= len(packets.times)
                assert packets.times == sorted(packets.times), role
            shown = pair.shown()
            assert set(shown) == set(Role)
    except TDSError as error:
        check_sentence(error, "pair.mp4")
    with contextlib.suppress(TDSError):
        is_one_stream(path)


# -- what decoders send --------------------------------------------------------------------


def check_decoder(data: bytes) -> None:
    reading, writing = os.pipe()
    os.write(writing, data[:60000])  # less than a pipe holds
    os.close(writing)
    stream = PictureStream(reading, "the decoder", 5, Format(16, 16, 8))
    try:
        count = 0
        for picture in stream:
            count += 1
            assert picture.data.size == picture.format.size
            assert picture.planes[0].shape == (picture.format.height, picture.format.width)
        assert count == stream.count
    except TDSError as error:
        check_sentence(error, "the decoder")
    except StreamEnded:
        pass
    finally:
        stream.close()


# -- command lines -------------------------------------------------------------------------

_COMMANDS = [
    "complexity", "dataset", "decode", "demo", "doctor", "encode", "enhance", "evaluate", "export",
    "ffmpeg", "info", "measure", "mux", "play", "postdec", "train",
]  # fmt: skip
# Those that end at once with files that are none.
_RUN = ("decode", "encode", "enhance", "info", "measure", "mux", "postdec", "play")


# A null byte cannot be in an argument of a process.
_TEXT = st.text(max_size=8).filter(lambda text: "\0" not in text)
_WORDS = st.one_of(
    st.sampled_from(["none.mp4", "junk.mp4", ".", "-", "", "--", "out.mkv", "a=b", "=", "\udcff"]),
    st.sampled_from(["0", "-1", "1", "2", "64x48", "0x0", "1e9", "nan", "25", "30000/1001", "1/0"]),
    st.sampled_from(["vvc", "hevc", "ai", "ra", "tds", "plain", "auto", "shared", "cpu", "fast"]),
    _TEXT,
)


def command_lines() -> st.SearchStrategy[list[str]]:
    return st.one_of([_lines_of(command) for command in _COMMANDS])


def _lines_of(command: str) -> st.SearchStrategy[list[str]]:
    parsers = cli.build_parser([command])._subparsers._group_actions[0].choices  # type: ignore
    names = sorted(o for action in parsers[command]._actions for o in action.option_strings)
    options = st.sampled_from(names or ["-h"])
    word = st.one_of(options, _WORDS, st.tuples(options, _TEXT).map("=".join))
    return st.lists(word, max_size=8).map(lambda words: [command, *words])


def check_command_line(words: list[str]) -> None:
    with in_folder(), quiet() as said:
        (Path("junk.mp4")).write_bytes(b"no video at all" * 9)
        begin = said.tell()
        try:
            if words[0] in _RUN and "--page" not in words:
                status = cli.main(words)
                assert status in (0, 1), (status, words)
            else:
                cli.build_parser(words).parse_args(words)
        except SystemExit as end:
            assert end.code in (0, 2), (end.code, words)
        said.seek(begin)
        assert "Traceback" not in said.read()
        left = {p.name for p in Path.cwd().iterdir()}
        assert not [name for name in left if name.endswith(".part") or name.startswith(".")], left


@contextlib.contextmanager
def in_folder() -> Iterator[None]:
    before = Path.cwd()
    with tempfile.TemporaryDirectory(dir=folder()) as place:
        os.chdir(place)
        try:
            yield
        finally:
            os.chdir(before)


@contextlib.contextmanager
def quiet() -> Iterator[io.StringIO]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        yield said


TARGETS = {
    "sidecar": Target(changed("sidecar", _YAML), check_sidecar),
    "configuration": Target(changed("configuration", _YAML), check_configuration),
    "container": Target(changed("container", _BOXES), check_container),
    "decoder": Target(changed("decoder", (b"TDSP", b"YUV4MPEG2 ", b"FRAME\n", b" C420p10", b"\n")),
                      check_decoder),
    "commands": Target(command_lines(), check_command_line),
}  # fmt: skip


def run(name: str, runs: int, seconds: float = 0, first: int = 0) -> int:
    """Runs a target with this many inputs, or for so long; how many there were. first: of the
    seeds of what is random."""
    target = TARGETS[name]
    count, begun = 0, time.monotonic()

    def many(examples: int, of: int) -> None:
        @seed(of)
        @settings(
            max_examples=examples, deadline=None, database=None,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(target.inputs)
        def check(value: Any) -> None:
            nonlocal count
            count += 1
            target.check(value)

        check()

    part = first
    while count < runs if runs else time.monotonic() - begun < seconds:
        part += 1
        many(min(1000, runs - count) if runs else 1000, part)
    return count


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=TARGETS)
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60, help="where no runs are given")
    arguments = parser.parse_args()
    print(run(arguments.name, arguments.runs, arguments.seconds, int(time.time())))
