"""A sample of a zoo model, explained by every method of the gallery."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from heedmap.engine import explain
from heedmap.errors import AttentionError, ModelLoadError
from heedmap.evaluate.metrics.evidence import share
from heedmap.zoo.evidence import weights
from heedmap.zoo.samples import MATERIALS, KnownAnswer, ZooSample
from heedmap.zoo.samples.sample import Batch, right_ones

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from PIL import Image

    from heedmap.explanation import Explanation
    from heedmap.models.model import Model
    from heedmap.targets import Target

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
    from PIL import Image

    if sample.picture is None:
        return None
    return subject.shown_image(sample.picture) if "image" in sample.inputs else Image.fromarray(sample.picture)
