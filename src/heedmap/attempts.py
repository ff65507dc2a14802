"""An explanation that memory does not suffice for is tried again with less."""

from __future__ import annotations

import gc
from collections.abc import Callable
from copy import copy
from typing import Protocol, TypeVar

from heedmap.errors import OutOfMemoryError
from heedmap.memory import ran_out, told_bytes
from heedmap.methods.run import BLOCK

BUDGETS = (3 * BLOCK, 1)
"""Bytes for blocks, with which a call is tried again: no Ā whole; then one row and one target at a time."""


class Attempt(Protocol):
    """A call that can be made with less.

    Attributes:
        memory: that it may take; None: no bound.
        memory_budget: bytes for blocks, and for gradients of targets that are worked on at once.
        planned: whether the model's pass was recorded, so that what follows can be cut smaller.
        least: bytes beside the model with which it could be made; 0: not known.
    """

    memory: int | None
    memory_budget: int
    planned: bool
    least: int


AnyAttempt = TypeVar("AnyAttempt", bound=Attempt)
Made = TypeVar("Made")


def with_less(attempt: AnyAttempt, make: Callable[[AnyAttempt], Made]) -> Made:
    """What ``make`` makes; where memory runs out in it, made again in smaller blocks and with fewer targets at once.

    Raises:
        OutOfMemoryError: it runs out with the smallest ones, too, or in the forward pass, which cannot be cut.
    """
    budgets = [budget for budget in BUDGETS if budget < attempt.memory_budget]
    while True:
        try:
            return make(attempt)
        except Exception as error:
            if not ran_out(error):
                raise
            if not (attempt.planned and budgets):
                raise OutOfMemoryError(_told(attempt, error)) from error
        gc.collect()  # the error is gone, and with it all that was on the way, but for what refers to itself
        attempt = copy(attempt)
        attempt.memory, attempt.memory_budget, attempt.planned = None, budgets.pop(0), False


def _told(attempt: Attempt, error: Exception) -> str:
    what = "the model's forward pass, or the proof before the first, does not fit: what it needs is not known"
    if attempt.least:
        what = (
            f"at least {told_bytes(attempt.least)} ({attempt.least} bytes) are needed beside the model, with the smallest blocks "
            "and one target at a time"
        )
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"memory ran out; {what}; give fewer samples at once, a smaller input, or another device ({first[:200]})"
