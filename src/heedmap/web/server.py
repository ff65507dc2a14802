"""The page, served: from this machine alone unless told otherwise, with nothing fetched and no file handed out."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from heedmap.common.extras import library
from heedmap.errors import OutputError
from heedmap.web.handlers import Handlers, attempt
from heedmap.web.middleware import Gate
from heedmap.web.models import Models
from heedmap.web.page import asset, page
from heedmap.web.results import TYPES, Results
from heedmap.web.uploads import Limits

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

SESSIONS = 100
"""People whose last question is kept."""
ENVELOPE = 1_000_000
"""Bytes of a request besides the file in it."""
FORGOTTEN = "this explanation is forgotten: explain it again"
SWITCHES = ("GRADIO_ALLOWED_PATHS", "GRADIO_ROOT_PATH", "GRADIO_SHARE", "GRADIO_SSR_MODE", "GRADIO_MCP_SERVER")
"""Variables by which Gradio would open what is closed here."""


@contextmanager
def serving(
    models: Sequence[str] = (), host: str = "127.0.0.1", port: int | None = None, limits: Limits | None = None
) -> Iterator[str]:
    """The page's address, as long as the block runs; the server is in a thread of its own.

    Args:
        models: names for ``heedmap.load`` besides the zoo's; no others can be asked for.
        host: the address to listen on.
        port: to listen on; None: the first free one from 7860 on.
        limits: of what is given.

    Raises:
        MissingLibraryError: Gradio is not installed.
        OutputError: the address cannot be listened on.
    """
    limits = limits or Limits()
    with tempfile.TemporaryDirectory(prefix="heedmap-app-") as folder, _environment(folder):
        results = Results()
        seats = Models(models, limits.seconds)
        blocks = page(Handlers(seats, limits), results)
        blocks.queue(max_size=limits.waiting)
        try:
            _, address, _ = blocks.launch(**_settings(host, port, limits, Path(folder), results))
            yield address
        except OSError as error:
            raise OutputError(f"cannot listen on {host}, port {port or '7860 and after'}: {error}") from error
        finally:
            blocks.close(verbose=False)
            seats.close()


def _settings(host: str, port: int | None, limits: Limits, folder: Path, results: Results) -> dict[str, object]:
    gate = library("starlette.middleware", "app", "the page needs").Middleware(
        Gate, folder=folder, most=limits.bytes + ENVELOPE
    )
    route = library("starlette.routing", "app", "the page needs").Route("/explained/{name}", _download(results))
    return {
        "server_name": host,
        "server_port": port,
        "prevent_thread_lock": True,
        "quiet": True,
        "share": False,
        "ssr_mode": False,
        "mcp_server": False,
        "pwa": False,
        "enable_monitoring": False,
        "run_history": False,
        "footer_links": [],
        "allowed_paths": [],
        "max_file_size": limits.bytes,
        "state_session_capacity": SESSIONS,
        "css": asset("page.css"),
        "app_kwargs": {"middleware": [gate], "routes": [route]},
    }


def _download(results: Results) -> Callable[[Request], Response]:
    """What answers ``explained/NAME.ENDING``."""
    response = library("starlette.responses", "app", "the page needs").Response

    def download(request: Request) -> Response:
        wanted = Path(request.path_params["name"])
        result = results.get(wanted.stem)
        if result is None or wanted.suffix not in TYPES:
            return response(FORGOTTEN, 404, media_type="text/plain")
        data, error = attempt(lambda: result.file(wanted.suffix))
        if data is None:
            return response(error, 500, media_type="text/plain")
        headers = {"content-disposition": f'attachment; filename="heedmap{wanted.suffix}"'}
        return response(data, 200, headers, TYPES[wanted.suffix])

    return download


@contextmanager
def _environment(folder: str) -> Iterator[None]:
    """Gradio's folder of uploads is ``folder``, and nothing is switched on from outside; put back afterwards."""
    wanted = {**dict.fromkeys(SWITCHES), "GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}
    before = {name: os.environ.get(name) for name in wanted}
    _set(wanted)
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
