"""Where the parts of a figure stand: a sheet on which they are placed in inches from the top left; no pyplot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Literal

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from heedmap.printable import visible
from heedmap.render.panels import drawable, families
from heedmap.render.scale import Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINE = 1.45 / 72
"""Inches that a line of text is high, a point of its size."""


class ShownFigure(Figure):
    """A matplotlib figure; a picture where it ends a notebook's cell: pyplot, which notebooks ask, knows nothing of it."""

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def blank(width: float, height: float, look: Theme, layout: Literal["constrained"] | None = None) -> Figure:
    """An empty figure of so many inches, which draws itself without a window."""
    figure = ShownFigure(figsize=(width, height), layout=layout, facecolor=look.ground)
    FigureCanvasAgg(figure)
    return figure


def dress(axes: Axes, look: Theme) -> None:
    """Give axes the colours of a theme."""
    axes.set_facecolor(look.ground)
    axes.tick_params(colors=look.faint, labelcolor=look.ink)
    for label in (axes.title, axes.xaxis.label, axes.yaxis.label):
        label.set_color(look.ink)
    for spine in axes.spines.values():
        spine.set_color(look.faint)


@dataclass(frozen=True)
class Words:
    """Lines of text whose top left corner is at (left, top)."""

    left: float
    top: float
    lines: tuple[str, ...]
    size: float
    faint: bool
    weight: str


@dataclass(frozen=True, eq=False)
class Panel:
    """Axes of a size, and what draws on them."""

    left: float
    top: float
    width: float
    tall: float
    draw: Callable[[Axes], object]


@dataclass(eq=False)
class Sheet:
    """What has been placed so far.

    Attributes:
        theme: of the figure.
        bottom: the lowest place in use, in inches.
    """

    theme: Theme
    bottom: float = 0.0
    words: list[Words] = field(default_factory=list)
    panels: list[Panel] = field(default_factory=list)

    def write(
        self,
        left: float,
        top: float,
        lines: list[str],
        size: float = 7.5,
        *,
        faint: bool = True,
        weight: str = "normal",
    ) -> float:
        """Place lines of text; where they end."""
        printable = tuple(drawable(visible(line)) for line in lines)
        self.words.append(Words(left, top, printable, size, faint, weight))
        return self._down_to(top + len(lines) * size * LINE)

    def draw(self, left: float, top: float, width: float, tall: float, draw: Callable[[Axes], object]) -> float:
        """Place axes; where they end."""
        self.panels.append(Panel(left, top, width, tall, draw))
        return self._down_to(top + tall)

    def figure(self, width: float, margin: float) -> Figure:
        """All of it on a figure of ``width`` inches, with a margin below."""
        tall = self.bottom + margin
        figure = blank(width, tall, self.theme)
        for panel in self.panels:
            place = panel.left / width, 1 - (panel.top + panel.tall) / tall, panel.width / width, panel.tall / tall
            axes = figure.add_axes(place)
            dress(axes, self.theme)
            panel.draw(axes)
        for words in self.words:
            colour = self.theme.faint if words.faint else self.theme.ink
            for number, line in enumerate(words.lines):
                height = 1 - (words.top + number * words.size * LINE) / tall
                text = figure.text(words.left / width, height, line, fontsize=words.size, color=colour, va="top")
                text.set(parse_math=False, fontfamily=list(families()), fontweight=words.weight)
        return figure

    def _down_to(self, place: float) -> float:
        self.bottom = max(self.bottom, place)
        return place
