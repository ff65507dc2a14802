"""Task: the boxes and shapes of a picture's objects, by DETR, and average precision as COCO defines it.

Its loss is DETR's own (matched queries, auxiliary losses at each decoder layer) and, beside it, that of
:mod:`heedmap.zoo.tasks.cells`: each cell of the feature map says which object it shows.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import torch

from heedmap.common.extras import how_to_install
from heedmap.errors import TrainingError
from heedmap.zoo.recipe import Batch, Processor
from heedmap.zoo.tasks import SIDE, chunks, class_names, image_processor, pixel_values, scenes
from heedmap.zoo.world import SHAPES, Scene

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int64
    from pycocotools.cocoeval import COCOeval
    from torch import Tensor, nn
    from transformers import DetrForObjectDetection, PreTrainedModel

    Found = tuple[Scene, Float[Tensor, " queries"], Int64[Tensor, " queries"], Float[Tensor, "queries 4"]]

STRIDE = 8
"""Pixels of a cell of the feature map, each way."""
CELLS = SIDE // STRIDE
MOST = 5
"""Objects of a scene."""
NOTHING = -1
CELL_WEIGHT = 1.0
"""Of the cells' loss beside DETR's."""


class BackboneSettings(TypedDict):
    """Of a small ResNet; what else there is goes into its configuration too."""

    hidden_sizes: Sequence[int]


class DetectorSettings(TypedDict):
    """What else there is goes into the detector's configuration."""

    backbone: BackboneSettings


def model(settings: DetectorSettings, before: PreTrainedModel | None) -> PreTrainedModel:
    """See :class:`heedmap.zoo.recipe.Task`; the backbone's batch statistics are frozen, as DETR wants it."""
    from transformers import DetrConfig, DetrForObjectDetection

    detr = DetrForObjectDetection(DetrConfig(**configured(settings)))
    detr.model.unfreeze_backbone()
    if before is None:
        start(detr)
    else:
        detr.load_state_dict(before.state_dict())
    return detr


def configured(settings: DetectorSettings) -> dict[str, object]:
    """What a detector's configuration is made of: the settings, a small ResNet as backbone, and the names of the shapes."""
    from transformers import ResNetConfig

    if find_spec("scipy") is None:
        raise TrainingError(f"DETR's matching needs scipy; {how_to_install('train')}")
    depth = len(settings["backbone"]["hidden_sizes"])
    backbone = ResNetConfig(layer_type="basic", out_features=[f"stage{depth}"], **settings["backbone"])
    rest = {key: value for key, value in settings.items() if key != "backbone"}
    return {"backbone_config": backbone, "auxiliary_loss": True, **class_names(SHAPES), **rest}


def start(model: DetrForObjectDetection) -> None:
    """Weights of the size that the original has, and queries that begin by looking at places of a grid.

    transformers draws weights for a much wider model. An object query begins as the position encoding of its place,
    and the decoder looks for positions like its own.
    """
    from torch.nn import Linear, init

    for part in (model.model.encoder, model.model.decoder, model.bbox_predictor):
        for module in part.modules():
            if isinstance(module, Linear):
                init.xavier_uniform_(module.weight)
    with torch.no_grad():
        queries = model.model.query_position_embeddings.weight
        queries.copy_(codes(model, queries.shape[1])[places(len(queries))])
        for layer in model.model.decoder.layers:
            layer.encoder_attn.k_proj.weight.copy_(layer.encoder_attn.q_proj.weight)


def codes(model: PreTrainedModel, width: int) -> Float[Tensor, "cells d"]:
    """The model's position encodings of the cells of the feature map."""
    shape = torch.Size((1, width, CELLS, CELLS))
    return model.model.position_embedding(shape=shape, device="cpu", dtype=torch.float32)[0].flatten(1).T


