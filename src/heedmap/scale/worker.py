"""One worker: a model, and the parts of a data set that it explains one after the other, with no state between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, cast

from heedmap.errors import HeedmapError, InputError, MissingLibraryError, SampleError
from heedmap.scale.folder import MadePart, ShardFolder
from heedmap.scale.job import Job
from heedmap.scale.shard import Line, lines_of
from heedmap.types import OneGiven

if TYPE_CHECKING:
    from heedmap.datasets.rows import SourceRow
    from heedmap.explanation import Explanation

Reader = Callable[[Path | bytes, object], object]
"""Of a file, or of what would be in it, with what messages call it."""

AHEAD = 8
"""So many batches of rows are read at once, to find some of one size."""


@dataclass(eq=False)
class WorkItem:
    """A row on its way.

    Attributes:
        number, row: the row.
        inputs: as the model's processors take them; empty where they cannot be read.
        tensors: as the model takes them, a batch of one; empty where they are not needed or cannot be made.
        lines: what is written.
    """

    number: int
    row: SourceRow
    inputs: OneGiven = field(default_factory=OneGiven)
    tensors: Mapping[str, object] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)

    def fail(self, error: Exception | str) -> None:
        """Keep why there is no explanation."""
        told = str(error) if isinstance(error, HeedmapError | str) else f"{type(error).__name__}: {error}"
        self.lines = [{"row": self.number, "key": self.row.key, "error": told.encode("utf-8", "replace").decode()}]


class Worker:
    """Explains rows of a job with one model.

    Args:
        job: what to do.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.subject = job.load()
        self.folder = ShardFolder(job.out)

    def make(self, number: int) -> MadePart:
        """Explain a part, and write it.

        Raises:
            OutputError: it cannot be written.
            InputError: the data are not there any more.
        """
        began = perf_counter()
        rows = self.job.rows(number)
        lines = [line for item in self.items(rows) for line in item.lines]
        bad = sum(line.get("error") is not None for line in lines)
        part = MadePart(self.job.run, number, len(rows), len(lines), bad, round(perf_counter() - began, 3))
        self.folder.write_part(part, lines)
        return part

    def items(self, rows: range) -> Iterator[WorkItem]:
        """Rows, in their order, with what is written of them."""
        window = AHEAD * self.job.batch
        for start in range(0, len(rows), window):
            items = [self.prepared(number) for number in rows[start : start + window]]
            self._explain_all([item for item in items if not item.lines])
            yield from items

    def prepared(self, number: int) -> WorkItem:
        """A row as the model takes it; one that cannot be read has its lines already."""
        item = WorkItem(number, self.job.source[number])
        try:
            if item.row.problem:
                raise SampleError(item.row.problem)
            item.inputs = read(item.row)
            if not self.job.wanted.answer:
                item.tensors = self.subject.inputs(**item.inputs)
        except MissingLibraryError:
            raise
        except Exception as error:  # the row may be anything, and the others are not to suffer
            item.fail(error)
        return item

    def _explain_all(self, items: Sequence[WorkItem]) -> None:
        from heedmap.models.batching import alike

        for group in alike(items, self.job.batch, lambda item: item.row.target):
            self._explain(group)

    def _explain(self, group: Sequence[WorkItem]) -> None:
        """Explain rows at once; where that cannot be done, half of them."""
        if self._written(group) or len(group) == 1:
            return
        half = len(group) // 2
        self._explain(group[:half])
        self._explain(group[half:])

    def _written(self, group: Sequence[WorkItem]) -> bool:
        """Explain rows at once, and keep their lines; a row alone has its error's. Whether it could be done.

        Of an error nothing is left, so that what is tried next has the memory that it held.
        """
        try:
            explanations = [self._said(group[0])] if self.job.wanted.answer else self._explained(group)
            lines = [lines_of(item.number, item.row.key, e) for item, e in zip(group, explanations, strict=True)]
        except MissingLibraryError:
            raise
        except Exception as error:  # also what the model itself raises, and memory that does not suffice
            if len(group) == 1:
                group[0].fail(error)
            return False
        for item, made in zip(group, lines, strict=True):
            item.lines = made
        return True

    def _explained(self, group: Sequence[WorkItem]) -> list[Explanation]:
        from heedmap.models.batching import explained

        wanted = self.job.wanted
        target = wanted.target if group[0].row.target is None else group[0].row.target
        boxes = [places for item in group if (places := item.inputs.get("boxes")) is not None]
        sounds = [sound for item in group if (sound := item.inputs.get("audio")) is not None]
        batches = [item.tensors for item in group]
        return explained(self.subject, batches, boxes, sounds, target=target, method=wanted.method, **self._options())

    def _said(self, item: WorkItem) -> Explanation:
        wanted = self.job.wanted
        explain: Callable[..., Explanation] = self.subject.explain_answer  # which sees to the options itself
        return explain(
            item.inputs.get("text"),
            item.inputs.get("image"),
            item.inputs.get("audio"),
            answer=item.row.answer,
            method=wanted.method,
            generate=wanted.generate,
            **self._options(),
        )

    def _options(self) -> dict[str, object]:
        memory = self.job.memory
        return {**self.job.wanted.options, **({} if memory is None else {"memory": memory})}


def read(row: SourceRow) -> OneGiven:
    """What the model's processors are given of a row.

    Raises:
        InputError: a file is not there, or is damaged; or the row is empty.
    """
    from heedmap.datasets.files import picture
    from heedmap.models.media import read_audio, read_boxes

    readers: Mapping[str, Reader] = {"image": picture, "boxes": read_boxes, "audio": read_audio}
    made = {
        role: _loaded(value, role, readers[role]) if role in readers else value for role, value in row.given.items()
    }
    if not made:
        raise InputError("it is empty; expected a text, an image, boxes or audio")
    return cast("OneGiven", made)  # what else a source has there, the model itself refuses


def _loaded(source: object, role: str, reader: Reader) -> object:
    """What is at a path, or in bytes; of a tuple each; all else is there already."""
    if isinstance(source, tuple):
        return tuple(_loaded(part, role, reader) for part in source)
    if not isinstance(source, Path | bytes):
        return source
    return reader(source, f"the {role}" if isinstance(source, bytes) else source)


def first_that_works(worker: Worker, tried: int) -> None:
    """Explain rows until one succeeds, so that what fits no row is told before anything is begun.

    Args:
        worker: it.
        tried: so many at most, the first ones.

    Raises:
        InputError: none can be explained; the message has the reason of the first.
    """
    reasons: list[str] = []
    for number in range(min(tried, len(worker.job.source))):
        (item,) = worker.items(range(number, number + 1))
        if item.lines[0].get("error") is None:
            return
        reasons.append(f"{item.row.key}: {item.lines[0]['error']}")
    raise InputError(f"none of the first {len(reasons)} rows can be explained, such as {reasons[0]}")
