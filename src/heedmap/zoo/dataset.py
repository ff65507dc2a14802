"""The test split of the zoo's worlds as a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heedmap.datasets.sample import Sample, SampleInputs
from heedmap.errors import InputError
from heedmap.models.media import rgb
from heedmap.models.names import PREFIX
from heedmap.zoo.material import SEED, SPLIT, Material, TruthKind, TruthOf, ZooSample
from heedmap.zoo.samples import MATERIALS, right_answer
from heedmap.zoo.world.scene import SPLITS

if TYPE_CHECKING:
    from heedmap.models.model import Model


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
        told = {"kind": "shapes", "split": SPLIT, "seed": SEED, "samples": len(self.keys)}
        self.description: Mapping[str, object] = told

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
    return _samples(subject, "answer")


def masked(subject: Model) -> ZooSamples:
    """What a zoo model is asked while tokens are masked: as :func:`answered`, and of one that says or labels words one of them.

    Raises:
        InputError: it is no model of the zoo, or one that does none of these.
    """
    return _samples(subject, "answer", "said")


def shown(subject: Model) -> ZooSamples:
    """Pictures with the mask of each object, for detection and segmentation.

    Raises:
        InputError: it is no model of the zoo, or one that finds no objects.
    """
    return _samples(subject, "objects")


def plain(subject: Model) -> ZooSamples:
    """Samples of any model of the zoo, where what is true of them does not matter.

    Raises:
        InputError: it is no model of the zoo.
    """
    return _reader(subject, dict.fromkeys(MATERIALS, right_answer))


def first(subject: Model, material: Material, count: int) -> ZooSamples:
    """The first samples of the test split, with their true evidence."""
    return ZooSamples(subject, right_answer, material, count)


def _samples(subject: Model, *kinds: TruthKind) -> ZooSamples:
    """With the first of these kinds of truth that is known for the model."""
    truths: dict[str, TruthOf] = {}
    for kind in kinds:
        for name, material in MATERIALS.items():
            if kind in material.truths:
                truths.setdefault(name, material.truths[kind])
    return _reader(subject, truths)


def _reader(subject: Model, truths: Mapping[str, TruthOf]) -> ZooSamples:
    truth_of = truths.get(subject.name.removeprefix(PREFIX))
    if truth_of is None:
        raise InputError(
            f"there are no samples of our own for {subject.name}; give a data set, or one of "
            f"{', '.join(PREFIX + name for name in truths)}"
        )
    return ZooSamples(subject, truth_of)
