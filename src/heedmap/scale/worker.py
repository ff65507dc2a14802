"""What a run over a data set does, and one worker that does it: a model, and the parts that it explains one after the other.

A job is all that a worker has to know, and can be sent to it; between the parts a worker keeps no state.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, TypeAlias, cast

from heedmap.errors import HeedmapError, InputError, MissingLibraryError, OptionError, SampleError, UnknownNameError
from heedmap.scale.folder import JobConfig, Line, MadePart, ShardFolder, Told, lines_of
from heedmap.types import OneGiven
from heedmap.version import __version__

if TYPE_CHECKING:
    from heedmap.datasets.rows import RowSource, SourceRow
    from heedmap.explanation import Explanation
    from heedmap.models.model import Model
    from heedmap.targets import Target

PART = 256
"""Rows of a part."""
BATCH = 8
RowTarget: TypeAlias = "Target | int | str | None"
"""What a run explains: a target that can be told again, by its words or a digest."""
LEFT_OUT = ("full", "segments", "labels", "probe")
"""Options of :func:`heedmap.explain` that a run does not take."""


@dataclass(frozen=True, eq=False)
class Wanted:
    """What is explained, and how.

    Attributes:
        target: as for :func:`heedmap.explain`; that of rows that have none of their own.
        method: name of the method.
        options: its own.
        answer: whether answers in words are explained, token by token.
        generate: for transformers' ``generate``.
    """

    target: RowTarget = None
    method: str = "generic"
    options: Mapping[str, object] = field(default_factory=dict)
    answer: bool = False
    generate: Mapping[str, object] = field(default_factory=dict)

    def check(self) -> None:
        """See that the options can be meant, before a model is loaded.

        Raises:
            OptionError: one is not for a run, or something is asked that answers do not have.
            UnknownNameError: no such method.
        """
        from heedmap.methods.cards import CARDS

        if self.method not in (*CARDS, "auto"):
            raise UnknownNameError(f"no method {self.method!r}; known methods: {', '.join(CARDS)}, auto")
        if wrong := [name for name in LEFT_OUT if name in self.options]:
            raise OptionError(f"{wrong[0]} is no option of a run over a data set; use heedmap.explain on single rows")
        if self.answer and self.target is not None:
            raise OptionError("an answer is explained token by token, so it has no target; leave target out")
        if any(kind.__name__ == "Several" for kind in type(self.target).__mro__):  # without torch
            raise OptionError(
                f"{type(self.target).__name__} stands for several targets, and a run explains one of each row"
            )
        known = self.target is None or type(self.target).__module__.startswith("heedmap.targets")
        if not known and (isinstance(self.target, bool) or not isinstance(self.target, int | str)):
            raise OptionError(
                f"target is a {type(self.target).__name__}, of which no run can be told again; expected a class, its label, or "
                "one of heedmap.targets"
            )
        try:
            json.dumps(self.told())
        except (TypeError, ValueError, AttributeError, pickle.PicklingError) as error:
            raise OptionError(f"options of a run are plain data, and these are not ({error})") from error
        if self.generate and not self.answer:
            raise OptionError("generate is for answers in words; give answer=True too")

    def told(self) -> Told:
        """As plain data."""
        answer = {"generate": dict(self.generate)} if self.answer else None
        return {"target": _told(self.target), "method": self.method, "options": dict(self.options), "answer": answer}


@dataclass(frozen=True, eq=False)
class Job:
    """A run.

    Attributes:
        model: its name, or the model itself.
        device, dtype: as for :func:`heedmap.load`.
        source: the rows.
        out: the folder.
        run: digest of the configuration; empty before it is known.
        wanted: what is explained.
        part: rows of a part.
        batch: rows of one size that are explained at once, at most.
        memory: bytes that a batch may take beside the model, or ``"free"``; None: as :func:`heedmap.explain`.
    """

    model: str | Model
    device: str | None
    dtype: str | None
    source: RowSource
    out: Path
    wanted: Wanted
    part: int = PART
    batch: int = BATCH
    memory: int | str | None = None
    run: str = ""

    @property
    def parts(self) -> int:
        """Their number."""
        return -(-len(self.source) // self.part)

    def rows(self, number: int) -> range:
        """The rows of a part."""
        return range(number * self.part, min(len(self.source), (number + 1) * self.part))

    def load(self) -> Model:
        """The model."""
        if not isinstance(self.model, str):
            return self.model
        from heedmap.models import load

        return load(self.model, device=self.device, dtype=self.dtype)

    def config(self, subject: Model) -> JobConfig:
        """All on which the rows that come out depend, as plain JSON data."""
        from heedmap.evaluate.evaluation import fingerprint

        dtypes = {str(p.dtype).removeprefix("torch.") for p in subject.model.parameters() if p.is_floating_point()}
        weights = {"dtype": " and ".join(sorted(dtypes)), "weights": fingerprint(subject.model)}
        return {
            "heedmap": __version__,
            "model": {"name": subject.name, **weights},
            "data": dict(self.source.description),
            "rows": len(self.source),
            "part": self.part,
            "explained": self.wanted.told(),
        }


def _told(target: RowTarget) -> int | str | None:
    """A target as plain data; one that holds more than a word or a number also by a digest of all of it."""
    if target is None or isinstance(target, int | str):
        return target
    return f"{type(target).__name__} {sha256(pickle.dumps(target)).hexdigest()[:16]}"


def check_roles(source: RowSource, subject: Model, answer: bool) -> None:
    """See that the data have what the model takes, as far as it is known.

    Raises:
        InputError: they have not, or the model says no answers.
    """
    kind = subject.kind_row
    if answer and not kind.speaks:
        raise InputError(f"{subject.name} answers in no words: it gives {kind.about}; leave answer out")
    roles = {"text" if role == "text_pair" else role for role in source.roles}
    missing = [role for role in kind.needs if roles and role not in roles]
    if missing:
        raise InputError(
            f"{subject.name} takes {' and '.join(kind.needs)}, and the data have no {' and no '.join(missing)} (columns: "
            f"{', '.join(source.columns)}); say which column it is: columns={{'{missing[0]}': 'NAME'}}, "
            f"on the command line --file columns.{missing[0]}=NAME"
        )


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
        from heedmap.models.answers import alike

        window = AHEAD * self.job.batch
        for start in range(0, len(rows), window):
            items = [self.prepared(number) for number in rows[start : start + window]]
            readable = [item for item in items if not item.lines]
            for group in alike(readable, self.job.batch, lambda item: item.row.target):
                self._explain(group)
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
        from heedmap.models.answers import explained

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
