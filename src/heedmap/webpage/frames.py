"""Boxes that a model found, outlined and named on the picture."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from heedmap.render.fonts import drawable
from heedmap.webpage.predictions import Choice

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

    from heedmap.geometry import Box, Picture

LEAST, MOST = 384, 1200
"""Pixels of the longer side of a picture on the page."""
LINE, HALO = (64, 224, 255), (0, 0, 0)
"""Colours that no map and no usual picture has; the line lies on the wider halo."""
LETTERS = 14


def with_frames(picture: Picture, choices: Iterable[Choice]) -> Picture:
    """``picture`` with the boxes of ``choices`` as its frames, in shares of the original."""
    frames = {choice.name: _of_original(choice.box, picture) for choice in choices if choice.box is not None}
    return replace(picture, frames=frames)


def outlined(picture: Picture) -> Picture:
    """``picture`` with its frames drawn on it, and none to be drawn; the same where it has none."""
    if not picture.frames:
        return picture
    from PIL import ImageDraw

    large = picture.fitted(LEAST, MOST)
    image = large.image.copy()
    pen = ImageDraw.Draw(image)
    for name, (left, top, right, bottom) in large.frames.items():
        box = (left * image.width, top * image.height, right * image.width, bottom * image.height)
        pen.rectangle(box, outline=HALO, width=4)
        pen.rectangle(
            [box[0] + 1, box[1] + 1, max(box[0] + 1, box[2] - 1), max(box[1] + 1, box[3] - 1)], outline=LINE, width=2
        )
        pen.text((box[0] + 6, box[1] + 4), drawable(name), fill=LINE, font=_font(), stroke_width=2, stroke_fill=HALO)
    return replace(large, image=image, frames={})


@cache
def _font() -> FreeTypeFont:
    from matplotlib.font_manager import findfont
    from PIL import ImageFont

    return ImageFont.truetype(findfont("DejaVu Sans"), LETTERS)


def _of_original(box: Box, picture: Picture) -> Box:
    """A box in shares of what the model saw, in shares of the original."""
    width, height = picture.geometry.seen
    across, down = picture.geometry.size
    seen = (box[0] * width, box[1] * height, box[2] * width, box[3] * height)
    left, top, right, bottom = picture.geometry.to_original(seen)
    return (_share(left, across), _share(top, down), _share(right, across), _share(bottom, down))


def _share(edge: float, side: int) -> float:
    return min(1.0, max(0.0, edge / side))
