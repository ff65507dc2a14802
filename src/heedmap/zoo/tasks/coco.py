"""Average precision as COCO defines it, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from heedmap.errors import TrainingError
from heedmap.zoo.world import SHAPES, Scene

if TYPE_CHECKING:
    from jaxtyping import Float, Int64
    from torch import Tensor

    Found = tuple[Scene, Float[Tensor, " queries"], Int64[Tensor, " queries"], Float[Tensor, "queries 4"]]

SURE = 0.5
"""A detection counts as one from this probability."""


def average_precision(found: Sequence[Found]) -> dict[str, float]:
    """``ap50``, ``ap``, ``precision`` and ``recall``.

    Args:
        found: of each scene, the probability, the shape's number and the box of each detection; boxes have centre,
            width and height in pixels.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools talks
        judged = _judged(found)
    precision = judged.eval["precision"][:, :, :, 0, -1]  # of any size, up to 100 detections
    return {"ap50": _mean(precision[0]), "ap": _mean(precision), **_sure(judged)}


def _judged(found: Sequence[Found]) -> Any:
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise TrainingError(
            "average precision needs pycocotools; install it with: pip install heedmap[train]"
        ) from error

    truth = COCO()
    truth.dataset = {
        "images": [{"id": number} for number in range(len(found))],
        "categories": [{"id": number, "name": name} for number, name in enumerate(SHAPES)],
        "annotations": [
            {**_entry(number, SHAPES.index(one.shape), x1, y1, x2 - x1, y2 - y1), "iscrowd": 0}
            for number, (scene, *_) in enumerate(found)
            for one in scene.objects
            for x1, y1, x2, y2 in [one.box]
        ],
    }
    for number, annotation in enumerate(truth.dataset["annotations"], 1):
        annotation["id"] = number
    truth.createIndex()
    said = [
        {**_entry(number, label, x - w / 2, y - h / 2, w, h), "score": score}
        for number, (_, *detections) in enumerate(found)
        for score, label, (x, y, w, h) in zip(*(part.tolist() for part in detections), strict=True)
    ]
    judged = COCOeval(truth, truth.loadRes(said), "bbox")
    judged.evaluate()
    judged.accumulate()
    return judged


def _entry(image: int, label: int, x: float, y: float, width: float, height: float) -> dict[str, Any]:
    return {"image_id": image, "category_id": label, "bbox": [x, y, width, height], "area": width * height}


def _mean(precision: np.ndarray) -> float:
    """Over all that have a precision; COCO marks the others by -1."""
    return float(precision[precision > -1].mean())


def _sure(judged: Any) -> dict[str, float]:
    """Precision and recall of the detections that are surer than not, for objects of any size."""
    everything = judged.params.areaRng[0]
    entries = [entry for entry in judged.evalImgs if entry is not None and entry["aRng"] == everything]
    sure = [np.array(entry["dtScores"]) > SURE for entry in entries]
    right = sum(int((entry["dtMatches"][0][is_sure] > 0).sum()) for entry, is_sure in zip(entries, sure, strict=True))
    said, there = sum(int(is_sure.sum()) for is_sure in sure), sum(len(entry["gtIds"]) for entry in entries)
    return {"precision": right / max(said, 1), "recall": right / there}
