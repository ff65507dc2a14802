"""By which method to explain, with which options."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from heedmap.common.printable import closest
from heedmap.data.flow import Flow
from heedmap.data.segments import Segment
from heedmap.errors import InputError, OptionError, UnknownNameError
from heedmap.explanation import Explanation
from heedmap.methods import METHODS
from heedmap.methods.written import contrast, parse_options
from heedmap.render.naming import called
from heedmap.render.sample import sample
from heedmap.render.views import view
from heedmap.web.uploads import Limits

LETTERS = 500
"""Characters of all options of a method."""
MOST_TOKENS = 2048
"""Of a stream: a whole map has as many rows as columns."""
WRITTEN = re.compile(r"(\w{1,60}):(\d{1,6}(?:,\d{1,6}){0,63})", re.ASCII)


@dataclass(frozen=True)
class Way:
    """A method, a key of ``heedmap.METHODS``, and by name the options that are not its defaults."""

    method: str
    options: Mapping[str, object]


def way(method: str, text: str | None, limits: Limits) -> Way:
    """A method with options as people write them: ``KEY=VALUE``, with spaces between, values as on the command line.

    Raises:
        UnknownNameError: no such method.
        OptionError: no such option, or a value that it cannot have, or that would take too long.
    """
    if method not in METHODS:
        raise UnknownNameError(f"no method {method!r}{closest(method, METHODS)}; known methods: {', '.join(METHODS)}")
    options = _parsed(text or "")
    METHODS[method].resolve(options)
    for name, value in options.items():
        if isinstance(value, (int, float)) and abs(value) > limits.passes:
            raise OptionError(f"option {name} is {value}; on the page numbers go up to {limits.passes:,}")
    return Way(method, options)


def against(text: str | None, limits: Limits) -> str | dict[str, str] | None:
    """What an answer is set against: nothing, a text, or ``WORD=OTHER`` with commas between several.

    Raises:
        InputError: too long.
        OptionError: no such form.
    """
    asked = (text or "").strip()
    if len(asked) > LETTERS:
        raise InputError(f"the contrast has {len(asked):,} characters; the page takes up to {LETTERS}")
    asked = limits.text(asked) or ""
    parts = re.split(r"\s*,\s*", asked) if "=" in asked else [asked]
    return contrast([part for part in parts if part])


def options_label(method: str) -> str:
    """What may be written as options of a method: their names, defaults, and the words that they may be."""
    known = METHODS.get(method)
    if known is None:
        return "Options"
    named = []
    for name, default in known.options.items():
        shown = default if isinstance(default, str) else json.dumps(default)
        choices = known.choices.get(name)
        named.append(f"{name}={shown}" + (f" ({' or '.join(choices)})" if choices else ""))
    return f"Options of {method}, by default {' '.join(named)}"


def check_starts(method: str) -> None:
    """OptionError where a method has no map from token to token, so that there is nothing to explain from a token."""
    if not starts(method):
        known = ", ".join(name for name in METHODS if starts(name))
        raise OptionError(f"{method} does not tell what one token draws from another; these methods do: {known}")


def starts(method: str) -> bool:
    """Whether a method can explain from a token."""
    return METHODS[method].prepare is not None


def _parsed(text: str) -> dict[str, object]:
    if len(text) > LETTERS:
        raise OptionError(f"the options have {len(text):,} characters; the page takes up to {LETTERS}")
    try:
        return parse_options(text.split())
    except OptionError as error:
        raise OptionError(f"{error}; write options as KEY=VALUE, with spaces between") from error


@dataclass(frozen=True)
class Start:
    """Tokens of a segment, such as those of one word: its name, and their indices in it."""

    segment: str
    tokens: tuple[int, ...]


def start(text: str) -> Start | None:
    """What ``data-start`` of a button says, see :mod:`heedmap.render.views`; None of ``""``; else InputError."""
    if not text:
        return None
    match = WRITTEN.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise InputError("this is no token of the map; click one of the map that is shown")
    return Start(match[1], tuple(map(int, match[2].split(","))))


def within(flow: Flow) -> bool:
    """Whether whole maps of the streams are small enough to be made."""
    return max((stream.tokens for stream in flow.streams), default=0) <= MOST_TOKENS


def from_token(explanation: Explanation, begin: Start) -> Explanation:
    """See :meth:`heedmap.data.explanation.ExplanationData.from_tokens`."""
    asked = explanation.segment(begin.segment)
    if max(begin.tokens) >= asked.relevance.shape[1]:
        raise InputError(f"{begin.segment} has {asked.relevance.shape[1]} tokens, and no token {max(begin.tokens)}")
    return explanation.from_tokens(begin.segment, begin.tokens, _name(asked, begin))


def _name(asked: Segment, begin: Start) -> str:
    shown = sample(asked)
    if asked.grid is None:
        return f"“{''.join(shown.labels[i] for i in begin.tokens)}” of {called(asked.name)}"
    return " and ".join(f"{called(asked.name)}, {view(asked).place(asked, shown, i)}" for i in begin.tokens)
