# SPDX-License-Identifier: LGPL-2.1-or-later
"""The enhancer family: any picture, made better from the pictures beside it.

One network for LR pictures of pairs, HR pictures of pairs and pictures of plain streams, in
three sizes (``tds.models.build.PRESETS``). Contract 2 of docs/model.md: all pictures come at
full size (LR ones brought up by bicubic), a target with up to R references and a row of facts
for each.

* **Motion** of all references at once. A short search: on luma at 1/16, 1/8 and 1/4 of the size
  every whole displacement in a small range is compared (cost volumes, windows of 3x3 cells), and
  the best is taken softly. On every level a small network then adds what the search missed,
  from its costs and from learned features of both pictures; the last refinements work on cells of
  4x4 luma samples of which they see half-size luma, so that they move by parts of a sample. Taught
  by how well the *originals* fit when they are warped. At last the flow settles: least squares
  on full-size luma, gathered on the cells, where what it finds fits better.
* **Warp** of the references' own pixels, once, at full size.
* **Fusion** on cells of 4x4 luma samples: for each sample how much of each warped reference
  to take (a gate), and a residual, over the target.

Gates and residual start at zero: an untrained network gives the target back, exactly.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tds.models.motion import gradient
from tds.models.resample import luma_of, pack

CELL = 4  # luma samples a side of what one position of the network stands for
FACTS = 7  # columns of a row of `side` (docs/model.md)
CODED = 11  # numbers that the network makes of a row


def coded(side: Tensor) -> Tensor:
    """``[..., 7]`` (docs/model.md) -> ``[..., 11]``, each about -1 to 1."""
    present = side[..., 0:1]
    distance = side[..., 1:2]
    far = distance.abs()
    scale = side[..., 2:3]
    qp = side[..., 4:5]
    known = (qp >= 0).to(side.dtype)
    kind = side[..., 5:6]
    return torch.cat(
        [
            present,
            (distance * 0.25).clamp(-2.0, 2.0),
            1.0 / (far + 1.0),
            (scale == 2).to(side.dtype),
            (scale == 4).to(side.dtype),
            side[..., 3:4],
            known,
            known * (qp - 32.0) / 16.0,
            (kind == 0).to(side.dtype),
            (kind == 1).to(side.dtype),
            (kind == 2).to(side.dtype),
        ],
        -1,
    )


def seen(side: Tensor, judged: Tensor) -> Tensor:
    """``side [B, 1 + R, 7]`` with QPs that nobody told as the pictures show them.

    judged: ``[B, 1 + R]``, (QP - 32) / 16 of each. One for all, since streams have one: the mean
    of the full-size pictures that are present.
    """
    counts = side[..., 0] * (side[..., 2] == 1).to(side.dtype) + 1e-3
    qp = 32.0 + 16.0 * (judged * counts).sum(1, keepdim=True) / counts.sum(1, keepdim=True)
    told = (side[..., 4] >= 0).to(side.dtype)
    qp = torch.lerp(qp.clamp_min(0.0).expand_as(told), side[..., 4], told)
    return torch.cat([side[..., :4], qp[..., None], side[..., 5:]], -1)


def grid_of(like: Tensor) -> tuple[Tensor, Tensor]:
    """For pictures of the size of ``like``: where each sample is, ``[1, 2, H, W]``, and what a
    sample is wide, ``[1, 2, 1, 1]``, both in grid_sample's units, float32."""
    height, width = like.shape[2], like.shape[3]
    ys = torch.linspace(-1.0, 1.0, height, dtype=torch.float32, device=like.device)
    xs = torch.linspace(-1.0, 1.0, width, dtype=torch.float32, device=like.device)
    places = torch.stack([xs[None, :].expand(height, width), ys[:, None].expand(height, width)])
    # Both widths in one operation that copies nothing from the host.
    wide, high = 2.0 / max(width - 1, 1), 2.0 / max(height - 1, 1)
    unit = torch.linspace(wide, high, 2, dtype=torch.float32, device=like.device)
    return places[None], unit.view(1, 2, 1, 1)


def warp(picture: Tensor, flow: Tensor, grid: tuple[Tensor, Tensor], cubic: bool = False) -> Tensor:
    """``picture [B, C, H, W]`` fetched from where ``flow [B, 2, H, W]`` points (x, y, in samples).

    ``grid`` is ``grid_of`` that size. Positions outside take the nearest edge sample. Positions
    are float32 whatever the picture is in: half has not enough bits for one in a large picture.
    """
    return F.grid_sample(
        picture.float(),
        torch.addcmul(grid[0], flow.float(), grid[1]).permute(0, 2, 3, 1),
        mode="bicubic" if cubic else "bilinear",
        padding_mode="border",
        align_corners=True,
    )


