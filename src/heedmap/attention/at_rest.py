"""A model at rest for the time of an explanation, and everything as its owner had it afterwards.

It is in eval mode, no parameter requires grad, nothing is compiled or checkpointed, and what it draws is from a fixed seed. What
belongs to the process or to the model is changed by the first of several threads, and put back by the last of them to leave.
"""

from __future__ import annotations

import random
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
import torch.utils.checkpoint as torch_checkpoint
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointFunction

from heedmap.attention.inputs import named_modules
from heedmap.errors import ModelStateError

T = TypeVar("T")

_LOCK = threading.RLock()
_CHANGES: dict[Any, tuple[int, ExitStack, Any]] = {}
"""Changes that hold, with the number of threads that need each."""
_NO_TENSOR = {int, float, str, *map(type, vars(nn.Module()).values())}
"""Of most attributes of modules: to ask these classes whether they are tensors takes longer than to look here."""
_BOOKS = vars(nn.Module()).keys()
_PLAIN = {int, float, str, bool, bytes, type(None), torch.dtype, torch.device}
_DEPTH = 3
"""How deep it is looked into what attributes hold."""


@contextmanager
def answering(model: nn.Module) -> Iterator[None]:
    """As :func:`recording_state`, for answers alone: without gradients, and with the seed that an explanation has."""
    with recording_state(model), torch.no_grad():
        seed()
        yield


@contextmanager
def recording_state(model: nn.Module) -> Iterator[None]:
    """Gradients on; dropout and checkpointing off, a fixed seed; afterwards everything is as before, also after an exception.

    Raises:
        ModelStateError: under ``torch.inference_mode``, whose tensors cannot have gradients.
    """
    if torch.is_inference_mode_enabled() or any(t.is_inference() for t in islice(model.parameters(), 1)):
        raise ModelStateError(
            "heedmap needs gradients, which torch.inference_mode forbids; call it outside (torch.no_grad is fine), on a "
            "model that was loaded outside too"
        )
    with _at_rest(model), _shared(_states_kept), _uncompiled(), run_directly(), torch.enable_grad():
        yield


@contextmanager
def _shared(change: Callable[..., AbstractContextManager[T]], *of: Any) -> Iterator[T]:
    """A change that several threads need: the first to come enters ``change(*of)``, the last to leave exits it."""
    key = (change, *of)
    with _LOCK:
        if key not in _CHANGES:
            undo = ExitStack()
            _CHANGES[key] = 0, undo, undo.enter_context(change(*of))
        users, undo, made = _CHANGES[key]
        _CHANGES[key] = users + 1, undo, made
    try:
        yield made
    finally:
        with _LOCK:
            users, undo, made = _CHANGES.pop(key)
            if users > 1:
                _CHANGES[key] = users - 1, undo, made
            else:
                undo.close()


# -- the model --------------------------------------------------------------------------------------------------------


@contextmanager
def _at_rest(model: nn.Module) -> Iterator[None]:
    """In eval mode, and no parameter requires grad, until the last of several threads leaves; then it is as it was found.

    So nothing below the first attention is kept. The parameters stay what they are, so that a layer that moves, casts or
    loads its weights while it runs finds them, and what it puts in their place requires grad again afterwards. What a module
    keeps of a run as an attribute is left without a graph.
    """
    with _shared(_found, model) as found:
        with _LOCK:
            found.rest()
        yield


@contextmanager
def _found(model: nn.Module) -> Iterator[_AsFound]:
    found = _AsFound.of(model)
    try:
        yield found
    finally:
        found.put_back(model)


@dataclass(frozen=True, eq=False)
class _AsFound:
    """What a model was found as.

    Attributes:
        trained: modules in training mode.
        required: parameters that require grad, by module and name.
        attached: attributes that hold a tensor of a graph of the owner's (a loss kept for later), by module's attributes.
        inside: such tensors in what attributes hold (a list, a cache).
    """

    trained: list[nn.Module]
    required: list[tuple[nn.Module, str, nn.Parameter]]
    attached: list[tuple[dict[str, Any], str, Tensor]]
    inside: list[tuple[Any, Any, Tensor]]

    @classmethod
    def of(cls, model: nn.Module) -> _AsFound:
        modules = list(named_modules(model))
        required = [
            (module, name, parameter)
            for module in modules
            for name, parameter in module._parameters.items()
            if parameter is not None and parameter.requires_grad and parameter.is_leaf
        ]
        trained = [module for module in modules if module.training]
        return cls(trained, required, _attached(modules), _inside(modules))

    def rest(self) -> None:
        for module in self.trained:
            module.training = False
        self._require_grad(False)

    def put_back(self, model: nn.Module) -> None:
        for module in self.trained:
            module.training = True
        self._require_grad(True)
        modules = list(named_modules(model))
        for attributes, name, tensor in _attached(modules):
            attributes[name] = tensor.detach()
        for attributes, name, tensor in self.attached:
            attributes[name] = tensor
        owners = {id(tensor) for _, _, tensor in self.inside}
        for holder, place, tensor in _inside(modules):
            if id(tensor) not in owners:
                holder[place] = tensor.detach()

    def _require_grad(self, wanted: bool) -> None:
        for module, name, parameter in self.required:
            for current in (parameter, module._parameters.get(name)):
                if current is not None and current.is_leaf and current.requires_grad != wanted:
                    current.requires_grad_(wanted)


