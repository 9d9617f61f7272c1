# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes a network from its settings, as they stand in a training configuration."""

from __future__ import annotations

from typing import Any

from torch import nn

from tds.models.family import FamilyEnhancer
from tds.models.light import LightEnhancer

# What the names mean; a configuration may say more or otherwise.
PRESETS: dict[str, dict[str, Any]] = {
    "fast": {
        "kind": "light",
        "channels": 44,
        "blocks": 3,
        "convolutions": 1,
        "settle": [2, 2],
    },
    "standard": {
        "kind": "light",
        "channels": 64,
        "blocks": 5,
        "convolutions": 2,
        "full_search": True,
        "hypotheses": 4,
    },
    # The paper's modules: on cells of 2x2 with the motion of `family-standard`, and a third of that
    # with the motion of `family-fast`; and its own network, of full-size features.
    "quality": {
        "kind": "quality",
        "channels": 40,
        "groups": 4,
        "heads": 8,
        "front_blocks": 1,
        "back_blocks": 6,
        "iqem_layers": 8,
    },
    "quality-tsa": {  # the paper's "without MTSA"
        "kind": "quality",
        "aggregation": "tsa",
        "channels": 40,
        "groups": 4,
        "heads": 8,
        "front_blocks": 1,
        "back_blocks": 6,
        "iqem_layers": 8,
    },
    "quality-small": {
        "kind": "quality",
        "channels": 24,
        "groups": 2,
        "heads": 4,
        "front_blocks": 1,
        "back_blocks": 2,
        "iqem_layers": 5,
        "features": [8, 16, 16],
        "motion": 16,
        "hidden": 8,
        "steps": 1,
        "refinements": 1,
    },
    "quality-paper": {"kind": "paper"},
    # One family, three sizes; `references` and `scale` are the configuration's.
    "family-fast": {
        "kind": "family",
        "features": [8, 16, 16],
        "motion": 16,
        "hidden": 8,
        "steps": 1,
        "refinements": 1,
        "heads": 16,
        "channels": 32,
        "blocks": 3,
        "convolutions": 1,
    },
    "family-standard": {
        "kind": "family",
        "features": [16, 16, 16],
        "motion": 24,
        "hidden": 16,
        "steps": 2,
        "refinements": 2,
        "heads": 24,
        "channels": 48,
        "blocks": 4,
        "convolutions": 2,
    },
    "family-large": {
        "kind": "family",
        "features": [24, 32, 32],
        "motion": 48,
        "hidden": 24,
        "steps": 2,
        "refinements": 2,
        "heads": 48,
        "channels": 96,
        "blocks": 8,
        "convolutions": 2,
    },
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

    ``network`` has ``preset`` or ``kind`` (``family``, ``light``, ``paper`` or ``quality``),
    ``scale``, and that class's own arguments. Raises ValueError for what does not exist.
    """
    given = settings(network)
    kind = given.pop("kind", None)
    cls: type[nn.Module]
    if kind == "family":
        cls = FamilyEnhancer
    elif kind == "light":
        cls = LightEnhancer
    elif kind == "quality":
        from tds.models.quality import QualityEnhancer

        cls = QualityEnhancer
    elif kind == "paper":
        from tds.models.paper import PaperEnhancer

        cls = PaperEnhancer
    else:
        raise ValueError(f"no network kind {kind!r}; there is: family, light, paper, quality")
    try:
        return cls(**given)
    except TypeError as error:
        raise ValueError(f"network settings do not fit kind {kind!r}: {error}") from None
