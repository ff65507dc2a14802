"""A map beside what is true, without a model: tokens, the words of a text, pixels, and labels that are spelled in several ways.

Evidence is a weight for each token, 0 to 1: whether a word or a box is evidence, or which share of a patch is. A map of a
picture has the patches' resolution, (rows, columns), until it is scaled up to the picture's, (height, width).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from heedmap.common.extras import library
from heedmap.errors import SampleError
from heedmap.evaluate.faithfulness import order_of

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, Int64
    from transformers import PreTrainedTokenizerBase

    from heedmap.datasets.sample import Span

    Grid = Float[np.ndarray, "rows columns"]
    Map = Float[np.ndarray, "height width"]
    Mask = Bool[np.ndarray, "height width"]

CUTS = ("mean", "otsu")
"""Where a map can be cut: at its mean, as the authors do for classes; by Otsu's threshold, as they do for detections."""
AREAS = ("right", "pixels", "object_shared", "object_union", "ground_shared", "ground_union")
"""What :func:`areas` counts."""
SHOWN = 20
"""Labels that a message lists."""


# -- tokens ------------------------------------------------------------------------------------------------------------


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


def word_evidence(
    tokenizer: PreTrainedTokenizerBase, text: str, words: Sequence[tuple[int, int]]
) -> Float[np.ndarray, " tokens"]:
    """1 for each token of ``text`` that has a character of ``words``, (from, to), else 0; special tokens have none."""
    offsets = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    return reasons(offsets, words).astype(np.float64)


def centre_prior(grid: tuple[int, int]) -> Float[np.ndarray, "rows columns"]:
    """A map that knows nothing but that things tend to be in the middle: a Gaussian a quarter of the picture wide."""
    rows, columns = (((np.arange(size) + 0.5) / size - 0.5) / 0.25 for size in grid)
    return np.exp(-(rows[:, None] ** 2 + columns**2) / 2)


# -- words --------------------------------------------------------------------------------------------------------------


def words_of_tokens(offsets: Sequence[Span], words: Sequence[Span]) -> Int[np.ndarray, " tokens"]:
    """For each token the word that it has most characters of (the first of equal ones); -1: of none.

    Args:
        offsets: characters of each token, as a tokenizer gives them; special tokens have none.
        words: characters of each word.
    """
    starts, ends = np.array(words, dtype=np.int64).reshape(-1, 2).T
    token = np.array(offsets, dtype=np.int64).reshape(-1, 2)
    if not len(starts):
        return np.full(len(token), -1)
    shared = np.minimum(token[:, 1:], ends) - np.maximum(token[:, :1], starts)
    return np.where(shared.max(1) > 0, shared.argmax(1), -1)


def word_relevance(
    relevance: Float[np.ndarray, " tokens"], owners: Int[np.ndarray, " tokens"], count: int, join: str = "sum"
) -> Float[np.ndarray, " words"]:
    """The relevance of each word: the sum or the maximum of its tokens'; NaN for a word without a token.

    Args:
        relevance: of each token.
        owners: see :func:`words_of_tokens`.
        count: number of words.
        join: ``"sum"`` or ``"max"``.
    """
    totals = np.full(count, -np.inf)
    np.maximum.at(totals, owners[owners >= 0], relevance[owners >= 0])
    seen = np.isfinite(totals)
    if join == "sum":
        totals = np.bincount(owners[owners >= 0], relevance[owners >= 0], minlength=count)
    return np.where(seen, totals, np.nan)


def reasons(words: Sequence[Span], spans: Sequence[Span]) -> Bool[np.ndarray, " words"]:
    """Which words have a character of the spans."""
    return np.array([any(start < e and s < end for s, e in spans) for start, end in words], dtype=bool)


def top_words(relevance: Float[np.ndarray, " words"], seed: int) -> Int[np.ndarray, " seen"]:
    """The words that have relevance, from the most relevant one; equal ones in an order drawn by the seed."""
    return order_of(relevance, ~np.isnan(relevance), seed)


def agreement(
    order: Int[np.ndarray, " seen"], truth: Bool[np.ndarray, " words"], counts: Sequence[int]
) -> Float[np.ndarray, "counts 3"]:
    """Precision, recall and F1 of the first k words, for each k.

    Of a text with fewer words than k all of them are taken. Reasons that the model did not see count as missed.

    Args:
        order: see :func:`top_words`.
        truth: which words are reasons; at least one is.
        counts: k.
    """
    rows = []
    for k in counts:
        hits, taken = float(truth[order[:k]].sum()), min(k, len(order))
        precision, recall = (hits / taken if taken else 0.0), hits / float(truth.sum())
        rows.append((precision, recall, 2 * precision * recall / (precision + recall) if hits else 0.0))
    return np.array(rows)


def share_of(order: Int[np.ndarray, " seen"], share: float) -> Int[np.ndarray, " taken"]:
    """The first words of ``order``, ``share`` of all, rounded up."""
    return order[: max(1, math.ceil(share * len(order) - 1e-9))]  # 0.1 × 30 is a little more than 3


