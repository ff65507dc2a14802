"""What was explained, as people say it: ``star (99.1 %), object query 8``, ``Paris (87.0 %), the next word``."""

from __future__ import annotations

import re
from ast import literal_eval
from typing import TYPE_CHECKING

from heedmap.common.printable import percent, visible
from heedmap.data.explanation import CHANGE

if TYPE_CHECKING:
    from heedmap.data.explanation import ExplanationData

CLASS = re.compile(r"class \d+ \((.+)\)", re.DOTALL)
OBJECT = re.compile(r"query (\d+), class \d+(?: \((.+)\))?", re.DOTALL)
TOKEN = re.compile(r"token \d+ \((.+?)\)(?: after position (\d+))?", re.DOTALL)
PAIR = re.compile(r"similarity of image \d+ and text \d+")
RATHER = re.compile(r"(.+) rather than ((?:class|query|token) \d.*)", re.DOTALL)
"""Targets as ``heedmap.targets`` writes them."""
WRITTEN = r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
STEP = re.compile(rf"{WRITTEN}(?: rather than {WRITTEN})?, token (\d+) of the answer")
"""Targets as ``heedmap.explain_answer`` writes them: texts as Python writes them."""
NUMBERED = re.compile(r"(text|image|boxes|audio|queries|decoder|kept)(_encoder)?(\d*)")
"""Names of segments as ``heedmap.engine.result`` gives them; others are the input's own."""
BY_WAY = ", by way of "
"""Between a target and the tokens from which its map starts, see ``ExplanationData.from_tokens``."""


def called(segment: str) -> str:
    """The name of a segment for people: ``image 2`` for ``image2``, ``image encoder 2`` for ``image_encoder2``."""
    match = NUMBERED.fullmatch(segment)
    return segment if match is None else " ".join(filter(None, (match[1], match[2] and "encoder", match[3])))


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
    if PAIR.fullmatch(target) and len(explanation.target) == 1:
        return "the similarity of picture and text"
    pair = RATHER.fullmatch(target)
    name, place = _said(explanation, index, target if pair is None else pair[1])
    if name is None:
        return target
    chance = "" if explanation.top is None else f" ({percent(float(explanation.top.target[index]))})"
    if pair is None:
        return f"{name}{chance}{place}"
    other, elsewhere = _said(explanation, index, pair[2])
    apart = place and elsewhere not in ("", place)
    than = f"rather than {other or pair[2]}"
    return f"{name}{chance}{place}, {than}{elsewhere}" if apart else f"{name}{chance} {than}{place or elsewhere}"


def _said(explanation: ExplanationData, index: int, target: str) -> tuple[str | None, str]:
    """The name of a class, object or token, and where it is; None for other targets."""
    if match := OBJECT.fullmatch(target):
        return match[2] or "an object", f", object query {match[1]}"
    if match := TOKEN.fullmatch(target):
        return token_words(match[1]), f", {_place(explanation, index, int(match[2]))}" if match[2] else ""
    if match := CLASS.fullmatch(target):
        return match[1], ""
    if match := STEP.fullmatch(target):
        than = f" rather than {token_words(match[2])}" if match[2] else ""
        return token_words(match[1]) + than, f", token {int(match[3]) + 1} of the answer"
    return None, ""


def step(target: str) -> tuple[str, str]:
    """What is explained of a token of an answer, as people say it, and the text of the token that it is set against, or none."""
    match = STEP.fullmatch(target)
    if match is None:
        return visible(target), ""
    said, other, place = token_words(match[1]), match[2] or "", int(match[3]) + 1
    than = f" rather than “{token_words(other)}”" if other else ""
    return f"“{said}”{than}, token {place} of the answer", str(literal_eval(other)) if other else ""


def explained_object(explanation: ExplanationData, index: int) -> str:
    """The name of the object that sample ``index`` explains; of another target all of it."""
    target = explanation.target[index].partition(BY_WAY)[0].removeprefix(CHANGE)
    pair = RATHER.fullmatch(target)
    name, place = _said(explanation, index, target if pair is None else pair[1])
    return target if name is None else f"{name}{place}"


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


def _place(explanation: ExplanationData, index: int, position: int) -> str:
    """Where a token is said: after all, in the answer, in place of a mask, or between others.

    Of an answer the special tokens with which it begins do not count.
    """
    decoder = explanation.segments.get("decoder")
    if decoder is not None:
        begun = "" if decoder.boundaries is None else decoder.boundaries[index][: position + 1]
        return f"token {position + 1 - max(0, begun.count('s') - 1)} of the answer"
    text = explanation.segments.get("text")
    places = [] if text is None else text.positions[index].tolist()
    if places and position >= max(places):
        return "the next word"
    labels = () if text is None or text.labels is None else text.labels[index]
    label = labels[places.index(position)] if position in places and labels else ""
    return "the masked word" if "mask" in label.casefold() else f"the word after position {position}"
