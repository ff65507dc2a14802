"""The training loop: steps, evaluations, checkpoints, until the last stage is over; then the model's folder."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from heedmap.common.files import check_folder, writing
from heedmap.errors import TrainingError
from heedmap.models.names import MANIFEST, verify
from heedmap.zoo.folder import write_folder
from heedmap.zoo.recipe import Recipe
from heedmap.zoo.run import Point, Training, TrainingState, read_checkpoint, write_checkpoint
from heedmap.zoo.threads import in_threads

CHECKPOINT = "checkpoint.pt"


def train(
    recipe: Recipe, out: Path, *, steps: int | None = None, fresh: bool = False, console: Console | None = None
) -> bool:
    """Train a model and write its folder.

    A run that stopped leaves its checkpoint in ``out``, and the next one goes on from there to the same weights, bit
    for bit on one machine, as if nothing had been. On SIGINT (Ctrl-C) and SIGTERM the step under way is finished and
    a checkpoint written; a second one stops at once.

    Args:
        recipe: what to train.
        out: folder of the model; made where there is none.
        steps: at most so many a stage; None: as the recipe says.
        fresh: start over, also where there is a checkpoint.
        console: where to show progress; None: stderr.

    Returns:
        Whether it is done; False: it was interrupted.

    Raises:
        OutputError: ``out`` cannot be written.
        OptionError, FileFormatError: the checkpoint in ``out`` is of another run, or damaged.
        TrainingError: the loss is not finite.
    """
    recipe = recipe if steps is None else recipe.shortened(steps)
    console = console or Console(stderr=True, highlight=False)
    path = out / CHECKPOINT
    check_folder(out)

    def save() -> None:
        with writing(out):
            write_checkpoint(path, recipe.fingerprint, run.state())

    with in_threads(recipe.threads), torch.random.fork_rng(devices=[]), _interruptions() as asked:
        run = _begin(recipe, None if fresh else read_checkpoint(path, recipe.fingerprint), console)
        with _bar(console) as bar:
            while not run.over and not asked():
                _go_on(run, bar, save)
        save()
        if not run.over:
            return False
        console.print(f"measuring {recipe.name} on {recipe.tested} samples of the test split")
        with writing(out):
            write_folder(run, out)
            path.unlink()
    return True


def trained(recipe: Recipe, out: Path) -> Path:
    """The folder of a model that is not shipped; where ``out`` has no whole model, it is trained, or goes on being trained.

    Raises:
        TrainingError: the training was interrupted.
        ModelLoadError: the weights in ``out`` are not those that were written.
        OutputError, OptionError, FileFormatError: see :func:`train`.
    """
    if not (out / MANIFEST).is_file() and not train(recipe, out):
        raise TrainingError(
            f"{recipe.name}: the training was interrupted; nothing in {out} is lost, call again to go on"
        )
    verify(out)
    return out


def _begin(recipe: Recipe, state: TrainingState | None, console: Console) -> Training:
    if state is None:
        return Training(recipe)
    run = Training.resumed(recipe, state)
    console.print(f"going on from step {run.step} of stage {run.stage + 1}")
    return run


def _go_on(run: Training, bar: Progress, save: Callable[[], None]) -> None:
    """One step, and what is due after it."""
    shown = bar.task_ids[-1] if bar.task_ids else None
    if shown is None or bar.tasks[-1].fields["stage"] != run.stage:
        title = f"{run.recipe.name} {run.stage + 1}/{len(run.recipe.stages)}"
        shown = bar.add_task(title, total=run.plan.steps, completed=run.step, stage=run.stage)
    run.advance()
    bar.update(shown, completed=run.step)
    if run.due:
        bar.console.print(_line(run.evaluate(), run.seconds))
        save()


def _line(point: Point, seconds: float) -> str:
    values = "  ".join(f"{name} {value:.4f}" for name, value in point.items() if name not in ("stage", "step"))
    return f"stage {point['stage'] + 1}  step {point['step']}  {values}  ({seconds:.0f} s)"


def _bar(console: Console) -> Progress:
    left = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*left, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=console)


@contextmanager
def _interruptions() -> Iterator[Callable[[], bool]]:
    """Whether SIGINT or SIGTERM has come; the second one has its usual effect."""
    seen: list[int] = []
    before: dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None] = {}

    def note(number: int, _frame: FrameType | None) -> None:
        seen.append(number)
        signal.signal(number, before[signal.Signals(number)])

    if threading.current_thread() is threading.main_thread():  # Python lets no other set a handler
        for interrupt in (signal.SIGINT, signal.SIGTERM):
            before[interrupt] = signal.signal(interrupt, note)
    try:
        yield lambda: bool(seen)
    finally:
        for interrupt, handler in before.items():
            signal.signal(interrupt, handler)
