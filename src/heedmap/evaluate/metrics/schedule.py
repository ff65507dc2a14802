"""Which tokens are taken away at which step: the paper's steps, exact counts, and the order of removal."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from heedmap.errors import OptionError

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

VQA = (0, 25, 50, 75, 80, 85, 90, 95, 100)
CROWDED = (0, 50, 75, 95, 96, 97, 98, 99, 100)
PIXELS = (0, 10, 20, 30, 40, 50, 60, 70, 80, 90)
TENTHS = (*PIXELS, 100)

SIGNS = ("positive", "negative")
"""Most relevant first, least relevant first."""


@dataclass(frozen=True)
class Preset:
    """How a kind of model is perturbed.

    Attributes:
        about: where it is from.
        steps: segment's name → per cent of its tokens that are gone at each step.
        pixels: whether pictures lose pixels one by one, by the map scaled up, or whole patches.
    """

    about: str
    steps: Mapping[str, Sequence[int]]
    pixels: bool = False


PRESETS = {
    "lxmert": Preset("the authors' for LXMERT", {"text": VQA, "boxes": VQA}),
    "visualbert": Preset("the authors' for VisualBERT", {"text": VQA, "boxes": CROWDED}),
    "vit": Preset("the authors' for ViT: 10 to 90 % of the pixels", {"image": PIXELS}, pixels=True),
    "tenths": Preset("steps of a tenth, of whole patches", {name: TENTHS for name in ("text", "image", "boxes")}),
}

FAMILIES = {"lxmert": "lxmert", "visual_bert": "visualbert", "vit": "vit", "deit": "vit"}
"""``model_type`` of a configuration → its preset; ``tenths`` for all others."""


def preset_of(name: str | None, subject: Any) -> str:
    """``name``, checked; None: the preset for the model of ``subject``.

    Raises:
        OptionError: there is no such preset.
    """
    if name is None:
        return FAMILIES.get(getattr(subject.config, "model_type", ""), "tenths")
    if name not in PRESETS:
        raise OptionError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
    return name


def removed(percent: int, tokens: int) -> int:
    """How many of ``tokens`` are gone at ``percent``: rounded down, exactly."""
    return int(Fraction(percent, 100) * tokens)


def order(relevance: Float[np.ndarray, " tokens"], key: str, seed: int) -> np.ndarray:
    """Indices from the most to the least relevant; equally relevant ones in an order drawn for the sample.

    Args:
        relevance: one number a token.
        key: of the sample.
        seed: of the run.
    """
    drawn = np.random.default_rng([seed, zlib.crc32(key.encode())]).permutation(len(relevance))
    return drawn[np.argsort(-relevance[drawn], kind="stable")]


def chance(relevance: Float[Tensor, "batch tokens"], keys: Sequence[str], seed: int) -> Float[Tensor, "batch tokens"]:
    """As many uniform random numbers, drawn for each sample by its key."""
    draws = [np.random.default_rng([seed, zlib.crc32(key.encode()), 1]).random(relevance.shape[1]) for key in keys]
    return torch.from_numpy(np.stack(draws)).to(relevance.dtype)


def kept(
    relevance: Float[np.ndarray, " tokens"],
    free: Bool[np.ndarray, " tokens"],
    steps: Sequence[int],
    key: str,
    seed: int,
) -> Bool[np.ndarray, "signs steps tokens"]:
    """Which tokens are there at each step, most relevant gone first (0) and least relevant gone first (1).

    The second order is the first one reversed. Where all that may be removed is removed, both are the same.

    Args:
        relevance: one number a token.
        free: which tokens may be removed.
        steps: per cent of the free tokens that are gone.
        key: of the sample; ``seed``: of the run; see :func:`order`.
    """
    places = np.flatnonzero(free)
    ranked = places[order(relevance[places], key, seed)]
    there = np.ones((len(SIGNS), len(steps), len(relevance)), dtype=bool)
    for step, percent in enumerate(steps):
        count = removed(percent, len(ranked))
        there[0, step, ranked[:count]] = False
        there[1, step, ranked[len(ranked) - count :]] = False
    return there


def area(scores: Float[np.ndarray, "... steps"], gone: Sequence[float]) -> Float[np.ndarray, ...]:
    """Area under a curve by the trapezoid rule over the removed shares, which begin with 0; not divided by their range."""
    return np.trapezoid(scores, np.asarray(gone), axis=-1)
