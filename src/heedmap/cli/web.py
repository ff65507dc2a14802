"""``heedmap app``: the web page."""

from __future__ import annotations

import threading
from typing import Annotated

import typer

from heedmap.cli import completion
from heedmap.cli.exit_codes import guarded, quiet


@guarded
def app(
    context: typer.Context,
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
