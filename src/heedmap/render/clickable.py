"""Tokens of a map as buttons, for a page that listens: what was pressed is in ``data-start``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from heedmap.data.picture import Geometry
from heedmap.render.html import macro
from heedmap.render.sample import sample

if TYPE_CHECKING:
    from heedmap.data.explanation import Segment

MOST_PATCHES = 1600
"""Patches that are buttons; of a finer grid none are."""


def patch_buttons(segment: Segment, index: int, geometry: Geometry) -> Markup:
    """The patches as buttons that lie on a picture; ``""`` where they are too many.

    Args:
        segment: of patches.
        index: the sample.
        geometry: where on the picture the grid lies.
    """
    rows, columns = segment.grid or (0, 0)
    if rows * columns > MOST_PATCHES:
        return Markup()
    return macro("segments.patch_buttons", segment.name, segment.grid, sample(segment, index).values, placed(geometry))


def placed(geometry: Geometry) -> str:
    """CSS: where on the picture that what the model saw lies."""
    left, top, right, bottom = geometry.to_original((0.0, 0.0, *geometry.seen))
    width, height = geometry.size
    sides = left / width, top / height, (right - left) / width, (bottom - top) / height
    return ";".join(f"{name}:{side:.3%}" for name, side in zip(("left", "top", "width", "height"), sides, strict=True))
