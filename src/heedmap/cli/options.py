"""The options that commands share: each once, those that go together as one object, see :func:`heedmap.cli.command.command`,
and many of them seen to be right as they are made; and what a shell offers for their values: names from the registries, read
without torch, for it has to be quick.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec, TypedDict, TypeVar, cast

import typer

from heedmap.cli.command import importing, quiet, sparing
from heedmap.cli.inputs import ROLES, ReadInputs, parse_target, read_inputs, sample_inputs
from heedmap.common.memory import memory_bytes
from heedmap.common.printable import closest
from heedmap.errors import ModelLoadError, OptionError, UnknownNameError
from heedmap.methods import written
from heedmap.methods.cards import CARDS, EDGES
from heedmap.models.names import LIBRARIES, PREFIX, check_name, is_zoo, shipped
from heedmap.zoo.recipes import ZOO

if TYPE_CHECKING:
    from typer.models import OptionInfo

    from heedmap.models.model import Model
    from heedmap.render.files import FigureLook

Wanted = ParamSpec("Wanted")
Found = TypeVar("Found")
OF_EVERY_METHOD = frozenset({"full", "memory", "memory_budget", "mixers", "probe", "segments"})
"""What ``--option`` may name of every method: what :func:`heedmap.explain` itself takes, and no option of a command says."""
METHOD_GROUPS = ("fast", "ablations", "all")
"""Names for several methods at once, see ``heedmap.evaluate.evaluation``."""


def choices(*words: str) -> Callable[[str], list[str]]:
    """A completion of a few words."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete


def word_option(words: Sequence[str], about: str, *names: str) -> OptionInfo:
    """An option for which a shell offers these words; where no others are taken, :func:`check_words` sees to it."""
    return typer.Option(*names, help=about, autocompletion=choices(*words))


def complete_models(incomplete: str) -> list[str]:
    """The zoo's models, how names of other libraries begin, and folders that begin so."""
    known = (*(PREFIX + name for name in shipped()), *LIBRARIES)
    return [name for name in known if name.startswith(incomplete)] + _folders(incomplete)


def complete_zoo_models(incomplete: str) -> list[str]:
    """The zoo's models, without ``zoo/``."""
    return choices(*shipped())(incomplete)


def complete_data(incomplete: str) -> list[str]:
    """Kinds of data sets, up to the colon before the folder."""
    from heedmap.datasets.opening import READERS

    return choices(*(f"{kind}:" for kind in READERS))(incomplete)


def complete_sources(incomplete: str) -> list[str]:
    """Kinds of data sets that a run reads, up to the colon before the path, and folders."""
    from heedmap.datasets.opening import kinds

    return choices(*(f"{kind}:" for kind in kinds()))(incomplete) + _folders(incomplete)


def _folders(incomplete: str) -> list[str]:
    """Folders as a shell offers them: hidden ones only where a dot was typed."""
    parent, _, begun = incomplete.rpartition("/")
    place = Path(f"{parent}/" if "/" in incomplete else ".")
    try:
        names = sorted(path.name for path in place.iterdir() if path.is_dir())
    except OSError:
        return []
    shown = [name for name in names if name.startswith(begun) and (begun or not name.startswith("."))]
    return [f"{incomplete[: len(incomplete) - len(begun)]}{name}/" for name in shown]


TargetOption = Annotated[
    str | None,
    typer.Option(
        help="Class index or label, query:K, query:K:LABEL, box:SIDE, box:SIDE:K, box:SIDE:LABEL, token:TEXT, position:P, "
        "position:P:TEXT, word:WORD, word:WORD:LABEL, word:#N:LABEL, region:LABEL, region:LABEL@X1,Y1,X2,Y2, depth:X,Y, "
        "mask:PROMPT, mask:PROMPT:MASK, step:N, or norm (features); by default what the model says."
    ),
]
SeedOption = Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")]
OpenOption = Annotated[bool, typer.Option("--open", help="Open what was written, in the browser or a viewer.")]


def methods_option(default: str) -> OptionInfo:
    """The option ``--method`` of a command that takes several; ``default`` says which where none is given."""
    return typer.Option(
        "--method",
        help=f"METHOD or METHOD:KEY=VALUE,…; also edges, fast, ablations, all. Several times; by default {default}.",
        autocompletion=choices(*CARDS, EDGES, *METHOD_GROUPS),
    )


