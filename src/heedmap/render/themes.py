"""A light and a dark theme for figures; set artist by artist, so matplotlib's global settings stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heedmap.errors import UnknownNameError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
