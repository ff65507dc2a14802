"""``heedmap zoo list`` and ``heedmap zoo train``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from heedmap.cli.command import INTERRUPTED, command, fail, quiet
from heedmap.cli.completion import choices
from heedmap.cli.options import JsonOption
from heedmap.errors import UnknownNameError
from heedmap.models.shipped import MODELS, PREFIX, shipped
from heedmap.zoo.recipe import Recipe
from heedmap.zoo.recipes import ZOO


@command()
def list_models(*, as_json: JsonOption = False) -> None:
    """List the models, what each takes and gives, its size and its scores."""
    entries = [_entry(recipe) for recipe in ZOO.values()]
    if as_json:
        typer.echo(json.dumps(entries, indent=1))
        return
    for entry in entries:
        _print_entry(entry)


@command()
def train(
    *,
    name: Annotated[str, typer.Argument(help="A name that `heedmap zoo list` lists.", autocompletion=choices(*ZOO))],
    out: Annotated[Path | None, typer.Option(help="Folder of the model; by default ./NAME.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="At most so many steps a stage: for a trial.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--fresh", help="Go on from the checkpoint in the folder, or start over.")
    ] = True,
) -> None:
    """Train a model from its seed and write its folder, its scores and its card."""
    recipe = _recipe(name)
    folder = out or Path(recipe.name)
    quiet()
    from heedmap.zoo.train import train as run

    if not run(recipe, folder, steps=steps, fresh=not resume):
        again = f"heedmap zoo train {recipe.name} --out {folder}" + ("" if steps is None else f" --steps {steps}")
        fail(f"interrupted; nothing is lost, go on with: {again}", INTERRUPTED)
    typer.echo(f"wrote {folder}; its scores are in {folder / 'README.md'}")
    if recipe.arguments:
        typer.echo(f"try next: heedmap explain {folder.resolve()} {recipe.arguments}")


def _recipe(name: str) -> Recipe:
    plain = name.removeprefix(PREFIX)
    if plain not in ZOO:
        raise UnknownNameError(f"there is no model {name!r} in the zoo; known models: {', '.join(ZOO)}")
    return ZOO[plain]


def _entry(recipe: Recipe) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": PREFIX + recipe.name, "about": recipe.about, "example": recipe.example}
    if recipe.name not in shipped():
        return {**entry, "shipped": False}
    record = json.loads((MODELS / recipe.name / "training.json").read_text(encoding="utf-8"))
    known = ("architecture", "parameters", "bytes", "scores", "seconds", "seed")
    return {**entry, "shipped": True, **{key: record[key] for key in known}}


def _print_entry(entry: dict[str, Any]) -> None:
    typer.secho(entry["name"], bold=True)
    typer.echo(f"  {entry['about']}\n  {entry['example'].replace('`', '')}")
    if not entry["shipped"]:
        typer.echo(f"  not shipped: heedmap zoo train {entry['name'].removeprefix(PREFIX)}")
        return
    scores = ", ".join(f"{name} {value:.3f}" for name, value in entry["scores"].items())
    size = f"{entry['parameters']:,} parameters, {entry['bytes'] / 1e6:.2f} MB"
    typer.echo(f"  {entry['architecture']}, {size}; {scores}; trained in {entry['seconds'] / 60:.0f} min")
