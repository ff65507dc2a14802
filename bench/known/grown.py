"""Task: that of ``zoo/vit-shapes``, by a deeper ViT that begins as the zoo's, each of its layers cut into smaller steps.

A residual layer x + f(x) is replaced by k copies of x + f(x) / k, so that every layer does a part of the work from the first
step on. With layers drawn at random instead, the task takes days on a core.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

import heedmap
from heedmap.zoo.tasks import labels
from heedmap.zoo.tasks.labels import batch, loss, processors, scores

__all__ = ["batch", "loss", "model", "processors", "scores"]

PARTS = (2, 2, 2, 3, 3)
"""Steps that each layer of the zoo's model is cut into: twelve."""


def model(settings: Mapping[str, Any], before: nn.Module | None) -> nn.Module:
    """See :class:`heedmap.zoo.recipe.Task`."""
    vit = labels.model(settings, before)
    if before is None:
        grow(vit, heedmap.load("zoo/vit-shapes").model)
    return vit


def grow(deep: Any, shallow: Any) -> None:
    """Copy the weights of ``shallow`` into ``deep``: what writes to the residual stream is divided among the copies."""
    rest = {name: value for name, value in shallow.state_dict().items() if ".layers." not in name}
    deep.load_state_dict(rest, strict=False)
    origins = [(layer, parts) for layer, parts in zip(shallow.vit.layers, PARTS, strict=True) for _ in range(parts)]
    with torch.no_grad():
        for layer, (origin, parts) in zip(deep.vit.layers, origins, strict=True):
            layer.load_state_dict(origin.state_dict())
            for written in (layer.attention.o_proj, layer.mlp.fc2):
                written.weight /= parts
                written.bias /= parts
