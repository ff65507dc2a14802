"""``heedmap answer``, ``objects`` and ``alignment``: what each word that a model says, or each of several answers, rests on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heedmap.cli.command import command, end, progress_bar, tell, working
from heedmap.cli.inputs import ReadInputs, asked, drawn_on
from heedmap.cli.options import (
    FigureOptions,
    JsonOption,
    MemoryOptions,
    MethodOptions,
    ModelOptions,
    OneInput,
    OpenOption,
    generation,
    read_as,
)
from heedmap.common.files import write_output
from heedmap.methods import written
from heedmap.render.files import DOTS, PICTURES, figure_bytes

if TYPE_CHECKING:
    from rich.console import Group

    from heedmap.common.progress import Progress
    from heedmap.models.answers import Answers
    from heedmap.models.model import Model
    from heedmap.render.files import FigureLook
    from heedmap.types import Given


@dataclass(frozen=True, kw_only=True)
class AnswerOptions(MethodOptions):
    """Those of ``heedmap answer`` alone."""

    answer: Annotated[str | None, typer.Option(help="Explain this answer, and not what the model says by itself.")] = (
        None
    )
    contrast: Annotated[
        list[str] | None,
        typer.Option(
            help="Explain why each token and not another: runner-up, another answer, or WORD=OTHER for a word of it "
            "(several times)."
        ),
    ] = None
    generate: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE for transformers' generate, such as max_new_tokens=20. Several times."),
    ] = None
    system: Annotated[str | None, typer.Option(help="The system prompt, of a model with a chat template.")] = None
    cost: MemoryOptions
    out: Annotated[Path | None, typer.Option(help="Write .html, .png, .svg, .pdf, .json or .safetensors.")] = None
    as_json: JsonOption = False
    show: OpenOption = False

    def check(self) -> None:
        """As :meth:`MethodOptions.check`, and of what is generated and contrasted."""
        super().check()
        generation(self.generate)
        _ = self.against

    @property
    def against(self) -> str | dict[str, str] | None:
        """As :func:`heedmap.explain_answer` takes a contrast.

        Raises:
            typer.BadParameter: several that are no pairs.
        """
        with read_as("--contrast"):
            return written.contrast(self.contrast or ())


@command()
def answer(*, inputs: OneInput, options: AnswerOptions, figures: FigureOptions, model: ModelOptions) -> None:
    """Explain an answer in words: what each word of it rests on, in text, picture and sound."""
    from heedmap.render.files import ENDINGS, to_json, write

    look = figures.look(options.out, ENDINGS, options.show)
    given = inputs.read(model.model)
    options.check()
    subject = model.load()
    with progress_bar() as bar:
        task = bar.add_task("tokens", total=None)
        explanation = options.by(subject.explain_answer)(
            given["text"],
            given["image"],
            given["audio"],
            answer=options.answer,
            contrast=options.against,
            generate=generation(options.generate),
            system=options.system,
            progress=lambda done, of: bar.update(task, completed=done, total=of),
            **options.cost.given,
        )
    if options.out is not None:
        write(options.out, explanation, drawn_on(subject, given, tell), given["audio"], **look)
    from heedmap.render.terminal import terminal_answer

    data = to_json(explanation) if options.as_json else None
    end(options.out, data, lambda: _print(terminal_answer(explanation)), options.show)


def _print(shown: Group) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console.print(shown, soft_wrap=not console.is_terminal)


ENDINGS = (".html", *PICTURES, ".json")


@dataclass(frozen=True, kw_only=True)
class AnswersOptions(MethodOptions):
    """Those that both commands have."""

    out: Annotated[Path | None, typer.Option(help="Write .html, .png, .svg, .pdf or .json.")] = None
    as_json: JsonOption = False
    show: OpenOption = False


@command()
def objects(
    *,
    inputs: OneInput,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Objects from this probability on.")] = 0.5,
    most: Annotated[int, typer.Option(min=1, help="So many at most, the most probable ones.")] = 20,
    options: AnswersOptions,
    figures: FigureOptions,
    model: ModelOptions,
) -> None:
    """Explain every object that a detector finds, each with its box, from one run of it."""

    def explained(subject: Model, given: Given, progress: Progress) -> Answers:
        from heedmap.models.answers import detections

        return options.by(detections)(subject, threshold=threshold, most=most, **given, progress=progress)

    _answer(inputs, options, figures, model, explained)


@command()
def alignment(*, inputs: OneInput, options: AnswersOptions, figures: FigureOptions, model: ModelOptions) -> None:
    """Align what a model says with its input: a matrix, a row a token; `heedmap answer` shows its words one by one."""

    def explained(subject: Model, given: Given, progress: Progress) -> Answers:
        from heedmap.models.answers import alignment

        return options.by(alignment)(subject, **given, progress=progress)

    _answer(inputs, options, figures, model, explained)


def _answer(
    inputs: OneInput,
    options: AnswersOptions,
    figures: FigureOptions,
    model: ModelOptions,
    explained: Callable[[Model, Given, Progress], Answers],
) -> None:
    look = figures.look(options.out, ENDINGS, options.show)
    given = inputs.read(model.model)
    options.check()
    subject = model.load()
    with working(subject, f"explaining by {options.method}") as progress:
        answers = explained(subject, asked(subject, given), progress)
    if options.out is not None:
        write_output(options.out, _file(options.out.suffix.lower(), answers, subject, given, look))
    from heedmap.render.terminal import terminal_answers

    data = _json(answers) if options.as_json else None
    end(options.out, data, lambda: _print(terminal_answers(answers)), options.show)


def _file(ending: str, answers: Answers, subject: Model, given: ReadInputs, look: FigureLook) -> bytes:
    if ending == ".json":
        return f"{_json(answers)}\n".encode()
    picture = drawn_on(subject, given, tell, "the maps are")
    if ending == ".html":
        return answers.to_html(None if picture is None else picture.as_seen()).encode()
    return figure_bytes(answers.plot(picture, given["audio"], **look), ending, look.get("dpi", DOTS))


def _json(answers: Answers) -> str:
    from heedmap.render.files import to_data

    boxes = answers.boxes or (None,) * len(answers)
    entries = [
        {"name": name, "box": None if box is None else list(box), "explanation": to_data(explanation)}
        for name, box, explanation in zip(answers.names, boxes, answers.explanations, strict=True)
    ]
    return json.dumps(entries, allow_nan=False, indent=1)
