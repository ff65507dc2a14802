"""What is where on the page, and which click calls which action: in Gradio, with the page's own style and scripts."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from heedmap.extras import library
from heedmap.render.html import macro
from heedmap.web import parts
from heedmap.web.actions import Actions
from heedmap.web.fields import Fields, listed
from heedmap.web.form_inputs import Takes
from heedmap.web.handlers import Handlers, attempt
from heedmap.web.method_options import options_label
from heedmap.web.results import Results

TITLE = "heedmap"
KEPT_SECONDS = 3600
"""That an upload, and what a person asked, is kept."""
FIRST, OTHER = "generic", "rollout"
"""Methods that are chosen at first."""


def page(handlers: Handlers, results: Results) -> Any:
    """The page, not yet served.

    Args:
        handlers: what is done.
        results: where explanations are kept to be downloaded.

    Raises:
        MissingLibraryError: Gradio is not installed.
    """
    gr = library("gradio", "app", "the page needs")
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=(600, KEPT_SECONDS)) as blocks:
        _Page(gr, handlers, results).build()
    return blocks


class _Page:
    """The parts of the page, each made once."""

    def __init__(self, gr: Any, handlers: Handlers, results: Results) -> None:
        self.gr = gr
        self.handlers = handlers
        self.results = results
        self.asked = gr.State(None, time_to_live=KEPT_SECONDS)
        self.begin = gr.State("", time_to_live=KEPT_SECONDS)
        self.shared: dict[str, Any] = {
            "concurrency_limit": handlers.limits.at_once,
            "concurrency_id": "models",
        }

    def build(self) -> None:
        """Place the parts, then say what happens to each."""
        gr, models = self.gr, self.handlers.models.names
        gr.HTML(macro("web.head", str(self.handlers.limits)), js_on_load=asset("keys.js"))
        takes, _ = attempt(lambda: self.handlers.takes(models[0]))
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                self.fields = Fields(gr, models, takes or Takes())
                self.ask = gr.Button("Ask the model", variant="primary", elem_id="ask")
                self._choices(takes is not None and takes.speaks)
            with gr.Column(scale=3, min_width=320):
                self._shown(models[0])
        self._events()

    def _choices(self, speaks: bool) -> None:
        gr, methods = self.gr, _methods()
        self.choice = gr.Radio([], label="Answers", visible=False, elem_id="answers")
        with gr.Row():
            self.method = gr.Dropdown(methods, value=FIRST, label="Method", elem_id="method")
            self.other = gr.Dropdown(methods, value=OTHER, label="Compare with", elem_id="other")
        with gr.Accordion("Options of the methods", open=False, elem_id="options-of-both"):
            self.options = gr.Textbox(label=options_label(FIRST), elem_id="options")
            self.other_options = gr.Textbox(label=options_label(OTHER), elem_id="other-options")
        with gr.Row():
            self.redo = gr.Button("Explain", elem_id="explain")
            self.both = gr.Button("Compare", elem_id="compare")
        self.every = gr.Button("Every word of the answer", visible=speaks, elem_id="every")

    def _shown(self, first: str) -> None:
        gr, plain = (
            self.gr,
            {"apply_default_css": False, "elem_classes": "heedmap-result", "js_on_load": asset("page.js")},
        )
        self.message = gr.HTML(elem_id="message")
        self.answer = gr.HTML(elem_id="answer", **plain)
        self.shown = gr.HTML(parts.hint(first, bool(listed(first))), elem_id="result", **plain)
        self.files = gr.HTML(elem_id="files", elem_classes="heedmap-files")

    def _events(self) -> None:
        fields = self.fields
        acts = Actions(self.gr, self.handlers, self.results, fields).events()
        told = [self.message, self.shown, self.files]
        answers = [self.message, self.choice, self.answer, self.shown, self.files, self.asked, self.begin]
        chosen = [self.asked, self.choice, self.begin, self.method, self.options]
        pressed = [self.choice, self.begin, *told]
        ask = {"fn": acts["ask"], "inputs": fields.inputs, "outputs": answers, **self.shared}
        # Gradio's lists tell of an input whenever they are left, of a change only when there was one.
        chosen_model = [*fields.outputs, *answers, self.every]
        fields.model.change(acts["choose"], fields.model, chosen_model, api_name="choose", **self.shared)
        sample = fields.number.change(
            acts["pick"], [fields.model, fields.number], [self.message, *fields.of_sample], api_name="pick"
        )
        sample.then(**{**ask, "fn": acts["ask_sample"]}, api_name=False)
        self.ask.click(**ask, api_name="ask")
        fields.text.submit(**ask, api_name=False)
        self.choice.input(acts["whole"], chosen, pressed, api_name=False, **self.shared)
        self.redo.click(acts["explain"], chosen, told, api_name="explain", **self.shared)
        both = [*chosen, self.other, self.other_options]
        self.both.click(acts["compare"], both, told, api_name="compare", **self.shared)
        way = [self.asked, self.method, self.options]
        self.every.click(acts["every"], way, told, api_name="every", **self.shared)
        for place in (self.answer, self.shown):
            place.select(acts["press"], chosen, pressed, api_name=False, **self.shared)
        self.method.input(acts["options"], self.method, self.options, api_name=False)
        self.other.input(acts["options"], self.other, self.other_options, api_name=False)


def _methods() -> list[tuple[str, str]]:
    """What is shown → name: fast methods first."""
    from heedmap.methods import METHODS
    from heedmap.methods.cards import CARDS

    names = sorted(METHODS, key=lambda name: CARDS[name].is_slow)
    return [(f"{name} (slow)" if CARDS[name].is_slow else name, name) for name in names]


def asset(name: str) -> str:
    """The text of a style or a script that lies beside this module."""
    return files("heedmap.web").joinpath(name).read_text(encoding="utf-8")
