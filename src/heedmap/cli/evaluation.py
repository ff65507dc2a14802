"""What the commands of ``heedmap evaluate`` do: open the data, run, and tell what came out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from heedmap.cli.command import INTERRUPTED, fail, progress_bar

if TYPE_CHECKING:
    from heedmap.datasets.sample import Reader
    from heedmap.evaluate.harness.protocol import Evaluation
    from heedmap.models.model import Model

WIDE = 160
"""Columns of a table that no terminal shows."""


def opened(data: str | None, files: list[str] | None, own: Callable[[], Reader] | None = None) -> Reader:
    """The data set that was named, or else the zoo's own samples.

    Raises:
        typer.BadParameter: not KIND:FOLDER, or not NAME=VALUE.
    """
    options: dict[str, Any] = {}
    for one in files or []:
        name, _, value = one.partition("=")
        if not name or not value:
            raise typer.BadParameter(f"{one!r} is not NAME=VALUE", param_hint="--file")
        name, _, inner = name.partition(".")
        options[name] = {**options.get(name, {}), inner: value} if inner else value
    if data is None and own is not None:
        if options:
            raise typer.BadParameter("it is a part of a data set; give --data too", param_hint="--file")
        return own()
    kind, colon, folder = (data or "").partition(":")
    if not colon or not folder:
        raise typer.BadParameter(f"{data!r} is not KIND:FOLDER", param_hint="--data")
    from heedmap.datasets.opening import open_data

    return open_data(kind, folder, **options)


def conclude(
    evaluation: Evaluation,
    subject: Model,
    reader: Reader,
    methods: list[str] | None,
    samples: int,
    seed: int,
    part: int,
    out: Path,
    as_json: bool,
) -> None:
    """Run the evaluation into ``out`` and print what it found."""
    from heedmap.evaluate.harness.protocol import contenders, crossed
    from heedmap.evaluate.harness.run import Plan, run

    chosen = contenders(methods or (), crossed(subject, reader))
    plan = Plan(evaluation, subject, reader, chosen, samples, seed, part)
    total = min(samples, len(reader))
    try:
        with progress_bar() as progress:
            task = progress.add_task(f"{evaluation.name} of {subject.name}", total=total)
            summary = run(plan, out, lambda count: progress.advance(task, count))
    except KeyboardInterrupt:
        fail(f"interrupted; nothing is lost: the same command goes on in {out}", INTERRUPTED)
    if as_json:
        typer.echo(json.dumps(summary, indent=1))
        return
    from rich.console import Console

    from heedmap.evaluate.harness.page import leaderboard, notes

    console = Console(highlight=False)
    console.print(leaderboard(summary), width=None if console.is_terminal else WIDE)
    for line in notes(summary):
        console.print(line, soft_wrap=True, markup=False)
    console.print(f"wrote {out / 'report.html'}, summary.json, rows and curves beside it", soft_wrap=True, markup=False)
