"""Words of a command line as targets and inputs: one, or many by options given several times, folders, globs and lists."""

from __future__ import annotations

import csv
import glob
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import typer

from heedmap.errors import InputError
from heedmap.models.names import is_zoo

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from heedmap.data.picture import Picture
    from heedmap.models.model import Model
    from heedmap.render.sound import Sound
    from heedmap.targets import Target
    from heedmap.types import Given, OneBoxes, OneText

ROLES = ("text", "image", "boxes", "audio")
COLUMNS = ("id", *ROLES, "target")
"""What a row of a file may have."""


class ReadInputs(TypedDict):
    """One sample by role; None: was not given."""

    text: OneText | None
    image: Image | np.ndarray | tuple[Image, ...] | None
    boxes: OneBoxes | None
    audio: Sound | None


NOTHING: ReadInputs = {"text": None, "image": None, "boxes": None, "audio": None}


@dataclass(frozen=True)
class InputRow:
    """One input of many, not read yet.

    Attributes:
        number: from 1; in a file the line's.
        given: role → the text, or the path of a file.
        target: as ``--target`` has it; None: the command's own.
        name: the row's ``id``; empty where it has none.
        problem: why it cannot be read; empty where nothing is known against it.
    """

    number: int
    given: Mapping[str, OneText | Path] = field(default_factory=dict)
    target: str | None = None
    name: str = ""
    problem: str = ""

    def read(self) -> ReadInputs:
        """See :func:`read_inputs`."""
        text = self.given.get("text")
        paths = {role: value for role, value in self.given.items() if isinstance(value, Path)}
        return read_inputs(
            None if isinstance(text, Path) else text, paths.get("image"), paths.get("boxes"), paths.get("audio")
        )


def parse_target(text: str | None) -> Target | int | str | None:
    """A target of the command line: None, a class index, a label, or one of :mod:`heedmap.targets`.

    Raises:
        typer.BadParameter: no number where there should be one.
    """
    if text is None or text == "":
        return None
    if _is_number(text):
        return int(text)
    if text == "norm":
        from heedmap.targets import FeatureNorm

        return FeatureNorm()
    kind, colon, rest = text.partition(":")
    return WORDS[kind](text, rest) if colon and kind in WORDS else text


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d+", text, re.ASCII) is not None


def _number(text: str, number: str) -> int:
    if not _is_number(number):
        raise typer.BadParameter(f"{text!r}: expected a number after {text.partition(':')[0]}:", param_hint="--target")
    return int(number)


def _label(label: str) -> int | str | None:
    """A label of a target, an index where it is a number; None where it is empty."""
    return int(label) if re.fullmatch(r"0|[1-9]\d*", label, re.ASCII) else label or None


def _query(text: str, rest: str) -> Target:
    """The target of ``query:K`` or ``query:K:LABEL``."""
    query, _, label = rest.partition(":")
    number = _number(text, query)
    from heedmap.targets import DetectionQuery

    return DetectionQuery(query=number, label=_label(label))


def _box(text: str, rest: str) -> Target:
    """The target of ``box:SIDE``, ``box:SIDE:K`` or ``box:SIDE:LABEL``."""
    from heedmap.targets import SIDES, BoxSide

    side, _, which = rest.partition(":")
    if side not in SIDES:
        raise typer.BadParameter(f"{text!r}: a box has {', '.join(SIDES)}", param_hint="--target")
    return BoxSide(side, query=int(which)) if _is_number(which) else BoxSide(side, label=which or None)


def _token(_text: str, rest: str) -> Target:
    """The target of ``token:TEXT``."""
    from heedmap.targets import NextToken

    return NextToken(token=rest, position=-1)


def _position(text: str, rest: str) -> Target:
    """The target of ``position:P`` or ``position:P:TEXT``."""
    place, _, token = rest.partition(":")
    number = _number(text, place)
    from heedmap.targets import NextToken

    return NextToken(token=token or None, position=number)


