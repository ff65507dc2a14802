"""Every form of data set that a run reads, and opening one by its name or by what lies at its path."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from heedmap.datasets.opening import READERS, check_options, open_data
from heedmap.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from heedmap.datasets.disk import FilePath
    from heedmap.datasets.sources.row import RowSource

SOURCES: dict[str, tuple[str, str, str]] = {
    "parquet": ("Parquet files with columns such as text and image", "tables", "open_parquet"),
    "jsonl": ("files with a JSON object a line", "tables", "open_jsonl"),
    "images": ("a folder of pictures, also in folders of it", "files", "open_pictures"),
    "webdataset": ("tar files of samples", "webdataset", "open_webdataset"),
    "huggingface": ("a folder that save_to_disk of the library datasets wrote", "tables", "open_saved"),
}
"""Kind → what it is, and the module and the name of what opens it: called with a path and options."""


def kinds() -> list[str]:
    """Every kind that a run reads: these, and the evaluations' readers."""
    return [*SOURCES, *(kind for kind in READERS if kind not in SOURCES)]


def open_source(data: FilePath, **options: object) -> RowSource:
    """Open the rows of a data set.

    Args:
        data: ``KIND:PATH``, or a path whose kind what lies there tells.
        options: the kind's own, such as ``columns`` and ``split``.

    Raises:
        UnknownNameError: no such kind, or what lies there tells none.
        OptionError: no such option.
        InputError: a file or folder is not there, it has no row, or no column that is known.
        FileFormatError: a file is not what it should be.
        MissingLibraryError: a library of an extra is needed.
    """
    kind, path = _kind(str(data))
    if kind not in SOURCES:
        from heedmap.datasets.sources.files import ReaderRows

        return ReaderRows(open_data(kind, path, **options))
    told, module, name = SOURCES[kind]
    if not Path(path).exists():
        raise InputError(f"there is nothing at {path}; give the path of {told}")
    opener: Callable[..., RowSource] = getattr(import_module(f"heedmap.datasets.sources.{module}"), name)
    check_options(kind, opener, options)
    source = opener(path, **options)
    if not len(source):
        raise InputError(f"{path} has no row; expected one or more")
    return source


def _kind(data: str) -> tuple[str, str]:
    """The kind and the path."""
    kind, colon, path = data.partition(":")
    if colon and path and kind in kinds():
        return kind, path
    place = Path(data)
    if colon and not place.exists() and kind.isidentifier() and len(kind) > 1:
        raise UnknownNameError(f"there is no kind of data {kind!r}; known are {', '.join(kinds())}")
    if not place.exists():
        raise InputError(f"there is nothing at {data}; give a path, or KIND:PATH, of {', '.join(kinds())}")
    return _seen(place), data


def _seen(place: Path) -> str:
    """The kind of what lies at a path."""
    endings = {
        ".parquet": "parquet",
        ".jsonl": "jsonl",
        ".ndjson": "jsonl",
        ".tar": "webdataset",
        ".arrow": "huggingface",
    }
    if place.is_file():
        names = [place.name]
    elif (place / "state.json").exists() or any(place.glob("*/state.json")):
        return "huggingface"
    else:
        names = [path.name for path in sorted(place.iterdir())]
    found = {kind for name in names for ending, kind in endings.items() if name.lower().endswith(ending)}
    if len(found) == 1:
        return found.pop()
    if not found and place.is_dir():
        return "images"
    told = f"of several kinds ({', '.join(sorted(found))})" if found else "of no kind that is known"
    raise UnknownNameError(f"{place} is {told}; give KIND:{place}, with one of {', '.join(kinds())}")
