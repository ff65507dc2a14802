"""A row of a data set as it is stored: which column is what, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from heedmap.common.printable import cut
from heedmap.errors import InputError, OptionError, SampleError

if TYPE_CHECKING:
    from heedmap.types import OneText

INPUTS = ("text", "text_pair", "image", "boxes", "audio")
ROLES = (*INPUTS, "target", "answer", "id")
"""What a column may be."""


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
    """Bytes, or a path, or both as the library ``datasets`` has them."""
    if isinstance(value, Mapping):
        value = value.get("path") if value.get("bytes") is None else value["bytes"]
    if isinstance(value, str) and value:
        return folder / value
    if not isinstance(value, bytes):
        raise SampleError(f"its {role} is {_shown(value)}; expected bytes, or the path of a file")
    return value


def _target(value: object) -> int | str | None:
    if value is None or (isinstance(value, int | str) and not isinstance(value, bool)):
        return value
    raise SampleError(f"its target is {_shown(value)}; expected the index or the name of a class")


def _answer(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise SampleError(f"its answer is {_shown(value)}; expected a string")


def _shown(value: object) -> str:
    text = repr(value)
    return cut(text, 60)


_READ: Mapping[str, Callable[[object, Path], object]] = {
    "text": _text,
    "image": _image,
    "boxes": _boxes,
    "audio": _audio,
}
