"""Which installed fonts can draw a text in a matplotlib figure."""

from __future__ import annotations

from functools import cache

FALLBACKS = (
    "Noto Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans Arabic",
    "Noto Sans Hebrew",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "Arial Unicode MS",
)
"""Looked for, in this order, where DejaVu Sans (which comes with matplotlib) lacks a character."""


@cache
def families() -> tuple[str, ...]:
    """DejaVu Sans and those fallbacks that are installed."""
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    return ("DejaVu Sans", *(name for name in FALLBACKS if name in installed))


def drawable(text: str) -> str:
    """``text`` with characters that none of :func:`families` has shown as the replacement character."""
    known = _characters()
    return "".join(c if ord(c) in known else "\N{REPLACEMENT CHARACTER}" for c in text)


@cache
def _characters() -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset(code for name in families() for code in get_font(findfont(name)).get_charmap())
