"""Matplotlib figures of explanations: one as a strip of panels, several of one input as a table; no pyplot, no global state.

Both are made of the same rows and cells: a strip is a table of one column, laid on its side, with a colour bar a panel.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from textwrap import wrap
from types import MappingProxyType

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from heedmap.common.printable import cut, visible
from heedmap.data.explanation import ExplanationData
from heedmap.data.picture import Picture
from heedmap.errors import InputError
from heedmap.render.cautions import cautions, disagreements
from heedmap.render.figure_layout import Sheet, blank, check_size, dress, finished
from heedmap.render.naming import called, headline
from heedmap.render.overlay import ALPHA, Shown, Style, as_picture, framed
from heedmap.render.panels import SIDES, drawable, lettering, picture_words, stretched
from heedmap.render.sample import batch_size, checked_index
from heedmap.render.scale import MUTE, Scale, Theme
from heedmap.render.scale import theme as themed
from heedmap.render.sound import Sound
from heedmap.render.views import RELEVANCE, Cell, Look, Room, Row, drawn_segments, row, view

PANEL = Room(width=3.8, shortest=1.2, tallest=8.0, curve=2.4, bar=0.22, fewest=4, bars=40, words=250)
PANEL_WIDTH, PANEL_BAR = 4.6, 0.16
PANEL_BELOW = {"": 0.3, "x": 0.6, "y": 0.15}
"""Of a strip, in inches: width of a panel, of its colour bar, and what is below, by the axis of the relevance."""
ABOVE, WORDS_ABOVE, LINE_ABOVE = 0.4, 0.3, 0.2
"""Of a strip, in inches: what is above its panels, where none has words; above words; and a line of the title."""
LETTERS_PER_PANEL, LETTERS_PER_TITLE, LETTERS_PER_NOTE = 56, 50, 64

CELL = Room(width=2.6, shortest=0.5, tallest=4.5, curve=1.1, bar=0.19, fewest=3, bars=12, words=100)
LABELS, TICKS = {"": 0.0, "x": 0.95, "y": 0.475}, 0.34
"""Of a table, in inches: at the left of a cell, by the axis of the relevance, and below where there is one."""
MOST_COLUMNS = 4
GAP, LEFT, RIGHT, MARGIN = 0.3, 0.8, 0.9, 0.15
"""Inches: between columns, at the left for names of rows, at the right for colour bars, around everything."""
SPACE, AFTER, BAR, BAR_TALL = 0.05, 0.2, 0.12, 0.9
"""Inches: above small text, below a row, the width of a colour bar, and its least height."""
LETTERS, NOTED, BAR_LETTERS = 46, 38, 14
"""In a line of small text, and of notes, a column wide; and beside an inch of a colour bar."""
LEAST_LABELLED = 0.6
"""Inches of a colour bar that has room for what its numbers are; beside words the line above tells it."""
NO_NOTES: Mapping[str, str] = MappingProxyType({})
ONLY = ""
"""The name of the column of a strip."""


def plot(
    explanation: ExplanationData,
    index: int = 0,
    image: Shown = None,
    sound: Sound | None = None,
    *,
    theme: str = "light",
    alpha: float = ALPHA,
    cmap: str | None = None,
    opacity: str = "relevance",
    contour: bool = False,
    patches: bool = False,
    mute: float = MUTE,
    bars: bool = False,
    width: float | None = None,
    dpi: float | None = None,
    title: bool = True,
) -> Figure:
    """A figure of sample ``index``: patches over ``image`` or as a grid, the box of an object that is explained, boxes at their
    places, a curve, words on their colours.

    Each panel says how its values were scaled. Of more than 250 words, or 40 bars, only the strongest are drawn, in their order.
    What has no relevance at all has no panel, nor have a detector's queries, unless there is nothing else. Below it stands what a
    reader has to be warned of.

    Args:
        explanation: what to draw.
        index: the sample.
        image: as the model saw it; or what ``Model.picture`` gives, which also knows the places of boxes.
        sound: what the model heard, (samples,), and samples a second, whose wave is drawn behind the curve of its frames.
        theme: ``"light"`` or ``"dark"``.
        alpha, cmap, opacity, contour, patches, mute: see :class:`~heedmap.render.overlay.Style`.
        bars: whether words are bars, in the order of the text, and learned queries have some too.
        width: of the figure in inches, all in it grows in proportion; None: its own.
        dpi: dots an inch, where it becomes a picture of dots.
        title: whether there are a line above that says what is explained, and the warnings below.

    Raises:
        InputError: no such sample, or ``image`` is no image.
        UnknownNameError: no such theme.
        OptionError: no such size; and as for :func:`~heedmap.render.overlay.overlay`, as MissingLibraryError.
    """
    check_size(width, dpi)
    index = checked_index(index, batch_size(explanation))
    style, room = Style(alpha, cmap, opacity, contour, patches, mute), PANEL if not bars else replace(PANEL, words=0)
    look = Look(_framed(image, explanation, index), style, themed(theme), room, sound)
    rows = [row(name, {ONLY: explanation}, index, False) for name in drawn_segments([explanation], index, bars)]
    heading = f"{headline(explanation, index)} · score {float(explanation.scores[index]):.4g} · {explanation.method}"
    strip = _Strip.of(rows, look)
    letters = LETTERS_PER_PANEL * strip.columns
    told = [explanation.choice, *(f"mind: {words}" for words in cautions(explanation, index))] if title else []
    why = _wrapped([drawable(visible(words)) for words in told if words], round(1.4 * letters))
    lines = wrap(drawable(visible(heading)), letters, max_lines=3, placeholder=" …") if title else []
    figure = blank(
        PANEL_WIDTH * strip.columns, strip.tall(len(lines)) + 0.15 * len(why), look.theme, layout="constrained"
    )
    strip.draw(figure)
    if lines:
        figure.suptitle("\n".join(lines), fontsize=11, color=look.theme.ink, **lettering())
    if why:
        figure.supxlabel("\n".join(why), fontsize=8, color=look.theme.faint, **lettering())
    return finished(figure, width, dpi)


def side_by_side(
    explanations: Mapping[str, ExplanationData],
    index: int = 0,
    image: Image.Image | Picture | Mapping[str, Image.Image | Picture] | None = None,
    notes: Mapping[str, str] = NO_NOTES,
    *,
    shared: bool = True,
    own: Collection[str] = (),
    bars: bool = False,
    theme: str = "light",
    contour: bool = False,
    alpha: float = ALPHA,
    cmap: str | None = None,
    width: float | None = None,
    dpi: float | None = None,
    title: bool = True,
) -> Figure:
    """A figure of sample ``index`` of several explanations of one input; many are wrapped after four columns.

    On one scale, maps of one method are compared as they are. The units of different methods have nothing to do with
    each other, so there each map is divided by the sum of its absolute values first. Which it was, and each map's own
    range, is written on the figure.

    Args:
        explanations: the name of a column → what it shows.
        index: the sample.
        image: as for :func:`plot`; or by the name of a column its own, where the inputs differ.
        notes: the name of a column → words under it, such as a figure of merit.
        shared: whether the maps of a row share one scale; else each has its own.
        own: names of columns with a scale of their own where the others share one, such as a difference.
        bars: as for :func:`plot`.
        theme: ``"light"`` or ``"dark"``.
        contour: whether to outline what lies above Otsu's threshold, in pictures.
        alpha: as for :func:`plot`.
        cmap: as there.
        width: as there.
        dpi: as there.
        title: whether there are a line above that says what is explained, where that is the same in all columns, and warnings
            below.

    Raises:
        InputError: nothing to compare, no such sample, notes on what is not there, or ``image`` is no image.
        UnknownNameError: no such theme.
        OptionError: no such colour map or size.
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
    check_size(width, dpi)
    given = image if isinstance(image, Mapping) else dict.fromkeys(explanations, image)
    pictures = {name: _framed(given.get(name), each, index) for name, each in explanations.items()}
    style, room = Style(alpha, cmap, contour=contour), CELL if not bars else replace(CELL, words=0)
    looks = {
        name: Look(None if picture is None else picture.fitted(*SIDES), style, themed(theme), room)
        for name, picture in pictures.items()
    }
    names = drawn_segments(list(explanations.values()), index, bars)
    rows = {name: row(name, explanations, index, shared, own) for name in names}
    cells = {(name, c): _cell(each, c, looks[c]) for name, each in rows.items() for c in each.segments}
    warned = [f"{name}: {words}" for name, each in explanations.items() for words in cautions(each, index)]
    minded = [f"mind: {words}" for words in (*warned, *disagreements(explanations, index))] if title else []
    table = _Table(explanations, index, notes, rows, cells, Sheet(themed(theme)), title)
    shown = next((picture for picture in pictures.values() if picture is not None), None)
    return finished(table.figure([*_remarks(rows, shown, style, shared, own), *minded]), width, dpi)


