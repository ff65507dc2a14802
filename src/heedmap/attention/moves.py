"""How the companions of tensors (see :mod:`heedmap.attention.numbers`) go through torch's functions, as the model calls them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from heedmap.attention.numbers import NOTHING, Ids


def _each(names: str, of: Any = None) -> dict[str, Any]:
    return dict.fromkeys(names.split(), of)


DATA: dict[str, tuple[int, ...]] = _each(
    "view reshape permute transpose t swapaxes swapdims movedim moveaxis flatten unflatten squeeze unsqueeze expand expand_as "
    "view_as reshape_as roll flip rot90 narrow select __getitem__ split chunk unbind tensor_split split_with_sizes "
    "index_select gather take_along_dim repeat repeat_interleave tile unfold as_strided diagonal pixel_shuffle "
    "pixel_unshuffle channel_shuffle broadcast_to masked_select atleast_2d atleast_3d adjoint T mT ravel",
    (0,),
)
"""Functions that only move data, and which of their arguments are the data."""
DATA |= (
    _each("where", (1, 2)) | _each("masked_scatter masked_scatter_ index_put index_put_", (0, 2)) | _each("copy_", (1,))
)
DATA |= _each("index_copy index_copy_ scatter scatter_", (0, 3))

TURNS = _each("unsqueeze_ squeeze_ transpose_ swapaxes_ swapdims_ t_")
"""Functions that give a tensor another shape where it is."""
DATA |= dict.fromkeys(TURNS, (0,))

RESHAPES = _each("view view_as reshape reshape_as flatten unflatten ravel")
LISTS = _each("cat concat concatenate stack hstack vstack dstack column_stack")
SAME = _each("contiguous clone to type type_as float half bfloat16 double cpu cuda detach requires_grad_ dropout")
ADDS_AT = _each("index_add index_add_", "index_copy") | _each("scatter_add scatter_add_", "scatter")
CHOOSES = _each("topk sort max min kthvalue mode cummax cummin")
"""Functions that give (values, their indices along an axis)."""

REDUCES = _each("mean sum amax amin max min var std norm logsumexp prod nansum nanmean median all any argmax argmin")
COUNTS = _each("histc bincount")
"""Functions whose result is of no token: how many there are of each kind."""

LARGEST = _each("max amax min amin")
"""Of those, the ones that say an extreme."""

SPREADS = _each("norm std var")
"""Of those, the ones that say how large tokens are, all together: statistics."""

MERGES = _each("mean sum amax max")
"""Of those, the ones whose result is a sum of contributions of the tokens."""

Of = Callable[[Tensor], Ids | None]
"""Gives a tensor's companion."""
_NO_PART = NOTHING - 1
Statistic = Callable[[Tensor], Tensor]
"""What is done with a statistic over several tokens, before it is used."""


