"""The rows of a data set as they are stored, one by one: what a run over all of them explains.

Here are pictures of a folder, samples of tar files (WebDataset) and those of the evaluations' readers; what has columns is in
:mod:`heedmap.datasets.tables`.
"""

from __future__ import annotations

import json
import os
import tarfile
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from heedmap.common.printable import cut
from heedmap.datasets.files import SUFFIXES, FilePath, chosen_files, dated, needed_file, needed_folder, stored
from heedmap.errors import FileFormatError, InputError, OptionError, SampleError

if TYPE_CHECKING:
    from heedmap.datasets.sample import Reader
    from heedmap.types import OneText

INPUTS = ("text", "text_pair", "image", "boxes", "audio")
ROLES = (*INPUTS, "target", "answer", "id")
"""What a column may be."""

TEXTS, SOUNDS, ARRAYS, TARGETS = ("txt", "text"), ("wav",), ("npz",), ("cls",)
ENDINGS: Mapping[str, str] = {
    **{suffix[1:]: "image" for suffix in SUFFIXES},
    **dict.fromkeys(TEXTS, "text"),
    **dict.fromkeys(SOUNDS, "audio"),
    **dict.fromkeys(ARRAYS, "boxes"),
    **dict.fromkeys(TARGETS, "target"),
}
"""Ending of a file of a sample → what it is. A ``json`` has fields of the same names as columns of other data sets."""

Places = Mapping[str, tuple[int, int]]
"""Ending of a file of a sample → where in the tar its bytes are, and how many."""


@dataclass(frozen=True, eq=False)
class SourceRow:
    """A row of a data set; its files are not read yet.

    Attributes:
        key: names it.
        given: role → what is there: ``text`` (a str, or a pair), ``image`` (a path, bytes, a picture, or a tuple of these),
            ``boxes`` (a path, bytes or a mapping), ``audio`` (a path, bytes, or samples and their rate).
        target: a class by its index or label; None: none of its own.
        answer: the words that are explained; None: what the model says.
        problem: why it cannot be read; empty where nothing is known against it.
    """

    key: str
    given: Mapping[str, object] = field(default_factory=dict)
    target: int | str | None = None
    answer: str | None = None
    problem: str = ""


