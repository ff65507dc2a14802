"""Task: which shapes and which colours a picture shows, by a Swin, whose attentions see a window of the picture each.

Its two stages end with a state for each patch of :data:`heedmap.zoo.tasks.PATCH` pixels, to which the guides of
:mod:`heedmap.zoo.tasks.labels` apply. The classifier reads the mean of these states, so that it cannot read each of them as
well: what a patch shows is told to a head of its own, which is not shipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import init
from torch.nn.functional import binary_cross_entropy_with_logits

from heedmap.zoo.recipe import Batch
from heedmap.zoo.tasks import BESIDE, DIAGONAL, PATCH, SIDE, class_names
from heedmap.zoo.tasks.labels import GUIDES, LABELS, batch, guidance, guide, processors, scores

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, SwinForImageClassification
    from transformers.models.swin.modeling_swin import SwinRelativePositionBias

__all__ = ["batch", "loss", "model", "processors", "scores"]

AROUND = (*BESIDE, *DIAGONAL)
NEAR = 3.0
"""Logit by which a head prefers its neighbour at first."""


def model(settings: Mapping[str, object], before: PreTrainedModel | None) -> PreTrainedModel:
    """See :class:`heedmap.zoo.recipe.Task`."""
    from transformers import SwinConfig, SwinForImageClassification

    rest = {key: value for key, value in settings.items() if key not in GUIDES}
    sizes = {"image_size": SIDE, "patch_size": PATCH // 2, "problem_type": "multi_label_classification"}
    made = SwinForImageClassification(SwinConfig(**sizes, **class_names(LABELS), **rest))
    if settings["patches"]:
        made.patches = nn.Linear(made.config.hidden_size, len(LABELS))
    guide(made, settings, made.config.hidden_size)
    if before is None:
        start(made)
    else:
        made.load_state_dict(before.state_dict(), strict=False)
    return made


def start(model: SwinForImageClassification) -> None:
    """Weights of a size that fits the width, and heads that look at a neighbour each; transformers' see all alike."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
    kernel = model.swin.embeddings.patch_embeddings.projection.weight
    init.xavier_uniform_(kernel.view(len(kernel), -1))
    blocks = [block for stage in model.swin.encoder.layers for block in stage.blocks]
    for number, block in enumerate(blocks):
        _look_around(block.attention.relative_position_bias, 4 * number)


def _look_around(bias: SwinRelativePositionBias, first: int) -> None:
    """Let each head prefer one of the eight neighbours, counted from the neighbour ``first``."""
    side = 2 * bias.window_size[0] - 1
    with torch.no_grad():
        for head in range(bias.relative_position_bias_table.shape[1]):
            down, right = AROUND[(first + head) % len(AROUND)]
            bias.relative_position_bias_table[(side // 2 - down) * side + side // 2 - right, head] = NEAR


def loss(model: SwinForImageClassification, batch: Batch) -> Tensor:
    """See :class:`heedmap.zoo.recipe.Task`."""
    states = model.swin(batch["pixel_values"]).last_hidden_state
    whole = binary_cross_entropy_with_logits(model.classifier(states.mean(1)), batch["labels"])
    return whole + guidance(model, states, getattr(model, "patches", model.classifier), batch)
