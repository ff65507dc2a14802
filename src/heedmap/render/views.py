"""The views of a segment, one for each kind: in HTML, in a figure, in a terminal.

A new kind of segment is one class here, and one line in :data:`VIEWS`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image
from rich.text import Text

from heedmap.common.printable import number
from heedmap.data.explanation import ExplanationData
from heedmap.data.picture import Box, Geometry, Picture
from heedmap.data.segments import Segment
from heedmap.render import panels, sound
from heedmap.render.html import InThemes, css_view, in_themes, macro
from heedmap.render.naming import called
from heedmap.render.overlay import ALPHA, Shown, Style, as_picture, grid_values, heat_grid, overlay
from heedmap.render.sample import Drawn, checked_index, is_queries, sample
from heedmap.render.scale import Scale, Theme, joined, one_unit, scale_of, start_of, token_scale
from heedmap.render.scale import theme as themed
from heedmap.render.sound import Sound
from heedmap.render.words import Chips, Word, notes, passages, split, text_heat, top_words, words, words_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

    from heedmap.render.overlay import TokenValues

RELEVANCE, SHARE = "relevance", "share of each map's total"
MOST_BARS, FEW_BARS = 50, 8
"""In a report, and in a panel of which there are many."""
NOTHING = Markup()
MOST_STEPS = 240
"""Of a curve that is there many times."""
MOST_WORDS = 12
"""In the table under a text."""
MOST_PATCHES = 1600
"""Patches that are buttons; of a finer grid none are."""
WIDEST_GRID = 36


@dataclass(frozen=True, eq=False)
class Beside:
    """What is drawn with the maps of an explanation.

    Attributes:
        objects: what lies on the map of a picture.
        sound: what was heard.
        image: as the model saw it, or the original with where it looked, to lay patches on.
        clickable: whether tokens are buttons, for a page that listens: what was pressed is in ``data-start``; those of sound
            are none.
    """

    objects: Markup = NOTHING
    sound: Sound | None = None
    image: Shown = None
    clickable: bool = False


ALONE = Beside()


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
        draw: draws on axes of that size.
        axis: ``"x"`` or ``"y"``, along which the relevance can be read; ``""``: the colour alone tells it.
        cmap: the colours.
        left_out: how many tokens are drawn, where some are not.
        told: what else the reader has to know of it.
    """

    tall: float
    draw: Callable[[Axes], object]
    axis: str
    cmap: Colormap
    left_out: str = ""
    told: Sequence[str] = ()


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
    values: Mapping[str, TokenValues]
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


class View:
    """How a segment is seen. This one shows tokens as bars; the views of other kinds say where they differ from it.

    Attributes:
        patches: whether it shows a map of a picture.
        weight: about how many bytes a token takes in a :meth:`panel`.
    """

    patches = False
    weight = 45

    def scale(self, segment: Segment, index: int = 0) -> Scale:
        """The segment's own scale: of its words, where it is text, else of its tokens."""
        return token_scale(segment, sample(segment, index))

    def words(self, segment: Segment, index: int = 0) -> list[Word]:
        """The words of a text; none of what is no text."""
        return []

    def top(self, segment: Segment, index: int, count: int) -> list[tuple[str, float]]:
        """The names of what is most relevant, highest first, and its relevance."""
        drawn = sample(segment, index)
        return [(self.place(segment, drawn, i), float(drawn.values[i])) for i in drawn.top(count)]

    def place(self, segment: Segment, drawn: Drawn, i: int) -> str:
        """What token ``i`` is called: its label, or where it lies."""
        return drawn.labels[i]

    def figure(
        self, segment: Segment, index: int = 0, given: Scale | None = None, beside: Beside = ALONE, folded: bool = False
    ) -> Markup:
        """In a report, with its scale.

        Args:
            segment, index: what to draw.
            given: a scale that several maps share; None: the map's own.
            beside: what else is drawn.
            folded: whether it is folded away.

        Raises:
            InputError: no such sample, or ``image`` is no PIL image.
        """
        used = given or self.scale(segment, index)
        kind = "segments.folded" if folded or is_queries(segment) else "segments.figure"
        about = self.caption(segment, index, used, folded)
        return macro(kind, called(segment.name), about, self.body(segment, index, used, beside))

    def caption(self, segment: Segment, index: int, used: Scale, folded: bool) -> str:
        """What stands beside the name of a figure."""
        return used.about(self.scale(segment, index))

    def body(self, segment: Segment, index: int, used: Scale, beside: Beside = ALONE) -> Markup:
        """The figure without its caption."""
        return macro("segments.bars", sample(segment, index), used, MOST_BARS, segment.name if beside.clickable else "")

    def panel(self, segment: Segment, index: int, used: Scale, seen: bool = False, frame: Box | None = None) -> Markup:
        """Small enough to be there many times, without its scale.

        ``seen``: whether the picture that the model saw is the page's ``--seen``; ``frame``: what to frame on it, in
        shares of its sides.
        """
        return macro("segments.bars", sample(segment, index), used, FEW_BARS)

    def cell(self, row: Row, column: str, look: Look) -> Cell:
        """In a figure: the cell of ``row`` that is of the explanation of this name; ``look`` is what all cells share."""
        scale, bars, values = row.scales[column], row.chosen(column, look.room.bars), row.values[column]
        draw = partial(
            panels.draw_bars, drawn=row.drawn[column], values=values, bars=bars, scale=scale, theme=look.theme
        )
        tall = look.room.bar * max(look.room.fewest, len(bars))
        return Cell(tall, draw, "x", panels.word_map(scale, look.theme), row.left_out(column, bars))

    def heat(self, segment: Segment, index: int, used: Scale, colours: bool) -> Sequence[Text | Chips]:
        """In a terminal, without ``colours`` by letters; nothing where the most relevant tokens say it all."""
        return []


