# SPDX-License-Identifier: LGPL-2.1-or-later
"""Encoders reached through an ffmpeg program, fed raw pictures by a pipe."""

from __future__ import annotations

import os
import queue
import re
import shlex
import subprocess
import tempfile
import threading
from abc import abstractmethod
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import av

from ..errors import ExternalError
from ..files import sha256_of_text
from ..media.opening import ffmpeg_name
from ..media.programs import ffmpeg_version, find_ffmpeg
from .base import CodedSegment, Config, EncoderAdapter, StreamSettings

QUEUED_PICTURES = 4  # pictures waiting for one encoder; bounds memory

KEPT_IN_MEMORY = 32 << 20  # bytes of the pictures kept to code them again; the rest is on disk


_CONTEXT = re.compile(r"^(\[[^\]]* @ 0x[0-9a-f]+\] *)+")  # "[libx265 @ 0x55c2d04f8280] "


class FFmpegEncoder(EncoderAdapter):
    """Feeds ``ffmpeg -f rawvideo -i -`` and reads back an MP4 at constant rate.

    Times are given back by the caller at mux time: encoders fed gapped times
    corrupt them (measured with libvvenc).
    """

    kept_pictures: ClassVar[int] = 0
    """A run of at most so many pictures that gives too few packets is made again, with
    ``again_arguments``."""

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
    @abstractmethod
    def input_pix_fmt(cls, settings: StreamSettings) -> str:
        """The format the encoder takes; FFmpeg converts to it."""

    @classmethod
    def version(cls) -> str:
        program = find_ffmpeg(cls.name)
        return f"{cls.name} in FFmpeg {ffmpeg_version(program)}"

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
        command += ["-framerate", str(rate), "-i", "-"]
        if filters:
            command += ["-vf", ",".join(filters)]
        command += ["-pix_fmt", cls.input_pix_fmt(s), "-fps_mode", "passthrough"]
        return [*command, *codec_arguments, "-f", "mp4", out]

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
        self._queue.put(picture)
        self._frames += 1
        if self._kept is not None:
            if self._frames > self.kept_pictures:
                self._drop()
            else:
                self._kept.write(picture)

    def finish(self) -> CodedSegment:
        packets = self._end()
        if packets != self._frames and self._kept is not None:
            self._start(self.again_arguments(self.settings))
            self._kept.seek(0)
            while picture := self._kept.read(self.settings.frame_bytes):
                self._queue.put(picture)
            packets = self._end()
        self._drop()
        if packets != self._frames:
            raise ExternalError(
                f"{self.name} took {self._frames} frames, exited with 0 and gave {packets} "
                f"packets; it said: {self._words()}"
            )
        self._log.unlink(missing_ok=True)
        return CodedSegment(self.path, self._frames)

    def _end(self) -> int:
        """Waits for the encoder; how many packets it gave."""
        self._queue.put(None)
        self._thread.join()
        code = self._process.wait()
        self._log_file.close()
        if code != 0 or self._error is not None:
            self._fail()
        return count_packets(self.path)

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
        """The first complaints: FFmpeg names the cause, and then at length what follows from it."""
        lines = [_CONTEXT.sub("", line).strip() for line in self._said().splitlines()]
        lines = [line for line in lines if line]
        grave = [line for line in lines if "warning" not in line.lower()]
        return " / ".join((grave or lines)[:2]) or "nothing"


def count_packets(path: Path) -> int:
    """Video packets with data in a file; 0 when it does not open."""
    try:
        with av.open(ffmpeg_name(path)) as container:
            if not container.streams.video:
                return 0
            return sum(1 for p in container.demux(container.streams.video[0]) if p.size)
    except av.error.FFmpegError:
        return 0
