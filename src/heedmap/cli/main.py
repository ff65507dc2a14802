"""The command line: ``heedmap explain`` and the other commands, in their order; exit codes: :mod:`heedmap.cli.exit_codes`."""

from __future__ import annotations

from typing import Annotated

import typer
from typer.core import TyperGroup

import heedmap.cli.evidence  # noqa: F401 (adds its command to those of the zoo)
from heedmap.cli.choosing import compare, recommend
from heedmap.cli.demo import demo
from heedmap.cli.evaluate import evaluate
from heedmap.cli.examples import examples
from heedmap.cli.explain import explain
from heedmap.cli.inspect import inspect
from heedmap.cli.methods import methods
from heedmap.cli.web import app as page
from heedmap.cli.zoo import zoo

ORDER = ("explain", "compare", "inspect", "methods", "recommend", "evaluate", "zoo", "demo", "app")
EXPLAIN, CHOOSE, SHIPPED = "Explain", "Choose a method", "Models and pages"
"""Headings of the commands."""


class _Ordered(TyperGroup):
    """Lists groups of commands among the commands."""

    def list_commands(self, ctx: object) -> list[str]:
        return sorted(self.commands, key=ORDER.index)


app = typer.Typer(
    cls=_Ordered,
    help="Relevance maps for any transformer: which words, patches, boxes or sounds an answer rests on.",
    epilog=examples(
        'heedmap explain zoo/gpt-lists --text "dog red ; cat blue ; sun green ? cat"',
        "heedmap demo --out gallery",
        "heedmap explain --help",
    ),
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command(
    rich_help_panel=EXPLAIN,
    epilog=examples(
        'heedmap explain zoo/gpt-lists --text "dog red ; cat blue ; sun green ? cat"',
        "heedmap explain zoo/vit-shapes --image photo.png --target circle --out map.png",
        "heedmap explain zoo/vit-shapes --image photos --out maps --as html",
        "heedmap explain zoo/gpt-lists --inputs lists.txt --json",
    ),
)(explain)
app.command(
    rich_help_panel=EXPLAIN,
    epilog=examples(
        'heedmap compare zoo/gpt-lists --text "dog red ; cat blue ? cat"',
        "heedmap compare zoo/vit-shapes --image photo.png --out methods.html",
        "heedmap compare zoo/vit-shapes --image photo.png --method rollout --json",
    ),
)(compare)
app.command(
    rich_help_panel=EXPLAIN,
    epilog=examples(
        'heedmap inspect zoo/bart-dates --text "the 3rd of March 1987"',
        "heedmap inspect zoo/detr-shapes --image photo.png --target query:2 --json",
    ),
)(inspect)
app.command(rich_help_panel=CHOOSE, epilog=examples("heedmap methods", "heedmap methods --json"))(methods)
app.command(
    rich_help_panel=CHOOSE,
    epilog=examples(
        'heedmap recommend zoo/gpt-lists --text "dog red ? dog" --method fast',
        "heedmap recommend zoo/vit-shapes --image photos --method rollout --out use.md",
    ),
)(recommend)
app.add_typer(
    evaluate,
    name="evaluate",
    rich_help_panel=CHOOSE,
    epilog=examples(
        "heedmap evaluate perturbation zoo/visualbert-shapes --out run --samples 2",
        "heedmap evaluate sanity zoo/gpt-lists --out sane --samples 4 --check agreement",
    ),
)
app.add_typer(zoo, name="zoo", rich_help_panel=SHIPPED, epilog=examples("heedmap zoo list", "heedmap zoo train --help"))
app.command(
    rich_help_panel=SHIPPED,
    epilog=examples("heedmap demo --out gallery", "heedmap demo --out gallery --only gpt-lists"),
)(demo)
app.command(
    "app",
    rich_help_panel=SHIPPED,
    epilog=examples("heedmap app", "heedmap app google/vit-base-patch16-224 --port 8000"),
)(page)


def main() -> None:
    """Run the command line on ``sys.argv`` and exit with its code."""
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        import heedmap

        typer.echo(f"heedmap {heedmap.__version__}")
        raise typer.Exit()


@app.callback()
def options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an internal error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Relevance maps for any transformer: which words, patches, boxes or sounds an answer rests on."""
    context.obj = debug