@dataclass(frozen=True, eq=False)
class _Strip:
    """Panels beside each other, below those of words, which take the whole width.

    Attributes:
        rows, cells, looks: of all panels, those of words first.
        written: how many these are.
    """

    rows: Sequence[Row]
    cells: Sequence[Cell]
    looks: Sequence[Look]
    written: int

    @classmethod
    def of(cls, rows: Sequence[Row], look: Look) -> _Strip:
        """The strip of these segments; words that stand on their colours are apart from those that are bars."""
        words = [each for each in rows if each.segments[ONLY].kind == "text" and not _cell(each, ONLY, look).axis]
        others = [each for each in rows if each not in words]
        wide = replace(look.room, width=look.room.width + PANEL_WIDTH * max(0, len(others) - 1))
        looks = [replace(look, room=wide)] * len(words) + [look] * len(others)
        in_order = [*words, *others]
        cells = [_cell(each, ONLY, own) for each, own in zip(in_order, looks, strict=True)]
        return cls(in_order, cells, looks, len(words))

    @property
    def columns(self) -> int:
        """How many panels are beside each other."""
        return max(1, len(self.cells) - self.written)

    @property
    def _heights(self) -> list[float]:
        """Of each panel of words, and of those below, with what is written at them."""
        of_words = [cell.tall + WORDS_ABOVE + LINE_ABOVE * bool(cell.left_out) for cell in self.cells[: self.written]]
        below = [cell.tall + PANEL_BELOW[cell.axis] for cell in self.cells[self.written :]]
        return [*of_words, *([max(below)] if below else [])] or [2.0]

    def tall(self, lines: int) -> float:
        """Of the figure, in inches, below a title of so many lines."""
        return sum(self._heights) + LINE_ABOVE * lines + (LINE_ABOVE if self.written else ABOVE)

    def draw(self, figure: Figure) -> None:
        """Draw all of it."""
        heights = self._heights
        grid = figure.add_gridspec(len(heights), self.columns, height_ratios=heights)
        places = [grid[number, :] for number in range(self.written)]
        places += [grid[-1, column] for column in range(len(self.cells) - self.written)]
        for place, segment_row, cell, look in zip(places, self.rows, self.cells, self.looks, strict=True):
            _panel(figure.add_subplot(place), segment_row, cell, look)


