"""Whether a map says what the model does: figures of maps as pure functions of numbers, without a model.

Everywhere ``relevance`` is one number a token, ``free`` says which tokens may be removed, and equally relevant ones go in an
order that ``seed`` draws. Wherever a model is asked, it is behind a function ``drop``, see :data:`Drop`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

Drop = Callable[["Bool[np.ndarray, 'variants batch tokens']"], "Float[np.ndarray, 'variants batch']"]
"""Which tokens are kept, several times for each sample → the probability of the target then."""

POSITIVE, NEGATIVE = 0, 1
SIGNS = ("positive", "negative")
"""Most relevant first, least relevant first."""


# -- one map and another -----------------------------------------------------------------------------------------------


def overlap(a: Float[np.ndarray, " tokens"], b: Float[np.ndarray, " tokens"], share: float = 0.1) -> float:
    """Which part of the most relevant tokens of one map, ``share`` of all but at least one, the other has there too."""
    count = max(1, int(share * len(a)))
    first, second = (set(ranked(relevance)[:count].tolist()) for relevance in (a, b))
    return len(first & second) / count


def change(before: Float[np.ndarray, " tokens"], after: Float[np.ndarray, " tokens"]) -> float:
    """‖after − before‖ / ‖before‖; where there was no relevance, 0 if there still is none, else 1."""
    size = float(np.linalg.norm(before))
    if size == 0:
        return float(after.any())
    return float(np.linalg.norm(after - before)) / size


def complexity(relevance: Float[np.ndarray, " tokens"]) -> float:
    """Entropy in bits of the map's histogram: 0 where all tokens are alike, more the more kinds of numbers there are.

    As in Quantus, but the bins are by Sturges' rule from the number of tokens, not 100: a sentence of nine words in 100 bins has
    the entropy of nine different numbers whatever the map.
    """
    counts = np.histogram(relevance, bins="sturges")[0]
    shares = counts[counts > 0] / counts.sum()
    return float(max(-(shares * np.log2(shares)).sum(), 0.0))


def rise(before: float, after: float) -> float:
    """(after − before) / before; NaN where there was nothing to rise from."""
    return (after - before) / before if before > 0 else float("nan")


def ranked(values: Float[np.ndarray, " tokens"], seed: int | Sequence[int] | None = None) -> Int[np.ndarray, " tokens"]:
    """Indices from the greatest value to the least; equal ones in order, or with a seed in an order that is drawn."""
    drawn = np.arange(len(values)) if seed is None else np.random.default_rng(seed).permutation(len(values))
    return drawn[np.argsort(-values[drawn], kind="stable")]


def order_of(
    relevance: Float[np.ndarray, " tokens"], free: Bool[np.ndarray, " tokens"], seed: int | Sequence[int]
) -> Int[np.ndarray, " free"]:
    """The free tokens from the most relevant one; equal ones in an order that is drawn."""
    places = np.flatnonzero(free)
    return places[ranked(relevance[places], seed)]


# -- a map and the model -----------------------------------------------------------------------------------------------


def coefficient(salience: Float[np.ndarray, " groups"], falls: Float[np.ndarray, " groups"]) -> float:
    """SaCo's F = Σ w / Σ |w| over all pairs i < j of groups, from the most salient one; -1 to 1.

    w = s_i − s_j where ∇pred_i ≥ ∇pred_j, else −(s_i − s_j). Wu et al., CVPR 2024, arXiv 2404.01415. 0 where all groups
    are equally salient, for then nothing is claimed.

    Args:
        salience: s, of each group of tokens.
        falls: ∇pred, by how much the probability falls without that group.
    """
    i, j = np.triu_indices(len(salience), 1)
    apart = salience[i] - salience[j]
    total = np.abs(apart).sum()
    return float(np.where(falls[i] >= falls[j], apart, -apart).sum() / total) if total > 0 else 0.0


def saco(
    relevance: Float[np.ndarray, "batch tokens"],
    free: Bool[np.ndarray, "batch tokens"],
    drop: Drop,
    groups: int = 10,
    seed: int = 0,
) -> Float[np.ndarray, " batch"]:
    """SaCo of each sample: whether groups of more relevant tokens matter more to the model, see :func:`coefficient`.

    The paper's K ``groups`` are equally large. Where the tokens do not divide so, the first ones have one more, and salience and
    falls are those of a token of the group; of equal groups that is the same. Of fewer tokens than groups each is one.
    """
    orders = [order_of(values, maskable, seed) for values, maskable in zip(relevance, free, strict=True)]
    cut = [np.array_split(order, min(groups, len(order))) if len(order) else [] for order in orders]
    kept = np.ones((1 + max(map(len, cut)), *free.shape), dtype=bool)
    for sample, chunks in enumerate(cut):
        for number, places in enumerate(chunks):
            kept[1 + number, sample, places] = False
    left = drop(kept)
    coefficients = []
    for sample, chunks in enumerate(cut):
        salience = np.array([relevance[sample, places].mean() for places in chunks])
        falls = np.array([(left[0, sample] - left[1 + n, sample]) / len(places) for n, places in enumerate(chunks)])
        coefficients.append(coefficient(salience, falls))
    return np.array(coefficients)


def deletion(
    relevance: Float[np.ndarray, "batch tokens"],
    free: Bool[np.ndarray, "batch tokens"],
    drop: Drop,
    steps: int = 10,
    seed: int = 0,
) -> Float[np.ndarray, "signs batch steps"]:
    """The probability while tokens are masked in equal steps, from none to all that are free; ``steps`` + 1 points.

    With the most relevant token gone first, :data:`POSITIVE`, and with the least relevant, :data:`NEGATIVE`.
    """
    kept = np.ones((2, steps + 1, *free.shape), dtype=bool)
    for sample, (values, maskable) in enumerate(zip(relevance, free, strict=True)):
        order = order_of(values, maskable, seed)
        counts = [round(step * len(order) / steps) for step in range(steps + 1)]
        kept[:, :, sample] = without_first(order, counts, len(values))
    left = drop(kept.reshape(-1, *free.shape))
    return left.reshape(2, steps + 1, len(free)).swapaxes(1, 2)


def removed(percent: int, tokens: int) -> int:
    """How many of ``tokens`` are gone at ``percent``: rounded down, exactly."""
    return percent * tokens // 100


def kept(
    relevance: Float[np.ndarray, " tokens"],
    free: Bool[np.ndarray, " tokens"],
    steps: Sequence[int],
    key: str,
    seed: int,
) -> Bool[np.ndarray, "signs steps tokens"]:
    """Which tokens of a sample are there when so many per cent of the free ones are gone, at each of ``steps``.

    Most relevant gone first (0) and least relevant gone first (1), which is the same order reversed. Where all that may be
    removed is removed, both are the same. Equally relevant ones go in an order drawn for the sample of this ``key``.
    """
    ordered = order_of(relevance, free, [seed, zlib.crc32(key.encode())])
    return without_first(ordered, [removed(percent, len(ordered)) for percent in steps], len(relevance))


def without_first(
    order: Int[np.ndarray, " free"], counts: Sequence[int], tokens: int
) -> Bool[np.ndarray, "signs counts tokens"]:
    """Which tokens are there when so many are gone: the first of ``order``, :data:`POSITIVE`; the last, :data:`NEGATIVE`."""
    kept = np.ones((2, len(counts), tokens), dtype=bool)
    for step, count in enumerate(counts):
        kept[POSITIVE, step, order[:count]] = False
        kept[NEGATIVE, step, order[len(order) - count :]] = False
    return kept


def area(curve: Float[np.ndarray, "*batch steps"], gone: Sequence[float] | None = None) -> Float[np.ndarray, "*batch"]:
    """Area under a curve by the trapezoid rule over the removed shares, not divided by their range.

    Args:
        curve: a figure at each step.
        gone: the share that is removed at each step, from 0 on; None: equal steps from 0 to 1.
    """
    return np.trapezoid(curve, np.linspace(0, 1, curve.shape[-1]) if gone is None else np.asarray(gone), axis=-1)


def symmetric_gain(
    curves: Float[np.ndarray, "signs *batch steps"], gone: Sequence[float] | None = None
) -> Float[np.ndarray, "*batch"]:
    """SRG, the symmetric relevance gain: area with the least relevant gone first, less that with the most relevant.

    Blücher et al., 2024, arXiv 2401.06654. What a fill-in does to the model whatever is removed falls out of the difference;
    a map of no worth has 0.

    Args:
        curves: a figure at each step, :data:`POSITIVE` and :data:`NEGATIVE`.
        gone: as for :func:`area`.
    """
    areas = area(curves, gone)
    return areas[NEGATIVE] - areas[POSITIVE]


def over_curve(curve: Float[np.ndarray, "*batch steps"]) -> Float[np.ndarray, "*batch"]:
    """AOPC: by how much a figure is lower than at the first step, mean over all steps, the first among them.

    Samek et al., 2017, equation 12, 1 / (L + 1) Σ f(x⁰) − f(xᵏ): every step counts alike, however much it removes.
    """
    return (curve[..., :1] - curve).mean(-1)


def between_curves(curves: Float[np.ndarray, "signs *batch steps"]) -> Float[np.ndarray, "*batch"]:
    """ABPC: by how much :data:`NEGATIVE` is over :data:`POSITIVE`, mean over all steps; the difference of their AOPC."""
    return (curves[NEGATIVE] - curves[POSITIVE]).mean(-1)
