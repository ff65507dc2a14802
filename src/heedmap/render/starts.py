"""Tokens of a map as buttons, for a page that listens: what was pressed is in ``data-start``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from heedmap.picture import Geometry
from heedmap.printable import number
from heedmap.render.sample import sample
from heedmap.render.text import html_text

if TYPE_CHECKING:
    from heedmap.explanation_data import Segment

MOST_PATCHES = 1600
"""Patches that are buttons; of a finer grid none are."""


def button(segment: str, tokens: Iterable[int], *, first: bool = False) -> str:
    """Attributes that make an element a button for some tokens of a segment; ``""`` where ``segment`` is empty.

    Args:
        segment: its name.
        tokens: their indices in it.
        first: whether it is the one of its group that the tab key reaches; the page's arrow keys reach the others.
    """
    if not segment:
        return ""
    start = html_text(f"{segment}:{','.join(map(str, tokens))}")
    return f' role="button" tabindex="{0 if first else -1}" data-start="{start}"'


def patch_buttons(segment: Segment, index: int, geometry: Geometry) -> str:
    """The patches as buttons that lie on a picture; ``""`` where they are too many.

    Args:
        segment: of patches.
        index: the sample.
        geometry: where on the picture the grid lies.
    """
    rows, columns = segment.grid or (0, 0)
    if rows * columns > MOST_PATCHES:
        return ""
    values = sample(segment, index).values
    buttons = "".join(
        f"<b{button(segment.name, [i], first=i == 0)} "
        f'aria-label="row {i // columns + 1}, column {i % columns + 1}: {number(float(value))}"></b>'
        for i, value in enumerate(values)
    )
    name = html_text(f"patches of {segment.name}")
    return (
        f'<div class="patches" role="group" aria-label="{name}" data-columns="{columns}" '
        f'style="{placed(geometry)};grid-template:repeat({rows},1fr)/repeat({columns},1fr)">{buttons}</div>'
    )


def placed(geometry: Geometry) -> str:
    """CSS: where on the picture that what the model saw lies."""
    left, top, right, bottom = geometry.to_original((0.0, 0.0, *geometry.seen))
    width, height = geometry.size
    sides = left / width, top / height, (right - left) / width, (bottom - top) / height
    return ";".join(f"{name}:{side:.3%}" for name, side in zip(("left", "top", "width", "height"), sides, strict=True))
