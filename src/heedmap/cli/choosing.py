"""``heedmap compare`` and ``heedmap recommend``: several methods on one input, and which to use on a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heedmap.atomic import write_output
from heedmap.cli import completion
from heedmap.cli.arguments import (
    AudioOption,
    BoxesOption,
    DeviceOption,
    DtypeOption,
    ImageOption,
    ImagesOption,
    JsonOption,
    ManyBoxesOption,
    ModelArgument,
    OpenOption,
    SeedOption,
    SoundsOption,
    TargetOption,
    TextOption,
    TextsOption,
    as_target,
    check_out,
    load_model,
    methods_option,
    open_file,
    parse_target,
    read_inputs,
)
from heedmap.cli.evaluate import DataOption, FileOption
from heedmap.cli.evaluation import opened
from heedmap.cli.exit_codes import guarded
from heedmap.cli.input_lists import ROLES, Given, rows_of
from heedmap.cli.progress import progress_bar
from heedmap.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from heedmap.evaluate.experiments.comparing import Comparison

COMPARED = ("generic", "rollout", "raw_attention", "attn_lrp")
"""What is compared where no method is named."""
PICTURES = (".png", ".svg", ".pdf")


@guarded
def compare(
    context: typer.Context,
    model: ModelArgument,
    text: TextOption = None,
    image: ImageOption = None,
    boxes: BoxesOption = None,
    audio: AudioOption = None,
    target: TargetOption = None,
    method: Annotated[list[str] | None, methods_option(", ".join(COMPARED))] = None,
    out: Annotated[Path | None, typer.Option(help="Write .png, .svg, .pdf, .html or .json.")] = None,
    own_scale: Annotated[
        bool, typer.Option("--own-scale", help="Colour each map by its own range, not all by one.")
    ] = False,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    show: OpenOption = False,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
) -> None:
    """Explain one answer by several methods, side by side, and ask the model which of them says what it does."""
    from heedmap.evaluate.experiments.comparing import compare as run
    from heedmap.evaluate.harness.contenders import contenders

    check_out(out, (*PICTURES, ".html", ".json"), show)
    chosen = contenders(method or COMPARED, crossed=True)
    wanted = as_target(parse_target(target))
    given = read_inputs(text, image, boxes, audio)
    subject = load_model(model, device, dtype)
    found = run(subject, given, chosen, target=wanted, seed=seed)
    if out is not None:
        write_output(out, _file(out.suffix.lower(), found, subject, given, shared=not own_scale))
        if show:
            open_file(out)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=1))
        return
    from rich.console import Console

    console = Console(highlight=False)
    first = next(iter(found.explanations.values()))
    console.print(f"{first.target[0]}, score {float(first.scores[0]):.4g}", markup=False)
    console.print(table(found))
    for line in (*legend(), *(f"left out: {name}: {why}" for name, why in found.refused.items())):
        console.print(line, soft_wrap=True, markup=False)
    if out is not None:
        console.print(f"wrote {out}", soft_wrap=True, markup=False)


@guarded
def recommend(
    context: typer.Context,
    model: ModelArgument,
    text: TextsOption = None,
    image: ImagesOption = None,
    boxes: ManyBoxesOption = None,
    audio: SoundsOption = None,
    data: DataOption = None,
    file: FileOption = None,
    target: TargetOption = None,
    method: Annotated[list[str] | None, methods_option("those of the budget")] = None,
    budget: Annotated[
        str,
        typer.Option(
            help="quick (8 inputs, fast methods) or thorough (32, all).",
            autocompletion=completion.choices("quick", "thorough"),
        ),
    ] = "quick",
    out: Annotated[Path | None, typer.Option(help="Also write the answer as .md or .json.")] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
) -> None:
    """Say which method to trust on this model, by a few tests on a few of its inputs."""
    from heedmap.evaluate.experiments.recommend import recommend as run
    from heedmap.evaluate.harness.contenders import contenders

    check_out(out, (".md", ".json"))
    chosen = contenders(method, crossed=True) if method else None
    wanted = as_target(parse_target(target))
    given = {"text": text, "image": image, "boxes": boxes, "audio": audio}
    subject = load_model(model, device, dtype)
    inputs = _inputs(given) if any(given.values()) else _drawn(subject, data, file, seed)
    with progress_bar() as bar:
        task = bar.add_task(f"methods on {subject.name}", total=1.0)
        found = run(
            subject,
            inputs,
            methods=chosen,
            budget=budget,
            target=wanted,
            seed=seed,
            progress=lambda share: bar.update(task, completed=share),
        )
    data_out = json.dumps(found.to_dict(), indent=1)
    if out is not None:
        write_output(out, (data_out + "\n" if out.suffix.lower() == ".json" else found.to_markdown()).encode())
    if as_json:
        typer.echo(data_out)
        return
    from rich.console import Console

    console = Console(highlight=False)
    console.print(found.table())
    for name, why in found.refused.items():
        console.print(f"left out: {name}: {why}", soft_wrap=True, markup=False)


def table(found: Comparison) -> Table:
    """Methods and their figures, part by part of the input."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from heedmap.evaluate.experiments.comparing import FIGURES

    made = Table(box=SIMPLE_HEAD, show_edge=False, padding=0)
    made.add_column("part", no_wrap=True)
    made.add_column("method", overflow="fold")
    for heading in (*FIGURES, "seconds"):
        made.add_column(heading, justify="right", no_wrap=True)
    for segment in dict.fromkeys(name for own in found.figures.values() for name in own):
        for number, (name, own) in enumerate(found.figures.items()):
            figures = own.get(segment, {})
            cells = [f"{figures[figure]:.3f}" if figure in figures else "–" for figure in FIGURES]
            made.add_row("" if number else segment, Text(name), *cells, f"{found.seconds[name]:.2f}")
        made.add_section()
    return made


