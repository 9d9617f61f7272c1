# SPDX-License-Identifier: LGPL-2.1-or-later
"""Encoders reached through an ffmpeg program, fed raw pictures by a pipe."""

from __future__ import annotations

import functools
import os
import queue
import re
import shlex
import subprocess
import tempfile
import threading
from abc import abstractmethod
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import av

from ..errors import ExternalError, InputError
from ..files import sha256_of_text
from ..media.opening import ffmpeg_name
from ..media.planar import CHROMAS, chroma_name, chroma_of, depth_of, pix_fmt_of
from ..media.programs import common_options, encoder_facts, ffmpeg_version, find_ffmpeg, takes_hdr
from .base import CodedSegment, Config, EncoderAdapter, StreamSettings

_PATIENCE = 300  # seconds for one picture, by which an encoder is tried
_LOOK = 5.0  # seconds from one look at an encoder that is waited for to the next
_STILL = 12  # looks without a tick of processor time after which it counts as hanging
QUEUED_PICTURES = 4  # pictures waiting for one encoder; bounds memory

KEPT_IN_MEMORY = 32 << 20  # bytes of the pictures kept to code them again; the rest is on disk


_CONTEXT = re.compile(r"^(\[[^\]]* @ 0x[0-9a-f]+\] *)+")  # "[libx265 @ 0x55c2d04f8280] "
_CHATTER = re.compile(r"\bwarning\b|^Svt\[|^Estimating duration|^x26[45] \[info\]", re.IGNORECASE)
# What encoders say of an option that they pass over, going on without.
_REFUSAL = r"unknown|unrecogni[sz]ed|invalid|error|unsupported|not supported|has not been used|bad"


