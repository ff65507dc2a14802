"""What a reader of a map has to be warned of, told by the map itself: an attention sink, values that are all alike, words that
the model does not know, an answer that it does not believe, methods that disagree."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from heedmap.common.printable import Ways, number, percent, said_for
from heedmap.common.ranks import spearman
from heedmap.data.explanation import CHANGE, UNKNOWN_WORD, ExplanationData
from heedmap.data.segments import Segment
from heedmap.render.naming import called
from heedmap.render.sample import batch_size, checked_index, is_queries, sample
from heedmap.render.scale import span
from heedmap.render.words import words

if TYPE_CHECKING:
    from jaxtyping import Float

SINK = 3.0
"""A first word with more than so many times the relevance of all others together is a sink."""
ALIKE, FEWEST = 0.05, 4
"""Values of which the least is within this part of the greatest are all alike; of fewer words or patches nothing is said."""
UNLIKELY = 0.05
"""A target of a smaller probability is not what the model answers."""
KINDS = {"text": "words", "boxes": "boxes", "audio": "frames"}
AGREE = 0.3
"""Maps of two methods whose rank correlation is less disagree."""


def cautions(explanation: ExplanationData, index: int = 0) -> list[str]:
    """Warnings for sample ``index``, in words; none of an explanation with an answer, whose maps are many.

    Raises:
        InputError: no such sample.
    """
    if explanation.answer is not None or explanation.target[index].startswith(CHANGE):
        return []
    index = checked_index(index, batch_size(explanation))
    told = [_unlikely(explanation, index), *(note for note in explanation.flow.notes if UNKNOWN_WORD in note)]
    for segment in explanation.segments.values():
        if segment.kind == "text":
            told.append(_sink(explanation, segment, index))
        if not is_queries(segment):
            told.append(_alike(segment, index))
    return [words for words in told if words]


def facts(explanation: ExplanationData, index: int, ways: Ways) -> dict[str, str]:
    """The notes of the flow, and what is to be minded, by the word before each; what there is none of has no entry."""
    mind = cautions(explanation, index)
    told = {"note": [note for note in explanation.flow.notes if note not in mind], "mind": mind}
    return {name: said_for(ways, "; ".join(lines)) for name, lines in told.items() if lines}


def disagreements(explanations: Mapping[str, ExplanationData], index: int = 0) -> list[str]:
    """Of each part of the input the two methods whose maps of one target put its words or patches in the least alike orders,
    where that is hardly an order in common; the keys are the names of the maps.

    Raises:
        InputError: no such sample.
    """
    found: dict[str, tuple[float, str]] = {}
    for (one, first), (other, second) in combinations(explanations.items(), 2):
        if first.method == second.method or first.target[index] != second.target[index] or first.answer is not None:
            continue
        for name in first.segments.keys() & second.segments.keys():
            values = _values(first.segments[name], index), _values(second.segments[name], index)
            if is_queries(first.segments[name]) or len(values[0]) != len(values[1]) or len(values[0]) < FEWEST:
                continue
            if all(np.isfinite(numbers).all() and numbers.any() for numbers in values):
                found[name] = min(found.get(name, (AGREE, "")), (spearman(*values), f"{one} and {other} disagree"))
    return [
        f"{who} on {called(name)}: the rank correlation of their maps is {correlation:.2f} (1: the same order)"
        for name, (correlation, who) in sorted(found.items())
        if who
    ]


def minded(explanations: Mapping[str, ExplanationData]) -> list[str]:
    """:func:`disagreements` as sentences of their own."""
    return [f"Mind: {words}." for words in disagreements(explanations)]


def _values(segment: Segment, index: int) -> Float[np.ndarray, " tokens"]:
    """Of the words of a text that are no special tokens, and of the tokens of all else that the model took in."""
    if segment.kind == "text":
        return np.array([word.value for word in words(segment, index) if not word.special])
    drawn = sample(segment, index)
    return drawn.values[drawn.taken]


def _unlikely(explanation: ExplanationData, index: int) -> str:
    top = explanation.top
    probability = 1.0 if top is None else float(top.target[index])
    if not probability < UNLIKELY:
        return ""
    return (
        f"the model gives this target a probability of {percent(probability)}: the map shows what speaks for it, "
        "which is not what the model answers"
    )


def _sink(explanation: ExplanationData, segment: Segment, index: int) -> str:
    """The first word of a text that draws attention as a place to look at when there is nothing to see."""
    text = words(segment, index)
    values = np.array([abs(word.value) for word in text])
    if len(text) < FEWEST or text[0].special or not np.isfinite(values).all():
        return ""
    rest = float(values[1:].sum())
    if not values[0] > SINK * rest or not rest:
        return ""
    way = "start_layer=1 leaves out the first layer's part in it; " if "start_layer" in explanation.options else ""
    return (
        f"the first word of {called(segment.name)}, {text[0].short!r}, has {number(values[0] / rest)} times the relevance "
        f"of all others together, as an attention sink has: {way}the others differ more than their colours tell"
    )


def _alike(segment: Segment, index: int) -> str:
    values = _values(segment, index)
    if len(values) < FEWEST or not np.isfinite(values).all():
        return ""
    least, most = float(values.min()), float(values.max())
    if not 0 < most - least <= ALIKE * max(abs(least), abs(most)):
        return ""
    what = "patches" if segment.grid is not None else KINDS.get(segment.kind, "tokens")
    alike = f"all {what} of {called(segment.name)} have nearly the same relevance, {span(least, most)}"
    return f"{alike}: the map tells none from another"
