"""``heedmap zoo``, ``demo`` and ``app``: the models that ship are listed, trained, measured where the evidence is known, and
shown on a page of what they look at; and a page on which any models are asked.
"""

from __future__ import annotations

import json
import shutil
import sys
import threading
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heedmap.cli.command import INTERRUPTED, command, fail, progress_bar, quiet
from heedmap.cli.options import JsonOption, choices, complete_models, complete_zoo_models, methods_option
from heedmap.common.files import check_folder, write_atomically, write_output, writing
from heedmap.common.printable import SHELL, closest, counted, said_for
from heedmap.errors import FileFormatError, UnknownNameError
from heedmap.models.names import MODELS, PREFIX, shipped
from heedmap.zoo.recipe import Recipe
from heedmap.zoo.recipes import ZOO

if TYPE_CHECKING:
    from heedmap.render.html import InThemes
    from heedmap.zoo.evidence import KeptFigures, ModelFigures
    from heedmap.zoo.gallery import ShownModel
    from heedmap.zoo.train import ModelRecord


@command()
def list_models(*, as_json: JsonOption = False) -> None:
    """List the models, what each takes and gives, its size and its scores."""
    known = [(recipe, _record(recipe)) for recipe in ZOO.values()]
    if as_json:
        typer.echo(json.dumps([_entry(recipe, record) for recipe, record in known], indent=1))
        return
    for recipe, record in known:
        _print_entry(recipe, record)


@command()
def train(
    *,
    name: Annotated[str, typer.Argument(help="A name that `heedmap zoo list` lists.", autocompletion=choices(*ZOO))],
    out: Annotated[Path | None, typer.Option(help="Folder of the model; by default ./NAME.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="At most so many steps a stage: for a trial.")] = None,
    masked: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            max=0.99,
            help="Go on from the shipped model with this share of its tokens masked: for evaluate fidelity.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--fresh", help="Go on from the checkpoint in the folder, or start over.")
    ] = True,
) -> None:
    """Train a model from its seed and write its folder, its scores and its card."""
    recipe = _recipe(name)
    if masked is not None:
        if recipe.name not in shipped():
            raise typer.BadParameter(
                f"{recipe.name} is not shipped, so there is none to go on from", param_hint="--masked"
            )
        recipe = recipe.masked(masked)
    folder = out or Path(recipe.name)
    quiet()
    from heedmap.zoo.train import train as run

    if not run(recipe, folder, steps=steps, fresh=not resume):
        given = {"steps": steps, "masked": masked}
        options = "".join(f" --{option} {value}" for option, value in given.items() if value is not None)
        again = f"heedmap zoo train {name} --out {folder}{options}"
        fail(f"interrupted; nothing is lost, go on with: {again}", INTERRUPTED)
    typer.echo(f"wrote {folder}; its scores are in {folder / 'README.md'}")
    if recipe.arguments:
        typer.echo(f"try next: heedmap explain {folder.resolve()} {recipe.arguments}")


def _recipe(name: str) -> Recipe:
    plain = name.removeprefix(PREFIX)
    if plain not in ZOO:
        raise UnknownNameError(
            f"there is no model {name!r} in the zoo{closest(plain, ZOO)}; known models: {', '.join(ZOO)}"
        )
    return ZOO[plain]


def _record(recipe: Recipe) -> ModelRecord | None:
    """Of the model that ships; None: none does."""
    if recipe.name not in shipped():
        return None
    record: ModelRecord = json.loads((MODELS / recipe.name / "training.json").read_text(encoding="utf-8"))
    return record


def _entry(recipe: Recipe, record: ModelRecord | None) -> dict[str, object]:
    entry = {"name": PREFIX + recipe.name, "about": recipe.about, "example": recipe.example}
    known = ("architecture", "parameters", "bytes", "scores", "seconds", "seed")
    told = {} if record is None else {key: value for key, value in record.items() if key in known}
    return {**entry, "shipped": record is not None, **told}


def _print_entry(recipe: Recipe, record: ModelRecord | None) -> None:
    typer.secho(PREFIX + recipe.name, bold=True)
    typer.echo(f"  {recipe.about}\n  {recipe.example.replace('`', '')}")
    if record is None:
        typer.echo(f"  not shipped: heedmap zoo train {recipe.name}")
        return
    scores = ", ".join(f"{name} {value:.3f}" for name, value in record["scores"].items())
    size = f"{record['parameters']:,} parameters, {record['bytes'] / 1e6:.2f} MB"
    typer.echo(f"  {record['architecture']}, {size}; {scores}; trained in {record['seconds'] / 60:.0f} min")


FORMAT = "heedmap-evidence"


