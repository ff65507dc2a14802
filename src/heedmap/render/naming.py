"""What was explained, as people say it: ``star (99.1 %), object query 8``, ``Paris (87.0 %), the next word``."""

from __future__ import annotations

import re
from ast import literal_eval
from typing import TYPE_CHECKING

from heedmap.difference import CHANGE
from heedmap.printable import percent, visible

if TYPE_CHECKING:
    from heedmap.explanation_data import ExplanationData

CLASS = re.compile(r"class \d+ \((.+)\)", re.DOTALL)
OBJECT = re.compile(r"query (\d+), class \d+(?: \((.+)\))?", re.DOTALL)
TOKEN = re.compile(r"token \d+ \((.+)\) after position (\d+)", re.DOTALL)
"""Targets as ``heedmap.targets`` writes them."""
BY_WAY = ", by way of "
"""Between a target and the tokens from which its map starts, see ``ExplanationData.from_tokens``."""


def headline(explanation: ExplanationData, index: int) -> str:
    """What sample ``index`` explains, and how probable it is, in a few words for people; other targets as they are written."""
    target, way, by = explanation.target[index].partition(BY_WAY)
    change = CHANGE if target.startswith(CHANGE) else ""
    return f"{change}{_title(explanation, index, target.removeprefix(change))}{way}{by}"


def question(explanation: ExplanationData, index: int) -> str:
    """What a map of sample ``index`` answers, as its heading."""
    target = headline(explanation, index)
    if target.startswith(CHANGE):
        return f"What changes for “{target.removeprefix(CHANGE)}”"
    return f"What “{target}” rests on"


def _title(explanation: ExplanationData, index: int, target: str) -> str:
    if match := OBJECT.fullmatch(target):
        name = match[2] or "an object"
        return f"{name}{_probability(explanation, index)}, object query {match[1]}"
    if match := TOKEN.fullmatch(target):
        return f"{token_words(match[1])}{_probability(explanation, index)}, {_place(explanation, index, int(match[2]))}"
    if match := CLASS.fullmatch(target):
        return f"{match[1]}{_probability(explanation, index)}"
    return target


def is_token(explanation: ExplanationData, index: int) -> bool:
    """Whether what is explained is a token that the model says, so that its prediction is one too."""
    return explanation.target[index].startswith("token ")


def token_words(written: str) -> str:
    """The text of a token that is written as Python writes it, ``' Paris'``, without spaces around it; of white space a sign."""
    try:
        text = str(literal_eval(written))
    except (SyntaxError, ValueError):
        return written
    return visible(text.strip() or text)


def _probability(explanation: ExplanationData, index: int) -> str:
    top = explanation.top
    return "" if top is None else f" ({percent(float(top.target[index]))})"


def _place(explanation: ExplanationData, index: int, position: int) -> str:
    """Where a token is said: after all, in the answer, in place of a mask, or between others."""
    decoder = explanation.segments.get("decoder")
    if decoder is not None:
        return f"token {position + 1} of the answer"
    text = explanation.segments.get("text")
    places = [] if text is None else text.positions[index].tolist()
    if places and position >= max(places):
        return "the next word"
    labels = () if text is None or text.labels is None else text.labels[index]
    label = labels[places.index(position)] if position in places and labels else ""
    return "the masked word" if "mask" in label.casefold() else f"the word after position {position}"
