"""The views of a segment, one for each kind: in HTML, in a figure, in a terminal.

A new kind of segment is one class here, and one line in :data:`VIEWS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image
from rich.text import Text

from heedmap.common.printable import number
from heedmap.render.cells import Cell, Look, Row
from heedmap.render.clickable import patch_buttons
from heedmap.render.html import InThemes, in_themes, macro
from heedmap.render.naming import called
from heedmap.render.overlay import ALPHA, as_picture, grid_values, heat_grid, overlay
from heedmap.render.panels import (
    draw_bars,
    draw_boxes,
    draw_curve,
    draw_patches,
    draw_words,
    listed,
    picture_map,
    picture_words,
    placed_words,
    word_ground,
    word_map,
    words_height,
)
from heedmap.render.sample import Drawn, is_queries, sample
from heedmap.render.scale import Scale, joined, token_scale
from heedmap.render.scale import theme as themed
from heedmap.render.sound import after_the_end, curve, shade, terminal_curve
from heedmap.render.spectrum import (
    band_of,
    draw_spectrum,
    is_spectrum,
    spectrum,
    spectrum_page,
    terminal_spectrum,
)
from heedmap.render.words import Chips, Word, notes, passages, split, text_heat, top_words, words, words_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from heedmap.data.explanation import ExplanationData, Segment
    from heedmap.data.picture import Box, Picture
    from heedmap.render.sound import Sound

MOST_BARS, FEW_BARS = 50, 8
"""In a report, and in a panel of which there are many."""
NOTHING = Markup()
MOST_STEPS = 240
"""Of a curve that is there many times."""
MOST_WORDS = 12
"""In the table under a text."""
WIDEST_GRID = 36


@dataclass(frozen=True, eq=False)
class Beside:
    """What is drawn with the maps of an explanation.

    Attributes:
        objects: what lies on the map of a picture.
        sound: what was heard.
        image: as the model saw it, or the original with where it looked, to lay patches on.
        clickable: whether tokens are buttons, see :mod:`heedmap.render.clickable`; those of sound are none.
    """

    objects: Markup = NOTHING
    sound: Sound | None = None
    image: Image.Image | Picture | None = None
    clickable: bool = False


ALONE = Beside()
NO_RELEVANCE = "no relevance"
"""Of a text that is folded away."""


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

    def figure(self, segment: Segment, index: int, used: Scale, beside: Beside = ALONE, folded: bool = False) -> Markup:
        """In a report, with its scale; the arguments are those of :func:`figure`."""
        body = self.body(segment, index, used, beside)
        kind = "segments.folded" if folded or is_queries(segment) else "segments.figure"
        return macro(kind, called(segment.name), used.about(self.scale(segment, index)), body)

    def body(self, segment: Segment, index: int, used: Scale, beside: Beside = ALONE) -> Markup:
        """The figure without its caption."""
        return macro("segments.bars", sample(segment, index), used, MOST_BARS, segment.name if beside.clickable else "")

    def panel(
        self, segment: Segment, index: int, used: Scale, seen: bool = False, outline: Box | None = None
    ) -> Markup:
        """Small enough to be there many times, without its scale.

        Args:
            segment, index, used: what to draw, and the scale.
            seen: whether the picture that the model saw is the page's ``--seen``.
            outline: what to frame on the picture, in shares of its sides.
        """
        return macro("segments.bars", sample(segment, index), used, FEW_BARS)

    def cell(self, row: Row, column: str, look: Look) -> Cell:
        """In a figure.

        Args:
            row: a row of it.
            column: name of the explanation.
            look: what all cells share.
        """
        scale, bars = row.scales[column], row.chosen(column, look.room.bars)

        def draw(axes: Axes) -> Sequence[str]:
            draw_bars(axes, row.drawn[column], row.values[column], bars, scale, look.theme)
            return ()

        tall = look.room.bar * max(look.room.fewest, len(bars))
        return Cell(tall, draw, "x", word_map(scale, look.theme), row.left_out(column, bars))

    def heat(self, segment: Segment, index: int, used: Scale, colours: bool) -> Sequence[Text | Chips]:
        """In a terminal, without ``colours`` by letters; nothing where the most relevant tokens say it all."""
        return []

    def told(self, segment: Segment, index: int, count: int) -> list[str]:
        """The most relevant tokens and their relevance, for a terminal."""
        between = " " if segment.grid is None else ": "
        return [f"{name}{between}{number(value)}" for name, value in self.top(segment, index, count)]


class _TextView(View):
    """A text by its words."""

    def scale(self, segment: Segment, index: int = 0) -> Scale:
        return words_scale(words(segment, index))

    def words(self, segment: Segment, index: int = 0) -> list[Word]:
        return words(segment, index)

    def top(self, segment: Segment, index: int, count: int) -> list[tuple[str, float]]:
        return [(word.text, word.value) for word in top_words(words(segment, index), count)]

    def figure(self, segment: Segment, index: int, used: Scale, beside: Beside = ALONE, folded: bool = False) -> Markup:
        kind, about = ("segments.folded", NO_RELEVANCE) if folded else ("segments.figure", "")
        return macro(kind, called(segment.name), about, self.body(segment, index, used, beside))

    def body(self, segment: Segment, index: int, used: Scale, beside: Beside = ALONE) -> Markup:
        text = words(segment, index)
        about = [used.about(words_scale(text)), *notes(segment, index, text)]
        top, name = top_words(text, MOST_WORDS), segment.name if beside.clickable else ""
        return macro("segments.text", text, passages(text), used, about, split(text), top, name)

    def panel(
        self, segment: Segment, index: int, used: Scale, seen: bool = False, outline: Box | None = None
    ) -> Markup:
        return macro("segments.line", words(segment, index), used)

    def cell(self, row: Row, column: str, look: Look) -> Cell:
        if not look.room.words:
            return super().cell(row, column, look)
        theme, scale, width = look.theme, row.scales[column], look.room.width
        tokens = row.chosen(column, look.room.words)
        text = placed_words(row.drawn[column].labels, tokens, width)
        colours = [word_ground(scale, value, theme) for value in row.values[column]]
        tall = words_height(text)

        def draw(axes: Axes) -> Sequence[str]:
            draw_words(axes, text, colours, width, tall, theme.faint)
            return ()

        return Cell(tall, draw, "", word_map(scale, theme), row.left_out(column, tokens))

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
        buttons = patch_buttons(segment, index, ground.geometry) if beside.clickable else Markup()
        return macro(
            "segments.patches",
            picture,
            about,
            used,
            buttons + beside.objects,
            stacked=beside.clickable or bool(beside.objects),
            alpha=1.0 if under is None else ALPHA,
        )

    def panel(
        self, segment: Segment, index: int, used: Scale, seen: bool = False, outline: Box | None = None
    ) -> Markup:
        places = grid_values(segment, used.places(sample(segment, index).known))
        rows, columns = places.shape
        about = f"map of {rows} by {columns} patches; most relevant: {most_relevant(segment, index)}"
        return macro("segments.stack", _layer(places, used, seen), about, places.shape, seen, outline)

    def cell(self, row: Row, column: str, look: Look) -> Cell:
        segment, values, scale = row.segments[column], row.values[column], row.scales[column]

        def draw(axes: Axes) -> Sequence[str]:
            picture = look.picture_of(segment)
            draw_patches(axes, segment, values, scale, look.style, picture, look.theme)
            return picture_words(picture, look.style)

        return Cell(look.tall(segment), draw, "", picture_map(scale, look.style, look.picture_of(segment), look.theme))

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
        width = min(look.room.width, tall * picture.image.width / picture.image.height)

        def draw(axes: Axes) -> Sequence[str]:
            count = draw_boxes(axes, values, drawn.labels, scale, look.style, picture, width, look.theme)
            named = [f"the {count} strongest of {len(drawn.shown)} are named"] if count < len(drawn.shown) else []
            return [*named, picture.note]

        return Cell(tall, draw, "", listed(scale.colours(look.theme, look.style.cmap, over=True)))


class _CurveView(View):
    """Sound: the relevance of its frames over time."""

    weight = 6

    def body(self, segment: Segment, index: int, used: Scale, beside: Beside = ALONE) -> Markup:
        return curve(sample(segment, index), used, beside.sound)

    def panel(
        self, segment: Segment, index: int, used: Scale, seen: bool = False, outline: Box | None = None
    ) -> Markup:
        return curve(sample(segment, index), used, most=MOST_STEPS)

    def heat(self, segment: Segment, index: int, used: Scale, colours: bool) -> list[Text]:
        drawn = sample(segment, index)
        after = after_the_end(drawn.after)
        return [terminal_curve(drawn, used, colours), *([Text(after, "dim")] if after else [])]

    def cell(self, row: Row, column: str, look: Look) -> Cell:
        def draw(axes: Axes) -> Sequence[str]:
            draw_curve(axes, row.drawn[column], row.values[column], look.theme, look.sound)
            return ()

        cmap = word_map(row.scales[column], look.theme)
        return Cell(look.room.curve, draw, "y", cmap, after_the_end(row.drawn[column].after))


class _SpectrumView(View):
    """A spectrogram's patches: the relevance over time and frequency."""

    weight = 6

    def place(self, segment: Segment, drawn: Drawn, i: int) -> str:
        return band_of(segment, drawn, i)

    def body(self, segment: Segment, index: int, used: Scale, beside: Beside = ALONE) -> Markup:
        about = f"relevance over time and frequency; most relevant: {most_relevant(segment, index)}"
        return spectrum_page(spectrum(segment, sample(segment, index), used), used, about, beside.sound)

    def panel(
        self, segment: Segment, index: int, used: Scale, seen: bool = False, outline: Box | None = None
    ) -> Markup:
        return self.body(segment, index, used)

    def heat(self, segment: Segment, index: int, used: Scale, colours: bool) -> list[Text]:
        return terminal_spectrum(spectrum(segment, sample(segment, index), used), used, colours)

    def cell(self, row: Row, column: str, look: Look) -> Cell:
        segment, drawn = row.segments[column], row.drawn[column]
        cmap = listed(row.scales[column].colours(look.theme, look.style.cmap))

        def draw(axes: Axes) -> Sequence[str]:
            shown = spectrum(segment, drawn, row.scales[column], row.values[column])
            draw_spectrum(axes, shown, cmap, look.theme, look.sound)
            return [after_the_end(drawn.after)]

        return Cell(look.room.curve, draw, "", cmap)


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
    if is_spectrum(segment):
        return SPECTRUM
    kind = "image" if segment.grid is not None else segment.kind.replace("image", "tokens")
    return VIEWS.get(kind, VIEWS["tokens"])


def figure(
    segment: Segment, index: int = 0, given: Scale | None = None, beside: Beside = ALONE, folded: bool = False
) -> Markup:
    """The map of a segment in a report, with its scale written under it.

    Args:
        segment: what to draw.
        index: the sample.
        given: a scale that several maps share; None: the map's own.
        beside: what else is drawn.
        folded: whether it is folded away.

    Raises:
        InputError: no such sample, or ``image`` is no PIL image.
    """
    seen = view(segment)
    return seen.figure(segment, index, given or seen.scale(segment, index), beside, folded)


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


def most_relevant(segment: Segment, index: int = 0, count: int = 3) -> str:
    """What is most relevant, in words: ``cat 0.4, sat 0.1``."""
    top = view(segment).top(segment, index, count)
    return ", ".join(f"{name} {number(value)}" for name, value in top) or "nothing"


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
    return Text("\n").join(Text.assemble(*(shade(s, signed, colours, 2) for s in row)) for row in share.clip(0, 1))
