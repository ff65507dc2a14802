"""The fields in which a person gives something to a model, and what each click of the page does, as Gradio wants it: from the
values of fields to those of others."""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from heedmap.errors import InputError
from heedmap.web import parts
from heedmap.web.form_inputs import AnswersTable, EditForm, FormValues, OfferedSample, Takes, offered, sample
from heedmap.web.handlers import Asked, Exchange, Handlers, Turn, attempt
from heedmap.web.method_options import Way, against, options_label, start, way
from heedmap.web.models import Tell
from heedmap.web.results import Results, Shown, links

if TYPE_CHECKING:
    from gradio import Dropdown, EventData, Progress
    from gradio.components import Component
    from gradio.data_classes import FileData, ListFiles
    from PIL.Image import Image

Values = tuple[object, ...]
"""Of fields, as Gradio takes them."""
Changed: TypeAlias = Values | None
"""What fields become; None: nothing on the page changes."""
Events = Mapping[str, Callable[..., object]]
"""Name of an event → what is called; the values of its inputs come last."""

Field = TypeVar("Field", bound="Component")
FieldValues: TypeAlias = tuple[int | None, str | None, str | None, str | None, str | None, str | None, str | None]
"""Of :attr:`Fields.inputs` but the model's."""
Update = dict[str, object]
"""What changes of a field, as ``gradio.update`` gives it."""
PICTURE = {"label": "Picture", "type": "filepath", "sources": ["upload", "clipboard"], "elem_id": "image"}
BOXES = {"label": "Boxes of the picture: an .npz with features and boxes", "file_types": [".npz"], "elem_id": "boxes"}
SOUND = {"label": "Sound: a 16-bit .wav file", "type": "filepath", "sources": ["upload"], "elem_id": "audio"}


class Fields:
    """The fields, each made once, in Gradio, beside the list of models, for what the chosen one ``takes``.

    ``number`` is that of the sample that is chosen; None: none.
    """

    def __init__(self, gr: ModuleType, model: Dropdown, takes: Takes, number: int | None) -> None:
        self.gr, self.model, seen = gr, model, seen_fields(takes)
        self.number = gr.Dropdown(listed(model.value), value=number, label="Sample", visible=False)
        self.text = gr.Textbox(label="Text", lines=2, max_lines=8, visible=seen["text"], elem_id="text")
        self.second = gr.Textbox(label="Second text, of a pair", max_lines=8, visible=seen["second"], elem_id="second")
        self.image = as_uploaded(gr, gr.Image)(format="png", height=220, visible=seen["image"], **PICTURE)
        self.audio = as_uploaded(gr, gr.Audio)(editable=False, visible=seen["audio"], **SOUND)
        with gr.Accordion("More to give", open=False, visible=seen["more"], elem_id="more") as self.more:
            told = "What it should have said, instead of its own words"
            self.said = gr.Textbox(label=told, visible=seen["said"], elem_id="said")
            self.boxes = as_uploaded(gr, gr.File)(visible=seen["boxes"], **BOXES)

    @property
    def inputs(self) -> list[Component]:
        """What :func:`given` takes, after the model."""
        return [self.model, self.number, self.text, self.second, self.said, self.image, self.audio, self.boxes]

    @property
    def of_row(self) -> list[Component]:
        """What :func:`values_of` fills."""
        return self.inputs[1:]

    def emptied(self, model: str, takes: Takes) -> tuple[Update, ...]:
        """All fields :attr:`of_row` empty, and :attr:`more` closed, for another model; those that it does not take hidden."""
        update, seen = self.gr.update, seen_fields(takes)
        words = [update(value="", visible=seen[name]) for name in ("text", "second", "said")]
        files = [update(value=None, visible=seen[name]) for name in ("image", "audio", "boxes")]
        return update(choices=listed(model), value=None), *words, *files, update(visible=seen["more"], open=False)

    def filled(self, material: OfferedSample | None) -> tuple[str | Image | None, ...]:
        """What a sample, or that there is none, puts into the fields :attr:`of_sample`."""
        if material is None:
            return "", "", "", None, None
        return material.text or "", "", "", material.picture, None

    @property
    def of_sample(self) -> list[Component]:
        """Text, second text, what should have been said, picture and boxes."""
        return [self.text, self.second, self.said, self.image, self.boxes]


