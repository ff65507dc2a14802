"""Every kind of data set, and opening one by its name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from heedmap.errors import InputError, OptionError, UnknownNameError

if TYPE_CHECKING:
    from heedmap.datasets.disk import FilePath
    from heedmap.datasets.sample import Reader

READERS: dict[str, tuple[str, str, str]] = {
    "vqa": ("VQA v2: questions and annotations, with pictures or box features", "vqa", "open_vqa"),
    "coco": ("COCO: pictures and instances_*.json", "coco", "open_coco"),
    "imagenet-segmentation": (
        "ImageNet-Segmentation: gtsegs_ijcv.mat",
        "imagenet_segmentation",
        "open_imagenet_segmentation",
    ),
    "folder": ("a folder of pictures for each class, as ImageNet has them", "folder", "open_folder"),
    "easy-vqa": (
        "easy-VQA, as its package has it: questions about one coloured shape, as 8 × 8 boxes",
        "easy_vqa",
        "EasyVqa",
    ),
    "eraser": ("ERASER: documents with rationales, such as the movie reviews", "eraser", "open_eraser"),
    "parquet": ("Parquet files with columns such as text, image, label, answers, mask", "parquet", "open_table"),
}
"""Kind → what it is, and the module and the name of what opens it: called with a folder and options, some of which are paths."""


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
        raise InputError(f"{folder} has no sample that can be used{_example(reader)}")
    return reader


def check_options(kind: str, opener: Callable[..., object], options: Mapping[str, object]) -> None:
    """OptionError where what opens a kind does not take one of these."""
    known = list(inspect.signature(opener).parameters)[1:]
    if unknown := [name for name in options if name not in known]:
        raise OptionError(f"{kind} has no option {', '.join(unknown)}; it has {', '.join(known) or 'none'}")


def _example(reader: Reader) -> str:
    for key, why in reader.problems.items():
        return f": {len(reader.problems)} were left out, such as {key} ({why})"
    return ""
