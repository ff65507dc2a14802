"""``heedmap edit``: an input before and after a small change, and what changes in the answers and in the map."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heedmap.cli.command import command, open_file, working
from heedmap.cli.explain import print_heat
from heedmap.cli.inputs import ReadInputs, asked, drawn_on, parse_target
from heedmap.cli.options import (
    JsonOption,
    MapFigureOptions,
    MapOptions,
    ModelOptions,
    OneInput,
    OpenOption,
)
from heedmap.common.files import write_output
from heedmap.common.printable import percent, visible
from heedmap.render.files import DOTS, PICTURES, figure_bytes, to_data

if TYPE_CHECKING:
    from heedmap.explanation import Explanation
    from heedmap.models.edits import Effect
    from heedmap.models.model import Model
    from heedmap.render.files import FigureLook

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
    model.check()
    wanted.check()
    from heedmap.models.edits import effect

    subject, target = model.load(), parse_target(wanted.target)
    first, second = asked(subject, given), asked(subject, edited)
    with working(subject, f"explaining both by {wanted.method}") as progress:
        found = wanted.by(effect)(subject, first, second, target=target, progress=progress)
    if out is not None:
        write_output(out, _file(out.suffix.lower(), found, subject, given, edited, look))
        if options.show:
            open_file(out)
    if options.as_json:
        typer.echo(json.dumps(_data(found), indent=1))
    else:
        _print(found, out)


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
        edited["image"] = painted(picture, _region(options.paint))
    return edited


def _region(text: str) -> tuple[int | float, ...]:
    try:
        return tuple(int(n) if n.strip().isdecimal() else float(n) for n in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not X1,Y1,X2,Y2", param_hint="--paint") from None


def _file(ending: str, found: Effect, subject: Model, given: ReadInputs, edited: ReadInputs, look: FigureLook) -> bytes:
    if ending == ".json":
        return json.dumps(_data(found), allow_nan=False, indent=1).encode()
    from heedmap.render.figure import side_by_side

    maps = _maps(found)
    before, after = (drawn_on(subject, inputs, lambda _: None) for inputs in (given, edited))
    pictures = {
        name: picture for name, picture in zip(maps, (before, after, after), strict=True) if picture is not None
    }
    notes = {CHANGE: "red: relevance gained, blue: lost"}
    figure = side_by_side(maps, image=pictures, notes=notes, own=(CHANGE,), **look)
    return figure_bytes(figure, ending, look.get("dpi", DOTS))


def _maps(found: Effect) -> dict[str, Explanation]:
    return {"before": found.before, "after": found.after, CHANGE: found.change}


def _data(found: Effect) -> dict[str, object]:
    answers = {name: {"before": before, "after": after} for name, (before, after) in found.answers.items()}
    return {"answers": answers} | {name: to_data(explanation) for name, explanation in _maps(found).items()}


def _print(found: Effect, out: Path | None) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD)
    for head in ("answer", "before", "after"):
        table.add_column(head, justify="left" if head == "answer" else "right")
    for name, odds in found.answers.items():
        table.add_row(visible(name), *("–" if p is None else percent(p) for p in odds))
    console.print(table)
    if out is not None:
        console.print(f"wrote {out}", soft_wrap=True, markup=False)
    else:
        print_heat(found.change)
