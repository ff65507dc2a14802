"""Words of a text on coloured grounds in a matplotlib figure: measured and broken into lines, then drawn."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heedmap.render.colours import readable
from heedmap.render.fonts import drawable, families
from heedmap.render.panels import LONGEST_LABEL, Rgb

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROUND = "round,pad=0,rounding_size=0.03"
DOTS = 100
"""An inch, where words are measured."""
LINE, GAP, PAD, SIZE = 0.23, 0.05, 0.03, 8.5
"""Height of a line, space between words and around one, in inches; size of the letters in points."""


@dataclass(frozen=True)
class Word:
    """A word and its place: the left end in inches, and its line from 0."""

    text: str
    token: int
    left: float
    width: float
    line: int


def placed_words(labels: Sequence[str], tokens: Sequence[int], width: float) -> list[Word]:
    """The ``tokens``, in order, in lines of ``width`` inches; an ellipsis, token -1, where some are left out.

    Args:
        labels: of all tokens.
        tokens: indices of those to be drawn.
        width: of a line.
    """
    found: list[Word] = []
    left, line = 0.0, 0
    for text, token in _with_gaps(labels, tokens):
        own = min(width, _width(text) + 2 * PAD)
        if left and left + own > width:
            left, line = 0.0, line + 1
        found.append(Word(text, token, left, own, line))
        left += own + GAP
    return found


def height(words: Sequence[Word]) -> float:
    """Of all lines, in inches."""
    return LINE * (1 + max((word.line for word in words), default=0))


def draw_words(
    axes: Axes, words: Sequence[Word], colours: Sequence[Rgb], width: float, tall: float, faint: str
) -> None:
    """Draw words on their colours; the lines of a text that is written from the right begin there.

    Args:
        axes: ``width`` × ``tall`` inches.
        words: see :func:`placed_words`.
        colours: by token.
        width, tall: of the axes.
        faint: the colour of an ellipsis.
    """
    from matplotlib.patches import FancyBboxPatch

    axes.set_xlim(0, width)
    axes.set_ylim(tall, 0)
    axes.set_axis_off()
    mirrored = _from_the_right(words)
    for word in words:
        left = width - word.left - word.width if mirrored else word.left
        middle = left + word.width / 2, (word.line + 0.5) * LINE
        if word.token >= 0:
            box = FancyBboxPatch((left, word.line * LINE + 0.02), word.width, LINE - 0.04, boxstyle=ROUND)
            box.set(linewidth=0, facecolor=colours[word.token])
            axes.add_patch(box)
        ink = faint if word.token < 0 else readable(colours[word.token])
        text = axes.text(*middle, word.text, fontsize=SIZE, color=ink, ha="center", va="center_baseline")
        text.set(parse_math=False, fontfamily=list(families()), clip_on=True)


def _with_gaps(labels: Sequence[str], tokens: Sequence[int]) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for before, token in zip([None, *tokens], tokens, strict=False):
        if before is not None and token != before + 1:
            found.append(("…", -1))
        label = labels[token]
        found.append((drawable(label if len(label) <= LONGEST_LABEL else label[: LONGEST_LABEL - 1] + "…"), token))
    return found


def _width(text: str) -> float:
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.font_manager import FontProperties

    font = FontProperties(family=list(families()), size=SIZE)
    renderer = RendererAgg(1, 1, DOTS)
    return renderer.get_text_width_height_descent(text, font, False)[0] / DOTS


def _from_the_right(words: Sequence[Word]) -> bool:
    directions = [unicodedata.bidirectional(letter) for word in words for letter in word.text]
    right = sum(direction in ("R", "AL") for direction in directions)
    return right > sum(direction == "L" for direction in directions)
