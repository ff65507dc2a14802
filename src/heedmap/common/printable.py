"""Texts and numbers as people read them, on a terminal, a page or a picture."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


WRITTEN = {"\n": "⏎", "\r": "⏎", "\t": "⇥"}
"""White space that is no space: signs that more fonts have than those of Unicode's control pictures."""


def visible(text: str) -> str:
    """``text`` with everything unprintable made visible: no control, bidi override or lone surrogate remains."""
    if not text:
        return "∅"
    if not text.strip(" "):
        return "␣" * len(text)
    return "".join(map(_visible_character, text))


def number(value: float) -> str:
    """``value`` in three significant digits."""
    return f"{value:.3g}"


def percent(part: float) -> str:
    """``12.3 %``; what is not quite nothing or not quite all is said to be so."""
    if 0 < part < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if 0.999 < part < 1 else f"{100 * part:.1f} %"


def closest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean 'cat'?)``, after a name that is none: the known one that is written most alike, if any is."""
    folded = {other.casefold(): other for other in known}
    alike = get_close_matches(name.casefold(), folded, 1)
    return f" (did you mean {folded[alike[0]]!r}?)" if alike else ""


def cut(text: str, most: int) -> str:
    """``text`` of no more than ``most`` letters, the last an ellipsis where some are left out."""
    return text if len(text) <= most else text[: most - 1] + "…"


def counted(count: int, thing: str) -> str:
    """``1 model``, ``2 models``."""
    return f"{count:,} {thing}" + ("" if count == 1 else "s")


def without_folders(name: str) -> str:
    """A model's name, of a path the last part alone: what is sent to others does not tell whose machine it was."""
    path = Path(name).expanduser()
    return path.name if path.is_absolute() or name.startswith((".", "~")) else name


def _visible_character(character: str) -> str:
    code = ord(character)
    if character in WRITTEN:
        return WRITTEN[character]
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if character in BIDI_CONTROLS or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
        return "\N{REPLACEMENT CHARACTER}"
    return character
