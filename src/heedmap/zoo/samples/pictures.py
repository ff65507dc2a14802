"""Samples of the models that look at pictures: labels, detection, captions, and questions about the boxes of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from heedmap.attention.forward import output_of
from heedmap.outputs import class_logits, needed, no_object, object_probabilities
from heedmap.zoo import world
from heedmap.zoo.samples.sample import SEED, SPLIT, Evidence, KnownAnswer, Material, ZooSample, objects_mask
from heedmap.zoo.world import Caption, Object, Question, Scene, SceneRegions
from heedmap.zoo.world.regions import overlap

if TYPE_CHECKING:
    from jaxtyping import Float32

    from heedmap.models.model import Model
    from heedmap.types import Boxes

    Pair = ZooSample[tuple[Scene, Caption]]
    Asked = ZooSample[tuple[Question, SceneRegions]]

SURE = 0.5
"""A detection counts as one from this probability."""
NEAR = 0.5
"""A detection is right from this intersection over union with an object of its shape."""
WRONG = 31
"""Captions that the right one is told from."""


def _scene(index: int) -> ZooSample[Scene]:
    scene = world.make_scene(SEED, SPLIT, index)
    return ZooSample({"image": scene.image}, ", ".join(_look(o) for o in scene.objects), scene, scene.image)


def _look(item: Object) -> str:
    return f"{item.colour} {item.shape}"


def shown_by(scene: Scene, label: str) -> list[int]:
    """Numbers of the objects that a label fits: a shape, a colour, or both, in any order and spelling of the gap."""
    words = set(label.lower().replace("_", " ").replace("-", " ").split())
    return [number for number, o in enumerate(scene.objects) if words and words <= {o.shape, o.colour, o.size}]


def _labels(subject: Model, samples: Sequence[ZooSample[Scene]], output: object) -> list[list[KnownAnswer]]:
    """The labels that are more probable than not, and right."""
    names = subject.class_names
    asked = []
    for sample, logits in zip(samples, class_logits(output, 2), strict=True):
        likely = [(index, shown_by(sample.truth, names[index])) for index in (logits > 0).nonzero()[:, 0].tolist()]
        asked.append(
            [KnownAnswer(names[i], (i,), Evidence(mask=objects_mask(sample.truth, fits))) for i, fits in likely if fits]
        )
    return asked


def _detections(subject: Model, samples: Sequence[ZooSample[Scene]], output: object) -> list[list[KnownAnswer]]:
    """The kept queries (probability over :data:`SURE`, without "no object") that found an object."""
    logits = class_logits(output, 3)
    none = no_object(logits, subject.context({}), subject.name)
    probability, labels = object_probabilities(logits, none).max(-1)
    asked: list[list[KnownAnswer]] = [[] for _ in samples]
    for row, query in (probability > SURE).nonzero().tolist():
        name = subject.class_names[int(labels[row, query])]
        frame = _corners(needed(output, "pred_boxes")[row, query])
        number = _found(samples[row].truth, name, frame)
        if number is not None:
            title = f"{name}, object query {query} ({float(probability[row, query]):.0%} sure)"
            evidence = Evidence(mask=samples[row].truth.objects[number].mask)
            x1, y1, x2, y2 = frame.tolist()
            asked[row].append(KnownAnswer(title, (query, int(labels[row, query])), evidence, (x1, y1, x2, y2)))
    return asked


def _corners(box: torch.Tensor) -> Float32[np.ndarray, " 4"]:
    x, y, width, height = box.tolist()
    return np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2], dtype=np.float32)


def _found(scene: Scene, label: str, frame: Float32[np.ndarray, " 4"]) -> int | None:
    """The object of this label that the frame lies on best; None: on none well enough."""
    fits = shown_by(scene, label)
    if not fits:
        return None
    true = np.array([scene.objects[number].box for number in fits], dtype=np.float32) / np.float32(scene.side)
    overlaps = overlap(frame[None], true)[0]
    return fits[int(overlaps.argmax())] if overlaps.max() >= NEAR else None


def _caption(index: int) -> Pair:
    scene = world.make_scene(SEED, SPLIT, index)
    caption = world.caption(scene)
    return ZooSample({"text": caption.text, "image": scene.image}, caption.text, (scene, caption), scene.image)


def _pairs(subject: Model, samples: Sequence[Pair], output: object) -> list[list[KnownAnswer]]:
    """The similarity of a picture and its caption, where it is greater than that of :data:`WRONG` wrong ones."""
    answers = []
    for sample in samples:
        scene, caption = sample.truth
        texts = [caption.text, *(wrong.text for wrong in world.distractors(scene, WRONG))]
        similar = output_of(subject.model, subject.inputs(text=texts, image=scene.image)).logits_per_image[0]
        mask = objects_mask(scene, sorted({o for mention in caption.mentions for o in mention.objects}))
        evidence = Evidence(words=tuple((w.start, w.end) for w in caption.words), mask=mask)
        asked = KnownAnswer(f"picture and “{caption.text}”", (), evidence)
        answers.append([asked] if int(similar.argmax()) == 0 else [])
    return answers


LABELS = Material(
    about=(
        "An image classifier with a yes or no for each label. Every label that it rightly finds is explained by a map of "
        "its own; the true evidence is the pixels of the objects that the label fits."
    ),
    make=_scene,
    ask=_labels,
    least=2,
)

DETECTION = Material(
    about=(
        "A detector whose object queries each look for one object. Every query that is kept (probability over 0.5) and "
        "right is explained; the true evidence is the pixels of its object."
    ),
    make=_scene,
    ask=_detections,
    least=2,
)

CAPTIONS = Material(
    about=(
        "A dual encoder that tells how well a picture and a caption fit. Their similarity is explained in both "
        "directions: by the patches of the picture and by the words of the caption."
    ),
    make=_caption,
    ask=_pairs,
)


def _placed_question(index: int) -> Asked:
    """The same for VisualBERT, which takes no places: they are four more features."""
    sample = _question(index)
    _, regions = sample.truth
    features = np.concatenate([regions.features, regions.positions], 1)
    return replace(sample, inputs={**sample.inputs, "boxes": {**sample.inputs["boxes"], "features": features}})


def _question(index: int) -> Asked:
    """One question about each scene, of each kind in turn."""
    scene = world.make_scene(SEED, SPLIT, index)
    questions = world.ask(scene)
    question = questions[index % len(questions)]
    regions = world.regions(scene)
    boxes: Boxes = {"features": regions.features, "boxes": regions.positions, "labels": _names(scene, regions)}
    return ZooSample(
        {"text": question.text, "boxes": boxes}, question.answer, (question, regions), scene.image, regions.positions
    )


def _names(scene: Scene, regions: SceneRegions) -> list[str]:
    return ["background" if number < 0 else _look(scene.objects[number]) for number in regions.objects.tolist()]


def _answers(subject: Model, samples: Sequence[Asked], output: object) -> list[list[KnownAnswer]]:
    """The most probable answer, where it is right."""
    best = class_logits(output, 2).argmax(-1).tolist()
    asked = []
    for sample, index in zip(samples, best, strict=True):
        right = subject.class_names[index] == sample.answer
        asked.append(
            [KnownAnswer(f"{sample.inputs['text']} {sample.answer}", (index,), _evidence(sample))] if right else []
        )
    return asked


def _evidence(sample: Asked) -> Evidence:
    """The telling words; the boxes of the objects asked about, where the answer is not that there are none."""
    question, regions = sample.truth
    boxes = np.isin(regions.objects, question.objects)
    return Evidence(tuple((w.start, w.end) for w in question.words), boxes=boxes if boxes.any() else None)


QUESTIONS = Material(
    about=(
        "A question about ten boxes of a picture, given as their features: some are of objects, the others of the "
        "background. The true evidence is the telling words of "
        "the question and the boxes of the objects it is about."
    ),
    make=_question,
    ask=_answers,
    shown=20,
)

PLACED_QUESTIONS = replace(QUESTIONS, make=_placed_question)
