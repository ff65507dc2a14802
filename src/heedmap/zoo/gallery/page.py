"""The gallery's page, one file that loads nothing and is read without scripts, and its pictures with maps on them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup
from PIL import Image, ImageDraw

from heedmap.render.html import InThemes, document, in_themes, render
from heedmap.render.overlay import ALPHA, muted, outlined, overlay
from heedmap.render.sample import sample
from heedmap.render.scale import MUTE, scale_of, token_scale
from heedmap.render.scale import theme as themed
from heedmap.render.words import text_html
from heedmap.zoo.gallery.show import METHODS, ShownAnswer, ShownModel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jaxtyping import Bool, Float

    from heedmap.explanation_data import Segment

    Maps = Mapping[tuple[str, int, str], InThemes]

TITLE = "heedmap: what small trained models look at"
WORDS = {"text": "words", "image": "patches", "image_encoder": "patches of the tower", "boxes": "boxes"}
PAPERS = "generic"
SIDE = 240
"""Of a picture in the gallery, in pixels."""
TRUE, EDGE, FOUND = (255, 255, 255), (0, 0, 0), (64, 224, 255)
"""Colours of the truth's outline, of the line around it, and of the box that a model drew."""


def gallery_page(models: Sequence[ShownModel], pictures: Maps) -> str:
    """All models on one page.

    Args:
        models: in their order.
        pictures: (model, number of the answer, method) → its map on the picture, of the models that have pictures.
    """
    listed = [_model(model, pictures) for model in models]
    return document(render("gallery.html", models=listed, unit=scale_of([0, 1]), alpha=ALPHA), TITLE, "wide gallery")


def map_picture(
    picture: Image.Image, answer: ShownAnswer, method: str, places: Float[np.ndarray, "boxes 4"] | None
) -> InThemes:
    """The picture with a method's map of its patches or boxes, and the true evidence outlined."""
    segments = answer.maps[method].segments

    def draw(theme: str) -> Image.Image:
        image = _scaled(picture)
        if "image" in segments:
            patches = segments["image"]
            grid = patches.grid or answer.asked.evidence.grid
            image = overlay(image, replace(patches, grid=grid), theme=theme)
        elif "boxes" in segments and places is not None:
            image = _boxes_map(image, segments["boxes"], places, theme)
        return _marked(image, answer, places)

    return in_themes(draw)


def _model(model: ShownModel, pictures: Maps) -> dict[str, object]:
    return {
        "name": model.name,
        "architecture": model.architecture,
        "about": model.about,
        "kind": "lines" if model.picture is None else "pictures",
        "answers": [_answer(model, number, answer, pictures) for number, answer in enumerate(model.answers)],
    }


def _answer(model: ShownModel, number: int, answer: ShownAnswer, pictures: Maps) -> dict[str, object]:
    """What the model was given, with the true evidence marked, and the map of each method."""
    truth = None if model.picture is None else _true_picture(model.picture, answer, model.sample.places)
    return {
        "title": answer.asked.title,
        "truth": truth,
        "plain": _tokens(answer, METHODS[0]),
        "maps": [
            _map(answer, method, pictures.get((model.name, number, method)))
            for method in METHODS
            if method in answer.maps
        ],
    }


def _map(answer: ShownAnswer, method: str, picture: InThemes | None) -> dict[str, object]:
    segments = answer.maps[method].segments
    facts = [
        {
            "words": WORDS[name],
            "inside": answer.inside(method, name),
            "about": token_scale(segments[name], sample(segments[name])).about(),
        }
        for name in answer.evidence
        if name in segments
    ]
    tokens = _tokens(answer, method)
    return {"method": method, "paper": method == PAPERS, "picture": picture, "tokens": tokens, "facts": facts}


def _tokens(answer: ShownAnswer, method: str) -> Markup:
    segments = answer.maps[method].segments
    if "text" not in segments:
        return Markup()
    marked = np.flatnonzero(answer.evidence.get("text", np.zeros(0)) > 0).tolist()
    return text_html(segments["text"], marked=marked)


def _true_picture(
    picture: Image.Image, answer: ShownAnswer, places: Float[np.ndarray, "boxes 4"] | None
) -> Image.Image:
    """The picture with the true evidence outlined, and the box that the model drew."""
    return _marked(_scaled(picture), answer, places)


def _scaled(picture: Image.Image) -> Image.Image:
    return picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def _marked(image: Image.Image, answer: ShownAnswer, places: Float[np.ndarray, "boxes 4"] | None) -> Image.Image:
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
    """The edge of the mask, smoothed, since it is of fewer pixels than the image."""
    smooth = Image.fromarray(mask.astype(np.float32)).resize(image.size, Image.Resampling.BICUBIC)
    return outlined(image, np.asarray(smooth) > 0.5, 2)


def _boxes_map(image: Image.Image, segment: Segment, places: Float[np.ndarray, "boxes 4"], theme: str) -> Image.Image:
    """The picture muted, and each box filled with the colour of its relevance, the most relevant on top."""
    boxes = sample(segment)
    used = token_scale(segment, boxes)
    along = used.places(boxes.known)
    strength = used.strength(along)
    drawn = muted(image, MUTE, themed(theme))
    colours = used.colours(themed(theme), over=True)
    for number in np.argsort(strength, kind="stable"):
        colour = tuple(colours[round(float(along[number]) * 255)].tolist())
        cover = Image.new("L", image.size)
        pen = ImageDraw.Draw(cover)
        pen.rectangle(_pixels(places[number], 0), fill=round(float(strength[number]) * 150), outline=255, width=1)
        drawn.paste(Image.new("RGB", image.size, colour), mask=cover)
    return drawn


def _pixels(box: Float[np.ndarray, " 4"], inwards: int) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (np.clip(box, 0, 1) * (SIDE - 1)).tolist()
    return x1 + inwards, y1 + inwards, max(x2 - inwards, x1 + inwards), max(y2 - inwards, y1 + inwards)
