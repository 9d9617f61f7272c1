# SPDX-License-Identifier: LGPL-2.1-or-later
"""The reference encoders, VTM and HM, run as the programs the user has built.

They read a raw file, not a pipe, so the pictures of a segment are kept in one
until it is complete. Their configuration is that of the common test conditions,
found in the source tree the program was built in, with what a TDS stream
needs set on top (see ``_overrides``).
"""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import subprocess
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from ..errors import ExternalError, InputError, MissingError
from ..files import sha256_of_all
from .base import CodedSegment, Config, EncoderAdapter, StreamSettings


class ReferenceEncoder(EncoderAdapter):
    """Common to VTM's EncoderApp and HM's TAppEncoder."""

    presets: ClassVar[tuple[str, ...]] = ("ctc",)
    default_preset: ClassVar[str] = "ctc"
    programs: ClassVar[tuple[str, ...]]
    variable: ClassVar[str]
    suffix: ClassVar[str]
    encoder_path: ClassVar[str | None] = None
    encoder_cfg: ClassVar[str | None] = None

    @classmethod
    def configured(cls, path: str | None, cfg: str | None) -> type[ReferenceEncoder]:
        """This adapter with a program (file or folder) and a configuration (file or folder)."""
        return type(cls.__name__, (cls,), {"encoder_path": path, "encoder_cfg": cfg})

    @classmethod
    def program(cls) -> str:
        """The encoder's program. Raises MissingError."""
        for place in (cls.encoder_path, os.environ.get(cls.variable)):
            if place is None:
                continue
            if Path(place).is_file():
                return place
            for name in cls.programs:
                if (Path(place) / name).is_file():
                    return str(Path(place) / name)
            if place is cls.encoder_path:
                raise MissingError(f"{place}: no {' or '.join(cls.programs)} is there")
        for name in cls.programs:
            if found := shutil.which(name):
                return found
        raise MissingError(
            f"no {cls.programs[0]} was found; name it with --encoder-path, set {cls.variable} to "
            "its folder, or put it on PATH"
        )

    @classmethod
    @abstractmethod
    def cfg_name(cls, settings: StreamSettings) -> str:
        """File name of the common test conditions' configuration."""

    @classmethod
    def cfg(cls, settings: StreamSettings) -> Path:
        """The configuration file. Raises MissingError."""
        name = cls.cfg_name(settings)
        if cls.encoder_cfg is not None:
            given = Path(cls.encoder_cfg)
            if given.is_file():
                return given
            for place in (given / name, given / "cfg" / name):
                if place.is_file():
                    return place
            raise MissingError(
                f"{given}: there is no {name}; --encoder-cfg names a file or a folder"
            )
        program = Path(cls.program()).resolve()
        for folder in program.parents:  # bin/umake/gcc-12/x86_64/release/ in the source tree
            if (folder / "cfg" / name).is_file():
                return folder / "cfg" / name
        raise MissingError(
            f"no {name} in the source tree around {program}; name it, or the folder it is in, "
            "with --encoder-cfg"
        )

    @classmethod
    def check(cls, settings: StreamSettings) -> None:
        super().check(settings)
        cls.cfg(settings)

    @classmethod
    def version(cls) -> str:
        return _version(cls.program(), cls.name)

    @classmethod
    def fingerprint(cls) -> str:
        """With a hash of the program and its configurations: a .cfg edited, or a program built
        with other macros, is the same version."""
        program = Path(cls.program()).resolve()
        folders = (folder / "cfg" for folder in program.parents)
        cfg = next((folder for folder in folders if folder.is_dir()), None)
        files = [program, *(sorted(cfg.glob("*.cfg")) if cfg else ())]
        return f"{cls.version()} {sha256_of_all(files)[:12]}"

    @classmethod
    def describe(cls, settings: StreamSettings) -> str:
        return shlex.join(
            cls._command(
                settings, Path(cls.programs[0]), Path(cls.cfg(settings).name),
                Path("IN.yuv"), Path(f"OUT{cls.suffix}"), 0,
            )
        ).replace("--FramesToBeEncoded=0", "--FramesToBeEncoded=N")  # fmt: skip

    @classmethod
    def _command(
        cls,
        s: StreamSettings,
        program: Path,
        cfg: Path,
        source: Path,
        out: Path,
        frames: int,
    ) -> list[str]:
        return [
            *(
                str(program),
                "-c",
                str(cfg),
                "-i",
                str(source),
                "-b",
                str(out),
                "-o",
                "",
            ),
            *(f"--{key}={value}" for key, value in cls._overrides(s, frames).items()),
        ]

    @classmethod
    def _overrides(cls, s: StreamSettings, frames: int) -> dict[str, str]:
        """What a TDS stream needs, over any configuration file."""
        values = {
            "SourceWidth": str(s.width),
            "SourceHeight": str(s.height),
            "FrameRate": str(max(1, round(s.rate))),  # whole numbers only; the MP4 has the rate
            "FramesToBeEncoded": str(frames),
            "FrameSkip": "0",
            # VTM's all-intra conditions code every 8th frame only.
            "TemporalSubsampleRatio": "1",
            "InputBitDepth": str(s.bit_depth),
            "InternalBitDepth": str(s.bit_depth),
            "InputChromaFormat": "420",
            "QP": str(s.qp),
            # Pads to the codec's unit, and says so in the stream: decoders crop it.
            "ConformanceWindowMode": "1",
        }
        if s.config is Config.RA:
            # Segments restart the stream; the encoder's own refresh must not add to them.
            values["IntraPeriod"] = str(max(64, s.period // 64 * 64))
        return values

    # -- one run -----------------------------------------------------------

    def __init__(self, settings: StreamSettings, path: Path) -> None:
        super().__init__(settings, path)
        self._frames = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._aborted = False
        self._raw = path.with_suffix(".yuv")
        self._stream = path.with_suffix(self.suffix)
        self._log = path.with_suffix(".log")
        self._file = self._raw.open("wb")

    def write(self, picture: bytes | memoryview) -> None:
        if len(picture) != self.settings.frame_bytes:
            raise ValueError(f"a picture has {self.settings.frame_bytes} bytes, not {len(picture)}")
        self._file.write(picture)
        self._frames += 1

    def finish(self) -> CodedSegment:
        from ..container.annexb import to_mp4

        self._file.close()
        program, cfg = Path(self.program()), self.cfg(self.settings)
        command = self._command(self.settings, program, cfg, self._raw, self._stream, self._frames)
        with self._log.open("wb") as log:
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C: we end it in order
                )
            except OSError as e:
                raise MissingError(f"{program} does not run: {e.strerror}") from e
            if self._aborted:
                self._process.kill()
            code = self._process.wait()
        if code != 0:
            raise ExternalError(f"{self.name} failed (exit status {code}): {self._last_words()}")
        to_mp4(self._stream, self.path, self._frames, f"{self.name} ({program.name})")
        self._raw.unlink()
        self._stream.unlink()
        self._log.unlink()
        return CodedSegment(self.path, self._frames)

    def abort(self) -> None:
        self._aborted = True
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._file.close()
        for path in (self.path, self._raw, self._stream, self._log):
            path.unlink(missing_ok=True)

    def _last_words(self) -> str:
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return " / ".join(lines[-3:])[-400:] or "none"


@functools.cache
def _version(program: str, name: str) -> str:
    """ "VTM 23.13" from the first line a reference encoder prints."""
    try:
        out = subprocess.run(
            [program, "--help"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
        ).stdout
    except OSError as e:
        raise MissingError(f"{program} does not run: {e.strerror}") from e
    found = re.search(r"Version \[?([0-9][\w.+-]*)", out)
    if found is None:
        raise InputError(f"{program} does not say it is {name.upper()}")
    return f"{name.upper()} {found.group(1)}"
