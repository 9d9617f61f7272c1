# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two decoders, or one of a plain stream, and the enhancer, joined."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from .._tds import lr_size, scale_of
from ..container.metadata import Hints, Metadata
from ..decoder import Decoder, EnhanceSettings
from ..errors import ExternalError, InputError, MissingError
from ..pair import QUEUED_PICTURES, Item, Pair
from ..plan import Role
from ..two_files import RegularPlan, by_plan, by_sidecar
from .bitstreams import Seen, look
from .decoders import DecoderProcess, Listener, Start, signals_held, start_of
from .streams import Format, Picture, PictureStream, Stopped, StreamEnded

# Decoded pictures that wait, per stream: a decoder in random access gives a
# burst of them at once and should not stop while the other one catches up.
QUEUED_BYTES = 64 << 20
QUEUED_MOST = 64


@dataclass(frozen=True)
class PostdecSettings:
    """How two streams are decoded and paired, or how one plain stream is decoded.

    decoder: "vtm", "hm", "vvdec", "ffmpeg", a command with ``{input}``, or "none"
    (the inputs are decoded already: y4m or yuv files, FIFOs, "-"). decoder_path:
    its program or folder. decoder_arguments: more for it. sidecar: the metadata
    ``tds encode`` wrote beside the raw streams; plan stands in for it. size (of
    HR), scale: of raw yuv without a sidecar. bit_depth: of raw yuv; None: that of the
    bitstream where the decoder can be told so, else the sidecar's, else 8. listen: path of a
    unix socket to which two decoders started by someone else connect. timeout:
    seconds after which a decoder that gives nothing counts as hanging. rate: of a plain stream,
    frames a second; None: what its y4m says, else what FFmpeg finds in it, else 25.
    """

    decoder: str = "ffmpeg"
    decoder_path: str | None = None
    decoder_arguments: tuple[str, ...] = ()
    sidecar: Metadata | None = None
    plan: RegularPlan | None = None
    size: tuple[int, int] | None = None
    bit_depth: int | None = None
    scale: int = 2
    listen: str | None = None
    timeout: float = 120.0
    rate: Fraction | None = None
    enhance: EnhanceSettings = field(default_factory=EnhanceSettings)


def postdec(
    hr: str | None = None,
    lr: str | None = None,
    settings: PostdecSettings | None = None,
) -> Decoder:
    """Decodes an HR and an LR stream with two decoder processes and enhances on the fly.

    hr, lr: raw bitstreams (or what ``decoder`` "none" reads; None when listening).
    Iterate over the result as over that of ``tds.decode``, as a context manager:
    leaving it ends the decoders.

    Raises InputError, MissingError, or ExternalError naming the decoder that
    died, hung or sent half a picture.
    """
    wanted = settings or PostdecSettings()
    if wanted.sidecar is None and wanted.plan is None:
        raise InputError(
            "raw streams have no times: give --sidecar (tds encode writes it beside them), or "
            "--group and --boundaries as they were encoded"
        )
    return _joined(wanted, {Role.HR: hr, Role.LR: lr})


def postdec_plain(path: str | None = None, settings: PostdecSettings | None = None) -> Decoder:
    """Decodes one stream that is no TDS video with a decoder process and enhances on the fly.

    path: a bitstream (or what ``decoder`` "none" reads; None when listening). A patched decoder
    says that it is HR. Iterate over the result, and errors, as of :func:`postdec`.
    """
    wanted = settings or PostdecSettings()
    if wanted.sidecar is not None or wanted.plan is not None:
        raise InputError("a plain stream is no pair: give no --sidecar and no --group")
    return _joined(wanted, {Role.HR: path})


def _joined(wanted: PostdecSettings, paths: dict[Role, str | None]) -> Decoder:
    if not wanted.timeout > 0:
        raise InputError("a timeout is a number of seconds above 0")
    decoders = _Decoders(wanted, paths)
    try:
        decoders.start()
        return Decoder(_pair_of(decoders, wanted), wanted.enhance)
    except BaseException:
        decoders.close()
        raise


