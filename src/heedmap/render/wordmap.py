"""A text as HTML: its words on grounds that show their relevance; long texts fold to what matters most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from heedmap.printable import number, percent
from heedmap.render.sample import sample
from heedmap.render.scale import Scale, ramp, step_class
from heedmap.render.starts import button
from heedmap.render.text import html_text
from heedmap.render.words import BLANK, Word, top_words, words, words_scale

if TYPE_CHECKING:
    from heedmap.explanation_data import Segment

FOLDED_FROM = 400
"""Words; a longer text folds."""
KEPT = 240
"""About so many words of a folded text are shown."""
SHORTEST, LONGEST = 12, 40
"""Words of a passage: it ends with a sentence, from the one on and at the other at the latest."""
ENDS = tuple(".!?。！？؟।⏎")
ROWS = 12
LONGEST_PIECE, MOST_PIECES = 40, 24
"""Letters of a token, and tokens of a word, that are written out beside a value."""

SPECIAL_NOTE = "special tokens (dashed) hold {share} of the relevance and set no colour"
SUM_NOTE = "a word’s relevance is the sum of its tokens’"


@dataclass(frozen=True)
class Passage:
    """Some words in a row: the first, the one after the last, and how much of the text's relevance they hold, 0 to 1."""

    start: int
    end: int
    share: float
    shown: bool


def word_map(segment: Segment, index: int = 0, given: Scale | None = None, *, clickable: bool = False) -> str:
    """The text, its scale in words and numbers, and its most relevant words as a table.

    Args:
        segment: of text.
        index: the sample.
        given: a scale that several maps share; None: the text's own.
        clickable: whether each word is a button, see :mod:`heedmap.render.starts`.

    Raises:
        InputError: no such sample.
    """
    found = words(segment, index)
    own = words_scale(found)
    scale_used = given or own
    toggle = '<label class="split"><input type="checkbox"> each token by itself</label>\n' if _split(found) else ""
    name = segment.name if clickable else ""
    body = "\n".join(_passage(found, passage, scale_used, name) for passage in passages(found))
    left_out = len(sample(segment, index).labels) - sum(len(word.tokens) for word in found)
    notes = [scale_used.about(own)]
    notes += [SUM_NOTE] if _split(found) else []
    notes += _special_note(found)
    notes += [f"{left_out} tokens that the model did not take in are left out"] if left_out else []
    return f"{toggle}{body}\n{legend(scale_used, '; '.join(notes))}\n{_table(found)}"


def line(found: list[Word], scale_used: Scale, name: str = "") -> str:
    """Words on their grounds, without anything around them; as buttons where the ``name`` of their segment is given."""
    drawn = "".join(_word(w, scale_used, button(name, w.tokens, first=n == 0)) for n, w in enumerate(found))
    group = f' role="group" aria-label="words of {html_text(name)}"' if name else ""
    return f'<div class="heat" dir="auto"{group}>{drawn}</div>'


def legend(scale_used: Scale, words_under: str, *, patches: bool = False) -> str:
    """The colours of the scale, of words or of ``patches``, with its ends, and what is written under a map."""
    ends = number(scale_used.low), number(scale_used.high)
    bar = f'<span class="ramp" style="background:{ramp(scale_used, patches=patches)}"></span>'
    told = scale_used.high > scale_used.low
    shown = f'<span class="key" aria-hidden="true">{ends[0]} {bar} {ends[1]}</span> ' if told else ""
    return f'<p class="fine">{shown}{html_text(words_under) if words_under else ""}</p>'


def passages(found: list[Word]) -> list[Passage]:
    """A text cut at its sentences; of a long one the most relevant are shown, the others folded together."""
    if len(found) <= FOLDED_FROM:
        return [Passage(0, len(found), 1.0, True)]
    total = _weight(found) or 1.0
    cut = [(a, b, _weight(found[a:b]) / total) for a, b in _cuts(found)]
    shown: set[int] = set()
    count = 0
    for start, end, _ in sorted(cut, key=lambda one: -one[2]):
        if count >= KEPT:
            break
        shown.add(start)
        count += end - start
    merged: list[Passage] = []
    for start, end, share in cut:
        if merged and merged[-1].shown == (start in shown):
            merged[-1] = Passage(merged[-1].start, end, merged[-1].share + share, merged[-1].shown)
        else:
            merged.append(Passage(start, end, share, start in shown))
    return merged


