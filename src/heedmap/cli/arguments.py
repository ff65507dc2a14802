"""What the commands share: their arguments, and how words of a command line become targets and inputs."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

import typer

from heedmap.cli import completion
from heedmap.cli.exit_codes import quiet
from heedmap.errors import InputError, OptionError
from heedmap.methods import written

ModelArgument = Annotated[
    str, typer.Argument(help="Hub id, folder, timm/…, open_clip/… or zoo/….", autocompletion=completion.models)
]
TextOption = Annotated[str | None, typer.Option(help="The text that the model reads.")]
ImageOption = Annotated[Path | None, typer.Option(help="An image file.")]
BoxesOption = Annotated[Path | None, typer.Option(help="An .npz with features (N, d) and, if need be, boxes (N, 4).")]
AudioOption = Annotated[Path | None, typer.Option(help="A 16-bit PCM .wav file.")]
TextsOption = Annotated[
    list[str] | None, typer.Option("--text", help="The text that the model reads; several times: several inputs.")
]
ImagesOption = Annotated[
    list[Path] | None, typer.Option("--image", help="An image file, a folder of them or a quoted glob; several times.")
]
ManyBoxesOption = Annotated[
    list[Path] | None,
    typer.Option("--boxes", help="An .npz with features (N, d) and, if need be, boxes (N, 4); as --image."),
]
SoundsOption = Annotated[list[Path] | None, typer.Option("--audio", help="A 16-bit PCM .wav file; as --image.")]
TargetOption = Annotated[
    str | None,
    typer.Option(
        help="Class index or label, query:K, query:K:LABEL, token:TEXT, position:P, position:P:TEXT, word:WORD, word:WORD:LABEL, "
        "word:#N:LABEL, or norm (features); by default what the model says."
    ),
]
SeedOption = Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")]
DeviceOption = Annotated[
    str | None, typer.Option(help="Such as cpu or cuda:0.", autocompletion=completion.choices("cpu", "cuda", "mps"))
]
DtypeOption = Annotated[
    str | None,
    typer.Option(
        help="Such as float32 or bfloat16.",
        autocompletion=completion.choices("float32", "float64", "bfloat16", "float16"),
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")]
OpenOption = Annotated[bool, typer.Option("--open", help="Open what was written, in the browser or a viewer.")]


def methods_option(default: str) -> Any:
    """The option ``--method`` of a command that takes several; ``default`` says which where none is given."""
    return typer.Option(
        "--method",
        help=f"METHOD or METHOD:KEY=VALUE,…; also fast, ablations, all. Several times; by default {default}.",
        autocompletion=completion.contenders,
    )


def parse_options(pairs: list[str]) -> dict[str, Any]:
    """See :func:`heedmap.methods.written.parse_options`.

    Raises:
        typer.BadParameter: no ``=``, a key twice, or a key that is an argument of its own.
    """
    try:
        return written.parse_options(pairs)
    except OptionError as error:
        raise typer.BadParameter(str(error), param_hint="--option") from error


def parse_target(text: str | None) -> int | str | tuple[str, Any, Any] | None:
    """A target of the command line, not yet looked up.

    Returns:
        None, a class index, a label, ``("query", K, label or None)``, ``("token", text or None, position)``,
        ``("word", text, label or None)`` or ``("norm", None, None)``.

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
    if not colon or word not in ("query", "token", "position", "word"):
        return text
    if word == "word":
        spoken, colon, label = rest.rpartition(":")
        return ("word", spoken, label or None) if colon else ("word", rest, None)
    if word == "token":
        return "token", rest, -1
    place, _, label = rest.partition(":")
    if not re.fullmatch(r"[+-]?\d+", place, re.ASCII):
        raise typer.BadParameter(f"{text!r}: expected a number after {word}:", param_hint="--target")
    if word == "position":
        return "token", label or None, int(place)
    return "query", int(place), written.json_or_text(label) if label.isdecimal() else label or None


def as_target(parsed: int | str | tuple[str, Any, Any] | None) -> Any:
    """What :func:`parse_target` gave, as a target for ``explain``."""
    if not isinstance(parsed, tuple):
        return parsed
    from heedmap.targets import DetectionQuery, FeatureNorm, NextToken, TokenLabel

    kind, first, second = parsed
    if kind == "norm":
        return FeatureNorm()
    if kind == "word":
        return TokenLabel(second, int(first[1:]) if re.fullmatch(r"#\d+", first, re.ASCII) else first)
    return DetectionQuery(query=first, label=second) if kind == "query" else NextToken(token=first, position=second)


def read_inputs(text: Any, image: Path | None, boxes: Path | None, audio: Path | None) -> dict[str, Any]:
    """The inputs of a command line, by role; None for what was not given.

    Args:
        text: one, or a (first, second) pair.
        image, boxes, audio: paths of files.

    Raises:
        typer.BadParameter: nothing was given.
        InputError: a file cannot be read, or the text is empty.
    """
    from heedmap.models.media import read_audio, read_boxes, read_image

    if text is None and image is None and boxes is None and audio is None:
        raise typer.BadParameter("give at least one of --text, --image, --boxes, --audio", param_hint="inputs")
    if any(not part.strip() for part in ([text] if isinstance(text, str) else text or ())):
        raise InputError("the text is empty; give at least one word")
    return {
        "text": text,
        "image": None if image is None else read_image(image),
        "boxes": None if boxes is None else read_boxes(boxes),
        "audio": None if audio is None else read_audio(audio),
    }


def load_model(model: str, device: str | None, dtype: str | None) -> Any:
    """The model; transformers' hints are silenced, its bars left to a terminal."""
    import heedmap

    quiet(bars=True)
    return heedmap.load(model, device=device, dtype=dtype)


def check_out(out: Path | None, endings: Collection[str], show: bool = False) -> None:
    """See that ``--out`` can be written, before anything is computed.

    Raises:
        typer.BadParameter: it is to be opened, and there is none.
        UnknownNameError: its ending is none of ``endings``, which the message lists.
        InputError: it is a folder.
    """
    from heedmap.render.files import check_path

    if out is not None:
        check_path(out, endings)
    elif show:
        raise typer.BadParameter("there is nothing to open; give --out too", param_hint="--open")


def open_file(path: Path) -> None:
    """Open ``path`` as a desktop does; where there is none, say so on standard error."""
    if typer.launch(str(path.resolve())) != 0:
        typer.echo(f"heedmap: no program was found that opens {path}", err=True)