class FFmpegEncoder(EncoderAdapter):
    """Feeds ``ffmpeg -f rawvideo -i -`` and reads back an MP4 at constant rate.

    Times are given back by the caller at mux time: encoders fed gapped times
    corrupt them (measured with libvvenc).
    """

    kept_pictures: ClassVar[int] = 0
    """A run of at most so many pictures that gives too few packets is made again, with
    ``again_arguments``."""
    takes_options: ClassVar[bool] = True
    params_option: ClassVar[str] = ""
    """FFmpeg's option that takes a list of the encoder library's own; "": it has none."""
    params_separator: ClassVar[str] = ":"
    tried: ClassVar[bool] = False
    """Whether it is tried with one picture before any work, also where no option is given."""

    @classmethod
    def check(cls, settings: StreamSettings) -> None:
        super().check(settings)
        if settings.options or cls.tried:
            _try_out(cls, settings)

    def __init__(self, settings: StreamSettings, path: Path) -> None:
        super().__init__(settings, path)
        self._frames = 0
        self._error: BaseException | None = None
        self._log = path.with_suffix(".log")
        self._kept: tempfile.SpooledTemporaryFile[bytes] | None = None
        if self.kept_pictures:
            self._kept = tempfile.SpooledTemporaryFile(KEPT_IN_MEMORY, dir=os.fspath(path.parent))
        self._start(self.codec_arguments(settings))

    def _start(self, codec_arguments: list[str]) -> None:
        self._log_file = self._log.open("wb")
        self._process = subprocess.Popen(
            self._command(
                self.settings,
                find_ffmpeg(self.name),
                codec_arguments,
                ffmpeg_name(self.path),
            ),
            stdin=subprocess.PIPE,
            stdout=self._log_file,
            stderr=subprocess.STDOUT,
            bufsize=0,
            # Ctrl-C goes to the whole foreground group; the encoder must outlive
            # it long enough for us to end it in order.
            start_new_session=True,
            env=_environment(),
        )
        self._queue: queue.Queue[bytes | memoryview | None] = queue.Queue(QUEUED_PICTURES)
        self._thread = threading.Thread(target=self._feed, name=f"feed {self.name}", daemon=True)
        self._thread.start()

    @classmethod
    @abstractmethod
    def codec_arguments(cls, settings: StreamSettings) -> list[str]:
        """The arguments from -c:v on."""

    @classmethod
    def again_arguments(cls, settings: StreamSettings) -> list[str]:
        """The same for a second run of the same pictures; gives the same stream, if any."""
        return cls.codec_arguments(settings)

    @classmethod
    def with_options(cls, arguments: list[str], settings: StreamSettings) -> list[str]:
        """``arguments`` with the options of ``settings``: those that FFmpeg knows as options of
        this encoder by themselves, others, and what is such a list already, in the list that the
        library reads."""
        if not settings.options:
            return arguments
        program = find_ffmpeg(cls.name)
        facts, common = encoder_facts(program, cls.name), common_options(program)
        more, params = [], []
        for key, value in settings.options:
            if f"-{key}" == cls.params_option:  # a second one would stand for ours
                params.append(value)
            elif key in facts.options or key in common:
                more += [f"-{key}:v", value]
            elif cls.params_option:
                special = rf"[\\'{cls.params_separator}]"  # of FFmpeg's lists
                params.append(f"{key}=" + re.sub(special, r"\\\g<0>", value))
            else:
                raise InputError(
                    f"{cls.name} has no option {key}; ffmpeg -h encoder={cls.name} lists those it "
                    "has"
                )
        arguments = [*arguments]
        if params and cls.params_option in arguments:
            place = arguments.index(cls.params_option) + 1
            params.insert(0, arguments[place])
            del arguments[place - 1 : place + 1]
        if params:
            arguments += [cls.params_option, cls.params_separator.join(params)]
        return arguments + more

    @classmethod
    def input_pix_fmt(cls, settings: StreamSettings) -> str:
        """The format the encoder takes; FFmpeg converts to it."""
        return settings.pix_fmt

    @classmethod
    def chromas(cls, bit_depth: int) -> frozenset[int]:
        known = encoder_facts(find_ffmpeg(cls.name), cls.name).pix_fmts
        more = (chroma for chroma in CHROMAS if pix_fmt_of(bit_depth, chroma) in known)
        return frozenset({420, *more})

    @classmethod
    def version(cls) -> str:
        program = find_ffmpeg(cls.name)
        return f"{cls.name} in FFmpeg {ffmpeg_version(program)}"

    @classmethod
    def takes_hdr(cls) -> bool:
        return takes_hdr(find_ffmpeg(cls.name))

    @classmethod
    def fingerprint(cls) -> str:
        """With a hash of the arguments, which may come to be others for the same settings."""
        asked = [
            cls.codec_arguments(
                StreamSettings(64, 64, 8, Fraction(25), config, 32, cls.default_preset)
            )
            for config in Config
        ]
        return f"{cls.version()} {sha256_of_text(repr(asked))[:12]}"

    @classmethod
    def describe(cls, settings: StreamSettings) -> str:
        return shlex.join(
            cls._command(settings, "ffmpeg", cls.codec_arguments(settings), "OUT.mp4")
        )

    @classmethod
    def _command(
        cls, s: StreamSettings, program: str, codec_arguments: list[str], out: str
    ) -> list[str]:
        filters = []
        c = s.colors
        tags = [
            f"{name}={value}"
            for name, value in (
                ("range", c.range),
                ("color_primaries", c.primaries),
                ("color_trc", c.transfer),
                ("colorspace", c.matrix),
            )
            if value
        ]
        if tags:
            filters.append("setparams=" + ":".join(tags))
        sar = s.sample_aspect_ratio
        if sar != 1:
            filters.append(f"setsar={sar.numerator}/{sar.denominator}")
        rate = Fraction(s.rate).limit_denominator(100_000)
        command = [program, "-hide_banner", "-nostdin", "-loglevel", "warning", "-y"]
        command += ["-f", "rawvideo", "-pix_fmt", s.pix_fmt, "-s:v", f"{s.width}x{s.height}"]
        command += ["-framerate", str(rate), *s.hdr.arguments(), "-i", "-"]
        if filters:
            command += ["-vf", ",".join(filters)]
        command += ["-pix_fmt", cls.input_pix_fmt(s), "-fps_mode", "passthrough"]
        return [*command, *cls.with_options(codec_arguments, s), "-f", "mp4", out]

    def _feed(self) -> None:
        assert self._process.stdin is not None
        try:
            while (picture := self._queue.get()) is not None:
                view = memoryview(picture)
                while view:  # an unbuffered pipe may take a part
                    view = view[self._process.stdin.write(view) or 0 :]
        except BaseException as e:  # the encoder died; write() reports it
            self._error = e
            while self._queue.get() is not None:
                pass
        finally:
            try:
                self._process.stdin.close()
            except OSError as e:
                self._error = self._error or e

    def write(self, picture: bytes | memoryview) -> None:
        if len(picture) != self.settings.frame_bytes:
            raise ValueError(f"a picture has {self.settings.frame_bytes} bytes, not {len(picture)}")
        if self._error is not None:
            self._fail()
        self._wait(functools.partial(self._put, picture))
        self._frames += 1
        if self._kept is not None:
            if self._frames > self.kept_pictures:
                self._drop()
            else:
                self._kept.write(picture)

    # Each waits so many seconds for what it then says has come.

    def _put(self, picture: bytes | memoryview | None, seconds: float) -> bool:
        try:
            self._queue.put(picture, timeout=seconds)
        except queue.Full:
            return False
        return True

    def _is_fed(self, seconds: float) -> bool:
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _is_over(self, seconds: float) -> bool:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _wait(self, come: Callable[[float], bool]) -> None:
        """Until it has come. Raises ExternalError where the encoder stands still: x265, for one,
        waits for ever for threads that there was no memory for. Looks are counted, and not time,
        of which much may pass while this program is stopped too."""
        ticks, still = None, 0
        while not come(_LOOK):
            now = _processor_ticks(self._process.pid)
            still = still + 1 if now is not None and now == ticks else 0
            ticks = now
            if still >= _STILL:
                raise ExternalError(
                    f"{self.name} stands still: it has used no processor time for "
                    f"{_LOOK * _STILL:g} s, {self._frames} frames in; is there memory enough?"
                )

    def finish(self) -> CodedSegment:
        packets = self._end()
        if len(packets) != self._frames and self._kept is not None:
            self._start(self.again_arguments(self.settings))
            self._kept.seek(0)
            while picture := self._kept.read(self.settings.frame_bytes):
                self._wait(functools.partial(self._put, picture))
            packets = self._end()
        self._drop()
        if len(packets) != self._frames:
            raise ExternalError(
                f"{self.name} took {self._frames} frames, exited with 0 and gave {len(packets)} "
                f"packets; it said: {self._words()}"
            )
        self._check_order(packets)
        self._log.unlink(missing_ok=True)
        return CodedSegment(self.path, self._frames)

    def _check_order(self, packets: list[tuple[int, bool]]) -> None:
        """Raises ExternalError for a stream that cannot be a segment of its configuration."""
        times = [time for time, _ in packets]
        config = self.settings.config
        fault = ""
        if not packets[0][1] or times[0] != min(times):
            fault = "does not begin with a random-access point"
        elif len(set(times)) != len(times):
            fault = "has two pictures at one time"
        elif config is Config.AI and not all(key for _, key in packets):
            fault = "has pictures that are no random-access points, and in all-intra each is one"
        elif config is Config.LDP and times != sorted(times):
            fault = "has pictures out of display order, and low delay has none"
        if fault:
            given = _given(self.settings)
            way = f"leave {given} out, " if given else ""
            way += "change that by an option of its own, or name another encoder"
            raise ExternalError(f"what {self.name} coded {fault}; {way}")

    def _end(self) -> list[tuple[int, bool]]:
        """Waits for the encoder; of each packet it gave its time and whether it is a
        random-access point."""
        self._wait(functools.partial(self._put, None))
        self._wait(self._is_fed)
        self._wait(self._is_over)
        code = self._process.wait()
        self._log_file.close()
        if code != 0 or self._error is not None:
            self._fail()
        return packets_of(self.path)

    def _drop(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def abort(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._thread.is_alive():
            while True:  # let the feeder see the end even when the queue is full
                try:
                    self._queue.put_nowait(None)
                    break
                except queue.Full:
                    try:
                        self._queue.get_nowait()
                    except queue.Empty:
                        pass
            self._thread.join(5)
        self._drop()
        self._log_file.close()
        self.path.unlink(missing_ok=True)
        self._log.unlink(missing_ok=True)

    def _fail(self) -> None:
        self._process.kill()
        code = self._process.wait()
        if "No space left" in self._said():
            raise OSError(28, f"no space left for temporary files in {self.path.parent}")
        raise ExternalError(f"{self.name} failed (exit status {code}): {self._words()}")

    def _said(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def _words(self) -> str:
        return complaints(self._said())


def _processor_ticks(pid: int) -> int | None:
    """That a process has used so far; None where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[11]) + int(fields[12])


def complaints(log: str) -> str:
    """The first two: FFmpeg names the cause, and then at length what follows from it."""
    lines = _lines(log)
    grave = [line for line in lines if not _CHATTER.search(line)]
    return " / ".join((grave or lines)[:2]) or "nothing"


def _lines(log: str) -> list[str]:
    lines = (_CONTEXT.sub("", line).strip() for line in log.splitlines())
    return [line for line in lines if line]


def _given(settings: StreamSettings) -> str:
    """The options of ``settings``, for a sentence."""
    return ", ".join(f"{key}={value}" for key, value in settings.options)


@functools.lru_cache(64)
def _try_out(adapter: type[FFmpegEncoder], settings: StreamSettings) -> None:
    """Codes one grey picture and throws it away. Raises InputError with the encoder's own words
    where it does not start or passes over an option, before any work is done."""
    with tempfile.TemporaryDirectory(prefix="tds-try-") as folder:
        out = Path(folder) / "tried.mp4"
        arguments = adapter.again_arguments(settings)
        grey = b"\x80" if settings.bit_depth == 8 else b"\x00\x02"
        try:
            done = subprocess.run(
                adapter._command(settings, find_ffmpeg(adapter.name), arguments, ffmpeg_name(out)),
                input=grey * (settings.frame_bytes // len(grey)),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=_environment(),
                start_new_session=True,
                timeout=_PATIENCE,
            )
        except subprocess.TimeoutExpired:
            raise InputError(
                f"{adapter.name} did not code one picture in {_PATIENCE} s; name another encoder"
            ) from None
        log = done.stdout.decode(errors="replace")
        given = _given(settings)
        if done.returncode != 0:
            why = f" with {given}" if given else " on this machine"
            raise InputError(f"{adapter.name} does not start{why}; it says: {complaints(log)}")
        for key, _ in settings.options:
            named = re.compile(rf"(?<![\w-]){re.escape(key)}(?![\w-])")
            for line in _lines(log):
                if named.search(line) and re.search(_REFUSAL, line, re.IGNORECASE):
                    raise InputError(
                        f"{adapter.name} does not take the option {key}; it says: {line}"
                    )
        try:
            with av.open(ffmpeg_name(out)) as container:
                form = container.streams.video[0].codec_context.pix_fmt
        except (av.error.FFmpegError, IndexError):
            raise InputError(
                f"{adapter.name} gives nothing for one picture; it says: {complaints(log)}"
            ) from None
        if (depth_of(form), chroma_of(form)) != (settings.bit_depth, settings.chroma):
            raise InputError(
                f"{adapter.name} codes {form}, and a {settings.bit_depth} bit "
                f"{chroma_name(settings.chroma)} stream is wanted; name another encoder, or leave "
                "options of formats out"
            )


def _environment() -> dict[str, str]:
    """Of the encoder's program. SVT-AV1 lists all its settings at every start else."""
    return {"SVT_LOG": "2", **os.environ}


def packets_of(path: Path) -> list[tuple[int, bool]]:
    """(time, whether it is a random-access point) of each video packet with data, in coded
    order; none when the file does not open or its packets have no times."""
    try:
        with av.open(ffmpeg_name(path)) as container:
            if not container.streams.video:
                return []
            packets = [p for p in container.demux(container.streams.video[0]) if p.size]
            return [(p.pts, p.is_keyframe) for p in packets if p.pts is not None]
    except av.error.FFmpegError:
        return []
