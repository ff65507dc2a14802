"""What the page shows between its fields, as HTML from templates, which escape all that people wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import cast

import numpy as np
from markupsafe import Markup
from PIL.Image import Image

from heedmap.common.printable import number, percent, visible
from heedmap.data.explanation import ExplanationData
from heedmap.data.picture import Picture
from heedmap.models.edits import plain
from heedmap.models.predictions import Prediction
from heedmap.render.html import css_box, fragment, in_themes, macro
from heedmap.render.naming import called
from heedmap.render.overlay import LEAST_SIDE, MOST_SIDE, muted
from heedmap.render.panels import corners, free_corners
from heedmap.render.sample import sample
from heedmap.render.scale import MUTE, Scale, token_scale
from heedmap.render.scale import theme as themed
from heedmap.web.form_inputs import TableRow, offered
from heedmap.web.form_inputs import sample as sample_of

NARROW = 2.0
"""Inches of a picture on a narrow page, where letters are as those of names in a figure."""
THUMB = 96
"""Pixels of the longer side of a sample's small picture."""
NO_SCALES: Mapping[str, Scale] = MappingProxyType({})


def hint(model: str) -> str:
    """What to do next, before anything was explained."""
    return macro("web.hint", model, bool(offered(model)))


def samples(model: str, chosen: int | None = None) -> str:
    """The samples of a model as buttons, each a small picture or a text, the one of number ``chosen`` pressed; ``""`` where there
    are none.
    """
    listed = [(number, sample_of(model, number)) for number in offered(model)]
    shown = [(number, material.name.partition(": ")[2], _small(material.picture)) for number, material in listed]
    return macro("web.samples", shown, chosen) if shown else ""


def error(message: str) -> str:
    """A message that screen readers tell at once; ``""`` where there is none."""
    return macro("web.error", message).strip()


def answer(choices: Sequence[Prediction]) -> str:
    """What the model says, each token to be pressed; ``""`` where it says nothing."""
    tokens = [(n, visible(choice.token), str(choice)) for n, choice in enumerate(choices) if choice.token]
    return fragment(macro("web.said", tokens)) if tokens else ""


def table(rows: Sequence[TableRow]) -> str:
    """A person's own samples with what the model says of each, to be chosen."""
    shown = [(r.name, r.answer, "" if r.probability is None else percent(r.probability), r.error) for r in rows]
    return fragment(macro("web.table", shown))


def framed(picture: Picture | None, choice: Prediction) -> Picture | None:
    """``picture`` with the box of ``choice``, where it has one, as its frame, in shares of the original."""
    if picture is None:
        return None
    return replace(picture, frames={} if choice.box is None else {choice.label: picture.share(choice.box)})


def seen(picture: Picture | None) -> Image | None:
    """``picture`` of a page's size, to lay maps on, with no object drawn: they lie on the maps."""
    if picture is None:
        return None
    return cast("Image", replace(picture.fitted(LEAST_SIDE, MOST_SIDE), frames={}))  # overlay takes Pictures too


def objects(picture: Picture | None, choices: Sequence[Prediction], chosen: int | None) -> Markup:
    """The found objects, to lie on the map of ``picture``; the name of each is a button whose ``data-choice`` is its number.

    Args:
        picture: on which they were found; None: there is none, and nothing lies on it.
        choices: the answers; those without a box are left out.
        chosen: the number of the answer that is explained.
    """
    if picture is None or all(choice.box is None for choice in choices):
        return Markup()
    boxes = [(n, choice, picture.share(choice.box)) for n, choice in enumerate(choices) if choice.box is not None]
    boxes.sort(key=lambda box: box[0] == chosen)  # whose name has the best place
    width, height = picture.image.size
    edges = [corners(box, picture.image.size) for _, _, box in boxes]
    places = free_corners(edges, [plain(choice.label) for _, choice, _ in boxes], picture, NARROW)
    placed = [
        (n, plain(choice.label), str(choice), css_box(box), f"left:{x / width:.3%};top:{y / height:.3%}")
        for (n, choice, box), (x, y) in zip(boxes, places, strict=True)
    ]
    return macro("web.objects", sorted(placed), chosen)


def relevant_boxes(
    picture: Picture | None,
    explanation: ExplanationData,
    scales: Mapping[str, Scale] = NO_SCALES,
    *,
    clickable: bool = False,
) -> Markup:
    """``picture`` with the places of boxes in the colours of their relevance; nothing where there are no boxes.

    Args:
        picture: with as many ``boxes`` as the segment has tokens.
        explanation: of one sample.
        scales: by the segment's name, those that several maps share; without, the segment's own.
        clickable: whether the boxes are buttons to explain from.
    """
    segment = next((segment for segment in explanation.segments.values() if segment.kind == "boxes"), None)
    if picture is None or picture.boxes is None or segment is None:
        return Markup()
    image, drawn = picture.fitted(LEAST_SIDE, MOST_SIDE).image.convert("RGB"), sample(segment)
    used = scales.get(segment.name) or token_scale(segment, drawn)
    places = [tuple(map(float, place)) for place in picture.boxes]
    things = []
    for i, (value, (left, top, right, bottom)) in enumerate(zip(drawn.values, places, strict=False)):
        button = macro("macros.button", segment.name if clickable else "", [i], i == 0)
        pressed = button.strip() or Markup('role="img"')
        words = f"{drawn.named(i)}: {number(float(value))}"
        things.append(((left, top, right, bottom), pressed, words, _edge(used, float(value))))
    both = in_themes(lambda theme: muted(image, MUTE, themed(theme)))
    # Small ones lie above large ones.
    large_first = sorted(things, key=lambda thing: -(thing[0][2] - thing[0][0]) * (thing[0][3] - thing[0][1]))
    shown = [(attributes, name, border, css_box(box)) for box, attributes, name, border in large_first]
    about = f"places of {called(segment.name)}"
    return fragment(macro("web.stack", both, "the picture of the boxes", about, shown))


def _edge(used: Scale, value: float) -> tuple[str, str]:
    """The class of a box's colour, and CSS: the thicker and the less transparent, the more it matters."""
    strength = float(used.strength(used.places(np.asarray(value))))
    border = f"border:{1 + round(4 * strength)}px solid var(--c);opacity:{0.4 + 0.6 * strength:.2f}"
    return used.css_class(value) or "s0", border


def _small(picture: Image | None) -> Image | None:
    if picture is None:
        return None
    small = picture.convert("RGB")
    small.thumbnail((THUMB, THUMB))
    return small
