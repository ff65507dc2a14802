"""What a model is called with: names, content, batch size."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from heedmap.errors import InputError

NO_CONTENT = (
    "mask", "position", "token_type", "labels", "past_key", "cache", "spatial_shapes", "grid_thw", "image_sizes",
    "bool_masked", "segment_ids", "language", "return_", "padding", "visual_pos", "bbox",
)  # fmt: skip
"""Parts of input names that tell the model where or what its content is, and are no content."""


def named(model: nn.Module, inputs: Any) -> dict[str, Any]:
    """``inputs`` (mapping, tuple or one tensor) by the names of the model's ``forward``.

    Raises:
        InputError: of another type, too many, or a name that ``forward`` does not have.
    """
    if isinstance(inputs, Tensor):
        inputs = (inputs,)
    signature = inspect.signature(model.forward)
    try:
        if isinstance(inputs, (tuple, list)):
            bound = signature.bind_partial(*inputs)
            found = dict(bound.arguments)
            for name, parameter in signature.parameters.items():
                if parameter.kind is parameter.VAR_POSITIONAL and name in found:
                    raise TypeError(f"forward takes *{name}: give a dict, or a model whose forward names its inputs")
            return found
        if isinstance(inputs, Mapping) or hasattr(inputs, "keys"):
            found = {str(k): inputs[k] for k in inputs}
            signature.bind_partial(**found)
            return found
    except TypeError as error:
        known = ", ".join(signature.parameters)
        raise InputError(f"the inputs do not fit {type(model).__name__}.forward({known}): {error}") from error
    raise InputError(
        f"inputs is a {type(inputs).__name__}; expected what the model is called with: a dict of keyword arguments, "
        "a tuple, or one tensor"
    )


class ModelInputs(dict[str, Any]):
    """What a model is called with, by name, and which of it is content.

    Attributes:
        segments: name of an input → name of its segment, where the caller said so: all other inputs are no content.
        towers: names of inputs of which is followed only what the language model gets; see :mod:`heedmap.attention.tower`.
        stopped: why, in words.
    """

    segments: Mapping[str, str] | None = None
    towers: frozenset[str] = frozenset()
    stopped: str = ""

    @classmethod
    def of(cls, inputs: Mapping[str, Any], segments: Mapping[str, str] | None = None) -> ModelInputs:
        """``inputs`` with the caller's segments.

        Raises:
            InputError: a segment is of no input, or of one that is no tensor of a batch.
        """
        found = cls(inputs)
        for name in segments or ():
            if not isinstance(found.get(name), Tensor) or found[name].dim() == 0:
                given = ", ".join(f"{k} ({type(v).__name__})" for k, v in found.items())
                raise InputError(f"segments names {name!r}, which is no tensor among the inputs: {given}")
        found.segments = segments
        return found


def contents(inputs: Mapping[str, Any]) -> list[str]:
    """The names of the inputs on which relevance can fall.

    Those that the caller named; else all tensors of numbers but one number a sample (lengths, a language), and what is named
    as a mask, positions and the like.
    """
    segments = getattr(inputs, "segments", None)
    if segments is not None:
        return [name for name in inputs if name in segments]
    return [name for name, value in inputs.items() if _is_content(name, value)]


def _is_content(name: str, value: Any) -> bool:
    if not isinstance(value, Tensor) or value.dim() == 0 or value.dtype == torch.bool:
        return False
    if value.dim() == 1 and not value.is_floating_point():
        return False
    return not any(part in name for part in NO_CONTENT)


def batch_size(inputs: Mapping[str, Any]) -> int:
    """The batch size of all content inputs.

    Raises:
        InputError: no content tensor, an empty one, or unequal batch sizes.
    """
    sizes = {name: inputs[name].shape[0] for name in contents(inputs)}
    if not sizes:
        given = ", ".join(f"{k} ({type(v).__name__})" for k, v in inputs.items()) or "nothing"
        raise InputError(f"there is no content to explain among the inputs: {given}; give input_ids, pixel_values, …")
    if len(set(sizes.values())) > 1 or 0 in sizes.values():
        given = ", ".join(f"{name}: {size}" for name, size in sizes.items())
        raise InputError(
            f"the inputs have unequal (or empty) batches ({given}); repeat the smaller one, so that sample i of each "
            "belongs together"
        )
    return next(iter(sizes.values()))


def check_required(model: nn.Module, inputs: Mapping[str, Any]) -> None:
    """InputError where ``forward`` needs an argument that is not there."""
    parameters = inspect.signature(model.forward).parameters.values()
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_ONLY)
    missing = [p.name for p in parameters if p.kind in plain and p.default is p.empty and p.name not in inputs]
    if missing:
        raise InputError(
            f"{type(model).__name__} needs {', '.join(missing)}, but was given {', '.join(inputs) or 'nothing'}"
        )


def check_no_cache(inputs: Mapping[str, Any]) -> None:
    """InputError where the keys and values of earlier tokens are given in place of the tokens."""
    for name, value in inputs.items():
        tokens = _cached(value)
        if tokens:
            raise InputError(
                f"{name} holds the keys and values of {tokens} earlier tokens, on which no relevance could fall; give all "
                f"tokens and no {name}"
            )


def _cached(value: Any) -> int:
    """How many tokens a KV cache holds: an object of transformers, or a tuple of a (key, value, …) tuple for each layer."""
    length = getattr(value, "get_seq_length", None)
    if callable(length):
        return int(length())
    layer = next(iter(value), None) if isinstance(value, (tuple, list)) else None
    if (
        isinstance(layer, (tuple, list))
        and len(layer) >= 2
        and all(isinstance(t, Tensor) and t.dim() >= 3 for t in layer)
    ):
        return int(layer[0].shape[-2])
    return 0


def detached(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The same inputs for one run: cut from any graph of the caller's, and what the model may write to is a copy."""
    return {name: _detached(value) for name, value in inputs.items()}


def _detached(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone() if value.is_inference() else value.detach()
    if callable(getattr(value, "get_seq_length", None)):  # an empty cache
        return copy.deepcopy(value)
    if type(value) in (list, tuple):
        return type(value)(_detached(one) for one in value)
    return {key: _detached(one) for key, one in value.items()} if type(value) is dict else value
