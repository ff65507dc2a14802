"""Libraries that only an extra of the package brings: imported when they are needed."""

from __future__ import annotations

import importlib
from types import ModuleType

from heedmap.errors import MissingLibraryError


def how_to_install(extra: str) -> str:
    """What brings an extra; heedmap is on no registry, so it is installed from a copy of its repository."""
    return f"in a copy of heedmap's repository: pip install '.[{extra}]'"


def library(name: str, extra: str, needs: str, called: str = "") -> ModuleType:
    """The module ``name``.

    Args:
        name: of the module, such as ``pyarrow.parquet``.
        extra: of the package, that brings it.
        needs: what cannot be done without it, and the verb: ``reading Parquet files needs``.
        called: what people call it, where that is not the name of its module.

    Raises:
        MissingLibraryError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingLibraryError(f"{needs} {called or name.split('.')[0]}; {how_to_install(extra)}") from error
