"""Every kind of data set, and opening one by its name or by what lies at its path: for evaluations, or row by row for runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from heedmap.errors import InputError, OptionError, UnknownNameError

if TYPE_CHECKING:
    from heedmap.datasets.files import FilePath
    from heedmap.datasets.rows import RowSource
    from heedmap.datasets.sample import Reader

READERS: dict[str, tuple[str, str, str]] = {
    "vqa": ("VQA v2: questions and annotations, with pictures or box features", "vqa", "open_vqa"),
    "coco": ("COCO: pictures and instances_*.json", "coco", "open_coco"),
    "imagenet-segmentation": ("ImageNet-Segmentation: gtsegs_ijcv.mat", "imagenet", "open_imagenet_segmentation"),
    "folder": ("a folder of pictures for each class, as ImageNet has them", "imagenet", "open_folder"),
    "easy-vqa": (
        "easy-VQA, as its package has it: questions about one coloured shape, as 8 × 8 boxes",
        "easy_vqa",
        "EasyVqa",
    ),
    "eraser": ("ERASER: documents with rationales, such as the movie reviews", "eraser", "open_eraser"),
    "parquet": ("Parquet files with columns such as text, image, label, answers, mask", "tables", "open_table"),
}
"""Kind → what it is, and the module and the name of what opens it: called with a folder and options, some of which are paths."""

SOURCES: dict[str, tuple[str, str, str]] = {
    "parquet": ("Parquet files with columns such as text and image", "tables", "open_parquet"),
    "jsonl": ("files with a JSON object a line", "tables", "open_jsonl"),
    "images": ("a folder of pictures, also in folders of it", "rows", "open_pictures"),
    "webdataset": ("tar files of samples", "rows", "open_webdataset"),
    "huggingface": ("a folder that save_to_disk of the library datasets wrote", "tables", "open_saved"),
}
"""Kind → what it is, and the module and the name of what opens it: called with a path and options."""


def open_data(kind: str, folder: FilePath, **options: object) -> Reader:
    """Open a data set.

    Args:
        kind: key of :data:`READERS`.
        folder: where its files are.
        options: the kind's own, such as ``split``, or paths of files that lie elsewhere or have other names.

    Raises:
        UnknownNameError: no such kind.
        OptionError: no such option, or one with a value that it cannot have.
        InputError: a file or folder is not there, or no sample can be used.
        FileFormatError: a file is not what it should be.
        MissingLibraryError: a library of the ``eval`` extra is needed.
    """
    if kind not in READERS:
        raise UnknownNameError(f"there is no kind of data set {kind!r}; known are {', '.join(READERS)}")
    _, module, name = READERS[kind]
    opener = getattr(import_module(f"heedmap.datasets.{module}"), name)
    check_options(kind, opener, options)
    reader: Reader = opener(folder, **options)
    if not len(reader):
        left_out = [
            f": {len(reader.problems)} were left out, such as {key} ({why})" for key, why in reader.problems.items()
        ]
        raise InputError(f"{folder} has no sample that can be used{''.join(left_out[:1])}")
    return reader


def check_options(kind: str, opener: Callable[..., object], options: Mapping[str, object]) -> None:
    """OptionError where what opens a kind does not take one of these."""
    known = list(inspect.signature(opener).parameters)[1:]
    if unknown := [name for name in options if name not in known]:
        raise OptionError(f"{kind} has no option {', '.join(unknown)}; it has {', '.join(known) or 'none'}")


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
        from heedmap.datasets.rows import ReaderRows

        return ReaderRows(open_data(kind, path, **options))
    told, module, name = SOURCES[kind]
    if not Path(path).exists():
        raise InputError(f"there is nothing at {path}; give the path of {told}")
    opener: Callable[..., RowSource] = getattr(import_module(f"heedmap.datasets.{module}"), name)
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
