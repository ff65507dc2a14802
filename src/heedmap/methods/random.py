"""Random relevance: the baseline that every method must beat."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from heedmap.attention.flow import State
from heedmap.methods.method import Method, count
from heedmap.methods.run import RelevanceRows, TargetView


def _prepare(run: TargetView, options: Mapping[str, object]) -> RelevanceRows:
    seed = count(options, "seed", least=0)

    def rows_of(stream: int, state: State, rows: Tensor) -> dict[int, Tensor]:
        reached = sorted({stream} | run.graph.reachable_from[stream])
        return {x: _draw(seed, x, rows, run.graph.streams[x].tokens) for x in reached}

    return rows_of


def _draw(seed: int, stream: int, rows: Tensor, tokens: int) -> Tensor:
    """Uniform in 0…1; one sample's draw does not depend on the others, nor a token's on the padding after it."""
    draw = np.stack([np.random.default_rng([seed, stream, row]).random(tokens) for row in range(rows.shape[1])])
    return torch.as_tensor(draw, dtype=rows.dtype, device=rows.device).expand(rows.shape[0], -1, -1)


METHOD = Method(
    name="random",
    summary="uniform random numbers: what chance gives (the same for every sample; change the seed)",
    source="the baseline of every perturbation test",
    options={"seed": 0, "drop_self": True},
    prepare=_prepare,
    knows_nothing=True,
)
