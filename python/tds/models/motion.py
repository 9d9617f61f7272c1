# SPDX-License-Identifier: LGPL-2.1-or-later
"""Motion between a target and a reference, by plain arithmetic: nothing here is learned.

A dense, coarse-to-fine, iterative Lucas-Kanade search with propagation. On every level of
a pyramid each sample first takes over the motion of a neighbour where that matches better
(as PatchMatch does; it keeps motion edges sharp and finds what gradients cannot), and then
the least-squares step over a small window is taken (Lucas and Kanade 1981; the total motion
is solved for around its window mean, so that repeating the step does not add noise). On the
coarsest level all whole-sample displacements within a small range are tried.

It is built from shifted additions, ``grid_sample`` and products only, so that it scripts,
runs on any device, and costs a few hundred operations a sample of the target.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def window_sum(x: Tensor, radius: int) -> Tensor:
    """A window mean over ``2 radius + 1`` samples each way, edges repeated.

    Not a flat box: sums are doubled up (1, 2, 4 ... wide), so samples where the last two
    overlap count double. That takes a third of the additions, and a window that weighs its
    middle more is the better one here.
    """
    if radius < 1:
        return x
    x = F.pad(x, [radius, radius, radius, radius], mode="replicate")
    size = 2 * radius + 1
    width = 1
    while 2 * width <= size:
        n = x.shape[3] - width
        x = x[:, :, :, :n] + x[:, :, :, width:]
        width *= 2
    rest = size - width
    n = x.shape[3] - rest
    x = x[:, :, :, :n] + x[:, :, :, rest:]
    width = 1
    while 2 * width <= size:
        n = x.shape[2] - width
        x = x[:, :, :n] + x[:, :, width:]
        width *= 2
    n = x.shape[2] - rest
    x = x[:, :, :n] + x[:, :, rest:]
    return x * (1.0 / (4 * width * width))


def sample_grid(height: int, width: int, like: Tensor) -> Tensor:
    """``[1, 2, H, W]``: the positions x, y of all samples in grid_sample's units."""
    ys = torch.linspace(-1.0, 1.0, height, dtype=like.dtype, device=like.device)
    xs = torch.linspace(-1.0, 1.0, width, dtype=like.dtype, device=like.device)
    return torch.stack([xs[None, :].expand(height, width), ys[:, None].expand(height, width)])[None]


def warp(picture: Tensor, flow: Tensor, cubic: bool = False) -> Tensor:
    """``picture [B, C, H, W]`` fetched from where ``flow [B, 2, H, W]`` points.

    ``flow`` is x, y in samples; positions outside take the nearest edge sample.
    """
    height, width = flow.shape[2], flow.shape[3]
    scale = torch.tensor(
        [2.0 / max(width - 1, 1), 2.0 / max(height - 1, 1)], dtype=flow.dtype, device=flow.device
    )
    grid = torch.addcmul(sample_grid(height, width, flow), flow, scale.view(1, 2, 1, 1))
    # In the flow's precision: half has not enough bits for a position in a large picture.
    moved = F.grid_sample(
        picture.to(flow.dtype),
        grid.permute(0, 2, 3, 1),
        mode="bicubic" if cubic else "bilinear",
        padding_mode="border",
        align_corners=True,
    )
    return moved.to(picture.dtype)


def gradient(x: Tensor) -> Tensor:
    """``[B, 1, h, w]`` -> ``[B, 2, h, w]``: central differences, x and y."""
    p = F.pad(x, [1, 1, 1, 1], mode="replicate")
    gx = p[:, :, 1:-1, 2:] - p[:, :, 1:-1, :-2]
    gy = p[:, :, 2:, 1:-1] - p[:, :, :-2, 1:-1]
    return torch.cat([gx, gy], 1) * 0.5


