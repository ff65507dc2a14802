"""The command line: ``heedmap explain``, ``inspect``, ``methods``, ``evaluate`` and ``zoo``; exit codes: :mod:`heedmap.guard`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import heedmap.evaluate.commands  # noqa: F401 (adds its command to those of the zoo)
from heedmap.arguments import (
    AudioOption,
    BoxesOption,
    DeviceOption,
    DtypeOption,
    ImageOption,
    JsonOption,
    ModelArgument,
    TargetOption,
    TextOption,
    as_target,
    load_model,
    parse_options,
    parse_target,
    read_inputs,
)
from heedmap.errors import InputError, UnknownNameError
from heedmap.evaluate.app import evaluate
from heedmap.evaluate.choosing import compare, recommend
from heedmap.gallery.commands import demo
from heedmap.guard import guarded
from heedmap.webpage.commands import app as page
from heedmap.zoo.commands import zoo

if TYPE_CHECKING:
    from PIL.Image import Image

    from heedmap.explanation import Explanation
    from heedmap.geometry import Picture
    from heedmap.methods import Method

app = typer.Typer(
    help="Relevance maps for any transformer: which words, patches, boxes or sounds an answer rests on.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(zoo, name="zoo")
app.add_typer(evaluate, name="evaluate")
app.command()(demo)
app.command()(compare)
app.command()(recommend)
app.command("app")(page)


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


@app.command()
@guarded
def explain(
    context: typer.Context,
    model: ModelArgument,
    text: TextOption = None,
    image: ImageOption = None,
    boxes: BoxesOption = None,
    audio: AudioOption = None,
    target: TargetOption = None,
    method: Annotated[str, typer.Option(help="A name that `heedmap methods` lists.")] = "generic",
    option: Annotated[list[str] | None, typer.Option(help="KEY=VALUE for the method; the value as JSON.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write .png, .svg, .pdf, .html, .json or .safetensors.")] = None,
    as_json: JsonOption = False,
    compare: Annotated[str | None, typer.Option(help="Another text: explain what makes the two alike.")] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
) -> None:
    """Explain one prediction: by default the model's own top prediction."""
    settings = parse_options(option or [])
    chosen = parse_target(target)
    if compare is not None:
        texts = _compared_texts(text, compare, image or boxes or audio, target)
        _check_out(out, comparison=True)
        _check_method(method)
        _compare(load_model(model, device, dtype), texts, method, settings, out, as_json)
        return
    _check_out(out, comparison=False)
    inputs = read_inputs(text, image, boxes, audio)
    _check_method(method)
    subject = load_model(model, device, dtype)
    explanation = subject.explain(**inputs, target=as_target(chosen), method=method, **settings)
    _show(explanation, out, as_json, None if out is None else _picture(subject, inputs["image"], inputs["boxes"]))


@app.command()
@guarded
def inspect(
    context: typer.Context,
    model: ModelArgument,
    text: TextOption = None,
    image: ImageOption = None,
    boxes: BoxesOption = None,
    audio: AudioOption = None,
    target: TargetOption = None,
    as_json: JsonOption = False,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
) -> None:
    """List the attentions that heedmap finds in a model, and the streams between which they run."""
    chosen = parse_target(target)
    inputs = read_inputs(text, image, boxes, audio)
    flow = load_model(model, device, dtype).inspect(**inputs, target=as_target(chosen))
    if as_json:
        typer.echo(json.dumps(flow.to_dict(), indent=1))
        return
    from rich.console import Console

    from heedmap.render.table import flow_rich, flow_table

    console = Console()
    if console.is_terminal:
        console.print(flow_rich(flow))
    else:
        typer.echo(flow_table(flow))


@app.command()
@guarded
def methods(
    context: typer.Context,
    as_json: JsonOption = False,
    markdown: Annotated[Path | None, typer.Option(help="Write the method cards to this file.")] = None,
) -> None:
    """List the methods: what each computes, its paper, what it costs, where it fails, and its options."""
    import heedmap

    if markdown is not None:
        from heedmap.atomic import write_atomically
        from heedmap.methods.cards import page

        write_atomically(markdown, page(heedmap.METHODS.values()).encode())
    if as_json:
        typer.echo(json.dumps([_method_data(m) for m in heedmap.METHODS.values()], indent=1, default=str))
        return
    for method in heedmap.METHODS.values():
        _print_method(method)


def _check_out(out: Path | None, *, comparison: bool) -> None:
    if out is None:
        return
    from heedmap.render.files import COMPARISON_WRITERS, WRITERS, check_path

    check_path(out, COMPARISON_WRITERS if comparison else WRITERS)


def _check_method(method: str) -> None:
    import heedmap

    if method not in heedmap.METHODS:
        raise UnknownNameError(f"no method {method!r}; known methods: {', '.join(heedmap.METHODS)}")


def _compared_texts(text: str | None, other: str, media: Path | None, target: str | None) -> tuple[str, str]:
    if text is None:
        raise typer.BadParameter("give the first text with --text", param_hint="--compare")
    if media is not None or target is not None:
        raise typer.BadParameter("two texts are compared, so no other input and no target", param_hint="--compare")
    return text, other


def _picture(subject: Any, image: Image | None, boxes: Mapping[str, Any] | None) -> Picture | None:
    if image is None and (boxes is None or "boxes" not in boxes):
        return None
    try:
        return subject.picture(image, boxes)
    except InputError as error:
        typer.echo(f"heedmap: the map is drawn without the image: {error}", err=True)
        return None


def _compare(
    subject: Any, texts: tuple[str, str], method: str, settings: Mapping[str, Any], out: Path | None, as_json: bool
) -> None:
    from heedmap.render.files import comparison_json, write_comparison

    pair = subject.compare(*texts, method=method, **settings)
    if out is not None:
        write_comparison(out, *pair)
    if as_json:
        typer.echo(comparison_json(*pair))
    elif out is None:
        _print_heat(*pair)
    else:
        typer.echo(f"wrote {out}")


def _show(explanation: Explanation, out: Path | None, as_json: bool, image: Picture | None) -> None:
    from heedmap.render.data import to_json
    from heedmap.render.files import write

    if out is not None:
        write(out, explanation, image)
    if as_json:
        typer.echo(to_json(explanation))
    elif out is None:
        _print_heat(explanation)
    else:
        typer.echo(f"wrote {out}")


def _print_heat(*explanations: Explanation) -> None:
    from rich.console import Console

    from heedmap.render.terminal import terminal

    console = Console(highlight=False)
    colours = console.color_system is not None and not console.no_color
    for explanation in explanations:
        console.print(terminal(explanation, colours=colours), soft_wrap=not console.is_terminal)


def _method_data(method: Method) -> dict[str, Any]:
    from dataclasses import asdict

    from heedmap.methods.cards import CARDS

    return {
        "name": method.name,
        "summary": method.summary,
        "source": method.source,
        "options": dict(method.options),
        **asdict(CARDS[method.name]),
    }


def _print_method(method: Method) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    from heedmap.methods.cards import CARDS

    card = CARDS[method.name]
    options = ", ".join(f"{key}={value!r}" for key, value in method.options.items()) or "none"
    cost = f"forward passes: {card.forwards}, backward: {card.backwards}; needs {card.needs}"
    lines = ((method.summary, ""), (card.equation, ""), (method.source, "dim"), (cost, ""), (f"mind: {card.fails}", ""))
    console = Console(highlight=False)
    console.print(Text(method.name, style="bold"))
    for words, style in (*lines, (f"options: {options}", "")):
        console.print(Padding(Text(words, style=style), (0, 0, 0, 2)))
