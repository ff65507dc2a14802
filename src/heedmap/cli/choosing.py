"""``heedmap methods``, ``compare`` and ``recommend``: what methods there are, several on one input, which to use on a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heedmap.cli.command import command, open_file, progress_bar, tell, working
from heedmap.cli.evaluate import FILLS, FillOption, opened
from heedmap.cli.inputs import ReadInputs, asked, drawn_on, parse_target, rows_of
from heedmap.cli.options import (
    DataOptions,
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
    choices,
    methods_option,
    word_option,
)
from heedmap.common.files import write_output
from heedmap.common.printable import SHELL, said_for, without_folders
from heedmap.errors import InputError
from heedmap.methods.cards import CARDS
from heedmap.render.files import DOTS, PICTURES, figure_bytes
from heedmap.render.naming import headline

if TYPE_CHECKING:
    from rich.table import Table

    from heedmap.datasets.sample import Reader, Sample
    from heedmap.evaluate.experiments.choosing import Comparison
    from heedmap.evaluate.ranking import Recommendation
    from heedmap.methods import Method
    from heedmap.models.model import Model
    from heedmap.render.files import FigureLook

COMPARED = ("generic", "rollout", "raw_attention", "attn_lrp")
"""What is compared where no method is named."""


@command()
def methods(
    *,
    name: Annotated[
        list[str] | None, typer.Argument(help="Methods; by default all.", autocompletion=choices(*CARDS))
    ] = None,
    as_json: JsonOption = False,
    markdown: Annotated[Path | None, typer.Option(help="Write the method cards to this file.")] = None,
) -> None:
    """List the methods: what each computes, its paper, what it costs, where it fails, and its options."""
    check_methods(name or (), groups=())
    import heedmap

    asked_for = [heedmap.METHODS[each.partition(":")[0]] for each in name or heedmap.METHODS]
    if markdown is not None:
        from heedmap.methods.cards import page

        write_output(markdown, page(asked_for).encode())
    if as_json:
        typer.echo(json.dumps([_method_data(method) for method in asked_for], indent=1, default=str))
        return
    for method in asked_for:
        _print_method(method)


def _method_data(method: Method) -> dict[str, object]:
    from dataclasses import asdict

    from heedmap.methods.cards import evidence

    return {
        "name": method.name,
        "summary": method.summary,
        "source": method.source,
        "options": dict(method.options),
        **asdict(CARDS[method.name]),
        "evidence": evidence(method.name),
    }


def _print_method(method: Method) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    from heedmap.methods.cards import evidence
    from heedmap.methods.supported import PAGE

    card = CARDS[method.name]
    options = ", ".join(f"{key}={value!r}" for key, value in method.options.items()) or "none"
    cost = f"forward passes: {card.forwards}, backward: {card.backwards}; needs {card.needs}"
    told = [cost, f"mind: {card.fails}", f"flows: {card.flows}", f"evidence: {evidence(method.name)} ({PAGE})"]
    told += [f"licence: {card.licence}"] if card.licence else []
    lines = ((method.summary, ""), (card.equation, ""), (method.source, "dim"), *((words, "") for words in told))
    console = Console(highlight=False)
    console.print(Text(method.name, style="bold"))
    for words, style in (*lines, (f"options: {options}", "")):
        console.print(Padding(Text(words, style=style), (0, 0, 0, 2)))


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

    def __post_init__(self) -> None:
        check_words(remove=(self.remove, FILLS))
        check_methods(self.method or ())


@dataclass(frozen=True, kw_only=True)
class RecommendOptions:
    """Those of ``heedmap recommend`` alone."""

    method: Annotated[list[str] | None, methods_option("those of the budget")] = None
    budget: Annotated[
        str, word_option(("quick", "thorough"), "quick (8 inputs, fast methods) or thorough (32, all).")
    ] = "quick"
    out: Annotated[Path | None, typer.Option(help="Also write the answer as .md or .json.")] = None
    remove: FillOption = "mask"
    seed: SeedOption = 0
    as_json: JsonOption = False

    def __post_init__(self) -> None:
        check_words(remove=(self.remove, FILLS))
        check_methods(self.method or ())


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
        typer.echo(said_for(SHELL, line))
    if out is not None:
        typer.echo(f"wrote {out}")


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
    reader = None if given else opened(source)
    from heedmap.evaluate.evaluation import contenders
    from heedmap.evaluate.experiments.choosing import recommend as run

    chosen = contenders(options.method, crossed=True) if options.method else None
    wanted = parse_target(target)
    subject = model.load()
    material: list[Mapping[str, object]] = [
        {role: value for role, value in asked(subject, one).items() if value is not None} for one in given
    ] or _drawn(subject, reader, options.seed)
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

    Console(highlight=False).print(answer.table())
    for name, why in answer.refused.items():
        typer.echo(said_for(SHELL, f"left out: {name}: {why}"))


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
    ending: str, comparison: Comparison, subject: Model, given: ReadInputs, shared: bool, look: FigureLook
) -> bytes:
    from heedmap.render.figure import side_by_side

    if ending == ".json":
        return (json.dumps(comparison.to_dict(), indent=1) + "\n").encode()
    picture = drawn_on(subject, given, tell, "the maps are")
    figure = side_by_side(comparison.explanations, image=picture, notes=comparison.notes(), shared=shared, **look)
    if ending == ".html":
        return _page(comparison, without_folders(subject.name), figure_bytes(figure, ".png", 100)).encode()
    return figure_bytes(figure, ending, look.get("dpi", DOTS))


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
    from heedmap.evaluate.experiments.choosing import BUDGETS
    from heedmap.evaluate.masking import donors_of
    from heedmap.zoo.dataset import plain

    most = max(budget.inputs for budget in BUDGETS.values())
    return [sample.inputs for sample in donors_of(reader or plain(subject), seed, most)]
