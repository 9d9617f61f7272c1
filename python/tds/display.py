# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pictures for the eye, for notebooks and for networks: RGB arrays, tensors, PNG, HTML."""

from __future__ import annotations

import html
import io
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import MissingError

if TYPE_CHECKING:
    from torch import Tensor

    from ._tds import Picture
    from .plan import Role

HD = 720
"""Rows from which video that does not say its matrix is taken for BT.709, as players do."""


class Colors(NamedTuple):
    """What samples mean.

    matrix: FFmpeg's name ("bt709", "smpte170m", ...), "" where it is not said. full_range:
    whether they use all codes."""

    matrix: str = ""
    full_range: bool = False


# Those that have coefficients of their own, by the names FFmpeg's scaler has.
_SCALERS = {"bt709": "bt709", "fcc": "fcc", "smpte240m": "smpte240m", "bt2020nc": "bt2020",
            "bt2020c": "bt2020", "bt470bg": "bt601", "smpte170m": "bt601"}  # fmt: skip


def rgb(picture: Picture) -> NDArray[np.uint8]:
    """RGB [height, width, 3], uint8; see ``Picture.to_rgb``."""
    from .media.pictures import FilterChain

    colors = picture.colors or Colors()
    matrix = _SCALERS.get(colors.matrix, "bt709" if picture.height >= HD else "bt601")
    # Without these flags it is quick, and darker by more than a code value.
    flags = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
    scale = (
        f"flags={flags}:in_color_matrix={matrix}:in_range={'pc' if colors.full_range else 'tv'}"
        ":out_range=pc"
    )
    convert = FilterChain([("scale", scale), ("format", "rgb24")], Fraction(1, 1000))
    return np.asarray(convert(picture.to_av()).to_ndarray(), np.uint8)


def tensor(picture: Picture) -> Tensor:
    """RGB [3, height, width], uint8; see ``Picture.to_tensor``."""
    return _torch_of(rgb(picture)).permute(2, 0, 1).contiguous()


def batch(pictures: list[Picture]) -> NDArray[np.uint8]:
    """RGB [pictures, height, width, 3], uint8."""
    if not pictures:
        return np.empty((0, 0, 0, 3), np.uint8)
    return np.stack([rgb(p) for p in pictures])


def tensors(pictures: list[Picture]) -> Tensor:
    """RGB [pictures, 3, height, width], uint8."""
    return _torch_of(batch(pictures)).permute(0, 3, 1, 2).contiguous()


def _torch_of(array: NDArray[np.uint8]) -> Tensor:
    try:
        import torch
    except ImportError as e:
        raise MissingError("tensors need torch: pip install 'tds-codec[torch]'") from e
    return torch.from_numpy(array)


def png(picture: Picture) -> bytes:
    """The picture as a PNG file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(rgb(picture)).save(file, "PNG", compress_level=1)
    return file.getvalue()


# ---------------------------------------------------------------------- HTML --


def page_table(title: str, rows: list[tuple[str, object]], picture: str = "") -> str:
    """What a notebook shows of an object: a title, what is drawn, and names with values."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(str(value))}</td></tr>"
        for name, value in rows
    )
    return f"<div><b>{html.escape(title)}</b>{picture}<table>{cells}</table></div>"


SHOWN = 40
"""Frames that ``strip`` draws at most."""


def strip(roles: list[Role], aspect: float, scale: int) -> str:
    """HR and LR in time, as SVG: each frame a box, LR at 1/scale of the size.

    aspect: width by height of HR."""
    high = 44.0
    wide = min(max(high * aspect, 20.0), 90.0)
    gap = 5.0
    boxes, x = [], gap
    for number, role in enumerate(roles[:SHOWN]):
        k = 1 if role.value == "hr" else scale
        w, h = wide / k, high / k
        y = gap + (high - h) / 2
        color = "#2f6f9f" if k == 1 else "#d98b2b"
        boxes.append(
            f"<rect x='{x:.1f}' y='{y:.1f}' width='{w:.1f}' height='{h:.1f}' rx='2' fill='{color}'>"
            f"<title>frame {number}: {role.name}</title></rect>"
        )
        x += w + gap
    more = "" if len(roles) <= SHOWN else f"<text x='{x}' y='{high / 2 + 9}'>...</text>"
    total = x + (20 if more else 0)
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {total:.0f} {high + 2 * gap:.0f}' "
        f"style='max-width:100%;height:54px;display:block' role='img' "
        f"aria-label='HR and LR frames in time' fill='currentColor'>{''.join(boxes)}{more}</svg>"
    )
