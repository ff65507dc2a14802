"""Figures of one map against the true evidence, and the interval of their mean.

Evidence is a weight for each token, 0 to 1: whether a word or a box is evidence, or which share of a patch is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from heedmap.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Bool, Float

RESAMPLES = 1000
LEVEL = 0.95


def share(relevance: Float[np.ndarray, " tokens"], evidence: Float[np.ndarray, " tokens"]) -> float:
    """Part of the relevance that lies inside the evidence; 0 where there is no relevance at all.

    Negative relevance counts as none.
    """
    positive = np.clip(relevance, 0, None)
    total = positive.sum()
    return float((positive * evidence).sum() / total) if total > 0 else 0.0


def pointing(relevance: Float[np.ndarray, " tokens"], evidence: Float[np.ndarray, " tokens"]) -> float:
    """1 where the most relevant token touches the evidence, else 0; of equally relevant ones the mean."""
    return float((evidence[relevance == relevance.max()] > 0).mean())


def patch_evidence(mask: Bool[np.ndarray, "height width"], grid: tuple[int, int]) -> Float[np.ndarray, " patches"]:
    """For each patch of a picture the share of its area that the mask covers, row by row."""
    from PIL import Image

    rows, columns = grid
    scaled = Image.fromarray(mask.astype(np.float32)).resize((columns, rows), Image.Resampling.BOX)
    return np.asarray(scaled, dtype=np.float64).ravel()


def word_evidence(tokenizer: Any, text: str, words: Sequence[tuple[int, int]]) -> Float[np.ndarray, " tokens"]:
    """1 for each token of ``text`` that has a character of ``words``, (from, to), else 0; special tokens have none."""
    offsets = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    return np.array([float(any(s < end and start < e for start, end in words)) for s, e in offsets])


def centre_prior(grid: tuple[int, int]) -> Float[np.ndarray, "rows columns"]:
    """A map that knows nothing but that things tend to be in the middle: a Gaussian a quarter of the picture wide."""
    rows, columns = (((np.arange(size) + 0.5) / size - 0.5) / 0.25 for size in grid)
    return np.exp(-(rows[:, None] ** 2 + columns**2) / 2)


def interval(values: NDArray[np.float64], seed: int = 0) -> tuple[float, float, float]:
    """The mean of ``values``, one a sample, and the ends of its bootstrap interval (percentiles of resampled means).

    Raises:
        InputError: there are no values.
    """
    if not len(values):
        raise InputError("there are no samples to take a mean of; ask for more samples")
    rows = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[rows].mean(1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(values.mean()), float(low), float(high)
