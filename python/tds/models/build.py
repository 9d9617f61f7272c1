# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes a network from its settings, as they stand in a training configuration."""

from __future__ import annotations

from typing import Any

from torch import nn

from tds.models.light import LightEnhancer

# What the names mean; a configuration may say more or otherwise.
PRESETS: dict[str, dict[str, Any]] = {
    "fast": {"kind": "light", "channels": 44, "blocks": 3, "convolutions": 1},
    "standard": {
        "kind": "light",
        "channels": 64,
        "blocks": 5,
        "convolutions": 2,
        "full_search": True,
        "hypotheses": 4,
    },
    "quality": {"kind": "quality"},
}


def settings(network: dict[str, Any]) -> dict[str, Any]:
    """The full settings: those of ``preset``, if named, with the others over them."""
    given = dict(network)
    preset = given.pop("preset", None)
    if preset is None:
        return given
    if preset not in PRESETS:
        raise ValueError(f"no network preset {preset!r}; there is: {', '.join(PRESETS)}")
    return {**PRESETS[preset], **given}


def build(network: dict[str, Any]) -> nn.Module:
    """A network with fresh weights.

    ``network`` has ``preset`` or ``kind`` (``light`` or ``quality``), ``scale``, and that
    class's own arguments. Raises ValueError for what does not exist.
    """
    given = settings(network)
    kind = given.pop("kind", None)
    if kind == "light":
        cls: type[nn.Module] = LightEnhancer
    elif kind == "quality":
        from tds.models.quality import QualityEnhancer

        cls = QualityEnhancer
    else:
        raise ValueError(f"no network kind {kind!r}; there is: light, quality")
    try:
        return cls(**given)
    except TypeError as error:
        raise ValueError(f"network settings do not fit kind {kind!r}: {error}") from None
