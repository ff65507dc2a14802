"""``heedmap explain``: one input, two texts that are compared, or many inputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heedmap.cli import completion
from heedmap.cli.arguments import (
    DeviceOption,
    DtypeOption,
    ImagesOption,
    JsonOption,
    ManyBoxesOption,
    ModelArgument,
    OpenOption,
    SoundsOption,
    TargetOption,
    TextsOption,
    as_target,
    check_out,
    load_model,
    open_file,
    parse_options,
    parse_target,
    read_inputs,
)
from heedmap.cli.exit_codes import guarded
from heedmap.cli.input_lists import ROLES, is_many, rows_of
from heedmap.errors import UnknownNameError

if TYPE_CHECKING:
    from heedmap.cli.input_lists import Row
    from heedmap.explanation import Explanation
    from heedmap.picture import Picture

MANY = "Many inputs"
"""Heading of the options that are for many inputs."""


@guarded
def explain(
    context: typer.Context,
    model: ModelArgument,
    text: TextsOption = None,
    image: ImagesOption = None,
    boxes: ManyBoxesOption = None,
    audio: SoundsOption = None,
    target: TargetOption = None,
    method: Annotated[
        str, typer.Option(help="A name that `heedmap methods` lists.", autocompletion=completion.methods)
    ] = "generic",
    option: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE for the method; the value as JSON. Several times.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write .png, .svg, .pdf, .html, .json or .safetensors; for many inputs a folder."),
    ] = None,
    as_json: JsonOption = False,
    show: OpenOption = False,
    compare: Annotated[str | None, typer.Option(help="Another text: explain what makes the two alike.")] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    listed: Annotated[
        Path | None,
        typer.Option(
            "--inputs",
            help="A .jsonl, .csv or .txt file with an input a line: text, image, boxes, audio, target, id.",
            rich_help_panel=MANY,
        ),
    ] = None,
    ending: Annotated[
        str | None,
        typer.Option(
            "--as",
            help="What is written for each: png, svg, pdf, html, json or safetensors; by default png.",
            autocompletion=completion.choices("png", "svg", "pdf", "html", "json", "safetensors"),
            rich_help_panel=MANY,
        ),
    ] = None,
    batch: Annotated[
        int, typer.Option(min=1, help="Inputs of one size that are explained at once.", rich_help_panel=MANY)
    ] = 8,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Make again what is there already.", rich_help_panel=MANY)
    ] = False,
) -> None:
    """Explain one prediction, by default the model's own; or one of each of many inputs, into a folder."""
    given = {"text": text, "image": image, "boxes": boxes, "audio": audio}
    settings = parse_options(option or [])
    parse_target(target)
    _check_method(method)
    many = listed is not None or ending is not None or any(map(is_many, given.values()))
    if compare is not None:
        pair = _compared_texts(given, compare, target, many)
        _check_out(out, show, comparison=True)
        _compare(load_model(model, device, dtype), pair, method, settings, out, as_json)
    elif many:
        from heedmap.cli.batch import explain_many
        from heedmap.cli.batch_job import Wanted

        wanted = Wanted.of(rows_of(given, listed), out, ending, target, method, settings, batch, overwrite, as_json)
        explain_many(wanted, lambda: load_model(model, device, dtype))
        out = wanted.index
    else:
        _check_out(out, show, comparison=False)
        (row,) = rows_of(given)
        _explain(model, row, target, method, settings, out, as_json, device, dtype)
    if show and out is not None:
        open_file(out)


def drawn_on(subject: Any, inputs: Mapping[str, Any]) -> tuple[Picture | None, str]:
    """The picture that a map is drawn on, and why there is none where there should be one."""
    from heedmap.errors import InputError

    image, boxes = inputs["image"], inputs["boxes"]
    if image is None and (boxes is None or "boxes" not in boxes):
        return None, ""
    try:
        return subject.picture(image, boxes), ""
    except InputError as error:
        return None, f"the map is drawn without the image: {error}"


def _explain(
    model: str,
    row: Row,
    target: str | None,
    method: str,
    settings: Mapping[str, Any],
    out: Path | None,
    as_json: bool,
    device: str | None,
    dtype: str | None,
) -> None:
    inputs = read_inputs(**{**dict.fromkeys(ROLES), **row.given})
    subject = load_model(model, device, dtype)
    explanation = subject.explain(**inputs, target=as_target(parse_target(target)), method=method, **settings)
    picture, without = (None, "") if out is None else drawn_on(subject, inputs)
    if without:
        typer.echo(f"heedmap: {without}", err=True)
    _show(explanation, out, as_json, picture)


def _check_out(out: Path | None, show: bool, *, comparison: bool) -> None:
    from heedmap.render.files import COMPARISON_WRITERS, WRITERS

    check_out(out, COMPARISON_WRITERS if comparison else WRITERS, show)


def _check_method(method: str) -> None:
    import heedmap

    if method not in heedmap.METHODS:
        raise UnknownNameError(f"no method {method!r}; known methods: {', '.join(heedmap.METHODS)}")


def _compared_texts(given: Mapping[str, Any], other: str, target: str | None, many: bool) -> tuple[str, str]:
    if not given["text"]:
        raise typer.BadParameter("give the first text with --text", param_hint="--compare")
    media = given["image"] or given["boxes"] or given["audio"]
    if media or many or target is not None:
        raise typer.BadParameter("two texts are compared, so no other input and no target", param_hint="--compare")
    return given["text"][0], other


def _compare(
    subject: Any, texts: tuple[str, str], method: str, settings: Mapping[str, Any], out: Path | None, as_json: bool
) -> None:
    from heedmap.render.files import comparison_json, write_comparison

    pair = subject.compare(*texts, method=method, **settings)
    if out is not None:
        write_comparison(out, *pair)
    if as_json:
        typer.echo(comparison_json(*pair))
    elif out is None:
        _print_heat(*pair)
    else:
        typer.echo(f"wrote {out}")


def _show(explanation: Explanation, out: Path | None, as_json: bool, image: Picture | None) -> None:
    from heedmap.render.files import to_json, write

    if out is not None:
        write(out, explanation, image)
    if as_json:
        typer.echo(to_json(explanation))
    elif out is None:
        _print_heat(explanation)
    else:
        typer.echo(f"wrote {out}")


def _print_heat(*explanations: Explanation) -> None:
    from rich.console import Console

    from heedmap.render.terminal import terminal

    console = Console(highlight=False)
    colours = console.color_system is not None and not console.no_color
    for explanation in explanations:
        console.print(terminal(explanation, colours=colours), soft_wrap=not console.is_terminal)
