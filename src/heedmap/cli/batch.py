"""``heedmap explain`` of many inputs: a line of JSON for each, or a folder of their maps with what is known of them, in
``results.jsonl`` for programs, in ``index.html`` for people.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Required, TypedDict
from urllib.parse import quote

import typer

from heedmap.cli.command import INTERRUPTED, USER_ERROR, fail, progress_bar, tell
from heedmap.cli.inputs import NOTHING, InputRow, ReadInputs, asked, drawn_on, parse_target
from heedmap.cli.options import ExplainOptions
from heedmap.common.files import check_folder, write_output
from heedmap.common.printable import counted, cut, without_folders
from heedmap.errors import HeedmapError, InputError, OptionError, OutputError, UnknownNameError

if TYPE_CHECKING:
    from heedmap.explanation import Explanation

AHEAD = 8
"""So many batches of inputs are read at once, to find some of one size."""
TOLD = 10
"""Inputs that failed, of which the command tells by name."""
RESULTS, INDEX = "results.jsonl", "index.html"
LONGEST = 160
"""Letters of an input that the page shows."""
INDEX_COLUMNS = ("input", "map", "prediction", "explained", "score")
RESERVED = ("index", "results")
"""Names that no map may have."""


def explain_many(rows: Sequence[InputRow], options: ExplainOptions) -> None:
    """Explain every input; what cannot be explained is told at the end.

    Raises:
        typer.BadParameter: neither a folder nor JSON is wanted, or an ending without a folder.
        UnknownNameError: an ending that is not known.
        InputError: ``--out`` is the name of a file, or rows have the same ``id``.
        typer.Exit: with 1, some inputs could not be explained; with 130, interrupted.
        OptionError: the folder holds maps of the same names of something else.
        OutputError: the folder cannot be written.
    """
    run = _Run(rows, options)
    try:
        with progress_bar() as bar:
            task = bar.add_task(f"explaining by {run.subject.name}", total=len(rows))
            for _ in run.items():
                bar.advance(task)
    except KeyboardInterrupt:
        kept = f"; what is in {run.folder} is whole, and the same command goes on" if run.folder else ""
        fail(f"interrupted{kept}", INTERRUPTED)
    run.conclude()


def _ending(count: int, options: ExplainOptions) -> str:
    """Of the maps of so many inputs, with its dot; their folder and ``--json`` are seen to go with it."""
    from heedmap.render.files import ENDINGS

    out, wanted = options.output.out, options.many.ending
    ending = f".{(wanted or 'png').lower().removeprefix('.')}"
    if ending not in ENDINGS:
        known = ", ".join(ending[1:] for ending in ENDINGS)
        raise UnknownNameError(f"--as is {wanted!r}; known are {known}")
    there = f"there {'is' if count == 1 else 'are'} {counted(count, 'input')}"
    if out is None and (wanted is not None or not options.output.as_json):
        raise typer.BadParameter(f"{there}; give a folder for their maps, or --json", param_hint="--out")
    if out is not None and not out.is_dir() and out.suffix.lower() in ENDINGS:
        raise InputError(
            f"{out} is the name of a file, and {there}; give a folder with --out, and --as {out.suffix[1:]}"
        )
    return ending


@dataclass(eq=False)
class Item:
    """An input on its way.

    Attributes:
        row, name, key: the input, what it is called, and the digest of all that its map depends on.
        inputs: as the subject takes them.
        tensors: as the model takes them, a batch of one.
        result: the explanation, or why there is none; None: its map is there already.
    """

    row: InputRow
    name: str
    key: str
    inputs: ReadInputs
    tensors: Mapping[str, object]
    result: Explanation | str | None = None


class _Run:
    """One command at work.

    Attributes:
        keys: name of each input, in their order → digest of all that its map depends on; so are its file and entry called.
        record: of the folder; None: nothing is written.
    """

    def __init__(self, rows: Sequence[InputRow], options: ExplainOptions) -> None:
        self.rows, self.options, self.folder = rows, options, options.output.out
        self.ending = _ending(len(rows), options)
        self.look = options.figures.check(self.ending)
        names = names_of(rows)
        if self.folder is not None:
            check_folder(self.folder)
        self.subject = options.model.load()
        from heedmap.evaluate.evaluation import fingerprint

        self.common = [fingerprint(self.subject.model), options.wanted.method, options.wanted.settings]
        self.common += [dict(self.look)] if self.look else []
        self.keys = {name: self._key(row) for name, row in zip(names, rows, strict=True)}
        self.record = None if self.folder is None else Record(self.folder, self.ending)
        if self.record is not None and not options.many.overwrite:
            self.record.check(self.keys)
        self.failed: list[tuple[str, str]] = []
        self.made = self.there = 0
        self.warned: set[str] = set()

    def items(self) -> Iterator[Item]:
        """Every input, once its map is written; its line is printed in the order of the inputs."""
        from heedmap.models.answers import alike

        most = self.options.many.batch
        pairs = iter(zip(self.rows, self.keys, strict=True))
        while window := list(islice(pairs, AHEAD * most)):
            items = [self._prepared(row, name) for row, name in window]
            entries: dict[str, MapEntry] = {}
            for group in alike(items, most, lambda item: item.row.target):
                if group[0].tensors:
                    self._explain(group)
                for item in group:
                    entries[item.name] = self.keep(item)
                    yield item
            for item in items if self.options.output.as_json else ():
                self._print(entries[item.name], item.result)

    def keep(self, item: Item) -> MapEntry:
        """Write the map of an input and its entry, which is returned."""
        shown = {
            role: list(value) if isinstance(value, tuple) else str(value) for role, value in item.row.given.items()
        }
        entry: MapEntry = {"number": item.row.number, "name": item.name, "input": shown, "key": item.key}
        if item.result is None:
            assert self.record is not None
            self.there += 1
            return self.record.entries[item.name]
        if isinstance(item.result, str):
            self.failed.append((input_words(shown) or f"line {item.row.number}", item.result))
            entry["error"] = item.result
        else:
            self.made += 1
            entry |= self._written(item, item.result)
        if self.record is not None:
            self.record.add(entry)
        return entry

    def conclude(self) -> None:
        """Write the index, and say what was done."""
        if self.record is not None:
            title = f"{without_folders(self.subject.name)} by {self.options.wanted.method}"
            self.record.finish(title, self.keys)
            kept = f"; {self.there} were there already" if self.there else ""
            if not self.options.output.as_json:
                typer.echo(f"wrote {counted(self.made, 'map')} to {self.folder}; {INDEX} lists them{kept}")
        if self.failed:
            lines = [f"  {why}" if name in why else f"  {name}: {why}" for name, why in self.failed[:TOLD]]
            more = [f"  and {len(self.failed) - TOLD} more"] if len(self.failed) > TOLD else []
            told = f"{len(self.failed)} of {counted(len(self.rows), 'input')} could not be explained:"
            fail("\n".join((told, *lines, *more)), USER_ERROR)

    def _key(self, row: InputRow) -> str:
        given = {role: _digest(value) if isinstance(value, Path) else value for role, value in row.given.items()}
        return sha256(json.dumps([*self.common, self._target(row), given], default=str).encode()).hexdigest()[:16]

    def _target(self, row: InputRow) -> str | None:
        """Of a row, as ``--target`` has it."""
        return self.options.wanted.target if row.target is None else row.target

    def _prepared(self, row: InputRow, name: str) -> Item:
        item = Item(row, name, self.keys[name], NOTHING, {})
        if self.record is not None and not self.options.many.overwrite and self.record.has(name, item.key):
            return item
        try:
            if row.problem:
                raise InputError(row.problem)
            parse_target(row.target)
            item.inputs = row.read()
            item.tensors = self.subject.inputs(**asked(self.subject, item.inputs))
        except (HeedmapError, typer.BadParameter) as error:
            item.result = str(error)
        return item

    def _explain(self, group: Sequence[Item]) -> None:
        """Explain inputs at once; where that cannot be done, one by one."""
        try:
            explanations = self._explained(group)
        except Exception as error:
            if len(group) > 1:
                for item in group:
                    self._explain([item])
                return
            if not isinstance(error, HeedmapError):
                raise
            group[0].result = str(error)
            return
        for item, explanation in zip(group, explanations, strict=True):
            item.result = explanation

    def _explained(self, group: Sequence[Item]) -> list[Explanation]:
        from heedmap.models.answers import explained

        boxes = [item.inputs["boxes"] for item in group if item.inputs["boxes"] is not None]
        sounds = [item.inputs["audio"] for item in group if item.inputs["audio"] is not None]
        target = parse_target(self._target(group[0].row))
        batches = [item.tensors for item in group]
        explain = self.options.wanted.by(explained)
        return explain(self.subject, batches, boxes, sounds, target=target, **self.options.cost.given)

    def _written(self, item: Item, explanation: Explanation) -> Outcome:
        from heedmap.render.page import prediction_words

        told: Outcome = {
            "prediction": prediction_words(explanation, 0),
            "target": explanation.target[0],
            "score": float(explanation.scores[0]),
        }
        if explanation.method != self.options.wanted.method:
            self._warn(explanation.flow.notes[0])
        if self.folder is None:
            return told
        from heedmap.render.files import write

        picture = drawn_on(self.subject, item.inputs, self._warn)
        file = f"{item.name}{self.ending}"
        write(self.folder / file, explanation, picture, item.inputs["audio"], **self.look)
        return {**told, "file": file}

    def _warn(self, words: str) -> None:
        if words not in self.warned:
            self.warned.add(words)
            tell(words)

    def _print(self, entry: MapEntry, result: Explanation | str | None) -> None:
        from heedmap.render.files import to_data

        line = {name: value for name, value in entry.items() if name != "key"}
        if result is not None and not isinstance(result, str):
            line["explanation"] = to_data(result)
        typer.echo(json.dumps(line, allow_nan=False))


def _digest(path: Path) -> str | None:
    try:
        return sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


class Outcome(TypedDict, total=False):
    """What was explained, or why nothing was."""

    prediction: str
    target: str
    score: float
    file: str
    error: str


class MapEntry(Outcome):
    """An input of a folder; ``input``: role → text or path, ``key``: of all that its map depends on."""

    number: Required[int]
    name: Required[str]
    input: Required[dict[str, str | list[str]]]
    key: Required[str]


class Record:
    """The entries of a folder, by the name of the input; each is added as soon as its map, of this ending, is written."""

    def __init__(self, folder: Path, ending: str) -> None:
        self.folder, self.ending = folder, ending
        self.entries = {entry["name"]: entry for entry in _read_entries(folder / RESULTS)}

    def has(self, name: str, key: str) -> bool:
        """Whether the map of this very input is there."""
        known = self.entries.get(name)
        return known is not None and known["key"] == key and (self.folder / f"{name}{self.ending}").is_file()

    def check(self, keys: Mapping[str, str]) -> None:
        """OptionError where a map of something else would be written over; ``keys``: name of an input → its key."""
        others = [
            name for name, key in keys.items()
            if (self.folder / f"{name}{self.ending}").exists() and not self.has(name, key)
        ]  # fmt: skip
        if others:
            raise OptionError(
                f"{self.folder} holds {counted(len(others), 'map')} of the same names that were made of another input, model, "
                f"method or target, such as {others[0]}{self.ending}; give another folder with --out, or --overwrite"
            )

    def add(self, entry: MapEntry) -> None:
        """Keep an entry, also on disk; a line that is cut off by a crash is passed over when it is read again."""
        self.entries[entry["name"]] = entry.copy()
        try:
            with (self.folder / RESULTS).open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise OutputError(f"cannot write {self.folder / RESULTS}: {error.strerror or error}") from error

    def finish(self, title: str, names: Iterable[str]) -> None:
        """Write both files anew: the inputs called ``names`` in this order, then what else the folder has."""
        names = dict.fromkeys((*names, *self.entries))
        entries = [self.entries[name] for name in names]
        write_output(self.folder / RESULTS, "".join(json.dumps(entry) + "\n" for entry in entries).encode())
        write_output(self.folder / INDEX, index_page(entries, title).encode("utf-8", "replace"))


def index_page(entries: Iterable[MapEntry], title: str) -> str:
    """The entries as a page with a link to each map.

    Args:
        entries: of a folder.
        title: of the page.
    """
    from heedmap.render.html import document, render

    listed = [_index_entry(entry) for entry in entries]
    bad = sum("error" in entry for entry in listed)
    body = render("manifest.html", title=title, columns=INDEX_COLUMNS, entries=listed, bad=bad)
    return document(body, f"heedmap: {title}", "wide")


def input_words(given: Mapping[str, object]) -> str:
    """An input in a few words: its text, and the paths of its files."""
    parts = [" | ".join(value) if isinstance(value, list | tuple) else str(value) for value in given.values()]
    words = " · ".join(parts)
    return cut(words, LONGEST)


def _index_entry(entry: MapEntry) -> dict[str, object]:
    """An entry with its input in words and the address of its map."""
    given = {
        role: without_folders(value) if role != "text" and isinstance(value, str) else value
        for role, value in entry["input"].items()
    }
    words = input_words(given) or entry["name"]
    return {**entry, "words": words, "link": quote(entry.get("file", ""))}


def _read_entries(path: Path) -> Iterable[MapEntry]:
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                entry: MapEntry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and isinstance(entry.get("name"), str) and "key" in entry:
                yield entry


def names_of(rows: Sequence[InputRow]) -> list[str]:
    """A name for each row, without an ending: its ``id``; or that of its file, where it has one that no other has; or its
    number.

    Raises:
        InputError: an ``id`` is given to two rows, or is no name of a file.
    """
    for row in rows:
        if row.name and not _is_file_name(row.name):
            raise InputError(f"the id {row.name!r} is no name for a file; give one without a slash, not {RESERVED}")
    stems = [row.name or _stem(row) for row in rows]
    width = max(4, len(str(max((row.number for row in rows), default=1))))
    numbered = [row.name or f"{row.number:0{width}}" for row in rows]
    names = stems if _distinct(stems) and all(map(_is_file_name, stems)) else numbered
    if not _distinct(names):
        twice = next(name for name, count in Counter(map(str.casefold, names)).items() if count > 1)
        raise InputError(f"two inputs have the id {twice!r}; give each another, for the file of its map")
    return names


def _stem(row: InputRow) -> str:
    """Of its picture, or of what else it is read from."""
    paths = (row.given.get(role) for role in ("image", "audio", "boxes"))
    return next((path.stem for path in paths if isinstance(path, Path)), "")


def _is_file_name(name: str) -> bool:
    plain = bool(name) and not name.startswith(".") and not set(name) & set('/\\\0:*?"<>|')
    return plain and name.casefold() not in RESERVED and len(name.encode()) < 200


def _distinct(names: Sequence[str]) -> bool:
    return len({name.casefold() for name in names}) == len(names)
