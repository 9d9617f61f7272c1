# SPDX-License-Identifier: LGPL-2.1-or-later
"""One step of training of the family: motion first, then more and more of the picture.

Motion is taught by how well the *originals* fit when they are warped, on each level by itself,
since the search before a level is not learned through. The picture is compared with its original,
first by magnitude, later by square, and blocks that became worse than the target's count once
more. Streams weigh alike: errors are counted in those of the target's stream.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.family import finer, grid_of, warp
from .samples import Batch
from .step import TrainingStep

LEVELS = (0.3, 0.4, 0.6, 1.0)
"""Weights of the motion's levels: at 1/16, 1/8 and 1/4, and again at 1/4."""

SMOOTH = 0.01
"""Weight of differences between neighbours of the flow at 1/4, where the original has no edge."""


def schedule(progress: float) -> tuple[float, float]:
    """At a part of the whole training (0..1): the motion's weight, of its first, and how much of
    the picture's loss is squared."""
    return max(0.1, 1.0 - 1.2 * progress), min(1.0, max(0.0, (progress - 0.25) * 3.0))


def motion_loss(levels: list[Tensor], originals: Tensor, fits: Tensor, weight: Tensor) -> Tensor:
    """How badly the references' originals, warped, fit the target's.

    levels: flows on the way, ``[R B, 2, h, w]``, in their own samples. originals: ``[B, 1 + R, 6,
    H/2, W/2]``. fits: ``[B, R]``, 0 for references that show nothing of the target's scene.
    weight: ``[B]``, one over the error that the target's stream has.
    """
    count = originals.shape[1] - 1
    half = originals[:, :, :4].mean(2, keepdim=True)
    target = torch.cat([half[:, 0]] * count, 0)
    reference = half[:, 1:].transpose(0, 1).flatten(0, 1)
    each = fits.transpose(0, 1).flatten() * torch.cat([weight.sqrt()] * count, 0)
    total = torch.zeros((), device=originals.device)
    for i, flow in enumerate(levels):
        # Compared at twice the level's size: so it is told of parts of its samples.
        size = (2 * flow.shape[2], 2 * flow.shape[3])
        a, b = (F.adaptive_avg_pool2d(x, size) for x in (target, reference))
        off = warp(b, finer(flow, 2), grid_of(a)) - a
        error = (off.square() + 1e-5).sqrt().mean((1, 2, 3))
        total = total + LEVELS[min(i, len(LEVELS) - 1)] * (error * each).mean()
        if i >= 2:
            cells = F.avg_pool2d(a, 2)
            for dim in (2, 3):
                flat = torch.exp(-20.0 * cells.diff(dim=dim).abs())
                total = total + SMOOTH * (flat * flow.diff(dim=dim).abs()).mean()
    return total


def picture_loss(
    made: Tensor, target: Tensor, original: Tensor, weight: Tensor, squared: float, chroma: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The picture's loss, what blocks are worse than before, and the gain in dB of luma.

    All packed ``[B, 6, h, w]``. weight: as in :func:`motion_loss`. squared: 0..1. chroma: weight
    of Cb and Cr beside luma.
    """
    channels = torch.tensor([1.5] * 4 + [3.0 * chroma] * 2, device=made.device) / (1.0 + chroma)
    channels = channels[:, None, None]
    error = made.float() - original
    square = (error.square() * channels).mean((1, 2, 3)) * weight
    size = ((error.square() + 1e-6).sqrt() * channels).mean((1, 2, 3)) * weight.sqrt()
    # Blocks of 8x8 luma samples.
    ours, theirs = (
        F.avg_pool2d(e[:, :4].square().mean(1, keepdim=True), 4) for e in (error, target - original)
    )
    hinge = (F.relu(ours - theirs).mean((1, 2, 3)) * weight).mean()
    ours, theirs = (e.detach().mean((1, 2, 3)).clamp_min(1e-9) for e in (ours, theirs))
    gain = 10.0 * torch.log10(theirs / ours).mean()
    return squared * square.mean() + (1.0 - squared) * size.mean(), hinge, gain


def judge_loss(judged: Tensor, qp: Tensor) -> tuple[Tensor, Tensor]:
    """How far off what was seen in the pictures is, and the QP's mean absolute error.

    judged: ``[B, 1 + R]`` of :class:`~tds.models.family.Judge`. qp: the same, of their streams.
    """
    off = judged - (qp - 32.0) / 16.0
    # Work that is too strong takes more from a picture than too weak work leaves in it.
    loss = off.clamp_min(0).square() * 1.5 + off.clamp_max(0).square()
    return loss.mean(), 16.0 * off.detach().abs().mean()


class FamilyStep(TrainingStep):
    """Of kind ``family``."""

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """``loss``, and what it is made of; ``gain`` in dB over the target as it came.

        progress: part of the whole training that is done.
        """
        model: Any = self.model
        pictures, side = batch["pictures"], batch["side"]
        weight = 1.0 / batch["error"]
        count = pictures.shape[1] - 1
        with self.cast():
            found = [model.features(pictures[:, i], side[:, i, 2:6]) for i in range(count + 1)]
            own = [torch.cat([own] * count, 0) for own in found[0]]
            theirs = [torch.cat(of, 0) for of in zip(*found[1:], strict=True)]
            levels: list[Tensor] = []
            flow, hidden = model.flow(own, theirs, levels)
            references = pictures[:, 1:].transpose(0, 1).flatten(0, 1)
            moved = model.move(pictures[:, 0], references, flow)
            told = model.told(side, found)
            made = model.fuse(pictures[:, 0], moved, hidden, told, side[:, 0, 6], len(pictures))
        motion = motion_loss(levels, batch["originals"], batch["fits"], weight)
        b = self.border // 2
        made, target, original = (
            x[:, :, b : x.shape[2] - b, b : x.shape[3] - b]
            for x in (made, pictures[:, 0], batch["originals"][:, 0])
        )
        of_motion, squared = schedule(progress)
        picture, hinge, gain = picture_loss(
            made, target, original, weight, squared, self.loss.chroma
        )
        loss = picture + self.loss.hinge * hinge + self.loss.motion * of_motion * motion
        shown = {"gain": gain, "motion": motion.detach(), "hinge": hinge.detach()}
        if model.judges:
            off, shown["qp"] = judge_loss(torch.stack([f[7] for f in found], 1), batch["qp"])
            loss = loss + self.loss.judge * off
        return {"loss": loss, **shown}
