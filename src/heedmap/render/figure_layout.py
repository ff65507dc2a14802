"""Where the parts of a figure stand: a sheet on which they are placed in inches from the top left; no pyplot."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Literal

from matplotlib.artist import getp
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text

from heedmap.common.printable import visible
from heedmap.errors import OptionError
from heedmap.render.panels import drawable, lettering
from heedmap.render.scale import Theme

LINE = 1.45 / 72
"""Inches that a line of text is high, a point of its size."""
MOST_DOTS = 2**16
"""A side of a picture has fewer."""


class ShownFigure(Figure):
    """A matplotlib figure; a picture where it ends a notebook's cell: pyplot, which notebooks ask, knows nothing of it."""

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def check_size(width: float | None, dpi: float | None) -> None:
    """OptionError where a figure cannot be so many inches wide, or have so many dots an inch."""
    for name, value in (("width", width), ("dpi", dpi)):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if value is not None and not (number and 0 < value < math.inf):
            unit = "inches" if name == "width" else "dots an inch"
            raise OptionError(f"{name}={value!r}; expected a number of {unit}, more than 0")
    if (width or 1) * (dpi or 1) >= MOST_DOTS:
        raise OptionError(f"width={width!r} and dpi={dpi!r} are {width} × {dpi} dots; expected less than {MOST_DOTS:,}")


def finished(figure: Figure, width: float | None, dpi: float | None) -> Figure:
    """``figure`` as wide as is asked, all of it larger or smaller in proportion, with so many dots an inch."""
    if dpi is not None:
        figure.set_dpi(dpi)
    if width is not None:
        wide, tall = figure.get_size_inches()
        _rescale(figure, width / wide)
        figure.set_size_inches(width, tall * width / wide)
    return figure


def _rescale(figure: Figure, factor: float) -> None:
    """Letters and lines; where things stand is in shares of the figure already."""
    ticks: set[int] = set()
    for axes in figure.findobj(Axes):
        for axis in (axes.xaxis, axes.yaxis):
            labels = axis.get_ticklabels()
            ticks |= set(map(id, labels))
            if labels:  # of all ticks, also those that a layout makes anew
                axis.set_tick_params(labelsize=float(labels[0].get_fontsize()) * factor)
    for text in figure.findobj(Text):
        if id(text) not in ticks:
            text.set_fontsize(float(text.get_fontsize()) * factor)
    for line in figure.findobj(lambda artist: isinstance(artist, (Patch, Line2D))):
        line.set(linewidth=getp(line, "linewidth") * factor)


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
    axes.spines[:].set_color(look.faint)


@dataclass(eq=False)
class Sheet:
    """What has been placed so far, in inches.

    Attributes:
        theme: of the figure.
        bottom: the lowest place in use.
        lines: left and top of each line of text, it, and its size, colour and weight.
        panels: left, top, width and height of axes, and what draws on them.
    """

    theme: Theme
    bottom: float = 0.0
    lines: list[tuple[float, float, str, dict[str, object]]] = field(default_factory=list)
    panels: list[tuple[float, float, float, float, Callable[[Axes], object]]] = field(default_factory=list)

    def write(
        self, left: float, top: float, lines: list[str], size: float = 7.5, faint: bool = True, weight: str = "normal"
    ) -> float:
        """Place lines of text; where they end."""
        look = {"fontsize": size, "color": self.theme.faint if faint else self.theme.ink, "fontweight": weight}
        for number, line in enumerate(lines):
            self.lines.append((left, top + number * size * LINE, drawable(visible(line)), look))
        return self._down_to(top + len(lines) * size * LINE)

    def draw(self, left: float, top: float, width: float, tall: float, draw: Callable[[Axes], object]) -> float:
        """Place axes; where they end."""
        self.panels.append((left, top, width, tall, draw))
        return self._down_to(top + tall)

    def figure(self, width: float, margin: float) -> Figure:
        """All of it on a figure of ``width`` inches, with a margin below."""
        tall = self.bottom + margin
        figure = blank(width, tall, self.theme)
        for left, top, wide, high, draw in self.panels:
            axes = figure.add_axes((left / width, 1 - (top + high) / tall, wide / width, high / tall))
            dress(axes, self.theme)
            draw(axes)
        for left, top, line, look in self.lines:
            figure.text(left / width, 1 - top / tall, line, va="top").set(**lettering(), **look)
        return figure

    def _down_to(self, place: float) -> float:
        self.bottom = max(self.bottom, place)
        return place
