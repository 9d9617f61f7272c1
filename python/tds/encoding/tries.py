# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is tried at which effort."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..codecs import Config, EncoderAdapter


@dataclass(frozen=True, order=True)
class LR:
    """How the LR stream of a pair is coded. scale: k. offset: added to the QP, or the CRF. refine:
    HR pictures are made better too, before LR pictures are made from them."""

    scale: int
    offset: int
    refine: bool = False

    def __str__(self) -> str:
        return f"k={self.scale}, LR {self.offset:+d}" + (", HR refined" if self.refine else "")


@dataclass(frozen=True)
class Tries:
    """Candidates beside the plain stream, enhanced as strongly as is best.

    groups: N of pairs. lr: how their LR stream is coded. climbs: only as many N are tried, from
    FIRST on, as show which is best. again: groups of several sizes are rebuilt once more together,
    for the HR pictures between them, which see both, where these are refined; else what each was
    worth among its own counts (some 0.01 dB apart).
    """

    groups: tuple[int, ...] = ()
    lr: tuple[LR, ...] = ()
    climbs: bool = False
    again: bool = False


FIRST = 5
"""N that is tried first where not all are."""

# By what rebuilding costs of one plan of N = 5, all pictures of which 3/4 are LR: 2.3 times, at
# most 4.8 times (HEVC all-intra; coding stays below as long as a model is slower than the encoder),
# 14 and 26 times.
_COARSER = (0, 3, 6)
EFFORTS = (
    Tries(),
    Tries((5,), (LR(2, 3),)),
    Tries((3, 5, 9, 17), (LR(2, 3),), climbs=True),
    Tries((3, 5, 9, 17), tuple(LR(2, offset) for offset in _COARSER), again=True),
    Tries((3, 5, 9, 17), tuple(LR(k, offset) for k in (2, 4) for offset in _COARSER), again=True),
)
"""By effort, of all-intra."""

BOTH_FROM = 3
"""The effort from which on pairs are tried with their HR pictures refined and as they are."""


def tries_of(
    effort: int, config: Config, adapter: type[EncoderAdapter], refine: bool, scales: set[int]
) -> Tries:
    """Pairs are tried in all-intra alone, where each packet of the encoder stands by itself; in RA
    and LDP two streams code the same redundancy twice. refine: a model can refine HR pictures.
    scales: those that there is a model for."""
    if config is not Config.AI or not adapter.stands_alone:
        return Tries()
    tries = EFFORTS[effort]
    lr = tuple(x for x in tries.lr if x.scale in scales)
    if refine:
        refined = tuple(replace(x, refine=True) for x in lr if x.offset == 3)
        lr = (*lr, *refined) if effort >= BOTH_FROM else refined
    return replace(tries, groups=tries.groups if lr else (), lr=lr)
