"""What the rows of a detection run say: true and found objects put together for COCO's figures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from heedmap.errors import InputError
from heedmap.evaluate.harness.protocol import Measure, Row, of_values
from heedmap.evaluate.metrics.coco import Entry, judged, truth_of
from heedmap.evaluate.metrics.coco_bootstrap import KINDS, SETS, SIZES, Figure, Matches

if TYPE_CHECKING:
    from jaxtyping import Float, Int

RESAMPLES = 200
"""Of COCO's figures, which take long."""
MEANS = {"overlap": "IoU with the object", "pointing": "pointing game", "share": "share of the relevance inside"}


class _Run:
    """The rows of a run, sorted; a picture has the number of its key among all keys."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.true: list[Row] = []
        self.found: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            (self.found[row["method"]] if row["method"] else self.true).append(row)
        for own in (self.true, *self.found.values()):
            own.sort(key=lambda row: (row["sample"], row["number"]))
        self.sizes = {row["sample"]: (row["height"], row["width"]) for row in self.true}
        self.numbers = {key: number for number, key in enumerate(self.sizes)}
        labels = {row["label"] for own in (self.true, *self.found.values()) for row in own}
        self.labels = {label: number for number, label in enumerate(sorted(labels - {""}))}

    def truth(self) -> Any:
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
            if not np.isnan(row[column]):
                values[self.numbers[row["sample"]]].append(row[column])
        return np.array([np.mean(own) if own else np.nan for own in values])

    def _entry(self, row: Row) -> Entry:
        return {
            "image_id": self.numbers[row["sample"]],
            "category_id": self.labels[row["label"]],
            "segmentation": {"size": [row["height"], row["width"]], "counts": row["mask"]},
        }


def found_measures(rows: Iterable[Row], wanted: str) -> tuple[list[Measure], dict[str, Any]]:
    """The measures of all rows, and facts beside; sizes of which no object is there are left out.

    Args:
        rows: of :meth:`heedmap.evaluate.experiments.detection.Detection.rows`.
        wanted: what a query had to be, for the message.

    Raises:
        InputError: nothing was found.
    """
    run = _Run(rows)
    if not run.found:
        raise InputError(f"no query of any of {len(run.sizes)} pictures was {wanted}")
    truth = run.truth()
    matches = {method: Matches(judged(truth, run.entries(method))) for method in sorted(run.found)}
    measures = [_coco(matches, kind, name, size) for name in SETS for kind in KINDS for size in _sizes(matches)]
    for column, title in MEANS.items():
        statistics = {method: of_values(run.means(method, column)) for method in matches}
        measures.append(Measure(column, title, True, len(run.sizes), statistics))
    return measures, _facts(run)


def _coco(matches: Mapping[str, Matches], kind: str, name: str, size: str) -> Measure:
    key, title = f"{kind.lower()}/{name}", f"{kind} {name}"
    if size != SIZES[0]:
        key, title = f"{key}/{size}", f"{title}, {size}"
    statistics = {method: partial(_figure, one, (kind, name, size)) for method, one in matches.items()}
    return Measure(key, title, True, next(iter(matches.values())).images, statistics, RESAMPLES)


def _figure(one: Matches, key: Figure, drawn: Int[np.ndarray, " drawn"]) -> float:
    return one.figures(drawn)[key]


def _sizes(matches: Mapping[str, Matches]) -> list[str]:
    """Those that some object has."""
    one = next(iter(matches.values()))
    whole = one.figures(np.arange(one.images))
    return [size for size in SIZES if size == SIZES[0] or not np.isnan(whole[KINDS[0], next(iter(SETS)), size])]


def _facts(run: _Run) -> dict[str, Any]:
    queries = next(iter(run.found.values()))
    return {
        "samples": len(run.sizes),
        "objects": sum(bool(row["label"]) for row in run.true),
        "queries": len(queries),
        "queries_of_an_object": sum(not np.isnan(row["overlap"]) for row in queries),
    }
