# SPDX-License-Identifier: LGPL-2.1-or-later
"""Temporal down-sampling (TDS) video coding.

    import tds

    tds.encode("clip.mkv", "clip.mp4", codec="vvc", config="ai", qp=32)
    with tds.decode("clip.mp4") as pictures:
        for picture in pictures:
            y, u, v = picture.planes        # numpy, uint8 or uint16

``encode`` and ``decode`` do the main job; ``open`` says what is in a file;
``enhance`` makes any video better, or pairs two files of any kind; ``Session`` is the engine
itself, for pictures from a decoder of your own.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from .container.mp4 import PairedFile
    from .decoder import Decoder, EnhanceSettings, decode
    from .encoder import EncodeResult, EncodeSettings, encode
    from .enhancing import enhance
    from .media.opening import RawFormat
    from .pair import Pair
    from .session import Picture, Session
    from .two_files import RegularPlan

# Loaded when first used, so that `import tds` and `tds --help` are quick.
_HOME = {
    "PairedFile": "container.mp4",
    "Decoder": "decoder",
    "EnhanceSettings": "decoder",
    "decode": "decoder",
    "EncodeResult": "encoder",
    "EncodeSettings": "encoder",
    "encode": "encoder",
    "RegularPlan": "two_files",
    "enhance": "enhancing",
    "Pair": "pair",
    "Picture": "session",
    "Session": "session",
    "RawFormat": "media.opening",
}

__all__ = [
    "Decoder",
    "EncodeResult",
    "EncodeSettings",
    "EnhanceSettings",
    "Pair",
    "PairedFile",
    "Picture",
    "RawFormat",
    "RegularPlan",
    "Session",
    "__version__",
    "decode",
    "encode",
    "enhance",
    "open",
]


def open(path: str | os.PathLike[str], allow_truncated: bool = False) -> PairedFile:
    """What is in a paired file: ``metadata``, the two tracks ``hr`` and ``lr``, ``scale``.

    Raises InputError (a ValueError) or MissingError (a FileNotFoundError) with a
    sentence when it is not such a file."""
    from .container.mp4 import PairedFile

    return PairedFile(os.fspath(path), allow_truncated)


def __getattr__(name: str) -> Any:
    if name == "__version__":  # the engine's, which is also the distribution's
        from ._tds import version

        return version()
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'tds' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{home}", __name__), name)