def _group_norm(
    given: Statistic, x: Tensor, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """Group normalisation, its mean and deviation as ``given`` makes them; the values are those of torch."""
    grouped = x.unflatten(1, (num_groups, -1)).flatten(2)
    mean = given(grouped.mean(-1, keepdim=True))
    scale = given((grouped.var(-1, correction=0, keepdim=True) + eps).rsqrt())
    y = ((grouped - mean) * scale).reshape(x.shape)
    if weight is not None:
        y = y * weight.reshape(-1, *[1] * (x.dim() - 2))
    if bias is not None:
        y = y + bias.reshape(-1, *[1] * (x.dim() - 2))
    return y + (F.group_norm(x.detach(), num_groups, weight, bias, eps) - y).detach()


def _normalize(
    given: Statistic, x: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Any = None
) -> Tensor:
    """Division by a norm, as ``given`` makes it."""
    return x / given(x.norm(p, dim, keepdim=True).clamp_min(eps))


MEETS = _each(
    "add __add__ __radd__ __iadd__ add_ sub subtract __sub__ __rsub__ __isub__ sub_ mul multiply __mul__ __rmul__ __imul__ mul_"
)
"""Functions in which what was made of tokens meets others place by place."""

SCALES = _each("mul multiply __mul__ __rmul__ __imul__ mul_")
DIVIDES = _each("div divide true_divide __truediv__ div_ divide_ __itruediv__")
SCALES_OR_DIVIDES = SCALES | DIVIDES
GATES = _each("sigmoid sigmoid_ hardsigmoid hardsigmoid_ tanh tanh_ softmax relu6 hardtanh")
"""Functions whose result is weights of what it is multiplied with."""

STATISTICS: dict[str, Callable[..., Tensor]] = {"group_norm": _group_norm, "normalize": _normalize}
"""Functions whose statistics are over several tokens: for the proof, and for which rows are read, these are taken as given."""


@lru_cache(maxsize=4096)
def name_of(func: Any) -> str:
    """The name of a torch function; of a property, the property's."""
    name = getattr(func, "__name__", "")
    return str(getattr(getattr(func, "__self__", None), "__name__", name)) if name == "__get__" else name


@dataclass(frozen=True, eq=False)
class TorchCall:
    """A torch function as the model called it.

    Attributes:
        func, args, kwargs: the call.
        result: what it gave.
        tensors: all that it was given.
    """

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    tensors: Sequence[Tensor]

    @property
    def name(self) -> str:
        """Of the function."""
        return name_of(self.func)

    def bound(self, *names: str) -> dict[str, Any]:
        """The arguments by name; ``names``: of those that are given by place, in order. One that was not given is missing."""
        return dict(zip(names, self.args, strict=False)) | self.kwargs

    def reduced_axes(self, tensor: Tensor) -> list[int]:
        """The axes of a tensor over which the function sums, from 0, however they are given; all where none is."""
        args, dims = self.args, tensor.dim()
        if self.name == "norm" and len(args) > 1 and "dim" not in self.kwargs:
            args = (args[0], *args[2:3])
        axis = self.kwargs.get("dim", self.kwargs.get("axis", args[1] if len(args) > 1 else None))
        if axis is None or isinstance(axis, Tensor):
            return list(range(dims))
        return [a % dims for a in (axis if isinstance(axis, (tuple, list)) else [axis])]

    def again(self, old: Tensor, new: Tensor) -> Tensor:
        """What the same call gives with another tensor, and all others as they are."""

        def swapped(value: Any) -> Any:
            if value is old:
                return new
            if isinstance(value, Tensor):
                return value.detach()
            return type(value)(swapped(v) for v in value) if type(value) in (list, tuple) else value

        found: Tensor = self.func(*swapped(self.args), **{k: swapped(v) for k, v in self.kwargs.items()})
        return found


def whole(tensor: Tensor, of: Of) -> Ids:
    """The companion in the tensor's own shape."""
    ids = of(tensor)
    return torch.full((1,) * tensor.dim(), NOTHING).expand(tensor.shape) if ids is None else ids.expand(tensor.shape)


def moved(call: TorchCall, of: Of) -> Any:
    """What a function that only moves data makes of the companions; the tuple where it gives several."""
    name, args, kwargs = call.name, call.args, call.kwargs
    if name in RESHAPES and isinstance(call.result, Tensor):
        return reshaped(whole(args[0], of), call.result.shape)
    if call.func is Tensor.where:
        return _called(name, (args[1], args[0], *args[2:]), kwargs, of)
    if name in TURNS:  # the companion has the shape that the tensor had
        ids = of(args[0])
        return None if ids is None else getattr(ids, name.rstrip("_"))(*args[1:], **kwargs)
    if name == "as_strided":
        return _strided(of, *args, **kwargs)
    if name in LISTS:
        tensors = args[0] if args else kwargs["tensors"]
        rest = {k: v for k, v in kwargs.items() if k not in ("out", "tensors")}
        kept = [t for t in tensors if t.dim() > 1 or t.numel() or len(tensors) == 1]
        return _beside(name, [whole(t, of) for t in kept], args[1:], rest)
    if name == "pad":
        return _padded(args, kwargs, of)
    if call.func in (F.unfold, F.fold):  # pads with zeros
        return call.func(whole(args[0], of).double() + 1, *args[1:], **kwargs).round().long() - 1
    return _called(name, args, kwargs, of)


def on_cpu(value: Any) -> Any:
    """An argument with what tells of places where companions lie; features are where they were."""
    if isinstance(value, Tensor):
        return value.cpu() if not value.is_floating_point() and not value.is_complex() else value
    if type(value) in (list, tuple):
        return type(value)(on_cpu(v) for v in value)
    return {k: on_cpu(v) for k, v in value.items()} if type(value) is dict else value


def _called(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], of: Of) -> Any:
    """The function itself, on the companions of its data."""
    call = ADDS_AT.get(name, name)
    data = DATA.get(call, (0,))
    given = [_data(a, of) if i in data else on_cpu(a) for i, a in enumerate(args)]
    features = {k for k, v in kwargs.items() if isinstance(v, Tensor) and v.is_floating_point()}
    named = {k: whole(v, of) if k in features else on_cpu(v) for k, v in kwargs.items() if k != "out"}
    if name == "copy_":
        return given[1].expand(args[0].shape)
    if name in ("T", "mT"):
        return getattr(given[0], name)
    if call.endswith("_") and not call.endswith("__"):  # a companion is never written to
        call, given[0] = call.rstrip("_"), given[0].clone()
    shuffles = call in ("pixel_shuffle", "pixel_unshuffle", "channel_shuffle")
    space = F if shuffles else torch if call == "where" or not hasattr(Tensor, call) else Tensor
    return getattr(space, call)(*given, **named)


