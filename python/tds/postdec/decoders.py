# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which decoder is started how, and what became of it."""

from __future__ import annotations

import fcntl
import functools
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, MissingError
from ..plan import Role

# Programs by the names their builds give them, and the folder a user may name.
PROGRAMS = {
    "vtm": (("DecoderApp", "DecoderAppStatic"), "TDS_VTM_BIN"),
    "hm": (("TAppDecoder", "TAppDecoderStatic"), "TDS_HM_BIN"),
    "vvdec": (("vvdecapp",), "TDS_VVDEC_BIN"),
}
NAMES = ("vtm", "hm", "vvdec", "ffmpeg", "none")
GRACE = 5.0  # seconds a decoder has to exit after its last picture
TERM_GRACE = 1.0  # and after SIGTERM: it has nothing to save


@dataclass(frozen=True)
class Start:
    """How one decoder is started: its command, and by what it hands over pictures.

    command: with {input}, {session} ("fd:N"), {output} ("/dev/fd/N"), {role}
    ("hr", "lr") and {depth} (8, 10) still in it. channel: "socket", "fd" or "stdout".
    asks_depth: it writes raw yuv of the depth it is told.
    """

    command: tuple[str, ...]
    channel: str
    asks_depth: bool = False


def find_program(decoder: str, path: str | None) -> str:
    """The decoder's program: ``path`` (a file or a folder), the folder its
    environment variable names, or PATH. Raises MissingError."""
    names, variable = PROGRAMS[decoder]
    for place in (path, os.environ.get(variable)):
        if place is None:
            continue
        if Path(place).is_file():
            return place
        for name in names:
            if (Path(place) / name).is_file():
                return str(Path(place) / name)
        if place is path:
            raise MissingError(f"{path}: no {' or '.join(names)} is there; --decoder-path names it")
    for name in names:
        if found := shutil.which(name):
            return found
    raise MissingError(
        f"no {names[0]} was found; name it with --decoder-path, set {variable} to its folder, or "
        "put it on PATH"
    )


