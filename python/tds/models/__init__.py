# SPDX-License-Identifier: LGPL-2.1-or-later
"""The enhancement networks, their weights, and how a model is found by name.

Importing this package does not import torch; what needs it imports it when called.
"""

from .registry import (
    Found,
    ModelInfo,
    available,
    choose,
    default,
    find,
    load,
    metadata,
    unusable,
)

__all__ = [
    "Found",
    "ModelInfo",
    "available",
    "choose",
    "default",
    "find",
    "load",
    "metadata",
    "unusable",
]