def rebuilt(text: str, words: Sequence[Span], kept: Sequence[int], instead: Mapping[int, str] | None = None) -> str:
    """The text of the kept words, each with what stands between it and the word before it in the text.

    Args:
        text: the text.
        words: characters of each word.
        kept: numbers of the words that stay.
        instead: number of a word → another one, which stands there where it does not stay; other words are taken out.
    """
    begins = [0, *(end for _, end in words[:-1])]
    shown = {number: text[words[number][0] : words[number][1]] for number in kept}
    shown = {**(instead or {}), **shown}
    return "".join(text[begins[number] : words[number][0]] + shown[number] for number in sorted(shown)).strip()


# -- pixels ------------------------------------------------------------------------------------------------------------


def upsampled(grid: Grid, size: tuple[int, int]) -> Map:
    """The map at the picture's size (height, width), bilinear between the middles of patches, by Pillow.

    One of two: perturbation scales by torch (:func:`heedmap.evaluate.masking.upsampled`), whose last bit differs, so
    that neither can stand in for the other without a change of figures that were published.

    Beyond the outer middles the value stays the same, as in torch's ``interpolate(align_corners=False)``. Where the
    picture has fewer pixels than the grid patches, a pixel is the weighted mean of the patches around it.
    """
    from PIL import Image

    height, width = size
    scaled = Image.fromarray(grid.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(scaled)


def cut(grid: Grid, size: tuple[int, int], at: str) -> Mask:
    """The pixels that a map calls the object. A map of equal values has no threshold: all of it is kept.

    Args:
        grid: the map.
        size: of the picture, (height, width).
        at: one of :data:`CUTS`. ``"mean"``: the pixels of the scaled map that are over its mean. ``"otsu"``: the map is
            min–max scaled to 0…255 and cut at its own resolution; what is left is scaled up, and a pixel is kept that is
            more than half covered.

    Raises:
        MissingLibraryError: there is no scikit-image for Otsu's threshold.
    """
    if np.ptp(grid) == 0:
        return np.ones(size, dtype=bool)
    if at == "otsu":
        return upsampled(_over_otsu(grid), size) > 0.5
    scaled = upsampled(grid, size)
    return scaled > scaled.mean() if np.ptp(scaled) else np.ones(size, dtype=bool)


def _over_otsu(grid: Grid) -> Grid:
    threshold_otsu = library("skimage.filters", "eval", "Otsu's threshold needs", "scikit-image").threshold_otsu
    levels = np.round((grid - grid.min()) / np.ptp(grid) * 255).astype(np.uint8)
    return (levels > threshold_otsu(levels)).astype(np.float32)


def overlap(predicted: Mask, mask: Mask) -> float:
    """Intersection over union; 0 where both are empty."""
    return float((predicted & mask).sum() / max((predicted | mask).sum(), 1))


def areas(predicted: Mask, mask: Mask, counted: Mask) -> Int64[np.ndarray, " 6"]:
    """:data:`AREAS` in pixels: those that are right, all, and intersection and union of the object and of the ground.

    Args:
        predicted: what the map calls the object.
        mask: the object.
        counted: the pixels that count.
    """
    both, either = (predicted & mask & counted).sum(), ((predicted | mask) & counted).sum()
    total = counted.sum()
    wrong = either - both
    return np.array([total - wrong, total, both, either, total - either, total - both])


def average_precision(relevance: Map, mask: Mask, counted: Mask) -> float:
    """Of the pixels that count, ranked by relevance: scikit-learn's ``average_precision_score``.

    Raises:
        SampleError: none of them is of the object.
        MissingLibraryError: there is no scikit-learn.
    """
    metrics = library("sklearn.metrics", "eval", "average precision needs", "scikit-learn")
    if not (mask & counted).any():
        raise SampleError("its mask has no pixels that count; average precision needs some")
    return float(metrics.average_precision_score(mask[counted], relevance[counted]))


def checked(mask: Mask, size: tuple[int, ...]) -> Mask:
    """The mask; SampleError where it has not the picture's size (height, width)."""
    if mask.shape != size:
        sizes = (" × ".join(map(str, shape)) for shape in (mask.shape, size))
        raise SampleError("its mask has {} pixels, its picture {} (height × width); expected as many".format(*sizes))
    return mask


# -- labels ------------------------------------------------------------------------------------------------------------


def plain(label: str) -> str:
    """A label without what differs between sources: capitals, and what stands between its words."""
    return " ".join(label.casefold().replace("_", " ").replace("-", " ").split())


def spellings(name: str) -> set[str]:
    """The plain label, and each of the names that it lists, as ImageNet's do: ``tench, Tinca tinca``."""
    return {plain(spelling) for spelling in (name, *name.split(","))} - {""}


def meant(names: Mapping[int, str], labels: Iterable[str]) -> dict[int, str]:
    """Class index → which of ``labels``, plain ones, the class is; classes that are none of them are left out."""
    wanted = sorted(set(labels))
    return {index: label for index, name in names.items() for label in wanted if label in spellings(name)}


def listed(labels: Iterable[str]) -> str:
    """Labels for a message, each once."""
    unique = list(dict.fromkeys(labels))
    more = f", … ({len(unique)} in all)" if len(unique) > SHOWN else ""
    return ", ".join(unique[:SHOWN]) + more if unique else "none"
