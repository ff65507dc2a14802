"""What changes in a map where the input is changed a little: the second map less the first, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, TypeVar

from heedmap.errors import InputError

if TYPE_CHECKING:
    from heedmap.data.explanation import ExplanationData, Segment

CHANGE = "change of "
"""Before a target, where what is shown is the difference of two maps of it."""
MOST_NAMED = 5

Shown = TypeVar("Shown", bound="ExplanationData")


def difference(first: Shown, second: Shown) -> Shown:
    """``second`` less ``first``; see :meth:`heedmap.explanation.Explanation.difference`."""
    _check(first, second)
    segments, notes = {}, []
    for name, segment in second.segments.items():
        segments[name], told = _changed(first.segments[name], segment)
        notes += told
    same = first.target == second.target
    target = tuple(CHANGE + (b if same else f"{a}, now {b}") for a, b in zip(first.target, second.target, strict=True))
    flow = replace(second.flow, notes=(*second.flow.notes, *notes))
    scores = second.scores - first.scores
    return replace(second, segments=segments, target=target, scores=scores, flow=flow, maps={}, top=None)


def _check(first: ExplanationData, second: ExplanationData) -> None:
    if first.answer is not None or second.answer is not None:
        raise InputError("the difference of whole answers is not known; take a token of each with step()")
    if (first.method, dict(first.options)) != (second.method, dict(second.options)):
        raise InputError(
            f"the maps are of {first.method} and {second.method}, or of other options, so their numbers are not of one "
            "kind; explain both inputs by one method with the same options"
        )
    if first.segments.keys() != second.segments.keys():
        raise InputError(
            f"the maps have the parts {', '.join(first.segments)} and {', '.join(second.segments)}; expected the same "
            "parts: explain two inputs of one kind by one model"
        )
    if len(first.target) != len(second.target):
        raise InputError(f"the batches are of {len(first.target)} and {len(second.target)} samples; expected as many")


def _changed(first: Segment, second: Segment) -> tuple[Segment, list[str]]:
    """The second segment with what its tokens gained, and words about tokens that only one of the two has."""
    before, after = first.labels, second.labels
    if first.grid != second.grid or ((before is None or after is None) and first.tokens != second.tokens):
        sizes = " and ".join("×".join(map(str, s.grid)) if s.grid else str(s.tokens) for s in (first, second))
        raise InputError(
            f"{first.name} has {sizes} tokens, and they cannot be told apart; give inputs of one size, or with words"
        )
    if before is None or after is None or second.kind != "text":
        if first.tokens != second.tokens:
            raise InputError(f"{first.name} has {first.tokens} and {second.tokens} tokens; give inputs of one size")
        return replace(second, relevance=second.relevance - first.relevance), []
    relevance, notes = second.relevance.clone(), []
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        pairs = _pairs(old, new)
        for a, b in pairs:
            relevance[index, b] -= first.relevance[index, a]
        notes += _gone(first.name, old, {a for a, _ in pairs}, "was left out and is in no map of the change")
        notes += _gone(first.name, new, {b for _, b in pairs}, "is new: its change is all its relevance")
    return replace(second, relevance=relevance), notes


def _pairs(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int]]:
    """Which token stands for which: those that are the same, in their order, and those that replace each other one by one."""
    pairs = []
    for tag, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal" or (tag == "replace" and b - a == d - c):
            pairs += list(zip(range(a, b), range(c, d), strict=True))
    return pairs


def _gone(name: str, labels: Sequence[str], paired: set[int], what: str) -> list[str]:
    left = [label for i, label in enumerate(labels) if i not in paired and label]
    more = "" if len(left) <= MOST_NAMED else f" and {len(left) - MOST_NAMED} more"
    return [f"{name}: {', '.join(left[:MOST_NAMED])}{more} {what}"] if left else []