def _cuts(found: list[Word]) -> list[tuple[int, int]]:
    cuts, start = [], 0
    for i, word in enumerate(found):
        length = i + 1 - start
        if length >= LONGEST or (length >= SHORTEST and word.text.endswith(ENDS)) or i + 1 == len(found):
            cuts.append((start, i + 1))
            start = i + 1
    return cuts


def _weight(found: list[Word]) -> float:
    return sum(abs(word.value) for word in found if not word.special and abs(word.value) < float("inf"))


def _split(found: list[Word]) -> bool:
    return any(len(word.tokens) > 1 for word in found)


def _special_note(found: list[Word]) -> list[str]:
    special = sum(abs(word.value) for word in found if word.special and abs(word.value) < float("inf"))
    total = special + _weight(found)
    return (
        [SPECIAL_NOTE.format(share=percent(special / total))] if any(word.special for word in found) and total else []
    )


def _passage(found: list[Word], passage: Passage, scale_used: Scale, name: str) -> str:
    text = line(found[passage.start : passage.end], scale_used, name)
    if passage.shown:
        return text
    about = f"{passage.end - passage.start} words · {percent(passage.share)} of the words’ relevance"
    return f'<details class="fold"><summary>{about}</summary>{text}</details>'


def _word(word: Word, scale_used: Scale, pressed: str) -> str:
    space = " " if word.spaced else ""
    if word.special:
        # A bdi is passed over when dir="auto" looks for the first letter, so "[CLS]" does not turn Arabic around.
        return f'{space}<bdi class="special" title="{number(word.value)}"{pressed}>{html_text(word.text)}</bdi>'
    kind = step_class(scale_used.step(word.value))
    attribute = f' class="{kind}"' if kind else ""
    end = "<br>" if "⏎" in word.text else ""
    return f'{space}<span{attribute} title="{_title(word)}"{pressed}>{_pieces(word, scale_used)}</span>{end}'


def _pieces(word: Word, scale_used: Scale) -> str:
    if len(word.tokens) == 1:
        return html_text(word.text)
    return "".join(_piece(word, n, scale_used) for n in range(len(word.tokens)))


def _piece(word: Word, n: int, scale_used: Scale) -> str:
    """A token of a word; what is not part of the word's own text is seen only where tokens are shown by themselves."""
    own = word.pieces[n] and not (n == 0 and set(word.pieces[0]) <= {BLANK})
    kind = (step_class(scale_used.step(word.values[n])) or "s0") + ("" if own else " k")
    return f'<span class="{kind}">{html_text(word.pieces[n] or "…")}</span>'


def _title(word: Word) -> str:
    return number(word.value) if len(word.tokens) == 1 else html_text(f"{number(word.value)} = {_sum(word)}")


def _sum(word: Word) -> str:
    parts = zip(word.pieces[:MOST_PIECES], word.values, strict=False)
    more = " + …" if len(word.pieces) > MOST_PIECES else ""
    return " + ".join(f"{_short(piece or '…')} {number(value)}" for piece, value in parts) + more


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_PIECE else f"{text[:LONGEST_PIECE]}…"


def _table(found: list[Word]) -> str:
    top = top_words(found, ROWS)
    if not top:
        return ""
    split = _split(found)
    head = "".join(f'<th scope="col">{name}</th>' for name in ("word", "relevance", *(("tokens",) if split else ())))
    rows = "\n".join(_row(word, split) for word in top)
    title = (
        "All words by relevance" if len(top) == len(found) else f"The {len(top)} most relevant of {len(found)} words"
    )
    return (
        f"<details><summary>{title}</summary>\n<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n"
        "</table></details>"
    )


def _row(word: Word, split: bool) -> str:
    tokens = f'<td dir="auto">{html_text(_sum(word)) if len(word.tokens) > 1 else ""}</td>' if split else ""
    name = html_text(_short(word.text))
    return f'<tr><th scope="row" dir="auto">{name}</th><td>{number(word.value)}</td>{tokens}</tr>'
