"""Curves of an evaluation as a picture: a line for each method."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DOTS = 110
INK, FAINT = "#40346e", "#9a9aa2"
MARKS = ("-", "--", ":", "-.")


def curve_png(curve: Mapping[str, Any], reference: str) -> bytes:
    """One curve of a summary as a PNG file.

    Args:
        curve: an entry of the summary's ``curves``.
        reference: the contender whose line is drawn thick, with its interval.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.2, 4.4), dpi=DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    _draw(axes, curve, reference)
    axes.set(title=curve["title"], xlabel=curve["x_label"], ylabel=curve["y_label"])
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", fontsize=7.5, frameon=False)
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw(axes: Axes, curve: Mapping[str, Any], reference: str) -> None:
    from matplotlib import colormaps

    colours = colormaps["tab10"]
    others = [name for name in curve["lines"] if name not in (reference, "random")]
    for place, name in enumerate(others):
        (line,) = axes.plot(curve["x"], _gaps(curve["lines"][name]["y"]), linewidth=1.1, alpha=0.85, label=name)
        line.set(color=colours(place % 10), linestyle=MARKS[place // 10 % len(MARKS)])
    if "random" in curve["lines"]:
        axes.plot(curve["x"], _gaps(curve["lines"]["random"]["y"]), color=FAINT, linewidth=2, label="random")
    if reference in curve["lines"]:
        line = curve["lines"][reference]
        axes.fill_between(curve["x"], _gaps(line["low"]), _gaps(line["high"]), color=INK, alpha=0.15, linewidth=0)
        axes.plot(curve["x"], _gaps(line["y"]), color=INK, linewidth=2.6, label=reference)


def _gaps(values: list[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]
