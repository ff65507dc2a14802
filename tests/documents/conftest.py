"""Pages that stand alone, in a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Any]]:
    """(file, theme, "light" or "dark", width in pixels) → its page; ``page.asked``: the addresses of all that it asked for."""
    pages = []

    def open_page(path: Path, theme: str = "light", width: int = 1280) -> Any:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
        page.asked = []
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(path.as_uri())
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
