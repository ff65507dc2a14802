"""Matplotlib figures, one panel a segment; no pyplot, so no global state."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Literal

from heedmap.picture import Picture
from heedmap.printable import visible
from heedmap.render.fonts import drawable, families
from heedmap.render.overlay import Style, as_picture
from heedmap.render.panels import draw_bars, draw_boxes, draw_curve, draw_patches, mappable, stretched, ticks
from heedmap.render.sample import Sample, batch_size, checked_index, sample
from heedmap.render.scale import Scale, token_scale
from heedmap.render.themes import Theme, dress
from heedmap.render.themes import theme as themed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL import Image

    from heedmap.explanation_data import ExplanationData, Segment

MOST_BARS = 40
MUTE = 0.6
"""Of the colours of a picture in a figure."""
LETTERS_PER_PANEL = 56
LETTERS_PER_TITLE, LETTERS_PER_NOTE = 50, 64
SHORTEST, TALLEST = 1.2, 8.0
WIDTH, PICTURE_WIDTH, BAR = 4.6, 3.8, 0.16
"""Of a panel, of the picture in it and of its colour bar, in inches, as are the heights."""


def plot(
    explanation: ExplanationData,
    index: int = 0,
    image: Image.Image | Picture | None = None,
    *,
    theme: str = "light",
    alpha: float = 0.75,
    cmap: str | None = None,
    opacity: str = "relevance",
    contour: bool = False,
    patches: bool = False,
    mute: float = MUTE,
) -> Figure:
    """A figure of sample ``index``: patches over ``image`` or as a grid, boxes at their places, a curve, or bars.

    Each panel says how its values were scaled. Of more than 40 bars only the 40 most relevant are drawn, in their order.

    Args:
        explanation: what to draw.
        index: the sample.
        image: as the model saw it; or what ``Model.picture`` gives, which also knows the places of boxes.
        theme: ``"light"`` or ``"dark"``.
        alpha, cmap, opacity, contour, patches, mute: see :class:`~heedmap.render.overlay.Style`.

    Raises:
        InputError: no such sample, or ``image`` is no image.
        UnknownNameError: no such theme.
        OptionError, MissingLibraryError: as for :func:`~heedmap.render.overlay.overlay`.
    """
    index = checked_index(index, batch_size(explanation))
    picture = None if image is None else as_picture(image)
    drawing = _Drawing(picture, Style(alpha, cmap, opacity, contour, patches, mute), themed(theme))
    segments = list(explanation.segments.values())
    drawn = [sample(segment, index) for segment in segments]
    height = max((drawing.height(*pair) for pair in zip(segments, drawn, strict=True)), default=2.0) + 0.9
    figure = blank(WIDTH * max(1, len(segments)), height, drawing.theme, layout="constrained")
    panels = figure.subplots(1, max(1, len(segments)), squeeze=False)[0]
    for axes, segment, one in zip(panels, segments, drawn, strict=False):
        drawing.panel(axes, segment, one)
    heading = f"{explanation.target[index]} · score {float(explanation.scores[index]):.4g} · {explanation.method}"
    lines = wrap(drawable(visible(heading)), LETTERS_PER_PANEL * max(1, len(segments)), max_lines=3, placeholder=" …")
    words = {"fontfamily": list(families()), "fontsize": 11, "parse_math": False, "color": drawing.theme.ink}
    figure.suptitle("\n".join(lines), **words)
    return figure


def blank(width: float, height: float, look: Theme, layout: Literal["constrained"] | None = None) -> Figure:
    """An empty figure of so many inches, which draws itself without a window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from heedmap.render.shown import ShownFigure

    figure = ShownFigure(figsize=(width, height), layout=layout, facecolor=look.ground)
    FigureCanvasAgg(figure)
    return figure


