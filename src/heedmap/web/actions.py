"""What each click of the page does, as Gradio wants it: from the values of fields to those of others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING

from heedmap.errors import InputError
from heedmap.web import parts
from heedmap.web.fields import Fields, FieldValues, edit_fields, given, listed, values_of
from heedmap.web.form_inputs import EditForm, Takes, sample
from heedmap.web.handlers import Exchange, Handlers, attempt
from heedmap.web.method_options import Way, against, options_label, start, way
from heedmap.web.models import Tell
from heedmap.web.results import Results, Shown, links
from heedmap.web.tables import AnswersTable
from heedmap.web.turns import Turn

if TYPE_CHECKING:
    from gradio import EventData, Progress

Values = tuple[object, ...]
"""Of fields, as Gradio takes them."""
Events = Mapping[str, Callable[..., object]]
"""Name of an event → what is called; the values of its inputs come last."""


class Actions:
    """The functions that events call.

    Those that take long have Gradio's progress as a default value, and what is pressed an event of its type: Gradio finds
    both by looking at the signature.

    Args:
        gr: Gradio.
        handlers: what is done.
        results: where explanations are kept to be downloaded.
        fields: that are emptied and filled.
    """

    def __init__(self, gr: ModuleType, handlers: Handlers, results: Results, fields: Fields) -> None:
        self._gr, self._handlers, self._results, self._fields = gr, handlers, results, fields
        self._progress = gr.Progress()

    def events(self) -> Events:
        """What events call."""

        def told(action: Callable[..., Values | None]) -> Callable[..., object]:
            def run(progress: Progress = self._progress, *values: object) -> object:
                return self._shown(action(_tell(progress), *values))

            return run

        pressed: Callable[..., Values | None] = self._press

        def press(event: EventData, progress: Progress = self._progress, *values: object) -> object:
            return self._shown(pressed(_tell(progress), event, *values))

        def noted(name: str) -> Callable[..., object]:
            """The number of a sample, or a row, which is now asked."""

            def press_one(event: EventData, turn: Turn) -> object:
                number = _number(event, name)
                return self._shown(number if number is not None and turn.press() else None)

            press_one.__annotations__ = {"event": self._gr.EventData}
            return press_one

        press.__annotations__ = {"event": self._gr.EventData}
        long: dict[str, Callable[..., Values | None]] = {
            "choose": self._choose,
            "ask": self._ask,
            "explain": self._explain,
            "compare": self._explain,
            "every": self._every,
            "change": self._change,
            "beside": self._beside,
            "table": self._table,
            "whole": self._whole,
            "ask_row": self._ask_row,
            "ask_sample": self._ask_sample,
            "first": self._first,
        }
        return {name: told(action) for name, action in long.items()} | {
            "press": press,
            "sample": noted("sample"),
            "row": noted("row"),
            "open": self._open,
            "pick": self._pick,
            "show_row": self._show_row,
            "options": self._options,
        }

    def _shown(self, values: object) -> object:
        """``values``; None: nothing on the page changes."""
        return self._gr.skip() if values is None else values

    def _open(self, opened: Exchange, turn: Turn) -> object:
        """What the page was loaded with."""
        return self._shown(turn.open(opened))

    def _choose(self, tell: Tell, turn: Turn, model: str) -> Values | None:
        return turn.choose(lambda: self._chosen(tell, model))

    def _chosen(self, tell: Tell, model: str) -> Values:
        takes, error = attempt(lambda: self._handlers.takes(model, tell))
        takes = takes or Takes()
        speaks = self._gr.update(visible=takes.speaks), self._gr.update(visible=takes.speaks, value="")
        answers = parts.error(error), *self._no_answers(model)
        return (
            *self._fields.emptied(model, takes),
            *answers,
            *speaks,
            parts.samples(model),
            *edit_fields(self._gr, takes),
        )

    def _no_answers(self, model: str) -> Values:
        hint = parts.hint(model, bool(listed(model)))
        return self._gr.update(choices=[], value=None, visible=False), "", hint, "", None, ""

    def _pick(self, turn: Turn, model: str, number: int | None) -> object:
        if number is None or not turn.goes_on:  # another model was chosen, which emptied the fields
            return self._gr.skip()
        picked, error = attempt(lambda: sample(model, number))
        return parts.error(error), *self._fields.filled(picked)

    def _ask_sample(self, tell: Tell, turn: Turn, model: str, *values: *FieldValues) -> Values | None:
        return turn.ask_pressed(lambda: self._asked(model, lambda: self._handlers.predict(model, given(*values), tell)))

    def _ask(self, tell: Tell, turn: Turn, model: str, *values: *FieldValues) -> Values | None:
        return turn.ask(lambda: self._asked(model, lambda: self._handlers.predict(model, given(*values), tell)))

    def _asked(self, model: str, work: Callable[[], Exchange]) -> tuple[Exchange | None, Values]:
        """What was asked, and its answers as they are shown."""
        asked, error = attempt(work)
        if asked is None:
            return None, (parts.error(error), *self._no_answers(model))
        radio = self._gr.update(value=None, **answers_of(asked))
        said = parts.answer(asked.predictions.answers)
        return asked, ("", radio, said, parts.hint(model, bool(listed(model))), "", asked, "")

    def _first(
        self, tell: Tell, turn: Turn, asked: Exchange | None, _choice: object, _begin: str, *method: str
    ) -> Values | None:
        """The first answer, at once after a model was asked."""
        return self._whole(tell, turn, asked, 0, "", *method) if turn.is_about(asked) else None

    def _explain(
        self, tell: Tell, turn: Turn, asked: Exchange | None, choice: int | None, begin: str, *methods: str
    ) -> Values | None:
        """``methods``: each followed by its options."""

        def work(asked: Exchange | None) -> Shown:
            ways = [self._way(method, options) for method, options in zip(methods[::2], methods[1::2], strict=True)]
            return self._handlers.explain(asked, choice, ways, start(begin), tell)

        return self._made(turn, asked, work)

    def _every(
        self, tell: Tell, turn: Turn, asked: Exchange | None, method: str, options: str, other: str | None
    ) -> Values | None:
        """Every word of the answer, and why not ``other``."""

        def work(asked: Exchange | None) -> Shown:
            return self._handlers.answer(asked, self._way(method, options), against(other, self._handlers.limits), tell)

        return self._made(turn, asked, work, kept=True)

    def _change(
        self,
        tell: Tell,
        turn: Turn,
        asked: Exchange | None,
        choice: int | None,
        method: str,
        options: str,
        *edit: str | None,
    ) -> Values | None:
        """``edit``: a word, what it becomes, and a region."""
        form = EditForm(*(part or "" for part in edit))

        def work(asked: Exchange | None) -> Shown:
            return self._handlers.change(asked, choice, self._way(method, options), form, tell)

        return self._made(turn, asked, work, kept=True)

    def _beside(
        self, tell: Tell, turn: Turn, asked: Exchange | None, choice: int | None, method: str, options: str, other: str
    ) -> Values | None:
        """Another model beside the one that was asked."""

        def work(asked: Exchange | None) -> Shown:
            return self._handlers.models_beside(asked, choice, self._way(method, options), other, tell)

        return self._made(turn, asked, work, kept=True)

    def _table(self, tell: Tell, files: list[str] | None, model: str, *values: *FieldValues) -> Values:
        """A message, the table as it is shown, and as it is kept."""
        table, error = attempt(lambda: self._handlers.table(model, given(*values), files or (), tell))
        return parts.error(error), "" if table is None else parts.table(table.rows), table

    def _ask_row(
        self, tell: Tell, turn: Turn, model: str, table: AnswersTable | None, number: int | None
    ) -> Values | None:
        """The sample of a row."""

        def predict() -> Exchange:
            if table is None or number is None:
                raise InputError("this table is forgotten; ask for it again")
            return self._handlers.predict(table.model, table.row(number).given, tell)

        return turn.ask_pressed(lambda: self._asked(model if table is None else table.model, predict))

    def _show_row(self, turn: Turn, model: str, table: AnswersTable | None, number: int | None) -> object:
        """The offered samples and the fields with what is asked by a row, where the model is still the table's."""
        if table is None or number is None or model != table.model or not turn.goes_on:
            return self._gr.skip()
        row, _ = attempt(partial(table.row, number))
        return self._shown(row and (parts.samples(model, row.given.number), *values_of(row.given)))

    def _made(
        self, turn: Turn, asked: Exchange | None, work: Callable[[Exchange | None], Shown], *, kept: bool = False
    ) -> Values | None:
        """What ``work`` explains: a message, the map and links to its files.

        Args:
            turn: of the person who wants it.
            asked: whose answer is explained.
            work: what is done with it.
            kept: whether the map that is there stays where it fails, since it is of the same answer.
        """

        def shown(asked: Exchange | None) -> tuple[Shown, str]:
            result = work(asked)
            return result, result.html()

        ended = turn.explain(asked, lambda asked: attempt(partial(shown, asked)))
        if ended is None:
            return None
        outcome, error = ended
        if outcome is None:
            there = (self._gr.skip(), self._gr.skip()) if kept else ("", "")
            return parts.error(error), *there
        result, html = outcome
        return "", html, links(self._results.keep(result))

    def _whole(
        self, tell: Tell, turn: Turn, asked: Exchange | None, choice: int | None, _begin: str, *method: str
    ) -> Values | None:
        """From the answer itself, not from a token."""
        return self._begun(tell, turn, asked, choice, "", *method)

    def _press(
        self,
        tell: Tell,
        event: EventData,
        turn: Turn,
        asked: Exchange | None,
        choice: int | None,
        begin: str,
        *method: str,
    ) -> Values | None:
        """An answer, or a token of the map, was pressed where it is shown."""
        number = _number(event, "choice")
        if number is not None:
            return self._whole(tell, turn, asked, number, begin, *method)
        return self._begun(tell, turn, asked, choice, str(_data(event).get("start", "")), *method)

    def _begun(
        self, tell: Tell, turn: Turn, asked: Exchange | None, choice: int | None, begin: str, *method: str
    ) -> Values | None:
        """The choice, the token from which it is explained, and the map."""
        made = self._explain(tell, turn, asked, choice, begin, *method)
        return made and (choice, begin, *made)

    def _way(self, method: str, options: str) -> Way:
        return way(method, options, self._handlers.limits)

    def _options(self, method: str) -> object:
        return self._gr.update(label=options_label(method), value="")


def answers_of(asked: Exchange) -> dict[str, object]:
    """The list of the answers, as Gradio is given it."""
    choices = [(str(choice), place) for place, choice in enumerate(asked.predictions)]
    return {"choices": choices, "visible": True, "label": f"{asked.predictions.about}: choose what to explain"}


def _data(event: EventData) -> Mapping[str, object]:
    return event._data if isinstance(event._data, dict) else {}


def _number(event: EventData, name: str) -> int | None:
    """A number of what was pressed; None: it has none of this name."""
    number = str(_data(event).get(name, ""))
    return int(number[:6]) if number.isascii() and number.isdecimal() else None


def _tell(progress: Progress) -> Tell:
    def tell(words: str, done: int = 0, of: int = 0) -> None:
        progress((done, of) if of else None, desc=f"{words}: {done} of {of}" if of else words)

    return tell