class _TextView(View):
    """A text by its words."""

    def scale(self, segment: Segment, index: int = 0) -> Scale:
        return words_scale(words(segment, index))

    def words(self, segment: Segment, index: int = 0) -> list[Word]:
        return words(segment, index)

    def top(self, segment: Segment, index: int, count: int) -> list[tuple[str, float]]:
        return [(word.text, word.value) for word in top_words(words(segment, index), count)]

    def caption(self, segment: Segment, index: int, used: Scale, folded: bool) -> str:
        return "no relevance" if folded else ""  # its body has the scale

    def body(self, segment: Segment, index: int, used: Scale, beside: Beside = ALONE) -> Markup:
        text = words(segment, index)
        about = [used.about(words_scale(text)), *notes(segment, index, text)]
        top, name = top_words(text, MOST_WORDS), segment.name if beside.clickable else ""
        return macro("segments.text", text, passages(text), used, about, split(text), top, name)

    def panel(self, segment: Segment, index: int, used: Scale, seen: bool = False, frame: Box | None = None) -> Markup:
        return macro("segments.line", words(segment, index), used)

    def cell(self, row: Row, column: str, look: Look) -> Cell:
        if not look.room.words:
            return super().cell(row, column, look)
        theme, scale, width = look.theme, row.scales[column], look.room.width
        tokens = row.chosen(column, look.room.words)
        text = panels.placed_words(row.drawn[column].labels, tokens, width)
        colours = [panels.word_ground(scale, value, theme) for value in row.values[column]]
        tall = panels.words_height(text)
        draw = partial(panels.draw_words, words=text, colours=colours, width=width, tall=tall, faint=theme.faint)
        return Cell(tall, draw, "", panels.word_map(scale, theme), row.left_out(column, tokens))

    def heat(self, segment: Segment, index: int, used: Scale, colours: bool) -> Sequence[Text | Chips]:
        return [text_heat(segment, index, numbers=not colours)]


