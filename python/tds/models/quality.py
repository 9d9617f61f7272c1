# SPDX-License-Identifier: LGPL-2.1-or-later
"""`quality`: the paper's modules at a size that can be trained and used.

The paper's network (paper.py) works on full-size features, 29 M multiply-adds a luma sample. Here
the same modules, in the same order, work on cells of 2x2 luma samples, which is what packed 4:2:0
is. Contract 2 of docs/model.md. What else differs from the paper's:

* references are aligned beforehand: the family's motion (family.py, whose trained weights it
  starts from) moves their pixels at full size, and PCD's deformable convolutions, whose offsets
  are thereby offsets around that flow, mend what it missed. Alignment that learns motion from
  nothing needs far more training (docs/training.md);
* the target's features are not aligned with themselves;
* the network works on Y, Cb and Cr as they are, and is told what is known of each picture: how far
  away it is, QPs, whether it was enhanced;
* with ``gates``, what ends it also says how much of each moved reference to take, as the family's
  does, beside the residual.

The last layer starts at zero: an untrained network gives the target back, exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tds.models.family import CODED, FamilyEnhancer, coded
from tds.models.paper import IQEM, MTSA, PCD, TSA, ResidualBlock, _lrelu

AGGREGATIONS = ("mtsa", "tsa", "none")
BOUNDARIES = ["full-before", "full-after"]
"""The slots of the paper's two references, which the recurrence needs."""

FUSION = ("about", "target_about", "head", "target_head", "merge", "body", "tail")
"""Parts of the family's networks that are not their motion."""


class Motion(FamilyEnhancer):
    """The family's motion without its fusion."""

    enhance = None  # type: ignore[assignment]

    def __init__(
        self,
        references: list[str],
        features: tuple[int, int, int] | list[int],
        motion: int,
        hidden: int,
        steps: int,
        refinements: int,
        settle: tuple[int, ...] | list[int],
    ) -> None:
        super().__init__(
            references, 1, features, motion, hidden, steps, refinements, settle, 1, 1, 0
        )
        for name in FUSION:
            delattr(self, name)

    def forward(  # type: ignore[override]
        self, target: Tensor, references: Tensor, own: list[Tensor], theirs: list[Tensor]
    ) -> Tensor:
        """The target, the references stacked in the batch, and the features of the target
        (repeated for each of them) and of the references -> the references, moved."""
        levels: list[Tensor] = []
        flow, _ = self.flow(own, theirs, levels)
        return self.move(target, references, flow)


