"""What a sample of a zoo model is, and how many of them become one batch with several targets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Literal, TypeAlias, TypedDict, TypeVar

import torch

from heedmap.attention.forward import output_of
from heedmap.evaluate.answer import inputs_of, target_of
from heedmap.targets import Target

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Bool, Float32, UInt8

    from heedmap.datasets.sample import Truth
    from heedmap.models.model import Model
    from heedmap.types import Boxes
    from heedmap.zoo.world import Scene

SEED = 0
SPLIT = "test"

Made = TypeVar("Made")
"""Of what a sample was made: a :class:`~heedmap.zoo.world.Scene` with its question, a date, a list."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What an answer truly rests on; None: this part of the input has none, or is not there.

    Attributes:
        words: characters of ``inputs["text"]``, from and to.
        mask: pixels of the picture.
        boxes: which of the boxes.
        grid: rows and columns of the picture's tokens, where a map does not tell: one that stops at merged patches.
    """

    words: tuple[tuple[int, int], ...] | None = None
    mask: Bool[np.ndarray, "height width"] | None = None
    boxes: Bool[np.ndarray, " boxes"] | None = None
    grid: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False)
class KnownAnswer:
    """One answer of a model about a sample, to be explained.

    Attributes:
        title: what is explained, in words.
        place: index of its score in the sample's own logits; empty for the similarity of a pair.
        evidence: what it truly rests on.
        frame: the box that the model drew, x1, y1, x2, y2 as shares of the side.
    """

    title: str
    place: tuple[int, ...]
    evidence: Evidence
    frame: tuple[float, float, float, float] | None = None


class ZooInputs(TypedDict, total=False):
    """What a model of the zoo is asked of a sample, by the names of ``heedmap.Model.explain``."""

    text: str
    image: UInt8[np.ndarray, "height width 3"]
    boxes: Boxes


@dataclass(frozen=True, eq=False)
class ZooSample(Generic[Made]):
    """A sample of the test split.

    Attributes:
        inputs: for ``subject.explain``.
        answer: what is right, in words.
        truth: of what it was made.
        picture: to be shown; None: there is none.
        places: of its boxes, x1, y1, x2, y2 as shares of the side; None: there are none.
        begun: the text that a decoder is given to go on from; None: the model has no decoder.
    """

    inputs: ZooInputs
    answer: str
    truth: Made
    picture: UInt8[np.ndarray, "height width 3"] | None = None
    places: Float32[np.ndarray, "boxes 4"] | None = None
    begun: str | None = None


TruthKind = Literal["answer", "said", "objects"]
"""What is true of a sample: what may be answered or does not match, what is right at one place of words, or all that it shows."""
TruthOf: TypeAlias = "Callable[[Model, ZooSample[Made], int], Truth]"
"""(subject, sample, its index) → what is true."""


@dataclass(frozen=True)
class Material(Generic[Made]):
    """Samples for a model.

    Attributes:
        about: a sentence on what the model does and what the true evidence is.
        make: index in the test split → sample.
        ask: (subject, sample, the model's output for some samples, row of this one there) → what the model answered rightly.
        shown: the first index that the gallery looks at.
        least: answers with evidence of their own that a sample must have to be shown.
        inputs: (subject, samples) → what the model is called with.
        truths: what is true of a sample, for the kinds that there are.
    """

    about: str
    make: Callable[[int], ZooSample[Made]]
    ask: Callable[[Model, ZooSample[Made], object, int], Iterable[KnownAnswer]]
    shown: int = 0
    least: int = 1
    inputs: Callable[[Model, Sequence[ZooSample[Made]]], Mapping[str, object]] = inputs_of
    truths: Mapping[TruthKind, TruthOf[Made]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples of which the model answered something rightly.

    Attributes:
        samples: in order.
        asked: for each its answers, one or more.
        inputs: what the model is called with.
        numbers: places of the samples among those that were looked at.
    """

    samples: Sequence[ZooSample]
    asked: Sequence[Sequence[KnownAnswer]]
    inputs: Mapping[str, object]
    numbers: Sequence[int]

    def targets(self) -> list[Target]:
        """As many as the sample with the most answers has; a sample with fewer repeats its last."""
        most = max(map(len, self.asked), default=0)
        return [
            target_of([answers[min(slot, len(answers) - 1)].place for answers in self.asked]) for slot in range(most)
        ]


def right_ones(subject: Model, material: Material, samples: Sequence[ZooSample]) -> Batch:
    """The samples about which the model is right in something, from one forward pass."""
    inputs = material.inputs(subject, samples)
    output = output_of(subject.model, inputs)
    asked = [list(material.ask(subject, sample, output, row)) for row, sample in enumerate(samples)]
    keep = [number for number, answers in enumerate(asked) if answers]
    kept = {
        name: value[keep] if isinstance(value, torch.Tensor) and len(value) == len(samples) else value
        for name, value in inputs.items()
    }
    return Batch([samples[number] for number in keep], [asked[number] for number in keep], kept, keep)


def objects_mask(scene: Scene, numbers: Sequence[int]) -> Bool[np.ndarray, "height width"]:
    """The pixels of these objects of a scene."""
    import numpy as np

    return np.any([scene.objects[number].mask for number in numbers], axis=0)
