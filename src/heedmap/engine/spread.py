"""What a model answers on a part of its input, put in its place in the answer on the whole.

So any target, however it reads an output, can be asked of a run on a part: the rest is as it was, and has no gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import partial
from itertools import count

import torch
from torch import Tensor
from torch.utils import _pytree as tree

Place = Callable[[Tensor, Tensor], tuple[tuple[Tensor, ...], Tensor] | None]
"""(a tensor of the whole answer, the same of a part's) → where in the first the second belongs, as an index, and what of it;
None: nowhere."""


def tensors_of(output: object) -> list[Tensor]:
    """The tensors of an output, in order: their numbers are their places here."""
    tensors: list[Tensor] = []

    def keep(number: int, tensor: Tensor) -> Tensor:
        tensors.append(tensor)
        return tensor

    _mapped(output, keep)
    return tensors


def _mapped(output: object, change: Callable[[int, Tensor], Tensor]) -> object:
    """The output with other tensors; ``change`` gets the number of each, and it."""
    return tree.tree_map(partial(_changed, change, count()), output)


def _changed(change: Callable[[int, Tensor], Tensor], numbers: Iterator[int], value: object) -> object:
    """A part of an output; no function within a function, which would keep the graph until garbage is looked for."""
    if isinstance(value, Tensor):
        return change(next(numbers), value)
    if is_dataclass(value) and not isinstance(value, (type, Mapping)):
        again = partial(_changed, change, numbers)
        return replace(value, **{f.name: tree.tree_map(again, getattr(value, f.name)) for f in fields(value) if f.init})
    return value


def gradients(output: object, function: Callable[[object], Tensor]) -> dict[int, Tensor]:
    """The gradient of ``function(output).sum()`` to each of the output's tensors, by number, where it is not zero."""
    begun: dict[int, Tensor] = {}

    def begin(number: int, tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        begun[number] = tensor.detach().clone().requires_grad_()
        return begun[number]

    with torch.enable_grad():
        values = function(_mapped(output, begin))
        if not values.requires_grad:
            return {}
        gradients = torch.autograd.grad(values.sum(), list(begun.values()), allow_unused=True)
    return {n: g for n, g in zip(begun, gradients, strict=True) if g is not None and bool((g != 0).any())}


def spread(whole: object, part: object, place: Place) -> tuple[object, dict[int, Tensor]]:
    """``whole`` with what ``part`` has in its place, and the tensors in which there was something to put, by number."""
    of_part = tensors_of(part)
    put: dict[int, Tensor] = {}

    def with_part(number: int, tensor: Tensor) -> Tensor:
        placed = place(tensor, of_part[number]) if number < len(of_part) else None
        if placed is None or not tensor.is_floating_point():
            return tensor
        index, values = placed
        put[number] = tensor.detach().index_put(index, values)
        return put[number]

    return _mapped(whole, with_part), put


def differs(whole: Tensor, put: Tensor) -> bool:
    """Whether what was put is not what was there, but for rounding; where there was no number of a size, it may be any."""
    before, now = whole.detach().double(), put.detach().double()
    real = before.abs() < torch.finfo(whole.dtype).max / 4  # a mask's least number is no answer
    before, now = before[real], now[real]
    if not before.numel():
        return False
    return not bool((now - before).abs().amax() <= torch.finfo(whole.dtype).eps ** 0.5 * before.abs().amax())