class RowSource(Protocol):
    """A data set on disk. Opening it reads sizes and places; a row is read when it is asked for.

    It can be pickled, so that other processes read the same.
    """

    @property
    def description(self) -> Mapping[str, object]:
        """Plain JSON data that tells which data these are, so that a change of them is seen."""

    @property
    def roles(self) -> Collection[str]:
        """What its rows have, of :data:`ROLES`; empty: it is not known."""

    @property
    def columns(self) -> Sequence[str]:
        """All columns that there are, for messages."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> SourceRow:
        """Row ``number``, from 0; one that cannot be read has a ``problem``."""


def chosen_columns(names: Sequence[str], columns: Mapping[str, str], where: object) -> dict[str, str]:
    """Role → column, of the columns that are there.

    Args:
        names: of all columns.
        columns: role → name, where they differ.
        where: what messages call the data.

    Raises:
        OptionError: no such role.
        InputError: a column is missing, or none is an input.
    """
    if unknown := [role for role in columns if role not in ROLES]:
        raise OptionError(f"a column is given for {', '.join(unknown)}; expected some of {', '.join(ROLES)}")
    present = {role: columns.get(role, role) for role in ROLES if columns.get(role, role) in names}
    missing = [name for name in columns.values() if name not in names]
    if missing or not set(INPUTS) & set(present):
        wanted = f"no {', '.join(missing)}" if missing else f"none of {', '.join(INPUTS)}"
        raise InputError(
            f"{where} has the columns {', '.join(names) or '(none)'}, and {wanted}; "
            "say which is which: columns={'text': 'NAME'}, on the command line --file columns.text=NAME"
        )
    return present


def made_row(place: str, values: Mapping[str, object], folder: Path) -> SourceRow:
    """A row of the values of its columns.

    Args:
        place: its key where it has no id.
        values: role → value.
        folder: what paths are relative to.
    """
    key = place if values.get("id") is None else str(values["id"])
    try:
        given = {role: _READ[role](values[role], folder) for role in _READ if values.get(role) is not None}
        if "text" in given and values.get("text_pair") is not None:
            given["text"] = _text((values["text"], values["text_pair"]), folder)
        return SourceRow(key, given, _target(values.get("target")), _answer(values.get("answer")))
    except SampleError as error:
        return SourceRow(key, problem=str(error))


def _text(value: object, _folder: Path) -> OneText:
    if isinstance(value, list | tuple) and len(value) == 2:
        return _words(value[0]), _words(value[1])
    return _words(value)


def _words(value: object) -> str:
    if not isinstance(value, str):
        raise SampleError(f"its text is {_shown(value)}; expected a string, or two")
    if not value.strip():
        raise SampleError("its text is empty; expected at least one word")
    return value


def _image(value: object, folder: Path) -> Path | bytes | tuple[Path | bytes, ...]:
    if isinstance(value, list | tuple):
        pictures = tuple(_media(picture, folder, "image") for picture in value)
        return pictures[0] if len(pictures) == 1 else pictures
    return _media(value, folder, "image")


def _boxes(value: object, folder: Path) -> Path | bytes | dict[str, object]:
    if isinstance(value, Mapping) and value.get("features") is not None:
        return {name: part for name, part in value.items() if part is not None}
    return _media(value, folder, "boxes")


def _audio(value: object, folder: Path) -> Path | bytes | tuple[object, object]:
    if isinstance(value, Mapping) and value.get("array") is not None:
        return value["array"], value.get("sampling_rate")
    return _media(value, folder, "audio")


def _media(value: object, folder: Path, role: str) -> Path | bytes:
    found = stored(value, folder)
    if not isinstance(found, Path | bytes):
        raise SampleError(f"its {role} is {_shown(found)}; expected bytes, or the path of a file")
    return found


def _target(value: object) -> int | str | None:
    if value is None or (isinstance(value, int | str) and not isinstance(value, bool)):
        return value
    raise SampleError(f"its target is {_shown(value)}; expected the index or the name of a class")


def _answer(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise SampleError(f"its answer is {_shown(value)}; expected a string")


def _shown(value: object) -> str:
    return cut(repr(value), 60)


_READ: Mapping[str, Callable[[object, Path], object]] = {
    "text": _text,
    "image": _image,
    "boxes": _boxes,
    "audio": _audio,
}


# -- pictures of a folder, samples of a reader -------------------------------------------------------------------------


class Pictures:
    """Pictures of a folder, also in folders of it, a :class:`RowSource`; a row's key is the path below the folder."""

    roles: Collection[str] = ("image",)
    columns: Sequence[str] = ("image",)

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = list(_pictures(folder))
        if not self._names:
            raise InputError(f"{folder} has no picture; expected files that end in {', '.join(sorted(SUFFIXES))}")
        described = [(name, folder / name) for name in self._names]
        self.description: Mapping[str, object] = dated("images", described, len(self))

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, number: int) -> SourceRow:
        """``image``."""
        name = self._names[number]
        return SourceRow(name, {"image": self._folder / name})


class ReaderRows:
    """The samples of a reader as a :class:`RowSource`, without what is true of them."""

    roles: Collection[str] = ()
    columns: Sequence[str] = ()

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.description: Mapping[str, object] = {**reader.description, "rows": len(reader)}

    def __len__(self) -> int:
        return len(self._reader)

    def __getitem__(self, number: int) -> SourceRow:
        """What a model is asked of the sample."""
        key = self._reader.keys[number]
        try:
            return SourceRow(key, dict(self._reader[number].inputs))
        except SampleError as error:
            return SourceRow(key, problem=str(error))


def open_pictures(folder: FilePath) -> Pictures:
    """A folder of pictures."""
    return Pictures(needed_folder(folder, "pictures"))


def _pictures(folder: Path) -> list[str]:
    """Paths of the pictures below a folder, sorted in each folder."""
    names: list[str] = []
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = Path(root).relative_to(folder)
        names += [(below / file).as_posix() for file in sorted(files) if Path(file).suffix.lower() in SUFFIXES]
    return names


# -- WebDataset --------------------------------------------------------------------------------------------------------