def _neighbours(flow: Tensor, distance: int) -> list[Tensor]:
    """The flow of the samples ``distance`` to the left, right, above and below; edges repeated."""
    height, width, d = flow.shape[2], flow.shape[3], distance
    padded = F.pad(flow, [d, d, d, d], mode="replicate")
    found: list[Tensor] = []
    for k in range(4):
        x = d + (d if k == 1 else (-d if k == 0 else 0))
        y = d + (d if k == 3 else (-d if k == 2 else 0))
        found.append(padded[:, :, y : y + height, x : x + width])
    return found


def _inverse(tensor: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """The rows of the inverse of ``[[xx, xy], [xy, yy]]``, given as ``[B, 3, h, w]`` (xx, yy, xy).

    ``floor`` is added to xx and yy; it keeps a flat window where its neighbours are."""
    xx = tensor[:, 0:1] + floor
    yy = tensor[:, 1:2] + floor
    xy = tensor[:, 2:3]
    scale = 1.0 / (xx * yy - xy * xy)
    return torch.cat([yy * scale, -xy * scale], 1), torch.cat([-xy * scale, xx * scale], 1)


def _twice(flow: Tensor, like: Tensor) -> Tensor:
    """A level's flow on the next finer level, of the size of ``like``."""
    flow = F.interpolate(flow, scale_factor=2.0, mode="bilinear", align_corners=False) * 2.0
    return flow[:, :, : like.shape[2], : like.shape[3]]


def _halve(x: Tensor) -> Tensor:
    x = F.pad(x, [0, x.shape[3] % 2, 0, x.shape[2] % 2], mode="replicate")
    return F.avg_pool2d(x, 2)


def _match(difference: Tensor, radius: int) -> Tensor:
    """How badly a window fits; half of its mean difference (brightness) is let pass."""
    difference = difference - 0.5 * window_sum(difference, radius)
    return window_sum(difference.abs(), radius)


class MotionSearch(nn.Module):
    """Finds for each target sample where it is in the reference.

    Arguments are in samples of the search's own resolution: ``levels`` of the pyramid,
    ``search`` the range tried on the coarsest, with windows of ``search_match`` (a large one
    would be the whole picture there), ``radius`` of the least-squares window,
    ``match`` of the window that compares candidates, ``iterations`` a level and
    ``last_iterations`` on the finest, ``passes`` of propagation a level.

    The windows are large on purpose: a small one follows the coding noise of target and
    reference, and what it aligns then has the target's noise in it. Measured in
    docs/training.md.
    """

    def __init__(
        self,
        levels: int = 5,
        search: int = 3,
        search_match: int = 2,
        radius: int = 7,
        match: int = 5,
        iterations: int = 3,
        last_iterations: int = 3,
        passes: int = 2,
        last_passes: int = 2,
        guard: bool = True,
    ) -> None:
        super().__init__()
        self.levels = levels
        self.search = search
        self.search_match = search_match
        self.radius = radius
        self.match = match
        self.iterations = iterations
        self.last_iterations = last_iterations
        self.passes = passes
        self.last_passes = last_passes
        self.guard = guard

    @torch.jit.unused
    def settings(self) -> dict[str, int]:
        """All that the result depends on."""
        sizes = ("levels", "search", "search_match", "radius", "match")
        steps = ("iterations", "last_iterations", "passes", "last_passes", "guard")
        return {name: int(getattr(self, name)) for name in (*sizes, *steps)}

    def coarsest(self, target: Tensor, reference: Tensor) -> Tensor:
        height, width = target.shape[2], target.shape[3]
        s = self.search
        padded = F.pad(reference, [s, s, s, s], mode="replicate")
        best = _match(target - reference, self.search_match)
        flow = torch.zeros(
            [target.shape[0], 2, height, width], dtype=target.dtype, device=target.device
        )
        for dy in range(-s, s + 1):
            for dx in range(-s, s + 1):
                moved = padded[:, :, s + dy : s + dy + height, s + dx : s + dx + width]
                # A longer motion has to fit a little better: flat areas stay at rest.
                cost = _match(target - moved, self.search_match)
                cost = cost + 1e-3 * float(dx * dx + dy * dy) ** 0.5
                better = (cost < best).to(target.dtype)
                best = torch.minimum(best, cost)
                motion = torch.tensor(
                    [float(dx), float(dy)], dtype=target.dtype, device=target.device
                )
                flow = flow + better * (motion.view(1, 2, 1, 1) - flow)
        return flow

    def refine(
        self, target: Tensor, reference: Tensor, flow: Tensor, iterations: int, passes: int
    ) -> Tensor:
        height, width = target.shape[2], target.shape[3]
        r = self.radius
        g = gradient(target)
        tensor = window_sum(torch.cat([g * g, g[:, 0:1] * g[:, 1:2]], 1), r)
        # (1/255)^2 is 1.5e-5.
        inverse_x, inverse_y = _inverse(tensor, 2e-5)
        warped = warp(reference, flow)
        for i in range(iterations):
            if i < passes:
                best = _match(target - warped, self.match)
                d = min(2 * r if i % 2 == 0 else r, height - 1, width - 1)
                for candidate in _neighbours(flow, d):
                    moved = warp(reference, candidate)
                    cost = _match(target - moved, self.match)
                    better = (cost < best).to(target.dtype)
                    best = torch.minimum(best, cost)
                    flow = flow + better * (candidate - flow)
                    warped = warped + better * (moved - warped)
            error = target - warped
            error = error - 0.9 * window_sum(error, r)
            mean = window_sum(flow, r)
            error = error + (g * (flow - mean)).sum(1, keepdim=True)
            b = window_sum(g * error, r)
            step = inverse_x * b[:, 0:1] + inverse_y * b[:, 1:2]
            proposed = mean + step.clamp(-2.0, 2.0)
            if self.guard:
                moved = warp(reference, proposed)
                better = (
                    _match(target - moved, self.match) < _match(target - warped, self.match) + 4e-4
                ).to(target.dtype)
                flow = flow + better * (proposed - flow)
                warped = warped + better * (moved - warped)
            else:
                flow = proposed
                if i + 1 < iterations:
                    warped = warp(reference, flow)
        return flow

    def forward(self, target: Tensor, reference: Tensor) -> Tensor:
        """``[B, 1, h, w]`` twice, 0..1 -> ``[B, 2, h, w]``, x and y in samples."""
        targets = [target]
        references = [reference]
        for _ in range(self.levels - 1):
            if min(targets[-1].shape[2], targets[-1].shape[3]) >= 16:
                targets.append(_halve(targets[-1]))
                references.append(_halve(references[-1]))
        n = len(targets)
        flow = self.coarsest(targets[n - 1], references[n - 1])
        for i in range(n):
            level = n - 1 - i
            if i > 0:
                flow = _twice(flow, targets[level])
            last = level == 0
            flow = self.refine(
                targets[level],
                references[level],
                flow,
                self.last_iterations if last else self.iterations,
                self.last_passes if last else self.passes,
            )
        return flow


class StraightSearch(nn.Module):
    """Finds one motion through the target that fits both references at once.

    A sample is taken to move straight and evenly from the first reference to the last, so that
    one vector says where it is in both. The references are then compared with each other too,
    not only with the target, which is coarser and carries more coding noise: this is the better
    estimate where the noise is strong, and wrong where motion bends or speeds up. (Bilateral
    motion estimation, as in frame interpolation; Choi et al. 2000.)

    ``levels``, ``radius``, ``match`` as in :class:`MotionSearch`; ``iterations`` a level.
    """

    def __init__(
        self, levels: int = 4, radius: int = 5, match: int = 4, iterations: int = 2
    ) -> None:
        super().__init__()
        self.levels = levels
        self.radius = radius
        self.match = match
        self.iterations = iterations

    @torch.jit.unused
    def settings(self) -> dict[str, int]:
        """All that the result depends on."""
        return {
            name: int(getattr(self, name)) for name in ("levels", "radius", "match", "iterations")
        }

    def cost(self, target: Tensor, first: Tensor, last: Tensor) -> Tensor:
        """How badly the three fit each other, in pairs."""
        return (
            _match(target - first, self.match)
            + _match(target - last, self.match)
            + _match(first - last, self.match)
        )

    def step(
        self, target: Tensor, first: Tensor, last: Tensor, flow: Tensor, back: Tensor, on: Tensor
    ) -> Tensor:
        """Propagation, then a least-squares step. The sample is at ``flow * back`` in the first
        reference and at ``-flow * on`` in the last."""
        r = self.radius
        a, b = warp(first, flow * back), warp(last, flow * -on)
        best = self.cost(target, a, b)
        for d in (1, 4):
            for candidate in _neighbours(flow, d):
                moved_a, moved_b = warp(first, candidate * back), warp(last, candidate * -on)
                cost = self.cost(target, moved_a, moved_b)
                better = (cost < best).to(target.dtype)
                best = torch.minimum(best, cost)
                flow = flow + better * (candidate - flow)
                a = a + better * (moved_a - a)
                b = b + better * (moved_b - b)
        # Three equations for the step s, with g the gradient: target - a = g back s,
        # b - target = g on s, b - a = g (back + on) s.
        g = gradient((a + b) * 0.5)
        both = back + on
        n = back * back + on * on + both * both
        errors = torch.cat([target - a, b - target, b - a], 1)
        errors = errors - 0.9 * window_sum(errors, r)
        error = errors[:, 0:1] * back + errors[:, 1:2] * on + errors[:, 2:3] * both
        mean = window_sum(flow, r)
        error = error + n * (g * (flow - mean)).sum(1, keepdim=True)
        tensor = window_sum(torch.cat([g * g, g[:, 0:1] * g[:, 1:2]], 1), r) * n
        inverse_x, inverse_y = _inverse(tensor, 4e-5)
        v = window_sum(g * error, r)
        solved = inverse_x * v[:, 0:1] + inverse_y * v[:, 1:2]
        proposed = mean + solved.clamp(-2.0, 2.0)
        # Against the best of whole candidates, not of the flow put together from them: a step
        # where neighbours disagree has to be a good one.
        cost = self.cost(target, warp(first, proposed * back), warp(last, proposed * -on))
        better = (cost < best + 8e-4).to(target.dtype)
        return flow + better * (proposed - flow)

    def forward(
        self, target: Tensor, first: Tensor, last: Tensor, flow: Tensor, position: Tensor
    ) -> Tensor:
        """Three times ``[B, 1, h, w]``; ``flow [2B, 2, h, w]``, a guess for the first and then
        the last reference; ``position [B, 1, 1, 1]``, 0..1, the target's place between them in
        time -> ``[2B, 2, h, w]``, the straight motion for both."""
        n = target.shape[0]
        back = 2.0 * position
        on = 2.0 - back
        straight = (flow[:n] * back - flow[n:] * on) / (back * back + on * on)
        targets, firsts, lasts = [target], [first], [last]
        for _ in range(self.levels - 1):
            if min(targets[-1].shape[2], targets[-1].shape[3]) >= 16:
                targets.append(_halve(targets[-1]))
                firsts.append(_halve(firsts[-1]))
                lasts.append(_halve(lasts[-1]))
                straight = _halve(straight) * 0.5
        count = len(targets)
        for i in range(count):
            level = count - 1 - i
            if i > 0:
                straight = _twice(straight, targets[level])
            for _ in range(self.iterations):
                straight = self.step(
                    targets[level], firsts[level], lasts[level], straight, back, on
                )
        return torch.cat([straight * back, straight * -on], 0)
