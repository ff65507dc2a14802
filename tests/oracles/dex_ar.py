"""DEX-AR of one token and one sample, head by head and layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from oracles.rules import Matrix


def dex_ar(
    layers: Sequence[tuple[Tensor, Tensor]],
    guess: Callable[[Tensor], Tensor],
    token: int,
    row: int,
    shown: Sequence[int],
    words: Sequence[int],
) -> Matrix:
    """The map of the token that ``row`` says, (tokens,).

    Args:
        layers: of each layer that counts A, (1, heads, queries, keys), and what it hands on, (1, tokens, features), with their graph.
        guess: states → logits.
        token: its id.
        row: the place that says it.
        shown: the picture's places.
        words: all other places up to ``row``.
    """
    found = np.zeros(layers[0][0].shape[-1])
    for attention, states in layers:
        score = guess(states[0, row])[token]
        (gradient,) = torch.autograd.grad(score, attention, retain_graph=True)
        for head in gradient[0, :, row].numpy():
            positive = np.maximum(head, 0)
            weight = max(max(positive[list(shown)]) - max(positive[list(words)]), 0)
            for key in (*shown, *words):
                found[key] += weight * positive[key]
    return found
