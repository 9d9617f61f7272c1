# SPDX-License-Identifier: LGPL-2.1-or-later
"""`quality-paper`: the paper's network. EDVR's backbone from full size to full size, PCD
alignment, MTSA fusion, IQEM. Its parts serve `quality` (quality.py) too.

What the paper leaves open, and what is chosen here:

* width and depth: EDVR-L's (128 channels, 5 blocks before alignment, 40 after); IQEM has
  ``iqem_layers`` convolutions of ``iqem_channels``, which brings the whole to 29.2 M weights;
* AdaNorm: layer normalisation over channels without weights of its own, whose scale and shift
  come from the picture's mean features;
* MTA: 8 heads, every frame attends to all three, scales made by strided convolution;
* PSA: a spatial attention is a 7x7 convolution of the mean and the largest channel (CBAM); the
  third one works at half size, so that its up-convolution has something to bring up;
* the network works on RGB (BT.709, limited range) and converts inside.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tds.models.colour import from_rgb, to_rgb
from tds.models.deform import DeformableConv
from tds.models.resample import BicubicUp, luma_of, pack


def _lrelu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.1)


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class ResidualBlock(nn.Module):
    """EDVR's block without normalisation: ``x + conv(relu(conv(x)))``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(conv.weight, a=0, mode="fan_in")
            conv.weight.data *= 0.1
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x)))


class PCD(nn.Module):
    """Pyramid, cascading and deformable alignment of a frame's features to the target's."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        c = channels
        self.l3_offset1 = nn.Conv2d(2 * c, c, 3, padding=1)
        self.l3_offset2 = nn.Conv2d(c, c, 3, padding=1)
        self.l3_dcn = DeformableConv(c, groups)
        self.l2_offset1 = nn.Conv2d(2 * c, c, 3, padding=1)
        self.l2_offset2 = nn.Conv2d(2 * c, c, 3, padding=1)
        self.l2_offset3 = nn.Conv2d(c, c, 3, padding=1)
        self.l2_dcn = DeformableConv(c, groups)
        self.l2_feature = nn.Conv2d(2 * c, c, 3, padding=1)
        self.l1_offset1 = nn.Conv2d(2 * c, c, 3, padding=1)
        self.l1_offset2 = nn.Conv2d(2 * c, c, 3, padding=1)
        self.l1_offset3 = nn.Conv2d(c, c, 3, padding=1)
        self.l1_dcn = DeformableConv(c, groups)
        self.l1_feature = nn.Conv2d(2 * c, c, 3, padding=1)
        self.cascade_offset1 = nn.Conv2d(2 * c, c, 3, padding=1)
        self.cascade_offset2 = nn.Conv2d(c, c, 3, padding=1)
        self.cascade_dcn = DeformableConv(c, groups)

    def forward(self, frame: list[Tensor], target: list[Tensor]) -> Tensor:
        """Levels 1 (full size) to 3 (a quarter) of both; returns level 1, aligned."""
        guide = _lrelu(self.l3_offset1(torch.cat([frame[2], target[2]], 1)))
        guide = _lrelu(self.l3_offset2(guide))
        found = _lrelu(self.l3_dcn(frame[2], guide))

        up = _twice(guide) * 2.0
        guide = _lrelu(self.l2_offset1(torch.cat([frame[1], target[1]], 1)))
        guide = _lrelu(self.l2_offset2(torch.cat([guide, up], 1)))
        guide = _lrelu(self.l2_offset3(guide))
        now = self.l2_dcn(frame[1], guide)
        found = _lrelu(self.l2_feature(torch.cat([now, _twice(found)], 1)))

        up = _twice(guide) * 2.0
        guide = _lrelu(self.l1_offset1(torch.cat([frame[0], target[0]], 1)))
        guide = _lrelu(self.l1_offset2(torch.cat([guide, up], 1)))
        guide = _lrelu(self.l1_offset3(guide))
        now = self.l1_dcn(frame[0], guide)
        found = self.l1_feature(torch.cat([now, _twice(found)], 1))

        guide = _lrelu(self.cascade_offset1(torch.cat([found, target[0]], 1)))
        guide = _lrelu(self.cascade_offset2(guide))
        return _lrelu(self.cascade_dcn(found, guide))


class AdaNorm(nn.Module):
    """Layer normalisation over channels, modulated by the frame's mean features."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(channels, 2 * channels)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        scale, shift = self.modulation(x.mean([2, 3])).chunk(2, 1)
        normal = (x - mean) * torch.rsqrt(variance + 1e-5)
        return normal * (1.0 + scale[:, :, None, None]) + shift[:, :, None, None]


