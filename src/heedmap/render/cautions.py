"""What a reader of a map has to be warned of, told by the map itself: an attention sink, words that are all alike, an answer
that the model does not believe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from heedmap.difference import CHANGE
from heedmap.printable import number, percent
from heedmap.render.naming import called
from heedmap.render.sample import batch_size, checked_index
from heedmap.render.scale import span
from heedmap.render.words import words

if TYPE_CHECKING:
    from heedmap.explanation_data import ExplanationData, Segment

SINK = 3.0
"""A first word with more than so many times the relevance of all others together is a sink."""
ALIKE, FEWEST = 0.05, 4
"""Values of which the least is within this part of the greatest are all alike; of fewer words nothing is said."""
UNLIKELY = 0.05
"""A target of a smaller probability is not what the model answers."""


def cautions(explanation: ExplanationData, index: int = 0) -> list[str]:
    """Warnings for sample ``index``, in words; none of an explanation with an answer, whose maps are many.

    Raises:
        InputError: no such sample.
    """
    if explanation.answer is not None or explanation.target[index].startswith(CHANGE):
        return []
    index = checked_index(index, batch_size(explanation))
    told = [_unlikely(explanation, index)]
    for segment in explanation.segments.values():
        if segment.kind == "text":
            told += [_sink(explanation, segment, index), _alike(segment, index)]
    return [words for words in told if words]


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
    values = np.array([word.value for word in words(segment, index) if not word.special])
    if len(values) < FEWEST or not np.isfinite(values).all():
        return ""
    least, most = float(values.min()), float(values.max())
    if not 0 < most - least <= ALIKE * max(abs(least), abs(most)):
        return ""
    alike = f"all words of {called(segment.name)} have nearly the same relevance, {span(least, most)}"
    return f"{alike}: the map tells none from another"
