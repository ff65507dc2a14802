"""Tokens joined to the words of the text; a word's relevance is the sum of its tokens'."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from heedmap.render.sample import Sample, checked_index, sample
from heedmap.render.scale import Scale, scale_of

if TYPE_CHECKING:
    from heedmap.explanation_data import Segment

SPECIAL = re.compile(r"\[[A-Z_0-9]+\]|<[^<>]*>")
"""What looks like a special token, where nobody told which are."""
BLANK, WHITE = "␣", "␣⏎⇥"
INSIDE = "'’_\u200d"
"""Characters besides letters, digits and marks that do not end a word; the last joins emoji."""
UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x0F00, 0x109F),  # Tibetan, Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3000, 0x30FF),  # CJK punctuation, kana
    (0x31F0, 0x31FF),
    (0x3400, 0x9FFF),  # Han
    (0xF900, 0xFAFF),
    (0xFF00, 0xFFEF),
    (0x20000, 0x3FFFF),
)
"""First and last code points of scripts that are written without spaces; there each token is a word."""


@dataclass(frozen=True)
class Word:
    """A word of a text.

    Attributes:
        text: printable.
        tokens: indices of its tokens in the segment, in order.
        pieces: the tokens' own texts; empty for one that continues a character.
        values: the tokens' relevance.
        value: its sum.
        special: whether it is a special token, no part of the text.
        spaced: whether white space stands before it.
    """

    text: str
    tokens: tuple[int, ...]
    pieces: tuple[str, ...]
    values: tuple[float, ...]
    value: float
    special: bool
    spaced: bool


def words(segment: Segment, index: int = 0) -> list[Word]:
    """The words of sample ``index`` that the model took in, in order; InputError where there is no such sample.

    Without ``segment.joints`` each token is a word.
    """
    drawn = sample(segment, index)
    letters = _letters(segment, drawn, checked_index(index, len(segment.relevance)))
    groups: list[list[int]] = []
    for i in drawn.shown:
        if groups and _joins(groups[-1], i, letters, drawn.labels):
            groups[-1].append(i)
        else:
            groups.append([i])
    made = [_word(group, letters, drawn) for group in groups]
    return [_set_apart(word, before) for word, before in zip(made, [None, *made], strict=False)]


def top_words(found: list[Word], count: int) -> list[Word]:
    """The ``count`` words of the largest values, highest first; of equals the earlier; not finite ones never."""
    finite = [word for word in found if abs(word.value) < float("inf")]
    return sorted(finite, key=lambda word: -word.value)[:count]


def words_scale(found: list[Word]) -> Scale:
    """The scale of the words; special tokens set it only where there is nothing else."""
    own = [word.value for word in found if not word.special]
    return scale_of(own or [word.value for word in found])


def _letters(segment: Segment, drawn: Sample, index: int) -> str:
    """One letter a token, as in ``Segment.joints``, guessed from the labels where nobody told."""
    told = "" if segment.joints is None else segment.joints[index]
    rest = drawn.labels[len(told) :]
    return told + "".join("s" if SPECIAL.fullmatch(label) else "w" for label in rest)


def _joins(group: list[int], i: int, letters: str, labels: tuple[str, ...]) -> bool:
    """Whether token ``i`` goes on with the word of ``group``."""
    if i != group[-1] + 1 or letters[group[-1]] == "s" or letters[i] in "sw":
        return letters[i] == "c" and i == group[-1] + 1
    before = next((labels[k] for k in reversed(group) if letters[k] != "c"), labels[group[0]])
    if letters[i] == "c":
        return True
    if set(before) <= set(WHITE):
        return before[-1] == BLANK and not set(labels[i]) <= set(WHITE)
    return _goes_on(before[-1]) and _goes_on(labels[i][0]) and not (_unspaced(before[-1]) or _unspaced(labels[i][0]))


def _word(group: list[int], letters: str, drawn: Sample) -> Word:
    pieces = ["" if letters[i] == "c" and n else drawn.labels[i] for n, i in enumerate(group)]
    begun = 1 if len(group) > 1 and set(pieces[0]) <= {BLANK} else 0  # by a space, which is no letter of it
    text = "".join(pieces[begun:]) or pieces[0]
    values = tuple(float(drawn.values[i]) for i in group)
    first = letters[group[0]]
    return Word(text, tuple(group), tuple(pieces), values, sum(values), first == "s", first in "sw")


def _set_apart(word: Word, before: Word | None) -> Word:
    """Of a script without spaces none is written, also where a tokenizer puts one between any two tokens."""
    close = before is None or (word.spaced and _unspaced(before.text[-1]) and _unspaced(word.text[0]))
    apart = (word.spaced and not close) or (before is not None and before.special)
    return replace(word, spaced=apart)


def _goes_on(character: str) -> bool:
    return unicodedata.category(character)[0] in "LNM" or character in INSIDE


def _unspaced(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in UNSPACED)
