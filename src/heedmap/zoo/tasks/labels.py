"""Task: which shapes and which colours a picture shows, by a ViT with a yes or no for each label.

From nothing, attention from [CLS] has no features to tell patches apart by, so the settings add losses on each patch, with
a weight each: ``patches``, the same classifier says what the patch shows, and ``outlines``, it draws its object's mask around
itself. Colours are learned without the second, shapes hardly. The last stage leaves both out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from heedmap.zoo.recipe import Batch, Processor
from heedmap.zoo.tasks import (
    NOTHING,
    PATCH,
    SIDE,
    WINDOW,
    begin,
    chunks,
    class_names,
    image_processor,
    outlines,
    pixel_values,
    scenes,
)
from heedmap.zoo.world import COLOURS, SHAPES, Object

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor
    from transformers import PreTrainedModel, ViTForImageClassification

GUIDES = ("patches", "outlines")
LABELS = (*SHAPES, *COLOURS)
KINDS = {"shape": slice(0, len(SHAPES)), "colour": slice(len(SHAPES), len(LABELS))}


def model(settings: Mapping[str, object], before: PreTrainedModel | None) -> PreTrainedModel:
    """See :class:`heedmap.zoo.recipe.Task`."""
    from transformers import ViTConfig, ViTForImageClassification

    rest = {key: value for key, value in settings.items() if key not in GUIDES}
    sizes = {"image_size": SIDE, "patch_size": PATCH, "problem_type": "multi_label_classification"}
    vit = ViTForImageClassification(ViTConfig(**sizes, **class_names(LABELS), **rest))
    guide(vit, settings, vit.config.hidden_size)
    if before is None:
        embeddings = vit.vit.embeddings
        layers = [(layer.attention.q_proj, layer.attention.k_proj) for layer in vit.vit.layers]
        begin(vit, embeddings.patch_embeddings.projection.weight, embeddings.position_embeddings[0, 1:], layers)
    else:
        vit.load_state_dict(before.state_dict(), strict=False)
    return vit


def processors() -> Sequence[Processor]:
    """See :class:`heedmap.zoo.recipe.Task`."""
    return (image_processor("ViTImageProcessor"),)


def batch(seed: int, split: str, start: int, count: int) -> Batch:
    """Pixels; labels of each picture and of each patch, 0 or 1; which patches show an object, and its mask around them."""
    pictures = scenes(seed, split, start, count)
    named = [_named(scene.objects) for scene in pictures]
    number, drawn = map(torch.stack, zip(*map(outlines, pictures), strict=True))
    return {
        "pixel_values": pixel_values(pictures),
        "labels": torch.stack([labels.amax(0) for labels in named]),
        "patches": torch.stack([labels[n] * (n != NOTHING)[:, None] for labels, n in zip(named, number, strict=True)]),
        "shown": number != NOTHING,
        "outlines": drawn,
    }


def _named(objects: Sequence[Object]) -> Float[Tensor, "objects labels"]:
    return torch.tensor([[float(label in (item.shape, item.colour)) for label in LABELS] for item in objects])


def loss(model: ViTForImageClassification, batch: Batch) -> Tensor:
    """See :class:`heedmap.zoo.recipe.Task`."""
    states = model.vit(batch["pixel_values"]).last_hidden_state
    whole = binary_cross_entropy_with_logits(model.classifier(states[:, 0]), batch["labels"])
    return whole + guidance(model, states[:, 1:], model.classifier, batch)


def guide(model: PreTrainedModel, settings: Mapping[str, object], width: int) -> None:
    """Give a model the weights of :func:`guidance`, and where it draws a head for that, which reads ``width`` numbers."""
    model.guides = {name: settings[name] for name in GUIDES}
    if settings["outlines"]:
        model.outlines = nn.Linear(width, WINDOW**2)


def guidance(
    model: PreTrainedModel, states: Float[Tensor, "batch patches d"], named: nn.Module, batch: Batch
) -> Tensor:
    """The losses on each patch, by the weights of ``model.guides``: zero where these are.

    Args:
        model: whose ``outlines`` draws, where outlines weigh anything.
        states: of its patches.
        named: gives the logits of the labels of a state, where patches weigh anything.
        batch: of :func:`batch`.
    """
    loss = states.new_zeros(())
    if model.guides["patches"]:
        loss = loss + model.guides["patches"] * binary_cross_entropy_with_logits(named(states), batch["patches"])
    if model.guides["outlines"]:
        shown = batch["shown"]
        drawn = model.outlines(states[shown])
        loss = loss + model.guides["outlines"] * binary_cross_entropy_with_logits(drawn, batch["outlines"][shown])
    return loss


def scores(model: nn.Module, seed: int, split: str, count: int) -> dict[str, float]:
    """``accuracy``: share of the yes and no that are right, also by kind of label; ``exact``: of pictures with all right.

    ``f1``: of the labels that are there; ``always-no`` what saying no to all would score.
    """
    answers, truths = [], []
    for start, length in chunks(count):
        examples = batch(seed, split, start, length)
        answers.append(model(examples["pixel_values"]).logits > 0)
        truths.append(examples["labels"] > 0)
    yes, true = torch.cat(answers), torch.cat(truths)
    right = yes == true
    both = int((yes & true).sum())
    return {
        "accuracy": float(right.float().mean()),
        **{f"accuracy/{kind}": float(right[:, where].float().mean()) for kind, where in KINDS.items()},
        "exact": float(right.all(1).float().mean()),
        "f1": 2 * both / max(int(yes.sum() + true.sum()), 1),
        "always-no": float((~true).float().mean()),
    }
