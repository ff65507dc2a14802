"""How relevance becomes a colour: one map for itself, or several maps on one scale; and the words that say so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from heedmap.render.colours import PICTURE, SIGNED
from heedmap.render.sample import Sample, number

if TYPE_CHECKING:
    from jaxtyping import Float

ROUNDING = 1e-6
"""Negative values smaller than this part of the greatest are rounding errors."""


@dataclass(frozen=True)
class Scale:
    """From relevance to a place on a colour map.

    Attributes:
        low, high: what the ends of the colour map stand for; equal: there is nothing to tell apart.
        signed: whether 0 is the middle of a diverging colour map; then ``low`` is ``-high``.
    """

    low: float
    high: float
    signed: bool

    @property
    def cmap(self) -> str:
        """The colour map for pictures."""
        return SIGNED if self.signed else PICTURE

    @property
    def neutral(self) -> float:
        """The place of what does not matter."""
        return 0.5 if self.signed else 0.0

    def places(self, values: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """0 to 1 along the colour map; :attr:`neutral` for what is not finite."""
        if self.high <= self.low:
            return np.full(np.shape(values), self.neutral)
        share = (np.clip(values, self.low, self.high) - self.low) / (self.high - self.low)
        return np.where(np.isfinite(values), share, self.neutral)

    def strength(self, places: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """0 to 1: how far from neutral."""
        return np.abs(places - 0.5) * 2 if self.signed else places


def scale_of(maps: Sequence[NDArray[np.float64]]) -> Scale:
    """The scale that all values of ``maps`` share.

    Without negative ones it goes from the least to the greatest; else it is centred at 0 and as wide on both sides.
    """
    finite = np.concatenate([values[np.isfinite(values)] for values in maps] or [np.zeros(0)])
    if not len(finite):
        return Scale(0.0, 0.0, False)
    low, high = float(finite.min()), float(finite.max())
    most = max(abs(low), abs(high))
    return Scale(-most, most, True) if low < -ROUNDING * most else Scale(low, high, False)


def taken_values(drawn: Sample) -> NDArray[np.float64]:
    """(tokens,): the relevance, NaN for what the model did not take in or what is not finite."""
    return np.where(drawn.taken & np.isfinite(drawn.values), drawn.values, np.nan)


def scale_words(drawn: Sample, scale: Scale, kind: str) -> str:
    """How this sample was scaled by itself, with its range in numbers; the curve of a sound was not."""
    if not scale.signed and kind != "audio":
        return drawn.caption
    colours = "" if kind == "audio" else f"; colours: ±{number(scale.high)} around 0"
    return f"range: {range_words(drawn.values[drawn.taken])}{colours}"


def range_words(values: NDArray[np.float64]) -> str:
    """``0.1 … 0.4``: the least and the greatest finite value."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return "no finite value"
    low, high = float(finite.min()), float(finite.max())
    return f"{low:.4g} … {high:.4g}" if high > low else number(low)