class _Decoded:
    """One stream of decoded pictures, as two_files.by_sidecar and by_plan take a file."""

    def __init__(self, stream: PictureStream, role: Role, process: DecoderProcess | None) -> None:
        self.stream, self.role, self.process = stream, role, process
        self._pictures = self._checked()
        self._first: Picture | None = None

    @property
    def path(self) -> str:
        return self.stream.name

    @property
    def format(self) -> Format:
        """Of its pictures; reads the first one."""
        if self._first is None:
            self._first = next(self._pictures, None)
            if self._first is None:
                raise ExternalError(f"{self.stream.name} gave no picture")
        return self._first.format

    @property
    def width(self) -> int:
        return self.format.width

    @property
    def height(self) -> int:
        return self.format.height

    def pictures(self) -> Iterator[Picture]:
        assert self._first is not None
        return itertools.chain([self._first], self._pictures)

    def _checked(self) -> Iterator[Picture]:
        """The stream's pictures; an end that is none becomes a sentence."""
        stream = self.stream
        format: Format | None = None
        try:
            for picture in stream:
                if format is not None and picture.format != format:
                    raise ExternalError(
                        f"{stream.name}: its pictures change from {format} to {picture.format} "
                        f"after {stream.count - 1} of them"
                    )
                format = picture.format
                yield picture
        except StreamEnded as e:
            raise ExternalError(self._died(e.clean)) from None
        except Stopped:
            return
        # A decoder that tells of a failure by its exit status alone has not given
        # all its pictures, or has given wrong ones.
        if self.process is not None and self.process.wait(stream.timeout) != 0:
            raise ExternalError(
                f"{stream.name} {self.process.fate()}, after {_pictures(stream.count)}"
            )

    def _died(self, clean: bool) -> str:
        name, count = self.stream.name, self.stream.count
        if not count:
            where = "before its first picture was whole"
        elif clean:
            where = f"after {_pictures(count)} and before it said it was done"
        else:
            where = f"in the middle of picture {count}"
        if self.process is None:
            return f"{name} ended {where}"
        return f"{name} ended {where}; it {self.process.fate()}"


