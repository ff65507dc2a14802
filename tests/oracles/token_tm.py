"""TokenTM of one stream and one sample, token by token, as whole matrices in float64."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

import numpy as np

from oracles.rules import Matrix


@dataclass(frozen=True)
class Layer:
    """One block: A and ∂y/∂A (heads, n, n), what each connection passes by (n, d) and adds, v_h W_O (heads, n, d)."""

    probs: Matrix
    gradient: Matrix
    tokens: Matrix
    attended: Matrix
    per_head: Matrix
    middle: Matrix
    fed: Matrix


def weights(before: Matrix, after: Matrix) -> list[float]:
    """The diagonal of W."""
    cosines = [float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in zip(before, after, strict=True)]
    total = sum(exp(c) for c in cosines)
    lengths = [np.linalg.norm(b) / np.linalg.norm(a) for a, b in zip(before, after, strict=True)]
    return [length * exp(c) / total for length, c in zip(lengths, cosines, strict=True)]


def token_tm(layers: list[Layer], of_heads: bool) -> Matrix:
    """C, (n, n)."""
    n = len(layers[0].tokens)
    C = np.diag([np.linalg.norm(token) for token in layers[0].tokens])
    for layer in layers:
        heads, mixed = len(layer.probs), np.eye(n)
        changed = weights(layer.tokens, layer.tokens + layer.attended)
        by_head = [weights(layer.tokens, layer.per_head[h]) for h in range(heads)]
        for i in range(n):
            for j in range(n):
                positive = [max(g, 0.0) for g in layer.gradient[:, i, j]]
                if of_heads:
                    terms = [p * layer.probs[h, i, j] * by_head[h][j] for h, p in enumerate(positive)]
                    mixed[i, j] += sum(terms) / heads
                else:
                    mixed[i, j] += layer.probs[:, i, j].mean() * changed[j] * sum(positive) / heads
        fed = weights(layer.middle, layer.fed if of_heads else layer.middle + layer.fed)
        C = (np.eye(n) + np.diag(fed)) @ mixed @ C
    return C
