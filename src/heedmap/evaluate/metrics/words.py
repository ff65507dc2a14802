"""Words, tokens and reasons of one text, and labels that are spelled in several ways, as functions of numbers and characters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from heedmap.evaluate.metrics.faithfulness import order_of

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from heedmap.datasets.sample import Span
SHOWN = 20
"""Labels that a message lists."""


# -- a text ------------------------------------------------------------------------------------------------------------


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
