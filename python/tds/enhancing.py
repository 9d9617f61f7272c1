# SPDX-License-Identifier: LGPL-2.1-or-later
"""``tds.enhance``: one plain stream, or two files that are a pair."""

from __future__ import annotations

from dataclasses import replace
from typing import Unpack

from .container.metadata import Metadata
from .decoder import Decoder, EnhanceSettings, decoder_of, make_settings
from .media.objects import NamedSource, Source
from .media.opening import RawFormat
from .options import EnhanceOptions
from .plain import PlainStream
from .two_files import RegularPlan, enhance_pair


def enhance(
    source: Source,
    lr: Source | None = None,
    *,
    sidecar: Metadata | None = None,
    plan: RegularPlan | None = None,
    raw: RawFormat | None = None,
    scale: int = 2,
    track: int | None = None,
    settings: EnhanceSettings | None = None,
    **options: Unpack[EnhanceOptions],
) -> Decoder:
    """Iterates over the pictures of a video, made better by a model.

    source: any file FFmpeg reads, of whose pictures each is enhanced from its neighbours, by its
    name or as an object with ``read``, which is copied to a temporary file; or,
    with ``lr``, the HR stream of a pair whose LR stream is that file. raw: for raw yuv, or
    the rate of a raw stream (of a pair the HR size; LR is 1/``scale`` of it). track: which
    of the video tracks of a plain file. sidecar or plan: of a pair whose files hold no times.
    settings, or its fields as keywords (``model="fast"``, ``strength=0.5``, ``causal=True``).

    Raises InputError for a file that cannot be used as it is (two that do not belong together,
    a size that changes on the way), MissingError where no model fits.

        with tds.enhance("clip.mp4") as pictures:
            for picture in pictures:
                y, u, v = picture.planes
    """
    checked = make_settings(settings, options)
    if lr is None:
        file = NamedSource(source)
        decoder = decoder_of_plain(PlainStream(file.path, raw, track), checked)
        decoder.closes(file)
        return decoder
    files = NamedSource(source), NamedSource(lr)
    decoder = enhance_pair(
        files[0].path,
        files[1].path,
        sidecar=sidecar,
        plan=plan,
        raw=raw,
        scale=scale,
        settings=checked,
    )
    decoder.closes(*files)
    return decoder


def decoder_of_plain(stream: PlainStream, settings: EnhanceSettings | None = None) -> Decoder:
    """A Decoder of an open PlainStream that makes its pictures better, also where the file says
    that they are to be shown as they are; the stream is closed when there can be none."""
    wanted = settings or EnhanceSettings()
    return decoder_of(stream, replace(wanted, hr="refine") if wanted.hr == "auto" else wanted)