def _word(_text: str, rest: str) -> Target:
    """The target of ``word:WORD``, ``word:WORD:LABEL`` or, by its number, ``word:#N:LABEL``."""
    from heedmap.targets import TokenLabel

    word, _, label = rest.rpartition(":") if ":" in rest else (rest, "", "")
    return TokenLabel(label or None, int(word[1:]) if re.fullmatch(r"#\d+", word, re.ASCII) else word)


def _region(text: str, rest: str) -> Target:
    """The target of ``region:LABEL``, ``region:LABEL@PLACE`` or ``region:@PLACE``; a place as for :func:`_place`."""
    from heedmap.targets import Region

    label, at, place = rest.rpartition("@") if "@" in rest else (rest, "", "")
    return Region(_label(label), _place(text, place) if at else None)


def _depth(text: str, rest: str) -> Target:
    """The target of ``depth:X,Y`` or ``depth:X1,Y1,X2,Y2``."""
    from heedmap.targets import Depth

    return Depth(_place(text, rest))


def _place(text: str, place: str) -> tuple[int | float, ...]:
    """A point or a box of a picture: whole numbers are pixels, numbers with a point shares."""
    numbers = place.split(",")
    if len(numbers) not in (2, 4) or not all(re.fullmatch(r"\d+|\d*\.\d+|\d+\.", n, re.ASCII) for n in numbers):
        raise typer.BadParameter(
            f"{text!r}: expected X,Y or X1,Y1,X2,Y2, in pixels (10,20) or as shares of the picture (0.1,0.25)",
            param_hint="--target",
        )
    return tuple(int(n) if n.isdecimal() else float(n) for n in numbers)


def _mask(text: str, rest: str) -> Target:
    """The target of ``mask:PROMPT`` or ``mask:PROMPT:MASK``."""
    from heedmap.targets import PromptMask

    prompt, colon, mask = rest.partition(":")
    return PromptMask(_number(text, prompt), _number(text, mask) if colon else None)


def _step(text: str, rest: str) -> Target:
    """The target of ``step:N`` or ``step:N:CHANNEL``."""
    from heedmap.targets import Forecast

    step, colon, channel = rest.partition(":")
    return Forecast(_number(text, step), _number(text, channel) if colon else 0)


WORDS: Mapping[str, Callable[[str, str], Target]] = {
    "query": _query,
    "box": _box,
    "token": _token,
    "position": _position,
    "word": _word,
    "region": _region,
    "mask": _mask,
    "depth": _depth,
    "step": _step,
}
"""First word of a target of the command line → what makes a target of the whole and of what follows."""


def read_inputs(
    text: OneText | None, image: Path | Sequence[Path] | None, boxes: Path | None, audio: Path | None
) -> ReadInputs:
    """The inputs of a command line.

    Args:
        text: one, or a pair.
        image, boxes, audio: paths of files; several images are of one sample.

    Raises:
        typer.BadParameter: nothing was given.
        InputError: a file cannot be read, or the text is empty.
    """
    from heedmap.models.media import read_audio, read_boxes

    if text is None and not image and boxes is None and audio is None:
        raise typer.BadParameter("give at least one of --text, --image, --boxes, --audio", param_hint="inputs")
    if any(not part.strip() for part in ([text] if isinstance(text, str) else text or ())):
        raise InputError("the text is empty; give at least one word")
    return {
        "text": text,
        "image": _read_images(image) if image else None,
        "boxes": None if boxes is None else read_boxes(boxes),
        "audio": None if audio is None else read_audio(audio),
    }


def sample_inputs(model: str, number: int, given: Mapping[str, object]) -> ReadInputs:
    """A sample of the test split of a zoo model, as :func:`read_inputs` gives inputs; with boxes, the picture that they are of.

    Args:
        model: its name.
        number: of the sample, from 0.
        given: role → what was given besides.

    Raises:
        typer.BadParameter: the model is none of the zoo, or an input was given too.
    """
    if any(given.values()):
        raise typer.BadParameter("a sample is an input of its own; leave the others out", param_hint="--sample")
    if not is_zoo(model):
        raise typer.BadParameter(f"{model} has no samples here: they are of the models zoo/…", param_hint="--sample")
    from heedmap.zoo.samples import zoo_sample

    sample = zoo_sample(model, number)
    inputs, boxes = sample.inputs, sample.inputs.get("boxes")
    if boxes is not None and sample.places is not None:
        boxes = {**boxes, "boxes": sample.places}
    image = inputs.get("image") if boxes is None else sample.picture
    return {"text": inputs.get("text"), "image": image, "boxes": boxes, "audio": None}


