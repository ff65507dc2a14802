"""The ways through a model's code that a run took: what a proof about the run says nothing of is code that did not run.

A model is more than its modules. A constant of a Python file, a variable of a closure, a registry of attention functions, a
class whose ``forward`` was replaced: none of them is seen in the model (:mod:`heedmap.attention.fingerprint`), and each may let
tokens mix where they did not. What they change is which lines call torch.
"""

from __future__ import annotations

import sys
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from types import CodeType, FrameType
from typing import Any, Self

from torch import Tensor

NUMBERS = (bool, int, float)
RESUMED = CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR


class Ways:
    """The calls of torch functions that a recorder sees while this is entered, each by all the places in the code that led to it.

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
