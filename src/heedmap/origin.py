"""Where an Explanation comes from: which model, and which versions of the libraries."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from platform import python_version
from typing import Any

from heedmap.version import __version__

LIBRARIES = ("torch", "transformers")


def origin(model: Any, name: str | None = None) -> dict[str, str]:
    """Name and class of a model, and the versions that ran it.

    Args:
        model: the module.
        name: what it was loaded from, where that is known.
    """
    given = name or getattr(getattr(model, "config", None), "_name_or_path", "") or ""
    return {**({"model": str(given)} if given else {}), "class": type(model).__name__, **versions()}


@cache
def versions() -> dict[str, str]:
    """``heedmap``, ``python`` and the libraries under it → version."""
    found = {"heedmap": __version__, "python": python_version()}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:  # a module may run without transformers
            continue
    return found
