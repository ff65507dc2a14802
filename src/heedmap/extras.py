"""Libraries that only an extra of the package brings: imported when they are needed."""

from __future__ import annotations

import importlib
from typing import Any

from heedmap.errors import MissingLibraryError


def library(name: str, extra: str, needs: str) -> Any:
    """The module ``name``.

    Args:
        name: of the module, such as ``pyarrow.parquet``.
        extra: of the package, that brings it.
        needs: what cannot be done without it, and the verb: ``reading Parquet files needs``.

    Raises:
        MissingLibraryError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingLibraryError(
            f"{needs} {name.split('.')[0]}; pip install '.[{extra}]' in a clone of heedmap"
        ) from error