def picture_words(picture: Picture | None, style: Style) -> list[str]:
    """What a reader has to know of a picture with a map on it."""
    if picture is None:
        return []
    words = {
        picture.note: bool(picture.note),
        "stretched: in truth {} × {} pixels".format(*picture.image.size): stretched(*picture.image.size),
        "dim: not seen by the model": picture.geometry.cropped,
        "opacity follows relevance": style.opacity == "relevance",
        "the picture's colours muted": style.mute > 0,
        "outline: above Otsu's threshold": style.contour,
    }
    return [word for word, holds in words.items() if holds]


@dataclass(frozen=True)
class _Drawing:
    """What all panels of a figure share."""

    picture: Picture | None
    style: Style
    theme: Theme

    def panel(self, axes: Axes, segment: Segment, drawn: Sample) -> None:
        values, scale = drawn.known, token_scale(segment, drawn)
        dress(axes, self.theme)
        title = wrap(visible(f"{segment.name} · {scale.about()}"), LETTERS_PER_TITLE)
        axes.set_title("\n".join(title), fontsize=9, parse_math=False, color=self.theme.ink)
        if segment.grid is not None:
            draw_patches(axes, segment, values, scale, self.style, self.picture, self.theme)
            self._under(axes, picture_words(self.picture, self.style))
            self._bar(axes, segment, scale)
        elif self.picture is not None and self._placed(segment):
            count = draw_boxes(axes, values, drawn.labels, scale, self.style, self.picture)
            named = [f"the {count} strongest of {len(drawn.shown)} are named"] if count < len(drawn.shown) else []
            self._under(axes, [*named, self.picture.note])
            self._bar(axes, segment, scale)
        elif segment.kind == "audio":
            draw_curve(axes, drawn, values, self.theme)
            axes.set_ylabel("relevance")
        else:
            bars = _bars(drawn)
            draw_bars(axes, drawn, values, bars, scale, self.theme)
            left_out = len(drawn.shown) - len(bars)
            axes.set_xlabel(f"relevance: the top {MOST_BARS} of {len(drawn.shown)}" if left_out else "relevance")

    def height(self, segment: Segment, drawn: Sample) -> float:
        """Of the panel, in inches."""
        if segment.grid is not None or self._placed(segment):
            columns, rows = self._size(segment)
            return min(TALLEST, max(SHORTEST, PICTURE_WIDTH * rows / columns)) + 0.4
        return 2.4 if segment.kind == "audio" else 0.6 + 0.22 * max(4, len(_bars(drawn)))

    def _size(self, segment: Segment) -> tuple[int, int]:
        """Width and height of what is drawn."""
        return (segment.grid or (1, 1))[::-1] if self.picture is None else self.picture.image.size

    def _placed(self, segment: Segment) -> bool:
        return segment.kind == "boxes" and self.picture is not None and self.picture.boxes is not None

    def _under(self, axes: Axes, words: list[str]) -> None:
        lines = wrap(" · ".join(filter(None, words)), LETTERS_PER_NOTE)
        axes.set_xlabel("\n".join(lines), fontsize=8, color=self.theme.faint)

    def _bar(self, axes: Axes, segment: Segment, scale: Scale) -> None:
        """A colour bar as high as the picture and of the same width beside any."""
        columns, rows = self._size(segment)
        width = PICTURE_WIDTH if stretched(columns, rows) else min(PICTURE_WIDTH, TALLEST * columns / rows)
        beside = axes.inset_axes((1 + BAR / width / 2, 0, BAR / width, 1))
        tall = min(TALLEST, max(0.1, width * rows / columns))
        bar = axes.figure.colorbar(mappable(scale, self.style.cmap), cax=beside, ticks=ticks(tall))
        bar.set_label("relevance", color=self.theme.ink, fontsize=8)
        beside.tick_params(colors=self.theme.faint, labelcolor=self.theme.ink, labelsize=8)
        beside.spines["outline"].set_edgecolor(self.theme.faint)


def _bars(drawn: Sample) -> list[int]:
    if len(drawn.shown) <= MOST_BARS:
        return drawn.shown
    return sorted(drawn.top(MOST_BARS))
