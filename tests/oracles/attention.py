"""Softmax attention of one head, entry by entry, in float64."""

from __future__ import annotations

import math

import numpy as np

Matrix = np.ndarray


def probabilities(query: Matrix, key: Matrix, scale: float, mask: Matrix | None = None, causal: bool = False) -> Matrix:
    """A = softmax(scale · q kᵀ + mask); ``mask`` is boolean (True: may look) or added; a row that may look nowhere is 0."""
    found = np.zeros((len(query), len(key)))
    for i in range(len(query)):
        scores = [
            _score(query[i], key[j], scale, mask, i, j) if j <= i or not causal else -math.inf for j in range(len(key))
        ]
        top = max(scores)
        if top == -math.inf:
            continue
        weights = [math.exp(s - top) for s in scores]
        found[i] = [w / sum(weights) for w in weights]
    return found


def _score(query: Matrix, key: Matrix, scale: float, mask: Matrix | None, i: int, j: int) -> float:
    score = scale * float(query @ key)
    if mask is None:
        return score
    if mask.dtype == bool:
        return score if mask[i, j] else -math.inf
    return score + float(mask[i, j])
