"""Task: which object each cell of the feature map shows, to start DETR's backbone, encoder and heads from.

From nothing, DETR's queries have no features to tell objects apart by, and learn very slowly. Here the heads that
will read the queries read each cell of the encoder's output instead, for which the right answer needs no matching.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from heedmap.zoo.recipe import Batch
from heedmap.zoo.tasks import chunks, detection
from heedmap.zoo.tasks.detection import batch, cell_loss, processors, shown_in

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import DetrForObjectDetection, PreTrainedModel

__all__ = ["batch", "loss", "model", "processors", "scores"]


def model(settings: detection.DetectorSettings, before: PreTrainedModel | None) -> PreTrainedModel:
    """DETR, with batch statistics that are not frozen yet: from nothing, frozen ones would normalise nothing."""
    detr = detection.model(settings, before)
    _thaw(detr)
    return detr


def _thaw(module: nn.Module) -> None:
    from transformers.models.detr.modeling_detr import DetrFrozenBatchNorm2d

    for name, child in module.named_children():
        if isinstance(child, DetrFrozenBatchNorm2d):
            setattr(module, name, nn.BatchNorm2d(len(child.weight)))
        else:
            _thaw(child)


def loss(model: DetrForObjectDetection, batch: Batch) -> Tensor:
    """See :class:`heedmap.zoo.recipe.Task`."""
    return cell_loss(model, _cells(model, batch), batch)


def scores(model: DetrForObjectDetection, seed: int, split: str, count: int) -> dict[str, float]:
    """``objects`` and ``ground``: share of the cells with and without an object that are named rightly."""
    right, total = torch.zeros(2), torch.zeros(2)
    for start, length in chunks(count):
        examples = batch(seed, split, start, length)
        shown, shapes, _ = shown_in(examples)
        hit = model.class_labels_classifier(_cells(model, examples)).argmax(-1) == shapes
        right += torch.stack([hit[shown].sum(), hit[~shown].sum()])
        total += torch.stack([shown.sum(), (~shown).sum()])
    objects, ground = (right / total).tolist()
    return {"objects": objects, "ground": ground}


def _cells(model: DetrForObjectDetection, batch: Batch) -> Tensor:
    return model.model(batch["pixel_values"]).encoder_last_hidden_state
