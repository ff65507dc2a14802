"""Hiera as SAM 2 has it: windows that ask themselves, and whose queries are pooled where a stage begins; as dense matrices in float64."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from oracles import operators as ops
from oracles import scripts
from oracles.seen import Event

FUNCTIONS = ("max_pool2d", "interpolate")
"""What :func:`oracles.seen.seen` has to note beside softmaxes."""


def stages(blocks: nn.ModuleList, events: Sequence[Event], side: int) -> list[Tensor]:
    """R of the tokens after each block, over the patches, (tokens, patches), of one picture.

    Each block has a softmax of which nothing comes, and then its own; a block that pools, what was before it, then the queries.
    """
    softmaxes = iter([e for e in events if not e.name][1 : 2 * len(blocks) : 2])
    pools = iter([e for e in events if e.name == "max_pool2d"][::2])
    R, found = torch.eye(side * side, dtype=torch.float64), []
    for block in blocks:
        softmax, window, before = next(softmaxes), block.window_size or side, R
        keys = queries = scripts.windows(side, side, window, 0)
        if block.query_stride:
            pool = next(pools)
            R = ops.normalised(largest(pool)[None], halved(side))[0] @ R
            side //= 2
            queries = scripts.windows(side, side, window // 2, 0)
        cam = ops.blocks(softmax.out, softmax.gradient, queries, keys, len(R), len(before))
        R = R + cam[0] @ before
        found.append(R)
    return found


def largest(event: Event) -> Tensor:
    """Ā of a maximum over squares of two by two: each channel is of the place that has it."""
    x = event.given[0].detach()
    out, index = nn.functional.max_pool2d(x, 2, 2, return_indices=True)
    found = torch.zeros(out[0, 0].numel(), x[0, 0].numel(), dtype=torch.float64)
    shares = (event.gradient * out)[0].flatten(1)
    for channel, places in zip(shares, index[0].flatten(1), strict=True):
        found[torch.arange(len(found)), places] += channel
    return found.clamp(min=0)


def halved(side: int) -> Tensor:
    """Which places go into each square of two by two."""
    return ops.reaching(nn.AvgPool2d(2), torch.ones(1, 1, side, side))


def larger(event: Event) -> Tensor:
    """Ā of an interpolation, which SAM 2 computes in float32."""
    return ops.linear(event.module, event.given[0], event.gradient)[0].double()