def finer(flow: Tensor, factor: int) -> Tensor:
    """A flow on a grid ``factor`` times as fine."""
    up = F.interpolate(flow, scale_factor=float(factor), mode="bilinear", align_corners=False)
    return up * float(factor)


def costs(target: Tensor, reference: Tensor, radius: int) -> Tensor:
    """How badly each displacement fits: ``[B, 1, h, w]`` twice -> ``[B, (2 radius + 1)^2, h, w]``.

    Displacements row by row, from (-radius, -radius); windows of 3x3, mean absolute difference.
    """
    b, h, w = target.shape[0], target.shape[2], target.shape[3]
    n = 2 * radius + 1
    padded = F.pad(reference, [radius, radius, radius, radius], mode="replicate")
    moved = F.unfold(padded, (n, n)).view(b, n * n, h, w)
    difference = (target - moved).abs()
    return F.avg_pool2d(difference, 3, 1, 1, count_include_pad=False)


class Match(nn.Module):
    """The displacement of the least cost, softly: a mean of all, weighed by ``exp(-cost)``."""

    def __init__(self, radius: int, sharpness: float, rest: float) -> None:
        super().__init__()
        self.radius = radius
        n = 2 * radius + 1
        steps = torch.arange(-radius, radius + 1, dtype=torch.float32)
        x = steps[None, :].expand(n, n).reshape(-1)
        y = steps[:, None].expand(n, n).reshape(-1)
        self.register_buffer("steps", torch.stack([x, y])[:, :, None, None], persistent=False)
        # A longer motion has to fit a little better: flat areas stay at rest.
        away = (rest * (x * x + y * y).sqrt())[None, :, None, None]
        self.register_buffer("away", away, persistent=False)
        self.sharpness = sharpness

    def forward(self, cost: Tensor) -> Tensor:
        """``[B, n, h, w]`` -> ``[B, 2, h, w]``, x and y in samples of that level."""
        weight = torch.softmax((cost + self.away.float()) * -self.sharpness, 1)  # type: ignore[operator]
        return F.conv2d(weight, self.steps.float()).float()  # type: ignore[arg-type]


class Window(nn.Module):
    """Means over windows of ``2 radius + 1`` samples each way; at edges over what there is."""

    def __init__(self, radius: int) -> None:
        super().__init__()
        self.radius = radius
        # Ones, which every precision has; the division is float32.
        self.register_buffer(
            "box", torch.ones(1, 1, 2 * radius + 1, 2 * radius + 1), persistent=False
        )

    def parts(self, like: Tensor) -> Tensor:
        """``[1, 1, h, w]``: what one sample of a window counts, for ``forward``."""
        ones = torch.ones([1, 1, like.shape[2], like.shape[3]], device=like.device)
        return torch.reciprocal(self.sums(ones))

    def sums(self, x: Tensor) -> Tensor:
        many = x.shape[1]
        # A channel at a time: several times as fast on a CPU as pooling windows that overlap.
        box = self.box.float().expand(many, 1, -1, -1)  # type: ignore[operator]
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            return F.conv2d(x, box, padding=self.radius, groups=many)
        with torch.autocast(x.device.type, enabled=False):
            return F.conv2d(x, box, padding=self.radius, groups=many)

    def forward(self, x: Tensor, parts: Tensor) -> Tensor:
        """``[B, C, h, w]``, float32 -> the same."""
        return self.sums(x) * parts


