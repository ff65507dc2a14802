"""Several explanations of one input side by side: a row for each part of the input, a column for each explanation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from types import MappingProxyType
from typing import TYPE_CHECKING

from heedmap.errors import InputError
from heedmap.picture import Picture
from heedmap.render.cells import COLUMN, RELEVANCE, Cell, Row, cell, row
from heedmap.render.overlay import Style, as_picture
from heedmap.render.panels import SIDES, mappable, ticks
from heedmap.render.plot import MUTE, picture_words
from heedmap.render.sample import batch_size, checked_index
from heedmap.render.sheet import Sheet
from heedmap.render.themes import theme as themed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL import Image

    from heedmap.explanation_data import ExplanationData

MOST_COLUMNS = 4
GAP, LEFT, RIGHT, MARGIN = 0.3, 0.8, 0.9, 0.15
"""Inches: between columns, at the left for names of rows, at the right for colour bars, around everything."""
SPACE, AFTER, BAR, BAR_TALL = 0.05, 0.2, 0.12, 0.9
"""Inches: above small text, below a row, the width of a colour bar, and its least height."""
LETTERS, BAR_LETTERS = 46, 14
"""In a line of small text, a column wide; and beside an inch of a colour bar."""
NO_NOTES: Mapping[str, str] = MappingProxyType({})


def side_by_side(
    explanations: Mapping[str, ExplanationData],
    index: int = 0,
    image: Image.Image | Picture | None = None,
    notes: Mapping[str, str] = NO_NOTES,
    *,
    shared: bool = True,
    theme: str = "light",
    contour: bool = False,
) -> Figure:
    """A figure of sample ``index`` of several explanations of one input; many are wrapped after four columns.

    On one scale, maps of one method are compared as they are. The units of different methods have nothing to do with
    each other, so there each map is divided by the sum of its absolute values first. Which it was, and each map's own
    range, is written on the figure.

    Args:
        explanations: the name of a column → what it shows.
        index: the sample.
        image: as for :func:`~heedmap.render.plot.plot`.
        notes: the name of a column → words under it, such as a figure of merit.
        shared: whether the maps of a row share one scale; else each has its own.
        theme: ``"light"`` or ``"dark"``.
        contour: whether to outline what lies above Otsu's threshold, in pictures.

    Raises:
        InputError: nothing to compare, no such sample, notes on what is not there, or ``image`` is no image.
        UnknownNameError: no such theme.
        MissingLibraryError: ``contour`` without scikit-image.

    Examples:
        >>> import heedmap
        >>> subject = heedmap.load("zoo/gpt-lists")
        >>> names = ("generic", "rollout", "random")
        >>> maps = {name: subject.explain(text="dog red ? dog", method=name) for name in names}
        >>> figure = heedmap.side_by_side(maps, notes={"generic": "the paper's"})
        >>> figure.savefig("methods.png")
    """
    _check(explanations, index, notes)
    picture = None if image is None else as_picture(image)
    drawn = None if picture is None else picture.fitted(*SIDES)
    style, look = Style(contour=contour, mute=MUTE), themed(theme)
    names = dict.fromkeys(name for one in explanations.values() for name in one.segments)
    rows = {name: row(name, explanations, index, shared) for name in names}
    cells = {(n, c): cell(part, c, drawn, style, look) for n, part in rows.items() for c in part.segments}
    table = _Table(explanations, index, notes, rows, cells, picture, Sheet(look))
    return table.figure(_remarks(rows, picture, style, shared))


def _check(explanations: Mapping[str, ExplanationData], index: int, notes: Mapping[str, str]) -> None:
    if not explanations:
        raise InputError("there are no explanations to compare; give at least one, by name")
    strange = ", ".join(sorted(set(notes) - set(explanations)))
    if strange:
        raise InputError(f"there are notes on {strange}; expected notes on {', '.join(explanations)}")
    for one in explanations.values():
        checked_index(index, batch_size(one))


def _remarks(rows: Mapping[str, Row], picture: Picture | None, style: Style, shared: bool) -> list[str]:
    """What holds of all the figure: how it is scaled, and what the pictures are."""
    patches = any(segment.grid is not None for part in rows.values() for segment in part.segments.values())
    if not shared:
        scaling = "each map has a scale of its own: colours do not compare across columns"
    elif all(part.unit == RELEVANCE for part in rows.values()):
        scaling = "all maps of a row share one scale"
    else:
        scaling = "each map is divided by the sum of its absolute values; then all maps of a row share one scale"
    return [scaling, *(picture_words(picture, style) if patches else [])]


@dataclass(frozen=True, eq=False)
class _Table:
    """What is to be shown, and the sheet on which it is placed."""

    explanations: Mapping[str, ExplanationData]
    index: int
    notes: Mapping[str, str]
    rows: Mapping[str, Row]
    cells: Mapping[tuple[str, str], Cell]
    picture: Picture | None
    sheet: Sheet

    def figure(self, remarks: Sequence[str]) -> Figure:
        """The figure, with ``remarks`` below."""
        columns = list(self.explanations)
        count = min(MOST_COLUMNS, len(columns))
        width = LEFT + count * (COLUMN + GAP) + RIGHT
        letters = round(width * 15)
        targets = {one.target[self.index] for one in self.explanations.values()}
        title = wrap(targets.pop(), letters, max_lines=2, placeholder=" …") if len(targets) == 1 else []
        top = self.sheet.write(MARGIN, MARGIN, title, 11, faint=False) + MARGIN
        for start in range(0, len(columns), MOST_COLUMNS):
            top = self._block(columns[start : start + MOST_COLUMNS], top, bool(title)) + AFTER
        self.sheet.write(MARGIN, top - AFTER / 2, wrap(" · ".join(remarks), letters))
        return self.sheet.figure(width, MARGIN)

    def _block(self, columns: Sequence[str], top: float, same_target: bool) -> float:
        ends = [self._head(name, left, top, same_target) for name, left in _lefts(columns)]
        top = max(ends) + SPACE
        for name in self.rows:
            top = self._row(name, columns, top) + AFTER
        noted = [(left, wrap(self.notes.get(name, ""), LETTERS)) for name, left in _lefts(columns)]
        return max(self.sheet.write(left, top - AFTER / 2, lines, 8.5, faint=False) for left, lines in noted)

    def _head(self, column: str, left: float, top: float, same_target: bool) -> float:
        one = self.explanations[column]
        own = [] if same_target else wrap(one.target[self.index], LETTERS, max_lines=2, placeholder=" …")
        score = f"{one.method} · score {float(one.scores[self.index]):.4g}"
        top = self.sheet.write(left, top, [_cut(column, 34)], 10, faint=False, weight="bold")
        return self.sheet.write(left, top, [*own, score])

    def _row(self, name: str, columns: Sequence[str], top: float) -> float:
        self.sheet.write(MARGIN, top, wrap(name, 11), 9, faint=False)
        ends = [self._cell(name, column, left, top) for column, left in _lefts(columns)]
        part, shown = self.rows[name], [c for c in columns if (name, c) in self.cells]
        if part.shared and shown and part.coloured(shown[0], self.picture):
            tall = max(BAR_TALL, *(self.cells[name, c].tall for c in shown))
            left = LEFT + len(columns) * (COLUMN + GAP) - GAP / 2
            ends.append(self.sheet.draw(left, top, BAR, tall, lambda axes: self._bar(axes, part, shown[0], tall)))
        return max(ends)

    def _cell(self, name: str, column: str, left: float, top: float) -> float:
        found = self.cells.get((name, column))
        if found is None:
            return self.sheet.write(left, top, [f"{self.explanations[column].method} has no map of {name}"])
        end = self.sheet.draw(left + found.left, top, COLUMN - found.left, found.tall, found.draw) + found.ticks
        return self.sheet.write(left, end + SPACE, [line for words in found.caption for line in wrap(words, LETTERS)])

    def _bar(self, axes: Axes, part: Row, column: str, tall: float) -> None:
        theme = self.sheet.theme
        bar = axes.figure.colorbar(mappable(part.scales[column], part.cmap(column, theme)), cax=axes, ticks=ticks(tall))
        told = f"{part.unit}, {part.scales[column].kind}"
        bar.set_label("\n".join(wrap(told, round(tall * BAR_LETTERS))), color=theme.ink, fontsize=7)
        axes.tick_params(colors=theme.faint, labelcolor=theme.ink, labelsize=7)
        axes.spines["outline"].set_edgecolor(theme.faint)


def _lefts(columns: Sequence[str]) -> list[tuple[str, float]]:
    return [(column, LEFT + number * (COLUMN + GAP)) for number, column in enumerate(columns)]


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: letters - 1] + "…"