def _attached(modules: Iterable[nn.Module]) -> list[tuple[dict[str, Any], str, Tensor]]:
    return [
        (vars(module), name, value)
        for module in modules
        for name, value in vars(module).items()
        if type(value) not in _NO_TENSOR and isinstance(value, Tensor) and value.grad_fn is not None
    ]


def _inside(modules: Iterable[nn.Module]) -> list[tuple[Any, Any, Tensor]]:
    """Tensors of a graph in lists, dicts and plain objects that attributes hold, with where each is."""
    seen = set[int]()
    return [
        found
        for module in modules
        for name, value in vars(module).items()
        if name not in _BOOKS and type(value) not in _PLAIN
        for found in _held(value, _DEPTH, seen)
    ]


def _held(value: Any, depth: int, seen: set[int]) -> Iterator[tuple[Any, Any, Tensor]]:
    if not depth or id(value) in seen or isinstance(value, (Tensor, nn.Module, type)) or callable(value):
        return
    seen.add(id(value))
    holder = value if isinstance(value, (dict, list, deque)) else getattr(value, "__dict__", None)
    if holder is None:
        return
    for place, entry in holder.items() if isinstance(holder, dict) else enumerate(holder):
        if isinstance(entry, Tensor):
            if entry.grad_fn is not None:
                yield holder, place, entry
        elif type(entry) not in _PLAIN:
            yield from _held(entry, depth - 1, seen)


# -- nothing compiled, nothing checkpointed ------------------------------------------------------------------------


def _uncompiled() -> AbstractContextManager[None]:
    """Compiled modules and functions run as they were written; where dynamo is not loaded (it takes seconds), there are none."""
    return _shared(torch.compiler.set_stance, "force_eager") if "torch._dynamo" in sys.modules else nullcontext()


_DEPTHS = threading.local()
"""How many explanations each thread is within."""


@contextmanager
def run_directly() -> Iterator[None]:
    """What this thread checkpoints runs directly; other threads checkpoint as ever, and so does this one afterwards.

    A checkpointed part of a model runs a second time during the backward pass, where the recorder no longer looks, or without
    gradients where it does. Nothing is won by it here.
    """
    with _shared(_checkpoints_switched):
        _DEPTHS.depth = getattr(_DEPTHS, "depth", 0) + 1
        try:
            yield
        finally:
            _DEPTHS.depth -= 1


@contextmanager
def _checkpoints_switched() -> Iterator[None]:
    """Models import ``checkpoint`` itself by name; what it calls are globals of its own module, and these are swapped."""
    own = vars(CheckpointFunction).get("apply")  # None: inherited, as it is unless somebody else has set it
    generators = {
        n: f for n, f in vars(torch_checkpoint).items() if n.startswith("_checkpoint_without_reentrant_generator")
    }
    CheckpointFunction.apply = staticmethod(_switched(CheckpointFunction.apply, _reentrant))
    vars(torch_checkpoint).update({n: _switched(usual, _not_reentrant) for n, usual in generators.items()})
    try:
        yield
    finally:
        vars(torch_checkpoint).update(generators)
        if own is None:
            del CheckpointFunction.apply
        else:
            CheckpointFunction.apply = own


def _switched(usual: Callable[..., Any], direct: Callable[..., Any]) -> Callable[..., Any]:
    def switch(*args: Any, **kwargs: Any) -> Any:
        return (direct if getattr(_DEPTHS, "depth", 0) else usual)(*args, **kwargs)

    return switch


def _reentrant(function: Callable[..., Any], preserve: bool, *args: Any) -> Any:
    """In place of ``CheckpointFunction.apply``, which runs ``function`` without gradients."""
    return function(*args)


def _not_reentrant(*_: Any, **__: Any) -> Iterator[None]:
    """In place of the generator, between whose two steps ``checkpoint`` calls the function, under its hooks."""
    yield


# -- what is drawn ----------------------------------------------------------------------------------------------------


def _generators() -> Iterator[tuple[Callable[[], Any], Callable[[Any], Any], Callable[[int], Any]]]:
    """What tells, sets and seeds the state of each generator of the process. A device that is not in use yet has none.

    ``torch.manual_seed`` would keep its seed for such a device, in the place of the owner's.
    """
    yield random.getstate, random.setstate, random.seed
    yield np.random.get_state, np.random.set_state, np.random.seed
    yield torch.get_rng_state, torch.set_rng_state, torch.default_generator.manual_seed
    for device in (torch.cuda, torch.xpu):
        if device.is_initialized():
            yield device.get_rng_state_all, device.set_rng_state_all, device.manual_seed_all
    if torch.backends.mps.is_available():
        yield torch.mps.get_rng_state, torch.mps.set_rng_state, torch.mps.manual_seed


def seed() -> None:
    """To be called before each run, within :func:`recording_state`."""
    for _, _, start in _generators():
        start(0)


@contextmanager
def _states_kept() -> Iterator[None]:
    """The generators' states are put back: they belong to the process."""
    kept = [(put_back, state()) for state, put_back, _ in _generators()]
    try:
        yield
    finally:
        for put_back, state in kept:
            put_back(state)