def edit_fields(gr: ModuleType, takes: Takes) -> tuple[Update, ...]:
    """The fields of an edit, empty, for a model; those that it cannot use are hidden: a word, what it becomes, a region."""
    text, image = "text" in takes.roles, "image" in takes.roles
    return gr.update(value="", visible=text), gr.update(value="", visible=text), gr.update(value="", visible=image)


def given(*values: *FieldValues) -> FormValues:
    """The values of :attr:`Fields.inputs` but the model's."""
    number, text, second, said, image, audio, boxes = values
    return FormValues(text, second, said, image, audio, boxes, number)


def values_of(row: FormValues) -> FieldValues:
    """The inverse of :func:`given`."""
    return row.number, row.text, row.second, row.said, row.image, row.audio, row.boxes


def listed(model: str) -> list[tuple[str, int]]:
    """What the samples of a model are called → their numbers."""
    return [(name, number) for number, name in offered(model).items()]


def seen_fields(takes: Takes) -> dict[str, bool]:
    """Name of a field → whether the model can be given something in it."""
    roles = {role: role in takes.roles for role in ("text", "image", "audio", "boxes")}
    image, more = roles["image"] or roles["boxes"], takes.said or roles["boxes"]
    return {**roles, "image": image, "second": takes.pair, "said": takes.said, "more": more}


def as_uploaded(gr: ModuleType, field: type[Field]) -> type[Field]:
    """``field``, a class of Gradio's, with the file, or files, left as they are, and never fetched from another server.

    A class, since Gradio makes a field anew for each person for whom it changes; made past Gradio's metaclass, which writes
    a file beside the module of each class that it sees.
    """

    async def moved(self: Component, path: str | Path | None) -> str | None:
        if "://" in str(path):
            raise gr.Error("a file is uploaded, not fetched from an address")
        return await field.async_move_resource_to_block_cache(self, path)

    def preprocess(self: Component, payload: FileData | ListFiles | None) -> str | list[str] | None:
        if payload is None:
            return None
        return [str(Path(file.path)) for file in payload.root] if hasattr(payload, "root") else str(Path(payload.path))

    members = {"async_move_resource_to_block_cache": moved, "preprocess": preprocess, "__module__": field.__module__}
    return ABCMeta.__new__(type(field), field.__name__, (field,), members)


