"""How well a detector's maps, cut to masks, find the objects: COCO's figures of segmentation, as the authors have them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from heedmap.attention.forward import output_of
from heedmap.datasets.sample import Found, Objects
from heedmap.errors import InputError, OptionError, SampleError, TargetError
from heedmap.evaluate.answer import maps_of, repeated, tried
from heedmap.evaluate.coco import encoded, found_measures
from heedmap.evaluate.evaluation import Findings, MethodSpec, Part, usable
from heedmap.evaluate.evidence import checked, cut, listed, overlap, plain, pointing, share, upsampled
from heedmap.evaluate.statistics import Row
from heedmap.models.media import rgb
from heedmap.outputs import get, needed, no_object, object_probabilities

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from heedmap.datasets.sample import Sample
    from heedmap.models.model import Model

NEAR = 0.5
"""A kept query is of the object whose box its own overlaps most, from this intersection over union."""


@dataclass(frozen=True, eq=False)
class _Kept:
    """A query that is kept: its class, how probable that is, and its box (x, y, width, height as shares of the sides)."""

    query: int
    index: int
    label: str
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class _Picture:
    """A sample that can be measured, and its size in pixels."""

    sample: Sample
    objects: tuple[Found, ...]
    height: int
    width: int


@dataclass(frozen=True)
class Detection:
    """The evaluation, with its settings.

    Each query whose most probable class (without "no object") is more probable than the threshold is kept and explained.
    Its map, over the patches of the picture without padding, is cut by Otsu's threshold and scaled up to the picture: that
    mask, with the query's class and probability, is what the contender found.

    Attributes:
        threshold: of the probability.

    Raises:
        OptionError: a threshold that is no probability.
    """

    threshold: float = 0.5
    name = "detection"
    together = False

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1:
            raise OptionError(f"threshold is {self.threshold}; expected a probability, 0 up to (and without) 1")

    @property
    def settings(self) -> Mapping[str, object]:
        """See :class:`~heedmap.evaluate.evaluation.Evaluation`."""
        return {"threshold": self.threshold}

    def check(self, subject: Model) -> None:
        """See :class:`~heedmap.evaluate.evaluation.Evaluation`: one forward pass tells whether it is a detector."""
        _probabilities(subject, tried(subject))

    def rows(self, subject: Model, samples: Sequence[Sample], contenders: Sequence[MethodSpec], seed: int) -> Part:
        """See :class:`~heedmap.evaluate.evaluation.Evaluation`.

        A row for each sample, query and contender; and, with ``""`` as method, one for each true object (one with ``""``
        as label for a sample without any), so that the rows hold all that the findings need.
        """
        pictures, skipped = usable(samples, _picture)
        rows = [row for picture in pictures for row in _true_rows(picture)]
        for group in _groups(subject, pictures):
            rows += self._found_rows(subject, group, contenders, seed)
        return rows, skipped

    def findings(self, rows: Iterable[Row]) -> Findings:
        """See :class:`~heedmap.evaluate.evaluation.Evaluation`.

        COCO's average precision and recall, for the authors' thresholds of intersection over union and for COCO's own, by
        size of the objects; and of the queries that are of an object (:data:`NEAR`): the intersection over union of mask
        and object, how often the most relevant pixel is in it, and the share of the relevance inside.

        Raises:
            InputError: no query was kept.
        """
        measures, facts = found_measures(rows, f"more probable than {self.threshold:g}; give a lower threshold")
        return Findings(measures, facts=facts)

    def _found_rows(
        self, subject: Model, pictures: Sequence[_Picture], contenders: Sequence[MethodSpec], seed: int
    ) -> Iterator[Row]:
        inputs: Mapping[str, object] = subject.inputs(image=[picture.sample.inputs["image"] for picture in pictures])
        kept = self._kept(subject, pictures, output_of(subject.model, inputs))
        numbers = [number for number, queries in enumerate(kept) if queries]
        if not numbers:
            return
        inputs = repeated(inputs, len(pictures), torch.tensor(numbers))
        places = [[(detection.query, detection.index) for detection in kept[number]] for number in numbers]
        for contender in contenders:
            maps = maps_of(subject, inputs, places, contender, seed)
            for row, number in enumerate(numbers):
                for detection, grid in zip(kept[number], maps[row], strict=True):
                    yield _found_row(pictures[number], detection, _unpadded(grid, inputs, row), contender.name)

    def _kept(self, subject: Model, pictures: Sequence[_Picture], output: object) -> list[list[_Kept]]:
        probability, names = _probabilities(subject, output)
        labels = _labels(subject, names, pictures)
        score, index = (tensor.cpu() for tensor in probability.max(-1))
        boxes = needed(output, "pred_boxes").float().cpu()
        corners = torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., 2:]], -1)
        kept: list[list[_Kept]] = [[] for _ in pictures]
        for row, query in (score > self.threshold).nonzero().tolist():
            best, (x, y, width, height) = int(index[row, query]), corners[row, query].tolist()
            kept[row].append(
                _Kept(query, best, labels.get(best, str(best)), float(score[row, query]), (x, y, width, height))
            )
        return kept


def _probabilities(
    subject: Model, output: object
) -> tuple[Float[torch.Tensor, "batch queries classes"], dict[int, str]]:
    """Of each query's classes, without "no object"; and their names.

    Which class is "no object", if there is one, :func:`heedmap.outputs.no_object` says.

    Raises:
        InputError: it is no detector, or one of another kind.
    """
    logits, boxes = get(output, "logits"), get(output, "pred_boxes")
    if logits is None or boxes is None or logits.dim() != 3:
        raise InputError(
            f"{subject.name} gives no boxes; detection needs a detector with object queries: logits (batch, queries, "
            "classes) and pred_boxes. A classifier is measured by segmentation"
        )
    context = subject.context({})
    try:
        none = no_object(logits, context, subject.name)
    except TargetError as error:
        raise InputError(str(error)) from error
    probabilities = object_probabilities(logits, none)
    return (probabilities if none is None else probabilities[..., :none]), dict(context.labels)


def _labels(subject: Model, names: Mapping[int, str], pictures: Sequence[_Picture]) -> dict[int, str]:
    """Class index → its plain label.

    Raises:
        InputError: the data set has a label that the model does not know.
    """
    labels = {index: plain(name) for index, name in names.items()}
    true_labels = {plain(item.label) for picture in pictures for item in picture.objects}
    missing = true_labels - set(labels.values())
    if missing:
        raise InputError(
            f"{subject.name} finds {listed(names.values())}; the data set has {listed(sorted(true_labels))}, of which it does "
            f"not know {listed(sorted(missing))}; give a model of these labels, or data that it knows"
        )
    return labels


def _picture(sample: Sample) -> _Picture:
    """SampleError where there are no objects, or with masks of another size."""
    if not isinstance(sample.truth, Objects):
        raise SampleError(f"it has no objects but {type(sample.truth).__name__}; expected Objects")
    width, height = rgb(sample.inputs["image"]).size
    for item in sample.truth.objects:
        checked(item.mask, (height, width))
    return _Picture(sample, sample.truth.objects, height, width)


def _groups(subject: Model, pictures: Sequence[_Picture]) -> Iterator[list[_Picture]]:
    """Pictures that go together: all of them; of a model that is not told of padding, those of one size."""
    sizes: dict[tuple[int, int], list[_Picture]] = defaultdict(list)
    for picture in pictures:
        sizes[(0, 0) if "pixel_mask" in subject.parameters else (picture.height, picture.width)].append(picture)
    yield from sizes.values()


def _unpadded(
    grid: Float[np.ndarray, "rows columns"], inputs: Mapping[str, object], row: int
) -> Float[np.ndarray, "own_rows own_columns"]:
    """The map without the patches of padding: those whose first pixel is padding, which is how DETR itself tells them."""
    mask = get(inputs, "pixel_mask")
    if mask is None:
        return grid
    pixels = mask[row].cpu().numpy() != 0
    for axis, real in enumerate((pixels.any(1), pixels.any(0))):
        patches = np.arange(grid.shape[axis]) * len(real) // grid.shape[axis]
        grid = grid.compress(real[patches], axis=axis)
    return grid


def _true_rows(picture: _Picture) -> list[Row]:
    rows = [
        _row(picture, "", plain(item.label), number, item.mask) | {"area": item.area, "crowd": int(item.crowd)}
        for number, item in enumerate(picture.objects)
    ]
    return rows or [_row(picture, "", "", 0, np.zeros((picture.height, picture.width), dtype=bool))]


def _found_row(picture: _Picture, detection: _Kept, grid: Float[np.ndarray, "rows columns"], method: str) -> Row:
    mask = cut(grid, (picture.height, picture.width), "otsu")
    row = _row(picture, method, detection.label, detection.query, mask) | {"score": detection.score}
    target = _object_of(detection, picture)
    if target is None or not target.mask.any():
        return row
    relevance = upsampled(grid, mask.shape).ravel()
    inside = target.mask.ravel()
    figures = {"overlap": overlap(mask, target.mask), "pointing": pointing(relevance, inside)}
    return row | figures | {"share": share(relevance, inside)}


def _row(picture: _Picture, method: str, label: str, number: int, mask: Bool[np.ndarray, "height width"]) -> Row:
    """With the columns that all rows have."""
    return {
        "sample": picture.sample.key,
        "method": method,
        "label": label,
        "number": number,
        "score": 1.0,
        "height": picture.height,
        "width": picture.width,
        "mask": encoded(mask),
        "area": float(mask.sum()),
        "crowd": 0,
        "overlap": np.nan,
        "pointing": np.nan,
        "share": np.nan,
    }


def _object_of(detection: _Kept, picture: _Picture) -> Found | None:
    """The object of the query's label whose box its own overlaps most, if that is enough."""
    x, y, width, height = detection.box
    box = (x * picture.width, y * picture.height, width * picture.width, height * picture.height)
    fits = [(_box_overlap(box, o.box), o) for o in picture.objects if plain(o.label) == detection.label and not o.crowd]
    best = max(fits, key=lambda pair: pair[0], default=(0.0, None))
    return best[1] if best[0] >= NEAR else None


def _box_overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes x, y, width, height."""
    width, height = (max(0.0, min(a[i] + a[i + 2], b[i] + b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    shared = width * height
    union = a[2] * a[3] + b[2] * b[3] - shared
    return shared / union if union > 0 else 0.0
