"""``heedmap explain`` of many inputs: a map of each in a folder, or a line of JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from heedmap.cli.command import INTERRUPTED, USER_ERROR, fail, progress_bar, tell
from heedmap.cli.inputs import NOTHING, InputRow, ReadInputs, asked, drawn_on, parse_target
from heedmap.cli.manifest import INDEX, MapEntry, Outcome, Record, input_words, names_of
from heedmap.cli.options import BatchOptions, Cost, MapFigureOptions, MapOptions, Output
from heedmap.common.files import check_folder
from heedmap.common.printable import counted, without_folders
from heedmap.errors import HeedmapError, InputError, UnknownNameError

if TYPE_CHECKING:
    from heedmap.explanation import Explanation
    from heedmap.models.model import Model
    from heedmap.render.files import FigureLook

AHEAD = 8
"""So many batches of inputs are read at once, to find some of one size."""
TOLD = 10
"""Inputs that failed, of which the command tells by name."""


@dataclass(frozen=True, eq=False)
class BatchJob:
    """What is to be done.

    Attributes:
        rows: the inputs.
        names: of each, without an ending: of its map, and of its entry in the record.
        wanted: what is explained, and how; the target is that of rows that have none.
        output: the folder; None: nothing is written; and whether a line is printed for each input.
        ending: of the maps, with its dot.
        most: inputs of one size that are explained at once, at most.
        overwrite: whether to make again what is there.
        look: options of the figures.
        cost: what a call may take, see :class:`heedmap.cli.options.CostOptions`.
    """

    rows: Sequence[InputRow]
    names: Sequence[str]
    wanted: MapOptions
    output: Output
    ending: str
    most: int
    overwrite: bool
    look: FigureLook
    cost: Cost

    @classmethod
    def of(
        cls,
        rows: Sequence[InputRow],
        wanted: MapOptions,
        output: Output,
        many: BatchOptions,
        figures: MapFigureOptions,
        cost: Cost,
    ) -> BatchJob:
        """From the command line.

        Raises:
            typer.BadParameter: neither a folder nor JSON is wanted, or an ending without a folder.
            UnknownNameError: an ending that is not known.
            InputError: ``--out`` is the name of a file, or rows have the same ``id``.
        """
        from heedmap.render.files import ENDINGS

        out, ending = output.out, f".{(many.ending or 'png').lower().removeprefix('.')}"
        if ending not in ENDINGS:
            known = ", ".join(writer[1:] for writer in ENDINGS)
            raise UnknownNameError(f"--as is {many.ending!r}; known are {known}")
        there = f"there {'is' if len(rows) == 1 else 'are'} {counted(len(rows), 'input')}"
        if out is None and (many.ending is not None or not output.as_json):
            told = f"{there}; give a folder for their maps, or --json"
            raise typer.BadParameter(told, param_hint="--out")
        if out is not None and not out.is_dir() and out.suffix.lower() in ENDINGS:
            raise InputError(
                f"{out} is the name of a file, and {there}; give a folder with --out, and --as {out.suffix[1:]}"
            )
        look = figures.check(ending)
        return cls(rows, names_of(rows), wanted, output, ending, many.batch, many.overwrite, look, cost)

    def target(self, row: InputRow) -> str | None:
        """Of a row, as ``--target`` has it."""
        return self.wanted.target if row.target is None else row.target


def explain_many(job: BatchJob, load: Callable[[], Model]) -> None:
    """Explain every input; what cannot be explained is told at the end.

    Args:
        job: what is to be done.
        load: gives the model.

    Raises:
        typer.Exit: with 1, some inputs could not be explained; with 130, interrupted.
        OptionError: the folder holds maps of the same names of something else.
        OutputError: the folder cannot be written.
    """
    folder = job.output.out
    if folder is not None:
        check_folder(folder)
    run = _Run(job, load())
    try:
        with progress_bar() as bar:
            task = bar.add_task(f"explaining by {run.subject.name}", total=len(job.rows))
            for _ in run.items():
                bar.advance(task)
    except KeyboardInterrupt:
        kept = f"; what is in {folder} is whole, and the same command goes on" if folder else ""
        fail(f"interrupted{kept}", INTERRUPTED)
    run.conclude()


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
    """One command at work."""

    def __init__(self, job: BatchJob, subject: Model) -> None:
        from heedmap.evaluate.evaluation import fingerprint

        self.job, self.subject = job, subject
        self.common = [fingerprint(subject.model), job.wanted.method, job.wanted.settings]
        self.common += [dict(job.look)] if job.look else []
        self.keys = {name: self._key(row) for name, row in zip(job.names, job.rows, strict=True)}
        self.record = None if job.output.out is None else Record(job.output.out)
        if self.record is not None and not job.overwrite:
            self.record.check(self.keys, job.ending)
        self.failed: list[tuple[str, str]] = []
        self.made = self.there = 0
        self.warned: set[str] = set()

    def items(self) -> Iterator[Item]:
        """Every input, once its map is written; its line is printed in the order of the inputs."""
        from heedmap.models.batching import alike

        pairs = iter(zip(self.job.rows, self.job.names, strict=True))
        while window := list(islice(pairs, AHEAD * self.job.most)):
            items = [self._prepared(row, name) for row, name in window]
            entries: dict[str, MapEntry] = {}
            for group in alike(items, self.job.most, lambda item: item.row.target):
                if group[0].tensors:
                    self._explain(group)
                for item in group:
                    entries[item.name] = self.keep(item)
                    yield item
            for item in items if self.job.output.as_json else ():
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
        job = self.job
        if self.record is not None:
            self.record.finish(f"{without_folders(self.subject.name)} by {job.wanted.method}", job.names)
            kept = f"; {self.there} were there already" if self.there else ""
            if not job.output.as_json:
                typer.echo(f"wrote {counted(self.made, 'map')} to {job.output.out}; {INDEX} lists them{kept}")
        if self.failed:
            lines = [f"  {why}" if name in why else f"  {name}: {why}" for name, why in self.failed[:TOLD]]
            more = [f"  and {len(self.failed) - TOLD} more"] if len(self.failed) > TOLD else []
            told = f"{len(self.failed)} of {counted(len(job.rows), 'input')} could not be explained:"
            fail("\n".join((told, *lines, *more)), USER_ERROR)

    def _key(self, row: InputRow) -> str:
        given = {role: _digest(value) if isinstance(value, Path) else value for role, value in row.given.items()}
        return sha256(json.dumps([*self.common, self.job.target(row), given], default=str).encode()).hexdigest()[:16]

    def _prepared(self, row: InputRow, name: str) -> Item:
        item = Item(row, name, self.keys[name], NOTHING, {})
        file = f"{name}{self.job.ending}"
        if self.record is not None and not self.job.overwrite and self.record.has(name, item.key, file):
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
        from heedmap.models.batching import explained

        boxes = [item.inputs["boxes"] for item in group if item.inputs["boxes"] is not None]
        target = parse_target(self.job.target(group[0].row))
        batches = [item.tensors for item in group]
        return self.job.wanted.by(explained)(self.subject, batches, boxes, target=target, **self.job.cost)

    def _written(self, item: Item, explanation: Explanation) -> Outcome:
        from heedmap.render.page import prediction_words

        told: Outcome = {
            "prediction": prediction_words(explanation, 0),
            "target": explanation.target[0],
            "score": float(explanation.scores[0]),
        }
        if explanation.method != self.job.wanted.method:
            self._warn(explanation.flow.notes[0])
        if self.job.output.out is None:
            return told
        from heedmap.render.files import write

        picture = drawn_on(self.subject, item.inputs, self._warn)
        file = f"{item.name}{self.job.ending}"
        write(self.job.output.out / file, explanation, picture, **self.job.look)
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
