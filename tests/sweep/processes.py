"""The subjects one by one in processes of their own, bounded in time and memory, so that none can end the sweep."""

from __future__ import annotations

import multiprocessing
import os
import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

SECONDS, GIBIBYTES, TOGETHER = 180, 8, 100
"""What one subject may take of time and address space; how many share a process."""

Row = dict[str, Any]


class Subject(NamedTuple):
    """A class of a family (transformers), or a model of an architecture group (the other libraries)."""

    library: str
    family: str
    name: str

    def row(self) -> Row:
        """The beginning of its line."""
        return {"library": self.library, "family": self.family, "class": self.name}


Judge = Callable[[Subject], Row]


def swept(subjects: Sequence[Subject], judge: Judge, seconds: float = SECONDS) -> Iterator[Row]:
    """A line for each subject."""
    import captum.attr  # noqa: F401  # once, before the processes fork
    import transformers  # noqa: F401

    left = list(subjects)
    while left:
        done = 0
        for row in _of_process(left[:TOGETHER], judge, seconds):
            yield row
            done += 1
        left = left[done:]


def _of_process(subjects: Sequence[Subject], judge: Judge, seconds: float) -> Iterator[Row]:
    """Lines of one process: all of ``subjects``, or as many as come before it dies or one takes too long."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    worker = context.Process(target=_work, args=(subjects, judge, there), daemon=True)
    worker.start()
    there.close()
    try:
        for subject in subjects:
            if not here.poll(seconds):
                yield {**subject.row(), "verdict": "timeout", "cause": f"over {seconds:g} s"}
                return
            try:
                yield here.recv()
            except EOFError:
                worker.join()
                yield {**subject.row(), "verdict": "died", "cause": f"exit code {worker.exitcode}"}
                return
    finally:
        worker.kill()
        worker.join()
        here.close()


def _work(subjects: Sequence[Subject], judge: Judge, there: Connection) -> None:
    """In the process: each subject, and its line sent back."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    resource.setrlimit(resource.RLIMIT_AS, (GIBIBYTES << 30, resource.RLIM_INFINITY))
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        for subject in subjects:
            try:
                row = judge(subject)
            except Exception as error:
                row = {**subject.row(), "verdict": "not built", "cause": f"sweep: {error!r:.200}"}
            there.send(row)
