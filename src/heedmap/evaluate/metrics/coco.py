"""Masks that were found, matched with true ones by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from heedmap.errors import MissingLibraryError

if TYPE_CHECKING:
    from jaxtyping import Bool

LOOSE = tuple(round(0.2 + 0.05 * step, 2) for step in range(6))
"""Thresholds of intersection over union that the authors have beside COCO's own, which begin with 0.5."""
MOST = 100
"""Found objects that count, a picture and category."""

Entry = dict[str, Any]


def encoded(mask: Bool[np.ndarray, "height width"]) -> str:
    """A mask in COCO's compressed run lengths."""
    counts = _library("mask").encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]
    return str(counts.decode())


def truth_of(sizes: Sequence[tuple[int, int]], categories: Sequence[str], objects: Sequence[Entry]) -> Any:
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
        "annotations": [{**one, "id": number} for number, one in enumerate(objects, 1)],
    }
    with _silence():
        truth.createIndex()
    return truth


def judged(truth: Any, found: Sequence[Entry]) -> Any:
    """pycocotools' ``COCOeval`` after ``evaluate()``, of masks, with :data:`LOOSE` thresholds before its own.

    Args:
        truth: by :func:`truth_of`.
        found: one or more, each with ``image_id``, ``category_id``, ``segmentation``, ``score``.
    """
    with _silence():
        judge = _library("cocoeval").COCOeval(truth, truth.loadRes(list(found)), "segm")
        judge.params.iouThrs = np.concatenate([LOOSE, judge.params.iouThrs])
        judge.params.maxDets = [MOST]
        judge.evaluate()
    return judge


def _silence() -> contextlib.redirect_stdout[io.StringIO]:
    return contextlib.redirect_stdout(io.StringIO())  # pycocotools talks


def _library(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(f"pycocotools.{name}")
    except ImportError as error:
        raise MissingLibraryError("masks of detections need pycocotools; pip install 'heedmap[eval]'") from error
