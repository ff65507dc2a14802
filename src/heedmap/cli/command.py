"""What makes a function a command: its options, what an exception becomes, what it imports, and what it shows while it works.

Exit codes: 0 done; 1 an error that heedmap raises on purpose; 2 a wrong command line; 3 an error inside heedmap; 130
interrupted.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import is_dataclass
from functools import cache, wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, get_type_hints

import typer

from heedmap.common.printable import SHELL, said_for
from heedmap.errors import HeedmapError
from heedmap.models.names import MODELS, PREFIX, is_of_library, is_zoo

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from heedmap.common.progress import Progress
    from heedmap.models.model import Model

Made = TypeVar("Made")
USER_ERROR, INTERNAL_ERROR, INTERRUPTED = 1, 3, 130
SPARED = ("torchvision", "scipy")
"""The first is for image processors, the second for the losses of detectors."""
OF_OTHERS = ("accelerate",)
"""For models that are quantised or spread over devices, as those of the zoo are not."""
PROCESSORS = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
"""A folder without these has nothing that makes tensors of pictures or sound."""
OWN: list[str] = []
"""The command that this process is for, and ends with: only then is anything left out. Empty in anybody else's Python."""


def command(**defaults: object) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A function as typer takes it, with every exception turned into one message and an exit code.

    A parameter whose type is a dataclass stands for the fields of it, each an option of its own; the function is given the
    object that they make.

    Args:
        defaults: of options, where they differ from those of the dataclass.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def run(context: typer.Context, **values: object) -> None:
            try:
                _gathered(function, values)
            except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
                raise
            except HeedmapError as error:
                fail(str(error), USER_ERROR)
            except Exception as error:
                if context.find_root().obj:
                    raise
                hint = "run the command again as `heedmap --debug …` to see where"
                fail(f"internal error: {type(error).__name__}: {error}\n{hint}", INTERNAL_ERROR)

        context = Parameter("context", Parameter.KEYWORD_ONLY, annotation=typer.Context)
        run.__signature__ = Signature([context, *_options(function, defaults)])  # type: ignore[attr-defined]
        return run

    return decorate


def _options(takes: Callable[..., object], defaults: Mapping[str, object]) -> Iterator[Parameter]:
    """The parameters of a function or a dataclass, with the fields of dataclasses in their places."""
    hints = get_type_hints(takes, include_extras=True)
    for name, parameter in signature(takes).parameters.items():
        if is_dataclass(hints[name]):
            yield from _options(hints[name], defaults)
        else:
            default = defaults.get(name, parameter.default)
            yield Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=hints[name])


def _gathered(takes: Callable[..., Made], values: Mapping[str, object]) -> Made:
    """What ``takes``, see :func:`_options`, makes of the values of all options."""
    hints = get_type_hints(takes, include_extras=True)
    names = signature(takes).parameters
    return takes(
        **{name: _gathered(hints[name], values) if is_dataclass(hints[name]) else values[name] for name in names}
    )


def examples(*commands: str) -> str:
    """The end of a command's help, one example a line.

    Args:
        commands: each as it is typed, at most 78 letters, so that no line of an 80-column terminal is broken.
    """
    return "\n\n".join(("[bold]Examples[/bold]", *(line.replace("[", "\\[") for line in commands)))


def fail(message: str, code: int) -> None:
    """Print ``message``, its advice as a shell has it, in red, and exit with ``code``."""
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, highlight=False).print(
        Text(f"heedmap: {said_for(SHELL, message)}", style="red"), soft_wrap=True
    )
    raise typer.Exit(code)


def quiet(*, bars: bool = False) -> None:
    """Transformers' hints are for programmers, its progress bars for terminals: an error should stand alone.

    Args:
        bars: leave its progress bars, where there is a terminal; a command with a bar of its own wants no other.
    """
    from transformers.utils import logging

    logging.set_verbosity_error()
    if not (bars and sys.stderr.isatty()):
        logging.disable_progress_bar()


@contextmanager
def importing() -> Iterator[None]:
    """Look for no garbage meanwhile, and the first time never again in what was made: libraries stay, and are large."""
    gc.disable()
    try:
        yield
    finally:
        _freeze()
        gc.enable()


@cache
def _freeze() -> None:
    gc.freeze()


@contextmanager
def sparing(model: str) -> Iterator[None]:
    """While a model without a processor is loaded, :data:`SPARED` are as if not installed, and of one of the zoo
    :data:`OF_OTHERS`; in a command's process alone.

    transformers asks once whether they are there and keeps the answer as long as the process lives; heedmap itself may import
    them afterwards.

    Args:
        model: its name, as :func:`heedmap.load` takes it.
    """
    wanted = (*SPARED, *(OF_OTHERS if is_zoo(model) else ())) if OWN and _reads_words_alone(model) else ()
    hidden = [name for name in wanted if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # None is Python's word for what cannot be imported
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def _reads_words_alone(model: str) -> bool:
    """Whether it is a folder without a processor: of the zoo or a person's own."""
    folder = MODELS / model.removeprefix(PREFIX) if is_zoo(model) else Path(model).expanduser()
    return (
        not is_of_library(model)
        and (folder / "config.json").is_file()
        and not any((folder / name).exists() for name in PROCESSORS)
    )


def progress_bar() -> Bar:
    """A progress bar with the time that is left; on standard error, and only on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Bar(*columns, console=console, disable=not console.is_terminal)


@contextmanager
def working(subject: Model, what: str) -> Iterator[Progress]:
    """Say on a terminal what is being done, how often the model ran and how long it takes.

    Gives what can be told how far it is; where there is no terminal, nothing comes of it.
    """
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, of: None
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description} · runs of the model: {task.completed:.0f}"),
        TimeElapsedColumn(),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        counting = subject.model.register_forward_pre_hook(lambda *_: bar.advance(task))
        try:
            yield lambda done, of: bar.update(task, description=f"{what}: {done} of {of}")
        finally:
            counting.remove()


def tell(words: str) -> None:
    """A line on standard error."""
    typer.echo(f"heedmap: {words}", err=True)


def end(out: Path | None, data: str | None, printed: Callable[[], None], opened: bool = False) -> None:
    """Print the data, where there are some; or else where the file is, or the result itself. The file may be opened too."""
    if data is not None:
        typer.echo(data)
    elif out is not None:
        typer.echo(f"wrote {out}")
    else:
        printed()
    if opened and out is not None:
        open_file(out)


def open_file(path: Path) -> None:
    """Open ``path`` as a desktop does; where there is none, say so on standard error."""
    if typer.launch(str(path.resolve())) != 0:
        tell(f"no program was found that opens {path}")
