"""DEX-AR of one token and one sample, head by head and layer by layer; the gradient by differences, with no autograd."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from oracles.rules import Matrix

STEP = 1e-4
"""Added to one entry of A, and taken from it."""


class Nudged(TorchFunctionMode):
    """Adds to the A of one layer, of the attentions that have so many queries and keys; what a model rounds stays in float64.

    Args:
        added: (batch, heads, queries, keys).
        layer: its number among these attentions.
    """

    def __init__(self, added: Tensor, layer: int) -> None:
        super().__init__()
        self.added, self.layer, self.passed = added, layer, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        rounds = func is Tensor.float or (func is Tensor.to and torch.float32 in args[1:])
        if rounds and args[0].is_floating_point():
            return args[0].double()
        if func is not F.softmax or args[0].shape[-2:] != self.added.shape[-2:]:
            return func(*args, **kwargs)
        a = func(args[0].double(), dim=-1)
        self.passed += 1
        return a + self.added if self.passed == self.layer + 1 else a


def slopes(
    model: nn.Module, inputs: Mapping[str, Tensor], layers: Sequence[nn.Module], guess: Callable[[Tensor], Tensor],
    token: int, row: int, heads: int,
) -> Iterator[Matrix]:  # fmt: skip
    """Of each layer ∂s/∂A at ``row``, (heads, keys up to the row): by how much its own score changes with one entry of A.

    Args:
        model: which computes attention by softmaxes of torch.
        inputs: of one sample; all entries of a layer are tried in one batch.
        layers: of which what they hand on is looked at, in order.
        guess: states → logits.
        token: its id.
        row: the place that says it.
        heads: of an attention.
    """
    tokens = inputs["input_ids"].shape[1]
    tried = [(head, key, sign) for head in range(heads) for key in range(row + 1) for sign in (1, -1)]
    batch = {name: value.expand(len(tried), *value.shape[1:]) for name, value in inputs.items()}
    for number, layer in enumerate(layers):
        added, handed = torch.zeros(len(tried), heads, tokens, tokens, dtype=torch.float64), list[Tensor]()
        for copy, (head, key, sign) in enumerate(tried):
            added[copy, head, row, key] = sign * STEP
        hook = layer.register_forward_hook(lambda _, __, out: handed.append(out[0] if isinstance(out, tuple) else out))  # noqa: B023
        with torch.no_grad(), Nudged(added, number):
            model(**batch)
            score = guess(handed[0][:, row])[:, token].numpy()
        hook.remove()
        yield ((score[::2] - score[1::2]) / (2 * STEP)).reshape(heads, row + 1)


def dex_ar(layers: Sequence[Matrix], tokens: int, shown: Sequence[int], words: Sequence[int]) -> Matrix:
    """The map of the token that a row says, (tokens,).

    Args:
        layers: of each layer that counts ∂s/∂A at the row, (heads, keys).
        tokens: in all.
        shown: the picture's places.
        words: all other places up to the row.
    """
    found = np.zeros(tokens)
    for gradient in layers:
        for head in gradient:
            positive = np.maximum(head, 0)
            weight = max(max(positive[list(shown)]) - max(positive[list(words)]), 0)
            for key in (*shown, *words):
                found[key] += weight * positive[key]
    return found