def legend() -> list[str]:
    """What the figures are."""
    from heedmap.evaluate.experiments.comparing import FIGURES

    return [f"  {name}: {about}" for name, about in FIGURES.items()]


def _file(kind: str, found: Comparison, subject: Any, given: Mapping[str, Any], *, shared: bool) -> bytes:
    if kind == ".json":
        return (json.dumps(found.to_dict(), indent=1) + "\n").encode()
    if kind in PICTURES:
        return _figure(found, subject, given, kind[1:], shared)
    return _page(found, subject.name, _figure(found, subject, given, "png", shared)).encode()


def _figure(found: Comparison, subject: Any, given: Mapping[str, Any], kind: str, shared: bool) -> bytes:
    from heedmap.render.figure import side_by_side

    picture = None
    if given["image"] is not None or (given["boxes"] is not None and "boxes" in given["boxes"]):
        try:
            picture = subject.picture(given["image"], given["boxes"])
        except InputError as error:
            typer.echo(f"heedmap: the maps are drawn without the image: {error}", err=True)
    figure = side_by_side(found.explanations, image=picture, notes=found.notes(), shared=shared)
    buffer = BytesIO()
    figure.savefig(buffer, format=kind)
    return buffer.getvalue()


def _page(found: Comparison, name: str, picture: bytes) -> str:
    from heedmap.render.html import data_url, document, render

    columns = list(
        dict.fromkeys((s, f) for own in found.figures.values() for s, figures in own.items() for f in figures)
    )
    rows = [
        {"method": method, "figures": [own.get(s, {}).get(f) for s, f in columns], "seconds": found.seconds[method]}
        for method, own in found.figures.items()
    ]
    body = render(
        "methods.html",
        name=name,
        target=next(iter(found.explanations.values())).target[0],
        picture=data_url(picture),
        columns=columns,
        rows=rows,
        legend=[line.strip() for line in legend()],
        refused=found.refused,
    )
    return document(body, f"heedmap: methods on {name}", "wide")


def _inputs(given: Given) -> list[dict[str, Any]]:
    """Every input that was given, read."""
    rows = [{**dict.fromkeys(ROLES), **row.given} for row in rows_of(given)]
    return [{role: value for role, value in read_inputs(**row).items() if value is not None} for row in rows]


def _drawn(subject: Any, data: str | None, file: list[str] | None, seed: int) -> list[Mapping[str, Any]]:
    """Inputs of a data set, or of the zoo's own world, drawn by the seed."""
    import numpy as np

    from heedmap.evaluate.experiments.recommend import BUDGETS
    from heedmap.zoo.dataset import plain

    reader = opened(data, file, lambda: plain(subject))
    most = max(budget.inputs for budget in BUDGETS.values())
    found: list[Mapping[str, Any]] = []
    for index in np.random.default_rng(seed).permutation(len(reader)).tolist():
        if len(found) == most:
            break
        try:
            found.append(reader[index].inputs)
        except InputError:
            continue
    return found
