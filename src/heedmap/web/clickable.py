"""Explaining from a token: what it draws from the others on the way to the answer."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from heedmap.errors import InputError
from heedmap.render.sample import sample
from heedmap.render.token_to_token import block
from heedmap.render.views import place

if TYPE_CHECKING:
    from heedmap.explanation import Explanation
    from heedmap.explanation_data import Segment
    from heedmap.flow import Flow

MOST_TOKENS = 2048
"""Of a stream: a whole map has as many rows as columns."""
WRITTEN = re.compile(r"(\w{1,60}):(\d{1,6}(?:,\d{1,6}){0,63})", re.ASCII)


@dataclass(frozen=True)
class Start:
    """Tokens of a segment, such as those of one word.

    Attributes:
        segment: its name.
        tokens: their indices in it.
    """

    segment: str
    tokens: tuple[int, ...]


def start(text: str) -> Start | None:
    """What ``data-start`` of a button says, see :mod:`heedmap.render.clickable`; None of ``""``; else InputError."""
    if not text:
        return None
    found = WRITTEN.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise InputError("this is no token of the map; click one of the map that is shown")
    return Start(found[1], tuple(map(int, found[2].split(","))))


def within(flow: Flow) -> bool:
    """Whether whole maps of the streams are small enough to be made."""
    return max((stream.tokens for stream in flow.streams), default=0) <= MOST_TOKENS


def from_token(explanation: Explanation, begin: Start) -> Explanation:
    """The explanation that starts from some tokens: the sum of their rows of the whole maps R^{sx}.

    A token's share of itself is left out, as in the whole map.

    Args:
        explanation: of one sample, with ``maps``.
        begin: the tokens.

    Raises:
        UnknownNameError: no such segment.
        InputError: no such token.
    """
    asked = explanation.segment(begin.segment)
    if max(begin.tokens) >= asked.relevance.shape[1]:
        raise InputError(f"{begin.segment} has {asked.relevance.shape[1]} tokens, and no token {max(begin.tokens)}")
    drawn = {name: _drawn(explanation, asked, one, begin) for name, one in explanation.segments.items()}
    segments = {name: one for name, one in drawn.items() if one is not None}
    if not segments:
        raise InputError(f"nothing is known of what {begin.segment} draws; click a token of another part")
    words = f"{explanation.target[0]}, by way of {_name(asked, begin)}"
    return replace(explanation, segments=segments, target=(words,), maps={}, top=None)


def _drawn(explanation: Explanation, asked: Segment, other: Segment, begin: Start) -> Segment | None:
    whole = block(explanation, asked, other, 0)
    if whole is None:
        return None
    rows = whole[list(begin.tokens)].clone()
    if other.name == asked.name:
        rows[range(len(rows)), list(begin.tokens)] = 0.0
    return replace(other, relevance=rows.sum(0)[None])


def _name(asked: Segment, begin: Start) -> str:
    shown = sample(asked)
    if asked.grid is None:
        return f"“{''.join(shown.labels[i] for i in begin.tokens)}” of {asked.name}"
    return " and ".join(f"{asked.name}, {place(asked, shown, i)}" for i in begin.tokens)
