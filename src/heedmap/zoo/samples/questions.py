"""Samples of the models that answer questions about the boxes of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from heedmap.zoo import world
from heedmap.zoo.samples.sample import SEED, SPLIT, Asked, Evidence, Material, ZooSample

if TYPE_CHECKING:
    from heedmap.models.model import Model


def _placed_question(index: int) -> ZooSample:
    """The same for VisualBERT, which takes no places: they are four more features."""
    sample = _question(index)
    boxes = sample.inputs["boxes"]
    features = np.concatenate([boxes["features"], boxes["boxes"]], 1)
    return replace(sample, inputs={**sample.inputs, "boxes": {**boxes, "features": features}})


def _question(index: int) -> ZooSample:
    """One question about each scene, of each kind in turn."""
    scene = world.make_scene(SEED, SPLIT, index)
    questions = world.ask(scene)
    question = questions[index % len(questions)]
    regions = world.regions(scene)
    boxes = {"features": regions.features, "boxes": regions.positions, "labels": _names(scene, regions)}
    inputs = {"text": question.text, "boxes": boxes}
    return ZooSample(inputs, question.answer, (question, regions), scene.image, regions.positions)


def _names(scene: world.Scene, regions: world.Regions) -> list[str]:
    return [
        "background" if number < 0 else f"{scene.objects[number].colour} {scene.objects[number].shape}"
        for number in regions.objects.tolist()
    ]


def _answers(subject: Model, samples: Sequence[ZooSample], output: Any) -> list[list[Asked]]:
    """The most probable answer, where it is right."""
    from heedmap.targets import class_logits

    best = class_logits(output, 2).argmax(-1).tolist()
    found = []
    for sample, index in zip(samples, best, strict=True):
        right = subject.config.id2label[index] == sample.answer
        found.append([Asked(f"{sample.inputs['text']} {sample.answer}", (index,), _evidence(sample))] if right else [])
    return found


def _evidence(sample: ZooSample) -> Evidence:
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
