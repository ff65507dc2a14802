"""Task: the boxes and shapes of a picture's objects, by Deformable DETR, whose attention chooses the points that it reads.

Its loss is the model's own (matched queries, auxiliary losses at each decoder layer) and, beside it, that each cell of the
encoder's finest map says which object it shows, as a query would whose reference point is the cell's centre. The backbone
begins as that of ``zoo/detr-shapes``, as the original's begins trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, l1_loss, one_hot, pad

from heedmap.models.names import folder_of
from heedmap.zoo.recipe import Batch, Processor
from heedmap.zoo.tasks import image_processor
from heedmap.zoo.tasks.detection import (
    CELL_WEIGHT,
    CELLS,
    DetectorSettings,
    batch,
    codes,
    configured,
    measured,
    objects,
    places,
    shown_in,
)
from heedmap.zoo.world import SHAPES

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor
    from transformers import DeformableDetrForObjectDetection, PreTrainedModel

__all__ = ["batch", "loss", "model", "processors", "scores"]

NAMED = -2.0
PLACED = (0.0, 0.0, -1.5, -1.5)
"""Logits with which the heads begin: no shape, and a box of a sixth of the side around the reference point."""

BACKBONE = "detr-shapes"
"""Shipped model from which the backbone is taken."""


def model(settings: DetectorSettings, before: PreTrainedModel | None) -> PreTrainedModel:
    """See :class:`heedmap.zoo.recipe.Task`."""
    from transformers import DeformableDetrConfig, DeformableDetrForObjectDetection

    made = DeformableDetrForObjectDetection(DeformableDetrConfig(**configured(settings)))
    made.model.unfreeze_backbone()
    if before is None:
        start(made)
    else:
        made.load_state_dict(before.state_dict())
    return made


def start(model: DeformableDetrForObjectDetection) -> None:
    """Weights of the size that the original has, and queries spread over the picture, each with its reference point.

    Points and weights of the deformable attentions begin as transformers draws them: around the reference point, all alike.
    """
    for part in (model.model.encoder, model.model.decoder, model.bbox_embed):
        for name, module in part.named_modules():
            if isinstance(module, nn.Linear) and not name.endswith(("sampling_offsets", "attention_weights")):
                nn.init.xavier_uniform_(module.weight)
    _take_backbone(model)
    with torch.no_grad():
        _spread(model)
        for naming, placing in zip(model.class_embed, model.bbox_embed, strict=True):
            naming.bias.fill_(NAMED)
            placing.layers[-1].bias.copy_(torch.tensor(PLACED))


def _take_backbone(model: DeformableDetrForObjectDetection) -> None:
    from transformers import DetrForObjectDetection

    trained = DetrForObjectDetection.from_pretrained(folder_of(BACKBONE), local_files_only=True)
    model.model.backbone.load_state_dict(trained.model.backbone.state_dict())


def _spread(model: DeformableDetrForObjectDetection) -> None:
    """Queries that begin as the position encodings of their places, at which their reference points are."""
    inner, cells = model.model, places(model.config.num_queries)
    begun = codes(model, model.config.d_model)[cells]
    inner.query_position_embeddings.weight.copy_(torch.cat([begun, torch.zeros_like(begun)], 1))
    inner.reference_points.weight.copy_((torch.linalg.pinv(begun) @ _centres()[cells].logit()).T)


def _centres() -> Float[Tensor, "cells 2"]:
    """Column and row of the centre of each cell of the finest map, from 0 to 1."""
    along = (torch.arange(CELLS) + 0.5) / CELLS
    return torch.stack([along.repeat(CELLS), along.repeat_interleave(CELLS)], 1)


def processors() -> Sequence[Processor]:
    """See :class:`heedmap.zoo.recipe.Task`."""
    return (image_processor("DeformableDetrImageProcessor", do_pad=False),)


def loss(model: DeformableDetrForObjectDetection, batch: Batch) -> Tensor:
    """See :class:`heedmap.zoo.recipe.Task`."""
    output = model(batch["pixel_values"], labels=objects(batch))
    return output.loss + CELL_WEIGHT * cell_loss(model, output.encoder_last_hidden_state[:, : CELLS**2], batch)


def cell_loss(model: DeformableDetrForObjectDetection, cells: Float[Tensor, "batch cells d"], batch: Batch) -> Tensor:
    """What the heads say of each cell of the encoder's finest map: whether it shows each shape, and its object's box."""
    shown, shapes, boxes = shown_in(batch)
    named = one_hot(shapes, len(SHAPES) + 1)[..., :-1].float()
    naming = binary_cross_entropy_with_logits(model.class_embed[0](cells), named, reduction="none")
    beside = pad(_centres().logit(), (0, 2)).expand(len(cells), -1, -1)
    placing = l1_loss((model.bbox_embed[0](cells[shown]) + beside[shown]).sigmoid(), boxes, reduction="none")
    return naming.sum(-1).mean() + 5 * placing.sum(-1).mean()


def scores(model: nn.Module, seed: int, split: str, count: int) -> dict[str, float]:
    """See :func:`heedmap.zoo.tasks.detection.average_precision`; each shape is a yes or no."""
    return measured(model, seed, split, count, torch.sigmoid)
