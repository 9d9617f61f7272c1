# SPDX-License-Identifier: LGPL-2.1-or-later
"""One step of training of `quality`: the paper's, on the samples of the family.

Charbonnier between the picture and its original. With the recurrence a reference is in part of the
samples the middle of the target's run, as the network itself enhances it now.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .losses import charbonnier
from .samples import Batch
from .step import TrainingStep


class QualityStep(TrainingStep):
    """Of kind ``quality``."""

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """``loss``, and ``gain`` in dB over the target as it came, whatever part of the training
        is done."""
        pictures = self._seen(batch)
        made = self._made(pictures, batch["side"])
        original, loss = batch["originals"][:, 0], self.loss
        return {
            "loss": charbonnier(made, original, loss.epsilon, loss.chroma, loss.space, self.border),
            "gain": self.luma_gain(made, pictures[:, 0], original),
        }

    def _made(self, pictures: Tensor, side: Tensor) -> Tensor:
        model: Any = self.model
        with self.cast():
            return model(pictures, side)

    @torch.no_grad()
    def _seen(self, batch: Batch) -> Tensor:
        """The pictures; enhanced references made by the network as it is now."""
        pictures = batch["pictures"]
        if "recurrent" not in batch:
            return pictures
        rows = batch["recurrent"].nonzero()[:, 0]
        if len(rows) == 0:
            return pictures
        with self.as_it_is():
            made = self._made(batch["middle"][rows], batch["middle_side"][rows])
        pictures = pictures.clone()
        pictures[rows, batch["recurrent"][rows]] = made.clamp(0.0, 1.0).to(pictures.dtype)
        return pictures