class WebDataset:
    """Tar files, a :class:`RowSource`; a row is files that stand together and share a name, up to its first dot."""

    def __init__(self, paths: Sequence[Path], columns: Mapping[str, str]) -> None:
        self._paths = list(paths)
        self._samples = [_samples(path) for path in paths]
        self._ends = list(accumulate(map(len, self._samples)))
        self._roles = {**ENDINGS, **{name: role for role, name in columns.items()}}
        endings = {ending for _, places in self._samples[0][:100] for ending in places}
        self.columns: Sequence[str] = sorted(endings)
        known = {self._roles[ending] for ending in endings if ending in self._roles}
        self.roles: Collection[str] = () if "json" in endings else tuple(known)
        if not known and "json" not in endings:
            raise InputError(
                f"the samples of {paths[0]} have files that end in {', '.join(self.columns)}; expected some of "
                f"{', '.join(ENDINGS)}, json: say which is which by columns={{'text': 'ENDING'}}"
            )
        described = [(path.name, path) for path in paths]
        self.description: Mapping[str, object] = dated("webdataset", described, len(self), columns=dict(columns))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, number: int) -> SourceRow:
        """The sample of that number."""
        file = bisect_right(self._ends, number)
        key, places = self._samples[file][number - (self._ends[file - 1] if file else 0)]
        try:
            values = self._values(file, places)
        except (OSError, ValueError) as error:
            needed_file(self._paths[file], "samples")  # where it is gone, that is no fault of the row
            return SourceRow(key, problem=f"it cannot be read from {self._paths[file].name} ({error})")
        return made_row(key, values, self._paths[file].parent)

    def _values(self, file: int, places: Places) -> dict[str, object]:
        values: dict[str, object] = {}
        wanted = {ending: place for ending, place in places.items() if ending in self._roles or ending == "json"}
        for ending, data in _contents(self._paths[file], wanted).items():
            if ending == "json":
                told = json.loads(data)
                fields = told if isinstance(told, dict) else {}
                values = {str(self._roles.get(name, name)): value for name, value in fields.items()} | values
            else:
                role = self._roles[ending]
                values[role] = data if role in ("image", "audio", "boxes") else _word(data, role)
        return values


def open_webdataset(
    folder: FilePath, *, columns: Mapping[str, str] | None = None, split: str | None = None
) -> WebDataset:
    """Tar files in the form of WebDataset, not compressed.

    Args:
        folder: a ``.tar`` file, or a folder of them.
        columns: role → ending of its files, or field of its ``json``, where they differ.
        split: only the files whose name begins with it.
    """
    return WebDataset(chosen_files(folder, split, ".tar"), columns or {})


def _samples(path: Path) -> list[tuple[str, Places]]:
    """The samples of a tar file by its headers alone: the name that its files share, and where they are."""
    try:
        with tarfile.open(path, "r:") as tar:
            samples: list[tuple[str, Places]] = [
                (key, {_split(file.name)[1]: (file.offset_data, file.size) for file in files})
                for key, files in groupby(_members(tar), lambda file: _split(file.name)[0])
            ]
    except (OSError, tarfile.TarError) as error:
        raise FileFormatError(f"{path} is no tar file that is not compressed ({error}); fetch it again") from error
    if not samples:
        raise InputError(f"{path} holds no sample; expected files such as 0001.jpg and 0001.txt")
    return samples


def _split(name: str) -> tuple[str, str]:
    """A file's name up to its first dot, with its folder, and its ending in small letters."""
    folder, slash, file = name.rpartition("/")
    stem, _, ending = file.partition(".")
    return f"{folder}{slash}{stem}", ending.lower()


def _contents(path: Path, places: Places) -> dict[str, bytes]:
    """Ending → the bytes at a place of a tar file; ValueError where it is cut off."""
    contents = {}
    with path.open("rb") as tar:
        for ending, (start, size) in places.items():
            tar.seek(start)
            contents[ending] = tar.read(size)
            if len(contents[ending]) < size:
                raise ValueError(f"the tar is cut off: {len(contents[ending])} of {size} bytes are there")
    return contents


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The files of a tar; of one that is cut off those whose headers are there."""
    try:
        for member in tar:
            if member.isfile() and not member.name.rpartition("/")[2].startswith("."):
                yield member
    except tarfile.ReadError:
        return


def _word(data: bytes, role: str) -> int | str:
    text = data.decode("utf-8").strip() if role == "target" else data.decode("utf-8")
    return int(text) if role == "target" and text.lstrip("-").isdecimal() else text
