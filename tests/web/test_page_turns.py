"""One person's requests run side by side: what is shown belongs to the newest question, whatever ends last."""

from __future__ import annotations

import copy
import itertools
import threading
from typing import Any

import pytest

import heedmap
from heedmap.targets import TopClasses
from heedmap.web.form_inputs import FormValues
from heedmap.web.handlers import Exchange, Handlers, Turn, attempt
from heedmap.web.models import Models, wanted_while

MODEL = "zoo/gpt-lists"
TEXTS = "dog red ; cat blue ? cat", "dog red ; cat blue ? dog"


@pytest.fixture(scope="module")
def asked(handlers: Handlers) -> tuple[Exchange, Exchange]:
    first, second = (handlers.predict(MODEL, FormValues(text=text)) for text in TEXTS)
    return first, second


@pytest.fixture
def turn(asked: tuple[Exchange, Exchange]) -> Turn:
    """Of somebody who has asked the first question."""
    turn = Turn()
    assert turn.ask(lambda: (asked[0], "answers")) == "answers"
    return turn


def ask(turn: Turn, asked: Exchange) -> Any:
    return turn.ask(lambda: (asked, "answers"))


def press(turn: Turn, asked: Exchange) -> Any:
    assert turn.press()
    return turn.ask_pressed(lambda: (asked, "answers"))


def choose(turn: Turn, _: Exchange) -> Any:
    return turn.choose(lambda: "fields")


QUESTIONS = [ask, press, choose]


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_map_that_ends_after_a_newer_question_is_not_shown(turn: Turn, asked: Any, question: Any) -> None:
    first, second = asked
    assert turn.explain(first, lambda _: (question(turn, second), "map")[1]) is None
    assert turn.explain(first, lambda of: of) is None  # nor has the server a question of before
    assert turn.explain(second, lambda of: of) is (None if question is choose else second)


@pytest.mark.parametrize("question", QUESTIONS)
def test_answers_that_come_after_a_newer_question_are_not_shown(turn: Turn, asked: Any, question: Any) -> None:
    first, second = asked
    assert turn.ask(lambda: (question(turn, second), (first, "answers"))[1]) is None
    assert turn.explain(second, lambda of: of) is (None if question is choose else second)


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_was_pressed_is_not_asked_after_a_newer_question(turn: Turn, asked: Any, question: Any) -> None:
    assert turn.press()
    question(turn, asked[1])
    assert turn.goes_on is (question is press)
    assert turn.ask_pressed(lambda: (asked[0], "answers")) == ("answers" if question is press else None)


def test_what_was_pressed_and_never_asked_leaves_nothing_to_explain(turn: Turn, asked: Any) -> None:
    """As where the queue was full: the page says that the model has to be asked."""
    assert turn.press()
    assert not turn.is_about(asked[0])
    assert turn.explain(asked[0], lambda of: (of, "told")) == (None, "told")
    assert ask(turn, asked[1]) == "answers"
    assert turn.is_about(asked[1])


def test_nothing_is_asked_or_explained_while_a_model_is_being_chosen(turn: Turn, asked: Any) -> None:
    first, second = asked
    found: list[Any] = []

    def chosen() -> str:
        found.extend([ask(turn, second), turn.press(), turn.goes_on, turn.ask_pressed(lambda: (second, "answers"))])
        found.append(turn.explain(first, lambda _: "map"))
        return "fields"

    assert turn.choose(chosen) == "fields"
    assert found == [None, False, False, None, None]
    assert ask(turn, second) == "answers"


def test_of_two_models_the_one_that_was_chosen_last(turn: Turn, asked: Any) -> None:
    assert turn.choose(lambda: (choose(turn, asked[1]), "fields")[1]) is None
    assert ask(turn, asked[1]) == "answers"


def test_a_model_that_cannot_be_chosen_stops_nothing(turn: Turn, asked: Any) -> None:
    def broken() -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        turn.choose(broken)
    assert ask(turn, asked[1]) == "answers"


def test_of_two_maps_the_one_that_was_wanted_last(turn: Turn, asked: Any) -> None:
    newer: list[Any] = []

    def older(_: Any) -> str:
        newer.append(turn.explain(asked[0], lambda _: "newer"))
        return "older"

    assert turn.explain(asked[0], older) is None
    assert newer == ["newer"]


def test_a_page_opens_on_a_question_unless_another_was_faster(turn: Turn, asked: Any) -> None:
    assert turn.open(asked[1]) is None
    other = copy.deepcopy(turn)
    assert other.explain(asked[0], lambda of: of) is None  # of somebody else
    assert other.open(asked[1]) is asked[1]
    assert other.explain(asked[1], lambda of: of) is asked[1]


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_model_stops_where_nobody_waits_any_more(turn: Turn, asked: Any, question: Any) -> None:
    models, begun, ended = Models(), threading.Event(), threading.Event()

    def endless(subject: heedmap.Model) -> None:
        begun.set()
        try:
            while True:
                subject.explain(text=TEXTS[0])
        finally:
            ended.set()

    found: list[Any] = []
    slow = threading.Thread(
        target=lambda: found.append(turn.explain(asked[0], lambda _: attempt(lambda: models.use(MODEL, endless))))
    )
    slow.start()
    assert begun.wait(20)
    question(turn, asked[1])
    assert ended.wait(20)
    slow.join(20)
    assert found == [None]
    assert models.use(MODEL, lambda subject: subject.explain(text=TEXTS[1])) == heedmap.load(MODEL).explain(
        text=TEXTS[1]
    )


def test_what_is_broken_off_is_no_answer_of_the_model() -> None:
    """Nowhere between two modules: neither a map of less nor a refusal, now or later; also where a model's errors are its answer."""
    photo = heedmap.zoo_sample("vit-shapes").picture

    def both(subject: heedmap.Model) -> list[heedmap.Explanation]:
        return subject.explain(image=photo, target=TopClasses(2))

    wanted, modules = both(heedmap.load("zoo/vit-shapes")), itertools.count()
    with wanted_while(lambda: next(modules) >= 0):
        assert Models().use("zoo/vit-shapes", both) == wanted
    for place in range(1, next(modules), 9):
        models, calls = Models(), itertools.count()  # a model that is proved already takes fewer passes
        # False a single time, as of one bad pass
        with wanted_while(lambda calls=calls, place=place: next(calls) != place):
            found, told = attempt(lambda models=models: models.use("zoo/vit-shapes", both))
        assert found is None
        assert "took longer" in told, place
        assert models.use("zoo/vit-shapes", both) == wanted
