"""``heedmap evaluate``: the experiments, one command each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heedmap.cli import completion
from heedmap.cli.arguments import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelArgument,
    SeedOption,
    load_model,
    methods_option,
)
from heedmap.cli.completion import choices
from heedmap.cli.evaluation import conclude, opened
from heedmap.cli.examples import examples
from heedmap.cli.exit_codes import guarded

evaluate = typer.Typer(help="Measure how well maps predict what a model does.", no_args_is_help=True)

OutOption = Annotated[Path, typer.Option(help="The run's folder; a run that was stopped in it goes on.")]
DataOption = Annotated[
    str | None,
    typer.Option(
        help="KIND:FOLDER of a data set; for a model of the zoo by default its own world.",
        autocompletion=completion.data,
    ),
]
MethodsOption = Annotated[list[str] | None, methods_option("fast and ablations")]
FileOption = Annotated[
    list[str] | None,
    typer.Option("--file", help="NAME=VALUE: its split, a part of it that is elsewhere, columns.ROLE=NAME."),
]
SamplesOption = Annotated[int, typer.Option(min=1, help="So many samples, drawn by the seed.")]
PartOption = Annotated[int, typer.Option("--batch", min=1, help="Samples that are explained at once.")]
TruthOption = Annotated[bool, typer.Option("--truth", help="Explain the right answer, not the model's own.")]


@evaluate.command(
    epilog=examples(
        "heedmap evaluate perturbation zoo/visualbert-shapes --out run --samples 2",
        "heedmap evaluate perturbation MODEL --data vqa:vqa2 --out run",
    )
)
@guarded
def perturbation(
    context: typer.Context,
    model: ModelArgument,
    out: OutOption,
    data: DataOption = None,
    file: FileOption = None,
    method: MethodsOption = None,
    samples: SamplesOption = 1000,
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
    seed: SeedOption = 0,
    batch: PartOption = 32,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take away what a map calls relevant, or irrelevant, and see what the model still knows."""
    from heedmap.evaluate.experiments.perturbation import Perturbation
    from heedmap.zoo.dataset import answered

    subject = load_model(model, device, dtype)
    evaluation = Perturbation.of(subject, preset, segment or (), remove, truth)
    reader = opened(data, file, lambda: answered(subject))
    conclude(evaluation, subject, reader, method, samples, seed, batch, out, as_json)


@evaluate.command(
    epilog=examples(
        "heedmap evaluate segmentation zoo/vit-shapes --out run --samples 2",
        "heedmap evaluate segmentation MODEL --data parquet:pictures --out run",
    )
)
@guarded
def segmentation(
    context: typer.Context,
    model: ModelArgument,
    out: OutOption,
    data: DataOption = None,
    file: FileOption = None,
    method: MethodsOption = None,
    samples: SamplesOption = 1000,
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
    seed: SeedOption = 0,
    batch: PartOption = 32,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Lay a classifier's maps on the pixels that its label is about."""
    from heedmap.evaluate.experiments.segmentation import Segmentation
    from heedmap.zoo.dataset import shown

    subject = load_model(model, device, dtype)
    evaluation = Segmentation(threshold, target or ("found" if data is None else "top"))
    reader = opened(data, file, lambda: shown(subject))
    conclude(evaluation, subject, reader, method, samples, seed, batch, out, as_json)


@evaluate.command(
    epilog=examples(
        "heedmap evaluate detection zoo/detr-shapes --out run --samples 2",
        "heedmap evaluate detection MODEL --data coco:coco --out run",
    )
)
@guarded
def detection(
    context: typer.Context,
    model: ModelArgument,
    out: OutOption,
    data: DataOption = None,
    file: FileOption = None,
    method: MethodsOption = None,
    samples: SamplesOption = 1000,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Queries of a more probable class are explained.")
    ] = 0.5,
    seed: SeedOption = 0,
    batch: PartOption = 16,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cut a detector's maps to masks, and score them as COCO scores segmentations."""
    from heedmap.evaluate.experiments.detection import Detection
    from heedmap.zoo.dataset import shown

    subject = load_model(model, device, dtype)
    reader = opened(data, file, lambda: shown(subject))
    conclude(Detection(threshold), subject, reader, method, samples, seed, batch, out, as_json)


@evaluate.command(
    epilog=examples(
        "heedmap evaluate rationales MODEL --data eraser:movies --out run",
        "heedmap evaluate rationales MODEL --data eraser:movies --out run --join max",
    )
)
@guarded
def rationales(
    context: typer.Context,
    model: ModelArgument,
    out: OutOption,
    data: Annotated[
        str,
        typer.Option(
            help="KIND:FOLDER of texts with rationales, such as eraser:movies.", autocompletion=completion.data
        ),
    ],
    file: FileOption = None,
    method: MethodsOption = None,
    samples: SamplesOption = 1000,
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
    seed: SeedOption = 0,
    batch: PartOption = 8,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare a text classifier's maps with the words that people gave as reasons."""
    from heedmap.evaluate.experiments.rationales import Rationales

    subject = load_model(model, device, dtype)
    evaluation = Rationales(join=join, truth=truth, classes=_classes(label or []))
    reader = opened(data, file)
    conclude(evaluation, subject, reader, method, samples, seed, batch, out, as_json)


@evaluate.command(
    epilog=examples(
        "heedmap evaluate sanity zoo/gpt-lists --out run --samples 4 --check agreement",
        "heedmap evaluate sanity MODEL --data folder:pictures --out run",
    )
)
@guarded
def sanity(
    context: typer.Context,
    model: ModelArgument,
    out: OutOption,
    data: DataOption = None,
    file: FileOption = None,
    method: MethodsOption = None,
    samples: SamplesOption = 64,
    check: Annotated[
        list[str] | None,
        typer.Option(
            help="randomisation, saco, sensitivity or agreement; several times; by default all.",
            autocompletion=choices("randomisation", "saco", "sensitivity", "agreement"),
        ),
    ] = None,
    seed: SeedOption = 0,
    batch: PartOption = 16,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask whether maps depend on the model, say what it does, stay the same under noise, and agree."""
    from heedmap.evaluate.experiments.sanity import PARTS, Sanity
    from heedmap.zoo.dataset import plain

    subject = load_model(model, device, dtype)
    reader = opened(data, file, lambda: plain(subject))
    conclude(Sanity(tuple(check or PARTS)), subject, reader, method, samples, seed, batch, out, as_json)


def _classes(pairs: list[str]) -> dict[str, int]:
    found = {}
    for pair in pairs:
        label, _, index = pair.rpartition("=")
        if not label or not index.isdecimal():
            raise typer.BadParameter(f"{pair!r} is not LABEL=INDEX", param_hint="--label")
        found[label] = int(index)
    return found