def reshaped(ids: Ids, shape: Sequence[int]) -> Ids:
    """In another shape; copied only along axes along which it is not expanded."""
    if ids.shape.numel() != math.prod(shape) or not ids.numel():
        return ids.reshape(shape)
    made = list(shape)
    for before, after in _groups(tuple(ids.shape), tuple(shape)):
        if all(ids.stride(a) == 0 for a in before if ids.shape[a] > 1):
            for axis in before:
                ids = ids.narrow(axis, 0, 1)
            for axis in after:
                made[axis] = 1
    return ids.reshape(made).expand(shape)


@lru_cache(maxsize=1024)
def _groups(before: tuple[int, ...], after: tuple[int, ...]) -> list[tuple[range, range]]:
    """The axes of two shapes with as many elements, in the smallest groups that have as many elements in both."""
    starts, ends, sizes = [0, 0], [0, 0], [1, 1]
    shapes, groups = (before, after), []
    while any(end < len(shape) for end, shape in zip(ends, shapes, strict=True)):
        grown = int(sizes[1] < sizes[0] or ends[0] == len(before))
        sizes[grown] *= shapes[grown][ends[grown]]
        ends[grown] += 1
        if sizes[0] == sizes[1]:
            groups.append((range(starts[0], ends[0]), range(starts[1], ends[1])))
            starts, sizes = list(ends), [1, 1]
    return groups


def _beside(name: str, parts: list[Ids], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Ids:
    """Put together; copied only along axes along which one of them is not expanded."""
    joins = {"stack": 1, "cat": 0, "concat": 0, "concatenate": 0}
    made: Ids
    if name not in joins or len({part.dim() for part in parts}) != 1:
        made = getattr(torch, name)(parts, *args, **kwargs)
        return made
    dims = parts[0].dim() + joins[name]
    axis = int(kwargs.get("dim", kwargs.get("axis", args[0] if args else 0))) % dims
    axes = [a for a in range(parts[0].dim()) if name == "stack" or a != axis]
    axes = [a for a in axes if all(part.stride(a) == 0 and part.shape[a] > 1 for part in parts)]
    sizes = [-1] * dims
    for a in axes:
        sizes[a + (name == "stack" and a >= axis)] = parts[0].shape[a]
        parts = [part.narrow(a, 0, 1) for part in parts]
    made = getattr(torch, name)(parts, axis)
    return made.expand(sizes)


def folds_apart(call: TorchCall) -> bool:
    """Whether the blocks that :func:`torch.nn.functional.fold` puts together do not overlap: it only moves elements."""
    return bool((F.fold(torch.ones_like(call.args[0][:1]), *call.args[1:], **call.kwargs) <= 1).all())


def _strided(of: Of, tensor: Tensor, size: Any, stride: Any, storage_offset: int | None = None) -> Ids:
    """Of a view by strides: each element is of the token that lies there in the tensor's memory.

    Raises:
        IndexError: it shows what is no part of the tensor.
    """
    memory = torch.full((tensor.untyped_storage().nbytes() // tensor.element_size(),), _NO_PART)
    start = tensor.storage_offset()
    memory.as_strided(tensor.shape, tensor.stride(), start).copy_(whole(tensor, of))
    found = memory.as_strided(size, stride, start if storage_offset is None else storage_offset)
    if bool((found == _NO_PART).any()):
        raise IndexError("a view by strides shows memory that is no part of the tensor")
    return found.clone()


def _data(value: Any, of: Of) -> Any:
    if isinstance(value, Tensor):
        return whole(value, of)
    return torch.tensor(NOTHING) if isinstance(value, (int, float)) else value


def _padded(args: tuple[Any, ...], kwargs: dict[str, Any], of: Of) -> Ids:
    """Padding with a number is no token; with what lies at the border, the same tokens once more."""
    ids = whole(args[0], of)
    pad, mode = (*args[1:3], *(kwargs[k] for k in ("pad", "mode") if k in kwargs), "constant")[:2]
    if mode == "constant":
        return F.pad(ids, pad, value=NOTHING)
    return F.pad(ids.double(), pad, mode).round().long()


def is_constant_along(ids: Ids, axes: Sequence[int]) -> bool:
    """Whether all elements along these axes are of one token."""
    varying = [a for a in axes if ids.stride(a) != 0 and ids.shape[a] > 1]
    return all(bool((ids == ids.narrow(a, 0, 1)).all()) for a in varying)


def reduced(ids: Ids, axes: Sequence[int], keep: bool) -> Ids:
    """The companion without these axes, along which it is constant."""
    for axis in sorted(axes, reverse=True):
        ids = ids.narrow(axis, 0, 1) if keep else ids.select(axis, 0)
    return ids


def broadcasts(tensors: Iterable[Tensor], to: Tensor | None = None) -> bool:
    """Whether tensors have shapes that fit together; with ``to``, into its shape."""
    sizes = dict(enumerate(() if to is None else reversed(to.shape)))
    for tensor in tensors:
        if to is not None and tensor.dim() > to.dim():
            return False
        if any([n != 1 and sizes.setdefault(axis, n) != n for axis, n in enumerate(reversed(tensor.shape))]):
            return False
    return True
