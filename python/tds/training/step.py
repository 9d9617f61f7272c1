# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the steps of all kinds of networks share: one forward pass of training, as a module, so
that DDP sees every gradient."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .config import Loss


class TrainingStep(nn.Module):
    """amp: what is computed in under autocast, None: float32. border: luma samples at each side
    of a cut that are not compared. ``forward`` takes a batch and the part of the whole training
    that is done, and gives ``loss`` and ``gain`` in dB, with what else is shown."""

    def __init__(
        self, model: nn.Module, amp: torch.dtype | None, device: str, loss: Loss, border: int
    ) -> None:
        super().__init__()
        self.model = model
        self.amp = amp
        self.device = device
        self.loss = loss
        self.border = border

    def cast(self) -> torch.autocast:
        return torch.autocast(self.device, self.amp or torch.bfloat16, enabled=bool(self.amp))

    @contextlib.contextmanager
    def as_it_is(self) -> Iterator[None]:
        """The network as it is now, for references that it makes itself."""
        was = self.model.training
        self.model.eval()
        try:
            yield
        finally:
            self.model.train(was)

    @torch.no_grad()
    def luma_gain(self, made: Tensor, before: Tensor, want: Tensor) -> Tensor:
        """Mean over the batch of luma PSNR above what was there before; all ``[B, 6, h, w]``."""
        b = self.border // 2
        inner = (slice(None), slice(0, 4), slice(b, -b or None), slice(b, -b or None))
        ours, theirs = (
            (x[inner].float() - want[inner]).square().mean((1, 2, 3)).clamp(min=1e-10)
            for x in (made, before)
        )
        return (10.0 * torch.log10(theirs / ours)).mean()
