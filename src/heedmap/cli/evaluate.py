"""``heedmap evaluate``: the experiments, one command each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heedmap.advice import SHELL, said_for
from heedmap.cli.command import INTERRUPTED, command, fail, progress_bar
from heedmap.cli.completion import choices
from heedmap.cli.options import ExperimentOptions, RationaleOptions, RunOptions, file_options
from heedmap.errors import InputError, UnknownNameError
from heedmap.methods.cards import CARDS
from heedmap.printable import closest

if TYPE_CHECKING:
    from heedmap.datasets.sample import Reader
    from heedmap.evaluate.harness.protocol import Evaluation
    from heedmap.models.model import Model

GROUPS = ("fast", "ablations", "all")
"""Names of several methods at once."""
TruthOption = Annotated[bool, typer.Option("--truth", help="Explain the right answer, not the model's own.")]


@command()
def perturbation(
    *,
    options: ExperimentOptions,
    preset: Annotated[
        str | None,
        typer.Option(
            help="lxmert, visualbert, vit or tenths; by default what fits.",
            autocompletion=choices("lxmert", "visualbert", "vit", "tenths"),
        ),
    ] = None,
    segment: Annotated[
        list[str] | None,
        typer.Option(
            help="text, image or boxes; several times; by default all there are.",
            autocompletion=choices("text", "image", "boxes"),
        ),
    ] = None,
    remove: Annotated[
        str, typer.Option(help="drop takes tokens out, mask hides them.", autocompletion=choices("drop", "mask"))
    ] = "drop",
    truth: TruthOption = False,
    run: RunOptions,
) -> None:
    """Take away what a map calls relevant, or irrelevant, and see what the model still knows."""
    _check(options, run)
    from heedmap.evaluate.experiments.perturbation import Perturbation
    from heedmap.zoo.dataset import answered

    subject = run.model.load()
    _measure(Perturbation.of(subject, preset, segment or (), remove, truth), subject, options, run, answered)


@command()
def segmentation(
    *,
    options: ExperimentOptions,
    threshold: Annotated[
        str,
        typer.Option(help="mean (the authors') or otsu: where a map is cut.", autocompletion=choices("mean", "otsu")),
    ] = "mean",
    target: Annotated[
        str | None,
        typer.Option(
            help="top: the model's own label; label: the true one; found: all that are true and found.",
            autocompletion=choices("top", "label", "found"),
        ),
    ] = None,
    run: RunOptions,
) -> None:
    """Lay a classifier's maps on the pixels that its label is about."""
    _check(options, run)
    from heedmap.evaluate.experiments.segmentation import Segmentation
    from heedmap.zoo.dataset import shown

    subject = run.model.load()
    evaluation = Segmentation(threshold, target or ("found" if options.source.data is None else "top"))
    _measure(evaluation, subject, options, run, shown)


@command(batch=16)
def detection(
    *,
    options: ExperimentOptions,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Queries of a more probable class are explained.")
    ] = 0.5,
    run: RunOptions,
) -> None:
    """Cut a detector's maps to masks, and score them as COCO scores segmentations."""
    _check(options, run)
    from heedmap.evaluate.experiments.detection import Detection
    from heedmap.zoo.dataset import shown

    _measure(Detection(threshold), run.model.load(), options, run, shown)


@command(batch=8)
def rationales(
    *,
    options: RationaleOptions,
    join: Annotated[
        str,
        typer.Option(
            help="sum or max: what a word's relevance is of its tokens'.", autocompletion=choices("sum", "max")
        ),
    ] = "sum",
    label: Annotated[
        list[str] | None,
        typer.Option(help="LABEL=INDEX: the model's class for a label of the data, if named otherwise."),
    ] = None,
    truth: TruthOption = False,
    run: RunOptions,
) -> None:
    """Compare a text classifier's maps with the words that people gave as reasons."""
    _check(options, run)
    from heedmap.evaluate.experiments.rationales import Rationales

    subject = run.model.load()
    _measure(Rationales(join=join, truth=truth, classes=_classes(label or [])), subject, options, run)


