"""An answer in words as a figure for papers: a matrix of its words by the input's, and a small picture for each word."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from heedmap.errors import InputError
from heedmap.printable import visible
from heedmap.render.answer_page import answer_words
from heedmap.render.figure_layout import blank, dress
from heedmap.render.overlay import Style, as_picture, heat_grid, laid
from heedmap.render.panels import drawable, families, word_map
from heedmap.render.sample import batch_size, checked_index, sample
from heedmap.render.scale import FROM_ZERO, MIN_MAX, STEPS, WHITE, Scale, Theme, tint
from heedmap.render.scale import theme as themed
from heedmap.render.words import Word, shortened, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from PIL import Image

    from heedmap.explanation_data import ExplanationData, Segment
    from heedmap.picture import Picture

MOST_WORDS, MOST_COLUMNS, ACROSS = 40, 60, 6
"""Words of the answer, words of an input, and small pictures in a row."""
CELL, SMALL, WIDTH, LEAST = 0.2, 1.35, 9.0, 5.0
"""Inches: of a cell, of a small picture, of sound, and of the figure at least."""
LEFT, GAP, ABOVE, LETTER = 1.5, 0.35, 0.3, 0.085
"""Inches: for the words of the answer, between parts, above a part, and the width of a letter."""
SOUND_TALL, NAMED = 0.16, 0.12
"""Of a row of sound, and of the name above small pictures."""


@dataclass(frozen=True)
class _Part:
    """A part of the figure: how wide and tall it is in inches, and what draws it, given left, bottom and the figure."""

    wide: float
    tall: float
    draw: Callable[[Figure, float, float], None]


def plot_answer(
    explanation: ExplanationData,
    index: int = 0,
    image: Image.Image | Picture | None = None,
    *,
    theme: str = "light",
    alpha: float = 0.75,
    mute: float = 0.6,
) -> Figure:
    """A figure of sample ``index`` of an explanation with an answer.

    Of each text, and of boxes, a matrix: a row for each word of the answer, coloured from 0 to its own largest value, and a
    column for each word of the text. Of sound the same over seconds, of a picture a small map for each word. No more than 40
    words of the answer are drawn, the first ones, and of an input the 60 most relevant, in their order; special tokens are not.

    Args:
        explanation: what to draw, of :func:`heedmap.explain_answer`.
        index: the sample.
        image: as the model saw it; or what ``Model.picture`` gives, of several pictures too.
        theme: ``"light"`` or ``"dark"``.
        alpha, mute: of the small pictures, see :class:`~heedmap.render.overlay.Style`.

    Raises:
        InputError: no answer, no such sample, nothing but special tokens, or ``image`` is no image.
        UnknownNameError: no such theme.
    """
    index = checked_index(index, batch_size(explanation))
    look = themed(theme)
    said = [word for word in answer_words(explanation, index) if not word.special]
    if not said:
        raise InputError("the answer has special tokens alone, so there is nothing to draw")
    rows = said[:MOST_WORDS]
    picture = None if image is None else as_picture(image)
    style = Style(alpha=alpha, mute=mute)
    made = [_part(explanation, index, s, rows, picture, style, look) for s in explanation.segments.values()]
    parts = [part for part in made if part is not None]
    wide = max([LEAST, *(part.wide for part in parts)])
    heading = wrap(drawable(_heading(explanation, index, said)), int(wide * 11), max_lines=3, placeholder=" …")
    tall = sum(part.tall + GAP for part in parts) + 0.25 * len(heading) + 0.2
    figure = blank(wide, tall, look)
    figure.text(0.15 / wide, 1 - 0.1 / tall, "\n".join(heading), va="top", fontsize=11, color=look.ink, **_letters())
    top = tall - 0.25 * len(heading) - 0.1
    for part in parts:
        part.draw(figure, 0.0, top - part.tall)
        top -= part.tall + GAP
    return figure


def _heading(explanation: ExplanationData, index: int, said: Sequence[Word]) -> str:
    more = f" · the first {MOST_WORDS} of {len(said)} words" if len(said) > MOST_WORDS else ""
    return f"{visible(explanation.target[index])} · {explanation.method}{more}"


def _part(
    explanation: ExplanationData,
    index: int,
    segment: Segment,
    rows: Sequence[Word],
    picture: Picture | None,
    style: Style,
    look: Theme,
) -> _Part | None:
    """What is drawn of a segment; nothing of one that is special tokens alone, or all 0."""
    each = [explanation.span(word.tokens[0], word.tokens[-1] + 1).segments[segment.name] for word in rows]
    if not any(bool(one.relevance[index].any()) for one in each):
        return None
    if segment.kind == "image" and segment.grid is not None:
        return _strip(each, index, rows, None if picture is None else picture.of(segment.name), style, look)
    if segment.kind == "audio":
        return _over_time(each, index, rows, look)
    return _matrix(each, index, rows, look)


def _strip(
    maps: Sequence[Segment], index: int, rows: Sequence[Word], picture: Picture | None, style: Style, look: Theme
) -> _Part:
    deep = -(-len(rows) // ACROSS)
    shape = 1.0 if picture is None else picture.image.height / picture.image.width
    tall, name = SMALL * shape, maps[0].name

    def draw(figure: Figure, left: float, bottom: float) -> None:
        for n, (word, segment) in enumerate(zip(rows, maps, strict=True)):
            row, column = divmod(n, ACROSS)
            place = (0.2 + column * (SMALL + 0.1), bottom + (deep - 1 - row) * (tall + ABOVE), SMALL, tall)
            axes = _axes(figure, place, look)
            drawn = sample(segment, index)
            scale = _scale(drawn.known[np.isfinite(drawn.known)], MIN_MAX)
            shown = (
                heat_grid(segment, index, scale=scale)
                if picture is None
                else laid(picture, segment, drawn.known, scale, style)
            )
            axes.imshow(np.asarray(shown))
            axes.set_axis_off()
            axes.set_title(drawable(shortened(word.text)), fontsize=9, color=look.ink, pad=3, **_letters())
        above = (bottom + deep * (tall + ABOVE) - 0.02) / figure.get_figheight()
        figure.text(0.2 / figure.get_figwidth(), above, name, fontsize=9, color=look.faint, va="bottom")

    return _Part(0.2 + ACROSS * (SMALL + 0.1), deep * (tall + ABOVE) + NAMED, draw)


def _over_time(maps: Sequence[Segment], index: int, rows: Sequence[Word], look: Theme) -> _Part:
    values = np.stack([sample(segment, index).values for segment in maps])
    labels = sample(maps[0], index).labels
    heard = values[:, : _last(values) + 1]
    tall = SOUND_TALL * len(rows)

    def draw(figure: Figure, left: float, bottom: float) -> None:
        axes = _axes(figure, (LEFT, bottom + ABOVE, WIDTH - LEFT - 0.2, tall), look)
        _image(axes, heard, look)
        _row_names(axes, rows, look)
        places = np.linspace(0, heard.shape[1] - 1, min(8, heard.shape[1])).round().astype(int)
        axes.set_xticks(places, [labels[i] for i in places], fontsize=8, color=look.ink)

    return _Part(WIDTH, tall + ABOVE, draw)


def _last(values: NDArray[np.float64]) -> int:
    """The last frame that any word rests on a little, since what follows the sound is padding."""
    most = np.abs(values).max(0)
    return int(np.flatnonzero(most > 0.02 * most.max(initial=0.0)).max(initial=0))


def _matrix(maps: Sequence[Segment], index: int, rows: Sequence[Word], look: Theme) -> _Part | None:
    by_row = [_columns(segment, index) for segment in maps]
    values = np.array([[value for _, value, _ in row] for row in by_row])
    names = [name for name, _, special in by_row[0] if not special]
    values = values[:, [not special for _, _, special in by_row[0]]]
    if not names or not values.any():
        return None
    kept = np.sort(np.argsort(-np.abs(values).max(0), kind="stable")[:MOST_COLUMNS])
    shown, labels = values[:, kept], [drawable(shortened(names[i])) for i in kept]
    above = min(2.2, 0.15 + LETTER * max(map(len, labels)))
    more = f" ({len(kept)} of {len(names)}, the most relevant)" if len(kept) < len(names) else ""

    def draw(figure: Figure, left: float, bottom: float) -> None:
        axes = _axes(figure, (LEFT, bottom, CELL * len(kept), CELL * len(rows)), look)
        _image(axes, shown, look)
        _row_names(axes, rows, look)
        axes.xaxis.tick_top()
        axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=9, color=look.ink, **_letters())
        place = (0.15 / figure.get_figwidth(), (bottom + CELL * len(rows) + 0.05) / figure.get_figheight())
        figure.text(*place, "\n".join(wrap(maps[0].name + more, 16)), fontsize=9, color=look.faint, va="bottom")

    return _Part(LEFT + CELL * len(kept) + 0.3, CELL * len(rows) + above, draw)


def _columns(segment: Segment, index: int) -> list[tuple[str, float, bool]]:
    """Of each word, or token of what is no text: its name, its relevance, and whether it is special."""
    if segment.kind == "text":
        return [(word.text, word.value, word.special) for word in words(segment, index)]
    drawn = sample(segment, index)
    return [(drawn.labels[i], float(drawn.values[i]), False) for i in drawn.shown]


def _image(axes: Axes, values: NDArray[np.float64], look: Theme) -> None:
    """Each row from 0 to its own largest value."""
    most = np.abs(values).max(1, keepdims=True)
    shares = values / np.where(most > 0, most, 1.0)
    scale = _scale(shares, FROM_ZERO)
    axes.imshow(
        shares, aspect="auto", cmap=_colours(scale, look), vmin=scale.low, vmax=scale.high, interpolation="nearest"
    )
    axes.set_yticks([])


def _colours(scale: Scale, look: Theme) -> str | Colormap:
    """Those of words; 0 has the colour of the ground."""
    from matplotlib.colors import ListedColormap

    if scale.signed or look.ground != WHITE:
        return word_map(scale, look)
    return ListedColormap([tint(step / STEPS)[0] for step in range(STEPS + 1)])


def _row_names(axes: Axes, rows: Sequence[Word], look: Theme) -> None:
    names = [drawable(shortened(word.text)) for word in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=9, color=look.ink, **_letters())


def _axes(figure: Figure, place: tuple[float, float, float, float], look: Theme) -> Axes:
    """Axes at left, bottom, width and height in inches."""
    wide, tall = figure.get_size_inches()
    axes = figure.add_axes((place[0] / wide, place[1] / tall, place[2] / wide, place[3] / tall))
    dress(axes, look)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def _scale(values: NDArray[np.float64], start: str) -> Scale:
    return Scale(
        start,
        float(values.min(initial=0.0 if start == FROM_ZERO else np.inf)),
        float(values.max(initial=0.0)),
        values.size,
    )


def _letters() -> dict[str, Any]:
    return {"fontfamily": list(families()), "parse_math": False}