class TemporalAttention(nn.Module):
    """Multi-head scaled dot-product attention along time, at each position by itself.

    ``[B, T, C, H, W]`` -> the same; the caller adds the residual.
    """

    def __init__(self, channels: int, heads: int = 8) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Conv2d(channels, channels, 1)
        self.key = nn.Conv2d(channels, channels, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        # Starts as no attention at all: before it is trained (stage 1) MTA passes frames on.
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        b, t, c, h, w = x.shape[0], x.shape[1], x.shape[2], x.shape[3], x.shape[4]
        flat = x.reshape(b * t, c, h, w)
        each = c // self.heads
        shape = [b, t, self.heads, each, h, w]
        q = self.query(flat).reshape(shape)
        k = self.key(flat).reshape(shape)
        v = self.value(flat).reshape(shape)
        # [B, heads, T (asks), T (answers), H, W]
        scores = (q.unsqueeze(2) * k.unsqueeze(1)).sum(4).permute(0, 3, 1, 2, 4, 5)
        weights = torch.softmax(scores * float(each) ** -0.5, 3)
        mixed = (weights.permute(0, 2, 3, 1, 4, 5).unsqueeze(4) * v.unsqueeze(1)).sum(2)
        return self.out(mixed.reshape(b * t, c, h, w)).reshape(b, t, c, h, w)


class MTA(nn.Module):
    """Multi-temporal attention: three scales, each normalised and attended; fused to one."""

    def __init__(self, channels: int, frames: int = 3, heads: int = 8) -> None:
        super().__init__()
        self.norms = nn.ModuleList([AdaNorm(channels) for _ in range(3)])
        self.attentions = nn.ModuleList([TemporalAttention(channels, heads) for _ in range(3)])
        self.halve = nn.ModuleList(
            [nn.Conv2d(channels, channels, 3, stride=2, padding=1) for _ in range(2)]
        )
        self.fuse = nn.Conv2d(3 * frames * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, T, C, H, W]`` -> ``[B, C, H, W]``; H and W are multiples of 4."""
        b, t, c, h, w = x.shape[0], x.shape[1], x.shape[2], x.shape[3], x.shape[4]
        scales = [x.reshape(b * t, c, h, w)]
        for halve in self.halve:
            scales.append(_lrelu(halve(scales[-1])))
        found: list[Tensor] = []
        for i, (norm, attention) in enumerate(zip(self.norms, self.attentions)):  # noqa: B905
            s = scales[i]
            normal = norm(s).reshape(b, t, c, s.shape[2], s.shape[3])
            s = s + attention(normal).reshape(s.shape)
            if i > 0:
                s = F.interpolate(s, size=[h, w], mode="bilinear", align_corners=False)
            found.append(s.reshape(b, t * c, h, w))
        return _lrelu(self.fuse(torch.cat(found, 1)))


class SpatialAttention(nn.Module):
    """``x`` weighed by a mask from its mean and its largest channel (CBAM)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * torch.sigmoid(self.conv(both))


def pooled(x: Tensor) -> Tensor:
    """Max- and mean-pooled by two, concatenated: ``[B, 2C, H/2, W/2]``."""
    return torch.cat([F.max_pool2d(x, 2), F.avg_pool2d(x, 2)], 1)


class PSA(nn.Module):
    """Pyramid spatial attention: a mask from three stages that reweighs the features."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        c = channels
        self.attention1 = SpatialAttention()
        self.squeeze1 = nn.Conv2d(2 * c, c, 3, padding=1)
        self.attention2 = SpatialAttention()
        self.up1 = nn.ConvTranspose2d(2 * c, c, 4, stride=2, padding=1)
        self.up2 = nn.ConvTranspose2d(c, c, 4, stride=2, padding=1)
        self.down = nn.Conv2d(c, c, 3, stride=2, padding=1)
        self.attention3 = SpatialAttention()
        self.up3 = nn.ConvTranspose2d(c, c, 4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        half = self.squeeze1(pooled(self.attention1(x)))
        quarter = pooled(self.attention2(half))
        y = x + self.up2(_lrelu(self.up1(quarter)))
        mask = torch.sigmoid(self.up3(self.attention3(_lrelu(self.down(y)))))
        return x * mask * 2.0  # twice: a mask of one half changes nothing


class MTSA(nn.Module):
    """Multi-scale temporal-spatial attention: MTA, then PSA."""

    def __init__(self, channels: int, heads: int = 8) -> None:
        super().__init__()
        self.mta = MTA(channels, heads=heads)
        self.psa = PSA(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.psa(self.mta(x))


class TSA(nn.Module):
    """EDVR's own fusion, for the ablation "without MTSA"."""

    def __init__(self, channels: int, frames: int = 3) -> None:
        super().__init__()
        c = channels
        self.frames = frames
        self.of_target = nn.Conv2d(c, c, 3, padding=1)
        self.of_frame = nn.Conv2d(c, c, 3, padding=1)
        self.fuse = nn.Conv2d(frames * c, c, 1)
        self.s1 = nn.Conv2d(frames * c, c, 1)
        self.s2 = nn.Conv2d(2 * c, c, 1)
        self.s3 = nn.Conv2d(c, c, 3, padding=1)
        self.l1 = nn.Conv2d(c, c, 1)
        self.l2 = nn.Conv2d(2 * c, c, 3, padding=1)
        self.l3 = nn.Conv2d(c, c, 3, padding=1)
        self.s4 = nn.Conv2d(c, c, 1)
        self.s5 = nn.Conv2d(c, c, 3, padding=1)
        self.add1 = nn.Conv2d(c, c, 1)
        self.add2 = nn.Conv2d(c, c, 1)

    def pool(self, x: Tensor) -> Tensor:
        return torch.cat(
            [F.max_pool2d(x, 3, stride=2, padding=1), F.avg_pool2d(x, 3, stride=2, padding=1)], 1
        )

    def forward(self, x: Tensor) -> Tensor:
        b, t, c, h, w = x.shape[0], x.shape[1], x.shape[2], x.shape[3], x.shape[4]
        target = self.of_target(x[:, 1])
        frames = self.of_frame(x.reshape(b * t, c, h, w)).reshape(b, t, c, h, w)
        likeness = torch.sigmoid((frames * target[:, None]).sum(2, keepdim=True))
        weighed = (x * likeness).reshape(b, t * c, h, w)
        fused = _lrelu(self.fuse(weighed))
        attention = _lrelu(self.s1(weighed))
        attention = _lrelu(self.s2(self.pool(attention)))
        level = _lrelu(self.l1(attention))
        level = _lrelu(self.l3(_lrelu(self.l2(self.pool(level)))))
        level = F.interpolate(level, size=attention.shape[2:], mode="bilinear", align_corners=False)
        attention = _lrelu(self.s3(attention)) + level
        attention = _lrelu(self.s4(attention))
        attention = F.interpolate(attention, size=[h, w], mode="bilinear", align_corners=False)
        attention = self.s5(attention)
        added = self.add2(_lrelu(self.add1(attention)))
        return fused * torch.sigmoid(attention) * 2.0 + added


class IQEM(nn.Module):
    """Image quality enhancement: 3x3 convolutions with ReLU that end in a residual, which starts
    at zero. outputs: its channels."""

    def __init__(self, channels: int, width: int, layers: int, outputs: int = 3) -> None:
        super().__init__()
        convolutions: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        for _ in range(layers - 2):
            convolutions += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
        self.layers = nn.Sequential(*convolutions)
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                # Without this a stack this deep passes next to nothing on at the start.
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.last = nn.Conv2d(width, outputs, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layers(x))


class PaperEnhancer(nn.Module):
    """Packed 4:2:0 in, packed 4:2:0 out; see docs/model.md for the methods' contract.

    ``fusion``: ``mtsa``, or ``tsa`` (EDVR's own: the paper's "without MTSA"). Full sizes are
    multiples of 8. ``side`` is not used: the paper's network knows no QP, and a missing
    reference is stood in for by another picture.
    """

    def __init__(
        self,
        scale: int = 2,
        channels: int = 128,
        front_blocks: int = 5,
        back_blocks: int = 40,
        groups: int = 8,
        iqem_layers: int = 16,
        iqem_channels: int = 256,
        fusion: str = "mtsa",
    ) -> None:
        super().__init__()
        if fusion not in ("mtsa", "tsa"):
            raise ValueError(f"fusion is mtsa or tsa, not {fusion!r}")
        if channels % groups or channels % 8:
            raise ValueError(f"channels ({channels}) are a multiple of 8 and of groups ({groups})")
        self.scale = scale
        self.up = BicubicUp(scale)
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.front = nn.Sequential(*[ResidualBlock(channels) for _ in range(front_blocks)])
        self.l2_down = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.l2_conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.l3_down = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.l3_conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.pcd = PCD(channels, groups)
        self.fusion: nn.Module = MTSA(channels) if fusion == "mtsa" else TSA(channels)
        self.back = nn.Sequential(*[ResidualBlock(channels) for _ in range(back_blocks)])
        self.iqem = IQEM(channels, iqem_channels, iqem_layers)

    def features(self, picture: Tensor) -> list[Tensor]:
        """Packed 4:2:0 -> features at full size, a half and a quarter."""
        l1 = self.front(_lrelu(self.first(to_rgb(picture))))
        l2 = _lrelu(self.l2_conv(_lrelu(self.l2_down(l1))))
        l3 = _lrelu(self.l3_conv(_lrelu(self.l3_down(l2))))
        return [l1, l2, l3]

    @torch.jit.export
    def reference(self, picture: Tensor) -> list[Tensor]:
        """``[B, 6, H/2, W/2]`` -> the features of :meth:`features`."""
        return self.features(picture)

    @torch.jit.export
    def enhance(
        self, first: list[Tensor], target: Tensor, last: list[Tensor], side: Tensor
    ) -> Tensor:
        """Features of both references and the target -> the picture."""
        up = pack(self.up(luma_of(target)), self.up(target[:, 4:6]))
        middle = self.features(up)
        aligned = torch.stack(
            [self.pcd(first, middle), self.pcd(middle, middle), self.pcd(last, middle)], 1
        )
        # In float32: the conversion's offset of 128 codes would round what it is added to.
        residual = self.iqem(self.back(self.fusion(aligned))).float()
        change = from_rgb(residual) - from_rgb(torch.zeros_like(residual))
        return (up.float() + change).to(up.dtype)

    def forward(self, first: Tensor, target: Tensor, last: Tensor, side: Tensor) -> Tensor:
        """Both references and the target, packed 4:2:0, and ``side [B, 5]`` -> the picture."""
        return self.enhance(self.reference(first), target, self.reference(last), side)
