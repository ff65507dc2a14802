"""COCO's average precision and recall of masks that were found, also of pictures that are drawn anew.

pycocotools matches found objects with true ones, picture by picture. Its figures follow from the matches; here they are
computed with pictures that count several times or not at all, so that a bootstrap need not match again. Of the whole set they
are pycocotools' own figures.
"""

from __future__ import annotations

import contextlib
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from heedmap.common.extras import library
from heedmap.errors import InputError
from heedmap.evaluate.statistics import Measure, Row, known_mean, number_of, word_of

if TYPE_CHECKING:
    from types import ModuleType

    from jaxtyping import Bool, Float, Int
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

LOOSE = tuple(round(0.2 + 0.05 * step, 2) for step in range(6))
"""Thresholds of intersection over union that the authors have beside COCO's own, which begin with 0.5."""
MOST = 100
"""Found objects that count, a picture and category."""

Entry = dict[str, object]
"""What pycocotools knows of an object."""
SETS = {"0.2:0.95": 0, "0.5:0.95": len(LOOSE)}
"""Thresholds of intersection over union that a figure is the mean over → the first of them: the authors', COCO's."""
KINDS = ("AP", "AR")
SIZES = ("all", "small", "medium", "large")
"""Of true objects: of any area, under 32² pixels, up to 96², and over."""
Figure = tuple[str, str, str]
"""One of :data:`KINDS`, of :data:`SETS`, of :data:`SIZES`."""
RESAMPLES = 200
"""Of COCO's figures, which take long."""
MEANS = {"overlap": "IoU with the object", "pointing": "pointing game", "share": "share of the relevance inside"}


# -- masks, matched by pycocotools -------------------------------------------------------------------------------------


def encoded(mask: Bool[np.ndarray, "height width"]) -> str:
    """A mask in COCO's compressed run lengths."""
    counts = _library("mask").encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]
    return str(counts.decode())


def truth_of(sizes: Sequence[tuple[int, int]], categories: Sequence[str], objects: Sequence[Entry]) -> COCO:
    """The true objects, for :func:`judged`.

    Args:
        sizes: (height, width) of each picture.
        categories: their names.
        objects: each with ``image_id`` and ``category_id`` (places in the former two, from 0), ``segmentation``,
            ``area``, ``iscrowd``.
    """
    truth = _library("coco").COCO()
    images = [{"id": number, "height": height, "width": width} for number, (height, width) in enumerate(sizes)]
    truth.dataset = {
        "images": images,
        "categories": [{"id": number, "name": name} for number, name in enumerate(categories)],
        "annotations": [{**entry, "id": number} for number, entry in enumerate(objects, 1)],
    }
    with _silence():
        truth.createIndex()
    return truth


def judged(truth: COCO, results: Sequence[Entry]) -> COCOeval:
    """pycocotools' ``COCOeval`` after ``evaluate()``, of masks, with :data:`LOOSE` thresholds before its own.

    Args:
        truth: by :func:`truth_of`.
        results: one or more, each with ``image_id``, ``category_id``, ``segmentation``, ``score``.
    """
    with _silence():
        judge = _library("cocoeval").COCOeval(truth, truth.loadRes(list(results)), "segm")
        judge.params.iouThrs = np.concatenate([LOOSE, judge.params.iouThrs])
        judge.params.maxDets = [MOST]
        judge.evaluate()
    return judge


def _silence() -> contextlib.redirect_stdout[io.StringIO]:
    return contextlib.redirect_stdout(io.StringIO())  # pycocotools talks


def _library(name: str) -> ModuleType:
    return library(f"pycocotools.{name}", "eval", "masks of detections need")


# -- figures of drawn pictures -----------------------------------------------------------------------------------------


