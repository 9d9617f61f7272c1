# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each part of the networks against an independent plain computation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tds.models import deform, paper
from tds.models.colour import from_rgb, to_rgb
from tds.models.motion import MotionSearch, StraightSearch, warp, window_sum
from tds.models.resample import BicubicDown, BicubicUp, luma_of, pack


def test_packing_puts_the_four_luma_phases_before_chroma():
    y = torch.arange(24.0).reshape(1, 1, 4, 6)
    c = 100 + torch.arange(12.0).reshape(1, 2, 2, 3)
    packed = pack(y, c)
    for row in range(2):
        for column in range(3):
            for phase, (dy, dx) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
                want = y[0, 0, 2 * row + dy, 2 * column + dx]
                assert packed[0, phase, row, column] == want
    assert torch.equal(packed[:, 4:], c)
    assert torch.equal(luma_of(packed), y)


def keys(x: float, a: float = -0.6) -> float:
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    if x < 2:
        return a * (x**3 - 5 * x**2 + 8 * x - 4)
    return 0.0


@pytest.mark.parametrize("scale", [2, 4])
def test_bicubic_up_is_keys_kernel_centre_aligned(scale):
    x = torch.rand(1, 2, 5, 7, dtype=torch.float64)
    got = BicubicUp(scale)(x)
    want = np.zeros((2, 5 * scale, 7 * scale))
    for c in range(2):
        for i in range(5 * scale):
            for j in range(7 * scale):
                y, z = (i + 0.5) / scale - 0.5, (j + 0.5) / scale - 0.5
                for m in range(math.floor(y) - 1, math.floor(y) + 3):
                    for n in range(math.floor(z) - 1, math.floor(z) + 3):
                        sample = float(x[0, c, min(max(m, 0), 4), min(max(n, 0), 6)])
                        want[c, i, j] += keys(y - m) * keys(z - n) * sample
    assert np.abs(got[0].numpy() - want).max() < 1e-12


