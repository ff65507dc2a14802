"""Models inside others: what a wrapper holds, by whose names it is called, and what one inside says for the whole."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass, make_dataclass
from functools import cache
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
    modules = named_modules(model)
    weights = ((f"{modules[m]}.{name}", p) for m in modules for name, p in m._parameters.items() if p is not None)
    empty = next((name.removeprefix(".") for name, p in weights if p.is_meta), None)
    if empty is not None and not any(hasattr(m, "_hf_hook") for m in modules):
        raise ModelStateError(
            f"parameter {empty} is on the meta device, without values; load the model's weights first"
        )
    return model


def _scored_by(model: nn.Module) -> nn.Module | None:
    """What a Sequential calls its model, where there is nothing else around it."""
    named = getattr(model, "model", None) if isinstance(model, nn.Sequential) else None
    return next((m for m in inside(model) if m is named), None)


def named_modules(model: nn.Module) -> dict[nn.Module, str]:
    """Module → name, in torch's order; torch hands each up through all modules around it, which takes many times as long."""
    names, rest = dict[nn.Module, str](), [(model, "")]
    while rest:
        module, name = rest.pop()
        if module not in names:
            names[module] = name
            parts = reversed(module._modules.items())
            rest += [(part, f"{name}.{of_part}" if name else of_part) for of_part, part in parts if part is not None]
    return names


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
    for module in inside(model):
        found = inspect.signature(module.forward)
        if all(p.kind is not p.VAR_POSITIONAL for p in found.parameters.values()):
            return found
    return inspect.signature(model.forward)


def configuration(model: nn.Module) -> Any:
    """``config`` of the model, or of the one inside; None where there is none."""
    return next((m.config for m in inside(model) if getattr(m, "config", None) is not None), None)


def called(model: nn.Module, inputs: Mapping[str, Any]) -> Any:
    """What the model answers, with the ``logits`` of the one module in it that says words, where its output leaves them out.

    A question answerer such as BLIP's returns its loss and embeddings, and only its decoder's output has the logits.
    """
    speaker = _speaker(model)
    if speaker is None:
        return model(**inputs)
    said: list[Any] = []
    handle = speaker.register_forward_hook(lambda module, given, output: said.append(output))
    try:
        output = model(**inputs)
    finally:
        handle.remove()
    logits = getattr(said[-1], "logits", None) if said else None
    leaves_out = is_dataclass(output) and isinstance(output, Mapping) and output.get("logits") is None
    if logits is None or not leaves_out:
        return output
    kind: type = type(output)
    return _with_logits(kind)(**output, logits=logits)


@cache
def _with_logits(kind: type) -> type:
    """A kind of output of transformers', with one part more; all that a target reads of it is there as ever."""
    return make_dataclass(kind.__name__, [("logits", Any, None)], bases=(kind,))


def _speaker(model: nn.Module) -> nn.Module | None:
    """The only part of a model without a head for words that has one."""
    if _head(model) is not None:
        return None
    speakers = [child for child in model.children() if _head(child) is not None]
    return speakers[0] if len(speakers) == 1 else None


def _head(model: nn.Module) -> nn.Module | None:
    """What gives the logits of words, by the name that transformers has for it."""
    try:
        return model.get_output_embeddings()  # type: ignore[operator]
    except (
        AttributeError,
        NotImplementedError,
    ):  # it is none of transformers' models, or one of several kinds of token
        return None