class _Decoders:
    """The two decoders and what is known of their streams."""

    def __init__(self, settings: PostdecSettings, paths: dict[Role, str | None]) -> None:
        self._settings = settings
        self._paths = paths
        self._files: dict[Role, _Decoded] = {}
        self._streams: list[PictureStream] = []
        self._processes: list[DecoderProcess] = []
        self._seen: dict[Role, Seen | None] = {}

    # As two_files.by_sidecar and by_plan take a pair.

    @property
    def hr(self) -> _Decoded:
        return self._files[Role.HR]

    @property
    def lr(self) -> _Decoded:
        return self._files[Role.LR]

    @property
    def scale(self) -> int:
        if not self._is_pair:
            return 1
        hr, lr = self.hr.format, self.lr.format
        return scale_of(hr.width, hr.height, lr.width, lr.height)

    def plain_rate(self) -> Fraction:
        """Of a plain stream, frames a second."""
        said = self._settings.rate or self.hr.stream.rate
        if said is None and self._processes and (seen := self._look(Role.HR)) is not None:
            said = seen.rate
        return said or Fraction(25)

    def of(self, role: Role) -> _Decoded:
        return self._files[role]

    # -- starting ----------------------------------------------------------

    def start(self) -> None:
        """Starts or accepts both decoders, and reads the first picture of each."""
        s = self._settings
        if s.listen is not None:
            self._accept(s.listen)
        else:
            for role, path in self._paths.items():
                if path is None:
                    option = f"--{role.value}" if self._is_pair else "--input"
                    raise InputError(f"no {self._of(role)}stream; name it with {option}")
            if s.decoder == "none":
                self._open()
            else:
                self._launch()
        self._check_formats()

    def _open(self) -> None:
        for role, path in self._paths.items():
            assert path is not None
            what = "standard input" if path == "-" else path
            fd = _open_decoded(path)
            self._add(role, fd, f"the {self._of(role)}input ({what})", self._known_format(role))

    def _launch(self) -> None:
        s = self._settings
        for path in self._paths.values():
            assert path is not None
            if not Path(path).exists():
                raise MissingError(f"{path}: there is no such file")
            if Path(path).is_dir():
                raise InputError(f"{path} is a folder, not a bitstream")
        start = start_of(s.decoder, s.decoder_path, s.decoder_arguments, vvc=self._may_be_vvc())
        formats = {role: self._format_of(role, start) for role in self._paths}
        for role, path in self._paths.items():
            assert path is not None
            format = formats[role]
            depth = format.bit_depth if format is not None else 8
            name = f"the {self._of(role)}decoder"
            with signals_held():
                process = DecoderProcess(start, role, str(Path(path).resolve()), name, depth)
                self._processes.append(process)
                expects = role if start.channel == "socket" else None
                self._add(role, process.fd, process.name, format, expects, process)

    def _accept(self, path: str) -> None:
        timeout = self._settings.timeout
        listener = Listener(path)
        try:
            fds = listener.accept(len(self._paths), timeout)
        except TimeoutError:
            who, roles = ("two decoders", "hr or lr") if self._is_pair else ("decoder", "hr")
            raise ExternalError(
                f"no {who} connected to {path} within {timeout:g} s; start with "
                f"--TdsSession=unix:{path} and --TdsRole={roles}"
            ) from None
        finally:
            listener.close()  # its file goes at once: nobody else is expected
        for i, fd in enumerate(fds):
            self._streams.append(PictureStream(fd, f"decoder {i + 1} at {path}", timeout))
        for stream in self._streams:
            try:
                role = stream.handshake()
            except StreamEnded:
                raise ExternalError(f"{stream.name} closed before it said its role") from None
            stream.name = f"the {self._of(role)}decoder ({stream.program or path})"
            if role not in self._paths:
                raise ExternalError(f"{stream.name} says it is LR; a plain stream is sent as hr")
            if role in self._files:
                raise ExternalError(f"both decoders at {path} say they are {role.name}")
            self._files[role] = _Decoded(stream, role, None)

    def _add(
        self,
        role: Role,
        fd: int,
        name: str,
        format: Format | None,
        expects: Role | None = None,
        process: DecoderProcess | None = None,
    ) -> None:
        stream = PictureStream(fd, name, self._settings.timeout, format, expects)
        self._streams.append(stream)
        self._files[role] = _Decoded(stream, role, process)

    def _known_format(self, role: Role) -> Format | None:
        """Of this stream's pictures, from the sidecar or from --size; None: not known."""
        s, m = self._settings, self._settings.sidecar
        if m is not None:
            size, scale = (m.width, m.height), m.scale
        elif s.size is not None:
            size, scale = s.size, s.scale
        else:
            return None
        if role is Role.LR:
            size = (lr_size(size[0], scale), lr_size(size[1], scale))
        return Format(*size, s.bit_depth or (m.bit_depth if m else 8))

    def _format_of(self, role: Role, start: Start) -> Format | None:
        """Of what a decoder writes of this bitstream, should that be raw yuv."""
        known = self._known_format(role)
        if start.channel != "fd" or (known and not start.asks_depth):
            return known
        seen = self._look(role)
        if seen is None:
            return known
        given = self._settings.bit_depth
        depth = given if given is not None else seen.format.bit_depth
        return replace(known or seen.format, bit_depth=depth)

    def _look(self, role: Role) -> Seen | None:
        """What FFmpeg finds in the stream that a decoder of ours reads."""
        path = self._paths[role]
        if role not in self._seen and path is not None:
            self._seen[role] = look(path)
        return self._seen.get(role)

    @property
    def _is_pair(self) -> bool:
        return Role.LR in self._paths

    def _of(self, role: Role) -> str:
        """Before a noun, in messages: a plain stream is neither HR nor LR to its owner."""
        return f"{role.name} " if self._is_pair else ""

    def _may_be_vvc(self) -> bool:
        if self._settings.sidecar is not None:
            return self._settings.sidecar.codec == "vvc"
        return (seen := self._look(Role.HR)) is None or seen.codec == "vvc"

    def _check_formats(self) -> None:
        formats = [file.format for file in self._files.values()]
        for format in formats:
            if format.bit_depth not in (8, 10):
                raise InputError(f"pictures have {format.bit_depth} bits; TDS takes 8 or 10")
        if not self._is_pair:
            return
        hr, lr = self.hr.format, self.lr.format
        if not self.scale:
            raise InputError(
                f"HR is {hr.width}x{hr.height} and LR is {lr.width}x{lr.height}, which is no ratio "
                "of 1, 2 or 4; these two streams do not belong together, or are the wrong way round"
            )
        if hr.bit_depth != lr.bit_depth:
            raise InputError(
                f"HR has {hr.bit_depth} bits and LR has {lr.bit_depth}; code both with the same"
            )

    # -- ending ------------------------------------------------------------

    def end(self) -> None:
        """Ends what waits for a decoder, and the decoders."""
        for stream in self._streams:
            stream.interrupt()
        self._end_processes()

    def _end_processes(self) -> None:
        for process in self._processes:
            process.end()

    def close(self) -> None:
        self._end_processes()
        for stream in self._streams:
            stream.close()


