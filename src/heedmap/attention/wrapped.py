"""Models inside others: what a wrapper holds, by whose names it is called, and what cannot be explained at all."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from heedmap.errors import ModelStateError, UnfollowedAttentionError


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside ``torch.compile``, DataParallel and DistributedDataParallel, which only pass their inputs on.

    Also the classifier inside a CrossEncoder of sentence-transformers, which hands it a dict and gives its logits.

    Raises:
        UnfollowedAttentionError: a traced or scripted module, whose operations cannot be seen.
        ModelStateError: parameters without values, on the meta device.
    """
    while True:
        held = getattr(model, "_orig_mod", None) or _scored_by(model)
        if isinstance(held, nn.Module):
            model = held
        elif isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        else:
            break
    if isinstance(model, torch.jit.ScriptModule):
        raise UnfollowedAttentionError(
            "the model is traced or scripted (torch.jit), so its attention cannot be seen; "
            "explain the module that it was made from"
        )
    empty = next((name for name, p in model.named_parameters() if p.is_meta), None)
    if empty is not None and not any(hasattr(m, "_hf_hook") for m in model.modules()):
        raise ModelStateError(
            f"parameter {empty} is on the meta device, without values; load the model's weights first"
        )
    return model


def _scored_by(model: nn.Module) -> nn.Module | None:
    """What a Sequential calls its model, where there is nothing else around it."""
    named = getattr(model, "model", None) if isinstance(model, nn.Sequential) else None
    return next((m for m in inside(model) if m is named), None)


def inside(model: nn.Module) -> Iterator[nn.Module]:
    """The model, its only child, the only child of that, and so on."""
    while True:
        yield model
        children = list(model.children())
        if len(children) != 1:
            return
        model = children[0]


def signature(model: nn.Module) -> inspect.Signature:
    """How ``forward`` is called; of a wrapper that takes ``*args``, how the model inside is."""
    outer = inspect.signature(model.forward)
    for module in inside(model):
        inner = inspect.signature(module.forward)
        if all(p.kind is not p.VAR_POSITIONAL for p in inner.parameters.values()):
            return inner
    return outer


def configuration(model: nn.Module) -> Any:
    """``config`` of the model, or of the one inside; None where there is none."""
    return next((m.config for m in inside(model) if getattr(m, "config", None) is not None), None)
