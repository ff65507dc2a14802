"""Token heat: a text for a terminal, its tokens one by one as HTML, and text made safe for HTML."""

from __future__ import annotations

from collections.abc import Collection
from html import escape

from rich.style import Style
from rich.text import Text

from heedmap.explanation_data import Segment
from heedmap.printable import number, visible
from heedmap.render.sample import Sample, sample
from heedmap.render.scale import Scale, tint, token_scale
from heedmap.render.words import SPECIAL, words, words_scale


def text_heat(segment: Segment, index: int = 0, *, numbers: bool = False) -> Text:
    """The words for a terminal; with ``numbers`` each is followed by its value, for terminals without colour.

    Tokens are joined to words, see :func:`heedmap.render.words.words`, and coloured from 0; special tokens are dimmed.
    Tokens that the model did not take in are left out, and counted at the end.

    Raises:
        InputError: no such sample.
    """
    found = words(segment, index)
    used = words_scale(found)
    result = Text()
    for word in found:
        ground, letters = tint(used.share(word.value))
        text = f"{word.text}({number(word.value)})" if numbers else f" {word.text} "
        result.append(text, Style(dim=True) if word.special else Style(color=letters, bgcolor=ground))
        result.append(" ")
    return result.append(_left_out(sample(segment, index)), Style(dim=True))


def text_html(segment: Segment, index: int = 0, *, marked: Collection[int] = ()) -> str:
    """The tokens as an HTML paragraph, coloured from 0; every label is escaped, and its value is in its tooltip.

    Args:
        segment: of words.
        index: the sample.
        marked: indices of tokens to be set off; they have the class ``marked``.

    Raises:
        InputError: no such sample.
    """
    drawn = sample(segment, index)
    used = token_scale(segment, drawn)
    words = " ".join(_token_html(drawn, used, i, "token marked" if i in marked else "token") for i in drawn.shown)
    rest = f" <small>{escape(_left_out(drawn))}</small>" if _left_out(drawn) else ""
    return f'<p class="heat" dir="auto">{words}{rest}</p>'


def html_text(text: str) -> str:
    """``text`` for any place in HTML: unprintable characters made visible, and escaped, quotes too."""
    return escape(visible(text), quote=True)


def scrolled(table: str, name: str) -> str:
    """``table``, which is HTML, where it can be moved sideways, also by keys; ``name``, which is text, is read out for it."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{html_text(name)}">{table}</div>'


def _token_html(drawn: Sample, used: Scale, i: int, kind: str) -> str:
    label, value = drawn.labels[i], drawn.values[i]
    ground, letters = tint(used.share(value))
    # A bdi is passed over when dir="auto" looks for the first letter, so "[CLS]" does not turn Arabic around.
    tag = "bdi" if SPECIAL.fullmatch(label) else "span"
    style = f"background:{ground};color:{letters}"
    return f'<{tag} class="{kind}" style="{style}" title="{html_text(label)}: {value:.6g}">{html_text(label)}</{tag}>'


def _left_out(drawn: Sample) -> str:
    count = len(drawn.labels) - len(drawn.shown)
    return f"(+ {count} that the model did not take in)" if count else ""