def _pair_of(decoders: _Decoders, settings: PostdecSettings) -> Pair:
    """The pair that two running programs give; ending it ends them."""
    hr = decoders.hr.format
    m, plan = settings.sidecar, settings.plan
    if m is not None:
        streams, time_base, rate = by_sidecar(decoders, m)
    elif plan is not None:
        streams, time_base, rate = by_plan(decoders, plan)
    else:
        rate = decoders.plain_rate()
        streams, time_base = {Role.HR: _counted(decoders.hr)}, 1 / rate
    queued = min(QUEUED_MOST, max(QUEUED_PICTURES, QUEUED_BYTES // hr.size))
    return Pair(
        {role: _then_close(items, decoders.of(role).stream) for role, items in streams.items()},
        width=hr.width,
        height=hr.height,
        bit_depth=hr.bit_depth,
        scale=decoders.scale,
        time_base=time_base,
        rate=rate,
        sample_aspect_ratio=decoders.hr.stream.sample_aspect_ratio,
        full_range=decoders.hr.stream.full_range,
        hints=m.hints if m else Hints(),
        strengths=m.strengths_by_time() if m else {},
        # An HR picture may wait for all LR pictures of its group to be read.
        queued=max(queued, plan.group) if plan else queued,
        interrupt=decoders.end,
    )


def _counted(file: _Decoded) -> Iterator[Item]:
    for pts, picture in enumerate(file.pictures()):
        picture.pts = pts
        yield picture


def _then_close(items: Iterator[Item], stream: PictureStream) -> Iterator[Item]:
    """``items``, and once they or their reader have ended, no descriptor of their stream."""
    try:
        yield from items
    except InputError as e:
        if not stream.is_raw:
            raise
        raise InputError(
            f"{e} (or is its raw yuv of another depth? --bit-depth says which)"
        ) from None
    finally:
        stream.close()


def _open_decoded(path: str) -> int:
    """A descriptor of decoded pictures: a file, a FIFO (not waiting for its writer), or "-"."""
    if path == "-":
        return os.dup(0)
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder; name a file of decoded pictures, or a FIFO")
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise MissingError(f"{path}: there is no such file") from None
    except OSError as e:
        raise InputError(f"{path}: {e.strerror}") from e


def _pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count} pictures"
