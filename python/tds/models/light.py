# SPDX-License-Identifier: LGPL-2.1-or-later
"""`fast` and `standard`: motion by arithmetic, fusion by a small network.

The references' pixels are warped at full size (so sub-sample detail survives), with motion
found at the LR size by :class:`~tds.models.motion.MotionSearch` and refined at full size where
the network is to spend that. No one way to find motion is the best one everywhere: ``standard``
warps each reference by several hypotheses of it, and the network weighs them. Everything the
network then sees is unshuffled to cells of 4x4 luma samples, and it answers with

* how much of each warped reference to take, for each sample (a gate), and
* a residual,

over the bicubic up-sampled target. With all gates and residuals at zero, as it starts, the
result is bicubic: a reference that does not fit is turned off, never trusted by default.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tds.models.family import FusionBlock, Settle, finer, grid_of
from tds.models.motion import MotionSearch, StraightSearch, warp, window_sum
from tds.models.resample import BicubicDown, BicubicUp, luma_of, pack

CELL = 4  # luma samples a side of what one position of the network stands for


class LightEnhancer(nn.Module):
    """Packed 4:2:0 in, packed 4:2:0 out; see docs/model.md for the methods' contract.

    ``channels`` and ``blocks`` (of ``convolutions`` each) size the network. ``full_search``
    adds a level of the motion search at full size. ``hypotheses`` is 1, or 4 (with
    ``full_search``): the motion found for each reference by itself; a straight motion through
    both, refined for each by itself; the straight motion as it is; and the motion found at the
    LR size refined with small windows instead of large ones, where it changes within those.
    ``settle`` (without ``full_search``) lets the motion settle at full size, on cells of 4x4:
    radii of its steps, in cells.
    """

    def __init__(
        self,
        scale: int = 2,
        channels: int = 44,
        blocks: int = 3,
        convolutions: int = 1,
        full_search: bool = False,
        last_iterations: int = 2,
        last_passes: int = 1,
        hypotheses: int = 1,
        settle: tuple[int, ...] | list[int] = (),
    ) -> None:
        super().__init__()
        if scale not in (2, 4):
            raise ValueError(f"scale is 2 or 4, not {scale}")
        if hypotheses not in ((1, 4) if full_search else (1,)):
            raise ValueError(f"hypotheses is 1 or 4, and 4 needs full_search; not {hypotheses}")
        if settle and full_search:
            raise ValueError("settle is for motion of the LR size, not beside full_search")
        self.scale = scale
        self.cell = CELL
        self.settles = len(settle) > 0
        self.settle = Settle(settle or [1])  # scripting knows no list without entries
        self.full_search = full_search
        self.hypotheses = hypotheses
        self.up = BicubicUp(scale)
        self.down = BicubicDown(scale)
        self.motion = MotionSearch(
            levels=5 if scale == 2 else 4,
            radius=7 if scale == 2 else 9,
            match=5 if scale == 2 else 7,
            last_iterations=last_iterations,
            last_passes=last_passes,
        )
        wide = 14 if scale == 2 else 28
        self.refine_full = MotionSearch(radius=wide, match=wide)
        self.refine_small = MotionSearch(
            radius=5 if scale == 2 else 14, match=4 if scale == 2 else 11
        )
        self.straight = StraightSearch(radius=5 if scale == 2 else 9, match=4 if scale == 2 else 7)
        lr = (CELL // scale) ** 2
        inputs = hypotheses * 2 * (16 + 8 + 1) + lr + 2
        self.side = nn.Linear(5, channels)
        self.head = nn.Conv2d(inputs, channels, 1)
        self.body = nn.Sequential(*[FusionBlock(channels, convolutions) for _ in range(blocks)])
        self.tail = nn.Conv2d(2 * channels, (2 * hypotheses + 1) * (16 + 8), 1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.side.weight)
        nn.init.zeros_(self.side.bias)

    @torch.jit.unused
    def alignment(self) -> dict[str, object]:
        """All that ``align`` depends on: equal for networks that may share aligned samples."""
        full = self.refine_full.settings() if self.full_search else None
        found = {"scale": self.scale, "motion": self.motion.settings(), "full": full}
        if self.settles:
            found["settle"] = self.settle.radii
        if self.hypotheses > 1:
            found["hypotheses"] = self.hypotheses
            found["straight"] = self.straight.settings()
            found["small"] = self.refine_small.settings()
        return found

    # -- what is computed once for a reference

    def planes(self, picture: Tensor) -> list[Tensor]:
        luma = luma_of(picture)
        # The search compares at the target's size, in float32 whatever the network runs in.
        return [luma, picture[:, 4:6], self.down(luma.float())]

    @torch.jit.export
    def reference(self, picture: Tensor) -> list[Tensor]:
        """``[B, 6, H/2, W/2]`` -> luma, chroma, and luma at the target's size."""
        return self.planes(picture)

    # -- alignment: nothing here is learned

    def flows(
        self, first: list[Tensor], target: Tensor, last: list[Tensor], side: Tensor
    ) -> list[Tensor]:
        """The hypotheses of motion at full size, each ``[2B, 2, H, W]``: for the first
        reference, then for the last."""
        k = float(self.scale)
        luma = luma_of(target).float()
        both = torch.cat([luma, luma], 0)
        references = torch.cat([first[2], last[2]], 0)
        flow = self.motion(both, references)
        if self.settles:
            many = self.cell // self.scale  # LR samples a side of a cell
            cells = F.avg_pool2d(flow, many) * (1.0 / many)
            # As below: the reference loses what the target cannot show.
            up = self.up(luma)
            settled = self.settle(up, self.up(references), cells, grid_of(up))
            return [finer(settled, self.cell)]
        full = F.interpolate(flow, scale_factor=k, mode="bilinear", align_corners=False) * k
        if not self.full_search:
            return [full]
        up = self.up(luma)
        up = torch.cat([up, up], 0)
        # The reference loses what the target cannot show, or it would be matched to noise.
        low = self.up(references)
        if self.hypotheses == 1:
            return [self.refine_full.refine(up, low, full, 1, 1)]
        position = side[:, 2:3, None, None].float()
        straight = self.straight(luma, first[2], last[2], flow, position)
        straight = F.interpolate(straight, scale_factor=k, mode="bilinear", align_corners=False) * k
        # Through one picture that stands for both there is no motion.
        two = ((side[:, 0:1] > 0) & (side[:, 1:2] > 0))[:, :, None, None]
        straight = torch.where(torch.cat([two, two], 0), straight, full)
        return [
            self.refine_full.refine(up, low, full, 1, 1),
            self.refine_full.refine(up, low, straight, 1, 1),
            straight,
            self.refine_small.refine(up, low, full, 2, 2),
        ]

    def align(
        self, first: list[Tensor], target: Tensor, last: list[Tensor], side: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Warps both references onto the target: each ``[B, 6 hypotheses, H/2, W/2]``, packed
        4:2:0 of each hypothesis in turn."""
        b = target.shape[0]
        references = torch.cat([first[0], last[0]], 0)
        chroma = torch.cat([first[1], last[1]], 0)
        aligned: list[Tensor] = []
        for full in self.flows(first, target, last, side):
            moved = warp(references, full, True)
            colour = warp(chroma, F.avg_pool2d(full, 2) * 0.5, False)
            aligned.append(pack(moved, colour))
        every = torch.cat(aligned, 1)
        return every[:b], every[b:]

    # -- fusion: all that is learned

    def fuse(self, first: Tensor, target: Tensor, last: Tensor, side: Tensor) -> Tensor:
        """The aligned references and the target -> the picture; all packed 4:2:0."""
        low = luma_of(target)
        up = pack(self.up(low), self.up(target[:, 4:6]))
        found: list[Tensor] = []  # what each reference, by each hypothesis, has over bicubic
        seen: list[Tensor] = []
        for h in range(self.hypotheses):
            a = first[:, 6 * h : 6 * h + 6] - up
            b = last[:, 6 * h : 6 * h + 6] - up
            # How badly each reference, down-sampled, misses the target: where not to trust it.
            differences = torch.cat([luma_of(a), luma_of(b)], 1)
            miss = F.avg_pool2d(differences, self.scale).abs()
            if self.scale < self.cell:
                miss = F.avg_pool2d(miss, self.cell // self.scale)
            miss = window_sum(miss, 1)
            a, b = self.cells(a), self.cells(b)
            found += [a, b]
            seen += [a * 4.0, b * 4.0, miss * 8.0]
        seen += [
            F.pixel_unshuffle(low, self.cell // self.scale) - 0.5,
            self.chroma_cells(target[:, 4:6]) - 0.5,
        ]
        qp = side[:, 3:5]
        known = (qp >= 0).to(side.dtype)
        s = torch.cat([side[:, 0:2], side[:, 2:3] - 0.5, known * (qp - 32.0) / 16.0], 1)
        x = torch.cat(seen, 1).contiguous(memory_format=torch.channels_last)
        head = F.relu(self.head(x) + self.side(s.to(x.dtype))[:, :, None, None])
        body = self.body(head)
        out = self.tail(torch.cat([head, body], 1))
        gates, residual = out[:, :-24], out[:, -24:]
        change = residual * 0.25
        for i, reference in enumerate(found):
            change = change + gates[:, 24 * i : 24 * i + 24] * reference
        luma = F.pixel_shuffle(change[:, :16], self.cell)
        chroma = F.pixel_shuffle(change[:, 16:], self.cell // 2)
        return up + pack(luma, chroma)

    def cells(self, packed: Tensor) -> Tensor:
        """``[B, 6, H/2, W/2]`` -> ``[B, 24, H/4, W/4]``: 16 luma, 4 Cb, 4 Cr."""
        return torch.cat(
            [F.pixel_unshuffle(luma_of(packed), self.cell), F.pixel_unshuffle(packed[:, 4:6], 2)], 1
        )

    def chroma_cells(self, chroma: Tensor) -> Tensor:
        """LR chroma on the grid of cells: as it is for k = 2, up-sampled for k = 4."""
        if self.scale == 4:
            return F.interpolate(chroma, scale_factor=2.0, mode="nearest")
        return chroma

    @torch.jit.export
    def enhance(
        self, first: list[Tensor], target: Tensor, last: list[Tensor], side: Tensor
    ) -> Tensor:
        """Features of both references and the target -> the picture."""
        a, b = self.align(first, target, last, side)
        return self.fuse(a, target, b, side)

    def forward(self, first: Tensor, target: Tensor, last: Tensor, side: Tensor) -> Tensor:
        """Both references and the target, packed 4:2:0, and ``side [B, 5]`` -> the picture."""
        return self.enhance(self.reference(first), target, self.reference(last), side)
