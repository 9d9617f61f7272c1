# SPDX-License-Identifier: LGPL-2.1-or-later
"""One step of training of `quality`: the paper's, on the samples of the family.

Charbonnier between the picture and its original. With the recurrence a reference is in part of the
samples the middle of the target's run, as the network itself enhances it now.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .config import Loss
from .losses import charbonnier
from .samples import Batch


class QualityStep(nn.Module):
    """One forward pass of training, as a module, so that DDP sees every gradient."""

    def __init__(
        self, model: nn.Module, amp: torch.dtype | None, device: str, loss: Loss, border: int
    ) -> None:
        super().__init__()
        self.model = model
        self.amp = amp
        self.device = device
        self.loss = loss
        self.border = border

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """``loss``, and ``gain`` in dB over the target as it came, whatever part of the training
        is done."""
        pictures = self._seen(batch)
        made = self._made(pictures, batch["side"])
        original, loss = batch["originals"][:, 0], self.loss
        b = self.border // 2
        inner = (slice(None), slice(0, 4), slice(b, -b or None), slice(b, -b or None))
        with torch.no_grad():
            ours, theirs = (
                (x[inner].float() - original[inner]).square().mean((1, 2, 3)).clamp(min=1e-10)
                for x in (made, pictures[:, 0])
            )
        return {
            "loss": charbonnier(made, original, loss.epsilon, loss.chroma, loss.space, self.border),
            "gain": (10.0 * torch.log10(theirs / ours)).mean(),
        }

    def _made(self, pictures: Tensor, side: Tensor) -> Tensor:
        model: Any = self.model
        with torch.autocast(self.device, self.amp or torch.bfloat16, enabled=bool(self.amp)):
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
        model = self.model
        was = model.training
        model.eval()
        made = self._made(batch["middle"][rows], batch["middle_side"][rows])
        model.train(was)
        pictures = pictures.clone()
        pictures[rows, batch["recurrent"][rows]] = made.clamp(0.0, 1.0).to(pictures.dtype)
        return pictures
