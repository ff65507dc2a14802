"""Texts that know which of their words matter."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class TextWord:
    """One word of a text.

    Attributes:
        text: as it stands there.
        index: its number among the words of the text, from 0; punctuation is no word.
        start, end: its characters are ``text[start:end]``.
    """

    text: str
    index: int
    start: int
    end: int


def words_of(text: str) -> tuple[TextWord, ...]:
    """The words of ``text`` in order."""
    return tuple(TextWord(m.group(), i, m.start(), m.end()) for i, m in enumerate(WORD.finditer(text)))


def compose(template: str, parts: dict[str, str]) -> tuple[str, dict[str, tuple[TextWord, ...]]]:
    """Fill in a template, and say which words came from which part.

    Args:
        template: with ``{name}`` for the part of that name, each once at most.
        parts: by name.

    Returns:
        The text, and for each part that the template has, its words in the text.
    """
    text, spans = "", {}
    for piece in re.split(r"(\{\w+\})", template):
        if piece.startswith("{"):
            spans[piece[1:-1]] = (len(text), len(text) + len(parts[piece[1:-1]]))
            piece = parts[piece[1:-1]]
        text += piece
    words = words_of(text)
    return text, {name: tuple(w for w in words if s <= w.start and w.end <= e) for name, (s, e) in spans.items()}


def article(phrase: str) -> str:
    """ "a" or "an", whichever goes before ``phrase``."""
    return "an" if phrase[0] in "aeiou" else "a"


def plural(shape: str) -> str:
    """The shape's name for several."""
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"


def in_order(words: Iterable[TextWord]) -> tuple[TextWord, ...]:
    """The words, each once, as they follow each other in the text."""
    return tuple(sorted(set(words), key=lambda word: word.index))