class Actions:
    """The functions that events call: what ``handlers`` do, with what is in ``fields``; ``results`` keep it to be downloaded.

    Those that take long have Gradio's progress as a default value, and what is pressed an event of its type: Gradio finds
    both by looking at the signature.
    """

    def __init__(self, gr: ModuleType, handlers: Handlers, results: Results, fields: Fields) -> None:
        self._gr, self._handlers, self._results, self._fields = gr, handlers, results, fields
        self._progress = gr.Progress()

    def events(self) -> Events:
        """What events call."""

        def told(action: Callable[..., Changed]) -> Callable[..., object]:
            def run(progress: Progress = self._progress, *values: object) -> object:
                return self._shown(action(_tell(progress), *values))

            return run

        pressed: Callable[..., Changed] = self._press

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
        long: dict[str, Callable[..., Changed]] = {
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
        """``values``, or that nothing changes."""
        return self._gr.skip() if values is None else values

    def _open(self, opened: Exchange, turn: Turn) -> object:
        """What the page was loaded with."""
        return self._shown(turn.open(opened))

    def _choose(self, tell: Tell, turn: Turn, model: str) -> Changed:
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
        hint = parts.hint(model)
        return self._gr.update(choices=[], value=None, visible=False), "", hint, "", None, ""

    def _pick(self, turn: Turn, model: str, number: int | None) -> object:
        if number is None or not turn.goes_on:  # another model was chosen, which emptied the fields
            return self._gr.skip()
        picked, error = attempt(lambda: sample(model, number))
        return parts.error(error), *self._fields.filled(picked)

    def _ask_sample(self, tell: Tell, turn: Turn, model: str, *values: *FieldValues) -> Changed:
        return turn.ask_pressed(lambda: self._asked(model, lambda: self._handlers.predict(model, given(*values), tell)))

    def _ask(self, tell: Tell, turn: Turn, model: str, *values: *FieldValues) -> Changed:
        return turn.ask(lambda: self._asked(model, lambda: self._handlers.predict(model, given(*values), tell)))

    def _asked(self, model: str, work: Callable[[], Exchange]) -> tuple[Exchange | None, Values]:
        """What was asked, and its answers as they are shown."""
        asked, error = attempt(work)
        if asked is None:
            return None, (parts.error(error), *self._no_answers(model))
        radio = self._gr.update(value=None, **answers_of(asked))
        said = parts.answer(asked.predictions.answers)
        return asked, ("", radio, said, parts.hint(model), "", asked, "")

    def _first(self, tell: Tell, turn: Turn, asked: Asked, _choice: object, _begin: str, *method: str) -> Changed:
        """The first answer, at once after a model was asked."""
        return self._whole(tell, turn, asked, 0, "", *method) if turn.is_about(asked) else None

    def _explain(self, tell: Tell, turn: Turn, asked: Asked, choice: int | None, begin: str, *methods: str) -> Changed:
        """``methods``: each followed by its options."""

        def work(asked: Asked) -> Shown:
            ways = [self._way(method, options) for method, options in zip(methods[::2], methods[1::2], strict=True)]
            return self._handlers.explain(asked, choice, ways, start(begin), tell)

        return self._made(turn, asked, work)

    def _every(self, tell: Tell, turn: Turn, asked: Asked, method: str, options: str, other: str | None) -> Changed:
        """Every word of the answer, and why not ``other``."""

        def work(asked: Asked) -> Shown:
            return self._handlers.answer(asked, self._way(method, options), against(other, self._handlers.limits), tell)

        return self._made(turn, asked, work, kept=True)

    def _change(
        self, tell: Tell, turn: Turn, asked: Asked, choice: int | None, method: str, options: str, *edit: str | None
    ) -> Changed:
        """``edit``: a word, what it becomes, and a region."""
        form = EditForm(*(part or "" for part in edit))

        def work(asked: Asked) -> Shown:
            return self._handlers.change(asked, choice, self._way(method, options), form, tell)

        return self._made(turn, asked, work, kept=True)

    def _beside(
        self, tell: Tell, turn: Turn, asked: Asked, choice: int | None, method: str, options: str, other: str
    ) -> Changed:
        """Another model beside the one that was asked."""

        def work(asked: Asked) -> Shown:
            return self._handlers.models_beside(asked, choice, self._way(method, options), other, tell)

        return self._made(turn, asked, work, kept=True)

    def _table(self, tell: Tell, files: list[str] | None, model: str, *values: *FieldValues) -> Values:
        """A message, the table as it is shown, and as it is kept."""
        table, error = attempt(lambda: self._handlers.table(model, given(*values), files or (), tell))
        return parts.error(error), "" if table is None else parts.table(table.rows), table

    def _ask_row(self, tell: Tell, turn: Turn, model: str, table: AnswersTable | None, number: int | None) -> Changed:
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

    def _made(self, turn: Turn, asked: Asked, work: Callable[[Asked], Shown], *, kept: bool = False) -> Changed:
        """What ``work`` explains of an answer: a message, the map and links to its files.

        ``kept``: whether the map that is there stays where it fails, since it is of the same answer.
        """

        def shown(asked: Asked) -> tuple[Shown, str]:
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

    def _whole(self, tell: Tell, turn: Turn, asked: Asked, choice: int | None, _begin: str, *method: str) -> Changed:
        """From the answer itself, not from a token."""
        return self._begun(tell, turn, asked, choice, "", *method)

    def _press(
        self, tell: Tell, event: EventData, turn: Turn, asked: Asked, choice: int | None, begin: str, *method: str
    ) -> Changed:
        """An answer, or a token of the map, was pressed where it is shown."""
        number = _number(event, "choice")
        if number is not None:
            return self._whole(tell, turn, asked, number, begin, *method)
        return self._begun(tell, turn, asked, choice, str(_data(event).get("start", "")), *method)

    def _begun(self, tell: Tell, turn: Turn, asked: Asked, choice: int | None, begin: str, *method: str) -> Changed:
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
