"""Activation checkpointing, off for the time of an explanation.

A checkpointed part of a model runs a second time during the backward pass, where the recorder no longer looks, or without
gradients where it does. Nothing is won by it here, so ``torch.utils.checkpoint`` runs the part directly instead. Models
import ``checkpoint`` itself by name; what it calls are globals of its own module, and these are swapped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch.utils.checkpoint as torch_checkpoint
from torch.utils.checkpoint import CheckpointFunction

_GENERATORS = [name for name in vars(torch_checkpoint) if name.startswith("_checkpoint_without_reentrant_generator")]
_LOCK = threading.RLock()
_SWAPPED: dict[str, Any] = {"users": 0}
_THREAD = threading.local()


@contextmanager
def run_directly() -> Iterator[None]:
    """What this thread checkpoints runs directly; other threads checkpoint as ever, and so does this one afterwards."""
    with _LOCK:
        _SWAPPED["users"] += 1
        if _SWAPPED["users"] == 1:
            _swap()
    _THREAD.depth = getattr(_THREAD, "depth", 0) + 1
    try:
        yield
    finally:
        _THREAD.depth -= 1
        with _LOCK:
            _SWAPPED["users"] -= 1
            if _SWAPPED["users"] == 0:
                _put_back()


def _swap() -> None:
    _SWAPPED["apply"] = vars(CheckpointFunction).get("apply")
    CheckpointFunction.apply = staticmethod(_switched(CheckpointFunction.apply, _reentrant))
    _SWAPPED["generators"] = {name: getattr(torch_checkpoint, name) for name in _GENERATORS}
    for name, usual in _SWAPPED["generators"].items():
        setattr(torch_checkpoint, name, _switched(usual, _not_reentrant))


def _put_back() -> None:
    for name, usual in _SWAPPED["generators"].items():
        setattr(torch_checkpoint, name, usual)
    if _SWAPPED["apply"] is None:  # inherited, as it is unless somebody else has set it
        del CheckpointFunction.apply
    else:
        CheckpointFunction.apply = _SWAPPED["apply"]


def _switched(usual: Callable[..., Any], direct: Callable[..., Any]) -> Callable[..., Any]:
    def switch(*args: Any, **kwargs: Any) -> Any:
        return (direct if getattr(_THREAD, "depth", 0) else usual)(*args, **kwargs)

    return switch


def _reentrant(function: Callable[..., Any], preserve: bool, *args: Any) -> Any:
    """In place of ``CheckpointFunction.apply``, which runs ``function`` without gradients."""
    return function(*args)


def _not_reentrant(*_: Any, **__: Any) -> Iterator[None]:
    """In place of the generator, between whose two steps ``checkpoint`` calls the function, under its hooks."""
    yield