def check_methods(names: Sequence[str], groups: Collection[str] = (EDGES, *METHOD_GROUPS)) -> None:
    """See that there are such methods, with options or without, before torch is imported.

    Raises:
        UnknownNameError: one is none, and none of ``groups``.
    """
    for name in (name.partition(":")[0] for name in names):
        if name not in (*CARDS, *groups):
            raise UnknownNameError(f"no method {name!r}{closest(name, CARDS)}; known methods: {', '.join(CARDS)}")


def check_words(**given: tuple[str | Sequence[str] | None, Sequence[str]]) -> None:
    """See that options are among the few words that they may be, before torch is imported.

    Args:
        given: name of an option → its value, or values, and what they may be.

    Raises:
        OptionError: one is not.
    """
    for option, (value, known) in given.items():
        for word in [value] if isinstance(value, str) else value or ():
            if word not in known:
                told = f"--{option} is {word!r}{closest(word, known)}"
                raise OptionError(f"{told}; expected {', '.join(known[:-1])} or {known[-1]}")


@contextmanager
def read_as(option: str) -> Iterator[None]:
    """An OptionError of what is read meanwhile is one of the command line, in this option."""
    try:
        yield
    except OptionError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which model, where, and as what.

    Raises:
        ModelLoadError: there is no such model; of one that has to be trained first the message says how.
    """

    model: Annotated[
        str, typer.Argument(help="Hub id, folder, timm/…, open_clip/… or zoo/….", autocompletion=complete_models)
    ]
    device: Annotated[str | None, word_option(("cpu", "cuda", "mps"), "Such as cpu or cuda:0.")] = None
    dtype: Annotated[
        str | None, word_option(("float32", "float64", "bfloat16", "float16"), "Such as float32 or bfloat16.")
    ] = None

    def __post_init__(self) -> None:
        plain = self.model.removeprefix(PREFIX)
        if is_zoo(self.model) and plain in ZOO and plain not in shipped():
            raise ModelLoadError(
                f"{self.model} does not come with heedmap; make it with `heedmap zoo train {plain} --out {plain}`, then give "
                f"the folder: {plain}"
            )
        check_name(self.model)

    def load(self) -> Model:
        """The model; transformers' hints are silenced, its bars left to a terminal."""
        import heedmap

        with importing(), sparing(self.model):
            quiet(bars=True)
            return heedmap.load(self.model, device=self.device, dtype=self.dtype)


SampleOption = Annotated[
    int | None,
    typer.Option(
        "--sample", min=0, help="Of a model of the zoo: this sample of its test split, from 0, in place of inputs."
    ),
]


@dataclass(frozen=True, kw_only=True)
class OneInput:
    """An input for a command that takes one."""

    text: Annotated[str | None, typer.Option(help="The text that the model reads.")] = None
    image: Annotated[
        list[Path] | None, typer.Option(help="An image file; several times: several pictures of the one input.")
    ] = None
    boxes: Annotated[Path | None, typer.Option(help="An .npz with features (N, d) and, if need be, boxes (N, 4).")] = (
        None
    )
    audio: Annotated[Path | None, typer.Option(help="A 16-bit PCM .wav file.")] = None
    sample: SampleOption = None

    def read(self, model: str) -> ReadInputs:
        """See :func:`heedmap.cli.inputs.read_inputs`, and of ``--sample`` :func:`heedmap.cli.inputs.sample_inputs`."""
        if self.sample is not None:
            return sample_inputs(model, self.sample, {role: getattr(self, role) for role in ROLES})
        return read_inputs(self.text, self.image, self.boxes, self.audio)


@dataclass(frozen=True, kw_only=True)
class ManyInputs:
    """Inputs, as :func:`heedmap.cli.inputs.rows_of` takes their ``roles``."""

    text: Annotated[
        list[str] | None, typer.Option("--text", help="The text that the model reads; several times: several inputs.")
    ] = None
    image: Annotated[
        list[Path] | None,
        typer.Option("--image", help="An image file, a folder of them or a quoted glob; several times."),
    ] = None
    boxes: Annotated[
        list[Path] | None,
        typer.Option("--boxes", help="An .npz with features (N, d) and, if need be, boxes (N, 4); as --image."),
    ] = None
    audio: Annotated[list[Path] | None, typer.Option("--audio", help="A 16-bit PCM .wav file; as --image.")] = None

    @property
    def roles(self) -> dict[str, list[str | Path] | None]:
        """Role → what was given."""
        return {role: getattr(self, role) for role in ROLES}


