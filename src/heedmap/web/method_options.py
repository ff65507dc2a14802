"""By which method to explain, with which options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heedmap.errors import OptionError, UnknownNameError
from heedmap.web.limits import Limits

LETTERS = 500
"""Characters of all options of a method."""


@dataclass(frozen=True)
class Way:
    """A method and the options that are not its defaults.

    Attributes:
        method: a key of ``heedmap.METHODS``.
        options: by name.
    """

    method: str
    options: Mapping[str, Any]


def way(method: str, text: str | None, limits: Limits) -> Way:
    """A method with options as people write them: ``KEY=VALUE``, with spaces between, values as on the command line.

    Raises:
        UnknownNameError: no such method.
        OptionError: no such option, or a value that it cannot have, or that would take too long.
    """
    from heedmap.methods import METHODS

    if method not in METHODS:
        raise UnknownNameError(f"no method {method!r}; known methods: {', '.join(METHODS)}")
    options = _parsed(text or "")
    METHODS[method].resolve(options)
    for name, value in options.items():
        if isinstance(value, (int, float)) and abs(value) > limits.passes:
            raise OptionError(f"option {name} is {value}; on the page numbers go up to {limits.passes:,}")
    return Way(method, options)


def options_label(method: str) -> str:
    """What may be written as options of a method: their names, defaults, and the words that they may be."""
    from heedmap.methods import METHODS

    known = METHODS.get(method)
    if known is None:
        return "Options"
    named = (_option(name, default, known.choices.get(name, ())) for name, default in known.options.items())
    return f"Options of {method}, by default {' '.join(named)}"


def check_starts(method: str) -> None:
    """OptionError where a method has no map from token to token, so that there is nothing to explain from a token."""
    from heedmap.methods import METHODS

    if not starts(method):
        known = ", ".join(name for name in METHODS if starts(name))
        raise OptionError(f"{method} does not tell what one token draws from another; these methods do: {known}")


def starts(method: str) -> bool:
    """Whether a method can explain from a token."""
    from heedmap.methods import METHODS

    return METHODS[method].prepare is not None


def _parsed(text: str) -> dict[str, Any]:
    from heedmap.methods.written import parse_options

    if len(text) > LETTERS:
        raise OptionError(f"the options have {len(text):,} characters; the page takes up to {LETTERS}")
    try:
        return parse_options(text.split())
    except OptionError as error:
        raise OptionError(f"{error}; write options as KEY=VALUE, with spaces between") from error


def _option(name: str, default: Any, choices: tuple[str, ...]) -> str:
    import json

    shown = default if isinstance(default, str) else json.dumps(default)
    return f"{name}={shown}" + (f" ({' or '.join(choices)})" if choices else "")
