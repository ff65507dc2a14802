"""Options of a method, and contrasts, as people write them: ``KEY=VALUE``."""

from __future__ import annotations

import json
from collections.abc import Sequence

from heedmap.errors import OptionError

RESERVED = frozenset({"text", "image", "boxes", "audio", "target", "method", "text_a", "text_b"})
"""Names that are arguments of an explanation, and so no options of its method."""


def parse_options(texts: Sequence[str]) -> dict[str, object]:
    """``["start_layer=2", "cam=lrp"]`` as ``{"start_layer": 2, "cam": "lrp"}``: JSON values, else strings.

    Raises:
        OptionError: no ``=``, a key twice, or a key that is an argument of its own.
    """
    settings = pairs(texts)
    for key in settings.keys() & RESERVED:
        raise OptionError(f"{key!r} is no option of a method; use --{key}")
    return {key: json_or_text(value) for key, value in settings.items()}


def pairs(texts: Sequence[str]) -> dict[str, str]:
    """``["start_layer=2", "cam=lrp"]`` as ``{"start_layer": "2", "cam": "lrp"}``.

    Raises:
        OptionError: no ``=``, or a key twice.
    """
    values: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key:
            raise OptionError(f"{text!r} is not KEY=VALUE")
        if key in values:
            raise OptionError(f"{key!r} is given twice")
        values[key] = value
    return values


def contrast(texts: Sequence[str]) -> str | dict[str, str] | None:
    """``["05=06"]`` as ``{"05": "06"}``; one text without ``=`` as it is; nothing as None: what an answer is set against.

    Raises:
        OptionError: several that are no pairs, or a word twice.
    """
    if not texts:
        return None
    return texts[0] if len(texts) == 1 and "=" not in texts[0] else pairs(texts)


def json_or_text(value: str) -> object:
    """The value of a JSON text, or else the text itself."""
    try:
        return json.loads(value)
    except ValueError:
        return value
