"""The page, served: from this machine alone unless told otherwise, with nothing fetched and no file handed out.

Gradio has more addresses than this page needs: it fetches from other servers, shows logs, and hands out files. An ASGI
middleware, :class:`Gate`, lets only those through that the page needs, and of files only those in the folder of uploads.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict
from urllib.parse import unquote

from heedmap.common.extras import library
from heedmap.errors import OutputError
from heedmap.web.handlers import Handlers, attempt
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
OFF = ("share", "ssr_mode", "mcp_server", "pwa", "enable_monitoring", "run_history")
"""What Gradio could do besides."""

ANSWERED = re.compile(
    r"/|/config/?|/theme\.css|/(assets|static)/[\w./-]+|/favicon\.ico|/robots\.txt|/manifest\.json|/explained/[\w.-]+"
    r"|/gradio_api/(info/?|config|theme\.css|app_id|startup-events|heartbeat/\w+|queue/(join|data)|cancel|reset/?"
    r"|upload|upload_progress|(call|run)/\w+(/\w+)?|file=.+)"
)
FILE = "/gradio_api/file="
HEADERS = {
    "content-security-policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
        "media-src 'self' data: blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
"""The policy lets a browser load from this server alone."""


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
        **dict.fromkeys(OFF, False),
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


class Message(TypedDict, total=False):
    """A connection or an event of the ASGI specification, as far as it is looked at here."""

    type: str
    path: str
    headers: Iterable[tuple[bytes, bytes]]
    status: int
    body: bytes


Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


class Gate:
    """Lets through what the page needs.

    Args:
        application: what is behind it.
        folder: of uploads: the only one whose files are handed out.
        most: bytes that a request may have.
    """

    def __init__(self, application: Application, folder: Path, most: int) -> None:
        self.application = application
        self.folder = folder.resolve()
        self.most = most

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One connection, see the ASGI specification."""
        if scope["type"] != "http":
            await self.application(scope, receive, send)
        elif not self.answers(scope["path"]):
            await _refuse(send, 404, "there is nothing here")
        elif _length(scope) > self.most:
            await _refuse(send, 413, f"this is too much: {self.most} bytes at most")
        else:
            await self.application(scope, self._limited(receive), _with_headers(send))

    def answers(self, path: str) -> bool:
        """Whether a path of an address, without its query, is let through."""
        if not ANSWERED.fullmatch(path) or ".." in path:
            return False
        if not path.startswith(FILE):
            return True
        wanted = Path(unquote(path.removeprefix(FILE)))
        return wanted.is_absolute() and wanted.resolve().is_relative_to(self.folder)

    def _limited(self, receive: Receive) -> Receive:
        """``receive`` that ends the connection where more comes than was said."""
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message if received <= self.most else {"type": "http.disconnect"}

        return counted


def _length(scope: Message) -> int:
    given = dict(scope["headers"]).get(b"content-length", b"0")
    return int(given) if given.isdigit() else 0


def _with_headers(send: Send) -> Send:
    extra = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *extra]}
        await send(message)

    return sent


async def _refuse(send: Send, status: int, why: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": why.encode()})
