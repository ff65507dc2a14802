"""One set of open models for all that needs no server; the page in a browser; and what Gradio leaves behind is cleared away
after each file."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from page_browsing import PATIENCE

from browsing import launched
from heedmap.web.handlers import Handlers
from heedmap.web.models import Models
from heedmap.web.server import serving
from models import builders


@pytest.fixture(scope="module", autouse=True)
def gradio_leaves_nothing() -> Iterator[None]:
    """It makes event loops only to be able to make locks, and never closes them."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asyncio.set_event_loop(None)
        gc.collect()


@pytest.fixture(scope="session")
def handlers() -> Handlers:
    return Handlers(Models())


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as found:
        yield found.new_context(viewport={"width": 1280, "height": 880})  # one for all, which keeps Gradio's scripts


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that takes sound."""
    folder = tmp_path_factory.mktemp("whisper")
    builders.whisper(folder)
    return str(folder)


@pytest.fixture(scope="module")
def address(listener: str) -> Iterator[str]:
    with serving([listener]) as found:
        yield found


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The page, loaded; ``page.faults``: what went wrong. Whatever is done with it, nothing is loaded from elsewhere."""
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.faults, asked = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("console", lambda message: page.faults.append(message.text) if message.type == "error" else None)
    page.goto(address)
    page.add_style_tag(content="* { transition: none !important; }")  # colours are looked at when they have settled
    page.wait_for_selector("#image img")  # of the sample that the page opens on
    yield page
    page.close()
    assert {urlsplit(url).netloc for url in asked if not url.startswith(("data:", "blob:"))} == {
        urlsplit(address).netloc
    }
