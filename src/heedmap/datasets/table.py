"""Parquet files: a sample a row, with columns for what a model takes and what is true."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from heedmap.datasets.answers import SCORINGS, soft_scores
from heedmap.datasets.disk import FilePath, described
from heedmap.datasets.images import mask, picture
from heedmap.datasets.rows import Rows
from heedmap.datasets.sample import Answers, Region, Sample, Truth
from heedmap.errors import InputError, OptionError, SampleError

INPUTS = ("text", "text_pair", "image")
TRUTHS = ("mask", "answers", "label")
"""The first of these that there is a column of is the truth."""
ROLES = (*INPUTS, *TRUTHS, "id")

VOTERS = 10
"""Of so many answers or more each is a vote, as in VQA; fewer are all right."""


class Table:
    """Parquet files; a sample is a row, its key the ``id``, or else file and row.

    Attributes:
        keys, problems, description: see :class:`heedmap.datasets.sample.Reader`.
    """

    def __init__(self, paths: Sequence[Path], columns: Mapping[str, str], scoring: str | None) -> None:
        self._rows = Rows(paths)
        self._folder = paths[0].parent
        self._columns, self._scoring = _present(self._rows.schema.names, columns), scoring
        self._names = _class_names(self._rows.schema, self._columns.get("label"))
        self.problems: dict[str, str] = {}
        found = dict(self._keyed(paths))
        self.keys: Sequence[str] = list(found)
        self._numbers = list(found.values())
        more = {"columns": dict(self._columns), **({"scoring": scoring} if scoring else {})}
        self.description = described("parquet", paths, len(self.keys), **more)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        """``text`` and ``image``, as far as there are columns; the truth is a Region or Answers."""
        key = self.keys[index]
        row = self._rows.read(self._numbers[index], list(self._columns.values()))
        values = {role: row[name] for role, name in self._columns.items()}
        for role in ("text", "image"):
            if role in values and values[role] is None:
                raise SampleError(f"row {key} has no {role}; fill the column {self._columns[role]}, or leave it out")
        inputs: dict[str, Any] = {}
        if "text" in values:
            inputs["text"] = _text(key, values["text"], values.get("text_pair"))
        if "image" in values:
            inputs["image"] = picture(self._source(values["image"], key), f"the image of row {key}")
        return Sample(key, inputs, self._truth(key, values, inputs.get("image")))

    def _keyed(self, paths: Sequence[Path]) -> Iterator[tuple[str, int]]:
        """Key and number of each row that has a key of its own."""
        number, seen = -1, set[str]()
        for path, count in zip(paths, self._rows.counts, strict=True):
            places = [f"{path.stem}:{row}" for row in range(count)]
            names = self._rows.column(path, self._columns["id"]) if "id" in self._columns else places
            for place, name in zip(places, names, strict=True):
                number += 1
                if name is None or str(name) in seen:
                    self.problems[place] = "it has no id" if name is None else f"the id {name} was there before"
                else:
                    seen.add(str(name))
                    yield str(name), number

    def _truth(self, key: str, values: Mapping[str, Any], image: Any) -> Truth:
        role = next(role for role in TRUTHS if role in values)
        if values[role] is None:
            raise SampleError(f"row {key} has no {role}; fill the column {self._columns[role]}, or leave it out")
        if role == "mask":
            return self._region(key, values, image)
        return (
            self._answers(key, values["answers"]) if role == "answers" else Answers(*self._label(values["label"], key))
        )

    def _region(self, key: str, values: Mapping[str, Any], image: Any) -> Region:
        pixels = mask(self._source(values["mask"], key), f"the mask of row {key}")
        if image is not None and pixels.shape != (image.height, image.width):
            raise SampleError(f"row {key} has an image of {image.size}, and a mask of {pixels.shape[::-1]} pixels")
        label = values.get("label")
        return Region(pixels, None if label is None else next(iter(self._label(label, key)[0])))

    def _answers(self, key: str, answers: Sequence[Any]) -> Answers:
        said = [one.get("answer") if isinstance(one, Mapping) else one for one in answers]
        texts = [one for one in said if isinstance(one, str)]
        scores = soft_scores(texts, self._scoring or ("official" if len(texts) >= VOTERS else "any"))
        if not scores:
            raise SampleError(f"row {key} has no answer that scores; fill the column {self._columns['answers']}")
        return Answers(scores)

    def _label(self, label: Any, key: str) -> tuple[dict[str, float], int | None]:
        if isinstance(label, str):
            return {label: 1.0}, None
        if not isinstance(label, int) or (self._names and not 0 <= label < len(self._names)):
            raise SampleError(f"row {key} has the label {label!r}; expected a text, or the number of a class")
        return {self._names[label] if self._names else str(int(label)): 1.0}, int(label)

    def _source(self, value: Any, key: str) -> Path | bytes:
        """Bytes, or a path from the files' folder on, or both as the library ``datasets`` has them."""
        if isinstance(value, Mapping):
            value = value.get("path") if value.get("bytes") is None else value["bytes"]
        if isinstance(value, str):
            return self._folder / value
        if not isinstance(value, bytes):
            raise SampleError(f"row {key} has a {type(value).__name__} as a picture; expected bytes, or a path")
        return value


