"""A figure without pyplot: its colours and fonts, and a sheet on which parts are placed in inches from the top left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Literal

from heedmap.errors import UnknownNameError
from heedmap.printable import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FALLBACKS = (
    "Noto Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans Arabic",
    "Noto Sans Hebrew",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "Arial Unicode MS",
)
"""Looked for, in this order, where DejaVu Sans (which comes with matplotlib) lacks a character."""
LINE = 1.45 / 72
"""Inches that a line of text is high, a point of its size."""


@dataclass(frozen=True)
class Theme:
    """Colours of a figure.

    Attributes:
        ground: behind everything.
        ink: of text.
        faint: of frames, ticks and notes.
        missing: of tokens that the model did not take in.
        words: the colour map of text and bars: its low end is close to the ground.
        deep: how far up that map colours go, so that the deepest stands out from the ground.
    """

    ground: str
    ink: str
    faint: str
    missing: str
    words: str
    deep: float


THEMES: Mapping[str, Theme] = {
    "light": Theme("#ffffff", "#1a1a1a", "#6b6b6b", "#9a9a9a", "magma_r", 0.78),
    "dark": Theme("#14151a", "#ececec", "#a0a0a8", "#55565e", "inferno", 0.9),
}
"""Themes by name."""


def theme(name: str) -> Theme:
    """The theme called ``name``; UnknownNameError lists the known ones."""
    if name not in THEMES:
        raise UnknownNameError(f"no theme {name!r}; known themes: {', '.join(THEMES)}")
    return THEMES[name]


def dress(axes: Axes, look: Theme) -> None:
    """Give axes the colours of a theme."""
    axes.set_facecolor(look.ground)
    axes.tick_params(colors=look.faint, labelcolor=look.ink)
    for label in (axes.title, axes.xaxis.label, axes.yaxis.label):
        label.set_color(look.ink)
    for spine in axes.spines.values():
        spine.set_color(look.faint)


@cache
def families() -> tuple[str, ...]:
    """DejaVu Sans and those fallbacks that are installed."""
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    return ("DejaVu Sans", *(name for name in FALLBACKS if name in installed))


def drawable(text: str) -> str:
    """``text`` with characters that none of :func:`families` has shown as the replacement character."""
    known = _characters()
    return "".join(c if ord(c) in known else "\N{REPLACEMENT CHARACTER}" for c in text)


def blank(width: float, height: float, look: Theme, layout: Literal["constrained"] | None = None) -> Figure:
    """An empty figure of so many inches, which draws itself without a window, and shows itself in a notebook."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = _shown_figure()(figsize=(width, height), layout=layout, facecolor=look.ground)
    FigureCanvasAgg(figure)
    return figure


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


@cache
def _characters() -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset(code for name in families() for code in get_font(findfont(name)).get_charmap())


@cache
def _shown_figure() -> type[Figure]:
    """A figure that is a picture where it ends a notebook's cell: pyplot, which notebooks ask, knows nothing of it."""
    from matplotlib.figure import Figure

    class ShownFigure(Figure):
        def _repr_png_(self) -> bytes:
            buffer = BytesIO()
            self.savefig(buffer, format="png")
            return buffer.getvalue()

    return ShownFigure
