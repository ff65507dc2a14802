"""The ways through a model's code that a run took: what a proof about the run says nothing of is code that did not run.

A model is more than its modules. A constant of a Python file, a variable of a closure, a registry of attention functions, a
class whose ``forward`` was replaced: none of them is seen in the model (:mod:`heedmap.attention.fingerprint`), and each may let
tokens mix where they did not. What they change is which lines call torch.
"""

from __future__ import annotations

import sys
from types import CodeType, FrameType
from typing import Any, Self

from torch import Tensor
from torch.overrides import TorchFunctionMode

from heedmap.attention import operations as ops

NUMBERS = (bool, int, float)


class Ways(TorchFunctionMode):
    """The calls of torch functions while it is entered, each by all the places in the code that led to it.

    Two calls are alike when they are of one function, from the same lines of the same functions, and the same of the numbers they
    got are zero. Where the calls of one run were all made in another one, in whatever order and number, it is :meth:`known`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._taken: set[int] = set()
        self._codes: dict[int, CodeType] = {}  # kept, so that no other code gets the identity of one of them
        self._outermost: CodeType | None = None

    def __enter__(self) -> Self:
        self._outermost = sys._getframe(1).f_code
        super().__enter__()
        return self

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run ``func``, and remember from where it was called."""
        kwargs = kwargs or {}
        if func not in ops.ASKS:
            self._remember(func, () if func is Tensor.__getitem__ else (*args, *kwargs.values()))
        return func(*args, **kwargs)

    def _remember(self, func: Any, given: tuple[Any, ...]) -> None:
        steps: list[Any] = [func, *[not value for value in given if type(value) in NUMBERS]]
        frame: FrameType | None = sys._getframe(2)
        while frame is not None and (code := frame.f_code) is not self._outermost:
            steps += (id(code), frame.f_lasti)
            frame = frame.f_back
        way = hash(tuple(steps))
        if way not in self._taken:
            self._taken.add(way)
            self._keep(sys._getframe(2))

    def _keep(self, frame: FrameType | None) -> None:
        while frame is not None and frame.f_code is not self._outermost:
            self._codes[id(frame.f_code)] = frame.f_code
            frame = frame.f_back

    def known(self, proved: Ways) -> bool:
        """Whether everything that was called here was called there, too."""
        return self._taken <= proved._taken

    def also(self, other: Ways) -> None:
        """Take in the ways of another run."""
        self._taken |= other._taken
        self._codes |= other._codes