def open_table(
    folder: FilePath,
    *,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    scoring: str | None = None,
) -> Table:
    """Open Parquet files.

    Args:
        folder: a ``.parquet`` file, or a folder of them.
        columns: role → name of its column, where they differ. Roles are ``text``, ``text_pair``, ``image`` (bytes, a
            path, or a struct of both), ``label`` (a text, or the number of a class), ``answers`` (texts, or structs
            with ``answer``), ``mask`` (bytes of a PNG), and ``id``.
        split: only the files whose name begins with it, such as "test".
        scoring: of the answers, a key of :data:`~heedmap.datasets.answers.SCORINGS`; by default "official" of ten people's
            and "any" of fewer.

    Raises:
        InputError: no such file, or columns are missing.
        FileFormatError: a file is damaged, or has other columns than the first.
        OptionError: no such role or scoring.
        MissingLibraryError: pyarrow is not installed.
    """
    columns = columns or {}
    if not set(columns) <= set(ROLES):
        raise OptionError(f"columns are given for {', '.join(columns)}; expected some of {', '.join(ROLES)}")
    if scoring is not None and scoring not in SCORINGS:
        raise OptionError(f"scoring is {scoring!r}; expected one of {', '.join(SCORINGS)}")
    path = Path(folder)
    paths = sorted(path.glob(f"{split or ''}*.parquet")) if path.is_dir() else [path]
    if not paths or not paths[0].is_file():
        raise InputError(f"there is no {split or ''}*.parquet at {path}; give such a file, or a folder of them")
    return Table(paths, columns, scoring)


def _present(names: Sequence[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Role → column, of those that are there."""
    missing = [name for name in columns.values() if name not in names]
    found = {role: columns.get(role, role) for role in ROLES if columns.get(role, role) in names}
    if missing or not {"text", "image"} & set(found) or not set(TRUTHS) & set(found):
        wanted = f"the columns {', '.join(missing)}" if missing else "text or image, and one of label, answers or mask"
        raise InputError(f"the columns are {', '.join(names)}; expected {wanted}: give columns={{'text': …}}")
    return found


def _text(key: str, text: Any, pair: Any) -> str | tuple[str, str]:
    if not isinstance(text, str) or not isinstance(pair, str | None):
        raise SampleError(f"row {key} has {text!r} and {pair!r} as texts; expected a text, or two")
    return text if pair is None else (text, pair)


def _class_names(schema: Any, column: str | None) -> list[str] | None:
    """The names of the classes, where the library ``datasets`` has left them in the file."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[column]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return [str(name) for name in names] if isinstance(names, list) else None
