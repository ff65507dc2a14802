"""The cells of a figure: one part of the input as one explanation sees it, sized before it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from heedmap.data.picture import Picture
from heedmap.render.overlay import Style
from heedmap.render.sample import Drawn, checked_index, sample
from heedmap.render.scale import Scale, Theme, joined, one_unit, scale_of, start_of
from heedmap.render.words import words

if TYPE_CHECKING:
    from jaxtyping import Float
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

    from heedmap.data.explanation import ExplanationData, Segment
    from heedmap.render.sound import Sound

RELEVANCE, SHARE = "relevance", "share of each map's total"


@dataclass(frozen=True)
class Room:
    """How large cells are, in inches.

    Attributes:
        width, shortest, tallest: of a picture.
        curve: height of a curve.
        bar: height of a bar.
        fewest, bars: bars that there is room for at least, and that are drawn at most.
        words: that are written on coloured grounds at most; 0: a text is drawn as bars.
    """

    width: float
    shortest: float
    tallest: float
    curve: float
    bar: float
    fewest: int
    bars: int
    words: int


@dataclass(frozen=True)
class Look:
    """What all cells of a figure share: the picture to draw on, if there is one, with others of other segments, and how;
    and what was heard.
    """

    picture: Picture | None
    style: Style
    theme: Theme
    room: Room
    sound: Sound | None = None

    def picture_of(self, segment: Segment) -> Picture | None:
        """The segment's own picture."""
        return None if self.picture is None else self.picture.of(segment.name)

    def size(self, segment: Segment) -> tuple[int, int]:
        """Width and height of the segment's picture, or of the grid where there is none."""
        picture = self.picture_of(segment)
        return (segment.grid or (1, 1))[::-1] if picture is None else picture.image.size

    def tall(self, segment: Segment) -> float:
        """Height of the picture in inches."""
        columns, rows = self.size(segment)
        return min(self.room.tallest, max(self.room.shortest, self.room.width * rows / columns))


@dataclass(frozen=True, eq=False)
class Cell:
    """A drawing of known size.

    Attributes:
        tall: height in inches.
        draw: draws on axes of that size; what the reader has to know of it.
        axis: ``"x"`` or ``"y"``, along which the relevance can be read; ``""``: the colour alone tells it.
        cmap: the colours.
        left_out: how many tokens are drawn, where some are not.
    """

    tall: float
    draw: Callable[[Axes], Sequence[str]]
    axis: str
    cmap: Colormap
    left_out: str = ""


@dataclass(frozen=True, eq=False)
class Row:
    """One part of the input in several explanations; the mappings go by the explanation's name.

    Attributes:
        segments, drawn: those of the explanations that have this part.
        values: (tokens,) what is drawn, NaN: nothing.
        scales: how it becomes colour.
        unit: what the values are.
        shared: whether there is one scale for all,
        own: but for these.
    """

    segments: Mapping[str, Segment]
    drawn: Mapping[str, Drawn]
    values: Mapping[str, Float[np.ndarray, " tokens"]]
    scales: Mapping[str, Scale]
    unit: str
    shared: bool
    own: Collection[str] = ()

    def chosen(self, column: str, most: int) -> list[int]:
        """Tokens to draw, at most so many: those that matter most in any explanation that has the same tokens."""
        drawn = self.drawn[column]
        if len(drawn.shown) <= most:
            return drawn.shown
        alike = [c for c, other in self.drawn.items() if other.labels == drawn.labels]
        strengths = [self.scales[c].strength(self.scales[c].places(self.values[c])) for c in alike]
        strongest = np.where(drawn.taken, np.max(strengths, axis=0), -1)
        return sorted(np.argsort(-strongest, kind="stable")[:most].tolist())

    def left_out(self, column: str, chosen: Sequence[int]) -> str:
        """How many tokens are drawn, where some are not."""
        shown = len(self.drawn[column].shown)
        return f"the strongest {len(chosen)} of {shown}" if len(chosen) < shown else ""

    def scaling(self, column: str) -> tuple[str, ...]:
        """How the cell was scaled, in lines of words."""
        drawn = self.drawn[column]
        if not self.shared or column in self.own:
            return (self.scales[column].about(),)
        raw = f"range: {scale_of(drawn.values[drawn.taken]).range}"
        return (raw,) if self.unit == RELEVANCE else (f"share: {scale_of(self.values[column]).range}", raw)


def row(
    name: str, explanations: Mapping[str, ExplanationData], index: int, shared: bool, own: Collection[str] = ()
) -> Row:
    """The segment called ``name`` of sample ``index``, of all explanations that have it.

    Where maps of several methods, or options, share one scale, each is divided by the sum of its absolute values.

    Raises:
        InputError: no such sample.
    """
    segments = {column: e.segment(name) for column, e in explanations.items() if name in e}
    drawn = {c: _drawn(segment, checked_index(index, len(segment.relevance))) for c, segment in segments.items()}
    values, unit = {c: shown.known for c, shown in drawn.items()}, RELEVANCE
    if shared and not one_unit(explanations.values()):
        values, unit = {c: _of_the_whole(numbers) for c, numbers in values.items()}, SHARE
    scales = {c: scale_of(numbers[drawn[c].taken], start_of(segments[c])) for c, numbers in values.items()}
    if shared:
        together = [c for c in scales if c not in own]
        scales |= dict.fromkeys(together, joined(scales[c] for c in together)) if together else {}
    return Row(segments, drawn, values, scales, unit, shared, own)


def _drawn(segment: Segment, index: int) -> Drawn:
    """Its tokens; of a text its words, with the sums of their tokens, as pages and terminals show it."""
    if segment.kind != "text":
        return sample(segment, index)
    text = words(segment, index)
    values = np.array([word.value for word in text], dtype=np.float64)
    return Drawn(tuple(word.text for word in text), values, np.ones(len(text), dtype=bool))


def _of_the_whole(values: Float[np.ndarray, " tokens"]) -> Float[np.ndarray, " tokens"]:
    total = np.nansum(np.abs(values))
    return values / total if total > 0 else values
