"""What the page stands on: libraries that only the ``app`` extra brings (Gradio, Starlette), and its own style and scripts."""

from __future__ import annotations

import importlib
from importlib.resources import files
from typing import Any

from heedmap.errors import MissingLibraryError


def library(name: str) -> Any:
    """A module of the ``app`` extra; MissingLibraryError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingLibraryError(f"the page needs {name.split('.')[0]}; pip install 'heedmap[app]'") from error


def asset(name: str) -> str:
    """The text of a style or a script that lies beside this module."""
    return files("heedmap.web").joinpath(name).read_text(encoding="utf-8")
