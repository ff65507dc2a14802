"""``heedmap explain`` of many inputs: a map of each in a folder, or a line of JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from heedmap.atomic import check_folder
from heedmap.cli.arguments import as_target, parse_target, read_inputs
from heedmap.cli.batch_items import Item, groups, together
from heedmap.cli.batch_job import Wanted
from heedmap.cli.exit_codes import INTERRUPTED, USER_ERROR, fail
from heedmap.cli.input_lists import ROLES, Row
from heedmap.cli.manifest import INDEX, Record, input_words
from heedmap.cli.progress import progress_bar
from heedmap.errors import HeedmapError, InputError

if TYPE_CHECKING:
    from heedmap.explanation import Explanation

AHEAD = 8
"""So many batches of inputs are read at once, to find some of one size."""
TOLD = 10
"""Inputs that failed, of which the command tells by name."""


def explain_many(wanted: Wanted, load: Callable[[], Any]) -> None:
    """Explain every input; what cannot be explained is told at the end.

    Args:
        wanted: what is to be done.
        load: gives the model.

    Raises:
        typer.Exit: with 1, some inputs could not be explained; with 130, interrupted.
        OptionError: the folder holds maps of the same names of something else.
        OutputError: the folder cannot be written.
    """
    if wanted.out is not None:
        check_folder(wanted.out)
    run = _Run(wanted, load())
    try:
        with progress_bar() as bar:
            task = bar.add_task(f"explaining by {run.subject.name}", total=len(wanted.rows))
            for _ in run.items():
                bar.advance(task)
    except KeyboardInterrupt:
        kept = f"; what is in {wanted.out} is whole, and the same command goes on" if wanted.out else ""
        fail(f"interrupted{kept}", INTERRUPTED)
    run.conclude()


class _Run:
    """One command at work."""

    def __init__(self, wanted: Wanted, subject: Any) -> None:
        from heedmap.evaluate.harness.run import fingerprint

        self.wanted, self.subject = wanted, subject
        self.common = [fingerprint(subject.model), wanted.method, dict(wanted.settings)]
        self.keys = {name: self._key(row) for name, row in zip(wanted.names, wanted.rows, strict=True)}
        self.record = None if wanted.out is None else Record(wanted.out)
        if self.record is not None and not wanted.overwrite:
            self.record.check(self.keys, wanted.ending)
        self.failed: list[tuple[str, str]] = []
        self.made = self.there = 0
        self.warned: set[str] = set()

    def items(self) -> Iterator[Item]:
        """Every input, once its map is written; its line is printed in the order of the inputs."""
        pairs = iter(zip(self.wanted.rows, self.wanted.names, strict=True))
        while window := list(islice(pairs, AHEAD * self.wanted.batch)):
            items = [self._prepared(row, name) for row, name in window]
            entries = {}
            for group in groups(items, self.wanted.batch):
                if group[0].tensors:
                    self._explain(group)
                for item in group:
                    entries[item.name] = self.keep(item)
                    yield item
            for item in items if self.wanted.as_json else ():
                self._print(entries[item.name], item.result)

    def keep(self, item: Item) -> dict[str, Any]:
        """Write the map of an input and its entry, which is returned."""
        shown = {role: list(v) if isinstance(v, tuple) else str(v) for role, v in item.row.given.items()}
        entry = {"number": item.row.number, "name": item.name, "input": shown, "key": item.key}
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
        wanted = self.wanted
        if self.record is not None:
            self.record.finish(f"{self.subject.name} by {wanted.method}", wanted.names)
            kept = f"; {self.there} were there already" if self.there else ""
            if not wanted.as_json:
                typer.echo(f"wrote {self.made} maps to {wanted.out}; {INDEX} lists them{kept}")
        if self.failed:
            lines = [f"  {why}" if name in why else f"  {name}: {why}" for name, why in self.failed[:TOLD]]
            more = [f"  and {len(self.failed) - TOLD} more"] if len(self.failed) > TOLD else []
            told = f"{len(self.failed)} of {len(wanted.rows)} inputs could not be explained:"
            fail("\n".join((told, *lines, *more)), USER_ERROR)

    def _key(self, row: Row) -> str:
        target = self.wanted.target if row.target is None else row.target
        given = {role: _digest(value) if isinstance(value, Path) else value for role, value in row.given.items()}
        return sha256(json.dumps([*self.common, target, given], default=str).encode()).hexdigest()[:16]

    def _prepared(self, row: Row, name: str) -> Item:
        item = Item(row, name, self.keys[name], {}, {})
        file = f"{name}{self.wanted.ending}"
        if self.record is not None and not self.wanted.overwrite and self.record.has(name, item.key, file):
            return item
        try:
            if row.problem:
                raise InputError(row.problem)
            parse_target(row.target)
            item.inputs = read_inputs(**{**dict.fromkeys(ROLES), **row.given})
            item.tensors = self.subject.inputs(**item.inputs)
        except (HeedmapError, typer.BadParameter) as error:
            item.result = str(error)
        return item

    def _explain(self, group: Sequence[Item]) -> None:
        """Explain inputs at once; where that cannot be done, one by one."""
        try:
            found = self._explained(group)
        except Exception as error:
            if len(group) > 1:
                for item in group:
                    self._explain([item])
                return
            if not isinstance(error, HeedmapError):
                raise
            group[0].result = str(error)
            return
        for item, one in zip(group, found, strict=True):
            item.result = one

    def _explained(self, group: Sequence[Item]) -> list[Explanation]:
        from heedmap.engine import explain

        row, wanted = group[0].row, self.wanted
        target = as_target(parse_target(wanted.target if row.target is None else row.target))
        tensors = together([item.tensors for item in group])
        found = explain(self.subject, tensors, target=target, method=wanted.method, **wanted.settings)
        if group[0].inputs["boxes"] is not None:
            found = self.subject.finish(found, tensors, [item.inputs["boxes"] for item in group])
        return [found.sample(number) for number in range(len(group))]

    def _written(self, item: Item, explanation: Explanation) -> dict[str, Any]:
        from heedmap.render.page import prediction_words

        told = {
            "prediction": prediction_words(explanation, 0),
            "target": explanation.target[0],
            "score": float(explanation.scores[0]),
        }
        if self.wanted.out is None:
            return told
        from heedmap.cli.explain import drawn_on
        from heedmap.render.files import write

        picture, without = drawn_on(self.subject, item.inputs)
        if without and without not in self.warned:
            self.warned.add(without)
            typer.echo(f"heedmap: {without}", err=True)
        file = f"{item.name}{self.wanted.ending}"
        write(self.wanted.out / file, explanation, picture)
        return {**told, "file": file}

    def _print(self, entry: Mapping[str, Any], result: Explanation | str | None) -> None:
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