@dataclass(frozen=True, kw_only=True)
class MethodOptions:
    """By which method it is explained."""

    method: Annotated[
        str,
        typer.Option(
            help="A name that `heedmap methods` lists, or auto: what heedmap's own measurements speak for on such a model.",
            autocompletion=choices(*CARDS, "auto"),
        ),
    ] = "generic"
    option: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE for the method; the value as JSON. Several times.")
    ] = None

    @cached_property
    def settings(self) -> dict[str, object]:
        """The method's options, see :func:`heedmap.methods.written.parse_options`.

        Raises:
            typer.BadParameter: no ``=``, a key twice, or a key that is an argument of its own.
        """
        with read_as("--option"):
            return written.parse_options(self.option or [])

    def by(self, explain: Callable[Wanted, Found]) -> Callable[Wanted, Found]:
        """``explain`` by this method, whose options it checks itself; typer.BadParameter where one of them is given to it too."""
        called: Callable[..., Found] = explain

        def explained(*given: Wanted.args, **named: Wanted.kwargs) -> Found:
            for name in self.settings.keys() & named.keys():
                raise typer.BadParameter(f"{name!r} is set by the command itself", param_hint="--option")
            return called(*given, **named, method=self.method, **self.settings)

        return explained

    def check(self) -> None:
        """See that all can be understood, before a model is loaded; of some options torch is imported.

        Raises:
            typer.BadParameter: an option has not its form.
            UnknownNameError: no such method.
            OptionError: the method has no such option; what else a call takes is no option of the method, either.
        """
        own = {name: value for name, value in self.settings.items() if name not in OF_EVERY_METHOD}
        check_methods([self.method], ("auto",))
        if own and self.method == "auto":
            raise OptionError(
                f"method 'auto' chooses the method, so it takes no option ({', '.join(own)}); name the method"
            )
        if own:
            from heedmap.methods import METHODS

            METHODS[self.method].resolve(own)


@dataclass(frozen=True, kw_only=True)
class MapOptions(MethodOptions):
    """What is explained, and by which method."""

    target: TargetOption = None

    def check(self) -> None:
        """As :meth:`MethodOptions.check`, and of the target."""
        super().check()
        parse_target(self.target)


MemoryOption = Annotated[
    str | None,
    typer.Option(help="What a call may take beside the model, such as 4GB, or free: nine tenths of what is free."),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Print how it would be made and what it would take, and explain nothing.")
]


class Cost(TypedDict, total=False):
    """What a call may take, as :func:`heedmap.explain` takes it."""

    memory: str


@dataclass(frozen=True, kw_only=True)
class MemoryOptions:
    """What an explanation may take; OptionError where it is no size."""

    memory: MemoryOption = None

    @property
    def given(self) -> Cost:
        """As :func:`heedmap.explain` takes it."""
        return {} if self.memory is None else {"memory": self.memory}

    def __post_init__(self) -> None:
        memory_bytes(self.memory)


@dataclass(frozen=True, kw_only=True)
class CostOptions(MemoryOptions):
    """What an explanation may take, and whether it is only told."""

    dry_run: DryRunOption = False


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where an explanation goes."""

    out: Annotated[
        Path | None,
        typer.Option(help="Write .png, .svg, .pdf, .html, .json or .safetensors; for many inputs a folder."),
    ] = None
    as_json: JsonOption = False
    show: OpenOption = False


_figure_option = partial(typer.Option, rich_help_panel="Figures")


@dataclass(frozen=True, kw_only=True)
class FigureOptions:
    """How a figure looks; what is not given is the figure's own."""

    width: Annotated[float | None, _figure_option(min=0.5, max=100, help="Inches; all grows with it, letters too.")] = (
        None
    )
    dpi: Annotated[int | None, _figure_option(min=20, max=1200, help="Dots an inch of a .png, by default 150.")] = None
    cmap: Annotated[
        str | None, _figure_option(help="Matplotlib's colour map of pictures and boxes, such as viridis.")
    ] = None
    alpha: Annotated[
        float | None, _figure_option(min=0, max=1, help="Opacity of a map on its picture, by default 0.85.")
    ] = None
    theme: Annotated[str | None, _figure_option(help="light or dark.", autocompletion=choices("light", "dark"))] = None
    no_title: Annotated[bool, _figure_option("--no-title", help="Leave out the line above the maps.")] = False

    @property
    def given(self) -> FigureLook:
        """As :func:`heedmap.render.files.figure` takes them; what was not given is left out."""
        given = {name: getattr(self, name) for name in ("width", "dpi", "cmap", "alpha", "theme")}
        look = cast("FigureLook", {name: value for name, value in given.items() if value is not None})
        return {**look, "title": False} if self.no_title else look

    def look(self, out: Path | None, endings: Collection[str], show: bool) -> FigureLook:
        """See :func:`check_out`, and of the file's ending :meth:`check`."""
        check_out(out, endings, show)
        return self.check("" if out is None else out.suffix.lower())

    def check(self, ending: str) -> FigureLook:
        """:attr:`given`, if a file of this ending is a figure and there are such colours, before a model is loaded.

        Raises:
            typer.BadParameter: no figure is written.
            OptionError, UnknownNameError: no such colour map or theme.
        """
        if not self.given:
            return {}
        from heedmap.render.files import PICTURES
        from heedmap.render.scale import colour_map, theme

        if ending not in PICTURES:
            names = ", ".join("--no-title" if name == "title" else f"--{name}" for name in self.given)
            raise typer.BadParameter(f"for figures alone: give --out with {', '.join(PICTURES)}", param_hint=names)
        if self.theme is not None:
            theme(self.theme)
        if self.cmap is not None:
            colour_map(self.cmap)
        return self.given


