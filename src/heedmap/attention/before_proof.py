"""What is asked before a proof begins, when the pass that it is made on is there: whether it may take what it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from heedmap.attention.tape import Tape

Question = Callable[[Tape, Any], None]
_ASKED: ContextVar[Question | None] = ContextVar("before a proof", default=None)


@contextmanager
def asking(question: Question | None) -> Iterator[None]:
    """Within it, ``question`` is given the recording and the output of each pass that a proof is to be made on; it may raise."""
    token = _ASKED.set(question)
    try:
        yield
    finally:
        _ASKED.reset(token)


def ask(tape: Tape, output: Any) -> None:
    """To be called before a proof."""
    question = _ASKED.get()
    if question is not None:
        question(tape, output)
