"""``heedmap compare`` and ``heedmap recommend``: several methods on one input, and which to use on a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heedmap.cli import completion
from heedmap.cli.command import command, open_file, progress_bar, tell, working
from heedmap.cli.evaluate import opened
from heedmap.cli.inputs import ReadInputs, asked, drawn_on, parse_target, rows_of
from heedmap.cli.options import (
    FILLS,
    DataOptions,
    FillOption,
    JsonOption,
    ManyInputs,
    MapFigureOptions,
    ModelOptions,
    OneInput,
    OpenOption,
    SeedOption,
    TargetOption,
    check_methods,
    check_out,
    check_words,
    methods_option,
)
from heedmap.common.advice import SHELL, said_for
from heedmap.common.files import write_output
from heedmap.common.printable import without_folders
from heedmap.errors import InputError
from heedmap.render.files import DOTS, PICTURES, figure_bytes
from heedmap.render.naming import headline

if TYPE_CHECKING:
    from rich.table import Table

    from heedmap.datasets.sample import Reader, Sample
    from heedmap.evaluate.experiments.choosing import Comparison
    from heedmap.evaluate.ranking import Recommendation
    from heedmap.models.model import Model
    from heedmap.render.files import FigureLook

COMPARED = ("generic", "rollout", "raw_attention", "attn_lrp")
"""What is compared where no method is named."""


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Those of ``heedmap compare`` alone."""

    method: Annotated[list[str] | None, methods_option(", ".join(COMPARED))] = None
    out: Annotated[Path | None, typer.Option(help="Write .png, .svg, .pdf, .html or .json.")] = None
    one_scale: Annotated[
        bool, typer.Option("--one-scale", help="Colour all maps by one range, not each by its own.")
    ] = False
    remove: FillOption = "mask"
    seed: SeedOption = 0
    as_json: JsonOption = False
    show: OpenOption = False


@dataclass(frozen=True, kw_only=True)
class RecommendOptions:
    """Those of ``heedmap recommend`` alone."""

    method: Annotated[list[str] | None, methods_option("those of the budget")] = None
    budget: Annotated[
        str,
        typer.Option(
            help="quick (8 inputs, fast methods) or thorough (32, all).",
            autocompletion=completion.choices("quick", "thorough"),
        ),
    ] = "quick"
    out: Annotated[Path | None, typer.Option(help="Also write the answer as .md or .json.")] = None
    remove: FillOption = "mask"
    seed: SeedOption = 0
    as_json: JsonOption = False


@command()
def compare(
    *,
    inputs: OneInput,
    target: TargetOption = None,
    options: CompareOptions,
    figures: MapFigureOptions,
    model: ModelOptions,
) -> None:
    """Explain one answer by several methods, side by side, and ask the model which of them says what it does."""
    out = options.out
    look = figures.look(out, (*PICTURES, ".html", ".json"), options.show)
    given = inputs.read(model.model)
    model.check()
    check_words(remove=(options.remove, FILLS))
    check_methods(options.method or ())
    from heedmap.evaluate.evaluation import contenders
    from heedmap.evaluate.experiments.choosing import compare as run

    chosen = contenders(options.method or COMPARED, crossed=True)
    wanted = parse_target(target)
    subject = model.load()
    with working(subject, f"comparing {len(chosen)} methods"):
        comparison = run(
            subject,
            asked(subject, given),
            chosen,
            target=wanted,
            remove=options.remove,
            donors=_donors(subject, options.remove, options.seed),
            seed=options.seed,
        )
    if out is not None:
        write_output(out, _file(out.suffix.lower(), comparison, subject, given, options.one_scale, look))
        if options.show:
            open_file(out)
    if options.as_json:
        typer.echo(json.dumps(comparison.to_dict(), indent=1))
    else:
        _print(comparison, out)


def _print(comparison: Comparison, out: Path | None) -> None:
    from rich.console import Console

    from heedmap.render.cautions import disagreements

    console = Console(highlight=False)
    first = next(iter(comparison.explanations.values()))
    console.print(f"{headline(first, 0)}, score {float(first.scores[0]):.4g}", markup=False)
    console.print(table(comparison))
    minded = [f"mind: {words}" for words in disagreements(comparison.explanations)]
    for line in (*legend(), *minded, *(f"left out: {name}: {why}" for name, why in comparison.refused.items())):
        console.print(said_for(SHELL, line), soft_wrap=True, markup=False)
    if out is not None:
        console.print(f"wrote {out}", soft_wrap=True, markup=False)


@command()
def recommend(
    *,
    inputs: ManyInputs,
    source: DataOptions,
    target: TargetOption = None,
    options: RecommendOptions,
    model: ModelOptions,
) -> None:
    """Say which method to trust on this model, by a few tests on a few of its inputs."""
    out = options.out
    check_out(out, (".md", ".json"))
    given = [row.read() for row in rows_of(inputs.roles)] if any(inputs.roles.values()) else []
    model.check()
    check_words(remove=(options.remove, FILLS))
    check_methods(options.method or ())
    reader = None if given else opened(source)
    from heedmap.evaluate.evaluation import contenders
    from heedmap.evaluate.experiments.choosing import recommend as run

    chosen = contenders(options.method, crossed=True) if options.method else None
    wanted = parse_target(target)
    subject = model.load()
    material = [_without_gaps(asked(subject, one)) for one in given] or _drawn(subject, reader, options.seed)
    with progress_bar() as bar:
        task = bar.add_task(f"methods on {subject.name}", total=1.0)
        answer = run(
            subject,
            material,
            methods=chosen,
            budget=options.budget,
            target=wanted,
            remove=options.remove,
            seed=options.seed,
            progress=lambda share: bar.update(task, completed=share),
        )
    _tell(answer, out, options.as_json)


