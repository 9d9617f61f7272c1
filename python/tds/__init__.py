# SPDX-License-Identifier: LGPL-2.1-or-later
"""Temporal down-sampling (TDS) video coding.

    import tds

    tds.encode("clip.mkv", "clip.mp4", codec="vvc", config="ai", qp=32)
    with tds.decode("clip.mp4") as pictures:
        for picture in pictures:
            y, u, v = picture.planes        # numpy, uint8 or uint16
            rgb = picture.to_rgb()          # or to_tensor(), for torch

``encode`` and ``decode`` do the main job; ``open`` says what is in a file;
``enhance`` makes any video better, or pairs two files of any kind; ``Session`` is the engine
itself, for pictures from a decoder of your own. Every error is a ``TDSError`` and one of
Python's own.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from .codecs import Codec, Config
    from .container.paired import PairedFile
    from .decoder import Decoder, EnhanceSettings, decode
    from .display import Colors
    from .encoder import EncodeResult, encode
    from .enhancing import enhance
    from .errors import (
        ExternalError,
        InputError,
        MissingError,
        OutputError,
        OutputExistsError,
        TDSError,
    )
    from .media.objects import Source
    from .media.opening import RawFormat
    from .options import EncodeOptions, EnhanceOptions
    from .pair import Pair
    from .plan import Boundaries, Role
    from .session import Picture, Session
    from .two_files import RegularPlan

# Loaded when first used, so that `import tds` and `tds --help` are quick.
_HOME = {
    **dict.fromkeys(("Codec", "Config"), "codecs"),
    "PairedFile": "container.paired",
    **dict.fromkeys(("Decoder", "EnhanceSettings", "decode"), "decoder"),
    "Colors": "display",
    **dict.fromkeys(("EncodeResult", "encode"), "encoder"),
    "EncodeSettings": "encoding.settings",
    "enhance": "enhancing",
    **dict.fromkeys(
        (
            *("ExternalError", "InputError", "MissingError", "OutputError", "OutputExistsError"),
            "TDSError",
        ),
        "errors",
    ),
    "RawFormat": "media.opening",
    **dict.fromkeys(("EncodeOptions", "EnhanceOptions"), "options"),
    "Pair": "pair",
    **dict.fromkeys(("Boundaries", "Role"), "plan"),
    **dict.fromkeys(("Picture", "Session"), "session"),
    "RegularPlan": "two_files",
}

__all__ = [
    "Boundaries",
    "Codec",
    "Colors",
    "Config",
    "Decoder",
    "EncodeOptions",
    "EncodeResult",
    "EncodeSettings",
    "EnhanceOptions",
    "EnhanceSettings",
    "ExternalError",
    "InputError",
    "MissingError",
    "OutputError",
    "OutputExistsError",
    "Pair",
    "PairedFile",
    "Picture",
    "RawFormat",
    "RegularPlan",
    "Role",
    "Session",
    "TDSError",
    "__version__",
    "decode",
    "encode",
    "enhance",
    "open",
]


def open(path: Source, allow_truncated: bool = False) -> PairedFile:
    """What is in a paired file: ``metadata``, the two tracks ``hr`` and ``lr``, ``scale``.

        with tds.open("clip.mp4") as file:
            print(file.metadata.codec, file.hr.width, file.hr.height)

    Raises InputError (a ValueError) or MissingError (a FileNotFoundError) with a
    sentence when it is not such a file."""
    from .container.paired import PairedFile

    return PairedFile(path, allow_truncated)


def __getattr__(name: str) -> Any:
    if name == "__version__":  # the engine's, which is also the distribution's
        from ._tds import version

        return version()
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'tds' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{home}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
