"""Whether two maps put their tokens in the same order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float


def spearman(a: Float[np.ndarray, " tokens"], b: Float[np.ndarray, " tokens"]) -> float:
    """Spearman's rank correlation, -1 to 1; of two maps that are both constant 1, of one that is and one that is not 0."""
    flat = (np.ptp(a) == 0, np.ptp(b) == 0)
    if any(flat):
        return float(all(flat))
    return float(np.clip(np.corrcoef(ranks(a), ranks(b))[0, 1], -1, 1))


def ranks(values: Float[np.ndarray, " tokens"]) -> Float[np.ndarray, " tokens"]:
    """1 of the least value to the number of tokens; equal values share the mean of their ranks."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]
