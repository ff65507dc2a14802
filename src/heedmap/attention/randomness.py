"""The numbers that a model may draw in a run: from a fixed seed, and afterwards from where its owner was."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

_LOCK = threading.RLock()
_STATES: dict[str, Any] = {"users": 0}


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
    """To be called before each run, within :func:`own_randomness`."""
    for _, _, start in _generators():
        start(0)


@contextmanager
def own_randomness() -> Iterator[None]:
    """The generators' states are put back by the last of several threads to leave: they belong to the process."""
    with _LOCK:
        _STATES["users"] += 1
        if _STATES["users"] == 1:
            _STATES["kept"] = [(put_back, state()) for state, put_back, _ in _generators()]
    try:
        yield
    finally:
        with _LOCK:
            _STATES["users"] -= 1
            if _STATES["users"] == 0:
                for put_back, state in _STATES.pop("kept"):
                    put_back(state)


def noises(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Normal noise in the shape, the dtype and the place of each of these tensors; not to be written to.

    One is drawn for all of a kind, and each begins one number further on: drawing for each takes as long as running the model.
    """
    longest = max((tensor.numel() for tensor in tensors), default=0) + len(tensors)
    kinds = {(tensor.dtype, tensor.device): tensor for tensor in tensors}
    drawn = {kind: tensor.new_empty(longest).normal_() for kind, tensor in kinds.items()}
    return [drawn[t.dtype, t.device][i : i + t.numel()].view(t.shape) for i, t in enumerate(tensors)]
