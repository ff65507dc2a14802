"""Attention as a figure: all heads of all layers, small; or one matrix with its tokens, and its heads beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import Colormap
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from heedmap.render.figure_layout import axes_at, blank, check_size, finished
from heedmap.render.panels import bare, drawable, lettering, page_map
from heedmap.render.scale import Theme, colour_map
from heedmap.render.scale import theme as themed
from heedmap.render.words import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL, LEAST, NAMES, MARGIN = 0.75, 0.22, 1.5, 0.15
"""Inches: of a small head and the least it is, of the names left of them, and of the margin."""
WIDEST, TALLEST = 14.0, 40.0
"""Inches that all small heads take, after which they are made smaller."""
ENTRY, MATRIX, BESIDE, ACROSS = 0.2, 4.0, 1.1, 4
"""Inches: of an entry that has a name, of a matrix without names, and of a head beside it, so many in a row."""
MOST_NAMES = 40
"""Tokens that are named; of more, only their numbers."""
HEADING, BELOW = 0.5, 0.35
"""Inches above, and below for how colours are to be read."""
SMALL, LARGE = 48, 200
"""Entries a side that can be seen of a small matrix, and of a large one; of more, each shows the largest of its block."""
SCALING = (
    "each matrix is coloured from 0 to its own largest value; a row is a token that asks, a column one that is asked"
)


@dataclass(frozen=True, eq=False)
class DrawnMatrix:
    """One matrix: its name, (queries, keys), and what they are called."""

    name: str
    values: NDArray[np.float32]
    asks: Sequence[str]
    asked: Sequence[str]


def plot_all(
    rows: Sequence[tuple[str, NDArray[np.float32]]],
    heading: str,
    *,
    theme: str = "light",
    cmap: str | None = None,
    width: float | None = None,
    dpi: float | None = None,
    title: bool = True,
) -> Figure:
    """A row of small matrices for each attention, a column for each head.

    Args:
        rows: of each attention its name and its heads, (heads, queries, keys).
        heading: what they are.
        theme, cmap, width, dpi, title: as for :func:`heedmap.render.figure.plot`.
    """
    check_size(width, dpi)
    look, colours = themed(theme), _colours(cmap, themed(theme))
    most = max(len(heads) for _, heads in rows)
    cell = max(LEAST, min(CELL, WIDEST / most, TALLEST / len(rows)))
    wide, above = max(NAMES + most * cell + MARGIN, 4.0), HEADING + 0.2
    tall = above + len(rows) * cell + BELOW
    figure = _sheet(wide, tall, heading if title else "", look)
    for row, (name, heads) in enumerate(rows):
        top = tall - above - row * cell
        _write(figure, MARGIN, top - cell / 2, "\n".join(wrap(name, 20)), look.ink, va="center")
        for head, values in enumerate(heads):
            place = (NAMES + head * cell, top - cell * 0.94, cell * 0.92, cell * 0.92)
            _draw(figure, place, values, look, colours, SMALL)
            if row == 0:
                _write(figure, place[0] + place[2] / 2, top + 0.05, str(head), look.faint, ha="center")
    _write(figure, NAMES - 0.1, tall - above + 0.05, "head", look.faint, ha="right")
    return finished(figure, width, dpi)


def plot_one(
    shown: DrawnMatrix,
    heads: Sequence[NDArray[np.float32]],
    heading: str,
    *,
    theme: str = "light",
    cmap: str | None = None,
    width: float | None = None,
    dpi: float | None = None,
    title: bool = True,
) -> Figure:
    """One matrix with its tokens, and small ones for its heads at its right.

    Args:
        shown: the matrix.
        heads: (queries, keys) each; may be none.
        heading: what it is.
        theme, cmap, width, dpi, title: as for :func:`heedmap.render.figure.plot`.
    """
    check_size(width, dpi)
    look, colours = themed(theme), _colours(cmap, themed(theme))
    asks, asked = _names(shown.asks), _names(shown.asked)
    left = MARGIN + (0.085 * max(map(len, asks)) + 0.1 if asks else 0.5)
    above = HEADING + 0.3 + (0.085 * max(map(len, asked)) + 0.1 if asked else 0.3)
    size = (_inches(asked, shown.values.shape), _inches(asks, shown.values.shape[::-1]))
    across = min(ACROSS, max(1, -(-len(heads) // max(1, int(size[1] // (BESIDE + 0.2))))))
    deep = -(-len(heads) // across) * (BESIDE + 0.2) if heads else 0.0
    wide = left + size[0] + (0.3 + across * (BESIDE + 0.1) if heads else 0.0) + MARGIN
    wide, tall = max(wide, 5.0), above + max(size[1], deep) + BELOW
    figure = _sheet(wide, tall, f"{shown.name} · {heading}" if title else "", look)
    axes = _draw(figure, (left, tall - above - size[1], *size), shown.values, look, colours, LARGE)
    axes.xaxis.tick_top()
    _ticks(axes, asks, asked, look)
    for head, values in enumerate(heads):
        row, column = divmod(head, across)
        place = (left + size[0] + 0.3 + column * (BESIDE + 0.1), tall - above - row * (BESIDE + 0.2) - BESIDE, BESIDE)
        _draw(figure, (*place, BESIDE), values, look, colours, SMALL)
        _write(figure, place[0], place[1] + BESIDE + 0.03, f"head {head}", look.faint)
    return finished(figure, width, dpi)


def _inches(names: Sequence[str], shape: tuple[int, ...]) -> float:
    """Of the side along which these names stand, of a matrix of (others, these) tokens."""
    return max(1.0, ENTRY * len(names)) if names else MATRIX * min(1.0, max(0.3, shape[1] / shape[0]))


def _names(tokens: Sequence[str]) -> list[str]:
    return [drawable(shortened(token)) for token in tokens] if len(tokens) <= MOST_NAMES else []


def _sheet(wide: float, tall: float, heading: str, look: Theme) -> Figure:
    figure = blank(wide, tall, look)
    lines = wrap(drawable(heading), int(wide * 11), max_lines=2, placeholder=" …")
    place = (MARGIN / wide, 1 - 0.1 / tall)
    figure.text(*place, "\n".join(lines), va="top", fontsize=11, color=look.ink, **lettering())
    told = "\n".join(wrap(SCALING, int(wide * 15)))
    figure.text(MARGIN / wide, 0.06 / tall, told, fontsize=8, color=look.faint, **lettering())
    return figure


def _write(
    figure: Figure, left: float, bottom: float, words: str, colour: str, ha: str = "left", va: str = "baseline"
) -> None:
    place = (left / figure.get_figwidth(), bottom / figure.get_figheight())
    figure.text(*place, words, fontsize=8, color=colour, ha=ha, va=va, **lettering())


def _colours(cmap: str | None, look: Theme) -> Colormap:
    return page_map(look) if cmap is None else colour_map(cmap)


def _pooled(values: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    """At most so many entries a side, each the largest of its block."""
    for axis in (0, 1):
        count = values.shape[axis]
        if count > most:
            values = np.maximum.reduceat(values, np.arange(most) * count // most, axis=axis)
    return values


def _draw(
    figure: Figure,
    place: tuple[float, float, float, float],
    values: NDArray[np.float32],
    look: Theme,
    colours: Colormap,
    finest: int,
) -> Axes:
    """A matrix in axes at left, bottom, width and height in inches."""
    axes = axes_at(figure, place, look)
    size, values = values.shape, _pooled(values, finest)
    most = float(values.max(initial=0.0)) or 1.0
    edges = (-0.5, size[1] - 0.5, size[0] - 0.5, -0.5)
    axes.imshow(values, aspect="auto", cmap=colours, vmin=0, vmax=most, interpolation="nearest", extent=edges)
    bare(axes)
    for spine in axes.spines.values():
        spine.set_linewidth(0.4)
    return axes


def _ticks(axes: Axes, asks: Sequence[str], asked: Sequence[str], look: Theme) -> None:
    axes.tick_params(length=0)
    for axis, names, turned in ((axes.yaxis, asks, 0), (axes.xaxis, asked, 90)):
        if names:
            axis.set_ticks(range(len(names)), names, rotation=turned, fontsize=9, color=look.ink, **lettering())
        else:
            axis.set_major_locator(MaxNLocator(6, integer=True))
            axis.set_tick_params(labelsize=8)
