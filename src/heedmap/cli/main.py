"""The command line: ``heedmap explain`` and the other commands, in their order; exit codes: :mod:`heedmap.cli.command`."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, NamedTuple

import typer
from typer.core import TyperGroup

from heedmap.cli import answers, attentions, choosing, evaluate, zoo
from heedmap.cli.answers import answer
from heedmap.cli.command import OWN, examples
from heedmap.cli.explain import edit, explain
from heedmap.cli.run import run

ABOUT = "Relevance maps for any transformer: which words, patches, boxes or sounds an answer rests on."
EXPLAIN, CHOOSE, SHIPPED = "Explain", "Choose a method", "Models and pages"
"""Headings of the commands."""


class CommandEntry(NamedTuple):
    """A command of the table.

    Attributes:
        does: the command; of a group, what is said of it.
        examples: as they are typed; the tests run them.
        heading: under which it stands; None: in its group.
    """

    does: Callable[..., None] | str
    examples: tuple[str, ...]
    heading: str | None = None


COMMANDS: Mapping[str, CommandEntry] = {
    "explain": CommandEntry(
        explain,
        (
            'heedmap explain zoo/gpt-lists --text "dog red ; cat blue ; sun green ? cat"',
            "heedmap explain zoo/vit-shapes --image photo.png --target circle --out map.png",
            "heedmap explain zoo/vit-shapes --image photos --out maps --as html",
            "heedmap explain zoo/lxmert-shapes --sample 0 --out boxes.png --width 6",
        ),
        EXPLAIN,
    ),
    "answer": CommandEntry(
        answer,
        (
            'heedmap answer zoo/bart-dates --text "the 3rd of May 1987"',
            'heedmap answer zoo/bart-dates --text "3 May 1987" --out answer.html',
            'heedmap answer zoo/bart-dates --text "3 May 1987" --contrast 05=06',
        ),
        EXPLAIN,
    ),
    "run": CommandEntry(
        run,
        (
            "heedmap run zoo/vit-shapes --data photos --out maps",
            "heedmap run MODEL --data train.parquet --file columns.text=review --out maps",
            "heedmap run MODEL --data huggingface:saved --out maps --workers 8",
            "heedmap run MODEL --data shards --answer --out said --address auto",
        ),
        EXPLAIN,
    ),
    "alignment": CommandEntry(
        answers.alignment,
        (
            'heedmap alignment zoo/bart-dates --text "the 3rd of May 1987"',
            "heedmap alignment zoo/bart-dates --sample 0 --out alignment.png",
        ),
        EXPLAIN,
    ),
    "objects": CommandEntry(
        answers.objects,
        (
            "heedmap objects zoo/detr-shapes --image photo.png --threshold 0.3",
            "heedmap objects zoo/detr-shapes --sample 0 --out objects.png",
        ),
        EXPLAIN,
    ),
    "compare": CommandEntry(
        choosing.compare,
        (
            'heedmap compare zoo/gpt-lists --text "dog red ; cat blue ? cat"',
            "heedmap compare zoo/vit-shapes --image photo.png --out methods.html",
            "heedmap compare zoo/vit-shapes --image photo.png --method rollout --json",
        ),
        EXPLAIN,
    ),
    "edit": CommandEntry(
        edit,
        (
            'heedmap edit zoo/gpt-lists --text "cat blue ? cat" --replace blue=green',
            "heedmap edit zoo/detr-shapes --sample 0 --paint 0.0,0.2,0.3,0.5 --out x.png",
        ),
        EXPLAIN,
    ),
    "inspect": CommandEntry(
        attentions.inspect,
        (
            'heedmap inspect zoo/bart-dates --text "the 3rd of March 1987"',
            "heedmap inspect zoo/detr-shapes --image photo.png --target query:2 --json",
        ),
        EXPLAIN,
    ),
    "heads": CommandEntry(
        attentions.heads,
        (
            'heedmap heads zoo/gpt-lists --text "dog red ; cat blue ? cat"',
            "heedmap heads zoo/vit-shapes --sample 0 --weights relevance --out heads.png",
            'heedmap heads zoo/bart-dates --text "3 May 1987" --attention 5 --out one.png',
            "heedmap heads zoo/vit-shapes --sample 0 --rollout 1:3 --out rollout.png",
        ),
        EXPLAIN,
    ),
    "methods": CommandEntry(choosing.methods, ("heedmap methods heedmap", "heedmap methods --json"), CHOOSE),
    "recommend": CommandEntry(
        choosing.recommend,
        (
            'heedmap recommend zoo/gpt-lists --text "dog red ? dog" --method fast',
            "heedmap recommend zoo/vit-shapes --image photos --method rollout --out use.md",
        ),
        CHOOSE,
    ),
    "evaluate": CommandEntry(
        "Measure how well maps predict what a model does.",
        (
            "heedmap evaluate perturbation zoo/visualbert-shapes --out run --samples 2",
            "heedmap evaluate sanity zoo/gpt-lists --out run --samples 4 --check agreement",
        ),
        CHOOSE,
    ),
    "evaluate perturbation": CommandEntry(
        evaluate.perturbation,
        (
            "heedmap evaluate perturbation zoo/visualbert-shapes --out run --samples 2",
            "heedmap evaluate perturbation MODEL --data vqa:vqa2 --out run",
        ),
    ),
    "evaluate fidelity": CommandEntry(
        evaluate.fidelity,
        (
            "heedmap evaluate fidelity MODEL --data vqa:vqa2 --tuned OTHER --out run",
            "heedmap evaluate fidelity MODEL --data folder:pictures --tuned OTHER --out run",
        ),
    ),
    "evaluate segmentation": CommandEntry(
        evaluate.segmentation,
        (
            "heedmap evaluate segmentation zoo/vit-shapes --out run --samples 2",
            "heedmap evaluate segmentation MODEL --data parquet:pictures --out run",
        ),
    ),
    "evaluate detection": CommandEntry(
        evaluate.detection,
        (
            "heedmap evaluate detection zoo/detr-shapes --out x --samples 2 --method legrad",
            "heedmap evaluate detection MODEL --data coco:coco --out run",
        ),
    ),
    "evaluate rationales": CommandEntry(
        evaluate.rationales,
        (
            "heedmap evaluate rationales MODEL --data eraser:movies --out run",
            "heedmap evaluate rationales MODEL --data eraser:movies --out run --join max",
        ),
    ),
    "evaluate sanity": CommandEntry(
        evaluate.sanity,
        (
            "heedmap evaluate sanity zoo/gpt-lists --out run --samples 4 --check agreement",
            "heedmap evaluate sanity MODEL --data folder:pictures --out run",
        ),
    ),
    "zoo": CommandEntry(
        "Small trained models that ship with heedmap.", ("heedmap zoo list", "heedmap zoo train --help"), SHIPPED
    ),
    "zoo list": CommandEntry(zoo.list_models, ("heedmap zoo list", "heedmap zoo list --json")),
    "zoo train": CommandEntry(
        zoo.train,
        (
            "heedmap zoo train gpt-lists --out lists",
            "heedmap zoo train bart-dates --out trial --steps 20",
        ),
    ),
    "zoo evidence": CommandEntry(
        zoo.evidence,
        (
            "heedmap zoo evidence gpt-lists --samples 20",
            "heedmap zoo evidence gpt-lists --samples 20 --out evidence.json",
        ),
    ),
    "demo": CommandEntry(
        zoo.demo, ("heedmap demo --out gallery", "heedmap demo --out gallery --only gpt-lists"), SHIPPED
    ),
    "app": CommandEntry(zoo.app, ("heedmap app", "heedmap app google/vit-base-patch16-224 --port 8000"), SHIPPED),
}
"""Every command by its words, groups before their own."""
PROGRAM = (
    'heedmap explain zoo/gpt-lists --text "dog red ; cat blue ; sun green ? cat"',
    "heedmap demo --out gallery",
    "heedmap explain --help",
)
"""Examples of the program as a whole."""


class _Ordered(TyperGroup):
    """Lists groups of commands among the commands."""

    def list_commands(self, ctx: object) -> list[str]:
        return [name for name in COMMANDS if name in self.commands]


def _program() -> typer.Typer:
    """The program with the commands of the table."""
    program = typer.Typer(
        cls=_Ordered,
        help=ABOUT,
        epilog=examples(*PROGRAM),
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    groups = {"": program}
    for words, (does, shown, heading) in COMMANDS.items():
        group, _, name = words.rpartition(" ")
        if isinstance(does, str):
            groups[words] = typer.Typer(help=does, no_args_is_help=True)
            program.add_typer(groups[words], name=name, rich_help_panel=heading, epilog=examples(*shown))
        else:
            groups[group].command(name, rich_help_panel=heading, epilog=examples(*shown))(does)
    return program


app = _program()


def main() -> None:
    """Run the command line on ``sys.argv`` and exit with its code."""
    OWN.extend(sys.argv[:1])
    try:
        app()
    finally:
        OWN.clear()
        gc.freeze()  # the process ends: what it could free is not looked for, which takes a second


def _print_version(wanted: bool) -> None:
    if wanted:
        import heedmap

        typer.echo(f"heedmap {heedmap.__version__}")
        raise typer.Exit()


@app.callback(help=ABOUT)
def options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an internal error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """What stands before a command."""
    context.obj = debug
