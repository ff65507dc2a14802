"""What happened in a forward pass, in order: softmaxes, modules and functions, with the target's gradient to what they gave."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


@dataclass(eq=False)
class Event:
    """A softmax (no name), or a module's call.

    Attributes:
        name: which of the paths asked for the module has, or of a function its own; ``""`` for a softmax.
        module: None for a softmax; of a function, itself with all but its first argument.
        given: what a module was called with; of a function, its first argument.
        out: what it gave, or the first part of that; None where it is no tensor.
        gradient: ∂y/∂out; 0 where there is none.
    """

    name: str
    module: Callable[..., Any] | None
    given: tuple[Any, ...]
    out: Tensor | None = None
    gradient: Tensor | None = None


class Softmaxes(TorchFunctionMode):
    """Notes each softmax, which stays in float64 where the model asks for float32, and each call of ``functions``."""

    def __init__(self, events: list[Event], functions: Collection[str] = ()) -> None:
        super().__init__()
        self.events, self.functions = events, functions

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if name in self.functions:
            result = func(*args, **kwargs)
            self.events.append(Event(name, lambda x: func(x, *args[1:], **kwargs), args[:1], result))
            return result
        if name != "softmax":
            return func(*args, **kwargs)
        if kwargs.get("dtype") is torch.float32:
            kwargs["dtype"] = torch.float64
        result = func(*args, **kwargs)
        self.events.append(Event("", None, (), result))
        return result


def seen(
    model: nn.Module,
    inputs: Mapping[str, Any],
    target: Callable[[Any], Tensor],
    paths: Collection[str],
    functions: Collection[str] = (),
) -> list[Event]:
    """The events of one pass of a model whose weights have gradients; of modules, those whose path ends in one of ``paths``, regular expressions.

    Of ``functions`` of torch, by name, every call.
    """
    events: list[Event] = []
    hooks = []
    for path, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            hooks.append(module.register_forward_hook(_in_rows))
        for name in (p for p in paths if re.search(rf"(^|\.){p}$", path)):
            waiting: list[Event] = []
            hooks.append(module.register_forward_pre_hook(partial(_begins, events, waiting, name)))
            hooks.append(module.register_forward_hook(partial(_ends, waiting)))
    with torch.enable_grad(), Softmaxes(events, functions):
        score = target(model(**inputs)).sum()
    for hook in hooks:
        hook.remove()
    made = [e for e in events if e.out is not None and e.out.requires_grad]
    gradients = torch.autograd.grad(score, [e.out for e in made], allow_unused=True)
    for event, gradient in zip(made, gradients, strict=True):
        event.gradient = torch.zeros_like(event.out) if gradient is None else gradient
    return events


def _in_rows(module: nn.Module, given: tuple[Any, ...], out: Tensor) -> None:
    """torch's backward of a batch norm errs on one sample's transposed gradient; in rows it is right."""
    if out.requires_grad:
        out.register_hook(Tensor.contiguous)


def _begins(events: list[Event], waiting: list[Event], name: str, module: nn.Module, given: tuple[Any, ...]) -> None:
    waiting.append(Event(name, module, given))
    events.append(waiting[-1])


def _ends(waiting: list[Event], module: nn.Module, given: tuple[Any, ...], out: Any) -> None:
    first = out[0] if isinstance(out, tuple) else out
    waiting.pop().out = first if isinstance(first, Tensor) else None
