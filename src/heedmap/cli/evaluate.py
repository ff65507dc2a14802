"""``heedmap evaluate``: the experiments, one command each."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heedmap.cli.command import INTERRUPTED, command, fail, progress_bar
from heedmap.cli.options import (
    DataOptions,
    JsonOption,
    ModelOptions,
    SeedOption,
    check_methods,
    check_words,
    complete_data,
    complete_models,
    file_options,
    methods_option,
    word_option,
)
from heedmap.common.printable import SHELL, said_for

if TYPE_CHECKING:
    from heedmap.datasets.sample import Reader
    from heedmap.evaluate.evaluation import Evaluation
    from heedmap.models.model import Model

PRESETS, SEGMENTS, WAYS = (
    ("lxmert", "visualbert", "vit", "tenths"),
    ("text", "image", "boxes", "joint"),
    ("drop", "mask", "replace"),
)
PUTS = ("drop", "replace")
CUTS, TARGETS, JOINS = ("mean", "otsu"), ("top", "label", "found"), ("sum", "max")
CHECKS = ("smooth_randomisation", "complexity", "saco", "sensitivity", "agreement", "randomisation")
"""What options of one command may be: as the experiments know them, which import torch."""


@dataclass(frozen=True, kw_only=True)
class RationaleData(DataOptions):
    """A data set that has to be named."""

    data: Annotated[
        str,
        typer.Option(help="KIND:FOLDER of texts with rationales, such as eraser:movies.", autocompletion=complete_data),
    ] = field()


@dataclass(frozen=True, kw_only=True)
class ExperimentOptions:
    """What an experiment measures, and the folder of its run."""

    out: Annotated[Path, typer.Option(help="The run's folder; a run that was stopped in it goes on.")]
    source: DataOptions
    method: Annotated[list[str] | None, methods_option("fast and ablations")] = None
    samples: Annotated[int, typer.Option(min=1, help="So many samples, drawn by the seed.")] = 1000

    def __post_init__(self) -> None:
        check_methods(self.method or ())


@dataclass(frozen=True, kw_only=True)
class RationaleOptions(ExperimentOptions):
    """Those of ``heedmap evaluate rationales``."""

    source: RationaleData


FILLS = ("mask", "replace")
"""Ways to hide tokens, as the evaluations know them, which import torch."""
FillOption = Annotated[
    str,
    word_option(
        FILLS,
        "How tokens are taken away: mask hides them, replace puts a blurred picture or other samples' tokens there.",
        "--remove",
    ),
]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How an experiment runs."""

    seed: SeedOption = 0
    batch: Annotated[int, typer.Option("--batch", min=1, help="Samples that are explained at once.")] = 32
    model: ModelOptions
    as_json: JsonOption = False


TruthOption = Annotated[bool, typer.Option("--truth", help="Explain the right answer, not the model's own.")]


@command()
def perturbation(
    *,
    options: ExperimentOptions,
    preset: Annotated[
        str | None, word_option(PRESETS, "lxmert, visualbert, vit or tenths; by default what fits.")
    ] = None,
    segment: Annotated[
        list[str] | None,
        word_option(
            SEGMENTS, "text, image or boxes; joint: all of them in one order; several times; by default each there is."
        ),
    ] = None,
    remove: Annotated[
        str,
        word_option(
            WAYS,
            "drop takes tokens out, mask hides them, replace puts a blurred picture or other samples' tokens there.",
        ),
    ] = "drop",
    truth: TruthOption = False,
    run: RunOptions,
) -> None:
    """Take away what a map calls relevant, or irrelevant, and see what the model still knows."""
    check_words(preset=(preset, PRESETS), segment=(segment, SEGMENTS), remove=(remove, WAYS))
    reader = opened(options.source)
    from heedmap.evaluate.experiments.perturbation import Perturbation
    from heedmap.evaluate.masking import donors_of
    from heedmap.zoo.dataset import answered

    subject = run.model.load()
    samples = reader or answered(subject)
    donors = donors_of(samples, run.seed) if remove == "replace" else ()
    evaluation = Perturbation.of(subject, preset, segment or (), remove, truth, donors)
    _measure(evaluation, subject, samples, options, run)


@command(samples=100)
def fidelity(
    *,
    options: ExperimentOptions,
    tuned: Annotated[
        str,
        typer.Option(
            help="The same model, fine-tuned on random masks; of the zoo's: heedmap zoo train NAME --masked SHARE --out FOLDER.",
            autocompletion=complete_models,
        ),
    ],
    share: Annotated[
        float,
        typer.Option(min=0.01, max=0.99, help="Of the tokens, which it learned to do without; no more are masked."),
    ] = 0.1,
    draws: Annotated[int, typer.Option(min=1, help="Of the masks; figures are means over them.")] = 4,
    truth: TruthOption = False,
    run: RunOptions,
) -> None:
    """Mask some of what a map calls relevant, or irrelevant, and ask a copy that can do without some tokens (F-Fidelity)."""
    from dataclasses import replace

    second = replace(run.model, model=tuned)
    reader = opened(options.source)
    from heedmap.evaluate.experiments.fidelity import Fidelity
    from heedmap.zoo.dataset import masked

    subject = run.model.load()
    evaluation = Fidelity(second.load(), share, draws=draws, truth=truth)
    _measure(evaluation, subject, reader or masked(subject), options, run)


