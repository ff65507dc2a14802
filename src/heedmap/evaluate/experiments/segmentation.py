"""How well a classifier's maps cover what they should: the pixels of the object that the explained label is about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from heedmap.attention.forward import output_of
from heedmap.datasets.sample import Foreground, Objects
from heedmap.errors import InputError, OptionError, SampleError
from heedmap.evaluate.answer import all_class_names, maps_of, repeated, seen_mask, tried
from heedmap.evaluate.evaluation import Findings, MethodSpec, Part
from heedmap.evaluate.evidence import (
    AREAS,
    CUTS,
    areas,
    average_precision,
    checked,
    cut,
    listed,
    meant,
    plain,
    pointing,
    share,
    upsampled,
)
from heedmap.evaluate.statistics import Measure, Row, Statistic, number_of, word_of
from heedmap.models.media import rgb
from heedmap.targets import class_logits

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int64

    from heedmap.datasets.sample import Sample
    from heedmap.models.model import Model

    Mask = Bool[np.ndarray, "height width"]

TARGETS = ("top", "label", "found")
"""Which labels are explained: the model's top one; each that is true; each that is true and that the model finds (its
logit is over 0: for models with a yes and no for each label)."""
MEANS = {"ap": "mAP", "pointing": "pointing game", "share": "share of the relevance inside"}


@dataclass(frozen=True, eq=False)
class _ExplainedLabel:
    """A label that is explained, and the pixels it is about, on the picture that the model sees."""

    label: str
    index: int
    mask: Mask
    counted: Mask


@dataclass(frozen=True)
class Segmentation:
    """The evaluation, with its settings.

    A sample's truth is a Foreground, which is what its label is about (and whatever label is on top, as in the authors'
    protocol), or Objects, of which those that have the label count. Masks are laid on the picture as the model sees it.

    Attributes:
        threshold: where maps are cut, one of :data:`~heedmap.evaluate.evidence.CUTS`.
        target: one of :data:`TARGETS`.

    Raises:
        OptionError: another threshold or target.
    """

    threshold: str = "mean"
    target: str = "top"
    name = "segmentation"
    together = False

    def __post_init__(self) -> None:
        for what, value, known in (("threshold", self.threshold, CUTS), ("target", self.target, TARGETS)):
            if value not in known:
                raise OptionError(f"{what} is {value!r}; expected one of {', '.join(known)}")

    @property
    def settings(self) -> Mapping[str, object]:
        """See :class:`~heedmap.evaluate.evaluation.Evaluation`."""
        return {"threshold": self.threshold, "target": self.target}

    def check(self, subject: Model) -> None:
        """See :class:`~heedmap.evaluate.evaluation.Evaluation`: one forward pass tells whether it is a classifier."""
        _logits(subject, tried(subject))

    def rows(self, subject: Model, samples: Sequence[Sample], contenders: Sequence[MethodSpec], seed: int) -> Part:
        """See :class:`~heedmap.evaluate.evaluation.Evaluation`: a row for each sample, label and contender."""
        inputs: Mapping[str, object] = subject.inputs(image=[sample.inputs["image"] for sample in samples])
        logits = _logits(subject, output_of(subject.model, inputs))
        asked, skipped = self._asked(subject, samples, logits)
        if not asked:
            return [], skipped
        inputs = repeated(inputs, len(samples), torch.tensor(list(asked), device=logits.device))
        places = [[(label.index,) for label in labels] for labels in asked.values()]
        rows: list[Row] = []
        for contender in contenders:
            maps = maps_of(subject, inputs, places, contender, seed)
            for (number, labels), grids in zip(asked.items(), maps, strict=True):
                names = {"sample": samples[number].key, "method": contender.name}
                rows += [{**names, **self._row(label, grid)} for label, grid in zip(labels, grids, strict=True)]
        return rows, skipped

    def findings(self, rows: Iterable[Row]) -> Findings:
        """See :class:`~heedmap.evaluate.evaluation.Evaluation`.

        Accuracy and mIoU are over the pixels of all samples together, as the authors have them; mIoU is the mean over
        object and ground. The others are means over samples, of each the mean over its labels.
        """
        sums: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
        values: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
        for row in rows:
            method, sample = word_of(row, "method"), word_of(row, "sample")
            sums[method][sample] = sums[method].get(sample, 0) + np.array([number_of(row, name) for name in AREAS])
            values[method, sample].append([number_of(row, name) for name in MEANS])
        keys = sorted({key for by_sample in sums.values() for key in by_sample})
        nothing = np.zeros(len(AREAS), dtype=np.int64)
        tables = {name: np.stack([by_sample.get(key, nothing) for key in keys]) for name, by_sample in sums.items()}
        means = {name: np.stack([_mean(values[name, key]) for key in keys]) for name in sums}
        measures = [
            Measure("miou", "mIoU", True, len(keys), {name: _miou(table) for name, table in tables.items()}),
            Measure("accuracy", "pixel accuracy", True, len(keys), {n: _accuracy(t) for n, t in tables.items()}),
        ]
        for place, (key, title) in enumerate(MEANS.items()):
            values_of_key = {name: table[:, place] for name, table in means.items()}
            measures.append(Measure.of_means(key, title, True, values_of_key))
        labels = max((sum(len(values[name, key]) for key in keys) for name in sums), default=0)
        return Findings(measures, facts={"samples": len(keys), "labels": labels})

    def _asked(
        self, subject: Model, samples: Sequence[Sample], logits: Float[torch.Tensor, "batch classes"]
    ) -> tuple[dict[int, list[_ExplainedLabel]], dict[str, str]]:
        """Number of the sample → what is asked of it; and why nothing is of the others."""
        names, scores = all_class_names(subject, logits.shape[1]), logits.tolist()
        asked: dict[int, list[_ExplainedLabel]] = {}
        skipped: dict[str, str] = {}
        for number, sample in enumerate(samples):
            try:
                masks = self._masks(sample, scores[number], names)
                asked[number] = _seen(subject, sample, {index: (names[index], mask) for index, mask in masks.items()})
            except SampleError as error:
                skipped[sample.key] = str(error)
        return asked, skipped

    def _masks(self, sample: Sample, logits: Sequence[float], names: Mapping[int, str]) -> dict[int, Mask]:
        """Class that is explained → its pixels; SampleError where there is none."""
        true = _true(sample)
        top = int(np.argmax(logits))
        if self.target == "top" and isinstance(sample.truth, Foreground):
            return {top: sample.truth.mask}
        known = meant(names, true)
        if not known:
            raise SampleError(
                f"its labels are {listed(true)}, the model's {listed(names.values())}; expected a common one"
            )
        chosen = {"top": {top}, "label": set(known), "found": {index for index in known if logits[index] > 0}}
        wanted = chosen[self.target] & set(known)
        if not wanted:
            raise SampleError(f"the model finds none of its labels, {listed(true)}, but {names[top]}")
        return {index: true[known[index]] for index in sorted(wanted)}

    def _row(self, asked: _ExplainedLabel, grid: Float[np.ndarray, "rows columns"]) -> Row:
        relevance = upsampled(grid, asked.mask.shape)
        predicted = cut(grid, asked.mask.shape, self.threshold)
        inside, values = asked.mask[asked.counted], relevance[asked.counted]
        return {
            "label": asked.label,
            **dict(zip(AREAS, areas(predicted, asked.mask, asked.counted).tolist(), strict=True)),
            "ap": average_precision(relevance, asked.mask, asked.counted),
            "pointing": pointing(values, inside),
            "share": share(values, inside),
        }


def _logits(subject: Model, output: object) -> Float[torch.Tensor, "batch classes"]:
    logits = class_logits(output, None)
    if logits.dim() != 2:
        raise InputError(
            f"{subject.name} gives logits of shape {tuple(logits.shape)}; segmentation needs a classifier, with logits "
            "(batch, classes); a detector is measured by detection"
        )
    return logits


def _true(sample: Sample) -> dict[str, Mask]:
    """Plain label → the pixels that have it; SampleError where there are no masks, or of another size."""
    width, height = rgb(sample.inputs["image"]).size
    truth = sample.truth
    if isinstance(truth, Foreground):
        mask = checked(truth.mask, (height, width))
        return {} if truth.label is None else {plain(truth.label): mask}
    if not isinstance(truth, Objects):
        raise SampleError(f"it has no mask but {type(truth).__name__}; expected a Foreground or Objects")
    masks: dict[str, Mask] = {}
    for item in truth.objects:
        label = plain(item.label)
        masks[label] = checked(item.mask, (height, width)) | masks.get(label, False)
    return masks


def _seen(subject: Model, sample: Sample, masks: Mapping[int, tuple[str, Mask]]) -> list[_ExplainedLabel]:
    """The labels with their masks on the picture that the model sees; SampleError where nothing of any is there."""
    ignored = sample.truth.ignored if isinstance(sample.truth, Foreground) else None
    aside = None if ignored is None else seen_mask(subject, checked(ignored, next(iter(masks.values()))[1].shape))
    asked = []
    for index, (label, mask) in masks.items():
        seen = seen_mask(subject, mask)
        counted = np.ones_like(seen) if aside is None else ~aside
        if (seen & counted).any():
            asked.append(_ExplainedLabel(label, index, seen, counted))
    if not asked:
        raise SampleError("its mask has no pixels that count on the picture as the model sees it; expected some")
    return asked


def _mean(rows: list[list[float]]) -> Float[np.ndarray, " figures"]:
    """Over a sample's labels, the same in any order; NaN where there are none."""
    return np.sort(np.array(rows), axis=0).mean(0) if rows else np.full(len(MEANS), np.nan)


def _accuracy(table: Int64[np.ndarray, "samples 6"]) -> Statistic:
    return lambda drawn: _part(*_sums(table, drawn)[:2])


def _miou(table: Int64[np.ndarray, "samples 6"]) -> Statistic:
    def mean(drawn: Int64[np.ndarray, "*draws drawn"]) -> Float[np.ndarray, "*draws"]:
        _, _, *sums = _sums(table, drawn)
        return (_part(*sums[:2]) + _part(*sums[2:])) / 2

    return mean


def _sums(
    table: Int64[np.ndarray, "samples 6"], drawn: Int64[np.ndarray, "*draws drawn"]
) -> list[Int64[np.ndarray, "*draws"]]:
    """Each column over the drawn samples."""
    return [column[drawn].sum(-1) for column in table.T]


def _part(some: Int64[np.ndarray, "*draws"], of: Int64[np.ndarray, "*draws"]) -> Float[np.ndarray, "*draws"]:
    """1 where there is nothing: nothing is missing."""
    return np.where(of, some / np.maximum(of, 1), 1.0)[()]
