"""``heedmap run``: a whole data set, explained into a folder of Parquet files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heedmap.cli.command import INTERRUPTED, USER_ERROR, command, fail, importing, open_file, progress_bar, quiet, tell
from heedmap.cli.inputs import parse_target
from heedmap.cli.options import (
    DataOptions,
    DryRunOption,
    JsonOption,
    MapOptions,
    MemoryOption,
    ModelOptions,
    OpenOption,
    complete_sources,
    file_options,
    generation,
)

if TYPE_CHECKING:
    from heedmap.datasets.rows import RowSource
    from heedmap.scale.opened import Run
    from heedmap.scale.run import RunPlan

TOLD = 10
"""Rows that could not be explained, of which the command tells."""
_worker_option = partial(typer.Option, rich_help_panel="Workers")


@dataclass(frozen=True, kw_only=True)
class RunData(DataOptions):
    """The data set, which has to be named."""

    data: Annotated[
        str,
        typer.Option(
            help="A path, or KIND:PATH: Parquet, JSON lines, WebDataset tar, a saved Hugging Face data set, a folder of "
            "pictures, or a kind of `heedmap evaluate`.",
            autocompletion=complete_sources,
        ),
    ] = field()


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """Who works, and in which portions."""

    workers: Annotated[
        int | None, _worker_option(min=0, help="Processes of Ray, a model in each; 0: this process alone.")
    ] = None
    address: Annotated[str | None, _worker_option(help="Of a Ray cluster: HOST:PORT, or auto.")] = None
    batch: Annotated[int, _worker_option(min=1, help="Rows of one size that are explained at once.")] = 8
    part: Annotated[int, _worker_option(min=1, help="Rows of a file.")] = 256
    memory: MemoryOption = None


@command()
def run(
    *,
    source: RunData,
    out: Annotated[Path, typer.Option(help="The run's folder; a run that was stopped in it goes on.")],
    wanted: MapOptions,
    answer: Annotated[bool, typer.Option("--answer", help="Explain answers in words, token by token.")] = False,
    generate: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE for transformers' generate, such as max_new_tokens=20. Several times."),
    ] = None,
    model: ModelOptions,
    workers: WorkerOptions,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    show: OpenOption = False,
) -> None:
    """Explain every row of a data set into Parquet files, by several processes or machines if need be."""
    from heedmap.datasets.opening import open_source

    wanted.check()
    options: dict[str, object] = {
        "target": parse_target(wanted.target),
        "method": wanted.method,
        "answer": answer,
        "generate": generation(generate),
        "device": model.device,
        "dtype": model.dtype,
        **vars(workers),
        **wanted.settings,
    }
    data = open_source(source.data, **file_options(source.file))
    with importing():
        quiet(bars=True)
    if dry_run:
        from heedmap.scale.run import plan_run

        plans: Callable[..., RunPlan] = plan_run  # which checks the options itself
        plan = plans(model.model, data, **options)
        typer.echo(json.dumps(asdict(plan)) if as_json else str(plan))
        return
    found = _run(model.model, data, out, options)
    bad = found.errors
    if as_json:
        typer.echo((out / "manifest.json").read_text(encoding="utf-8").rstrip())
    else:
        typer.echo(f"wrote {len(found) - len(bad)} explanations to {out}; report.html shows some of them")
    if show:
        open_file(out / "report.html")
    if bad:
        told = [f"  row {row}: {why}" for row, why in islice(bad.items(), TOLD)]
        more = [f"  and {len(bad) - TOLD} more; heedmap.open_run(folder).errors has all"] if len(bad) > TOLD else []
        fail("\n".join((f"{len(bad)} of {len(found)} rows could not be explained:", *told, *more)), USER_ERROR)


def _run(model: str, data: RowSource, out: Path, options: Mapping[str, object]) -> Run:
    """The run, with a bar of it."""
    from heedmap.scale.run import run

    explain: Callable[..., Run] = run  # which checks the options itself
    try:
        with progress_bar() as bar:
            task = bar.add_task(f"explaining by {model}", total=None)
            return explain(
                model,
                data,
                out,
                progress=lambda done, of: bar.update(task, completed=done, total=of),
                tell=tell,
                **options,
            )
    except KeyboardInterrupt:
        fail(f"interrupted; nothing is lost: the same command goes on in {out}", INTERRUPTED)
        raise
