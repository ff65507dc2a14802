"""Value zeroing by running a model's own layers again, each once for every token, with that token's values set to zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


def value_zeroing(model: nn.Module, inputs: dict[str, Any], blocks: str, value: str, sample: int = 0) -> NDArray[Any]:
    """C_L … C_1 of one sample, in float64.

    Args:
        model: eager or not; in float64.
        inputs: what it is called with.
        blocks: name of the list of its layers.
        value: name of the module, in a layer, whose output is v before it is cut into heads.
        sample: which.
    """
    layers, calls = list(model.get_submodule(blocks)), list[tuple[nn.Module, Any, Any, Tensor]]()
    hooks = [
        layer.register_forward_hook(lambda m, a, k, out: calls.append((m, a, k, _first(out))), with_kwargs=True)
        for layer in layers
    ]
    with torch.no_grad():
        model(**inputs)
    for hook in hooks:
        hook.remove()
    joint: NDArray[Any] = np.eye(calls[0][3].shape[1])
    for layer, arguments, options, output in calls:
        joint = _mixing(layer, arguments, options, output, value, sample) @ joint
    return joint


def _mixing(layer: nn.Module, arguments: Any, options: Any, output: Tensor, value: str, sample: int) -> NDArray[Any]:
    count, before = output.shape[1], output[sample].numpy()
    distances = np.zeros((count, count))
    for token in range(count):

        def zeroed(_: nn.Module, __: Sequence[Any], v: Tensor, token: int = token) -> Tensor:
            return v.index_fill(1, torch.tensor([token]), 0)

        hook = layer.get_submodule(value).register_forward_hook(zeroed)
        with torch.no_grad():
            after = _first(layer(*arguments, **options))[sample].numpy()
        hook.remove()
        lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
        distances[:, token] = 1 - (before * after).sum(1) / lengths
    return distances / distances.sum(1, keepdims=True)


def _first(out: Any) -> Tensor:
    return out[0] if isinstance(out, tuple) else out