def _tell(answer: Recommendation, out: Path | None, as_json: bool) -> None:
    data = json.dumps(answer.to_dict(), indent=1)
    if out is not None:
        write_output(out, (data + "\n" if out.suffix.lower() == ".json" else answer.to_markdown()).encode())
    if as_json:
        typer.echo(data)
        return
    from rich.console import Console

    console = Console(highlight=False)
    console.print(answer.table())
    for name, why in answer.refused.items():
        console.print(said_for(SHELL, f"left out: {name}: {why}"), soft_wrap=True, markup=False)


def table(comparison: Comparison) -> Table:
    """Methods and their figures, part by part of the input."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from heedmap.evaluate.experiments.choosing import FIGURES

    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=0)
    table.add_column("part", no_wrap=True)
    table.add_column("method", overflow="fold")
    for heading in (*FIGURES, "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for segment in dict.fromkeys(name for figures in comparison.figures.values() for name in figures):
        for number, (method, by_segment) in enumerate(comparison.figures.items()):
            figures = by_segment.get(segment, {})
            cells = [f"{figures[figure]:.3f}" if figure in figures else "–" for figure in FIGURES]
            table.add_row("" if number else segment, Text(method), *cells, f"{comparison.seconds[method]:.2f}")
        table.add_section()
    return table


def legend() -> list[str]:
    """What the figures are."""
    from heedmap.evaluate.experiments.choosing import FIGURES

    return [f"  {name}: {about}" for name, about in FIGURES.items()]


def _file(
    kind: str, comparison: Comparison, subject: Model, given: ReadInputs, shared: bool, look: FigureLook
) -> bytes:
    if kind == ".json":
        return (json.dumps(comparison.to_dict(), indent=1) + "\n").encode()
    if kind in PICTURES:
        return _figure(comparison, subject, given, kind, shared, look)
    return _page(
        comparison, without_folders(subject.name), _figure(comparison, subject, given, ".png", shared, look, 100)
    ).encode()


def _figure(
    comparison: Comparison,
    subject: Model,
    given: ReadInputs,
    kind: str,
    shared: bool,
    look: FigureLook,
    dots: int = DOTS,
) -> bytes:
    from heedmap.render.figure import side_by_side

    picture = drawn_on(subject, given, tell, "the maps are")
    figure = side_by_side(comparison.explanations, image=picture, notes=comparison.notes(), shared=shared, **look)
    return figure_bytes(figure, kind, look.get("dpi", dots))


def _page(comparison: Comparison, name: str, picture: bytes) -> str:
    from heedmap.evaluate.experiments.choosing import ARROWS
    from heedmap.render.cautions import minded
    from heedmap.render.html import data_url, document, render

    methods, seconds = comparison.figures, comparison.seconds
    columns = list(dict.fromkeys((s, f) for segments in methods.values() for s in segments for f in segments[s]))
    rows = [
        {"method": method, "figures": [segments.get(s, {}).get(f) for s, f in columns], "seconds": seconds[method]}
        for method, segments in methods.items()
    ]
    body = render(
        "methods.html",
        name=name,
        target=headline(next(iter(comparison.explanations.values())), 0),
        picture=data_url(picture),
        columns=columns,
        arrows=ARROWS,
        rows=rows,
        legend=[*(line.strip() for line in legend()), *minded(comparison.explanations)],
        refused=comparison.refused,
    )
    return document(body, f"heedmap: methods on {name}", "wide")


def _without_gaps(given: Mapping[str, object]) -> dict[str, object]:
    return {role: value for role, value in given.items() if value is not None}


def _donors(subject: Model, remove: str, seed: int) -> tuple[Sample, ...]:
    """Samples whose words or boxes are put where tokens are taken away, from the zoo's own world."""
    if remove != "replace" or subject.kind_row.takes == ("image",):
        return ()
    from heedmap.evaluate.masking import donors_of
    from heedmap.zoo.dataset import plain

    try:
        return donors_of(plain(subject), seed)
    except InputError as error:
        raise InputError(
            f"there are no other samples for {subject.name} whose words or boxes could be put where tokens are taken away; "
            "use --remove mask, or from Python heedmap.compare(…, remove='replace', donors=…)"
        ) from error


def _drawn(subject: Model, reader: Reader | None, seed: int) -> list[Mapping[str, object]]:
    """Inputs of a data set, or else of the zoo's own world, drawn by the seed."""
    import numpy as np

    from heedmap.evaluate.experiments.choosing import BUDGETS
    from heedmap.zoo.dataset import plain

    reader = reader or plain(subject)
    most = max(budget.inputs for budget in BUDGETS.values())
    drawn: list[Mapping[str, object]] = []
    for index in np.random.default_rng(seed).permutation(len(reader)).tolist():
        if len(drawn) == most:
            break
        try:
            drawn.append(reader[index].inputs)
        except InputError:
            continue
    return drawn
