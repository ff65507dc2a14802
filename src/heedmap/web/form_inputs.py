"""What a person gives on the page, what a model takes of it, how the page changes it a little, and a table of one's own samples:
several files, or the rows of a JSON lines or CSV file, each asked by itself."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from heedmap.common.printable import cut
from heedmap.datasets.files import SUFFIXES
from heedmap.errors import InputError, UnknownNameError
from heedmap.models.edits import painted, reworded
from heedmap.models.model import Model
from heedmap.models.names import PREFIX
from heedmap.render.sound import Sound
from heedmap.types import OneBoxes, OneText
from heedmap.web import uploads
from heedmap.web.uploads import Limits
from heedmap.zoo.samples import MATERIALS

if TYPE_CHECKING:
    from PIL.Image import Image

OFFERED = 8
"""Samples of a model of the zoo."""
LONGEST, LONGEST_ROW = 70, 80
"""Letters of what an offered sample is called, and a row of a table."""
LISTS = (".jsonl", ".csv")
"""Endings of files that list texts."""
COLUMNS = ("text", "second")


@dataclass(frozen=True)
class FormValues:
    """As it comes from the page: words, and where uploads are.

    Attributes:
        text: what the model reads.
        second: the second text of a pair.
        said: what an encoder-decoder should have said; None: what it says by itself.
        image, audio, boxes: paths of uploaded files.
        number: of the zoo's sample whose boxes are given where no file of boxes is; all else of a sample is on the page.
    """

    text: str | None = None
    second: str | None = None
    said: str | None = None
    image: str | None = None
    audio: str | None = None
    boxes: str | None = None
    number: int | None = None


@dataclass(frozen=True)
class Takes:
    """What a model can be given.

    Attributes:
        roles: of ``"text"``, ``"image"``, ``"boxes"``, ``"audio"``.
        pair: whether it reads pairs of texts too.
        said: whether it can be told what it should have said.
        speaks: whether it answers in words.
    """

    roles: tuple[str, ...] = ()
    pair: bool = False
    said: bool = False
    speaks: bool = False


@dataclass(frozen=True, eq=False)
class ReceivedInputs:
    """What was given, read; None: was not given.

    Attributes:
        text, image, boxes, audio: as for ``subject.explain``.
        said: see :class:`FormValues`.
        scene: the picture that the boxes are of; the model does not see it.
    """

    text: OneText | None
    image: Image | None
    boxes: OneBoxes | None
    audio: Sound | None = None
    said: str | None = None
    scene: Image | None = None

    def of(self, roles: Collection[str]) -> ReceivedInputs:
        """Of text, image, boxes and audio those that a model takes."""
        return replace(self, **{role: None for role in ("text", "image", "boxes", "audio") if role not in roles})


def takes(subject: Model) -> Takes:
    """What a loaded model can be given."""
    kind = subject.kind_row
    told = kind.speaks == "decoder" and subject.tokenizer is not None
    return Takes(kind.takes, kind.name == "text", told, bool(kind.speaks))


def read(model: str, given: FormValues, limits: Limits) -> ReceivedInputs:
    """All that was given, within the limits.

    Raises:
        InputError: too much, or a file that is not what it should be.
        UnknownNameError: the model has no such sample.
    """
    text, second = limits.text(given.text), limits.text(given.second)
    image, audio = uploads.picture(given.image, limits), uploads.sound(given.audio, limits)
    boxes: OneBoxes | None = uploads.boxes(given.boxes, limits)
    scene = image
    if given.number is not None and boxes is None:
        material = sample(model, given.number)
        boxes = material.boxes
        scene = image if boxes is None else material.picture
    return ReceivedInputs(_paired(text, second), image, boxes, audio, limits.text(given.said), scene)


def read_sample(model: str, number: int) -> ReceivedInputs:
    """A sample that is offered, as if it had been given; UnknownNameError where there is none of this number."""
    material = sample(model, number)
    seen = None if material.boxes is not None else material.picture
    return ReceivedInputs(material.text, seen, material.boxes, scene=material.picture)


def _paired(text: str | None, second: str | None) -> OneText | None:
    if second is None:
        return text
    if text is None:
        raise InputError("there is a second text and no first; write the first above it")
    return text, second


@dataclass(frozen=True, eq=False)
class OfferedSample:
    """A sample as the page gives it.

    Attributes:
        name: what it is called in the list.
        text: what the model reads; None: nothing.
        picture: what belongs to it; None: nothing.
        boxes: as for ``subject.explain``; None: the model takes none.
    """

    name: str
    text: str | None
    picture: Image | None
    boxes: OneBoxes | None


def offered(model: str) -> dict[int, str]:
    """Number of a sample → what it is called; empty for a model that is not of the zoo."""
    start = _first(model)
    return {} if start is None else {number: sample(model, number).name for number in range(start, start + OFFERED)}


def sample(model: str, number: int) -> OfferedSample:
    """One of the samples that are offered for a model; UnknownNameError where there is none of this number."""
    start = _first(model)
    if start is None or number not in range(start, start + OFFERED):
        raise UnknownNameError(f"{model} has no sample {number!r} here; choose one of the list")
    return _made(model, number)


def _first(model: str) -> int | None:
    plain = model.removeprefix(PREFIX)
    return MATERIALS[plain].shown if model.startswith(PREFIX) and plain in MATERIALS else None


@cache
def _made(model: str, number: int) -> OfferedSample:
    from PIL import Image

    sample = MATERIALS[model.removeprefix(PREFIX)].make(number)
    text = sample.inputs.get("text")
    picture = None if sample.picture is None else Image.fromarray(sample.picture)
    return OfferedSample(f"{number}: {cut(text or sample.answer, LONGEST)}", text, picture, sample.inputs.get("boxes"))


@dataclass(frozen=True)
class EditForm:
    """As it comes from the page.

    Attributes:
        old, new: a word of the text, and what it becomes; ``new`` empty: it is taken out.
        region: left, upper, right and lower edge of what is painted over, in percent of the picture.
    """

    old: str = ""
    new: str = ""
    region: str = ""

    def of(self, received: ReceivedInputs, limits: Limits) -> ReceivedInputs:
        """The input, edited.

        Raises:
            InputError: nothing is edited, or what is not there.
        """
        old, new = limits.text(self.old) or "", limits.text(self.new) or ""
        if not old.strip() and not self.region.strip():
            raise InputError("nothing is changed; write a word of the text, or a region of the picture to paint over")
        if old.strip():
            if received.text is None:
                raise InputError(f"there is no text in which {old!r} could be changed; give a text first")
            received = replace(received, text=_reworded(received.text, old.strip(), new.strip()))
        if not self.region.strip():
            return received
        if received.image is None:
            raise InputError("the model sees no picture that could be painted over; change a word of the text")
        image = painted(received.image, region(self.region))
        return replace(received, image=image, scene=image)


def region(text: str) -> tuple[float, ...]:
    """Four percentages as shares; InputError where they are none."""
    numbers = re.split(r"[\s,;]+", text.strip())
    if len(numbers) != 4 or not all(re.fullmatch(r"\d{1,3}(\.\d{1,6})?", number, re.ASCII) for number in numbers):
        raise InputError(
            f"the region is {text[:60]!r}; expected four percentages: its left, upper, right and lower edge, such as "
            "0 0 50 50 for the upper left quarter"
        )
    return tuple(float(number) / 100 for number in numbers)


def _reworded(text: str | tuple[str, str], old: str, new: str) -> str | tuple[str, str]:
    """Of a pair in whichever of the two texts has the word; an InputError of the first where none has."""
    if isinstance(text, str):
        return reworded(text, old, new)
    found = [re.search(rf"(?<!\w){re.escape(old)}(?!\w)", part) is not None for part in text]
    if not any(found):
        return reworded(text[0], old, new), text[1]
    first, second = (reworded(part, old, new) if has else part for part, has in zip(text, found, strict=True))
    return first, second


@dataclass(frozen=True)
class TableRow:
    """One sample of a table.

    Attributes:
        name: what it is called: its text, or the name of its file.
        given: as if it had been given in the fields.
        answer: what the model says first; "" where it was not asked yet.
        probability: of it; None: it has none.
        error: why there is no answer.
    """

    name: str
    given: FormValues
    answer: str = ""
    probability: float | None = None
    error: str = ""


@dataclass(frozen=True)
class AnswersTable:
    """What a model says of many samples: one person's own, until the next table."""

    model: str
    rows: tuple[TableRow, ...]

    def row(self, number: int) -> TableRow:
        """Row ``number``, from 0; InputError where there is none."""
        if not 0 <= number < len(self.rows):
            raise InputError("this row is not in the table; ask for the table again")
        return self.rows[number]