class Matches:
    """The matches of one contender.

    A level is a size with a threshold, a group a category with a level; each is numbered in this order. Precision and recall
    only rise where a found object is right: the hits, sorted by group, and in it by score, highest first.

    Attributes:
        images: number of pictures.

    Args:
        judge: by :func:`heedmap.evaluate.coco.judged`.
    """

    def __init__(self, judge: COCOeval) -> None:
        params = judge.params
        self.images = len(params.imgIds)
        self._recalls = params.recThrs
        self._shape = (len(params.catIds), len(params.areaRng), len(params.iouThrs))
        many = len(params.areaRng) * self.images
        categories = self._categories = [
            _category(judge.evalImgs[k * many : (k + 1) * many], self._shape[1:]) for k in range(self._shape[0])
        ]
        self._found = np.concatenate([category.found for category in categories])
        self._counted = np.concatenate([category.counted for category in categories], axis=1)
        starts = np.cumsum([0, *(len(category.found) for category in categories)])
        hits = [np.nonzero(category.right) for category in categories]
        self._level = np.concatenate([level for level, _ in hits])
        self._place = np.concatenate([starts[k] + place for k, (_, place) in enumerate(hits)])
        self._group = np.concatenate([k * len(self._counted) + level for k, (level, _) in enumerate(hits)])
        self._before = starts[self._group // len(self._counted)]
        self._first = np.searchsorted(self._group, self._group)
        self._known: dict[bytes, Mapping[Figure, float]] = {}

    def figures(self, drawn: Int[np.ndarray, " drawn"]) -> Mapping[Figure, float]:
        """What COCOeval accumulates of the pictures with these numbers, some perhaps drawn more than once.

        NaN where they show no object of the size. What was asked for before is remembered.
        """
        weights = np.bincount(drawn, minlength=self.images)
        key = weights.astype(np.uint16).tobytes()
        if key not in self._known:
            values = dict(zip(KINDS, self._values(weights), strict=True))
            self._known[key] = {
                (kind, name, size): float(known_mean(values[kind][:, number, first:].ravel()))
                for kind in KINDS
                for name, first in SETS.items()
                for number, size in enumerate(SIZES)
            }
        return self._known[key]

    def _values(
        self, weights: Int[np.ndarray, " images"]
    ) -> Sequence[Float[np.ndarray, "categories sizes thresholds"]]:
        """Average precision and recall; NaN where no object is there.

        Average precision is the mean over recalls of the best precision at this recall or a higher one: the best from each
        hit on, as often as recalls are first reached there.
        """
        objects = np.stack([category.wanted @ weights[category.true] for category in self._categories])
        objects = np.repeat(objects, self._shape[2]).astype(float)
        objects[objects == 0] = np.nan
        drawn = weights[self._found]
        detections = np.cumsum(np.insert(self._counted * drawn, 0, 0, axis=1), axis=1)
        detections = detections[self._level, self._place + 1] - detections[self._level, self._before]
        right = np.cumsum(np.insert(drawn[self._place], 0, 0))
        right = right[1:] - right[self._first]
        reached = np.insert(np.searchsorted(self._recalls, right / objects[self._group], side="right"), 0, 0)
        steps = reached[1:] - np.where(self._first < np.arange(len(right)), reached[:-1], 0)
        best = self._best(right / (detections + np.spacing(1)))
        precision = np.bincount(self._group, steps * best, len(objects)) / len(self._recalls)
        recall = np.bincount(self._group, drawn[self._place], len(objects)) / objects
        return [(figure + 0 * objects).reshape(self._shape) for figure in (precision, recall)]

    def _best(self, values: Float[np.ndarray, " hits"]) -> Float[np.ndarray, " hits"]:
        """The greatest from each hit to the end of its group: of 1, 2, 4, … hits."""
        best, reach = values, 1
        while (same := self._group[reach:] == self._group[:-reach]).any():
            best = np.concatenate([np.maximum(best[:-reach], np.where(same, best[reach:], 0)), best[-reach:]])
            reach *= 2
        return best


@dataclass(frozen=True, eq=False)
class _Category:
    """What was found and is there of one category; what was found is sorted by its score, highest first.

    Attributes:
        found: picture of each found object.
        right, counted: at each level, which of them are right, and which count at all.
        true: picture of each true object.
        wanted: for each size, which of them count.
    """

    found: Int[np.ndarray, " found"]
    right: Bool[np.ndarray, "levels found"]
    counted: Bool[np.ndarray, "levels found"]
    true: Int[np.ndarray, " true"]
    wanted: Bool[np.ndarray, "sizes true"]


def _category(
    entries: Sequence[Mapping[str, np.ndarray | Sequence[float]] | None], shape: tuple[int, int]
) -> _Category:
    """What COCOeval says of one category: an entry for each size and picture, None where there is nothing, of any size."""
    sizes, thresholds = shape
    images = len(entries) // sizes
    pictures = [number for number in range(images) if entries[number] is not None]
    of_sizes = [entries[size * images : (size + 1) * images] for size in range(sizes)]
    rows = [[entry for entry in of_size if entry is not None] for of_size in of_sizes]
    nothing = np.zeros((thresholds, 0))
    matched = np.concatenate([_joined([entry["dtMatches"] for entry in row], nothing) for row in rows]) > 0
    ignored = np.concatenate([_joined([entry["dtIgnore"] for entry in row], nothing) for row in rows]) > 0
    aside = np.stack([_joined([entry["gtIgnore"] for entry in row], np.zeros(0)) for row in rows]) > 0
    scores = _joined([entry["dtScores"] for entry in rows[0]], np.zeros(0))
    order = np.argsort(-scores, kind="mergesort")  # as COCOeval sorts
    detected = np.repeat(np.array(pictures, dtype=int), [len(entry["dtScores"]) for entry in rows[0]])
    true = np.repeat(np.array(pictures, dtype=int), [len(entry["gtIds"]) for entry in rows[0]])
    return _Category(detected[order], (matched & ~ignored)[:, order], ~ignored[:, order], true, ~aside)


def _joined(arrays: Sequence[np.ndarray | Sequence[float]], nothing: np.ndarray) -> np.ndarray:
    return np.concatenate([nothing, *arrays], axis=-1)


# -- rows put together -------------------------------------------------------------------------------------------------


class _SortedRows:
    """The rows of a run, sorted; a picture has the number of its key among all keys."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.true: list[Row] = []
        self.found: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            (self.found[method] if (method := word_of(row, "method")) else self.true).append(row)
        for group in (self.true, *self.found.values()):
            group.sort(key=lambda row: (word_of(row, "sample"), number_of(row, "number")))
        self.sizes = {word_of(row, "sample"): _size(row) for row in self.true}
        self.numbers = {key: place for place, key in enumerate(self.sizes)}
        labels = {word_of(row, "label") for group in (self.true, *self.found.values()) for row in group}
        self.labels = {label: place for place, label in enumerate(sorted(labels - {""}))}

    def truth(self) -> COCO:
        """The true objects, for pycocotools."""
        objects = [
            {**self._entry(row), "area": row["area"], "iscrowd": row["crowd"]} for row in self.true if row["label"]
        ]
        return truth_of(list(self.sizes.values()), list(self.labels), objects)

    def entries(self, method: str) -> list[Entry]:
        """What a contender found, for pycocotools."""
        return [{**self._entry(row), "score": row["score"]} for row in self.found[method]]

    def means(self, method: str, column: str) -> Float[np.ndarray, " pictures"]:
        """Of each picture the mean over its queries that are of an object; NaN where there are none."""
        values: list[list[float]] = [[] for _ in self.sizes]
        for row in self.found[method]:
            if not np.isnan(value := number_of(row, column)):
                values[self.numbers[word_of(row, "sample")]].append(value)
        return np.array([np.mean(figures) if figures else np.nan for figures in values])

    def _entry(self, row: Row) -> Entry:
        return {
            "image_id": self.numbers[word_of(row, "sample")],
            "category_id": self.labels[word_of(row, "label")],
            "segmentation": {"size": list(_size(row)), "counts": row["mask"]},
        }


def _size(row: Row) -> tuple[int, int]:
    return int(number_of(row, "height")), int(number_of(row, "width"))


def found_measures(rows: Iterable[Row], wanted: str) -> tuple[list[Measure], dict[str, object]]:
    """The measures of all rows, and facts beside; sizes of which no object is there are left out.

    Args:
        rows: of :meth:`heedmap.evaluate.experiments.detection.Detection.rows`.
        wanted: what a query had to be, for the message.

    Raises:
        InputError: nothing was found.
    """
    run = _SortedRows(rows)
    if not run.found:
        raise InputError(f"no query of any of {len(run.sizes)} pictures was {wanted}")
    truth = run.truth()
    matches = {method: Matches(judged(truth, run.entries(method))) for method in sorted(run.found)}
    measures = [_coco(matches, kind, name, size) for name in SETS for kind in KINDS for size in _sizes(matches)]
    for column, title in MEANS.items():
        means = {method: run.means(method, column) for method in matches}
        measures.append(Measure.of_means(column, title, True, means))
    return measures, _facts(run)


def _coco(matches: Mapping[str, Matches], kind: str, name: str, size: str) -> Measure:
    key, title = f"{kind.lower()}/{name}", f"{kind} {name}"
    if size != SIZES[0]:
        key, title = f"{key}/{size}", f"{title}, {size}"
    statistics = {method: partial(_figure, match, (kind, name, size)) for method, match in matches.items()}
    return Measure(key, title, True, next(iter(matches.values())).images, statistics, RESAMPLES)


def _figure(matches: Matches, key: Figure, drawn: Int[np.ndarray, "*draws drawn"]) -> Float[np.ndarray, "*draws"]:
    return np.apply_along_axis(lambda one: matches.figures(one)[key], -1, drawn)[()]


def _sizes(matches: Mapping[str, Matches]) -> list[str]:
    """Those that some object has."""
    first = next(iter(matches.values()))
    whole = first.figures(np.arange(first.images))
    return [size for size in SIZES if size == SIZES[0] or not np.isnan(whole[KINDS[0], next(iter(SETS)), size])]


def _facts(run: _SortedRows) -> dict[str, object]:
    queries = next(iter(run.found.values()))
    return {
        "samples": len(run.sizes),
        "objects": sum(bool(row["label"]) for row in run.true),
        "queries": len(queries),
        "queries_of_an_object": sum(not np.isnan(number_of(row, "overlap")) for row in queries),
    }