@command()
def segmentation(
    *,
    options: ExperimentOptions,
    threshold: Annotated[str, word_option(CUTS, "mean (the authors') or otsu: where a map is cut.")] = "mean",
    target: Annotated[
        str | None,
        word_option(TARGETS, "top: the model's own label; label: the true one; found: all that are true and found."),
    ] = None,
    run: RunOptions,
) -> None:
    """Lay a classifier's maps on the pixels that its label is about."""
    check_words(threshold=(threshold, CUTS), target=(target, TARGETS))
    reader = opened(options.source)
    from heedmap.evaluate.experiments.segmentation import Segmentation
    from heedmap.zoo.dataset import shown

    evaluation = Segmentation(threshold, target or ("found" if reader is None else "top"))
    subject = run.model.load()
    _measure(evaluation, subject, reader or shown(subject), options, run)


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
    reader = opened(options.source)
    from heedmap.evaluate.experiments.detection import Detection
    from heedmap.zoo.dataset import shown

    evaluation = Detection(threshold)
    subject = run.model.load()
    _measure(evaluation, subject, reader or shown(subject), options, run)


@command(batch=8)
def rationales(
    *,
    options: RationaleOptions,
    join: Annotated[str, word_option(JOINS, "sum or max: what a word's relevance is of its tokens'.")] = "sum",
    remove: Annotated[
        str, word_option(PUTS, "drop takes words out, replace puts those of other samples there.")
    ] = "drop",
    label: Annotated[
        list[str] | None,
        typer.Option(help="LABEL=INDEX: the model's class for a label of the data, if named otherwise."),
    ] = None,
    truth: TruthOption = False,
    run: RunOptions,
) -> None:
    """Compare a text classifier's maps with the words that people gave as reasons."""
    check_words(join=(join, JOINS), remove=(remove, PUTS))
    classes = _classes(label or [])
    reader = opened(options.source)
    assert reader is not None, "--data has to be given"
    from heedmap.evaluate.experiments.rationales import Rationales
    from heedmap.evaluate.masking import donors_of

    donors = donors_of(reader, run.seed) if remove == "replace" else ()
    evaluation = Rationales(join=join, truth=truth, classes=classes, remove=remove, donors=donors)
    _measure(evaluation, run.model.load(), reader, options, run)


@command(samples=64, batch=16)
def sanity(
    *,
    options: ExperimentOptions,
    check: Annotated[
        list[str] | None,
        word_option(
            CHECKS,
            "smooth_randomisation, complexity, saco, sensitivity, agreement: the default; randomisation; several times.",
        ),
    ] = None,
    remove: FillOption = "mask",
    run: RunOptions,
) -> None:
    """Ask whether maps depend on the model, say what it does, stay the same under noise, and agree."""
    check_words(check=(check, CHECKS), remove=(remove, FILLS))
    reader = opened(options.source)
    from heedmap.evaluate.experiments.sanity import PARTS, Sanity
    from heedmap.evaluate.masking import donors_of
    from heedmap.zoo.dataset import plain

    subject = run.model.load()
    samples = reader or plain(subject)
    donors = donors_of(samples, run.seed) if remove == "replace" else ()
    evaluation = Sanity(tuple(check or PARTS), remove=remove, donors=donors)
    _measure(evaluation, subject, samples, options, run)


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


def opened(source: DataOptions) -> Reader | None:
    """The data set that was named; None: none was.

    Raises:
        typer.BadParameter: not KIND:FOLDER, or not NAME=VALUE.
        HeedmapError: see :func:`heedmap.datasets.opening.open_data`.
    """
    options = file_options(source.file)
    if source.data is None:
        if options:
            raise typer.BadParameter("it is a part of a data set; give --data too", param_hint="--file")
        return None
    kind, colon, folder = source.data.partition(":")
    if not colon or not folder:
        raise typer.BadParameter(f"{source.data!r} is not KIND:FOLDER", param_hint="--data")
    from heedmap.datasets.opening import open_data

    return open_data(kind, folder, **options)


def _measure(
    evaluation: Evaluation, subject: Model, reader: Reader, options: ExperimentOptions, run: RunOptions
) -> None:
    """Run the evaluation into ``options.out`` and print what it found."""
    from heedmap.evaluate.evaluation import EvaluationPlan, contenders, crossed
    from heedmap.evaluate.evaluation import run as measured

    out, samples = options.out, options.samples
    chosen = contenders(options.method or (), crossed(subject, reader), "image" in subject.kind_row.takes)
    plan = EvaluationPlan(evaluation, subject, reader, chosen, samples, run.seed, run.batch)
    total = min(samples, len(reader))
    try:
        with progress_bar() as progress:
            task = progress.add_task(f"{evaluation.name} of {subject.name}", total=total)
            summary = measured(plan, out, lambda count: progress.advance(task, count))
    except KeyboardInterrupt:
        fail(f"interrupted; nothing is lost: the same command goes on in {out}", INTERRUPTED)
    if run.as_json:
        typer.echo(json.dumps(summary, indent=1))
        return
    from rich.console import Console

    from heedmap.evaluate.report import notes, tables

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    for table in tables(summary, console.width):
        console.print(table)
    for line in notes(summary):
        typer.echo(said_for(SHELL, line))
    typer.echo(f"wrote {out / 'report.html'}, summary.json, rows and curves beside it")
