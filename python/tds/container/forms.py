# SPDX-License-Identifier: LGPL-2.1-or-later
"""The containers that a pair can be written to, and what each of them holds.

Specification: docs/container.md, one profile for each.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from ..codecs.base import Codec
from ..errors import InputError

_SAYS_ASPECT = (Codec.HEVC, Codec.H264)  # in the stream itself


@dataclass(frozen=True)
class Form:
    """One container.

    name: as --format has it. called: for sentences. suffixes: the first is the usual one; none:
    by --format alone. muxer, options: FFmpeg's. codecs: those of which FFmpeg writes and reads
    such files. tick: seconds that its times count in; None: any time is exact. tag: it holds
    the tag. track_name: the key of a track's name; "": it has none. display_matrix: it says how
    pictures are turned. aspect: and what shape samples have, where a stream does not say so.
    """

    name: str
    called: str
    suffixes: tuple[str, ...]
    muxer: str
    options: Mapping[str, str]
    codecs: frozenset[Codec] = frozenset(Codec)
    tick: Fraction | None = None
    tag: bool = True
    track_name: str = "handler_name"
    display_matrix: bool = True
    aspect: bool = True

    def options_for(self, time_base: Fraction) -> dict[str, str]:
        """For a source with times in ``time_base`` seconds."""
        if self.tick is not None:
            return dict(self.options)
        timescale = str(_timescale(time_base))
        # Edit lists count in movie ticks: with the default 1000 the first LR picture
        # of a 29.97 fps video lands on the wrong tick.
        scales = {"video_track_timescale": timescale, "movie_timescale": timescale}
        return {**self.options, **scales}

    def losses(self, codec: Codec, aspect: Fraction) -> list[str]:
        """What a reader of such a file lacks, in sentences. aspect: of the source's samples."""
        lost = []
        if not self.tag:
            lost.append(
                f"{self.called} holds no tag: neither model, QPs and strengths nor the plan that "
                "tells lost pictures, nor the source's own tags and chapters"
            )
        if aspect != 1 and not self.aspect and codec not in _SAYS_ASPECT:
            lost.append(
                f"{self.called} with {codec.value.upper()} does not hold that samples are "
                f"{aspect.numerator}:{aspect.denominator}; players will show them square"
            )
        return lost

    def turning_lost(self, display_matrix: Sequence[int] | None) -> list[str]:
        """The same of how the source's pictures are turned, which is known once they were read."""
        if display_matrix is None or self.display_matrix:
            return []
        return [f"{self.called} does not hold how the source's pictures are turned"]

    def check(self, output: str | os.PathLike[str], codec: Codec) -> None:
        """Raises InputError for a codec that it does not hold."""
        if codec not in self.codecs:
            others = ", ".join(f.suffixes[0] for f in FORMS if f.suffixes and codec in f.codecs)
            raise InputError(
                f"{output}: FFmpeg has no way to keep {codec.value.upper()} in {self.called}; "
                f"name another file ({others}), or another codec"
            )


def _timescale(time_base: Fraction) -> int:
    """Ticks a second that hold the source's times exactly, 10000 at least."""
    scale = time_base.denominator
    while scale < 10_000:
        scale *= 2
    if scale > 0x7FFFFFFF:
        raise InputError(f"a time base of {time_base} s is finer than MP4 can hold")
    return scale


# A tag that says a time code stays a tag; FFmpeg would make a track of it.
_NO_TIME_CODE = {"write_tmcd": "0"}

MP4 = Form(
    "mp4",
    "MP4",
    (".mp4", ".m4v", ".mov"),
    "mp4",
    # Global keys that FFmpeg does not know (ours) are kept only so; the index goes first
    # so that a cut file is known as cut and a player can start at once.
    {"movflags": "use_metadata_tags+faststart", **_NO_TIME_CODE},
)
FRAGMENTED = Form(
    "fmp4",
    "fragmented MP4",
    (),
    "mp4",
    {
        # Without delay_moov the header is written before any time is known, and so without
        # the edit lists that keep LR beside HR.
        "movflags": "use_metadata_tags+frag_keyframe+delay_moov+default_base_moof",
        "min_frag_duration": "1000000",  # in all-intra each picture would be a fragment
        **_NO_TIME_CODE,
    },
)
MATROSKA = Form(
    "mkv",
    "Matroska",
    (".mkv",),
    "matroska",
    {"avoid_negative_ts": "disabled"},
    tick=Fraction(1, 1000),
    track_name="title",
    aspect=False,  # it could, and PyAV cannot say it
)
TRANSPORT_STREAM = Form(
    "ts",
    "an MPEG transport stream",
    (".ts",),
    "mpegts",
    # No delay is added to the source's times.
    {"avoid_negative_ts": "disabled", "mpegts_copyts": "1"},
    codecs=frozenset((Codec.VVC, Codec.HEVC, Codec.H264)),
    tick=Fraction(1, 90_000),
    tag=False,
    track_name="",
    display_matrix=False,
    aspect=False,
)
FORMS = (MP4, MATROSKA, TRANSPORT_STREAM, FRAGMENTED)
_BY_NAME = {form.name: form for form in FORMS}
_BY_SUFFIX = {suffix: form for form in FORMS for suffix in form.suffixes}


def form_of(output: str | os.PathLike[str], named: str | None = None) -> Form:
    """By name (``named``, as --format has it), else by the output's suffix. Raises InputError."""
    if named is not None:
        form = _BY_NAME.get(named)
        if form is None:
            raise InputError(f"no format {named!r}; there are {', '.join(_BY_NAME)}")
        return form
    form = _BY_SUFFIX.get(Path(output).suffix.lower())
    if form is None:
        raise InputError(
            f"{output}: a paired file is MP4, Matroska or an MPEG transport stream; name it with "
            "the suffix .mp4, .mkv or .ts, or give --format"
        )
    return form
