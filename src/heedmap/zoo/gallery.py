"""A page that shows what every model of the zoo looks at, by the paper's method and its baselines: one file, no script."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup
from PIL import Image, ImageDraw

from heedmap.engine.explain import explain
from heedmap.errors import AttentionError, ModelLoadError
from heedmap.evaluate.evidence import share
from heedmap.render.html import InThemes, document, in_themes, render
from heedmap.render.overlay import ALPHA, muted, outlined, overlay
from heedmap.render.sample import sample
from heedmap.render.scale import MUTE, scale_of, token_scale
from heedmap.render.scale import theme as themed
from heedmap.render.words import text_html
from heedmap.zoo.evidence import weights
from heedmap.zoo.material import Batch, KnownAnswer, ZooSample, right_ones
from heedmap.zoo.samples import MATERIALS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jaxtyping import Bool, Float

    from heedmap.data.segments import Segment
    from heedmap.explanation import Explanation
    from heedmap.models.model import Model
    from heedmap.targets import Target

    Maps = Mapping[tuple[str, int, str], InThemes]

METHODS = ("generic", "raw_attention", "rollout", "attention_gradcam", "random")
"""The paper's, three baselines and chance."""

MOST = 4
"""Answers of a sample that are shown."""
TRIED = 50
"""Samples that are looked at for one that is answered rightly."""


@dataclass(frozen=True, eq=False)
class ShownAnswer:
    """One answer with its maps.

    Attributes:
        asked: what was explained.
        maps: method → explanation.
        evidence: segment → how much of each token is true evidence, 0 to 1.
    """

    asked: KnownAnswer
    maps: Mapping[str, Explanation]
    evidence: Mapping[str, np.ndarray]

    def inside(self, method: str, segment: str) -> float:
        """The part of a method's relevance in a segment that lies on the evidence."""
        weight = self.evidence[segment]
        return share(self.maps[method][segment][0, : len(weight)].double().numpy(), weight)


@dataclass(frozen=True, eq=False)
class ShownModel:
    """What the gallery shows of one model.

    Attributes:
        name: of the model, without ``zoo/``.
        about: a sentence on it.
        architecture: its class.
        sample: the sample.
        picture: as the model saw it, where there is one.
        answers: one or more.
    """

    name: str
    about: str
    architecture: str
    sample: ZooSample
    picture: Image.Image | None
    answers: tuple[ShownAnswer, ...]


def show(subject: Model, name: str) -> ShownModel:
    """Explain the gallery's sample of the model called ``name``, all its answers at once.

    Raises:
        ModelLoadError: the model is right about none of the samples, so it is not the one that was shipped.
    """
    batch = _batch(subject, name)
    sample, asked = batch.samples[0], batch.asked[0][:MOST]
    targets = batch.targets()[: len(asked)]
    maps = _maps(subject, batch, targets)
    answers = (
        ShownAnswer(
            question,
            {method: replace(batched[number], target=(question.title,)) for method, batched in maps.items()},
            weights(subject, sample, question.evidence, maps[METHODS[0]][number].segments),
        )
        for number, question in enumerate(asked)
    )
    about, architecture = MATERIALS[name].about, type(subject.model).__name__
    return ShownModel(name, about, architecture, sample, _picture(subject, sample), tuple(answers))


def _maps(subject: Model, batch: Batch, targets: list[Target]) -> dict[str, list[Explanation]]:
    """By method; without those that are not defined for the model, such as rollout through sampled points."""
    maps = {}
    for method in METHODS:
        try:
            maps[method] = explain(subject, batch.inputs, target=targets, method=method)
        except AttentionError:
            if method == METHODS[0]:
                raise
    return maps


def _batch(subject: Model, name: str) -> Batch:
    """The first sample, from the gallery's own on, that has enough right answers; else one with any."""
    material = MATERIALS[name]
    any_right: Batch | None = None
    for index in range(material.shown, material.shown + TRIED):
        batch = right_ones(subject, material, [material.make(index)])
        if batch.samples and _distinct(batch.asked[0]) >= material.least:
            return batch
        any_right = any_right or (batch if batch.samples else None)
    if any_right is None:
        last = material.shown + TRIED - 1
        raise ModelLoadError(
            f"zoo/{name} is wrong about every test sample from {material.shown} to {last}; install heedmap again"
        )
    return any_right


def _distinct(asked: Sequence[KnownAnswer]) -> int:
    """How many of the answers rest on evidence of their own."""
    evidence = [question.evidence for question in asked]
    return len({(e.words, None if e.mask is None else e.mask.tobytes()) for e in evidence})


def _picture(subject: Model, sample: ZooSample) -> Image.Image | None:
    if sample.picture is None:
        return None
    return subject.shown_image(sample.picture) if "image" in sample.inputs else Image.fromarray(sample.picture)


TITLE = "heedmap: what small trained models look at"
WORDS = {"text": "words", "image": "patches", "image_encoder": "patches of the tower", "boxes": "boxes"}
SIDE = 240
"""Of a picture in the gallery, in pixels."""
TRUE, EDGE, FOUND = (255, 255, 255), (0, 0, 0), (64, 224, 255)
"""Colours of the truth's outline, of the line around it, and of the box that a model drew."""


def gallery_page(models: Sequence[ShownModel], pictures: Maps) -> str:
    """All models on one page; ``pictures``: (model, number of the answer, method) → its map, where there is a picture."""
    listed = [
        {
            "name": model.name,
            "architecture": model.architecture,
            "about": model.about,
            "kind": "lines" if model.picture is None else "pictures",
            "answers": [_answer(model, number, answer, pictures) for number, answer in enumerate(model.answers)],
        }
        for model in models
    ]
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


def _answer(model: ShownModel, number: int, answer: ShownAnswer, pictures: Maps) -> dict[str, object]:
    """What the model was given, with the true evidence marked, and the map of each method."""
    truth = None if model.picture is None else _marked(_scaled(model.picture), answer, model.sample.places)
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
    return {"method": method, "paper": method == METHODS[0], "picture": picture, "tokens": tokens, "facts": facts}


def _tokens(answer: ShownAnswer, method: str) -> Markup:
    segments = answer.maps[method].segments
    if "text" not in segments:
        return Markup()
    marked = np.flatnonzero(answer.evidence.get("text", np.zeros(0)) > 0).tolist()
    return text_html(segments["text"], marked=marked)


def _scaled(picture: Image.Image) -> Image.Image:
    return picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def _marked(image: Image.Image, answer: ShownAnswer, places: Float[np.ndarray, "boxes 4"] | None) -> Image.Image:
    """The picture with the true evidence outlined, and the box that the model drew."""
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
