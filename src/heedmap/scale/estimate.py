"""What a run over a data set would take, told by its first rows before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heedmap.common.memory import memory_bytes
from heedmap.errors import InputError, OptionError
from heedmap.scale.job import BATCH, PART, Job, RowTarget, Wanted, check_roles
from heedmap.scale.worker import AHEAD, Worker, WorkItem

if TYPE_CHECKING:
    from heedmap.datasets.rows import RowSource
    from heedmap.engine.planning import Plan
    from heedmap.models.model import Model


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
        model: as there, and so on for all others.
        source: the rows.
        target: as there.
        method: as there.
        answer: as there.
        generate: as there.
        device: as there.
        dtype: as there.
        workers: as there.
        address: as there; not asked.
        batch: as there.
        part: as there.
        memory: as there.
        options: as there.

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
    from heedmap.models.batching import alike

    job = worker.job
    items = [worker.prepared(number) for number in range(min(len(job.source), AHEAD * job.batch))]
    readable = [item for item in items if not item.lines]
    if not readable:
        why = items[0].lines[0]["error"] if items else "there are none"
        raise InputError(f"none of the first {len(items)} rows can be read: {why}")
    return max(alike(readable, job.batch, lambda item: item.row.target), key=len)


def _fitting(worker: Worker, group: Sequence[WorkItem]) -> tuple[Plan, int]:
    """The plan of so many rows as the memory suffices for, halved as a run does it."""
    from heedmap.engine.dry_run import plan
    from heedmap.models.batching import together

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
