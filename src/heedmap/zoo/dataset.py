"""The test split of the zoo's worlds as a data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from heedmap.datasets.sample import Found, Match, Objects, RightAnswers, Said, Sample, SampleInputs, Truth
from heedmap.errors import InputError
from heedmap.models.image import rgb
from heedmap.models.names import PREFIX
from heedmap.zoo.samples import MATERIALS, Material, ZooSample
from heedmap.zoo.samples.pictures import WRONG, shown_by
from heedmap.zoo.samples.sample import SEED, SPLIT
from heedmap.zoo.samples.texts import said_of_date, said_of_list
from heedmap.zoo.world import distractors
from heedmap.zoo.world.scene import SPLITS

if TYPE_CHECKING:
    from heedmap.models.model import Model
    from heedmap.zoo.dates import DateSample
    from heedmap.zoo.lists import ListSample
    from heedmap.zoo.world import Caption, Scene

TruthOf: TypeAlias = "Callable[[Model, ZooSample, int], Truth]"


def _answer(subject: Model, sample: ZooSample, index: int) -> Truth:
    return RightAnswers({sample.answer: 1.0})


def _label(subject: Model, sample: ZooSample[Scene], index: int) -> Truth:
    """One label that fits the picture, each in turn."""
    fits = [name for name in subject.class_names.values() if shown_by(sample.truth, name)]
    return RightAnswers({fits[index % len(fits)]: 1.0})


def _match(subject: Model, sample: ZooSample[tuple[Scene, Caption]], index: int) -> Truth:
    scene, _ = sample.truth
    return Match(tuple(wrong.text for wrong in distractors(scene, WRONG)))


def _objects(subject: Model, sample: ZooSample[Scene], index: int) -> Truth:
    """The objects that each of the model's labels fits: once a label, for an object may have a shape's and a colour's."""
    objects = []
    for label in subject.class_names.values():
        for number in shown_by(sample.truth, label):
            shown = sample.truth.objects[number]
            x1, y1, x2, y2 = shown.box
            objects.append(Found(label, (x1, y1, x2 - x1, y2 - y1), shown.mask, False, float(shown.mask.sum())))
    return Objects(tuple(objects))


TRUTHS: Mapping[str, TruthOf] = {
    "clip-shapes": _match,
    "lxmert-shapes": _answer,
    "swin-shapes": _label,
    "visualbert-shapes": _answer,
    "vit-shapes": _label,
}
"""Model of the zoo that answers or matches → what is true of a sample of its test split."""


def _in_list(subject: Model, sample: ZooSample[ListSample], index: int) -> Truth:
    return Said(*said_of_list(subject, sample, index))


def _in_date(subject: Model, sample: ZooSample[DateSample], index: int) -> Truth:
    return Said(*said_of_date(subject, sample, index))


SAID: Mapping[str, TruthOf] = {
    "bamba-lists": _in_list,
    "bart-dates": _in_date,
    "convbert-lists": _in_list,
    "gpt-lists": _in_list,
    "mamba-lists": _in_list,
}
"""Model of the zoo that says words, or labels them → what is right at one place."""


OBJECTS: Mapping[str, TruthOf] = dict.fromkeys(
    ("deformable-shapes", "detr-shapes", "swin-shapes", "vit-shapes"), _objects
)
"""Model of the zoo that finds objects, or their labels → all that a sample of its test split shows."""


@dataclass(frozen=True, eq=False)
class KnownSample(Sample):
    """A sample of the zoo.

    Attributes:
        made: the same with all that is known of it.
    """

    made: ZooSample


class ZooSamples:
    """A :class:`~heedmap.datasets.sample.Reader` of the test split of a zoo model's world.

    Args:
        subject: a model of the zoo.
        truth_of: (subject, sample, index) → what is true.
        material: what makes the samples; None: what belongs to the model by its name.
        count: so many at most, the first ones.
    """

    def __init__(
        self, subject: Model, truth_of: TruthOf, material: Material | None = None, count: int = SPLITS[SPLIT]
    ) -> None:
        self._subject, self._truth = subject, truth_of
        self._make = (material or MATERIALS[subject.name.removeprefix(PREFIX)]).make
        self.keys: Sequence[str] = [str(index) for index in range(min(count, SPLITS[SPLIT]))]
        self.problems: Mapping[str, str] = {}
        self.description: Mapping[str, object] = {
            "kind": "shapes",
            "split": SPLIT,
            "seed": SEED,
            "samples": len(self.keys),
        }

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> KnownSample:
        sample = self._make(index)
        inputs: SampleInputs = {**sample.inputs}
        if "image" in inputs:
            inputs["image"] = rgb(inputs["image"])
        return KnownSample(self.keys[index], inputs, self._truth(self._subject, sample, index), sample)


def answered(subject: Model) -> ZooSamples:
    """What a zoo model is asked in a perturbation.

    Raises:
        InputError: it is no model of the zoo, or one that neither answers nor matches.
    """
    return _samples(subject, TRUTHS)


def masked(subject: Model) -> ZooSamples:
    """What a zoo model is asked while tokens are masked: as :func:`answered`, and of one that says or labels words one of them.

    Raises:
        InputError: it is no model of the zoo, or one that does none of these.
    """
    return _samples(subject, {**TRUTHS, **SAID})


def shown(subject: Model) -> ZooSamples:
    """Pictures with the mask of each object, for detection and segmentation.

    Raises:
        InputError: it is no model of the zoo, or one that finds no objects.
    """
    return _samples(subject, OBJECTS)


def plain(subject: Model) -> ZooSamples:
    """Samples of any model of the zoo, where what is true of them does not matter.

    Raises:
        InputError: it is no model of the zoo.
    """
    return _samples(subject, dict.fromkeys(MATERIALS, _answer))


def first(subject: Model, material: Material, count: int) -> ZooSamples:
    """The first samples of the test split, with their true evidence."""
    return ZooSamples(subject, _answer, material, count)


def _samples(subject: Model, truths: Mapping[str, TruthOf]) -> ZooSamples:
    truth_of = truths.get(subject.name.removeprefix(PREFIX))
    if truth_of is None:
        raise InputError(
            f"there are no samples of our own for {subject.name}; give a data set, or one of "
            f"{', '.join(PREFIX + name for name in truths)}"
        )
    return ZooSamples(subject, truth_of)
