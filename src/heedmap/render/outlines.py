"""Boxes of objects on a picture: of the one that is explained, and of those that a detector found."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from markupsafe import Markup

from heedmap.picture import Picture
from heedmap.render.html import macro
from heedmap.render.naming import explained_object
from heedmap.render.panels import drawable

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

    from heedmap.explanation_data import ExplanationData

LEAST, MOST = 384, 1200
"""Pixels of the longer side of a picture on a page."""
LINE, HALO = (64, 224, 255), (0, 0, 0)
"""Colours that no map and no usual picture has; the line lies on the wider halo."""
LETTERS = 14


def framed(picture: Picture, explanation: ExplanationData, index: int) -> Picture:
    """``picture`` with the box of the object that sample ``index`` explains as its frame; with its own where it has some."""
    if explanation.box is None or picture.frames:
        return picture
    left, top, right, bottom = explanation.box[index].tolist()
    return replace(picture, frames={explained_object(explanation, index): picture.share((left, top, right, bottom))})


def outline(picture: Picture, explanation: ExplanationData, index: int) -> Markup:
    """The box of the object that sample ``index`` explains, to lie on its map on a page; nothing where it explains none."""
    shown = framed(replace(picture, frames={}), explanation, index).frames
    return Markup().join(macro("segments.outline", box, name) for name, box in shown.items())


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
