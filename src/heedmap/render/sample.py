"""One sample of a segment: what every picture starts from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heedmap.common.printable import visible
from heedmap.data.explanation import ExplanationData
from heedmap.data.segments import ROLES, Segment
from heedmap.errors import InputError


@dataclass(frozen=True, eq=False)
class Drawn:
    """One sample of a segment.

    Attributes:
        labels: (tokens,) printable; token positions where the segment has no labels.
        values: (tokens,), float64, the relevance as it is.
        taken: (tokens,), whether the model took the token in.
        after: share of the relevance in what a sound was filled up with after its end, which is not among the tokens.
    """

    labels: tuple[str, ...]
    values: NDArray[np.float64]
    taken: NDArray[np.bool_]
    after: float = 0.0

    @property
    def shown(self) -> list[int]:
        """Indices of the tokens that the model took in, in order."""
        return [int(i) for i in np.flatnonzero(self.taken)]

    @property
    def known(self) -> NDArray[np.float64]:
        """(tokens,): the relevance, NaN for what the model did not take in or what is not finite."""
        return np.where(self.taken & np.isfinite(self.values), self.values, np.nan)

    def named(self, i: int) -> str:
        """The label of token ``i``, with its number, from 1, where others are called the same."""
        return f"{self.labels[i]} ({i + 1})" if self.labels.count(self.labels[i]) > 1 else self.labels[i]

    def top(self, count: int) -> list[int]:
        """Indices of the ``count`` most relevant finite tokens, highest first; of equals the earlier."""
        finite = [i for i in self.shown if np.isfinite(self.values[i])]
        return sorted(finite, key=lambda i: -self.values[i])[:count]


def sample(segment: Segment, index: int = 0) -> Drawn:
    """Sample ``index`` of ``segment``, a sound up to its end; InputError where the batch is smaller."""
    index = checked_index(index, len(segment.relevance))
    values = segment.relevance[index].detach().cpu().double().numpy()
    taken = (segment.positions[index] >= 0).cpu().numpy()
    heard, sizes = _heard(segment, index), np.abs(np.where(taken & np.isfinite(values), values, 0.0))
    after = float(sizes[..., ~heard].sum() / sizes.sum()) if sizes.any() else 0.0
    if segment.grid is not None:  # what comes after the end lies in its rows
        return Drawn(_labels(segment, index), values, taken & heard, after)
    end = int(np.flatnonzero(heard).max(initial=-1)) + 1
    return Drawn(_labels(segment, index)[:end], values[..., :end], taken[:end], after)


def is_queries(segment: Segment) -> bool:
    """Whether its tokens are learned queries, which have a number and no name of their own."""
    return segment.kind == "queries" and segment.labels is None


def checked_index(index: int, batch: int) -> int:
    """``index`` counted from 0 in a batch of ``batch``; InputError where it is out of range."""
    if not -batch <= index < batch:
        raise InputError(f"sample {index} is out of range: the batch has {batch}, 0 to {batch - 1}")
    return index % batch


def batch_size(explanation: ExplanationData) -> int:
    """Number of samples in ``explanation``."""
    return len(explanation.target)


def _heard(segment: Segment, index: int) -> NDArray[np.bool_]:
    """(tokens,): which tokens come before the padding at a sound's end; all of another segment, or where nobody told."""
    if segment.kind != "audio" or segment.roles is None or not segment.roles[index].strip(ROLES["padding"]):
        return np.ones(segment.tokens, dtype=bool)
    return np.array([letter != ROLES["padding"] for letter in segment.roles[index]])


def _labels(segment: Segment, index: int) -> tuple[str, ...]:
    tokens = segment.relevance.shape[1]
    if segment.labels is None:
        return tuple(f"query {i}" if is_queries(segment) else str(i) for i in range(tokens))
    given = tuple(visible(label) for label in segment.labels[index][:tokens])
    return given + tuple(str(i) for i in range(len(given), tokens))
