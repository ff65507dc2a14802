"""What a proof about a model holds for: everything that could decide where its tokens are, or by what they mix.

That is the model as it now is (its modules, their plain attributes and configurations, the version of every weight and some of
its numbers) and the kind of input (names, dtypes, ranks, sizes of pictures, flags). What cannot be seen from outside makes two
states different rather than alike: then the proof is made again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from heedmap.attention.inputs import KEEP, contents
from heedmap.attention.wrapped import named_modules

PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
EQUAL = {bool, int, str, bytes, type(None), torch.dtype}
"""Of most attributes: they are like themselves, and to look here takes less than to ask for their classes."""
APART = {"_parameters", "_buffers", "_modules", "training"}
BOOKS = vars(nn.Module()).keys()
Known = dict[tuple[int, int], Any]
DEPTH = 4
SAMPLED = 8
SMALL = 4


def of_inputs(inputs: Mapping[str, Any]) -> Any:
    """The kind of input: not the number of words, nor what they are, nor of how many there are logits."""
    return tuple(contents(inputs)), tuple((name, _input(value)) for name, value in inputs.items() if name != KEEP)


def _input(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return _state(value, DEPTH, {})
    numbers = (
        tuple(value.flatten().tolist()) if value.dim() == 0 or (value.dim() == 1 and len(value) <= SMALL) else None
    )
    sizes = tuple(value.shape[2:]) if value.dim() > 3 else ()
    one_choice = value.dim() == 3 and value.shape[1] == 1
    return value.dtype, value.dim(), sizes, numbers, one_choice


def of_model(model: nn.Module) -> Any:
    """The model as it now is."""
    known: Known = {}
    modules, classes = [], dict[type, None]()
    weights: list[Tensor] = []
    for module, name in named_modules(model).items():
        attributes = {k: v for k, v in vars(module).items() if k not in APART and (k not in BOOKS or v)}
        modules.append((name, type(module), _inside(attributes, DEPTH, known)))
        classes.update(dict.fromkeys(type(module).__mro__))
        weights.extend(t for t in (*module._parameters.values(), *module._buffers.values()) if t is not None)
    hooks = {k: v for k, v in vars(nn.modules.module).items() if k.startswith("_global_") and v}
    shared = (
        _inside(hooks, DEPTH, known),
        tuple((c, _inside(dict(vars(c)), 1, known)) for c in classes if c not in (nn.Module, object)),
    )
    return tuple(modules), shared, tuple(map(_tensor, weights)), _numbers(weights)


def _state(value: Any, depth: int, known: Known) -> Any:
    """Equal for things that are alike, as far as can be seen."""
    kind = type(value)
    if kind in EQUAL:
        return kind, value
    if kind is FunctionType:
        return kind, id(value)
    if isinstance(value, PLAIN):
        return kind, value if value == value else "nan"  # nan is not even like itself
    if isinstance(value, Tensor):
        return _tensor(value)
    if isinstance(value, (nn.Module, type)) or depth == 0:
        return kind, id(value)
    place = id(value), depth
    if place not in known:
        known[place] = _inside(value, depth - 1, known)
    return known[place]


def _inside(value: Any, depth: int, known: Known) -> Any:
    if isinstance(value, dict):
        return type(value), tuple(
            [
                (
                    k if type(k) is str else _state(k, 1, known),
                    (kind, v) if (kind := type(v)) in EQUAL else _state(v, depth, known),
                )
                for k, v in value.items()
            ]
        )
    if isinstance(value, (list, tuple, set, frozenset)):
        return type(value), tuple([_state(v, depth, known) for v in value])
    if callable(value) or not hasattr(value, "__dict__"):
        return type(value), id(value)
    return type(value), tuple([(k, _state(v, depth, known)) for k, v in vars(value).items()])


def _tensor(tensor: Tensor) -> Any:
    version = 0 if tensor.is_inference() else tensor._version
    return tensor.dtype, tensor.device, tuple(tensor.shape), version, None if tensor.is_meta else tensor.data_ptr()


def _numbers(weights: Iterable[Tensor]) -> Any:
    """Some numbers of each weight, all at once: what is written through ``.data`` changes no version."""
    groups: dict[Any, list[Tensor]] = {}
    for weight in weights:
        plain = type(weight) in (Tensor, nn.Parameter) and weight.layout == torch.strided
        if plain and weight.numel() and not weight.is_meta:
            groups.setdefault((weight.dtype, weight.device), []).append(_some(weight.detach()))
    return tuple(torch.cat(group).cpu().view(torch.uint8).numpy().tobytes() for group in groups.values())


def _some(weight: Tensor) -> Tensor:
    count = min(SAMPLED, weight.numel()) if weight.is_contiguous() else 1
    return weight.as_strided((count,), (weight.numel() // count,))