def asked(subject: Model, inputs: ReadInputs) -> Given:
    """What the model is asked of the inputs: a picture beside boxes, which it cannot see, is only drawn on."""
    only_drawn_on = inputs["boxes"] is not None and "image" not in subject.kind_row.takes
    return {**inputs, "image": None if only_drawn_on else inputs["image"]}


def _read_images(image: Path | Sequence[Path]) -> Image | tuple[Image, ...]:
    """One picture; of several paths a tuple."""
    from heedmap.models.media import read_image

    if isinstance(image, Path):
        return read_image(image)
    pictures = tuple(read_image(path) for path in image)
    return pictures[0] if len(pictures) == 1 else pictures


def drawn_on(
    subject: Model, inputs: ReadInputs, tell: Callable[[str], None], what: str = "the map is"
) -> Picture | None:
    """The picture that a map is drawn on; ``tell`` is told why there is none where there should be one."""
    image, boxes = inputs["image"], inputs["boxes"]
    if image is None and (boxes is None or "boxes" not in boxes):
        return None
    try:
        return subject.picture(image, boxes)
    except InputError as error:
        tell(f"{what} drawn without the image: {error}")
        return None


def rows_of(given: Mapping[str, Sequence[str | Path] | None], listed: Path | None = None) -> list[InputRow]:
    """All inputs of a command line, in order.

    Args:
        given: role → what was given, each maybe several times; of ``image``, ``boxes`` and ``audio`` also a folder or a
            glob of files. What is given once goes with each input.
        listed: a ``.jsonl``, ``.csv`` or ``.txt`` file with an input a line; paths in it are relative to its folder.

    Raises:
        typer.BadParameter: unequal numbers of inputs, or none.
        InputError: an empty folder, a glob of nothing, or no such file, or one that cannot be read.
    """
    lists = {role: _spread(role, values) for role, values in given.items() if values}
    if listed is None:
        return paired(lists)
    if several := [role for role, values in lists.items() if len(values) > 1]:
        raise typer.BadParameter(f"--{several[0]} is given several times, and so is --inputs", param_hint="inputs")
    shared = {role: values[0] for role, values in lists.items()}
    rows = [replace(row, given={**shared, **row.given}) for row in read_rows(listed)]
    if not rows:
        raise InputError(f"{listed} lists no input; expected one a line")
    return rows


def paired(lists: Mapping[str, Sequence[str | Path]]) -> list[InputRow]:
    """One input for each entry of the lists; what is given once goes with each.

    Raises:
        typer.BadParameter: unequal numbers of inputs, or none.
    """
    counts = {len(values) for values in lists.values()} - {1}
    if len(counts) > 1:
        told = ", ".join(f"{len(values)} × --{role}" for role, values in lists.items())
        raise typer.BadParameter(f"{told}: give as many of each, or one for all", param_hint="inputs")
    if not lists:
        raise typer.BadParameter("give at least one of --text, --image, --boxes, --audio", param_hint="inputs")
    count = counts.pop() if counts else 1
    pick = {role: values if len(values) > 1 else [*values] * count for role, values in lists.items()}
    return [InputRow(n + 1, {role: values[n] for role, values in pick.items()}) for n in range(count)]


def is_many(paths: Sequence[str | Path] | None) -> bool:
    """Whether these are several inputs: more than one, a folder, or a glob."""
    values = list(paths or ())
    return len(values) > 1 or any(isinstance(path, Path) and (path.is_dir() or _is_glob(path)) for path in values)


