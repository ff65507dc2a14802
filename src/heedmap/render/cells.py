"""The cells of a table of figures: one part of the input as one explanation sees it, sized before it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from heedmap.picture import Picture
from heedmap.render.overlay import Style
from heedmap.render.panels import draw_bars, draw_boxes, draw_curve, draw_patches, word_colour, word_map
from heedmap.render.sample import Sample, checked_index, sample
from heedmap.render.scale import Scale, joined, one_unit, scale_of, start_of
from heedmap.render.themes import Theme
from heedmap.render.tokens import draw_words, height, placed_words

if TYPE_CHECKING:
    from jaxtyping import Float
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

    from heedmap.explanation_data import ExplanationData, Segment

MOST_WORDS, MOST_BARS = 100, 12
COLUMN, LABELS, BAR, CURVE, TICKS = 2.6, 0.95, 0.19, 1.1, 0.34
"""Inches: width of a cell, room in it for the labels of bars, height of a bar, a curve, and the ticks below."""
SHORTEST, TALLEST = 0.5, 4.5


@dataclass(frozen=True, eq=False)
class Cell:
    """A drawing of known size.

    Attributes:
        tall: height in inches.
        left: room for labels at the left, in inches; the axes begin there.
        ticks: room for ticks below, in inches.
        draw: draws on axes of that size.
        caption: what is to be written under it.
    """

    tall: float
    draw: Callable[[Axes], object]
    caption: tuple[str, ...]
    left: float = 0.0
    ticks: float = 0.0


@dataclass(frozen=True, eq=False)
class Row:
    """One part of the input in several explanations; the mappings go by the explanation's name.

    Attributes:
        segments, drawn: those of the explanations that have this part.
        values: (tokens,) what is drawn, NaN: nothing.
        scales: how it becomes colour.
        unit: what the values are.
        shared: whether there is one scale for all.
    """

    segments: Mapping[str, Segment]
    drawn: Mapping[str, Sample]
    values: Mapping[str, Float[np.ndarray, " tokens"]]
    scales: Mapping[str, Scale]
    unit: str
    shared: bool

    def chosen(self, column: str, most: int) -> list[int]:
        """Tokens to draw, at most so many: those that matter most in any explanation that has the same tokens."""
        own = self.drawn[column]
        if len(own.shown) <= most:
            return own.shown
        alike = [c for c, one in self.drawn.items() if one.labels == own.labels]
        strengths = [self.scales[c].strength(self.scales[c].places(self.values[c])) for c in alike]
        strongest = np.where(own.taken, np.max(strengths, axis=0), -1)
        return sorted(np.argsort(-strongest, kind="stable")[:most].tolist())

    def placed(self, column: str, picture: Picture | None) -> bool:
        """Whether these are boxes whose places are known."""
        return self.segments[column].kind == "boxes" and picture is not None and picture.boxes is not None

    def coloured(self, column: str, picture: Picture | None) -> bool:
        """Whether colour alone tells the relevance, and no axis does."""
        one = self.segments[column]
        return one.grid is not None or one.kind == "text" or self.placed(column, picture)

    def cmap(self, column: str, theme: Theme) -> str | Colormap:
        """The colour map of the colour bar: of words in a theme, or of pictures."""
        one, scale = self.segments[column], self.scales[column]
        return word_map(scale, theme) if one.kind == "text" and one.grid is None else scale.cmap

    def scaling(self, column: str) -> tuple[str, ...]:
        """How the cell was scaled, in lines of words."""
        drawn = self.drawn[column]
        if not self.shared:
            return (self.scales[column].about(),)
        raw = f"range: {scale_of(drawn.values[drawn.taken]).range}"
        return (raw,) if self.unit == RELEVANCE else (f"share: {scale_of(self.values[column]).range}", raw)


RELEVANCE, SHARE = "relevance", "share of each map's total"


def row(name: str, explanations: Mapping[str, ExplanationData], index: int, shared: bool) -> Row:
    """The segment called ``name`` of sample ``index``, of all explanations that have it.

    Where maps of several methods, or options, share one scale, each is divided by the sum of its absolute values.

    Raises:
        InputError: no such sample.
    """
    segments = {column: one.segment(name) for column, one in explanations.items() if name in one}
    drawn = {c: sample(one, checked_index(index, len(one.relevance))) for c, one in segments.items()}
    values, unit = {c: one.known for c, one in drawn.items()}, RELEVANCE
    if shared and not one_unit(explanations.values()):
        values, unit = {c: _of_the_whole(one) for c, one in values.items()}, SHARE
    scales = {c: scale_of(one[drawn[c].taken], start_of(segments[c])) for c, one in values.items()}
    if shared:
        scales = dict.fromkeys(scales, joined(scales.values()))
    return Row(segments, drawn, values, scales, unit, shared)


def cell(part: Row, column: str, picture: Picture | None, style: Style, theme: Theme) -> Cell:
    """The cell of one explanation.

    Args:
        part: its row.
        column: name of the explanation.
        picture: to draw on, if there is one.
        style, theme: how.
    """
    segment, drawn = part.segments[column], part.drawn[column]
    values, scale = part.values[column], part.scales[column]
    scaling = part.scaling(column)

    def drawing(axes: Axes) -> None:
        if segment.grid is not None:
            draw_patches(axes, segment, values, scale, style, picture, theme)
        elif picture is not None and part.placed(column, picture):
            draw_boxes(axes, values, drawn.labels, scale, style, picture)
        elif segment.kind == "audio":
            draw_curve(axes, drawn, values, theme)
            _small(axes)
            _spread(axes, "y", scale, part.shared)
        else:
            draw_bars(axes, drawn, values, bars, scale, theme)
            _small(axes)
            _spread(axes, "x", scale, part.shared)

    bars = part.chosen(column, MOST_BARS)
    if segment.kind == "text" and segment.grid is None:
        return _words(part, column, theme)
    if segment.grid is not None or part.placed(column, picture):
        rows, columns = segment.grid or (1, 1) if picture is None else picture.image.size[::-1]
        return Cell(min(TALLEST, max(SHORTEST, COLUMN * rows / columns)), drawing, scaling)
    if segment.kind == "audio":
        return Cell(CURVE, drawing, scaling, left=LABELS / 2, ticks=TICKS)
    return Cell(BAR * max(3, len(bars)), drawing, (*scaling, *_left_out(drawn, bars)), left=LABELS, ticks=TICKS)


def _words(part: Row, column: str, theme: Theme) -> Cell:
    drawn, values, scale = part.drawn[column], part.values[column], part.scales[column]
    tokens = part.chosen(column, MOST_WORDS)
    words = placed_words(drawn.labels, tokens, COLUMN)
    tall = height(words)
    colours = [word_colour(scale, value, theme) for value in values]
    caption = (*part.scaling(column), *_left_out(drawn, tokens))
    return Cell(tall, lambda axes: draw_words(axes, words, colours, COLUMN, tall, theme.faint), caption)


def _left_out(drawn: Sample, chosen: list[int]) -> list[str]:
    return [f"the strongest {len(chosen)} of {len(drawn.shown)}"] if len(chosen) < len(drawn.shown) else []


def _spread(axes: Axes, axis: str, scale: Scale, shared: bool) -> None:
    """One length for one value in all cells of a row that share a scale."""
    if shared and scale.high > scale.low:
        low, high = min(scale.low, 0.0), max(scale.high, 0.0)
        axes.set(**{f"{axis}lim": (low * 1.05, high * 1.05)})


def _small(axes: Axes) -> None:
    axes.tick_params(labelsize=7)
    axes.set_xlabel(axes.get_xlabel(), fontsize=7)
    axes.locator_params(axis="x", nbins=4)


def _of_the_whole(values: Float[np.ndarray, " tokens"]) -> Float[np.ndarray, " tokens"]:
    total = np.nansum(np.abs(values))
    return values / total if total > 0 else values