def _framed(image: Shown, explanation: ExplanationData, index: int) -> Picture | None:
    return None if image is None else framed(as_picture(image), explanation, index)


def _cell(row: Row, column: str, look: Look) -> Cell:
    return view(row.segments[column]).cell(row, column, look)


def _panel(axes: Axes, row: Row, cell: Cell, look: Look) -> None:
    """A cell with its scale written above, and what has to be known of it, or what its axis is, below."""
    segment, scale = row.segments[ONLY], row.scales[ONLY]
    dress(axes, look.theme)
    title = wrap(visible(f"{called(segment.name)} · {scale.about()}"), LETTERS_PER_TITLE)
    axes.set_title("\n".join(title), fontsize=9, parse_math=False, color=look.theme.ink)
    cell.draw(axes)
    if cell.axis == "x":
        axes.set_xlabel(": ".join(filter(None, (RELEVANCE, cell.left_out))))
        return
    if cell.axis == "y":
        axes.set_ylabel(RELEVANCE)
        lines = [axes.get_xlabel(), *wrap(cell.left_out, LETTERS_PER_NOTE)]
        axes.set_xlabel("\n".join(lines), fontsize=8)
        return
    lines = wrap(" · ".join(filter(None, cell.told)), LETTERS_PER_NOTE)
    axes.set_xlabel("\n".join(lines), fontsize=8, color=look.theme.faint)
    written = segment.kind == "text"
    if written:
        axes.set_box_aspect(cell.tall / look.room.width)
        axes.set_anchor("N")
    _bar_beside(axes, scale, cell.cmap, look, (look.room.width, cell.tall) if written else look.size(segment))