def read_rows(path: Path) -> list[InputRow]:
    """The rows of a file that lists inputs; a bad row has a ``problem``.

    Raises:
        InputError: no such file, another ending, not UTF-8, or a column that is not known.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path} has no ending that is known; expected {', '.join(_READERS)}, with an input a line")
    if not path.is_file():
        raise InputError(f"there is no file {path}; expected one of {', '.join(_READERS)} that lists inputs")
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            return list(reader(lines, path.parent))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}); expected UTF-8 text with an input a line") from error


def _from_text(lines: Iterator[str], _folder: Path) -> Iterator[InputRow]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield InputRow(number, {"text": line.rstrip("\r\n")})


def _from_json(lines: Iterator[str], folder: Path) -> Iterator[InputRow]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
        except ValueError as error:
            yield InputRow(number, problem=f"it is no JSON ({error})")
            continue
        yield _row(number, data, folder)


def _from_csv(lines: Iterator[str], folder: Path) -> Iterator[InputRow]:
    table = csv.DictReader(lines, strict=True)
    if unknown := sorted(set(table.fieldnames or ()) - set(COLUMNS)):
        raise InputError(f"the table has the columns {', '.join(unknown)}; known are {', '.join(COLUMNS)}")
    for data in table:
        extra = data.pop(None, None)
        problem = f"it has {len(extra)} cells too many" if extra else ""
        row = _row(table.line_num, {key: value for key, value in data.items() if value}, folder)
        yield InputRow(row.number, problem=problem) if problem else row


def _row(number: int, data: object, folder: Path) -> InputRow:
    if not isinstance(data, dict):
        return InputRow(number, problem=f"it is {type(data).__name__}; expected an object with {', '.join(COLUMNS)}")
    filled = {key: value for key, value in data.items() if value is not None}
    if unknown := [key for key in filled if key not in COLUMNS]:
        return InputRow(number, problem=f"it has {', '.join(unknown)}; known are {', '.join(COLUMNS)}")
    for key, value in filled.items():
        if not _fits(key, value):
            return InputRow(number, problem=f"its {key} is {value!r}; expected a string")
    given = {role: filled[role] for role in ROLES if role in filled}
    given = {role: folder / value if role != "text" else value for role, value in given.items()}
    given = {role: tuple(value) if isinstance(value, list) else value for role, value in given.items()}
    target = filled.get("target")
    return InputRow(number, given, None if target is None else str(target), str(filled.get("id", "")))


def _fits(key: str, value: object) -> bool:
    if key == "text" and isinstance(value, list):
        return len(value) == 2 and all(isinstance(part, str) for part in value)
    numbers = (str, int) if key in ("id", "target") else (str,)
    return isinstance(value, numbers) and not isinstance(value, bool)


def _spread(role: str, values: Sequence[str | Path]) -> list[str | Path]:
    """The values, with folders and globs replaced by the files in them, by name."""
    if role == "text":
        return list(values)
    return [file for value in values for file in _files(role, Path(value))]


def _files(role: str, path: Path) -> list[Path]:
    endings = _endings(role)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file() and file.suffix.lower() in endings)
        if not files:
            raise InputError(f"the folder {path} has no {role} file; expected files that end in {', '.join(endings)}")
        return files
    if not _is_glob(path):
        return [path]
    files = sorted(file for file in map(Path, glob.glob(str(path), recursive=True)) if file.is_file())
    if not files:
        raise InputError(f"no {role} file is called {path}")
    return files


def _is_glob(path: Path) -> bool:
    return not path.exists() and glob.has_magic(str(path))


def _endings(role: str) -> list[str]:
    if role == "image":
        from heedmap.datasets.files import SUFFIXES

        return sorted(SUFFIXES)
    return [".wav" if role == "audio" else ".npz"]


_READERS: Mapping[str, Callable[[Iterator[str], Path], Iterator[InputRow]]] = {
    ".jsonl": _from_json,
    ".csv": _from_csv,
    ".txt": _from_text,
}