class LeastSquares(nn.Module):
    """Steps of Lucas and Kanade (1981) over windows of ``2 radius + 1`` samples.

    The total motion is solved for around its window mean, so that repeating the step adds no
    noise; nine tenths of a window's mean difference (brightness) are let pass.
    """

    def __init__(self, radius: int, times: int) -> None:
        super().__init__()
        self.times = times
        self.window = Window(radius)

    def forward(
        self, target: Tensor, reference: Tensor, flow: Tensor, grid: tuple[Tensor, Tensor]
    ) -> Tensor:
        """``[B, 1, h, w]`` twice and a flow -> a better flow, float32."""
        g = gradient(target)
        parts = self.window.parts(target)
        tensor = self.window(torch.cat([g * g, g[:, 0:1] * g[:, 1:2]], 1), parts)
        # (1/255)^2 is 1.5e-5: a flat window stays where its neighbours are.
        squares = tensor[:, 0:2] + 2e-5
        crossed = tensor[:, 2:3]
        scale = torch.reciprocal(squares[:, 0:1] * squares[:, 1:2] - crossed * crossed)
        straight = squares.flip(1) * scale
        crossed = crossed * scale
        for _ in range(self.times):
            error = target - warp(reference, flow, grid)
            mean = self.window(torch.cat([error, flow], 1), parts)
            error = error - 0.9 * mean[:, :1] + (g * (flow - mean[:, 1:])).sum(1, keepdim=True)
            v = self.window(g * error, parts)
            step = straight * v - crossed * v.flip(1)
            flow = mean[:, 1:] + step.clamp(-2.0, 2.0)
        return flow