@pytest.mark.parametrize("scale", [2, 4])
def test_bicubic_down_is_the_stretched_kernel(scale):
    size = 6 * scale
    x = torch.rand(1, 1, size, size, dtype=torch.float64)
    got = BicubicDown(scale)(x)[0, 0]
    taps = [keys((n + 0.5) / scale - 2.0) for n in range(4 * scale)]
    total = sum(taps)
    for i in range(6):
        for j in range(6):
            want = 0.0
            for m, a in enumerate(taps):
                for n, b in enumerate(taps):
                    y = min(max(i * scale + m - 3 * scale // 2, 0), size - 1)
                    z = min(max(j * scale + n - 3 * scale // 2, 0), size - 1)
                    want += a * b * float(x[0, 0, y, z]) / total**2
            assert float(got[i, j]) == pytest.approx(want, abs=1e-7)


def test_rgb_is_bt709_limited_range_and_comes_back():
    white = torch.zeros(1, 6, 4, 4)
    white[:, :4], white[:, 4:] = 235 / 255, 128 / 255
    assert torch.allclose(to_rgb(white), torch.ones(1, 3, 8, 8), atol=1e-5)
    red = torch.zeros(1, 6, 4, 4)  # BT.709: Y 63, Cb 102, Cr 240 at 8 bit
    red[:, :4], red[:, 4], red[:, 5] = 62.56 / 255, 102.34 / 255, 240 / 255
    want = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    assert torch.allclose(to_rgb(red), want, atol=2e-3)
    flat = torch.rand(1, 6, 1, 1).expand(1, 6, 4, 4)
    flat = torch.cat([flat[:, :1].expand(1, 4, 4, 4), flat[:, 4:]], 1)
    assert torch.allclose(from_rgb(to_rgb(flat)), flat, atol=1e-5)


def plain_deformable(x, offset, mask, weight, bias, groups):
    """Six loops and bilinear by hand; torchvision's definition."""
    _, c, h, w = x.shape
    out = np.zeros((weight.shape[0], h, w))
    x, offset, mask, weight = (v.detach().double().numpy() for v in (x, offset, mask, weight))

    def at(channel, y, z):
        total = 0.0
        for m in (math.floor(y), math.floor(y) + 1):
            for n in (math.floor(z), math.floor(z) + 1):
                if 0 <= m < h and 0 <= n < w:
                    total += x[0, channel, m, n] * (1 - abs(y - m)) * (1 - abs(z - n))
        return total

    for i in range(h):
        for j in range(w):
            for tap in range(9):
                for channel in range(c):
                    g = channel // (c // groups)
                    dy = offset[0, g * 18 + 2 * tap, i, j]
                    dx = offset[0, g * 18 + 2 * tap + 1, i, j]
                    value = at(channel, i + tap // 3 - 1 + dy, j + tap % 3 - 1 + dx)
                    value *= mask[0, g * 9 + tap, i, j]
                    out[:, i, j] += weight[:, channel, tap // 3, tap % 3] * value
    return out + bias.detach().double().numpy()[:, None, None]


def deformable_arguments():
    x = torch.randn(1, 4, 5, 6)
    offset = torch.randn(1, 2 * 18, 5, 6) * 2  # also points outside
    mask = torch.rand(1, 2 * 9, 5, 6)
    return x, offset, mask, torch.randn(3, 4, 3, 3), torch.randn(3), 2


def test_deformable_convolution_is_what_its_definition_says():
    arguments = deformable_arguments()
    got = deform.deformable_convolution(*arguments)[0].numpy()
    assert np.abs(got - plain_deformable(*arguments)).max() < 1e-4


def test_deformable_convolution_without_offsets_is_a_convolution():
    x, offset, mask, weight, bias, groups = deformable_arguments()
    got = deform.deformable_convolution(x, offset * 0, torch.ones_like(mask), weight, bias, groups)
    assert torch.allclose(got, F.conv2d(x, weight, bias, padding=1), atol=1e-4)


def test_deformable_convolution_agrees_with_the_fused_operator():
    ops = pytest.importorskip("torchvision.ops", reason="torchvision is not installed")
    x, offset, mask, weight, bias, groups = deformable_arguments()
    got = deform.deformable_convolution(x, offset, mask, weight, bias, groups)
    fused = ops.deform_conv2d(x, offset, weight, bias, padding=1, mask=mask)
    assert torch.allclose(got, fused, atol=1e-4)


def test_temporal_attention_is_plain_attention_at_each_position():
    layer = paper.TemporalAttention(8, heads=2)
    assert not layer(torch.randn(1, 3, 8, 2, 3)).any()  # starts as nothing
    torch.nn.init.normal_(layer.out.weight)
    torch.nn.init.normal_(layer.out.bias)
    x = torch.randn(1, 3, 8, 2, 3)
    got = layer(x)

    def linear(conv, v):
        return conv.weight[:, :, 0, 0] @ v + conv.bias

    for i in range(2):
        for j in range(3):
            frames = [x[0, t, :, i, j] for t in range(3)]
            q, k, v = (
                [linear(c, f) for f in frames] for c in (layer.query, layer.key, layer.value)
            )
            for t in range(3):
                heads = []
                for head in (slice(0, 4), slice(4, 8)):
                    scores = torch.stack([q[t][head] @ k[s][head] / 2.0 for s in range(3)])
                    weights = torch.exp(scores) / torch.exp(scores).sum()
                    heads.append(sum(weights[s] * v[s][head] for s in range(3)))
                want = linear(layer.out, torch.cat(heads))
                assert torch.allclose(got[0, t, :, i, j], want, atol=1e-5)


def test_adanorm_normalises_each_position_over_channels():
    x = torch.randn(2, 16, 3, 4) * 5 + 2
    got = paper.AdaNorm(16)(x)
    assert torch.allclose(got.mean(1), torch.zeros(2, 3, 4), atol=1e-5)
    assert torch.allclose(got.var(1, unbiased=False), torch.ones(2, 3, 4), atol=1e-3)


def test_psa_is_three_attentions_and_a_mask():
    layer = paper.PSA(4)
    x = torch.randn(1, 4, 8, 8)

    def attend(block, v):
        largest = torch.stack([v[0].max(0).values])[None]
        mean = torch.stack([sum(v[0, c] for c in range(v.shape[1])) / v.shape[1]])[None]
        mask = 1 / (1 + torch.exp(-block.conv(torch.cat([mean, largest], 1))))
        return v * mask

    def pooled(v):
        blocks = (
            v.unfold(2, 2, 2)
            .unfold(3, 2, 2)
            .reshape(*v.shape[:2], *[v.shape[2] // 2, v.shape[3] // 2, 4])
        )
        return torch.cat([blocks.max(4).values, blocks.mean(4)], 1)

    half = layer.squeeze1(pooled(attend(layer.attention1, x)))
    quarter = pooled(attend(layer.attention2, half))
    y = x + layer.up2(F.leaky_relu(layer.up1(quarter), 0.1))
    y = layer.up3(attend(layer.attention3, F.leaky_relu(layer.down(y), 0.1)))
    assert torch.allclose(layer(x), x * 2 / (1 + torch.exp(-y)), atol=1e-5)


def test_quality_has_the_papers_size():
    with torch.device("meta"):
        count = sum(p.numel() for p in paper.PaperEnhancer().parameters())
    assert count / 1e6 == pytest.approx(29.3, abs=0.15)


# -- motion


def test_window_sum_keeps_what_is_constant_and_is_local():
    assert torch.allclose(window_sum(torch.full((1, 1, 9, 9), 3.0), 3), torch.tensor(3.0))
    one = torch.zeros(1, 1, 15, 15)
    one[0, 0, 7, 7] = 1.0
    spread = window_sum(one, 3)
    assert float(spread.sum()) == pytest.approx(1.0, abs=1e-6)
    assert torch.equal(spread, spread.flip(2)) and torch.equal(spread, spread.flip(3))
    assert float(spread[0, 0, 7, 11]) == 0.0 < float(spread[0, 0, 7, 10])


@pytest.mark.parametrize("cubic", [False, True])
def test_warp_by_whole_samples_moves_samples(cubic):
    x = torch.rand(1, 2, 8, 9)
    flow = torch.zeros(1, 2, 8, 9)
    flow[:, 0], flow[:, 1] = 2.0, -1.0
    got = warp(x, flow, cubic)
    assert torch.allclose(got[:, :, 2:6, 2:5], x[:, :, 1:5, 4:7], atol=1e-5)


@pytest.mark.parametrize("shift", [(0, 0), (3, 1), (-9, 6), (18, -11)])
def test_motion_of_a_shifted_picture_is_found(shift):
    generator = torch.Generator().manual_seed(1)
    scene = F.interpolate(
        torch.rand(1, 1, 60, 70, generator=generator), scale_factor=4.0, mode="bicubic"
    )
    dx, dy = shift
    target = scene[:, :, 40:168, 40:200]
    reference = scene[:, :, 40 - dy : 168 - dy, 40 - dx : 200 - dx]
    flow = MotionSearch()(target, reference)[:, :, 24:-24, 24:-24]
    want = torch.tensor([float(dx), float(dy)]).view(1, 2, 1, 1)
    assert float((flow - want).abs().median()) < 0.1
    assert float(((flow - want).abs().amax(1) > 0.5).float().mean()) < 0.05


def test_flat_pictures_do_not_move():
    flat = torch.full((1, 1, 48, 64), 0.5)
    flow = MotionSearch()(flat, flat)
    assert torch.isfinite(flow).all() and float(flow.abs().max()) < 1e-3


def sampled(scene: torch.Tensor, dx: int, dy: int) -> torch.Tensor:
    return scene[:, :, 40 + dy : 167 + dy, 40 + dx : 197 + dx]  # an odd size


@pytest.mark.parametrize(("position", "step", "ratio"), [(0.5, (6, -3), 1), (1 / 3, (4, -2), 2)])
def test_straight_motion_fits_both_references_and_stands_noise(position, step, ratio):
    generator = torch.Generator().manual_seed(1)
    scene = torch.rand(1, 1, 60, 70, generator=generator)
    scene = F.interpolate(scene, scale_factor=4.0, mode="bicubic")
    x, y = step
    target = sampled(scene, 0, 0)
    first, last = sampled(scene, x, y), sampled(scene, -ratio * x, -ratio * y)
    # Blocks of noise, as coding leaves it: the references are clean.
    noise = torch.randn(1, 1, 32, 40, generator=generator) * 0.15
    target = target + F.interpolate(noise, scale_factor=4.0)[:, :, :127, :157]
    alone = MotionSearch()(target.repeat(2, 1, 1, 1), torch.cat([first, last]))
    at = torch.tensor(position).view(1, 1, 1, 1)
    both = StraightSearch()(target, first, last, alone, at)
    want = torch.tensor([[-x, -y], [ratio * x, ratio * y]], dtype=torch.float32).view(2, 2, 1, 1)

    def error(flow: torch.Tensor) -> float:
        return float((flow - want).abs()[:, :, 24:-24, 24:-24].mean())

    assert error(both) < 0.2
    assert error(both) < 0.5 * error(alone)
