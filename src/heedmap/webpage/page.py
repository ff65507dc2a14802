"""What is where on the page, and which click does what: all of it in Gradio."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from heedmap.render.figure import image_html
from heedmap.render.style import style
from heedmap.render.text import html_text
from heedmap.webpage.frames import outlined, with_frames
from heedmap.webpage.handlers import Asked, Handlers, attempt
from heedmap.webpage.libraries import library
from heedmap.webpage.material import offered, sample, taken
from heedmap.webpage.models import Tell
from heedmap.webpage.results import TYPES, Result, Results

TITLE = "heedmap"
KEPT_SECONDS = 3600
"""That an upload, and what a person asked, is kept."""
PICTURE = {"label": "Picture", "type": "filepath", "sources": ["upload", "clipboard"], "elem_id": "image"}
STYLE = """
.heedmap-error { border: 2px solid #a4262c; border-radius: .4rem; padding: .5rem .8rem; color: #7a1418; background: #fff3f3; }
#message:not(:has(.heedmap-error)) { display: none; }
.heedmap-columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: 1rem; }
.heedmap-files a { display: inline-block; margin-inline-end: .6rem; padding: .3rem .9rem; border: 1px solid #40346e;
  border-radius: .4rem; color: #40346e; background: #fff; text-decoration: none; }
.heedmap-files a:hover, .heedmap-files a:focus-visible { background: #40346e; color: #fff; }
.heedmap-result h2, .heedmap-result h3 { font-weight: 700; }
.heedmap-result { background: #fff; border-radius: .5rem; }
"""


def page(handlers: Handlers, results: Results) -> Any:
    """The page, not yet served.

    Args:
        handlers: what is done.
        results: where explanations are kept to be downloaded.

    Raises:
        MissingLibraryError: Gradio is not installed.
    """
    gr = library("gradio")
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
        self.shared: dict[str, Any] = {"concurrency_limit": 8, "concurrency_id": "models"}

    def build(self) -> None:
        """Place the parts, then say what happens to each."""
        gr = self.gr
        gr.HTML(f"<h1>heedmap</h1><p>What does an answer rest on? {html_text(str(self.handlers.limits))}</p>")
        first = next(iter(self.handlers.models.names), "")
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                self._inputs(first)
                self._choices()
            with gr.Column(scale=3, min_width=320):
                self.message = gr.HTML(elem_id="message")
                self.shown = gr.HTML(
                    _hint(first), elem_id="result", elem_classes="heedmap-result", apply_default_css=False
                )
                self.files = gr.HTML(elem_id="files", elem_classes="heedmap-files")
        self._events()

    def _inputs(self, first: str) -> None:
        gr, numbers, (words, pictures) = self.gr, _listed(first), taken(first)
        self.model = gr.Dropdown(list(self.handlers.models.names), value=first or None, label="Model", elem_id="model")
        self.number = gr.Dropdown(numbers, value=None, label="Sample", visible=bool(numbers), elem_id="sample")
        self.text = gr.Textbox(label="Text", lines=2, max_lines=8, visible=words, elem_id="text")
        self.image = _as_uploaded(gr, gr.Image(format="png", height=220, visible=pictures, **PICTURE))
        self.ask = gr.Button("Ask the model", variant="primary", elem_id="ask")

    def _choices(self) -> None:
        gr, methods = self.gr, _methods()
        self.choice = gr.Radio([], label="Answers", visible=False, elem_id="answers")
        with gr.Row():
            self.method = gr.Dropdown(methods, value="generic", label="Method", elem_id="method")
            self.other = gr.Dropdown(methods, value="rollout", label="Compare with", elem_id="other")
        with gr.Row():
            self.redo = gr.Button("Explain", elem_id="explain")
            self.both = gr.Button("Compare", elem_id="compare")

    def _events(self) -> None:
        answers = [self.message, self.choice, self.shown, self.files, self.asked]
        given = [self.model, self.number, self.text, self.image]
        told = [self.message, self.shown, self.files]
        chosen = [self.asked, self.choice, self.method]
        ask, explain, compare = self._with_progress()
        self.model.input(
            self._choose_model, self.model, [self.number, self.text, self.image, *answers], api_name="choose"
        )
        picked = self.number.input(
            self._pick, [self.model, self.number], [self.message, self.text, self.image], api_name="pick"
        )
        picked.then(ask, given, answers, api_name=False, **self.shared)
        self.ask.click(ask, given, answers, api_name="ask", **self.shared)
        self.text.submit(ask, given, answers, api_name=False, **self.shared)
        self.choice.input(explain, chosen, told, api_name=False, **self.shared)
        self.redo.click(explain, chosen, told, api_name="explain", **self.shared)
        self.both.click(compare, [*chosen, self.other], told, api_name="compare", **self.shared)

    def _with_progress(self) -> tuple[Callable[..., Any], ...]:
        """What takes long, as Gradio wants it: it finds the progress among the default values."""
        progress = self.gr.Progress()
        return (
            lambda model, number, text, path, told=progress: self._ask(model, number, text, path, _tell(told)),
            lambda asked, choice, method, told=progress: self._explain(asked, choice, method, _tell(told)),
            lambda asked, choice, method, other, told=progress: self._compare(
                asked, choice, method, other, _tell(told)
            ),
        )

    def _choose_model(self, model: str) -> tuple[Any, ...]:
        gr = self.gr
        numbers, (words, pictures) = _listed(model), taken(model)
        samples = gr.update(choices=numbers, value=None, visible=bool(numbers))
        given = gr.update(value="", visible=words), gr.update(value=None, visible=pictures)
        return samples, *given, "", *self._no_answers(model)

    def _no_answers(self, model: str) -> tuple[Any, ...]:
        return self.gr.update(choices=[], value=None, visible=False), _hint(model), "", None

    def _pick(self, model: str, number: int | None) -> tuple[Any, ...]:
        if number is None:
            return "", "", None
        found, error = attempt(lambda: sample(model, number))
        return (_error(error), "", None) if found is None else ("", found.text or "", found.picture)

    def _ask(self, model: str, number: int | None, text: str | None, path: str | None, tell: Tell) -> tuple[Any, ...]:
        asked, error = attempt(lambda: self.handlers.predict(model, number, text, path, tell))
        if asked is None:
            return _error(error), *self._no_answers(model)
        choices = [(str(choice), place) for place, choice in enumerate(asked.predictions.choices)]
        label = f"{asked.predictions.about}: choose what to explain"
        radio = self.gr.update(choices=choices, value=None, visible=True, label=label)
        shown, error = attempt(lambda: _found(asked))
        return _error(error), radio, shown or _hint(model), "", asked

    def _explain(self, asked: Asked | None, choice: int | None, method: str, tell: Tell) -> tuple[Any, ...]:
        return self._result(lambda: self.handlers.explain(asked, choice, method, tell))

    def _compare(self, asked: Asked | None, choice: int | None, method: str, other: str, tell: Tell) -> tuple[Any, ...]:
        return self._result(lambda: self.handlers.compare(asked, choice, method, other, tell))

    def _result(self, work: Callable[[], Result]) -> tuple[Any, ...]:
        found, error = attempt(lambda: _with_html(work()))
        if found is None:
            return _error(error), "", ""
        result, html = found
        return "", html, _links(self.results.keep(result))


def _tell(progress: Any) -> Tell:
    return lambda words: progress(None, desc=words)


def _with_html(result: Result) -> tuple[Result, str]:
    return result, result.html()


def _hint(model: str) -> str:
    pick = "Pick a sample or give something of your own" if _listed(model) else "Give something of your own"
    return f"<p>{html_text(model)}: {pick}, ask the model, then choose an answer; its map comes here.</p>"


def _error(message: str) -> str:
    return f'<div class="heedmap-error" role="alert" dir="auto">{html_text(message)}</div>' if message else ""


def _links(name: str) -> str:
    links = (
        f'<a href="explained/{name}{ending}" download="heedmap{ending}">Download {ending[1:].upper()}</a>'
        for ending in TYPES
    )
    return "".join(links)


def _found(asked: Asked) -> str:
    """The picture of boxes that were given, or of objects that were found; of another the page has shown it."""
    choices = [choice for choice in asked.predictions.choices if choice.box is not None]
    if asked.picture is None or not (choices or "boxes" in asked.given):
        return ""
    words = "found: " + ", ".join(choice.name for choice in choices) if choices else "the picture of the boxes"
    body = image_html(outlined(with_frames(asked.picture, choices)).image, words)
    return f'<div class="heedmap"><style>{style()}</style>{body}</div>'


def _listed(model: str) -> list[tuple[str, int]]:
    return [(name, number) for number, name in offered(model).items()]


def _methods() -> list[tuple[str, str]]:
    """What is shown → name: fast methods first."""
    from heedmap.methods import METHODS
    from heedmap.methods.cards import CARDS

    names = sorted(METHODS, key=lambda name: CARDS[name].is_slow)
    return [(f"{name} (slow)" if CARDS[name].is_slow else name, name) for name in names]


def _as_uploaded(gr: Any, image: Any) -> Any:
    """``image``, Gradio's, whose file is left as it is and never fetched from another server.

    No subclass: of each that it sees, Gradio writes a file beside the module that defines it.
    """
    move = image.async_move_resource_to_block_cache

    async def moved(path: Any) -> str | None:
        if "://" in str(path):
            raise gr.Error("a picture is uploaded, not fetched from an address")
        return await move(path)

    image.async_move_resource_to_block_cache = moved
    image.preprocess = lambda payload: None if payload is None else payload.path
    return image
