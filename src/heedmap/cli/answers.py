"""``heedmap objects`` and ``heedmap alignment``: what each of several answers to one input rests on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heedmap.atomic import write_output
from heedmap.cli.command import command, end, tell, working
from heedmap.cli.inputs import ReadInputs, asked, drawn_on
from heedmap.cli.options import (
    FigureOptions,
    JsonOption,
    MethodOptions,
    ModelOptions,
    OneInput,
    OpenOption,
    check_out,
    ending_of,
)
from heedmap.render.files import DOTS, PICTURES, figure_bytes

if TYPE_CHECKING:
    from heedmap.models.answers import Answers
    from heedmap.models.model import Model
    from heedmap.progress import Progress
    from heedmap.render.files import FigureLook
    from heedmap.types import Given

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
    check_out(options.out, ENDINGS, options.show)
    look = figures.check(ending_of(options.out))
    given = inputs.read(model.model)
    model.check()
    options.check()
    subject = model.load()
    with working(subject, f"explaining by {options.method}") as progress:
        answers = explained(subject, asked(subject, given), progress)
    if options.out is not None:
        write_output(options.out, _file(ending_of(options.out), answers, subject, given, look))
    end(options.out, _json(answers) if options.as_json else None, partial(_print, answers), options.show)


def _file(ending: str, answers: Answers, subject: Model, given: ReadInputs, look: FigureLook) -> bytes:
    if ending == ".json":
        return f"{_json(answers)}\n".encode()
    picture, without = drawn_on(subject, given)
    if without:
        tell(f"the maps are {without}")
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


def _print(answers: Answers) -> None:
    from rich.console import Console

    from heedmap.render.terminal import terminal_answers

    console = Console(highlight=False)
    console.print(terminal_answers(answers), soft_wrap=not console.is_terminal)
