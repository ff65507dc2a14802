"""A browser for tests of pages: Debian's chromium without a window of its own, driven by playwright."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from typing import Any

import pytest

CHROMIUM = Path(
    os.environ.get("HEEDMAP_CHROMIUM")
    or which("chromium-headless-shell")
    or which("chromium")
    or "chromium-headless-shell"
)
"""The shell takes less than the whole browser."""
IN_A_BROWSER = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no browser {CHROMIUM}"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # a driver's pipes, closed late
]
"""Marks of such tests."""


@contextmanager
def launched() -> Iterator[Any]:
    """A browser; skips where playwright is not there to drive one."""
    playwright = pytest.importorskip("playwright.sync_api", reason="there is no playwright to drive a browser")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


def violations(page: Any) -> list[dict[str, Any]]:
    """What axe-core finds on a page; skips where it is not there."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="there is no axe to check a page")
    if not page.evaluate("'axe' in window"):  # half a megabyte, once for each page
        page.evaluate(axe.Axe().axe_script)
    passed, found = page.evaluate(
        "axe.run({resultTypes: ['violations']}).then(({passes, violations}) => [passes.length, violations])"
    )
    assert passed, "axe has looked"
    return found
