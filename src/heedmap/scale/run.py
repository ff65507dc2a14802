"""A whole data set, explained into a folder; and what that would take, told by its first rows before anything is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from heedmap.common.memory import memory_bytes
from heedmap.common.progress import Progress
from heedmap.errors import FileFormatError, InputError, OptionError
from heedmap.scale.folder import REPORT, MadePart, ShardFolder, arrow
from heedmap.scale.opened import Run, open_run
from heedmap.scale.worker import (
    AHEAD,
    BATCH,
    PART,
    Job,
    RowTarget,
    Wanted,
    Worker,
    WorkItem,
    check_roles,
    first_that_works,
)

if TYPE_CHECKING:
    from heedmap.datasets.rows import RowSource
    from heedmap.engine.planning import Plan
    from heedmap.models.model import Model

TRIED = 32
"""Rows that are tried before a run begins, until one can be explained."""

Tell = Callable[[str], None]


def run(
    model: str | os.PathLike[str] | Model,
    data: str | os.PathLike[str] | RowSource,
    out: str | os.PathLike[str],
    *,
    target: RowTarget = None,
    method: str = "generic",
    answer: bool = False,
    generate: Mapping[str, object] | None = None,
    files: Mapping[str, object] | None = None,
    device: str | None = None,
    dtype: str | None = None,
    workers: int | None = None,
    address: str | None = None,
    batch: int = BATCH,
    part: int = PART,
    memory: int | str | None = None,
    page: bool = True,
    progress: Progress = lambda done, of: None,
    tell: Tell = lambda words: None,
    **options: object,
) -> Run:
    """Explain every row of a data set into a folder of Parquet files.

    Where a run of the same data, model and method was stopped in the folder, whatever stopped it, this goes on: the rows are
    those of a run that was never stopped, each once. A row that cannot be explained is kept with the reason.

    Args:
        model: its name or path, as for :func:`heedmap.load`, or a loaded ``heedmap.Model``.
        data: a path, or ``KIND:PATH``: Parquet, JSON lines, WebDataset tar, what ``save_to_disk`` of the library ``datasets``
            wrote, a folder of pictures, or a kind of ``heedmap evaluate``. Columns (or fields) are ``text`` (a string or a pair),
            ``text_pair``, ``image``, ``boxes``, ``audio``, ``target`` (a class), ``answer`` and ``id``; other columns do not
            matter.
        out: the folder.
        target: as for :func:`heedmap.explain`, of rows that have none of their own.
        method: key of ``heedmap.METHODS``, or ``"auto"``.
        answer: explain answers in words, token by token, as :func:`heedmap.explain_answer` does.
        generate: for transformers' ``generate``, of answers.
        files: of the data: ``columns``, role → name where they differ; ``split``; or what else the kind takes.
        device: as for :func:`heedmap.load`.
        dtype: as there.
        workers: processes of Ray, each with a model of its own; 0: none, all is done in this process. None: 0, or with an
            address as many as the cluster has places for.
        address: of a Ray cluster, HOST:PORT or ``"auto"``, whose machines see the same files; None: this machine.
        batch: rows of one size that are explained at once, at most.
        part: rows of a file: what is made again at most where a worker is killed.
        memory: bytes that a batch may take beside the model, such as ``"4GB"``, or ``"free"``: a batch that would take more is
            halved; None: as :func:`heedmap.explain`.
        page: also draw the most and the least certain rows on ``report.html``.
        progress: called with the rows that are done, and their number.
        tell: called with what is worth telling a person.
        options: the method's own, and ``mixers``.

    Returns:
        The run, as :func:`heedmap.open_run` opens it.

    Raises:
        OptionError: the folder is of another run (the message has the differences), or an option cannot be meant.
        InputError: the data lack what the model takes, or none of the first rows can be explained.
        OutputError: the folder cannot be written, or another process is writing it.
        ClusterError: the cluster cannot be reached.
        HeedmapError: as for :func:`heedmap.load`.

    Examples:
        >>> import heedmap, json, pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> lists = ["dog red ; cat blue ? cat", "sun green ? sun"]
        >>> _ = (folder / "lists.jsonl").write_text("\\n".join(json.dumps({"text": text}) for text in lists))
        >>> found = heedmap.run("zoo/gpt-lists", folder / "lists.jsonl", folder / "maps")
        >>> found
        Run(zoo/gpt-lists by generic, 2 rows)
        >>> found[1].prediction_labels
        ('green',)
    """
    arrow()
    if part < 1 or batch < 1 or (workers is not None and workers < 0):
        raise OptionError(f"part={part}, batch={batch}, workers={workers}; expected 1 or more, and 0 or more workers")
    wanted = Wanted(target, method, options, answer, generate or {})
    wanted.check()
    memory = memory_bytes(memory)
    source = _source(data, files or {})
    folder = ShardFolder(Path(out))
    name = os.fspath(model) if isinstance(model, str | os.PathLike) else model
    with folder.locked():
        folder.config()  # another thing's folder is refused before a model is loaded
        job = Job(name, device, dtype, source, folder.path, wanted, part, batch, memory)
        elsewhere = bool(workers) or address is not None
        running = _Running(job, folder, elsewhere, progress, tell)
        running.make(running.known(), workers, address)
        running.conclude(page)
    return open_run(folder.path)


class _Running:
    """A run at work, in a folder that is held."""

    def __init__(self, job: Job, folder: ShardFolder, elsewhere: bool, progress: Progress, tell: Tell) -> None:
        self.folder, self.progress, self.tell = folder, progress, tell
        self.worker = Worker(replace(job, device=None) if elsewhere else job)  # a GPU is the workers'
        check_roles(job.source, self.worker.subject, job.wanted.answer)
        config = job.config(self.worker.subject)
        if folder.config() is None:
            first_that_works(self.worker, TRIED)
        folder.begin(config)
        folder.clean()
        self.job = replace(job, run=folder.digest())
        if not elsewhere:
            self.worker.job = self.job
        self.parts: dict[int, MadePart] = {}

    def known(self) -> list[int]:
        """Learn which parts are there, and return those that are not."""
        lacking = []
        for number in range(self.job.parts):
            try:
                part = self.folder.part(number, self.job.run)
            except FileFormatError as error:
                self.tell(f"{error}; it is made again")
                part = None
            if part is None:
                lacking.append(number)
            else:
                self.parts[number] = part
        return lacking

    def make(self, lacking: Sequence[int], workers: int | None, address: str | None) -> None:
        """Make the parts that lack."""
        done = sum(part.rows for part in self.parts.values())
        self.progress(done, len(self.job.source))
        for part in self._made(lacking, workers, address) if lacking else ():
            self.parts[part.part] = part
            done += part.rows
            self.progress(done, len(self.job.source))

    def _made(self, lacking: Sequence[int], workers: int | None, address: str | None) -> Iterator[MadePart]:
        if self.worker.job is self.job:
            return map(self.worker.make, lacking)
        from heedmap.scale.cluster import made_by_workers

        return made_by_workers(self.job, lacking, workers, address)

    def conclude(self, page: bool) -> None:
        """Write which parts there are, and the page."""
        parts = [self.parts[number] for number in sorted(self.parts)]
        self.folder.write_manifest(parts, len(self.job.source), self.job.parts)
        if page:
            from heedmap.scale.page import run_page

            drawn = run_page(open_run(self.folder.path), self.job.source, self.worker.subject)
            self.folder.write_file(REPORT, drawn.encode())


def _source(data: str | os.PathLike[str] | RowSource, files: Mapping[str, object]) -> RowSource:
    if isinstance(data, str | os.PathLike):
        from heedmap.datasets.opening import open_source

        return open_source(os.fspath(data), **files)
    if not hasattr(data, "description") or not hasattr(data, "__getitem__"):
        raise InputError(f"data is a {type(data).__name__}; expected a path, or KIND:PATH")
    return data


@dataclass(frozen=True)
class RunPlan:
    """What a run would take.

    Attributes:
        plan: of a batch of its first rows, those of the size that most of them have.
        rows: of the data set.
        batch: rows that are explained at once: as many as were asked for, if the memory suffices.
        parts: files that are written.
        workers: processes that share the rows.
        seconds: an estimate for all rows, by this machine's speed; None: not known.
    """

    plan: Plan
    rows: int
    batch: int
    parts: int
    workers: int
    seconds: float | None

    def __str__(self) -> str:
        from heedmap.engine.planning import told_seconds

        files = "file" if self.parts == 1 else "files"
        lines = [
            f"run      {self.rows} rows in {self.parts} {files}, {self.batch} at once, as far as they are of one size"
        ]
        if self.seconds is not None:
            shared = f" by {self.workers} workers, if each is as fast as this process" if self.workers > 1 else ""
            lines.append(
                f"         about {told_seconds(self.seconds)} for all{shared}; reading and writing are not counted"
            )
        return "\n".join((*lines, "a batch of the first rows:", str(self.plan)))


def plan_run(
    model: str | Model,
    source: RowSource,
    *,
    target: RowTarget = None,
    method: str = "generic",
    answer: bool = False,
    generate: Mapping[str, object] | None = None,
    device: str | None = None,
    dtype: str | None = None,
    workers: int | None = None,
    address: str | None = None,
    batch: int = BATCH,
    part: int = PART,
    memory: int | str | None = None,
    **options: object,
) -> RunPlan:
    """What :func:`heedmap.run` of the same would take.

    Args:
        model: as there, and so all others but these.
        source: the rows.
        address: not asked.

    Raises:
        OptionError: of answers in words, whose length is not known before; or the memory does not suffice for one row.
        InputError: none of the first rows can be read.
        HeedmapError: as there.
    """
    wanted = Wanted(target, method, options, answer, generate or {})
    wanted.check()
    if answer:
        raise OptionError(
            "answers in words are as long as the model makes them, so their cost is not known; leave answer out"
        )
    job = Job(model, device, dtype, source, Path(), wanted, part, batch, memory_bytes(memory))
    worker = Worker(job)
    check_roles(source, worker.subject, answer)
    plan, at_once = _fitting(worker, _first(worker))
    count = max(1, workers or 1)
    whole = None if plan.seconds is None else plan.seconds * -(-len(source) // at_once) / count
    return RunPlan(plan, len(source), at_once, job.parts, count, whole)


def _first(worker: Worker) -> Sequence[WorkItem]:
    """A batch of the first rows that can be read, of the size that most of them have."""
    from heedmap.models.answers import alike

    job = worker.job
    items = [worker.prepared(number) for number in range(min(len(job.source), AHEAD * job.batch))]
    readable = [item for item in items if not item.lines]
    if not readable:
        why = items[0].lines[0]["error"] if items else "there are none"
        raise InputError(f"none of the first {len(items)} rows can be read: {why}")
    return max(alike(readable, job.batch, lambda item: item.row.target), key=len)


def _fitting(worker: Worker, group: Sequence[WorkItem]) -> tuple[Plan, int]:
    """The plan of so many rows as the memory suffices for, halved as a run does it."""
    from heedmap.engine.explain import plan
    from heedmap.models.answers import together

    wanted, memory = worker.job.wanted, worker.job.memory
    target = wanted.target if group[0].row.target is None else group[0].row.target
    inputs = together([item.tensors for item in group])
    planned: Callable[..., Plan] = plan  # which sees to the options itself
    try:
        found = planned(worker.subject, inputs, target=target, method=wanted.method, memory=memory, **wanted.options)
    except OptionError:
        if len(group) == 1:
            raise
        return _fitting(worker, group[: len(group) // 2])
    return found, len(group)
