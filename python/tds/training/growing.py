# SPDX-License-Identifier: LGPL-2.1-or-later
"""A larger network that begins with what a smaller one has learned.

After Chen et al., *Net2Net* (ICLR 2016): the larger network starts as the same function, or
near it, so training goes on from the smaller one's quality instead of from bicubic. New
channels begin with fresh weights and unheard (what listens to them is zero); new blocks begin
as no change.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..models.family import FamilyEnhancer, FusionBlock
from ..models.light import LightEnhancer
from ..models.quality import QualityEnhancer


@torch.no_grad()
def grow(small: nn.Module, large: nn.Module) -> None:
    """Gives ``large`` (fresh weights) the function of ``small``, both of kind ``light``.

    ``large`` has as many channels and blocks or more, and two convolutions a block if it has
    more blocks. Two differences make it another function, though a better start than none: with
    another scale, what listened to the LR samples of a cell listens to their mean; with
    hypotheses of motion where ``small`` has one, they share what was learned for that one.
    A network of kind ``quality`` takes the motion of one of the family, whose sizes are its own,
    and nothing else; one of the family takes another's that differs by its judge alone. Raises
    InputError for networks that do not fit.
    """
    if isinstance(small, FamilyEnhancer) and isinstance(large, QualityEnhancer):
        _take_motion(small, large)
        return
    if isinstance(small, FamilyEnhancer) and isinstance(large, FamilyEnhancer):
        _take_all_but_the_judge(small, large)
        return
    if not (isinstance(small, LightEnhancer) and isinstance(large, LightEnhancer)):
        raise InputError(
            "only networks of kind light start from another network's weights, and those of kind "
            "quality from the family's motion"
        )
    narrow, wide = small.tail.in_channels // 2, large.tail.in_channels // 2
    blocks = len(small.body)
    doubled = isinstance(large.body[0].second, nn.Conv2d)
    if wide < narrow or len(large.body) < blocks:
        raise InputError("a network starts from one with at most as many channels and blocks")
    if (len(large.body) > blocks and not doubled) or (
        not doubled and isinstance(small.body[0].second, nn.Conv2d)
    ):
        raise InputError("a network of one convolution a block starts from one of equal blocks")

    large.head.weight[:narrow] = _listen(small.head.weight, small, large)
    assert large.head.bias is not None and small.head.bias is not None
    large.head.bias[:narrow] = small.head.bias
    large.side.weight[:narrow] = small.side.weight
    large.side.bias[:narrow] = small.side.bias
    for i, block in enumerate(large.body):
        assert isinstance(block, FusionBlock)
        old = small.body[i] if i < blocks else None
        assert old is None or isinstance(old, FusionBlock)
        if old is not None:
            _widen(old.first, block.first)
        if isinstance(block.second, nn.Conv2d):
            if old is None:
                block.second.weight[:narrow] = 0.0
                assert block.second.bias is not None
                block.second.bias[:narrow] = 0.0
            elif isinstance(old.second, nn.Conv2d):
                _widen(old.second, block.second)
            else:
                same = nn.Conv2d(narrow, narrow, 3, padding=1)
                nn.init.dirac_(same.weight)
                assert same.bias is not None
                nn.init.zeros_(same.bias)
                _widen(same, block.second)
    weight, bias = (_answer(x, small, large) for x in (small.tail.weight, small.tail.bias))
    large.tail.weight.zero_()
    large.tail.weight[:, :narrow] = weight[:, :narrow]
    large.tail.weight[:, wide : wide + narrow] = weight[:, narrow:]
    assert large.tail.bias is not None
    large.tail.bias.copy_(bias)


def _take_all_but_the_judge(small: FamilyEnhancer, large: FamilyEnhancer) -> None:
    before, own = (
        {k: v for k, v in net.state_dict().items() if not k.startswith("judge.")}
        for net in (small, large)
    )
    if {k: v.shape for k, v in before.items()} != {k: v.shape for k, v in own.items()}:
        raise InputError(
            "a network of the family starts from one of the same sizes, which may lack the judge"
        )
    large.load_state_dict(before, strict=False)


def _take_motion(family: FamilyEnhancer, quality: QualityEnhancer) -> None:
    own, theirs = quality.motion.state_dict(), family.state_dict()
    wrong = [k for k in own if k not in theirs or theirs[k].shape != own[k].shape]
    if wrong:
        raise InputError(
            f"the motion of kind quality starts from the family's of the same sizes; {wrong[0]} is "
            "of another"
        )
    quality.motion.load_state_dict({k: theirs[k] for k in own})


def _widen(old: nn.Conv2d, new: nn.Conv2d) -> None:
    """The first outputs of ``new`` become those of ``old``, deaf to the new inputs."""
    outputs, inputs = old.weight.shape[:2]
    new.weight[:outputs] = 0.0
    new.weight[:outputs, :inputs] = old.weight
    assert new.bias is not None and old.bias is not None
    new.bias[:outputs] = old.bias


def _listen(weight: Tensor, small: LightEnhancer, large: LightEnhancer) -> Tensor:
    """The head's weights for the other scale's number of LR samples a cell, and for more
    hypotheses, which it listens to as it did to one."""
    before, after = ((m.cell // m.scale) ** 2 for m in (small, large))
    end = weight.shape[1] - 2  # inputs: references and misses, LR luma, LR chroma
    start = end - before
    references, low = weight[:, :start], weight[:, start:end]
    if before != after:
        low = low.mean(1, keepdim=True).expand(-1, after, -1, -1) * (before / after)
    references = _share(references, small, large, 1)
    return torch.cat([references, low, weight[:, end:]], 1)


def _answer(tail: Tensor | None, small: LightEnhancer, large: LightEnhancer) -> Tensor:
    """The tail's weights or biases for more hypotheses: each gets a part of one's gates."""
    assert tail is not None
    return torch.cat([_share(tail[:-24], small, large, 0), tail[-24:]])


def _share(x: Tensor, small: LightEnhancer, large: LightEnhancer, dim: int) -> Tensor:
    if small.hypotheses == large.hypotheses:
        return x
    if small.hypotheses != 1:
        raise InputError("a network starts from one with one hypothesis of motion, or as many")
    return torch.cat([x / large.hypotheses] * large.hypotheses, dim)
