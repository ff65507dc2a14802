"""Which of one person's requests the page still waits for: they run side by side, and a slow one may end after a newer one."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TypeVar

from heedmap.web.handlers import Exchange
from heedmap.web.models import wanted_while

Outcome = TypeVar("Outcome")


class Turn:
    """What one person's page is about.

    A question begins where a model is chosen, a sample or a row is pressed, or the model is asked; while a model is being
    chosen, no other begins. What ends when a newer question has begun is not shown, nor is a map when a newer one was asked for;
    a model that is still at it is stopped. Each method gives None for what is not to be shown.
    """

    def __init__(self) -> None:
        self._model: object = None
        self._pressed: object = None
        self._question: object = None
        self._map: object = None
        self._is_asking = False
        self._asked: Callable[[], Exchange | None] = lambda: None

    def __deepcopy__(self, memo: object) -> Turn:
        """A new one: Gradio copies what a person's session begins with."""
        return Turn()

    def open(self, asked: Exchange) -> Exchange | None:
        """The page was loaded with this question on it; None where another one has begun since."""
        if self._question is not None:
            return None
        self._asked = weakref.ref(asked)
        return asked

    def choose(self, work: Callable[[], Outcome]) -> Outcome | None:
        """Of another model."""
        mine = self._model = self._begun()
        self._is_asking = True
        try:
            with wanted_while(lambda: self._model is mine):
                outcome = work()
        finally:
            newest = self._model is mine
            if newest:
                self._model, self._is_asking = None, False
        return outcome if newest else None

    def press(self) -> bool:
        """A sample or a row was pressed; whether it is a question, which :meth:`ask_pressed` asks."""
        self._pressed = object()
        if self._model is not None:
            return False
        self._pressed = self._begun()
        return True

    @property
    def goes_on(self) -> bool:
        """Whether nothing has begun since the last press."""
        return self._model is None and (self._pressed is None or self._question is self._pressed)

    def ask_pressed(self, work: Callable[[], tuple[Exchange | None, Outcome]]) -> Outcome | None:
        """What was pressed; ``work`` gives what was asked, and the outcome."""
        pressed = self._pressed
        return self._answered(pressed, work) if self.goes_on else None

    def ask(self, work: Callable[[], tuple[Exchange | None, Outcome]]) -> Outcome | None:
        """The model; see :meth:`ask_pressed`."""
        if self._model is not None:
            return None
        return self._answered(self._begun(), work)

    def is_about(self, asked: Exchange | None) -> bool:
        """Whether the page shows the answers to this question."""
        return asked is not None and asked is self._asked()

    def explain(self, asked: Exchange | None, work: Callable[[Exchange | None], Outcome]) -> Outcome | None:
        """``work(asked)``; of a question that is not the page's, since the server has forgotten it, ``work(None)``.

        While the model is being asked, nothing: its answers are about to come.
        """
        if self._is_asking:
            return None
        mine = self._map = object()
        question = self._question

        def is_wanted() -> bool:
            return self._map is mine and self._question is question

        with wanted_while(is_wanted):
            outcome = work(asked if self.is_about(asked) else None)
        return outcome if is_wanted() else None

    def _begun(self) -> object:
        mine = self._question = object()
        self._is_asking, self._asked = False, lambda: None
        return mine

    def _answered(self, mine: object, work: Callable[[], tuple[Exchange | None, Outcome]]) -> Outcome | None:
        self._is_asking = True
        with wanted_while(lambda: self._question is mine):
            asked, outcome = work()
        if self._question is not mine:
            return None
        self._is_asking = False
        if asked is not None:
            self._asked = weakref.ref(asked)
        return outcome
