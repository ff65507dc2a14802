"""The box of the object that is explained, on its picture."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from markupsafe import Markup

from heedmap.data.picture import Picture
from heedmap.render.html import macro
from heedmap.render.naming import explained_object

if TYPE_CHECKING:
    from heedmap.data.explanation import ExplanationData

LEAST, MOST = 384, 1200
"""Pixels of the longer side of a picture on a page."""


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
