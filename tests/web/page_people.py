"""People who use the page without a browser."""

from __future__ import annotations

import json
import re
import secrets
from importlib.util import find_spec
from io import BytesIO
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from PIL import Image

WITH_GRADIO = pytest.mark.skipif(not find_spec("gradio"), reason="the page needs gradio; pip install '.[app]'")
"""It is imported by the tests that need it alone: that takes seconds."""


class CallError(Exception):
    """What the server says of a call that it does not answer."""


class Person:
    """Somebody with a browser, without the browser: as little as a call takes."""

    def __init__(self, address: str) -> None:
        self.address, self.session = f"{address}gradio_api/", secrets.token_hex(8)

    def call(self, name: str, *values: Any) -> list[Any]:
        body = json.dumps({"data": values, "session_hash": self.session}).encode()
        event = json.loads(self._fetched(f"call/{name}", body, "application/json"))["event_id"]
        told = self._fetched(f"call/{name}/{event}").decode()
        found = re.search(r"^event: complete\ndata: (.*)$", told, re.MULTILINE)
        if found is None:
            raise CallError(told)
        return json.loads(found[1])

    def upload(self, name: str, data: bytes) -> str:
        head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
        (path,) = json.loads(self._fetched("upload", head + data + b"\r\n--x--\r\n", "multipart/form-data; boundary=x"))
        return path

    def _fetched(self, path: str, body: bytes | None = None, kind: str = "") -> bytes:
        try:
            with urlopen(Request(self.address + path, body, {"Content-Type": kind}), timeout=60) as answer:
                return answer.read()
        except HTTPError as error:
            raise CallError(error.read().decode()) from error


def file_data(path: str) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def png(picture: Any) -> bytes:
    """A picture, or an empty one of a size, as a file."""
    file = BytesIO()
    (Image.new("RGB", picture) if isinstance(picture, tuple) else picture).save(file, "PNG")
    return file.getvalue()


def downloaded(address: str, links: str, ending: str) -> bytes:
    (href,) = re.findall(rf'href="(explained/[\w-]+\.{ending})"', links)
    with urlopen(address + href, timeout=30) as answer:
        return answer.read()
