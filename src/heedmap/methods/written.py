"""Options of a method as people write them: ``KEY=VALUE``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from heedmap.errors import OptionError

RESERVED = frozenset({"text", "image", "boxes", "audio", "target", "method", "text_a", "text_b"})
"""Names that are arguments of an explanation, and so no options of its method."""


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """``["start_layer=2", "cam=lrp"]`` as ``{"start_layer": 2, "cam": "lrp"}``: JSON values, else strings.

    Raises:
        OptionError: no ``=``, a key twice, or a key that is an argument of its own.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        key = key.strip()
        if not equals or not key:
            raise OptionError(f"{pair!r} is not KEY=VALUE")
        if key in settings or key in RESERVED:
            reason = "is given twice" if key in settings else f"is no option of a method; use --{key}"
            raise OptionError(f"{key!r} {reason}")
        settings[key] = json_or_text(value)
    return settings


def json_or_text(value: str) -> Any:
    """The value of a JSON text, or else the text itself."""
    try:
        return json.loads(value)
    except ValueError:
        return value