@command(samples=64, batch=16)
def sanity(
    *,
    options: ExperimentOptions,
    check: Annotated[
        list[str] | None,
        typer.Option(
            help="randomisation, saco, sensitivity or agreement; several times; by default all.",
            autocompletion=choices("randomisation", "saco", "sensitivity", "agreement"),
        ),
    ] = None,
    run: RunOptions,
) -> None:
    """Ask whether maps depend on the model, say what it does, stay the same under noise, and agree."""
    _check(options, run)
    from heedmap.evaluate.experiments.sanity import PARTS, Sanity
    from heedmap.zoo.dataset import plain

    subject = run.model.load()
    _measure(Sanity(tuple(check or PARTS)), subject, options, run, plain)


def _check(options: ExperimentOptions, run: RunOptions) -> None:
    """See that there are such a model, data set and methods, before torch is imported."""
    run.model.check()
    if options.source.data is not None:
        check_data(options.source.data)
    file_options(options.source.file)
    for text in options.method or ():
        name = text.partition(":")[0]
        if name not in (*CARDS, *GROUPS):
            raise UnknownNameError(f"no method {name!r}{closest(name, CARDS)}; known methods: {', '.join(CARDS)}")


def _measure(
    evaluation: Evaluation,
    subject: Model,
    options: ExperimentOptions,
    run: RunOptions,
    zoo: Callable[[Any], Reader] | None = None,
) -> None:
    """Run the evaluation on the data set, or else on the samples of the zoo that ``zoo`` gives."""
    reader = opened(options.source.data, options.source.file, None if zoo is None else lambda: zoo(subject))
    conclude(
        evaluation, subject, reader, options.method, options.samples, run.seed, run.batch, options.out, run.as_json
    )


def _classes(pairs: list[str]) -> dict[str, int]:
    classes = {}
    for pair in pairs:
        label, _, index = pair.rpartition("=")
        if not label or not index.isdecimal():
            raise typer.BadParameter(f"{pair!r} is not LABEL=INDEX", param_hint="--label")
        classes[label] = int(index)
    return classes


WIDE = 160
"""Columns of a table that no terminal shows."""


def opened(data: str | None, files: list[str] | None, zoo: Callable[[], Reader] | None = None) -> Reader:
    """The data set that was named, or else the zoo's own samples.

    Raises:
        typer.BadParameter: not KIND:FOLDER, or not NAME=VALUE.
    """
    options = file_options(files)
    if data is None and zoo is not None:
        if options:
            raise typer.BadParameter("it is a part of a data set; give --data too", param_hint="--file")
        return zoo()
    kind, folder = check_data(data)
    from heedmap.datasets.opening import open_data

    return open_data(kind, folder, **options)


def check_data(data: str | None) -> tuple[str, str]:
    """Kind and folder of ``--data``, which are there.

    Raises:
        typer.BadParameter: not KIND:FOLDER.
        UnknownNameError: no such kind.
        InputError: there is nothing of this name.
    """
    from heedmap.datasets.opening import READERS

    kind, colon, folder = (data or "").partition(":")
    if not colon or not folder:
        raise typer.BadParameter(f"{data!r} is not KIND:FOLDER", param_hint="--data")
    if kind not in READERS:
        raise UnknownNameError(f"there is no kind of data set {kind!r}; known are {', '.join(READERS)}")
    if not Path(folder).exists():
        raise InputError(f"there is no folder {folder}; give --data KIND:FOLDER with the folder of the data set")
    return kind, folder


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

    from heedmap.evaluate.harness.page import notes, tables

    console = Console(highlight=False)
    width = console.width if console.is_terminal else WIDE
    for table in tables(summary, width):
        console.print(table, width=width)
    for line in notes(summary):
        console.print(said_for(SHELL, line), soft_wrap=True, markup=False)
    console.print(f"wrote {out / 'report.html'}, summary.json, rows and curves beside it", soft_wrap=True, markup=False)