class Concatenation(nn.Module):
    """No attention at all, for the ablation: frames side by side, fused by one convolution."""

    def __init__(self, channels: int, frames: int = 3) -> None:
        super().__init__()
        self.fuse = nn.Conv2d(frames * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return _lrelu(self.fuse(x.flatten(1, 2)))


def aggregation_of(name: str, channels: int, heads: int) -> nn.Module:
    """What makes one of three aligned frames' features: one of AGGREGATIONS."""
    if name == "mtsa":
        return MTSA(channels, heads)
    return TSA(channels) if name == "tsa" else Concatenation(channels)


class QualityEnhancer(nn.Module):
    """Contract 2 of docs/model.md.

    references: two slots. scale: k of the targets. aggregation: ``mtsa``, ``tsa`` (EDVR's own:
    the paper's "without MTSA") or ``none``. iqem: without it one convolution ends the network, as
    EDVR's does. recurrence: the middle of a run is enhanced first, and is a reference of the others
    (the paper's SRFR); a fact for whoever trains and runs it, no layer. gates: see above.
    channels, groups (of deformable convolutions), heads (of attention), front_blocks,
    back_blocks, iqem_layers: the network's. features, motion, hidden, steps, refinements, settle:
    the motion's, as in FamilyEnhancer.
    """

    def __init__(
        self,
        references: tuple[str, ...] | list[str] = ("full-before", "full-after"),
        scale: int = 2,
        aggregation: str = "mtsa",
        iqem: bool = True,
        recurrence: bool = True,
        gates: bool = True,
        channels: int = 48,
        groups: int = 4,
        heads: int = 8,
        front_blocks: int = 1,
        back_blocks: int = 4,
        iqem_layers: int = 6,
        features: tuple[int, int, int] | list[int] = (16, 16, 16),
        motion: int = 24,
        hidden: int = 16,
        steps: int = 2,
        refinements: int = 2,
        settle: tuple[int, ...] | list[int] = (2, 2),
    ) -> None:
        super().__init__()
        if scale not in (1, 2, 4):
            raise ValueError(f"scale is 1, 2 or 4, not {scale}")
        if len(references) != 2:
            raise ValueError(f"there are 2 references, not {len(references)}")
        if recurrence and (list(references) != BOUNDARIES or scale == 1):
            raise ValueError(
                "recurrence is for pairs, with the references full-before and full-after"
            )
        if aggregation not in AGGREGATIONS:
            raise ValueError(f"aggregation is {', '.join(AGGREGATIONS)}, not {aggregation!r}")
        if channels % groups or channels % heads:
            raise ValueError(f"channels ({channels}) are a multiple of groups and of heads")
        self.scale = scale
        self.recurrence = recurrence
        self.gates = gates
        self.motion = Motion(list(references), features, motion, hidden, steps, refinements, settle)
        c = channels
        self.first = nn.Conv2d(6, c, 3, padding=1)
        self.about = nn.Linear(CODED, c)
        self.front = nn.Sequential(*[ResidualBlock(c) for _ in range(front_blocks)])
        self.l2_down = nn.Conv2d(c, c, 3, stride=2, padding=1)
        self.l2_conv = nn.Conv2d(c, c, 3, padding=1)
        self.l3_down = nn.Conv2d(c, c, 3, stride=2, padding=1)
        self.l3_conv = nn.Conv2d(c, c, 3, padding=1)
        self.pcd = PCD(c, groups)
        self.fusion = aggregation_of(aggregation, c, heads)
        self.back = nn.Sequential(*[ResidualBlock(c) for _ in range(back_blocks)])
        outputs = 18 if gates else 6
        last = nn.Conv2d(c, outputs, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.iqem: nn.Module = IQEM(c, c, iqem_layers, outputs) if iqem else last

    @torch.jit.export
    def features(self, picture: Tensor, side: Tensor) -> list[Tensor]:
        """``[B, 6, H/2, W/2]``, ``side [B, 4]`` -> what motion is found from. The others depend on
        how a picture is moved, and so on the target."""
        return self.motion.features(picture, side)

    def levels(self, pictures: Tensor, about: Tensor) -> list[Tensor]:
        """Pictures and rows of facts -> features on cells of 2x2, 4x4 and 8x8."""
        x = self.first(pictures - 0.5) + self.about(about)[:, :, None, None]
        l1 = self.front(_lrelu(x))
        l2 = _lrelu(self.l2_conv(_lrelu(self.l2_down(l1))))
        l3 = _lrelu(self.l3_conv(_lrelu(self.l3_down(l2))))
        return [l1, l2, l3]

    def fuse(self, target: Tensor, moved: Tensor, side: Tensor) -> Tensor:
        """The target, the moved references (stacked in the batch) and ``side`` -> the picture."""
        b = target.shape[0]
        kind = self.first.weight.dtype
        about = coded(side).to(kind)
        first, last = moved[:b], moved[b:]
        # In the order of time.
        pictures = torch.stack([first, target.to(moved.dtype), last], 1).flatten(0, 1)
        rows = torch.stack([about[:, 1], about[:, 0], about[:, 2]], 1).flatten(0, 1)
        frames: list[Tensor] = []
        targets: list[Tensor] = []
        own: list[Tensor] = []
        for level in self.levels(pictures.to(kind), rows):
            each = level.unflatten(0, [b, 3])
            frames.append(torch.cat([each[:, 0], each[:, 2]], 0))
            targets.append(torch.cat([each[:, 1], each[:, 1]], 0))
            own.append(each[:, 1])
        aligned = self.pcd(frames, targets)
        x = self.fusion(torch.stack([aligned[:b], own[0], aligned[b:]], 1))
        out = self.iqem(self.back(x)).float()
        change = out[:, :6] * 0.25
        if self.gates:
            # A stand-in for a slot that is not present adds nothing.
            present = side[:, :, 0, None, None, None].to(moved.dtype)
            base = target.to(moved.dtype)
            change = change + out[:, 6:12] * (first - base) * present[:, 1]
            change = change + out[:, 12:] * (last - base) * present[:, 2]
        change = change * side[:, 0, 6].to(change.dtype)[:, None, None, None]
        return target + change.to(target.dtype)

    @torch.jit.export
    def enhance(
        self,
        target: Tensor,
        target_features: list[Tensor],
        references: list[Tensor],
        reference_features: list[list[Tensor]],
        side: Tensor,
    ) -> Tensor:
        """The target, the references and the features of all, ``side [B, 3, 7]`` -> the picture.
        See docs/model.md."""
        own: list[Tensor] = []
        theirs: list[Tensor] = []
        for i in range(len(target_features)):
            own.append(torch.cat([target_features[i]] * 2, 0))
            theirs.append(torch.cat([f[i] for f in reference_features], 0))
        moved = self.motion(target, torch.cat(references, 0), own, theirs)
        return self.fuse(target, moved, side)

    def forward(self, pictures: Tensor, side: Tensor) -> Tensor:
        """All pictures ``[B, 3, 6, H/2, W/2]``, the target first, and ``side [B, 3, 7]`` -> the
        picture ``[B, 6, H/2, W/2]``."""
        found = [self.features(pictures[:, i], side[:, i, 2:6]) for i in range(3)]
        references = [pictures[:, 1], pictures[:, 2]]
        return self.enhance(pictures[:, 0], found[0], references, found[1:], side)
