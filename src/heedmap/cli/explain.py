"""``heedmap explain`` and ``heedmap edit``: one input, two texts that are compared, many inputs; an input before and after a
small change, and what changes in the answers and in the map.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heedmap.cli.batch import INDEX, explain_many
from heedmap.cli.command import command, end, open_file, tell, working
from heedmap.cli.inputs import ReadInputs, asked, drawn_on, is_many, parse_target, rows_of, sample_inputs
from heedmap.cli.options import (
    ExplainOptions,
    JsonOption,
    MapFigureOptions,
    MapOptions,
    ModelOptions,
    OneInput,
    OpenOption,
)
from heedmap.common.files import write_output
from heedmap.common.printable import SHELL, percent, said_for, visible
from heedmap.render.files import DOTS, PICTURES, figure_bytes, to_data

if TYPE_CHECKING:
    from heedmap.explanation import Explanation
    from heedmap.models.edits import Effect
    from heedmap.models.model import Model
    from heedmap.render.files import FigureLook


@command()
def explain(*, options: ExplainOptions) -> None:
    """Explain one prediction, by default the model's own; or one of each of many inputs, into a folder."""
    inputs, many, written = options.inputs, options.many, options.output.out
    several = many.listed is not None or many.ending is not None or any(map(is_many, inputs.roles.values()))
    if options.cost.dry_run and (several or options.compare is not None):
        told = "it tells of one input what it takes; of many, `heedmap run --dry-run` does"
        raise typer.BadParameter(told, param_hint="--dry-run")
    if options.compare is not None:
        _compare(options, several)
    elif several and options.sample is None:
        options.wanted.check()
        explain_many(rows_of(inputs.roles, many.listed), options)
        written = None if written is None else written / INDEX
    else:
        _explain(options)
    if options.output.show and written is not None:
        open_file(written)


def _compare(options: ExplainOptions, several: bool) -> None:
    """Explain what makes two texts alike."""
    from heedmap.render.files import COMPARISON_ENDINGS, comparison_json, write_comparison

    first, second = _compared_texts(options, several)
    wanted, output = options.wanted, options.output
    look = options.figures.look(output.out, COMPARISON_ENDINGS, output.show)
    wanted.check()
    subject = options.model.load()
    with working(subject, f"explaining by {wanted.method}") as progress:
        pair = wanted.by(subject.compare)(first, second, progress=progress, **options.cost.given)
    if output.out is not None:
        write_comparison(output.out, *pair, **look)
    end(output.out, comparison_json(*pair) if output.as_json else None, partial(print_heat, *pair))


def _compared_texts(options: ExplainOptions, several: bool) -> tuple[str, str]:
    inputs, sample, other = options.inputs, options.sample, options.compare
    if sample is not None:
        told = (
            "samples are of the zoo, whose models answer and give a text no embedding to compare; for another text beside "
            f"the sample: heedmap edit {options.model.model} --sample {sample} --replace OLD=NEW"
        )
        raise typer.BadParameter(told, param_hint="--compare")
    if not inputs.text or other is None:
        raise typer.BadParameter("give the first text with --text", param_hint="--compare")
    media = inputs.image or inputs.boxes or inputs.audio
    if media or several or options.wanted.target is not None:
        raise typer.BadParameter("two texts are compared, so no other input and no target", param_hint="--compare")
    return inputs.text[0], other


def _explain(options: ExplainOptions) -> None:
    """Explain one input."""
    from heedmap.render.cautions import cautions
    from heedmap.render.files import ENDINGS, to_json, write

    model, wanted, output, cost = options.model, options.wanted, options.output, options.cost
    roles = options.inputs.roles
    look = options.figures.look(output.out, ENDINGS, output.show)
    given = rows_of(roles)[0].read() if options.sample is None else sample_inputs(model.model, options.sample, roles)
    wanted.check()
    subject, target = model.load(), parse_target(wanted.target)
    if cost.dry_run:
        plan = wanted.by(subject.plan)(**asked(subject, given), target=target, **cost.given)
        typer.echo(json.dumps(asdict(plan)) if output.as_json else str(plan))
        return
    with working(subject, f"explaining by {wanted.method}") as progress:
        explanation = wanted.by(subject.explain)(
            **asked(subject, given), target=target, progress=progress, **cost.given
        )
    if output.out is not None:
        if wanted.method != explanation.method:  # printed maps have it among their notes
            tell(explanation.flow.notes[0])
        write(output.out, explanation, drawn_on(subject, given, tell), given["audio"], **look)
    end(output.out, to_json(explanation) if output.as_json else None, partial(print_heat, explanation))
    for words in cautions(explanation) if output.out is not None else ():  # printed maps have them among their facts
        typer.echo(f"mind: {said_for(SHELL, words)}", err=output.as_json)


