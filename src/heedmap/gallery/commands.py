"""``heedmap demo``: the gallery, written to a folder."""

from __future__ import annotations

import shutil
import sys
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heedmap.atomic import check_folder, write_atomically, writing
from heedmap.guard import guarded, quiet

if TYPE_CHECKING:
    from PIL import Image

    from heedmap.gallery.show import Answer, Shown

NEXT = ('explain zoo/gpt-lists --text "dog red ; cat blue ; sun green ? cat"', "zoo list")
"""What to try after the gallery, with gpt-lists and without it."""


@guarded
def demo(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="The folder to write to; made where it is not there.")] = Path("demo"),
    only: Annotated[list[str] | None, typer.Option(help="Of these models alone; may be given several times.")] = None,
) -> None:
    """Show what every model of the zoo looks at: a page, and its pictures, of trained models; nothing is fetched."""
    from heedmap.zoo.samples import chosen

    names = chosen(only)
    check_folder(out)
    quiet()
    pages = write_gallery(names, out)
    typer.echo(f"wrote {out / 'index.html'} ({len(names)} models) and {pages} pictures beside it; open it in a browser")
    typer.echo(f"try next: {_program()} {NEXT['gpt-lists' not in names]}")


def write_gallery(names: list[str], out: Path) -> int:
    """Explain the models called ``names`` and write their pictures, then the page, whole or not at all.

    Returns:
        The number of pictures.

    Raises:
        OutputError: the folder cannot be written.
    """
    from heedmap.gallery.page import gallery_page

    models = _shown(names)
    maps = {
        (model.name, number, method): _drawn(model, answer, method)
        for model in models
        for number, answer in enumerate(model.answers)
        for method in answer.maps
        if model.picture is not None
    }
    files = {f"{name}-{number + 1}-{method}.png": _png(picture) for (name, number, method), picture in maps.items()}
    files |= {name: data for model in models if model.picture is None for name, data in _plots(model).items()}
    with writing(out):
        for name, data in files.items():
            write_atomically(out / name, data)
        write_atomically(out / "index.html", gallery_page(models, maps).encode())
    return len(files)


def _shown(names: list[str]) -> list[Shown]:
    """Every model explained, under a progress bar."""
    from rich.console import Console
    from rich.progress import Progress

    import heedmap
    from heedmap.gallery.show import show

    console = Console(stderr=True)
    found = []
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=len(names))
        for name in names:
            bar.update(task, description=f"zoo/{name}")
            found.append(show(heedmap.load(f"zoo/{name}"), name))
            bar.advance(task)
    return found


def _drawn(model: Shown, answer: Answer, method: str) -> Image.Image:
    from heedmap.gallery.drawing import map_picture

    assert model.picture is not None
    return map_picture(model.picture, answer, method, model.sample.places)


def _png(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _plots(model: Shown) -> dict[str, bytes]:
    """Name of a file → the map of words as a plot."""
    found = {}
    for number, answer in enumerate(model.answers, 1):
        for method, explanation in answer.maps.items():
            buffer = BytesIO()
            explanation.plot().savefig(buffer, format="png", dpi=110)
            found[f"{model.name}-{number}-{method}.png"] = buffer.getvalue()
    return found


def _program() -> str:
    """As what this program can be called again."""
    called = sys.argv[0]
    if Path(called).name != "heedmap" or shutil.which("heedmap") == str(Path(called).absolute()):
        return "heedmap"
    return called