def _bar_beside(axes: Axes, scale: Scale, cmap: Colormap, look: Look, size: tuple[float, float]) -> None:
    """A colour bar as high as the picture and of the same width beside any."""
    (columns, rows), room = size, look.room
    width = room.width if stretched(columns, rows) else min(room.width, room.tallest * columns / rows)
    tall = min(room.tallest, max(0.1, width * rows / columns))
    beside = axes.inset_axes((1 + PANEL_BAR / width / 2, 0, PANEL_BAR / width, 1))
    _colour_bar(beside, scale, cmap, RELEVANCE, tall, 8, look.theme)


def _colour_bar(axes: Axes, scale: Scale, cmap: Colormap, label: str, tall: float, size: float, theme: Theme) -> None:
    """On axes of so many inches, with as many ticks as there is room for."""
    shades = ScalarMappable(Normalize(scale.low, scale.high if scale.high > scale.low else scale.low + 1), cmap)
    bar = axes.figure.colorbar(shades, cax=axes, ticks=MaxNLocator(nbins=max(1, min(8, int(tall * 4)))))
    if tall >= LEAST_LABELLED:
        bar.set_label(label, color=theme.ink, fontsize=size)
    axes.tick_params(colors=theme.faint, labelcolor=theme.ink, labelsize=size)
    axes.spines["outline"].set_edgecolor(theme.faint)


def _check(explanations: Mapping[str, ExplanationData], index: int, notes: Mapping[str, str]) -> None:
    if not explanations:
        raise InputError("there are no explanations to compare; give at least one, by name")
    strange = ", ".join(sorted(set(notes) - set(explanations)))
    if strange:
        raise InputError(f"there are notes on {strange}; expected notes on {', '.join(explanations)}")
    for explanation in explanations.values():
        checked_index(index, batch_size(explanation))


