# SPDX-License-Identifier: LGPL-2.1-or-later
"""The fields of settings as keywords, for type checkers and editors.

What they mean is said where the settings are: ``EnhanceSettings``, ``EncodeSettings``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from .codecs import Codec, Config
    from .plan import Boundaries, Plan


Options = Mapping[str, object] | Sequence[tuple[str, object]]
"""An encoder's own options and their values."""


class EnhanceOptions(TypedDict, total=False):
    """Keywords of ``tds.decode`` and ``tds.enhance``: the fields of ``EnhanceSettings``."""

    backend: Literal["auto", "bicubic", "torchscript"]
    model: str | None
    device: str
    precision: Literal["auto", "float32", "float16", "bfloat16"]
    threads: int
    strength: float
    causal: bool
    hr: Literal["auto", "pass", "refine"]
    hr_qp: int
    lr_qp: int


class EncodeOptions(TypedDict, total=False):
    """Keywords of ``tds.encode``: the fields of ``EncodeSettings``."""

    codec: Codec | str | None
    config: Config | Literal["ai", "ldp", "ra"]
    qp: int
    crf: float | None
    group: int
    boundaries: Boundaries | Literal["independent", "shared"]
    scale: Literal[2, 4]
    lr_qp_offset: int
    encoder: str | None
    preset: str | None
    encoder_options: Options
    hr_options: Options
    lr_options: Options
    intra_period: int
    scene_cut: float
    model: str | None
    model_sha256: str | None
    encoder_path: str | None
    encoder_cfg: str | None
    plan: Plan | Literal["auto", "tds", "plain", "plain-enhanced"]
    strength: float | None
    effort: int
    chroma: Literal["auto", "source", "420", "422", "444"]
