"""What a proof about a model holds for: everything that could decide where its tokens are, or by what they mix.

That is the model as it now is (its modules, their plain attributes and configurations, the version of every weight and some of
its numbers), the kind of input (names, dtypes, ranks, sizes of pictures, flags) and the code that ran. What cannot be seen from
outside makes two states different rather than alike: then the proof is made again.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Iterable, Mapping
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from types import CodeType, FrameType, FunctionType
from typing import Any, Self

import torch
from torch import Tensor, nn

from heedmap.attention.inputs import KEEP, contents, named_modules

PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
EQUAL = {bool, int, str, bytes, type(None), torch.dtype}
"""Of most attributes: they are like themselves, and to look here takes less than to ask for their classes."""
APART = {"_parameters", "_buffers", "_modules", "training"}
BOOKS = vars(nn.Module()).keys()
_LOCK = threading.RLock()
_VERDICTS: weakref.WeakKeyDictionary[nn.Module, tuple[Any, dict[Any, Any]]] = weakref.WeakKeyDictionary()
Known = dict[tuple[int, int], Any]
DEPTH = 4
SAMPLED = 8
SMALL = 4


def proved(model: nn.Module) -> dict[Any, Any]:
    """What is known of the model as it now is, by kind of input; what is put there is forgotten when it changes."""
    state = of_model(model)
    with _LOCK:
        if model not in _VERDICTS or _VERDICTS[model][0] != state:
            _VERDICTS[model] = (state, {})
        return _VERDICTS[model][1]


def key_of(inputs: Mapping[str, Any], batch: int, check: bool) -> Any:
    """What a verdict, and a refusal, is kept for."""
    kept = [getattr(inputs, name, None) for name in ("towers", "turned", "ends")]
    return (batch > 1, check, of_inputs(inputs), *kept)


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


NUMBERS = (bool, int, float)
RESUMED = CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR


class Ways:
    """The calls of torch functions that a recorder sees while this is entered, each by all the places in the code that led to it.

    A model is more than its modules. A constant of a Python file, a variable of a closure, a registry of attention functions, a
    class whose ``forward`` was replaced: none of them is seen in :func:`of_model`, and each may let tokens mix where they did
    not. What they change is which lines call torch; what a proof about a run says nothing of is code that did not run.

    Two calls are alike when they are of one function, from the same lines of the same functions, and the same of the numbers they
    got are zero. Where the calls of one run were all made in another one, in whatever order and number, it is :meth:`known`.
    """

    def __init__(self) -> None:
        self.entered = False
        self._taken: set[int] = set()
        self._codes: dict[int, CodeType] = {}  # kept, so that no other code gets the identity of one of them
        self._outermost: CodeType | None = None
        self._stack: list[
            tuple[FrameType, int]
        ] = []  # the calls that led to the last one, the way to each from outside
        self._depths: dict[FrameType, int] = {}  # of each of them, where it is on the stack

    def __enter__(self) -> Self:
        self._outermost, self.entered = sys._getframe(1).f_code, True
        return self

    def __exit__(self, *error: Any) -> None:
        """Let go of what the model's functions held."""
        self.entered = False
        self._stack.clear()
        self._depths.clear()

    def note(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], frame: FrameType) -> None:
        """Remember from where ``func`` is called."""
        given = () if func is Tensor.__getitem__ else (*args, *kwargs.values())
        zero = [not value for value in given if type(value) in NUMBERS]
        self._taken.add(hash((func, *zero, self._way_to(frame))))

    def _way_to(self, frame: FrameType | None) -> int:
        """All the places in the code that led to this call.

        While a function has not returned, those that called it are where they were, and are not looked at again; a generator may
        be resumed by others.
        """
        frames: list[FrameType] = []
        depth = 0
        while frame is not None and (code := frame.f_code) is not self._outermost:
            frames.append(frame)
            if frame in self._depths and not code.co_flags & RESUMED:
                depth = self._depths[frame]
                break
            frame = frame.f_back
        for returned, _ in self._stack[depth:]:
            del self._depths[returned]
        del self._stack[depth:]
        way = self._stack[-1][1] if self._stack else 0
        for frame in reversed(frames):
            code = frame.f_code
            way = hash((way, id(code), frame.f_lasti))
            self._codes[id(code)] = code
            self._depths[frame] = len(self._stack)
            self._stack.append((frame, way))
        return way

    def known(self, proved: Ways) -> bool:
        """Whether everything that was called here was called there, too."""
        return self._taken <= proved._taken

    def also(self, other: Ways) -> None:
        """Take in the ways of another run."""
        self._taken |= other._taken
        self._codes |= other._codes
