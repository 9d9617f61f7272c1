# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pictures to look at: versions of one frame side by side, each over its residual map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..media.planar import Plane, frame_of
from .psnr import psnr

RESIDUAL_PEAK = 32  # code values of an 8-bit picture at which a residual map is white-hot
GAP = 6
TITLE = 18


def side_by_side(
    path: Path,
    original: Sequence[Plane],
    versions: Sequence[tuple[str, Sequence[Plane]]],
    bit_depth: int,
    heading: str,
) -> None:
    """Writes a PNG: the original and each version above, luma residual maps below.

    original, versions: planar 4:2:0 code values, all of one size. The residual
    map is |version - original| of luma, black for none, through red and yellow to
    white at RESIDUAL_PEAK 8-bit code values and more.
    """
    shift = bit_depth - 8
    columns = [
        ("source", original, None),
        *((n, p, residual_map(p, original, shift)) for n, p in versions),
    ]
    height, width = original[0].shape
    sheet = Image.new(
        "RGB",
        (len(columns) * (width + GAP) + GAP, 2 * (height + GAP) + TITLE * 3 + GAP),
        (24, 24, 24),
    )
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    draw.text((GAP, 3), heading, (235, 235, 235), font)
    for i, (name, planes, residual) in enumerate(columns):
        x, y = GAP + i * (width + GAP), 2 * TITLE
        label = name
        if residual is not None:
            label += f"  {psnr(planes[0], original[0], bit_depth):.2f} dB"
        draw.text((x, TITLE + 2), label, (235, 235, 235), font)
        sheet.paste(rgb_image(planes, bit_depth), (x, y))
        if residual is not None:
            sheet.paste(residual, (x, y + height + GAP + TITLE))
    y = 2 * TITLE + height + GAP + TITLE
    _legend(draw, font, GAP, y)
    sheet.save(path, "PNG")


def rgb_image(planes: Sequence[Plane], bit_depth: int) -> Image.Image:
    """Planar 4:2:0 code values as FFmpeg converts them."""
    image: Image.Image = frame_of(planes, bit_depth).to_image()  # type: ignore[no-untyped-call]
    return image


def residual_map(planes: Sequence[Plane], original: Sequence[Plane], shift: int) -> Image.Image:
    """|planes - original| of luma as a heat map; shift: bit depth above 8."""
    error = np.abs(planes[0].astype(np.int32) - original[0].astype(np.int32)) >> shift
    return Image.fromarray(_heat(np.minimum(error / RESIDUAL_PEAK, 1.0)))


def _heat(value: NDArray[np.float64]) -> NDArray[np.uint8]:
    """0..1 to black, red, yellow, white."""
    parts = [np.clip(3 * value - i, 0, 1) for i in range(3)]
    return (np.stack(parts, -1) * 255).astype(np.uint8)


def _legend(
    draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, x: int, y: int
) -> None:
    draw.text((x, y), "luma residuals, in code values:", (235, 235, 235), font)
    ramp = _heat(np.linspace(0, 1, 160)[None, :])[0]
    for i, color in enumerate(ramp):
        draw.line((x + i, y + 22, x + i, y + 36), tuple(int(c) for c in color))
    draw.text((x, y + 40), "0", (235, 235, 235), font)
    draw.text((x + 130, y + 40), f"{RESIDUAL_PEAK}+", (235, 235, 235), font)