@dataclass(frozen=True, kw_only=True)
class MapFigureOptions(FigureOptions):
    """Those of figures of maps, and not of the words of an answer."""

    bars: Annotated[bool, _figure_option("--bars", help="Draw words as bars, and a detector's queries too.")] = False

    @property
    def given(self) -> FigureLook:
        """As of :class:`FigureOptions`."""
        return {**super().given, "bars": True} if self.bars else super().given


_many_option = partial(typer.Option, rich_help_panel="Many inputs")


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """How many inputs are explained."""

    listed: Annotated[
        Path | None,
        _many_option(
            "--inputs", help="A .jsonl, .csv or .txt file with an input a line: text, image, boxes, audio, target, id."
        ),
    ] = None
    ending: Annotated[
        str | None,
        _many_option(
            "--as",
            help="What is written for each: png, svg, pdf, html, json or safetensors; by default png.",
            autocompletion=choices("png", "svg", "pdf", "html", "json", "safetensors"),
        ),
    ] = None
    batch: Annotated[int, _many_option(min=1, help="Inputs of one size that are explained at once.")] = 8
    overwrite: Annotated[bool, _many_option("--overwrite", help="Make again what is there already.")] = False


@dataclass(frozen=True, kw_only=True)
class ExplainOptions:
    """All of ``heedmap explain``."""

    inputs: ManyInputs
    wanted: MapOptions
    output: Output
    figures: MapFigureOptions
    sample: SampleOption = None
    compare: Annotated[
        str | None,
        typer.Option(help="Another text, with --text and a sentence encoder: explain what makes the two alike."),
    ] = None
    model: ModelOptions
    many: BatchOptions
    cost: CostOptions


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """A data set, by default the samples of a model of the zoo."""

    data: Annotated[
        str | None,
        typer.Option(
            help="KIND:FOLDER of a data set; for a model of the zoo by default its own world.",
            autocompletion=complete_data,
        ),
    ] = None
    file: Annotated[
        list[str] | None,
        typer.Option("--file", help="NAME=VALUE: its split, a part of it that is elsewhere, columns.ROLE=NAME."),
    ] = None


def file_options(files: list[str] | None) -> dict[str, str | dict[str, str]]:
    """``--file`` as options of a data set: ``["split=val", "columns.text=question"]`` as
    ``{"split": "val", "columns": {"text": "question"}}``.

    Raises:
        typer.BadParameter: not NAME=VALUE, or a name is given a value and parts.
    """
    options: dict[str, str | dict[str, str]] = {}
    for entry in files or []:
        name, _, value = entry.partition("=")
        if not name or not value:
            raise typer.BadParameter(f"{entry!r} is not NAME=VALUE", param_hint="--file")
        name, _, inner = name.partition(".")
        held = options.get(name, {})
        if not inner:
            options[name] = value
        elif isinstance(held, str):
            raise typer.BadParameter(f"{name} is given whole, as {held!r}, and in parts: give one", param_hint="--file")
        else:
            options[name] = {**held, inner: value}
    return options


def generation(texts: list[str] | None) -> dict[str, object]:
    """``--generate``, KEY=VALUE several times, as options of transformers' ``generate``.

    Raises:
        typer.BadParameter: no ``=``, or a key twice.
    """
    with read_as("--generate"):
        return {key: written.json_or_text(value) for key, value in written.pairs(texts or []).items()}


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
