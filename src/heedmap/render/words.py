"""A text: tokens joined to words, a word's relevance being the sum of its tokens', and words to passages.

Of a long text the passages that matter most are shown, the others are folded.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from markupsafe import Markup
from rich.style import Style
from rich.text import Text

from heedmap.common.printable import number, percent
from heedmap.data.segments import Segment
from heedmap.render.html import macro
from heedmap.render.sample import Drawn, checked_index, sample
from heedmap.render.scale import Scale, chip_colours, either, scale_of, token_scale

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

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

FOLDED_FROM = 400
"""Words; a longer text folds."""
KEPT = 240
"""About so many words of a folded text are shown."""
SHORTEST, LONGEST = 12, 40
"""Words of a passage: it ends with a sentence, from the one on and at the other at the latest."""
ENDS = tuple(".!?。！？؟।⏎")
LONGEST_PIECE, MOST_PIECES = 40, 24
"""Letters of a token, and tokens of a word, that are written out beside a value."""

SPECIAL_NOTE = "special tokens (dashed) hold {share} of the relevance and set no colour"
SUM_NOTE = "a word’s relevance is the sum of its tokens’"


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

    @property
    def sum(self) -> str:
        """``un 0.1 + able 0.25``: its tokens and their relevance, as many as there is room for."""
        pairs = zip(self.pieces[:MOST_PIECES], self.values, strict=False)
        more = " + …" if len(self.pieces) > MOST_PIECES else ""
        return " + ".join(f"{shortened(piece or '…')} {number(value)}" for piece, value in pairs) + more

    @property
    def short(self) -> str:
        """Its text, where it is very long the beginning."""
        return shortened(self.text)

    @property
    def told(self) -> str:
        """Its relevance, and of what it is the sum."""
        return number(self.value) if len(self.tokens) == 1 else f"{number(self.value)} = {self.sum}"

    def lends(self, n: int) -> bool:
        """Whether the text of its token ``n`` is part of its own; else that is seen only where tokens stand by themselves."""
        return bool(self.pieces[n]) and not (n == 0 and set(self.pieces[0]) <= {BLANK})


@dataclass(frozen=True)
class Passage:
    """Some words in a row.

    Attributes:
        start, end: the first, and the one after the last.
        share: how much of the text's relevance they hold, 0 to 1.
        shown: whether they are there at once; else they are folded.
    """

    start: int
    end: int
    share: float
    shown: bool


def words(segment: Segment, index: int = 0) -> list[Word]:
    """The words of sample ``index`` that the model took in, in order; InputError where there is no such sample.

    Without ``segment.boundaries`` each token is a word.
    """
    drawn = sample(segment, index)
    letters = _letters(segment, drawn, checked_index(index, len(segment.relevance)))
    groups: list[list[int]] = []
    for i in drawn.shown:
        if groups and _joins(groups[-1], i, letters, drawn.labels):
            groups[-1].append(i)
        else:
            groups.append([i])
    words = [_word(group, letters, drawn) for group in groups]
    return [_set_apart(word, before) for word, before in zip(words, [None, *words], strict=False)]


def top_words(words: list[Word], count: int) -> list[Word]:
    """The ``count`` words of the largest values, highest first; of equals the earlier; not finite ones never."""
    finite = [word for word in words if abs(word.value) < float("inf")]
    return sorted(finite, key=lambda word: -word.value)[:count]


def words_scale(words: list[Word]) -> Scale:
    """The scale of the words; special tokens set it only where there is nothing else, or all else is 0."""
    values = [word.value for word in words if not word.special]
    return scale_of(values if any(values) else [word.value for word in words])


def passages(text: list[Word]) -> list[Passage]:
    """A text cut at its sentences; of a long one the most relevant are shown, the others folded together."""
    if len(text) <= FOLDED_FROM:
        return [Passage(0, len(text), 1.0, True)]
    total = _weight(text) or 1.0
    cut = [(a, b, _weight(text[a:b]) / total) for a, b in _cuts(text)]
    shown: set[int] = set()
    count = 0
    for start, end, _ in sorted(cut, key=lambda passage: -passage[2]):
        if count >= KEPT:
            break
        shown.add(start)
        count += end - start
    groups = [(is_shown, list(group)) for is_shown, group in groupby(cut, key=lambda passage: passage[0] in shown)]
    return [Passage(group[0][0], group[-1][1], sum(part[2] for part in group), is_shown) for is_shown, group in groups]


def notes(segment: Segment, index: int, text: list[Word]) -> list[str]:
    """What has to be told of the words of sample ``index`` beside their scale."""
    left_out = len(sample(segment, index).labels) - sum(len(word.tokens) for word in text)
    told = [SUM_NOTE] if split(text) else []
    told += _special_note(text)
    return told + ([f"{left_out} tokens that the model did not take in are left out"] if left_out else [])


def split(text: list[Word]) -> bool:
    """Whether a word has several tokens."""
    return any(len(word.tokens) > 1 for word in text)


def shortened(text: str) -> str:
    """Some forty letters of ``text``."""
    return text if len(text) <= LONGEST_PIECE else f"{text[:LONGEST_PIECE]}…"


@dataclass(frozen=True, eq=False)
class Chips:
    """Words on grounds of colour for a Rich console; at the end of a line none is torn from its ground."""

    chips: tuple[Text, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """As many words a line as there is room for."""
        line: list[Text] = []
        wide = 0
        for chip in self.chips:
            if line and not options.no_wrap and wide + 1 + chip.cell_len > options.max_width:
                yield Text(" ").join(line)
                line, wide = [], 0
            wide += chip.cell_len + bool(line)
            line.append(chip)
        yield Text(" ").join(line)


def text_heat(segment: Segment, index: int = 0, *, numbers: bool = False) -> Chips:
    """The words for a terminal; with ``numbers`` each is followed by its value, for terminals without colour.

    Tokens are joined to words, see :func:`words`, and coloured from 0, see :func:`chip_colours`; special tokens are dimmed.
    Tokens that the model did not take in are left out, and counted at the end.

    Raises:
        InputError: no such sample.
    """
    text = words(segment, index)
    used = words_scale(text)
    chips = []
    for word in text:
        colours = None if word.special else chip_colours(used.share(word.value))
        written = f"{word.text}({number(word.value)})" if numbers else f" {word.text} "
        style = Style(dim=word.special) if colours is None else Style(bgcolor=colours[0], color=colours[1])
        chips.append(Text(written, "" if numbers and not word.special else style))
    left_out = _left_out(sample(segment, index))
    return Chips((*chips, *([Text(left_out, Style(dim=True))] if left_out else [])))


def text_html(segment: Segment, *, marked: Collection[int] = ()) -> Markup:
    """The tokens of a text, of sample 0, one by one, coloured from 0, with their values in tooltips; those of the indices
    ``marked`` have the class ``marked``.
    """
    drawn = sample(segment)
    used = token_scale(segment, drawn)
    return macro("segments.tokens", [_token(drawn, used, i, i in marked) for i in drawn.shown], _left_out(drawn))


def _letters(segment: Segment, drawn: Drawn, index: int) -> str:
    """One letter a token, as in ``Segment.boundaries``, guessed from the labels where nobody told."""
    told = "" if segment.boundaries is None else segment.boundaries[index]
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


def _word(group: list[int], letters: str, drawn: Drawn) -> Word:
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


def _cuts(text: list[Word]) -> list[tuple[int, int]]:
    cuts, start = [], 0
    for i, word in enumerate(text):
        length = i + 1 - start
        if length >= LONGEST or (length >= SHORTEST and word.text.endswith(ENDS)) or i + 1 == len(text):
            cuts.append((start, i + 1))
            start = i + 1
    return cuts


def _weight(text: list[Word]) -> float:
    return sum(abs(word.value) for word in text if not word.special and abs(word.value) < float("inf"))


def _special_note(text: list[Word]) -> list[str]:
    special = sum(abs(word.value) for word in text if word.special and abs(word.value) < float("inf"))
    total = special + _weight(text)
    noted = any(word.special for word in text) and total
    return [SPECIAL_NOTE.format(share=percent(special / total))] if noted else []


def _token(drawn: Drawn, used: Scale, i: int, marked: bool) -> dict[str, object]:
    label, value = drawn.labels[i], drawn.values[i]
    ground, ink = either(used.share(value))
    # A bdi is passed over when dir="auto" looks for the first letter, so "[CLS]" does not turn Arabic around.
    tag = "bdi" if SPECIAL.fullmatch(label) else "span"
    return {"tag": tag, "marked": marked, "ground": ground, "ink": ink, "label": label, "value": f"{value:.6g}"}


def _left_out(drawn: Drawn) -> str:
    count = len(drawn.labels) - len(drawn.shown)
    return f"(+ {count} that the model did not take in)" if count else ""
