# SPDX-License-Identifier: LGPL-2.1-or-later
"""`fast` and `standard`: motion by arithmetic, fusion by a small network.

The references' pixels are warped at full size (so sub-sample detail survives), with motion
found at the LR size by :class:`~tds.models.motion.MotionSearch`. Everything the network then
sees is unshuffled to cells of 4x4 luma samples, and it answers with

* how much of each warped reference to take, for each sample (a gate), and
* a residual,

over the bicubic up-sampled target. With all gates and residuals at zero, as it starts, the
result is bicubic: a reference that does not fit is turned off, never trusted by default.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tds.models.motion import MotionSearch, warp, window_sum
from tds.models.resample import BicubicDown, BicubicUp, luma_of, pack

CELL = 4  # luma samples a side of what one position of the network stands for


class FusionBlock(nn.Module):
    """``x + conv(relu(conv(x)))``, or with one convolution ``x + relu(conv(x))``."""

    def __init__(self, channels: int, convolutions: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second: nn.Module = (
            nn.Conv2d(channels, channels, 3, padding=1) if convolutions == 2 else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(x)))


class LightEnhancer(nn.Module):
    """Packed 4:2:0 in, packed 4:2:0 out; see docs/model.md for the methods' contract.

    ``channels`` and ``blocks`` (of ``convolutions`` each) size the network. ``full_search``
    adds a level of the motion search at full size.
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
    ) -> None:
        super().__init__()
        if scale not in (2, 4):
            raise ValueError(f"scale is 2 or 4, not {scale}")
        self.scale = scale
        self.cell = CELL
        self.full_search = full_search
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
        lr = (CELL // scale) ** 2
        inputs = 2 * (16 + 8 + 1) + lr + 2
        self.side = nn.Linear(5, channels)
        self.head = nn.Conv2d(inputs, channels, 1)
        self.body = nn.Sequential(*[FusionBlock(channels, convolutions) for _ in range(blocks)])
        self.tail = nn.Conv2d(2 * channels, 3 * (16 + 8), 1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.side.weight)
        nn.init.zeros_(self.side.bias)

    @torch.jit.unused
    def alignment(self) -> dict[str, object]:
        """All that ``align`` depends on: equal for networks that may share aligned samples."""
        full = self.refine_full.settings() if self.full_search else None
        return {"scale": self.scale, "motion": self.motion.settings(), "full": full}

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

    def align(
        self, first: list[Tensor], target: Tensor, last: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Warps both references onto the target; each ``[B, 6, H/2, W/2]``, packed."""
        b = target.shape[0]
        luma = luma_of(target).float()
        flow = self.motion(torch.cat([luma, luma], 0), torch.cat([first[2], last[2]], 0))
        references = torch.cat([first[0], last[0]], 0)
        chroma = torch.cat([first[1], last[1]], 0)
        k = float(self.scale)
        full = F.interpolate(flow, scale_factor=k, mode="bilinear", align_corners=False) * k
        if self.full_search:
            up = self.up(luma)
            # The reference loses what the target cannot show, or it would be matched to noise.
            low = self.up(torch.cat([first[2], last[2]], 0))
            full = self.refine_full.refine(torch.cat([up, up], 0), low, full, 1, 1)
        moved = warp(references, full, True)
        half = F.avg_pool2d(full, 2) * 0.5
        colour = warp(chroma, half, False)
        return pack(moved[:b], colour[:b]), pack(moved[b:], colour[b:])

    # -- fusion: all that is learned

    def fuse(self, first: Tensor, target: Tensor, last: Tensor, side: Tensor) -> Tensor:
        """The aligned references and the target -> the picture; all packed 4:2:0."""
        low = luma_of(target)
        up = pack(self.up(low), self.up(target[:, 4:6]))
        a = first - up
        b = last - up
        # How badly each reference, down-sampled, misses the target: where not to trust it.
        differences = torch.cat([luma_of(a), luma_of(b)], 1)
        miss = F.avg_pool2d(differences, self.scale).abs()
        if self.scale < self.cell:
            miss = F.avg_pool2d(miss, self.cell // self.scale)
        miss = window_sum(miss, 1)
        cells = [
            self.cells(a) * 4.0,
            self.cells(b) * 4.0,
            miss * 8.0,
            F.pixel_unshuffle(low, self.cell // self.scale) - 0.5,
            self.chroma_cells(target[:, 4:6]) - 0.5,
        ]
        qp = side[:, 3:5]
        known = (qp >= 0).to(side.dtype)
        s = torch.cat([side[:, 0:2], side[:, 2:3] - 0.5, known * (qp - 32.0) / 16.0], 1)
        x = torch.cat(cells, 1).contiguous(memory_format=torch.channels_last)
        head = F.relu(self.head(x) + self.side(s.to(x.dtype))[:, :, None, None])
        body = self.body(head)
        out = self.tail(torch.cat([head, body], 1))
        gate_a, gate_b, residual = out[:, :24], out[:, 24:48], out[:, 48:]
        change = gate_a * self.cells(a) + gate_b * self.cells(b) + residual * 0.25
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
        a, b = self.align(first, target, last)
        return self.fuse(a, target, b, side)

    def forward(self, first: Tensor, target: Tensor, last: Tensor, side: Tensor) -> Tensor:
        """Both references and the target, packed 4:2:0, and ``side [B, 5]`` -> the picture."""
        return self.enhance(self.reference(first), target, self.reference(last), side)
