"""Matplotlib figures, one panel a segment; no pyplot, so no global state."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np

from heedmap.render.colours import PICTURE, colour
from heedmap.render.fonts import drawable, families
from heedmap.render.overlay import grid_values, overlay
from heedmap.render.sample import Sample, batch_size, checked_index, sample, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL import Image

    from heedmap.explanation import Explanation, Segment

MOST_BARS = 40
LONGEST_LABEL = 24
LETTERS_PER_PANEL = 56


def plot(explanation: Explanation, index: int = 0, image: Image.Image | None = None) -> Figure:
    """A figure of sample ``index``: patches as a heat map (over ``image``, if given), audio as a curve, others as bars.

    Of more than 40 bars only the 40 most relevant are drawn, in their order.

    Raises:
        InputError: no such sample, or ``image`` is no PIL image.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    index = checked_index(index, batch_size(explanation))
    segments = list(explanation.segments.values())
    height = max((_height(s, index) for s in segments), default=2.0) + 0.8
    figure = Figure(figsize=(4.6 * max(1, len(segments)), height), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, segment in zip(figure.subplots(1, max(1, len(segments)), squeeze=False)[0], segments, strict=False):
        _panel(axes, segment, index, image)
    heading = f"{explanation.target[index]} · score {float(explanation.scores[index]):.4g} · {explanation.method}"
    lines = wrap(drawable(visible(heading)), LETTERS_PER_PANEL * max(1, len(segments)), max_lines=3, placeholder=" …")
    figure.suptitle("\n".join(lines), fontfamily=list(families()), fontsize=11, parse_math=False)
    return figure


def _panel(axes: Axes, segment: Segment, index: int, image: Image.Image | None) -> None:
    drawn = sample(segment, index)
    if segment.grid is not None:
        _draw_grid(axes, segment, index, image)
    elif segment.kind == "audio":
        _draw_curve(axes, drawn)
    else:
        _draw_bars(axes, drawn)
    left_out = len(drawn.shown) - len(_bars(drawn)) if segment.grid is None and segment.kind != "audio" else 0
    more = f"\nthe top {MOST_BARS} of {len(drawn.shown)}" if left_out else ""
    axes.set_title(f"{visible(segment.name)} · {drawn.caption}{more}", fontsize=10, parse_math=False)


def _draw_grid(axes: Axes, segment: Segment, index: int, image: Image.Image | None) -> None:
    drawn = sample(segment, index)
    if image is not None:
        axes.imshow(np.asarray(overlay(image, segment, index)))
    else:
        share = grid_values(segment, np.where(drawn.taken, drawn.share, np.nan))
        axes.set_facecolor("0.5")
        axes.imshow(share, cmap=PICTURE, vmin=0, vmax=1)
    axes.set_xticks([])
    axes.set_yticks([])


def _draw_curve(axes: Axes, drawn: Sample) -> None:
    values = np.where(drawn.taken & np.isfinite(drawn.values), drawn.values, np.nan)
    timed = len(values) > 1 and drawn.labels[-1].endswith(" s")
    step = float(drawn.labels[-1].removesuffix(" s")) / (len(values) - 1) if timed else 1.0
    axes.stairs(values, np.arange(len(values) + 1) * step, fill=True, color=colour(0.7))
    axes.set_xlabel("seconds" if timed else "frame")
    axes.set_ylabel("relevance")


def _draw_bars(axes: Axes, drawn: Sample) -> None:
    bars = _bars(drawn)
    places = np.arange(len(bars))
    values = np.nan_to_num(drawn.values[bars], nan=0.0, posinf=0.0, neginf=0.0)
    colours = [colour(0.15 + 0.85 * drawn.share[i]) for i in bars]
    axes.barh(places, values, color=colours, edgecolor="0.4", linewidth=0.4)
    labels = [drawable(_shortened(drawn.labels[i])) for i in bars]
    axes.set_yticks(places, labels, parse_math=False, fontfamily=list(families()), fontsize=9)
    axes.set_ylim(max(len(bars), 1) - 0.4, -0.6)
    axes.set_xlabel("relevance")


def _bars(drawn: Sample) -> list[int]:
    if len(drawn.shown) <= MOST_BARS:
        return drawn.shown
    return sorted(drawn.top(MOST_BARS))


def _height(segment: Segment, index: int) -> float:
    if segment.grid is not None:
        return min(8.0, 4.4 * max(1.0, segment.grid[0] / segment.grid[1]))
    if segment.kind == "audio":
        return 2.4
    return 0.6 + 0.22 * max(4, len(_bars(sample(segment, index))))


def _shortened(label: str) -> str:
    return label if len(label) <= LONGEST_LABEL else label[: LONGEST_LABEL - 1] + "…"
