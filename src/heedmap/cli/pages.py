"""``heedmap demo`` and ``heedmap app``: a page of what the zoo looks at, and one on which models are asked."""

from __future__ import annotations

import shutil
import sys
import threading
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heedmap.cli import completion
from heedmap.cli.command import command, progress_bar, quiet
from heedmap.common.files import check_folder, write_atomically, writing
from heedmap.common.printable import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL import Image

    from heedmap.render.html import InThemes
    from heedmap.zoo.gallery import ShownModel

    Key = tuple[str, int, str]

NEXT = ('explain zoo/gpt-lists --text "dog red ; cat blue ; sun green ? cat"', "zoo list")
"""What to try after the gallery, with gpt-lists and without it."""


@command()
def demo(
    *,
    out: Annotated[Path, typer.Option(help="The folder to write to; made where it is not there.")] = Path("demo"),
    only: Annotated[
        list[str] | None, typer.Option(help="Of this model alone; several times.", autocompletion=completion.zoo_models)
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
    typer.echo(f"try next: {_program()} {NEXT['gpt-lists' not in names]}")


@command()
def app(
    *,
    model: Annotated[
        list[str] | None,
        typer.Argument(
            help="Models besides the zoo's: hub id, folder, timm/… or open_clip/….", autocompletion=completion.models
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
    maps: dict[Key, InThemes] = {}
    count = 0
    with progress_bar() as bar, writing(out), in_threads(1):
        for name in bar.track(names, description="explaining"):
            bar.update(bar.task_ids[0], description=f"zoo/{name}")
            models.append(show(heedmap.load(f"zoo/{name}"), name))
            maps |= _maps(models[-1])
            for file, data in _files(models[-1], maps).items():
                write_atomically(out / file, data)
                count += 1
        write_atomically(out / "index.html", gallery_page(models, maps).encode())
    return count


def _maps(model: ShownModel) -> dict[Key, InThemes]:
    """The maps on the picture, where there is one."""
    from heedmap.zoo.gallery import map_picture

    if model.picture is None:
        return {}
    return {
        (model.name, number, method): map_picture(model.picture, answer, method, model.sample.places)
        for number, answer in enumerate(model.answers)
        for method in answer.maps
    }


def _files(model: ShownModel, maps: Mapping[Key, InThemes]) -> dict[str, bytes]:
    """Name of a file → a map: on the picture, or where there is none, a plot of the words."""
    from heedmap.render.files import figure_bytes

    files = {}
    for number, answer in enumerate(model.answers):
        for method, explanation in answer.maps.items():
            picture = maps.get((model.name, number, method))
            name = f"{model.name}-{number + 1}-{method}.png"
            files[name] = figure_bytes(explanation.plot(), ".png", 110) if picture is None else _png(picture.light)
    return files


def _png(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _program() -> str:
    """As what this program can be called again."""
    called = sys.argv[0]
    if Path(called).name != "heedmap" or shutil.which("heedmap") == str(Path(called).absolute()):
        return "heedmap"
    return called
