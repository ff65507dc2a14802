"""What is where on the page, and which click calls which action: in Gradio, with the page's own style and scripts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from types import ModuleType
from typing import TYPE_CHECKING

from heedmap.common.extras import library
from heedmap.methods import METHODS
from heedmap.methods.cards import CARDS
from heedmap.render.html import macro
from heedmap.web import parts
from heedmap.web.actions import Actions, Events, Fields, answers_of, as_uploaded
from heedmap.web.form_inputs import Takes, offered, read_sample
from heedmap.web.handlers import Exchange, Handlers, Turn, attempt
from heedmap.web.method_options import options_label, way
from heedmap.web.results import Result, Results, links

if TYPE_CHECKING:
    from gradio import Blocks
    from gradio.components import Component

TITLE = "heedmap"
KEPT_SECONDS = 3600
"""That an upload, and what a person asked, is kept."""
OPENS = "zoo/detr-shapes"
"""Model that is chosen at first, where there is one of this name."""
FIRST, OTHER = "generic", "rollout"
"""Methods that are chosen at first."""


def page(handlers: Handlers, results: Results) -> Blocks:
    """The page, not yet served; ``results`` keep explanations to be downloaded. MissingLibraryError: Gradio is not installed."""
    gr = library("gradio", "app", "the page needs")
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=(600, KEPT_SECONDS)) as blocks:
        _Page(gr, handlers, results).build(blocks)
    return blocks


@dataclass(frozen=True, eq=False)
class _Opened:
    """What the page opens on: the number of a sample, what was asked, and what was explained."""

    number: int
    asked: Exchange
    result: Result


class _Page:
    """The parts of the page, each made once."""

    def __init__(self, gr: ModuleType, handlers: Handlers, results: Results) -> None:
        self.gr = gr
        self.handlers = handlers
        self.results = results
        names = handlers.models.names
        self.first = OPENS if OPENS in names else names[0]
        takes, _ = attempt(lambda: handlers.takes(self.first))
        self.takes = takes or Takes()
        self.opened = _opened(handlers, self.first)
        self.turn = gr.State(Turn())
        self.asked = gr.State(None, time_to_live=KEPT_SECONDS)
        self.begin = gr.State("", time_to_live=KEPT_SECONDS)
        self.shared: dict[str, object] = {
            "concurrency_limit": handlers.limits.at_once,
            "concurrency_id": "models",
        }

    def build(self, blocks: Blocks) -> None:
        """Place the parts, then say what happens to each."""
        gr, first, number = self.gr, self.first, None if self.opened is None else self.opened.number
        gr.HTML(macro("web.head", str(self.handlers.limits)), js_on_load=asset("whole.js"), elem_id="head")
        with gr.Row(elem_id="models"):
            with gr.Column(scale=1, min_width=240):
                model = gr.Dropdown(list(self.handlers.models.names), value=first, label="Model", elem_id="model")
            with gr.Column(scale=3, min_width=320):
                self.samples = gr.HTML(parts.samples(first, number), elem_id="samples", **_pressed())
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                self._shown(first)
            with gr.Column(scale=2, min_width=320):
                self.fields = Fields(gr, model, self.takes, number)
                self.ask = gr.Button("Ask the model", variant="primary", elem_id="ask")
                self._choices(self.takes.speaks)
                self._beyond()
        self._events(blocks)

    def _choices(self, speaks: bool) -> None:
        gr, methods = self.gr, _methods()
        with gr.Row():
            self.method = gr.Dropdown(methods, value=FIRST, label="Method", elem_id="method", min_width=120)
            self.other = gr.Dropdown(methods, value=OTHER, label="Compare with", elem_id="other", min_width=120)
        with gr.Row():
            self.redo = gr.Button("Explain", elem_id="explain", min_width=120)
            self.both = gr.Button("Compare", elem_id="compare", min_width=120)
        self.every = gr.Button("Every word of the answer", visible=speaks, elem_id="every")
        form = "runner-up, or WORD=OTHER"
        self.against = gr.Textbox(
            label="Why these words, and not …", placeholder=form, visible=speaks, elem_id="against"
        )
        with gr.Accordion("Options of the methods", open=False, elem_id="options-of-both"):
            self.options = gr.Textbox(label=options_label(FIRST), elem_id="options")
            self.other_options = gr.Textbox(label=options_label(OTHER), elem_id="other-options")

    def _beyond(self) -> None:
        """Another model, another input, many inputs."""
        gr, names = self.gr, self.handlers.models.names
        text, image = "text" in self.takes.roles, "image" in self.takes.roles
        with gr.Accordion("Change the input, and see what changes", open=False, elem_id="edits"):
            with gr.Row():
                self.old = gr.Textbox(label="Word", visible=text, elem_id="old", min_width=120)
                self.new = gr.Textbox(label="becomes (empty: nothing)", visible=text, elem_id="new", min_width=120)
            label = "Paint over: left, upper, right and lower edge, in percent"
            self.region = gr.Textbox(label=label, visible=image, elem_id="region")
            self.edit = gr.Button("Show what changes", elem_id="change")
        with gr.Accordion("Another model beside it", open=False, elem_id="models-beside"):
            self.beside = gr.Dropdown(list(names), value=names[0], label="Other model", elem_id="other-model")
            self.two = gr.Button("Compare the models", elem_id="beside")
        with gr.Accordion("A table of your own samples", open=False, elem_id="own"):
            gr.HTML(macro("web.table_hint", self.handlers.limits.rows))
            with gr.Row():
                button = as_uploaded(gr, gr.UploadButton)
                self.own = button("Choose files", file_count="multiple", elem_id="own-files", min_width=120)
                self.each = gr.Button("Ask again", elem_id="ask-each", min_width=120)
            self.table = gr.HTML(elem_id="table", **_pressed())
            self.kept = gr.State(None, time_to_live=KEPT_SECONDS)
            self.row = gr.State(None, time_to_live=KEPT_SECONDS)

    def _shown(self, first: str) -> None:
        gr, opened = self.gr, self.opened
        self.message = gr.HTML(elem_id="message")
        answers = {"choices": [], "visible": False, "label": "Answers"} if opened is None else answers_of(opened.asked)
        self.choice = gr.Radio(value=None if opened is None else 0, elem_id="answers", **answers)
        said = "" if opened is None else parts.answer(opened.asked.predictions.answers)
        self.answer = gr.HTML(said, elem_id="answer", **_pressed())
        shown = parts.hint(first) if opened is None else opened.result.html()
        self.shown = gr.HTML(shown, elem_id="result", **_pressed())
        kept = "" if opened is None else links(self.results.keep(opened.result))
        self.files = gr.HTML(kept, elem_id="files", elem_classes="heedmap-files")

    def _events(self, blocks: Blocks) -> None:
        fields = self.fields
        acts = Actions(self.gr, self.handlers, self.results, fields).events()
        told = [self.message, self.shown, self.files]
        answers = [self.message, self.choice, self.answer, self.shown, self.files, self.asked, self.begin]
        chosen = [self.turn, self.asked, self.choice, self.begin, self.method, self.options]
        pressed = [self.choice, self.begin, *told]
        explains = {"show_progress_on": self.shown, **self.shared}
        ask = {"fn": acts["ask"], "inputs": [self.turn, *fields.inputs], "outputs": answers, **self.shared}
        # Gradio's lists tell of an input whenever they are left, of a change only when there was one.
        edit = [self.old, self.new, self.region]
        chosen_model = [*fields.of_row, fields.more, *answers, self.every, self.against, self.samples, *edit]
        fields.model.change(acts["choose"], [self.turn, fields.model], chosen_model, api_name="choose", **self.shared)
        pick = acts["pick"], [self.turn, fields.model, fields.number], [self.message, *fields.of_sample]
        first = {"fn": acts["first"], "inputs": chosen, "outputs": pressed, "api_name": False, **explains}
        # What is pressed is noted at once: the queue takes events of several kinds in any order.
        pressed_sample = self.samples.select(acts["sample"], self.turn, fields.number, api_name=False, queue=False)
        asked_sample = pressed_sample.then(*pick, api_name="pick").then(
            **{**ask, "fn": acts["ask_sample"]}, api_name=False
        )
        asked_sample.then(**first)
        if self.opened is not None:
            blocks.load(partial(acts["open"], self.opened.asked), self.turn, self.asked, api_name=False, queue=False)
            blocks.load(*pick, api_name=False)
        self.ask.click(**ask, api_name="ask").then(**first)
        fields.text.submit(**ask, api_name=False).then(**first)
        self.choice.input(acts["whole"], chosen, pressed, api_name=False, **explains)
        self.redo.click(acts["explain"], chosen, told, api_name="explain", **explains)
        both = [*chosen, self.other, self.other_options]
        self.both.click(acts["compare"], both, told, api_name="compare", **explains)
        way = [self.turn, self.asked, self.method, self.options]
        every = {"fn": acts["every"], "inputs": [*way, self.against], "outputs": told, **explains}
        self.every.click(**every, api_name="every")
        self.against.submit(**every, api_name=False)
        self._events_beyond(acts, told, answers, first)
        for place in (self.answer, self.shown):
            place.select(acts["press"], chosen, pressed, api_name=False, **explains)
        self.method.input(acts["options"], self.method, self.options, api_name=False)
        self.other.input(acts["options"], self.other, self.other_options, api_name=False)

    def _events_beyond(
        self, acts: Events, told: list[Component], answers: list[Component], first: Mapping[str, object]
    ) -> None:
        asked = [self.turn, self.asked, self.choice, self.method, self.options]
        edit = [*asked, self.old, self.new, self.region]
        self.edit.click(acts["change"], edit, told, api_name="change", **self.shared)
        self.two.click(acts["beside"], [*asked, self.beside], told, api_name="beside", **self.shared)
        table = [self.message, self.table, self.kept]
        each = [self.own, *self.fields.inputs]
        self.own.upload(acts["table"], each, table, api_name="table", **self.shared)
        self.each.click(acts["table"], each, table, api_name=False, **self.shared)
        pressed = self.table.select(acts["row"], self.turn, self.row, api_name=False, queue=False)
        kept = [self.turn, self.fields.model, self.kept, self.row]
        shown = pressed.then(acts["show_row"], kept, [self.samples, *self.fields.of_row], api_name=False)
        asked_row = shown.then(acts["ask_row"], kept, answers, api_name=False, **self.shared)
        asked_row.then(**first)


def _opened(handlers: Handlers, model: str) -> _Opened | None:
    """The first sample of a model, asked and explained; None where it has none, or something went wrong."""
    number = next(iter(offered(model)), None)
    if number is None:
        return None

    def work() -> _Opened:
        asked = handlers.predict(model, read_sample(model, number))
        return _Opened(number, asked, handlers.explain(asked, 0, [way(FIRST, "", handlers.limits)]))

    return attempt(work)[0]


def _pressed() -> dict[str, object]:
    """Of an element whose buttons are pressed."""
    return {"apply_default_css": False, "elem_classes": "heedmap-result", "js_on_load": asset("page.js")}


def _methods() -> list[tuple[str, str]]:
    """What is shown → name: fast methods first."""
    names = sorted(METHODS, key=lambda name: CARDS[name].is_slow)
    return [(f"{name} (slow)" if CARDS[name].is_slow else name, name) for name in names]


def asset(name: str) -> str:
    """The text of a style or a script that lies beside this module."""
    return files("heedmap.web").joinpath(name).read_text(encoding="utf-8")