def rows_of(files: Sequence[str | Path], given: FormValues, takes: Takes, limits: Limits) -> list[TableRow]:
    """The samples of the files; what a row does not say is taken from ``given``.

    Raises:
        InputError: no file, none that the model can take, one without the column that is needed, or too many rows.
    """
    rows: list[TableRow] = []
    given = given if "boxes" in takes.roles else replace(given, number=None)  # of a sample its boxes alone are taken
    for path in map(Path, files):
        rows += _of_file(path, given, takes, limits)
        if len(rows) > limits.rows:
            raise InputError(f"there are more than {limits.rows} samples; give at most so many at once")
    if not rows:
        raise InputError("there is no sample; give pictures, sounds, or a .jsonl or .csv file with a column text")
    return rows


def _of_file(path: Path, given: FormValues, takes: Takes, limits: Limits) -> list[TableRow]:
    ending = path.suffix.lower()
    uploads.check_bytes(path, f"file {path.name}", limits)
    if ending in LISTS and "text" in takes.roles:
        return list(_texts(path, given, takes, limits))
    if ending in SUFFIXES and "image" in takes.roles:
        return [TableRow(path.name, replace(given, image=str(path)))]
    if ending == ".wav" and "audio" in takes.roles:
        return [TableRow(path.name, replace(given, audio=str(path)))]
    known = {"text": "a .jsonl or .csv file", "image": "pictures", "audio": ".wav files"}
    wanted = " or ".join(what for role, what in known.items() if role in takes.roles)
    raise InputError(f"{path.name} is nothing that this model takes; give {wanted}")