def print_heat(*explanations: Explanation) -> None:
    """Each explanation as a terminal shows it."""
    from rich.console import Console

    from heedmap.render.terminal import terminal

    console = Console(highlight=False)
    colours = console.color_system is not None and not console.no_color
    for explanation in explanations:
        console.print(terminal(explanation, colours=colours), soft_wrap=not console.is_terminal)


CHANGE = "change"


@dataclass(frozen=True, kw_only=True)
class EditOptions:
    """Those of ``heedmap edit`` alone."""

    replace: Annotated[
        str | None, typer.Option(help="OLD=NEW: a word of the text becomes another; OLD= takes it out.")
    ] = None
    paint: Annotated[
        str | None,
        typer.Option(help="X1,Y1,X2,Y2: paint over this of the picture, in pixels (10,20,30,40) or shares (0.1,…)."),
    ] = None
    out: Annotated[Path | None, typer.Option(help="Write .png, .svg, .pdf or .json.")] = None
    as_json: JsonOption = False
    show: OpenOption = False


@command()
def edit(
    *, inputs: OneInput, options: EditOptions, wanted: MapOptions, figures: MapFigureOptions, model: ModelOptions
) -> None:
    """Change a word or paint over a part of the picture, and see what changes: the answers, and the map of one."""
    out = options.out
    look = figures.look(out, (*PICTURES, ".json"), options.show)
    given = inputs.read(model.model)
    edited = _edited(given, options)
    wanted.check()
    from heedmap.models.edits import effect

    subject, target = model.load(), parse_target(wanted.target)
    first, second = asked(subject, given), asked(subject, edited)
    with working(subject, f"explaining both by {wanted.method}") as progress:
        found = wanted.by(effect)(subject, first, second, target=target, progress=progress)
    if out is not None:
        write_output(out, _effect_file(out.suffix.lower(), found, subject, given, edited, look))
    if not options.as_json:
        _print_answers(found)
    data = json.dumps(_effect_data(found), indent=1) if options.as_json else None
    end(out, data, partial(print_heat, found.change), options.show)


def _edited(given: ReadInputs, options: EditOptions) -> ReadInputs:
    from PIL import Image

    from heedmap.models.edits import painted, reworded

    if options.replace is None and options.paint is None:
        raise typer.BadParameter("give what to change", param_hint="--replace or --paint")
    edited = given.copy()
    if options.replace is not None:
        old, equals, new = options.replace.partition("=")
        if not equals or not old:
            raise typer.BadParameter(f"{options.replace!r} is not OLD=NEW", param_hint="--replace")
        if not isinstance(given["text"], str):
            raise typer.BadParameter("there is no text to change; give --text", param_hint="--replace")
        edited["text"] = reworded(given["text"], old, new)
    if options.paint is not None:
        image = given["image"]
        if image is None or isinstance(image, tuple) or given["boxes"] is not None:
            raise typer.BadParameter("there is no picture that the model sees; give one --image", param_hint="--paint")
        picture = (
            image if isinstance(image, Image.Image) else Image.fromarray(image)
        )  # a sample of the zoo has an array
        edited["image"] = painted(picture, _painted_region(options.paint))
    return edited


def _painted_region(text: str) -> tuple[int | float, ...]:
    try:
        return tuple(int(n) if n.strip().isdecimal() else float(n) for n in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not X1,Y1,X2,Y2", param_hint="--paint") from None


def _effect_file(
    ending: str, found: Effect, subject: Model, given: ReadInputs, edited: ReadInputs, look: FigureLook
) -> bytes:
    if ending == ".json":
        return json.dumps(_effect_data(found), allow_nan=False, indent=1).encode()
    from heedmap.render.figure import side_by_side

    maps = _effect_maps(found)
    before, after = (drawn_on(subject, inputs, lambda _: None) for inputs in (given, edited))
    pictures = {
        name: picture for name, picture in zip(maps, (before, after, after), strict=True) if picture is not None
    }
    notes = {CHANGE: "red: relevance gained, blue: lost"}
    figure = side_by_side(maps, image=pictures, notes=notes, own=(CHANGE,), **look)
    return figure_bytes(figure, ending, look.get("dpi", DOTS))


def _effect_maps(found: Effect) -> dict[str, Explanation]:
    return {"before": found.before, "after": found.after, CHANGE: found.change}


def _effect_data(found: Effect) -> dict[str, object]:
    answers = {name: {"before": before, "after": after} for name, (before, after) in found.answers.items()}
    return {"answers": answers} | {name: to_data(explanation) for name, explanation in _effect_maps(found).items()}


def _print_answers(found: Effect) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for head in ("answer", "before", "after"):
        table.add_column(head, justify="left" if head == "answer" else "right")
    for name, odds in found.answers.items():
        table.add_row(visible(name), *("–" if p is None else percent(p) for p in odds))
    Console(highlight=False).print(table)