class Settle(nn.Module):
    """The last steps of Lucas and Kanade, on every luma sample, for a flow on cells of 4x4.

    Refinements learn to fit, not to a tenth of a sample, and what is fused is worth as much as
    it is precise: two sharp pictures a quarter of a sample apart add a blur. Each step solves
    for windows of ``2 radius + 1`` cells, by sums that are taken on cells at once; where the
    flow fitted better as it was, it stays. radii: one for each step, at least one.
    """

    def __init__(self, radii: tuple[int, ...] | list[int]) -> None:
        super().__init__()
        if not radii:
            raise ValueError("a flow settles by one step or more; radii are its windows")
        self.cell = CELL
        self.radii = list(radii)
        self.windows = nn.ModuleList([Window(radius) for radius in radii])
        self.fit = Window(1)

    def cells(self, x: Tensor) -> Tensor:
        """Means of cells: ``[..., C, H, W]`` -> ``[B, C, H/4, W/4]``, all before C in B."""
        n, c, h, w = self.cell, x.shape[-3], x.shape[-2], x.shape[-1]
        x = x.reshape(-1, c, h // n, n, w).sum(3)
        return x.view(-1, c, h // n, w // n, n).sum(4) * (1.0 / (n * n))

    def off(
        self, target: Tensor, references: Tensor, flow: Tensor, grid: tuple[Tensor, Tensor]
    ) -> Tensor:
        """By how much references moved by a flow in luma samples miss the target:
        ``[R, B, 1, H, W]``."""
        b, h, w = target.shape[0], target.shape[2], target.shape[3]
        fine = F.interpolate(
            flow, scale_factor=float(self.cell), mode="bilinear", align_corners=False
        )
        return target - warp(references, fine, grid).view(-1, b, 1, h, w)

    def forward(
        self, target: Tensor, references: Tensor, flow: Tensor, grid: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Luma ``[B, 1, H, W]`` and ``[R B, 1, H, W]``, a flow ``[R B, 2, H/4, W/4]`` in cells and
        ``grid_of(target)`` -> a better flow, float32."""
        g = gradient(target)
        many = references.shape[0] // target.shape[0]
        tensor = self.cells(torch.cat([g * g, g[:, 0:1] * g[:, 1:2]], 1))
        tensor = torch.cat([tensor] * many, 0)
        start = flow * float(self.cell)
        before = self.off(target, references, start, grid)
        off = before
        moved = start
        parts = tensor
        last = 0
        for window in self.windows:
            if window.radius != last:
                parts = window.parts(tensor)  # type: ignore[operator]
                last = int(window.radius)  # type: ignore[arg-type]
            pulled = self.cells(g * off) + tensor[:, 0:2] * moved
            pulled = pulled + tensor[:, 2:3] * moved.flip(1)
            sums = window(torch.cat([pulled, moved, tensor], 1), parts)
            mean = sums[:, 2:4]
            squares = sums[:, 4:6] + 2e-5  # as in LeastSquares
            crossed = sums[:, 6:7]
            v = sums[:, :2] - sums[:, 4:6] * mean - crossed * mean.flip(1)
            step = squares.flip(1) * v - crossed * v.flip(1)
            step = step / (squares[:, 0:1] * squares[:, 1:2] - crossed * crossed)
            moved = mean + step.clamp(-4.0, 4.0)
            off = self.off(target, references, moved, grid)
        fits = self.cells(torch.cat([before.abs(), off.abs()], 2))
        fits = self.fit(fits, self.fit.parts(fits))
        # A difference of 1 of 255 decides nearly wholly.
        better = torch.sigmoid((fits[:, 0:1] - fits[:, 1:2]) * 1000.0)
        return torch.lerp(start, moved, better) * (1.0 / self.cell)


class Judge(nn.Module):
    """How coarsely a picture was coded, seen from its luma alone.

    Differences of neighbours, small ones spread and large ones pressed together, tell it: what a
    quantiser left out, and the edges of its blocks. Each place of 8x8 gives a QP and how much it
    counts, so that flat areas, which show nothing, do not.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(2 * CELL * CELL, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.third = nn.Conv2d(channels, channels, 3, padding=1)
        self.last = nn.Conv2d(channels, 2, 1)
        self.cell = CELL

    def forward(self, luma: Tensor) -> Tensor:
        """``[B, 1, H, W]``, 0..1 -> ``[B]``, float32: (QP - 32) / 16."""
        across = F.pad(luma, [0, 1, 0, 0], mode="replicate").diff(dim=3)
        down = F.pad(luma, [0, 0, 0, 1], mode="replicate").diff(dim=2)
        x = F.softsign(torch.cat([across, down], 1) * 48.0) * 2.0
        x = F.pixel_unshuffle(x, self.cell).to(self.first.weight.dtype)
        x = F.leaky_relu(self.first(x), 0.1)
        x = F.leaky_relu(self.second(x), 0.1)
        x = F.leaky_relu(self.third(x), 0.1)
        out = self.last(x).float().flatten(2)
        counts = torch.sigmoid(out[:, 1]) + 1e-3
        return (out[:, 0] * counts).sum(1) / counts.sum(1)


class Refine(nn.Module):
    """Three convolutions that see what a level knows; the flow's change starts at zero."""

    def __init__(self, inputs: int, channels: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.last = nn.Conv2d(channels, 2 + hidden, 3, padding=1)
        with torch.no_grad():
            self.last.weight[:2].zero_()
            assert self.last.bias is not None
            self.last.bias[:2].zero_()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """-> the flow's change ``[B, 2, h, w]``, and a hidden state."""
        x = F.relu(self.first(x))
        x = F.relu(self.second(x))
        out = self.last(x)
        return out[:, :2].float(), torch.tanh(out[:, 2:])


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


class FamilyEnhancer(nn.Module):
    """Contract 2 of docs/model.md.

    references: the slots, by its names. scale: k of the targets. features: channels of the
    learned features at 1/4, 1/8 and 1/16 of the size. motion: channels of the refinements;
    hidden: of the state that they hand on. steps: of least squares a level; refinements: how
    many at 1/4 (the second and later ones share their weights); settle: radii, in cells, of the
    steps on full-size luma after them. heads, channels, blocks (of
    ``convolutions`` each): the fusion's. judge: channels of what sees how coarsely pictures were
    coded; 0: nothing does, and a QP that is not told is not known.
    """

    def __init__(
        self,
        references: tuple[str, ...] | list[str] = ("-1", "+1", "full-before", "full-after"),
        scale: int = 1,
        features: tuple[int, int, int] | list[int] = (16, 16, 16),
        motion: int = 24,
        hidden: int = 16,
        steps: int = 1,
        refinements: int = 2,
        settle: tuple[int, ...] | list[int] = (2, 2),
        heads: int = 24,
        channels: int = 48,
        blocks: int = 4,
        convolutions: int = 2,
        judge: int = 0,
    ) -> None:
        super().__init__()
        if scale not in (1, 2, 4):
            raise ValueError(f"scale is 1, 2 or 4, not {scale}")
        if not 1 <= len(references) <= 8:
            raise ValueError(f"there are 1 to 8 references, not {len(references)}")
        self.scale = scale
        self.cell = CELL
        self.count = len(references)
        self.refinements = refinements
        c4, c8, c16 = features
        self.take4 = nn.Conv2d(4, c4, 3, padding=1)
        self.take8 = nn.Conv2d(c4, c8, 3, stride=2, padding=1)
        self.take16 = nn.Conv2d(c8, c16, 3, stride=2, padding=1)
        self.match16 = Match(4, 150.0, 1e-3)
        self.solve16 = LeastSquares(3, 1)
        self.solve = LeastSquares(3, steps)
        self.refine16 = Refine(81 + 2 * c16 + 2, motion, hidden)
        self.refine8 = Refine(1 + 2 * c8 + 2 + hidden, motion, hidden)
        self.refine4 = Refine(1 + 2 * c4 + 8 + 2 + hidden, motion, hidden)
        self.again4 = Refine(1 + 2 * c4 + 8 + 2 + hidden, motion, hidden)
        self.settle = Settle(settle)
        self.judges = judge > 0
        self.judge: nn.Module = Judge(judge) if judge else nn.Identity()
        self.about = nn.Linear(CODED, heads)
        self.target_about = nn.Linear(CODED, heads)
        self.head = nn.Conv2d(24 + hidden, heads, 3, padding=1)
        self.target_head = nn.Conv2d(24, heads, 3, padding=1)
        self.merge = nn.Conv2d((self.count + 1) * heads, channels, 1)
        self.body = nn.Sequential(*[FusionBlock(channels, convolutions) for _ in range(blocks)])
        self.tail = nn.Conv2d(2 * channels, (self.count + 1) * 24, 1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]

    # -- once a picture

    @torch.jit.export
    def features(self, picture: Tensor, side: Tensor) -> list[Tensor]:
        """``[B, 6, H/2, W/2]``, ``side [B, 4]`` -> what motion is found from: luma at 1/2, 1/4,
        1/8 and 1/16 of the size, and learned features at 1/4, 1/8 and 1/16."""
        half = picture[:, :4].float().mean(1, keepdim=True)
        cells = F.pixel_unshuffle(half, 2)
        s4 = cells.mean(1, keepdim=True)
        s8 = F.avg_pool2d(s4, 2)
        s16 = F.avg_pool2d(s8, 2)
        f4 = F.relu(self.take4((cells - 0.5).to(self.take4.weight.dtype)))
        f8 = F.relu(self.take8(f4))
        f16 = F.relu(self.take16(f8))
        found = [half, s4, s8, s16, f4, f8, f16]
        if self.judges:
            found.append(self.judge(luma_of(picture).float()))
        return found

    # -- motion

    def flow(
        self, target: list[Tensor], references: list[Tensor], levels: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Features of the target (repeated for each reference) and of the references, stacked
        in the batch -> the flow on cells ``[R B, 2, H/4, W/4]``, in cells, and the hidden state.

        Flows on the way (at 1/16, 1/8, 1/4 and 1/4), in their own samples, go into ``levels``.
        """
        kind = references[4].dtype
        # What is solved for is not learned through: each level's change is taught by itself.
        cost = costs(target[3], references[3], 4)
        grid = grid_of(cost)
        flow = self.solve16(target[3], references[3], self.match16(cost), grid)
        change, hidden = self.refine16(
            torch.cat([cost.to(kind) * 8.0, target[6], references[6], flow.to(kind) * 0.25], 1)
        )
        flow = flow + change
        levels.append(flow)

        start = finer(flow.detach(), 2)
        grid = grid_of(start)
        flow = self.solve(target[2], references[2], start, grid)
        moved = warp(torch.cat([references[2], references[5].float()], 1), flow, grid)
        hidden = F.interpolate(hidden, scale_factor=2.0, mode="nearest")
        seen = [(target[2] - moved[:, :1]).to(kind) * 8.0, target[5], moved[:, 1:].to(kind)]
        change, hidden = self.refine8(torch.cat(seen + [(flow - start).to(kind), hidden], 1))
        flow = flow + change
        levels.append(flow)

        start = finer(flow.detach(), 2)
        grid = grid_of(start)
        half = grid_of(target[0])
        flow = self.solve(target[1], references[1], start, grid)
        change = flow - start
        hidden = F.interpolate(hidden, scale_factor=2.0, mode="nearest")
        own = F.pixel_unshuffle(target[0], 2)
        quarter = torch.cat([references[1], references[4].float()], 1)
        for i in range(self.refinements):
            moved = warp(quarter, flow, grid)
            detail = F.pixel_unshuffle(warp(references[0], finer(flow, 2), half), 2)
            seen = [
                (target[1] - moved[:, :1]).to(kind) * 8.0,
                target[4],
                moved[:, 1:].to(kind),
                own.to(kind) - 0.5,
                ((own - detail) * 4.0).to(kind),
                change.to(kind),
                hidden,
            ]
            if i == 0:
                change, hidden = self.refine4(torch.cat(seen, 1))
            else:
                change, hidden = self.again4(torch.cat(seen, 1))
            flow = flow + change
            levels.append(flow)
        return flow, hidden

    # -- fusion

    def cells(self, packed: Tensor) -> Tensor:
        """``[B, 6, H/2, W/2]`` -> ``[B, 24, H/4, W/4]``: 16 luma, 4 Cb, 4 Cr."""
        return torch.cat(
            [F.pixel_unshuffle(luma_of(packed), self.cell), F.pixel_unshuffle(packed[:, 4:6], 2)], 1
        )

    def told(self, side: Tensor, found: list[list[Tensor]]) -> Tensor:
        """``side [B, 1 + R, 7]`` and the features of all pictures, the target's first -> what the
        fusion knows of each."""
        if self.judges:
            side = seen(side, torch.stack([f[7] for f in found], 1))
        return coded(side)

    def fuse(
        self, target: Tensor, moved: Tensor, hidden: Tensor, told: Tensor, strength: Tensor, b: int
    ) -> Tensor:
        """The target, the moved references (stacked in the batch), what ``told`` says of them
        and the strength ``[B]`` -> the picture."""
        r = self.count
        kind = hidden.dtype
        about = told.to(kind)
        rows = about[:, 1:].transpose(0, 1).reshape(r * b, about.shape[2])
        base = torch.cat([target] * r, 0)
        # A stand-in for a slot that is not present adds nothing.
        difference = self.cells((moved - base).to(kind) * rows[:, 0:1, None, None])
        x = torch.cat([difference * 4.0, hidden], 1)
        x = F.relu(self.head(x) + self.about(rows)[:, :, None, None])
        h, w = x.shape[2], x.shape[3]
        x = x.view(r, b, -1, h, w).transpose(0, 1).reshape(b, -1, h, w)
        own = F.relu(
            self.target_head(self.cells(target.to(kind)) - 0.5)
            + self.target_about(about[:, 0])[:, :, None, None]
        )
        head = F.relu(self.merge(torch.cat([own, x], 1)))
        body = self.body(head)
        out = self.tail(torch.cat([head, body], 1))
        gates = out[:, 24:].view(b, r, 24, h, w)
        taken = difference.view(r, b, 24, h, w).transpose(0, 1)
        change = out[:, :24] * 0.25 + (gates * taken).sum(1)
        change = change * strength.to(change.dtype)[:, None, None, None]
        luma = F.pixel_shuffle(change[:, :16], self.cell)
        chroma = F.pixel_shuffle(change[:, 16:], self.cell // 2)
        return target + pack(luma, chroma).to(target.dtype)

    def move(self, target: Tensor, references: Tensor, flow: Tensor) -> Tensor:
        """The references' pixels (stacked in the batch), moved by ``flow`` on cells, once it
        has settled."""
        full = luma_of(references).float()
        # Not learned through: the loss of the motion teaches what comes before.
        grid = grid_of(full)
        flow = self.settle(luma_of(target).float(), full, flow.detach(), grid)
        luma = warp(full, finer(flow, 4), grid, True)
        chroma = warp(references[:, 4:6], finer(flow, 2), grid_of(references))
        return pack(luma, chroma)

    @torch.jit.export
    def enhance(
        self,
        target: Tensor,
        target_features: list[Tensor],
        references: list[Tensor],
        reference_features: list[list[Tensor]],
        side: Tensor,
    ) -> Tensor:
        """The target, the references and the features of all, ``side [B, 1 + R, 7]`` -> the
        picture. See docs/model.md."""
        b = target.shape[0]
        own: list[Tensor] = []
        theirs: list[Tensor] = []
        for i in range(len(target_features)):
            own.append(torch.cat([target_features[i]] * self.count, 0))
            theirs.append(torch.cat([f[i] for f in reference_features], 0))
        levels: list[Tensor] = []
        flow, hidden = self.flow(own, theirs, levels)
        moved = self.move(target, torch.cat(references, 0), flow)
        told = self.told(side, [target_features] + reference_features)
        return self.fuse(target, moved, hidden, told, side[:, 0, 6], b)

    def forward(self, pictures: Tensor, side: Tensor) -> Tensor:
        """All pictures ``[B, 1 + R, 6, H/2, W/2]``, the target first, and ``side [B, 1 + R, 7]``
        -> the picture ``[B, 6, H/2, W/2]``."""
        found = [self.features(pictures[:, i], side[:, i, 2:6]) for i in range(self.count + 1)]
        references = [pictures[:, i] for i in range(1, self.count + 1)]
        return self.enhance(pictures[:, 0], found[0], references, found[1:], side)
