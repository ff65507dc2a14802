"""Choose one thing, see its map: radio buttons and CSS, so that it works without a script and from the keyboard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from markupsafe import Markup

from heedmap.render.html import render

CELL = 1.1
"""Side of a patch that can be chosen, in rem."""


@dataclass(frozen=True)
class Choice:
    """Something that can be chosen.

    Attributes:
        name: of it, for people.
        panel: what is seen when it is chosen.
        step: the class of its colour, see :meth:`heedmap.render.scale.Scale.css_class`.
        place: row and column, from 0, where the choices lie in a grid.
    """

    name: str
    panel: Markup
    step: str = ""
    place: tuple[int, int] | None = None


def picker(title: str, choices: Sequence[Choice], chosen: int, grid: tuple[int, int] | None = None) -> Markup:
    """The choices, and under them the panel of the one that is chosen.

    Args:
        title: what is chosen, for those who cannot see it.
        choices: in reading order; in a grid all have a place.
        chosen: at first.
        grid: rows and columns of the grid in which the choices lie; their maps stand beside it.
    """
    whole = "\0".join((title, *(choice.panel for choice in choices)))
    group = "heedmap-" + sha256(whole.encode("utf-8", "replace")).hexdigest()[:12]
    return render("picker.html", title=title, choices=choices, chosen=chosen, group=group, tracks=_tracks(grid))


def _tracks(grid: tuple[int, int] | None) -> str:
    """CSS of a grid of choices; ``""`` where there is none."""
    if grid is None:
        return ""
    rows, columns = grid
    across = f"grid-template-columns:repeat({columns},{CELL}rem) minmax(12rem,1fr)"
    return f"{across};grid-template-rows:repeat({rows},{CELL}rem) auto"
