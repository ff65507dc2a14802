"""Pictures with maps, outlines of the truth and boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from heedmap.render.colours import table
from heedmap.render.overlay import overlay
from heedmap.render.sample import sample
from heedmap.render.scale import token_scale

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from heedmap.explanation_data import Segment
    from heedmap.zoo.gallery.show import Answer

SIDE = 240
"""Of a picture in the gallery, in pixels."""
TRUE, EDGE, FOUND = (255, 255, 255), (0, 0, 0), (64, 224, 255)
"""Colours of the truth's outline, of the line around it, and of the box that a model drew."""
DIMMED = 0.45


def true_picture(picture: Image.Image, answer: Answer, places: Float[np.ndarray, "boxes 4"] | None) -> Image.Image:
    """The picture with the true evidence outlined, and the box that the model drew."""
    return _marked(_scaled(picture), answer, places)


def map_picture(
    picture: Image.Image, answer: Answer, method: str, places: Float[np.ndarray, "boxes 4"] | None
) -> Image.Image:
    """The picture with a method's map of its patches or boxes, and the true evidence outlined."""
    segments = answer.maps[method].segments
    image = _scaled(picture)
    if "image" in segments:
        image = overlay(image, segments["image"])
    elif "boxes" in segments and places is not None:
        image = _boxes_map(image, segments["boxes"], places)
    return _marked(image, answer, places)


def _scaled(picture: Image.Image) -> Image.Image:
    return picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def _marked(image: Image.Image, answer: Answer, places: Float[np.ndarray, "boxes 4"] | None) -> Image.Image:
    evidence = answer.asked.evidence
    if evidence.mask is not None:
        image = _outlined(image, evidence.mask)
    pen = ImageDraw.Draw(image)
    if evidence.boxes is not None and places is not None:
        for box in places[evidence.boxes]:
            _frame(pen, box, TRUE)
    if answer.asked.frame is not None:
        _frame(pen, np.array(answer.asked.frame), FOUND)
    return image


def _frame(pen: ImageDraw.ImageDraw, box: Float[np.ndarray, " 4"], colour: tuple[int, int, int]) -> None:
    pen.rectangle(_pixels(box, -1), outline=EDGE, width=4)
    pen.rectangle(_pixels(box, 0), outline=colour, width=2)


def _outlined(image: Image.Image, mask: Bool[np.ndarray, "height width"]) -> Image.Image:
    """A white line along the inner edge of the mask, with a dark one outside, so that it is seen on any ground."""
    smooth = Image.fromarray(mask.astype(np.float32)).resize(image.size, Image.Resampling.BICUBIC)
    inside = np.asarray(smooth) > 0.5
    pixels = np.array(image)
    pixels[_grown(inside, 2) & ~inside] = EDGE
    pixels[inside & _grown(~inside, 2)] = TRUE
    return Image.fromarray(pixels)


def _grown(mask: Bool[np.ndarray, "height width"], by: int) -> Bool[np.ndarray, "height width"]:
    padded = np.pad(mask, by)
    height, width = mask.shape
    shifts = range(2 * by + 1)
    return np.any([padded[y : y + height, x : x + width] for y in shifts for x in shifts], axis=0)


def _boxes_map(image: Image.Image, segment: Segment, places: Float[np.ndarray, "boxes 4"]) -> Image.Image:
    """The picture dimmed, and each box filled with the colour of its relevance, the most relevant on top."""
    one = sample(segment)
    used = token_scale(segment, one)
    along = used.places(one.known)
    strength = used.strength(along)
    drawn = Image.blend(Image.new("RGB", image.size), image, DIMMED)
    for number in np.argsort(strength, kind="stable"):
        colour = tuple(table(used.cmap)[round(float(along[number]) * 255)].tolist())
        cover = Image.new("L", image.size)
        pen = ImageDraw.Draw(cover)
        pen.rectangle(_pixels(places[number], 0), fill=round(float(strength[number]) * 150), outline=255, width=1)
        drawn.paste(Image.new("RGB", image.size, colour), mask=cover)
    return drawn


def _pixels(box: Float[np.ndarray, " 4"], inwards: int) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (np.clip(box, 0, 1) * (SIDE - 1)).tolist()
    return x1 + inwards, y1 + inwards, max(x2 - inwards, x1 + inwards), max(y2 - inwards, y1 + inwards)
