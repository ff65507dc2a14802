"""``heedmap explain``: one input, two texts that are compared, or many inputs."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from heedmap.cli.batch import BatchJob, explain_many
from heedmap.cli.command import command, end, open_file, tell, working
from heedmap.cli.inputs import asked, drawn_on, is_many, parse_target, rows_of, sample_inputs
from heedmap.cli.manifest import INDEX
from heedmap.cli.options import (
    BatchOptions,
    CostOptions,
    ManyInputs,
    MapFigureOptions,
    MapOptions,
    ModelOptions,
    Output,
    SampleOption,
)
from heedmap.common.advice import SHELL, said_for

if TYPE_CHECKING:
    from heedmap.explanation import Explanation


@command()
def explain(
    *,
    inputs: ManyInputs,
    wanted: MapOptions,
    output: Output,
    figures: MapFigureOptions,
    sample: SampleOption = None,
    compare: Annotated[
        str | None,
        typer.Option(help="Another text, with --text and a sentence encoder: explain what makes the two alike."),
    ] = None,
    model: ModelOptions,
    many: BatchOptions,
    cost: CostOptions,
) -> None:
    """Explain one prediction, by default the model's own; or one of each of many inputs, into a folder."""
    several = many.listed is not None or many.ending is not None or any(map(is_many, inputs.roles.values()))
    written = output.out
    cost.check()
    if cost.dry_run and (several or compare is not None):
        told = "it tells of one input what it takes; of many, `heedmap run --dry-run` does"
        raise typer.BadParameter(told, param_hint="--dry-run")
    if compare is not None:
        if sample is not None:
            told = (
                "samples are of the zoo, whose models answer and give a text no embedding to compare; for another text beside "
                f"the sample: heedmap edit {model.model} --sample {sample} --replace OLD=NEW"
            )
            raise typer.BadParameter(told, param_hint="--compare")
        texts = _compared_texts(inputs, compare, wanted.target, several)
        _compare(texts, wanted, output, figures, model, cost)
    elif several and sample is None:
        wanted.check()
        rows = rows_of(inputs.roles, many.listed)
        explain_many(BatchJob.of(rows, wanted, output, many, figures, cost.given), model.load)
        written = None if output.out is None else output.out / INDEX
    else:
        _explain(inputs, sample, wanted, output, figures, model, cost)
    if output.show and written is not None:
        open_file(written)


def _compared_texts(inputs: ManyInputs, other: str, target: str | None, several: bool) -> tuple[str, str]:
    if not inputs.text:
        raise typer.BadParameter("give the first text with --text", param_hint="--compare")
    media = inputs.image or inputs.boxes or inputs.audio
    if media or several or target is not None:
        raise typer.BadParameter("two texts are compared, so no other input and no target", param_hint="--compare")
    return inputs.text[0], other


def _compare(
    texts: tuple[str, str],
    wanted: MapOptions,
    output: Output,
    figures: MapFigureOptions,
    model: ModelOptions,
    cost: CostOptions,
) -> None:
    from heedmap.render.files import COMPARISON_ENDINGS, comparison_json, write_comparison

    look = figures.look(output.out, COMPARISON_ENDINGS, output.show)
    wanted.check()
    subject = model.load()
    with working(subject, f"explaining by {wanted.method}") as progress:
        pair = wanted.by(subject.compare)(texts[0], texts[1], progress=progress, **cost.given)
    if output.out is not None:
        write_comparison(output.out, *pair, **look)
    end(output.out, comparison_json(*pair) if output.as_json else None, partial(print_heat, *pair))


def _explain(
    inputs: ManyInputs,
    sample: int | None,
    wanted: MapOptions,
    output: Output,
    figures: MapFigureOptions,
    model: ModelOptions,
    cost: CostOptions,
) -> None:
    from heedmap.render.cautions import cautions
    from heedmap.render.files import ENDINGS, to_json, write

    look = figures.look(output.out, ENDINGS, output.show)
    given = rows_of(inputs.roles)[0].read() if sample is None else sample_inputs(model.model, sample, inputs.roles)
    model.check()
    wanted.check()
    subject = model.load()
    target = parse_target(wanted.target)
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