@command()
def evidence(
    *,
    name: Annotated[
        list[str] | None,
        typer.Argument(help="Models of the zoo; by default all that are shipped.", autocompletion=complete_zoo_models),
    ] = None,
    method: Annotated[list[str] | None, methods_option("fast")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Samples of the test split a model.")] = 500,
    out: Annotated[Path | None, typer.Option(help="A .json file; other models' figures in it are kept.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Also write all figures of the --out file as a page.")] = None,
    add: Annotated[
        bool,
        typer.Option(
            "--add", help="Keep other methods' figures of these models too, where they are of the same samples."
        ),
    ] = False,
) -> None:
    """Measure every method against the true evidence."""
    from heedmap.zoo.evidence import added, kept_of
    from heedmap.zoo.evidence import markdown as page
    from heedmap.zoo.samples import chosen

    if markdown is not None and out is None:
        raise typer.BadParameter("the page is written from a file of figures; give --out", param_hint="--markdown")
    if add and out is None:
        raise typer.BadParameter("figures are added to those of a file; give --out", param_hint="--add")
    names = chosen(name)
    kept = {} if out is None else read_figures(out)
    for model, figures in _measured(names, samples, method or ["fast"]).items():
        now = kept_of(figures)
        kept[model] = added(kept[model], now) if add and model in kept else now
        _print_evidence(model, figures)
    data = json.dumps({"format": FORMAT, "models": dict(sorted(kept.items()))}, indent=1) + "\n"
    for path, text in ((out, data), (markdown, page(kept))):
        if path is not None:
            write_output(path, text.encode())
            typer.echo(f"wrote {path}")


def read_figures(path: Path) -> dict[str, KeptFigures]:
    """The figures by model that an earlier ``--out`` wrote to ``path``; none where there is no file.

    Raises:
        FileFormatError: the file is something else.
    """
    if not path.exists():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] == FORMAT:
            return dict(data["models"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise FileFormatError(f"{path} holds no figures of `heedmap zoo evidence`; give another file with --out")


def _measured(names: list[str], samples: int, methods: list[str]) -> dict[str, ModelFigures]:
    import heedmap
    from heedmap.zoo.evidence import measure
    from heedmap.zoo.samples import MATERIALS

    quiet()
    figures = {}
    with progress_bar() as bar:
        for name in names:
            task = bar.add_task(name, total=samples)
            subject = heedmap.load(f"zoo/{name}")
            figures[name] = measure(subject, MATERIALS[name], samples, partial(bar.advance, task), methods)
    return figures


def _print_evidence(name: str, figures: ModelFigures) -> None:
    from rich.console import Console

    from heedmap.zoo.evidence import FIGURES, tables, verdict

    console = Console(highlight=False)
    console.print(f"zoo/{name}: {figures['right']} of {counted(figures['samples'], 'sample')} answered rightly")
    for what, why in (figures.get("refused", {}) | figures.get("skipped", {})).items():
        typer.echo(said_for(SHELL, f"left out: {what}: {why}"))
    for table in tables(name, figures):
        console.print(table)
    for entry in figures["segments"].values():
        for figure in FIGURES:
            if figure in next(iter(entry["rows"].values())):
                console.print(verdict(figure, entry["rows"]).replace("**", "").replace("`", ""), soft_wrap=True)


NEXT = ('explain zoo/gpt-lists --text "dog red ; cat blue ; sun green ? cat"', "zoo list")
"""What to try after the gallery, with gpt-lists and without it."""


@command()
def demo(
    *,
    out: Annotated[Path, typer.Option(help="The folder to write to; made where it is not there.")] = Path("demo"),
    only: Annotated[
        list[str] | None, typer.Option(help="Of this model alone; several times.", autocompletion=complete_zoo_models)
    ] = None,
) -> None:
    """Show what every model of the zoo looks at: a page, and its pictures, of trained models; nothing is fetched."""
    from heedmap.zoo.samples import chosen

    names = chosen(only)
    check_folder(out)
    quiet()
    count = write_gallery(names, out)
    wrote = f"wrote {out / 'index.html'} ({counted(len(names), 'model')}) and {counted(count, 'picture')} beside it"
    typer.echo(f"{wrote}; open it in a browser")
    typer.echo(f"try next: {_called()} {NEXT['gpt-lists' not in names]}")


@command()
def app(
    *,
    model: Annotated[
        list[str] | None,
        typer.Argument(
            help="Models besides the zoo's: hub id, folder, timm/… or open_clip/….", autocompletion=complete_models
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0: all, so that others can reach it.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port; by default the first free one from 7860 on.")
    ] = None,
) -> None:
    """Serve a web page on which models are asked and their answers explained; Ctrl-C ends it."""
    from heedmap.web.server import serving

    quiet()
    with serving(model or [], host, port) as address:
        typer.echo(f"the page is at {address} — end it with Ctrl-C")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            typer.echo("ended")


def write_gallery(names: list[str], out: Path) -> int:
    """Explain the models called ``names`` and write their pictures, then the page, each whole or not at all.

    Returns:
        The number of pictures.

    Raises:
        OutputError: the folder cannot be written.
    """
    import heedmap
    from heedmap.zoo.gallery import gallery_page, show
    from heedmap.zoo.train import in_threads

    models: list[ShownModel] = []
    maps: dict[tuple[str, int, str], InThemes] = {}
    count = 0
    with progress_bar() as bar, writing(out), in_threads(1):
        for name in bar.track(names, description="explaining"):
            bar.update(bar.task_ids[0], description=f"zoo/{name}")
            models.append(show(heedmap.load(f"zoo/{name}"), name))
            for number, method, shown, file in _pictures(models[-1]):
                if shown is not None:
                    maps[name, number, method] = shown
                write_atomically(out / f"{name}-{number + 1}-{method}.png", file)
                count += 1
        write_atomically(out / "index.html", gallery_page(models, maps).encode())
    return count


def _pictures(model: ShownModel) -> Iterator[tuple[int, str, InThemes | None, bytes]]:
    """Of each answer and method the map on the picture, and a .png of it; where there is no picture, of a plot of the words."""
    from heedmap.render.files import figure_bytes
    from heedmap.zoo.gallery import map_picture

    for number, answer in enumerate(model.answers):
        for method, explanation in answer.maps.items():
            if model.picture is None:
                yield number, method, None, figure_bytes(explanation.plot(), ".png", 110)
                continue
            shown = map_picture(model.picture, answer, method, model.sample.places)
            buffer = BytesIO()
            shown.light.save(buffer, "PNG")
            yield number, method, shown, buffer.getvalue()


def _called() -> str:
    """As what this program can be called again."""
    called = sys.argv[0]
    if Path(called).name != "heedmap" or shutil.which("heedmap") == str(Path(called).absolute()):
        return "heedmap"
    return called