def _texts(path: Path, given: FormValues, takes: Takes, limits: Limits) -> Iterator[TableRow]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        read = list((_json_rows if path.suffix.lower() == ".jsonl" else _csv_rows)(text, path.name))
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not UTF-8 text ({error.reason}); save it as UTF-8") from None
    except csv.Error as error:
        raise InputError(f"{path.name} cannot be read ({error}); expected a CSV file with a header") from None
    if len(read) > limits.rows:
        raise InputError(f"{path.name} has {len(read)} rows; the page takes up to {limits.rows}: give a part of it")
    for place, row in read:
        first, second = (_string(row, name, place) for name in COLUMNS)
        if second and not takes.pair:
            raise InputError(f"{place} has a second text, and this model reads one; leave the column second out")
        name = cut(first or "", LONGEST_ROW)
        yield TableRow(name or f"{place}: empty", replace(given, text=first or "", second=second or given.second))


def _string(row: Mapping[str, object], name: str, place: str) -> str | None:
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{place}: its {name} is {value!r:.60}; expected a string")
    return value


def _json_rows(text: str, name: str) -> Iterator[tuple[str, dict[str, object]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        place = f"{name}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{place} is no JSON ({error}); expected an object a line") from None
        if not isinstance(row, dict) or "text" not in row:
            told = f"the columns {', '.join(map(str, row))}" if isinstance(row, dict) else f"{type(row).__name__}"
            raise InputError(f'{place} has {told:.200}; a text is needed: {{"text": "…"}} a line')
        yield place, row


def _csv_rows(text: str, name: str) -> Iterator[tuple[str, dict[str, object]]]:
    table = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    columns = list(table.fieldnames or ())
    if "text" not in columns:
        told = ", ".join(columns) or "none"
        raise InputError(f"{name} has the columns {told:.200}; a column called text is needed")
    for row in table:
        yield f"{name}, line {table.line_num}", {key: row[key] for key in COLUMNS if row.get(key) is not None}
