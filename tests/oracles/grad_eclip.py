"""Grad-ECLIP of one row and one sample, key by key, in float64."""

from __future__ import annotations

import numpy as np

from oracles.rules import Matrix


def grad_eclip(gradient: Matrix, query: Matrix, key: Matrix, value: Matrix, seen: list[int], row: int | None) -> Matrix:
    """The map of a query, (keys,).

    ``gradient`` is ∂y/∂o of the row and ``query`` its q, (features,) with all heads side by side; key and value are (keys, features);
    ``row`` is the token itself where it is among the keys.
    """
    cosines = [float(query @ k / np.linalg.norm(query) / np.linalg.norm(k)) for k in key]
    others = [cosines[j] for j in seen if j != row]
    found = np.zeros(len(key))
    for j in seen:
        likeness = (cosines[j] - min(others)) / (max(others) - min(others))
        found[j] = max(float(gradient @ value[j]), 0.0) * min(max(likeness, 0.0), 1.0)
    return found