def places(queries: int) -> list[int]:
    """Numbers of cells that are evenly spread over the feature map, in four columns."""
    columns = 4
    rows = -(-queries // columns)
    spread = [
        ((2 * r + 1) * CELLS // (2 * rows)) * CELLS + (2 * c + 1) * CELLS // (2 * columns)
        for r in range(rows)
        for c in range(columns)
    ]
    return spread[:queries]


def processors() -> Sequence[Processor]:
    """See :class:`heedmap.zoo.recipe.Task`."""
    return (image_processor("DetrImageProcessor", do_pad=False),)


def batch(seed: int, split: str, start: int, count: int) -> Batch:
    """Pixels; shape and box (centre, width, height, from 0 to 1) of each object; the object that each cell shows."""
    pictures = scenes(seed, split, start, count)
    shapes = torch.full((count, MOST), NOTHING)
    boxes = torch.zeros(count, MOST, 4)
    for row, scene in enumerate(pictures):
        for place, item in enumerate(scene.objects):
            shapes[row, place] = SHAPES.index(item.shape)
            boxes[row, place] = centred(item.box)
    return {
        "pixel_values": pixel_values(pictures),
        "shapes": shapes,
        "boxes": boxes,
        "cells": torch.stack([_cells(scene) for scene in pictures]),
    }


def centred(box: tuple[int, int, int, int]) -> Float[Tensor, " 4"]:
    """A box in pixels as DETR has it: centre, width and height, as shares of the side."""
    x1, y1, x2, y2 = (value / SIDE for value in box)
    return torch.tensor(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1))


def _cells(scene: Scene) -> Int64[Tensor, " cells"]:
    """Number of the object that covers most of each cell, where it covers a quarter of it or more."""
    masks = torch.stack([torch.from_numpy(item.mask) for item in scene.objects]).float()
    share, number = torch.nn.functional.avg_pool2d(masks[:, None], STRIDE)[:, 0].max(0)
    return torch.where(share >= 0.25, number, NOTHING).flatten()


def loss(model: DetrForObjectDetection, batch: Batch) -> Tensor:
    """See :class:`heedmap.zoo.recipe.Task`."""
    output = model(batch["pixel_values"], labels=objects(batch))
    return output.loss + CELL_WEIGHT * cell_loss(model, output.encoder_last_hidden_state, batch)


def objects(batch: Batch) -> list[dict[str, Tensor]]:
    """The objects of each picture, as the detectors of transformers take them."""
    present = batch["shapes"] != NOTHING
    return [
        {"class_labels": shapes[real], "boxes": boxes[real]}
        for shapes, boxes, real in zip(batch["shapes"], batch["boxes"], present, strict=True)
    ]


def shown_in(
    batch: Batch,
) -> tuple[Bool[Tensor, "batch cells"], Int64[Tensor, "batch cells"], Float[Tensor, "shown 4"]]:
    """Which cells show an object, the number of each cell's shape (that of none: the last), and the boxes of those that do."""
    owners = batch["cells"]
    shown = owners != NOTHING
    shapes = batch["shapes"].gather(1, owners.clamp(min=0)).where(shown, torch.tensor(len(SHAPES)))
    return shown, shapes, batch["boxes"][shown.nonzero()[:, 0], owners[shown]]


def cell_loss(model: DetrForObjectDetection, cells: Float[Tensor, "batch cells d"], batch: Batch) -> Tensor:
    """What DETR's own heads say of each cell of the encoder: its object's shape, or none, and its object's box."""
    from torch.nn.functional import cross_entropy, l1_loss

    shown, shapes, boxes = shown_in(batch)
    naming = cross_entropy(model.class_labels_classifier(cells).flatten(0, 1), shapes.flatten())
    placing = l1_loss(model.bbox_predictor(cells[shown]).sigmoid(), boxes, reduction="none")
    return naming + 5 * placing.sum(-1).mean()


def scores(model: nn.Module, seed: int, split: str, count: int) -> dict[str, float]:
    """COCO's average precision of the boxes; and precision and recall of what is more probable than not.

    ``ap50``: at an intersection over union of 0.5; ``ap``: mean over 0.5 to 0.95. ``precision`` and ``recall``: at 0.5,
    of detections with a probability over 0.5.
    """
    return measured(model, seed, split, count, lambda logits: logits.softmax(-1)[..., :-1])


def measured(
    model: nn.Module, seed: int, split: str, count: int, probabilities: Callable[[Tensor], Tensor]
) -> dict[str, float]:
    """The scores of a detector, whose logits ``probabilities`` makes those of the shapes."""
    detected = []
    for start, length in chunks(count):
        pictures = scenes(seed, split, start, length)
        output = model(pixel_values(pictures))
        best = probabilities(output.logits).max(-1)
        for row, scene in enumerate(pictures):
            detected.append((scene, best.values[row], best.indices[row], output.pred_boxes[row] * SIDE))
    return average_precision(detected)


SURE = 0.5
"""A detection counts as one from this probability."""


def average_precision(detected: Sequence[Found]) -> dict[str, float]:
    """``ap50``, ``ap``, ``precision`` and ``recall``.

    Args:
        detected: of each scene, the probability, the shape's number and the box of each detection; boxes have centre,
            width and height in pixels.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools talks
        judged = _judged(detected)
    precision = judged.eval["precision"][:, :, :, 0, -1]  # of any size, up to 100 detections
    return {"ap50": _mean(precision[0]), "ap": _mean(precision), **_sure(judged)}


def _judged(detected: Sequence[Found]) -> COCOeval:
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise TrainingError(f"average precision needs pycocotools; {how_to_install('train')}") from error

    truth = COCO()
    truth.dataset = {
        "images": [{"id": number} for number in range(len(detected))],
        "categories": [{"id": number, "name": name} for number, name in enumerate(SHAPES)],
        "annotations": [
            {**_entry(number, SHAPES.index(item.shape), x1, y1, x2 - x1, y2 - y1), "iscrowd": 0}
            for number, (scene, *_) in enumerate(detected)
            for item in scene.objects
            for x1, y1, x2, y2 in [item.box]
        ],
    }
    for number, annotation in enumerate(truth.dataset["annotations"], 1):
        annotation["id"] = number
    truth.createIndex()
    results = [
        {**_entry(number, label, x - w / 2, y - h / 2, w, h), "score": score}
        for number, (_, *detections) in enumerate(detected)
        for score, label, (x, y, w, h) in zip(*(part.tolist() for part in detections), strict=True)
    ]
    judged = COCOeval(truth, truth.loadRes(results), "bbox")
    judged.evaluate()
    judged.accumulate()
    return judged


def _entry(image: int, label: int, x: float, y: float, width: float, height: float) -> dict[str, object]:
    return {"image_id": image, "category_id": label, "bbox": [x, y, width, height], "area": width * height}


def _mean(precision: np.ndarray) -> float:
    """Over all that have a precision; COCO marks the others by -1."""
    return float(precision[precision > -1].mean())


def _sure(judged: COCOeval) -> dict[str, float]:
    """Precision and recall of the detections that are surer than not, for objects of any size."""
    everything = judged.params.areaRng[0]
    entries = [entry for entry in judged.evalImgs if entry is not None and entry["aRng"] == everything]
    sure = [np.array(entry["dtScores"]) > SURE for entry in entries]
    right = sum(int((entry["dtMatches"][0][is_sure] > 0).sum()) for entry, is_sure in zip(entries, sure, strict=True))
    detections, true = sum(int(is_sure.sum()) for is_sure in sure), sum(len(entry["gtIds"]) for entry in entries)
    return {"precision": right / max(detections, 1), "recall": right / true}
