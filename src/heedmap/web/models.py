"""The models of the page: opened when first asked for, each used by one request at a time, for a limited time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Protocol, TypeVar

from heedmap.errors import TimeLimitError, UnknownNameError
from heedmap.models.model import Model
from heedmap.models.names import PREFIX, shipped

Result = TypeVar("Result")


class Tell(Protocol):
    """Is told what is being done."""

    def __call__(self, words: str, done: int = ..., of: int = ..., /) -> None:
        """In words, and where it is known how many passes of how many are done."""


def untold(words: str, done: int = 0, of: int = 0, /) -> None:
    """Tells nobody."""


_HERE = threading.local()
"""``until``: when the work of this thread has to be done, by ``time.monotonic``."""
_WANTED: ContextVar[Callable[[], bool]] = ContextVar("_WANTED", default=lambda: True)
"""Whether somebody still waits for what a model does."""


class _BrokenOff(BaseException):
    """Nobody waits any more: no Exception, so that nothing takes it for what the model itself says to its inputs."""


@contextmanager
def wanted_while(still: Callable[[], bool]) -> Iterator[None]:
    """What models do for this request is broken off, when they call their next module, once ``still`` says False."""
    token = _WANTED.set(still)
    try:
        yield
    finally:
        _WANTED.reset(token)


class Models:
    """Models by name: those of the zoo, then those that were named at the start; no others can be asked for.

    Args:
        named: names for ``heedmap.load`` besides the zoo's.
        seconds: that one request may use a model, with the waiting for others who use it.
    """

    def __init__(self, named: Sequence[str] = (), seconds: float = 60.0) -> None:
        names = dict.fromkeys([*(PREFIX + name for name in shipped()), *named])
        self.seconds = seconds
        self._seats = {name: _Seat(name) for name in names}

    @property
    def names(self) -> tuple[str, ...]:
        """All that can be asked for."""
        return tuple(self._seats)

    def use(self, name: str, work: Callable[[Model], Result], tell: Tell = untold) -> Result:
        """``work(subject)`` of a model, in the thread in which alone that model is used.

        Args:
            name: one of :attr:`names`.
            work: what to do with it.
            tell: see :data:`Tell`.

        Raises:
            UnknownNameError: no such model.
            ModelLoadError: it cannot be loaded.
            TimeLimitError: it took too long, or nobody waits any more (:func:`wanted_while`); what was begun is broken off when
                the model calls its next module.
        """
        if name not in self._seats:
            raise UnknownNameError(f"the page has no model {name!r}; it has {', '.join(self._seats)}")
        tell("waiting for the model")
        future = self._seats[name].submit(work, tell, time.monotonic() + self.seconds)
        try:
            return future.result(self.seconds)
        except (TimeoutError, _BrokenOff):
            future.cancel()
            raise TimeLimitError(
                f"this took longer than {self.seconds:g} s, with the waiting for others who use {name}; try again, give "
                "less, or choose a faster method"
            ) from None

    def close(self) -> None:
        """Let go of what waits; what is being done ends by itself."""
        for seat in self._seats.values():
            seat.thread.shutdown(wait=False, cancel_futures=True)


class _Seat:
    """One model and its thread."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.subject: Model | None = None
        self.thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"heedmap {name}")

    def submit(self, work: Callable[[Model], Result], tell: Tell, until: float) -> Future[Result]:
        context = copy_context()  # by which the page knows whose progress it is told
        return self.thread.submit(context.run, self._done, work, tell, until)

    def _done(self, work: Callable[[Model], Result], tell: Tell, until: float) -> Result:
        _HERE.until = until
        try:
            if self.subject is None:
                tell("loading the model")
                self.subject = _loaded(self.name)
            go_on()
            return work(self.subject)
        finally:
            _HERE.until = None


def _loaded(name: str) -> Model:
    import heedmap

    subject = heedmap.load(name)
    for module in subject.model.modules():
        module.register_forward_pre_hook(lambda *_: go_on())
    return subject


def go_on() -> None:
    """Break off where the time of this thread's request is over, or nobody waits for it."""
    until = getattr(_HERE, "until", None)
    if until is not None and (time.monotonic() > until or not _WANTED.get()()):
        raise _BrokenOff