class _PatchView(View):
    """Patches of a picture, on it or as a grid."""

    patches = True
    weight = 8

    def place(self, segment: Segment, drawn: Drawn, i: int) -> str:
        row, column = divmod(i, (segment.grid or (1, 1))[1])
        return f"row {row + 1}, column {column + 1}"

    def body(self, segment: Segment, index: int, used: Scale, beside: Beside = ALONE) -> Markup:
        under = None if beside.image is None else as_picture(beside.image).of(segment.name)
        picture = (
            in_themes(lambda theme: heat_grid(segment, index, scale=used, theme=theme))
            if under is None
            else in_themes(lambda theme: overlay(under, segment, index, scale=used, theme=theme))
        )
        about = f"relevance of {called(segment.name)}; most relevant: {most_relevant(segment, index)}"
        ground = under or as_picture(picture.light)
        buttons = _patch_buttons(segment, index, ground.geometry) if beside.clickable else Markup()
        return macro(
            "segments.patches",
            picture,
            about,
            used,
            buttons + beside.objects,
            stacked=beside.clickable or bool(beside.objects),
            alpha=1.0 if under is None else ALPHA,
        )

    def panel(self, segment: Segment, index: int, used: Scale, seen: bool = False, frame: Box | None = None) -> Markup:
        places = grid_values(segment, used.places(sample(segment, index).known))
        rows, columns = places.shape
        about = f"map of {rows} by {columns} patches; most relevant: {most_relevant(segment, index)}"
        return macro("segments.stack", _layer(places, used, seen), about, places.shape, seen, frame)

    def cell(self, row: Row, column: str, look: Look) -> Cell:
        segment, values, scale = row.segments[column], row.values[column], row.scales[column]
        style, picture, theme = look.style, look.picture_of(segment), look.theme
        draw = partial(
            panels.draw_patches,
            segment=segment,
            values=values,
            scale=scale,
            style=style,
            picture=picture,
            theme=theme,
        )
        cmap, told = panels.picture_map(scale, style, picture, theme), panels.picture_words(picture, style)
        return Cell(look.tall(segment), draw, "", cmap, told=told)

    def heat(self, segment: Segment, index: int, used: Scale, colours: bool) -> Sequence[Text | Chips]:
        places = grid_values(segment, used.places(sample(segment, index).known))
        return [_grid(_fitted(places, used.signed), used.signed, colours)]


class _BoxView(View):
    """Boxes: in a figure at their places on the picture, where these are known; in their colours there also as bars."""

    def body(self, segment: Segment, index: int, used: Scale, beside: Beside = ALONE) -> Markup:
        name = segment.name if beside.clickable else ""
        return macro("segments.boxes", sample(segment, index), used, MOST_BARS, name)

    def cell(self, row: Row, column: str, look: Look) -> Cell:
        picture = look.picture
        if picture is None or picture.boxes is None:
            return super().cell(row, column, look)
        drawn, values, scale = row.drawn[column], row.values[column], row.scales[column]
        tall = look.tall(row.segments[column])
        shown, named = len(drawn.shown), len(panels.boxes_in_order(values, scale, picture)[1])
        told = [f"the {named} strongest of {shown} are named"] if named < shown else []
        width = min(look.room.width, tall * picture.image.width / picture.image.height)
        draw = partial(
            panels.draw_boxes,
            values=values,
            names=drawn.labels,
            scale=scale,
            style=look.style,
            picture=picture,
            inches=width,
            theme=look.theme,
        )
        colours = panels.listed(scale.colours(look.theme, look.style.cmap, over=True))
        return Cell(tall, draw, "", colours, told=[*told, picture.note])


class _CurveView(View):
    """Sound: the relevance of its frames over time."""

    weight = 6

    def body(self, segment: Segment, index: int, used: Scale, beside: Beside = ALONE) -> Markup:
        return sound.curve(sample(segment, index), used, beside.sound)

    def panel(self, segment: Segment, index: int, used: Scale, seen: bool = False, frame: Box | None = None) -> Markup:
        return sound.curve(sample(segment, index), used, most=MOST_STEPS)

    def heat(self, segment: Segment, index: int, used: Scale, colours: bool) -> list[Text]:
        drawn = sample(segment, index)
        return [sound.terminal_curve(drawn, used, colours), *sound.terminal_after(drawn.after)]

    def cell(self, row: Row, column: str, look: Look) -> Cell:
        drawn, theme = row.drawn[column], look.theme
        draw = partial(panels.draw_curve, drawn=drawn, values=row.values[column], theme=theme, sound=look.sound)
        cmap = panels.word_map(row.scales[column], theme)
        return Cell(look.room.curve, draw, "y", cmap, sound.after_the_end(drawn.after))


class _SpectrumView(View):
    """A spectrogram's patches: the relevance over time and frequency."""

    weight = 6

    def place(self, segment: Segment, drawn: Drawn, i: int) -> str:
        bands, times = segment.grid or (1, 1)
        return f"{drawn.labels[i]}, band {i // times + 1} of {bands}"

    def body(self, segment: Segment, index: int, used: Scale, beside: Beside = ALONE) -> Markup:
        about = f"relevance over time and frequency; most relevant: {most_relevant(segment, index)}"
        return sound.spectrum_page(sound.spectrum(segment, sample(segment, index), used), used, about, beside.sound)

    def panel(self, segment: Segment, index: int, used: Scale, seen: bool = False, frame: Box | None = None) -> Markup:
        return self.body(segment, index, used)

    def heat(self, segment: Segment, index: int, used: Scale, colours: bool) -> list[Text]:
        shown = sound.spectrum(segment, sample(segment, index), used)
        return [*sound.terminal_spectrum(shown, used, colours), *sound.terminal_after(shown.after)]

    def cell(self, row: Row, column: str, look: Look) -> Cell:
        scale, drawn = row.scales[column], row.drawn[column]
        cmap = panels.listed(scale.colours(look.theme, look.style.cmap))
        shown = sound.spectrum(row.segments[column], drawn, scale, row.values[column])
        draw = partial(panels.draw_spectrum, shown=shown, cmap=cmap, theme=look.theme, sound=look.sound)
        return Cell(look.room.curve, draw, "", cmap, told=[sound.after_the_end(drawn.after)])


