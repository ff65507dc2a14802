"""The command line: ``heedmap explain``, ``inspect``, ``methods``, ``evaluate`` and ``zoo``; exit codes: :mod:`heedmap.guard`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import heedmap.evaluate.commands  # noqa: F401 (adds its command to those of the zoo)
from heedmap.errors import InputError, UnknownNameError
from heedmap.evaluate.app import evaluate
from heedmap.gallery.commands import demo
from heedmap.guard import guarded, quiet
from heedmap.zoo.commands import zoo

if TYPE_CHECKING:
    from PIL.Image import Image

    from heedmap.explanation import Explanation
    from heedmap.geometry import Picture
    from heedmap.methods import Method

RESERVED_OPTIONS = frozenset({"text", "image", "boxes", "audio", "target", "method", "text_a", "text_b"})

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

ModelArgument = Annotated[str, typer.Argument(help="Hub id, folder, timm/…, open_clip/… or zoo/….")]
TextOption = Annotated[str | None, typer.Option(help="The text that the model reads.")]
ImageOption = Annotated[Path | None, typer.Option(help="An image file.")]
BoxesOption = Annotated[Path | None, typer.Option(help="An .npz with features (N, d) and, if need be, boxes (N, 4).")]
AudioOption = Annotated[Path | None, typer.Option(help="A 16-bit PCM .wav file.")]
TargetOption = Annotated[
    str | None,
    typer.Option(
        help="Class index or label, query:K, query:K:LABEL, token:TEXT, position:P, position:P:TEXT, or norm (features)."
    ),
]
DeviceOption = Annotated[str | None, typer.Option(help="Such as cpu or cuda:0.")]
DtypeOption = Annotated[str | None, typer.Option(help="Such as float32 or bfloat16.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")]


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
        _compare(_load(model, device, dtype), texts, method, settings, out, as_json)
        return
    _check_out(out, comparison=False)
    inputs = _read_inputs(text, image, boxes, audio)
    _check_method(method)
    subject = _load(model, device, dtype)
    explanation = subject.explain(**inputs, target=_as_target(chosen), method=method, **settings)
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
    inputs = _read_inputs(text, image, boxes, audio)
    flow = _load(model, device, dtype).inspect(**inputs, target=_as_target(chosen))
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


def parse_options(pairs: list[str]) -> dict[str, Any]:
    """``["start_layer=2", "cam=lrp"]`` as ``{"start_layer": 2, "cam": "lrp"}``: JSON values, else strings.

    Raises:
        typer.BadParameter: no ``=``, a key twice, or a key that is an argument of its own.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        key = key.strip()
        if not equals or not key:
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint="--option")
        if key in settings or key in RESERVED_OPTIONS:
            reason = "is given twice" if key in settings else f"is no option of a method; use --{key}"
            raise typer.BadParameter(f"{key!r} {reason}", param_hint="--option")
        settings[key] = _json_or_text(value)
    return settings


def parse_target(text: str | None) -> int | str | tuple[str, Any, Any] | None:
    """A target of the command line, not yet looked up.

    Returns:
        None, a class index, a label, ``("query", K, label or None)``, ``("token", text or None, position)`` or
        ``("norm", None, None)``.

    Raises:
        typer.BadParameter: no number where there should be one.
    """
    if text is None or text == "":
        return None
    if re.fullmatch(r"[+-]?\d+", text, re.ASCII):
        return int(text)
    if text == "norm":
        return "norm", None, None
    word, colon, rest = text.partition(":")
    if not colon or word not in ("query", "token", "position"):
        return text
    if word == "token":
        return "token", rest, -1
    place, _, label = rest.partition(":")
    if not re.fullmatch(r"[+-]?\d+", place, re.ASCII):
        raise typer.BadParameter(f"{text!r}: expected a number after {word}:", param_hint="--target")
    if word == "position":
        return "token", label or None, int(place)
    return "query", int(place), _json_or_text(label) if label.isdecimal() else label or None


def _as_target(parsed: int | str | tuple[str, Any, Any] | None) -> Any:
    if not isinstance(parsed, tuple):
        return parsed
    from heedmap.targets import DetectionQuery, FeatureNorm, NextToken

    kind, first, second = parsed
    if kind == "norm":
        return FeatureNorm()
    return DetectionQuery(query=first, label=second) if kind == "query" else NextToken(token=first, position=second)


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


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


def _read_inputs(text: str | None, image: Path | None, boxes: Path | None, audio: Path | None) -> dict[str, Any]:
    from heedmap.media import read_audio, read_boxes, read_image

    if text is None and image is None and boxes is None and audio is None:
        raise typer.BadParameter("give at least one of --text, --image, --boxes, --audio", param_hint="inputs")
    return {
        "text": text,
        "image": None if image is None else read_image(image),
        "boxes": None if boxes is None else read_boxes(boxes),
        "audio": None if audio is None else read_audio(audio),
    }


def _load(model: str, device: str | None, dtype: str | None) -> Any:
    import heedmap

    quiet(bars=True)
    return heedmap.load(model, device=device, dtype=dtype)


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
