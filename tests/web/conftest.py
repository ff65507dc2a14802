"""One set of open models for all that needs no server; and what Gradio leaves behind is cleared away after each file."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Iterator

import pytest

from heedmap.web.handlers import Handlers
from heedmap.web.models import Models


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
