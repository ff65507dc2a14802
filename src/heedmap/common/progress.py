"""How far a long call has come: told, from wherever the work is done, to whoever asked for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Progress = Callable[[int, int], None]
"""Is told how many steps are done, and of how many."""

_TELL: ContextVar[Progress | None] = ContextVar("_TELL", default=None)


@contextmanager
def telling(progress: Progress | None) -> Iterator[None]:
    """Passes that are counted meanwhile are told to ``progress``; None: to nobody."""
    token = _TELL.set(progress)
    try:
        yield
    finally:
        _TELL.reset(token)


class Passes:
    """Counts the passes of a method.

    Args:
        of: how many there will be, at most.
    """

    def __init__(self, of: int) -> None:
        self._tell, self._of, self._done = _TELL.get(), of, 0

    def done(self) -> None:
        """One more."""
        self._done += 1
        if self._tell is not None:
            self._tell(min(self._done, self._of), self._of)
