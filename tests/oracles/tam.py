"""TAM of one token and one sample, word by word and window by window, in float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize_scalar

from oracles.rules import Matrix


def tam(
    states: Matrix,
    head: Matrix,
    ids: Sequence[int],
    shown: Sequence[int],
    words: Sequence[int],
    row: int,
    grid: tuple[int, int],
) -> tuple[Matrix, dict[int, float]]:
    """The map of what ``ids[row + 1]`` is, on the picture, (rows, columns), and on the words.

    Args:
        states: (tokens, features), of the last layer after its norm.
        head: (vocabulary, features).
        ids: of every place.
        shown: the picture's places.
        words: those of the words after the picture up to ``row``.
        row: the place that says the token.
        grid: of the picture.
    """
    token = ids[row + 1]
    scores = {place: [max(float(states[place] @ w), 0.0) for w in head] for place in (*shown, *words)}
    own = np.array([scores[place][token] for place in shown])
    others, weights = [], []
    for place in words:
        if ids[place] == token:
            continue
        said = ids[place] if place != words[0] else int(np.argmax(head @ states[place]))
        others.append(np.array([scores[j][said] for j in shown]))
        weights.append(scores[place][token])
    if others:
        mixed = sum(w * other for w, other in zip(weights, others, strict=True)) / (sum(weights) + 1e-8)
        scale = minimize_scalar(lambda x: float(((own - x * mixed) ** 2).sum()), tol=1e-14).x
        own = np.maximum(own - scale * mixed, 0)
    before = [place for place in words if place != row]
    values = [*own, *(scores[place][token] for place in before)]
    scaled = (np.array(values) - min(values)) / (max(values) - min(values))
    return smoothed(scaled[: len(own)].reshape(grid)), dict(zip(before, scaled[len(own) :], strict=True))


def smoothed(picture: Matrix) -> Matrix:
    """The rank-Gaussian filter, with windows of 3×3 that see the picture mirrored at its border."""
    rows, columns = picture.shape
    found = np.zeros_like(picture)
    for i in range(rows):
        for j in range(columns):
            window = sorted(
                picture[_mirrored(i + a, rows), _mirrored(j + b, columns)] for a in (-1, 0, 1) for b in (-1, 0, 1)
            )
            mean = sum(window) / 9
            if mean <= 0:
                continue
            sigma = (sum((x - mean) ** 2 for x in window) / 9) ** 0.5 / mean
            weights = [
                1.0 if rank == 4 else np.exp(-((rank - 4) ** 2) / (2 * sigma**2)) if sigma else 0.0 for rank in range(9)
            ]
            found[i, j] = sum(w * x for w, x in zip(weights, window, strict=True)) / sum(weights)
    return found


def _mirrored(place: int, size: int) -> int:
    if place < 0:
        return -place
    return 2 * (size - 1) - place if place >= size else place