def _remarks(
    rows: Mapping[str, Row], picture: Picture | None, style: Style, shared: bool, own: Collection[str]
) -> list[str]:
    """What holds of all the figure: how it is scaled, and what the pictures are."""
    patches = any(view(segment).patches for row in rows.values() for segment in row.segments.values())
    if not shared:
        scaling = "each map has a scale of its own: colours do not compare across columns"
    elif all(row.unit == RELEVANCE for row in rows.values()):
        scaling = "all maps of a row share one scale" + "".join(f", {name} has its own" for name in own)
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
    sheet: Sheet
    titled: bool

    def figure(self, remarks: Sequence[str]) -> Figure:
        """The figure, with ``remarks`` below."""
        columns = list(self.explanations)
        count = min(MOST_COLUMNS, len(columns))
        width = LEFT + count * (CELL.width + GAP) + RIGHT
        letters = round(width * 15)
        targets = {headline(explanation, self.index) for explanation in self.explanations.values()}
        same = wrap(targets.pop(), letters, max_lines=2, placeholder=" …") if len(targets) == 1 else []
        title = same if self.titled else []
        top = self.sheet.write(MARGIN, MARGIN, title, 11, faint=False) + MARGIN
        for start in range(0, len(columns), MOST_COLUMNS):
            top = self._block(columns[start : start + MOST_COLUMNS], top, bool(same)) + AFTER
        self.sheet.write(MARGIN, top - AFTER / 2, wrap(" · ".join(remarks), letters))
        return self.sheet.figure(width, MARGIN)

    def _block(self, columns: Sequence[str], top: float, same_target: bool) -> float:
        ends = [self._head(name, left, top, same_target) for name, left in _lefts(columns)]
        top = max(ends) + SPACE
        for name in self.rows:
            top = self._row(name, columns, top) + AFTER
        noted = [(left, _wrapped(self.notes.get(name, "").split("\n"), NOTED)) for name, left in _lefts(columns)]
        return max(self.sheet.write(left, top - AFTER / 2, lines, 8.5, faint=False) for left, lines in noted)

    def _head(self, column: str, left: float, top: float, same_target: bool) -> float:
        explanation = self.explanations[column]
        target = headline(explanation, self.index)
        told = [] if same_target else wrap(target, LETTERS, max_lines=2, placeholder=" …")
        score = f"{explanation.method} · score {float(explanation.scores[self.index]):.4g}"
        top = self.sheet.write(left, top, [cut(column, 34)], 10, faint=False, weight="bold")
        return self.sheet.write(left, top, [*told, score])

    def _row(self, name: str, columns: Sequence[str], top: float) -> float:
        self.sheet.write(MARGIN, top, wrap(called(name), 11), 9, faint=False)
        ends = [self._placed(name, column, left, top) for column, left in _lefts(columns)]
        shown = [c for c in columns if (name, c) in self.cells]
        if shown and self.rows[name].shared and not self.cells[name, shown[0]].axis:
            tall = max(BAR_TALL, *(self.cells[name, c].tall for c in shown))
            left = LEFT + len(columns) * (CELL.width + GAP) - GAP / 2
            ends.append(self.sheet.draw(left, top, BAR, tall, lambda axes: self._bar(axes, name, shown[0], tall)))
        return max(ends)

    def _placed(self, name: str, column: str, left: float, top: float) -> float:
        cell, row = self.cells.get((name, column)), self.rows[name]
        if cell is None:
            return self.sheet.write(left, top, [f"{self.explanations[column].method} has no map of {called(name)}"])

        def draw(axes: Axes) -> None:
            cell.draw(axes)
            if cell.axis:
                _small(axes, cell.axis, row.scales[column], row.shared and column not in row.own)

        labels = LABELS[cell.axis]
        end = self.sheet.draw(left + labels, top, CELL.width - labels, cell.tall, draw) + TICKS * bool(cell.axis)
        return self.sheet.write(left, end + SPACE, _wrapped([*row.scaling(column), cell.left_out], LETTERS))

    def _bar(self, axes: Axes, name: str, column: str, tall: float) -> None:
        row = self.rows[name]
        told = wrap(f"{row.unit}, {row.scales[column].kind}", round(tall * BAR_LETTERS))
        cmap = self.cells[name, column].cmap
        _colour_bar(axes, row.scales[column], cmap, "\n".join(told), tall, 7, self.sheet.theme)


def _small(axes: Axes, axis: str, scale: Scale, shared: bool) -> None:
    """Small letters, and one length for one value in all cells of a row that share a scale."""
    axes.tick_params(labelsize=7)
    axes.set_xlabel(axes.get_xlabel(), fontsize=7)
    axes.locator_params(axis="x", nbins=4)
    if shared and scale.high > scale.low:
        low, high = min(scale.low, 0.0), max(scale.high, 0.0)
        axes.set(**{f"{axis}lim": (low * 1.05, high * 1.05)})


def _wrapped(texts: Iterable[str], letters: int) -> list[str]:
    """Each in lines of so many letters."""
    return [line for words in texts for line in wrap(words, letters)]


def _lefts(columns: Sequence[str]) -> list[tuple[str, float]]:
    return [(column, LEFT + number * (CELL.width + GAP)) for number, column in enumerate(columns)]
