# SPDX-License-Identifier: LGPL-2.1-or-later
"""A plain stream, one that is no TDS video: a pair without LR, from any file that FFmpeg reads."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from av.video.frame import VideoFrame

from .errors import ExternalError, InputError
from .media.opening import RawFormat, is_read_once
from .media.pipes import PipeReader, is_pipe
from .media.planar import pix_fmt_of
from .media.sources import VideoSource
from .pair import Pair
from .plan import Role
from .sinks import Origin


class PlainStream:
    """The video of a file, open: ``pair`` for a Decoder, ``origin`` for a sink.

    path: anything FFmpeg reads, ``-`` being standard input. raw: what a raw file does not say.
    track: which of its video tracks, from 0; None: the one that is shown by default. Odd sizes,
    4:2:2, 4:4:4 and RGB are converted, with a notice.

    Raises MissingError, InputError, or ExternalError when no picture decodes. Reading is ended
    by what takes the pair.
    """

    def __init__(self, path: str, raw: RawFormat | None = None, track: int | None = None) -> None:
        self._pipe = PipeReader(path) if is_pipe(path) else None
        self.source = VideoSource(path, raw, track, lenient=True, pipe=self._pipe)
        self._interlaced = False
        try:
            if self.source.is_pair:
                raise InputError(
                    f"{path} is a TDS pair, of which each track alone is a part; tds decode makes "
                    "one video of both"
                )
            self._frames = iter(self.source)
            first = next(self._frames, None)
            if first is None:
                raise ExternalError(f"{path}: not one picture of it decodes")
            self._first = first
        except BaseException:
            self.close()
            raise
        self._converted = self._conversion()

    def _conversion(self) -> list[str]:
        source, first = self.source, self._first
        changes = []
        target = pix_fmt_of(source.bit_depth)
        if first.format.name not in (target, target.replace("yuv420p", "yuvj420p")):
            changes.append(f"{first.format.name} to {target}")
        if (first.width, first.height) != (source.width, source.height):
            sizes = f"{first.width}x{first.height} to {source.width}x{source.height}"
            changes.append(f"{sizes}, since 4:2:0 needs an even width and height")
        return [f"{source.path}: its pictures are converted from {change}" for change in changes]

    @property
    def pair(self) -> Pair:
        source = self.source
        colors = source.colors
        aspect = source.sample_aspect_ratio
        return Pair(
            {Role.HR: self},
            width=source.width,
            height=source.height,
            bit_depth=source.bit_depth,
            scale=1,
            time_base=source.time_base,
            rate=source.rate,
            sample_aspect_ratio=aspect if aspect != 1 else None,
            full_range=colors.range == "pc" or source.pix_fmt.startswith("yuvj"),
            frames=source.frames,
            interrupt=self._pipe.interrupt if self._pipe is not None else None,
            notices=self._notices,
        )

    @property
    def origin(self) -> Origin | None:
        """For what comes along beside the pictures; None for raw planar video."""
        source = self.source
        if source.raw is not None and source.raw.size is not None:
            return None
        once = is_read_once(source.path)
        return Origin(
            source.path,
            (source.index,),
            source.clock(),
            source.container if once else None,
            self._first if once else None,
        )

    def _notices(self) -> list[str]:
        said = [*self._converted, *self.source.notices]
        if self._interlaced:
            said.append(f"{self.source.path} is interlaced; its frames are treated as whole ones")
        return said

    def __iter__(self) -> Iterator[VideoFrame]:
        planar = self.source.planar()
        for frame in itertools.chain([self._first], self._frames):
            self._interlaced |= bool(frame.interlaced_frame)
            yield planar(frame)

    def close(self) -> None:
        self.source.close()
