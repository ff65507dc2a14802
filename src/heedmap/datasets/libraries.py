"""Libraries that only the ``eval`` extra brings."""

from __future__ import annotations

import importlib
from typing import Any

from heedmap.errors import MissingLibraryError


def library(name: str, what: str) -> Any:
    """A module of the ``eval`` extra.

    Args:
        name: of the module.
        what: cannot be read without it.

    Raises:
        MissingLibraryError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.split(".")[0]
        raise MissingLibraryError(f"reading {what} needs {package}; pip install 'heedmap[eval]'") from error