SPECTRUM = _SpectrumView()
VIEWS: Mapping[str, View] = {
    "text": _TextView(),
    "image": _PatchView(),
    "boxes": _BoxView(),
    "audio": _CurveView(),
    "tokens": View(),
}
"""By the kind of the segment."""


def view(segment: Segment) -> View:
    """The view of a segment: a grid is seen as patches, that of a sound over time; patches without one are tokens."""
    if sound.is_spectrum(segment):
        return SPECTRUM
    kind = "image" if segment.grid is not None else segment.kind.replace("image", "tokens")
    return VIEWS.get(kind, VIEWS["tokens"])


def drawn_segments(explanations: Sequence[ExplanationData], index: int, bars: bool = False) -> list[str]:
    """Names of the segments that are drawn: those that have relevance and, without ``bars``, are no learned queries."""
    each = _by_name(explanations)
    told = [name for name, kin in each.items() if any(not view(s).scale(s, index).empty for s in kin)]
    named = [name for name in told if bars or not is_queries(each[name][0])]
    return named or told or list(each)


def common_scales(explanations: Iterable[ExplanationData]) -> dict[str, Scale]:
    """By the segment's name, one scale for all explanations (sample 0)."""
    return {name: joined(view(s).scale(s) for s in kin) for name, kin in _by_name(explanations).items()}


def _by_name(explanations: Iterable[ExplanationData]) -> dict[str, list[Segment]]:
    found: dict[str, list[Segment]] = {}
    for explanation in explanations:
        for name, segment in explanation.segments.items():
            found.setdefault(name, []).append(segment)
    return found


def most_relevant(segment: Segment, index: int = 0) -> str:
    """The three most relevant tokens or words: ``cat 0.4, sat 0.1, on 0.05``."""
    top = view(segment).top(segment, index, 3)
    return ", ".join(f"{name} {number(value)}" for name, value in top) or "nothing"


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


def _of_the_whole(values: TokenValues) -> TokenValues:
    total = np.nansum(np.abs(values))
    return values / total if total > 0 else values


def _patch_buttons(segment: Segment, index: int, geometry: Geometry) -> Markup:
    """The patches as buttons that lie on a picture; ``""`` where they are too many."""
    rows, columns = segment.grid or (0, 0)
    if rows * columns > MOST_PATCHES:
        return Markup()
    values = sample(segment, index).values
    return macro("segments.patch_buttons", segment.name, segment.grid, values, css_view(geometry))


def _layer(places: NDArray[np.float64], used: Scale, seen: bool) -> InThemes:
    """The map as a picture of one pixel a patch, which the browser makes larger."""
    level = np.round(places * 255).astype(np.uint8)
    strength = np.round(used.strength(places) * 255 * ALPHA).astype(np.uint8)
    opacity = strength if seen else np.full_like(level, 255)

    def draw(theme: str) -> Image.Image:
        return Image.fromarray(np.dstack([used.colours(themed(theme), over=seen)[level], opacity]))

    return in_themes(draw, smooth=seen)


def _fitted(share: NDArray[np.float64], signed: bool) -> NDArray[np.float64]:
    """The grid, where it is too wide for a terminal made smaller by averaging and, unless signed, scaled to 1 again."""
    scale = WIDEST_GRID / max(share.shape)
    if scale >= 1:
        return share
    size = max(1, round(share.shape[1] * scale)), max(1, round(share.shape[0] * scale))
    small = np.asarray(Image.fromarray(share.astype(np.float32)).resize(size, Image.Resampling.BOX), dtype=np.float64)
    return small if signed else small / (small.max() or 1)


def _grid(share: NDArray[np.float64], signed: bool, colours: bool) -> Text:
    lines = (Text.assemble(*(sound.shade(s, signed, colours, 2) for s in row)) for row in share.clip(0, 1))
    return Text("\n").join(lines)