@functools.cache
def is_patched(program: str) -> bool:
    """Whether a VTM or HM decoder has the options of vtm_patches/."""
    try:
        done = subprocess.run(
            [program, "--help"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=30,
        )
    except OSError as e:
        raise MissingError(f"{program} does not run: {e.strerror}") from e
    except subprocess.TimeoutExpired:
        return False
    return b"TdsSession" in done.stdout


def start_of(decoder: str, path: str | None, extra: Sequence[str] = (), vvc: bool = True) -> Start:
    """How a decoder named on the command line is started.

    decoder: one of NAMES, or a command with {input}. extra: arguments for it.
    vvc: whether the streams may be VVC, which not every FFmpeg decodes right.
    """
    if decoder in ("vtm", "hm"):
        program = find_program(decoder, path)
        if is_patched(program):
            pushes = (program, "-b", "{input}", "--TdsSession={session}", "--TdsRole={role}")
            return Start((*pushes, *extra), "socket")
        # Raw output says nothing of its bit depth, so it has the one that is read.
        writes = (program, "-b", "{input}", "-o", "{output}", "-d", "{depth}")
        return Start((*writes, *extra), "fd", asks_depth=True)
    if decoder == "vvdec":
        program = find_program(decoder, path)
        return Start((program, "-b", "{input}", "--y4m", "-o", "-", *extra), "stdout")
    if decoder == "ffmpeg":
        program = path or _find_ffmpeg(vvc)
        reads = (program, *"-hide_banner -nostdin -loglevel error -i {input}".split())
        # Raw streams have no times; every picture once, whatever times FFmpeg makes up.
        out = "-map 0:v:0 -fps_mode passthrough -f yuv4mpegpipe -strict -1 pipe:1".split()
        return Start((*reads, *extra, *out), "stdout")
    words = split_words(decoder, "--decoder")
    if not any("{input}" in w for w in words):
        raise InputError(
            f"no decoder {decoder!r}; there are {', '.join(NAMES)}, or a command with {{input}} in "
            "it that writes y4m or yuv to standard output, or to {output}"
        )
    if shutil.which(words[0]) is None:
        raise MissingError(f"{words[0]}: no such program to decode with")
    if any("{session}" in w for w in words):
        return Start((*words, *extra), "socket")
    return Start((*words, *extra), "fd" if any("{output}" in w for w in words) else "stdout")


def split_words(text: str, option: str) -> tuple[str, ...]:
    """A command line's words, as a shell splits them. Raises InputError."""
    try:
        return tuple(shlex.split(text))
    except ValueError as e:
        reason = str(e).lower().rstrip(".")
        raise InputError(f"{option} {text}: {reason}; close it, or put a \\ before it") from e


def _find_ffmpeg(vvc: bool) -> str:
    from ..media.decoding import program_that_decodes
    from ..media.programs import find_ffmpeg

    if not vvc:
        return find_ffmpeg()
    program = program_that_decodes(8)
    if program is None:
        raise MissingError(
            "no ffmpeg program that decodes 8-bit VVC right was found: pip install -U "
            "imageio-ffmpeg, set TDS_FFMPEG, or name one with --decoder-path"
        )
    return program


@contextmanager
def signals_held() -> Iterator[None]:
    """What Python does on Ctrl-C, SIGTERM and SIGHUP waits until the end of the block, where this
    is the main thread: a program that was started just then would be known to nobody."""
    came: list[int] = []
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if callable(signal.getsignal(number)):
                before[number] = signal.signal(number, lambda n, frame: came.append(n))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


class DecoderProcess:
    """One running decoder. ``fd`` is our end of what it writes its pictures to.

    Runs in a session of its own: it is ended with all it started, and Ctrl-C
    does not reach it before we have ended in order.
    """

    def __init__(self, start: Start, role: Role, path: str, name: str, depth: int) -> None:
        self.role = role
        self.ended = False
        self._words = ""
        self.program = Path(start.command[0]).name
        self.name = f"{name} ({self.program})"
        self._log = tempfile.TemporaryFile()
        ours, theirs = _channel(start.channel)
        try:
            words = {
                "input": path,
                "session": f"fd:{theirs}",
                "output": f"/dev/fd/{theirs}",
                "role": role.value,
                "depth": str(depth),
            }
            command = [_fill(word, words) for word in start.command]
            to_stdout = start.channel == "stdout"
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=theirs if to_stdout else self._log,
                    stderr=self._log,
                    pass_fds=() if to_stdout else (theirs,),
                    start_new_session=True,
                )
            except OSError as e:
                raise MissingError(f"{start.command[0]} does not run: {e.strerror}") from e
        except BaseException:
            os.close(ours)
            self._log.close()
            raise
        finally:
            os.close(theirs)  # else the end of the decoder would never show as the end of bytes
        self.fd = ours

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self, seconds: float) -> int | None:
        """Its exit status (negative: the signal), None when it still runs."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def fate(self) -> str:
        """What became of it, as the end of a sentence, with its last words."""
        code = self.wait(GRACE)
        if code is None:
            what = "closed its output and still runs"
        elif code < 0:
            what = f"was killed by signal {-code} ({_signal_name(-code)})"
        else:
            what = f"exited with status {code}"
        words = self.last_words()
        return what + (f"; its last words: {words}" if words else "")

    def last_words(self) -> str:
        if self.ended:
            return self._words
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - 4096))
        text = self._log.read().decode("utf-8", "replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        # A decoder may end with what it always says: VTM with its use of memory.
        faults = [line for line in lines if _FAULT.search(line)]
        return " / ".join(faults[-1:] or lines[-2:])[-300:]

    def end(self) -> None:
        """Ends it and whatever it started; never raises, leaves no zombie. Again is allowed."""
        if self.ended:
            return
        for how in (signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is not None:
                break
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, how)
            self.wait(TERM_GRACE if how == signal.SIGTERM else GRACE)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # children that outlived it
        self._words = self.last_words()
        self.ended = True
        self._log.close()


_FAULT = re.compile(r"ERROR|\*\*\*|[Aa]ssert")


def _channel(kind: str) -> tuple[int, int]:
    """(our end, the decoder's end)."""
    if kind == "socket":
        a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        for s in (a, b):
            with suppress(OSError):
                s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
                s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        return a.detach(), b.detach()
    ours, theirs = os.pipe()
    with suppress(OSError, AttributeError):  # Linux: fewer, larger pieces
        fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, 1 << 20)
    return ours, theirs


def _fill(word: str, values: dict[str, str]) -> str:
    for key, value in values.items():
        word = word.replace("{" + key + "}", value)
    return word


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


class Listener:
    """A unix socket that decoders started by someone else connect to."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.bind(path)
        except OSError as e:
            self._socket.close()
            reason = "there is something at that path" if Path(path).exists() else str(e)
            raise InputError(f"{path}: cannot listen there ({reason})") from e
        Path(path).chmod(0o600)
        self._socket.listen(2)

    def accept(self, count: int, timeout: float) -> list[int]:
        """Descriptors of ``count`` connections. Raises TimeoutError."""
        fds: list[int] = []
        deadline = time.monotonic() + timeout
        try:
            while len(fds) < count:
                self._socket.settimeout(max(0.001, deadline - time.monotonic()))
                connection, _ = self._socket.accept()
                connection.settimeout(None)
                fds.append(connection.detach())
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise
        return fds

    def close(self) -> None:
        self._socket.close()
        with suppress(FileNotFoundError):
            Path(self.path).unlink()
