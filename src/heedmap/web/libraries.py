"""Libraries that only the ``app`` extra brings: Gradio, and Starlette, on which it stands."""

from __future__ import annotations

import importlib
from typing import Any

from heedmap.errors import MissingLibraryError


def library(name: str) -> Any:
    """A module of the ``app`` extra; MissingLibraryError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingLibraryError(f"the page needs {name.split('.')[0]}; pip install 'heedmap[app]'") from error
