"""Which addresses of the server are answered at all, and what goes with every answer: an ASGI middleware.

Gradio has more addresses than this page needs: it fetches from other servers, shows logs, and hands out files. Only those
that the page needs are let through, and of files only those in the folder of uploads.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypedDict
from urllib.parse import unquote


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
