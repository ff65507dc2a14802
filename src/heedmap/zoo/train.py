"""The training loop: steps, evaluations, checkpoints, until the last stage is over; then the model's folder.

That holds weights, processors, training record, card and manifest.
"""

from __future__ import annotations

import copy
import json
import os
import platform
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, TypedDict

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from heedmap.common.files import check_folder, write_atomically, writing
from heedmap.errors import TrainingError
from heedmap.models.names import MANIFEST, manifest, verify
from heedmap.zoo.recipe import Recipe, Stage, task_of
from heedmap.zoo.run import Training, read_checkpoint, write_checkpoint

if TYPE_CHECKING:
    from transformers import PreTrainedModel

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
        state = None if fresh else read_checkpoint(path, recipe.fingerprint)
        run = Training(recipe, state)
        if state is not None:
            console.print(f"going on from step {run.step} of stage {run.stage + 1}")
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


def _go_on(run: Training, bar: Progress, save: Callable[[], None]) -> None:
    """One step, and what is due after it."""
    shown = bar.task_ids[-1] if bar.task_ids else None
    if shown is None or bar.tasks[-1].fields["stage"] != run.stage:
        title = f"{run.recipe.name} {run.stage + 1}/{len(run.recipe.stages)}"
        shown = bar.add_task(title, total=run.plan.steps, completed=run.step, stage=run.stage)
    run.advance()
    bar.update(shown, completed=run.step)
    if run.due:
        point = run.evaluate()
        values = "  ".join(f"{name} {value:.4f}" for name, value in point.items() if name not in ("stage", "step"))
        bar.console.print(f"stage {point['stage'] + 1}  step {point['step']}  {values}  ({run.seconds:.0f} s)")
        save()


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


@contextmanager
def in_threads(count: int) -> Iterator[None]:
    """So many threads of torch, until the end of the ``with``; small models go fastest with one, as several mostly wait."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def write_folder(run: Training, out: Path) -> None:
    """Write the model of a run that is over to ``out``; the manifest, without which it is no zoo model, is last."""
    (out / MANIFEST).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".writing.") as temporary:
        draft = Path(temporary)
        _save_model(run, draft)
        record = measured(run, draft)
        (draft / "training.json").write_text(_json({**record, "curve": run.curve}), encoding="utf-8")
        (draft / "README.md").write_text(card(run.recipe, record), encoding="utf-8")
        for path in draft.iterdir():
            path.chmod(0o644)  # safetensors lets nobody else read them
            os.replace(path, out / path.name)
    write_atomically(out / MANIFEST, _json(manifest(out)).encode())


class ModelRecord(TypedDict):
    """What is known of a run and of its model: ``bytes`` of the weights, ``scores`` on the test split by the stored weights."""

    name: str
    architecture: str
    parameters: int
    bytes: int
    scores: dict[str, float]
    steps: int
    seconds: float
    seed: int
    versions: dict[str, str]


def measured(run: Training, folder: Path) -> ModelRecord:
    """What is known of a run and of the model that it left in ``folder``."""
    import transformers

    return {
        "name": run.recipe.name,
        "architecture": type(run.model).__name__,
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "bytes": (folder / "model.safetensors").stat().st_size,
        "scores": scores_of(run.recipe, type(run.model), folder, run.recipe.tested),
        "steps": sum({point["stage"]: int(point["step"]) for point in run.curve}.values()),
        "seconds": round(run.seconds, 1),
        "seed": run.recipe.seed,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }


def scores_of(recipe: Recipe, architecture: type[PreTrainedModel], folder: Path, count: int) -> dict[str, float]:
    """Scores of the model in ``folder``, of this class, on the first ``count`` samples of the test split."""
    model = architecture.from_pretrained(folder, local_files_only=True).eval()
    with torch.no_grad():
        return task_of(recipe.stages[-1].task).scores(model, recipe.seed, "test", count)


def _save_model(run: Training, folder: Path) -> None:
    stored = copy.deepcopy(run.model).to(getattr(torch, run.recipe.stored)).eval()
    stored.save_pretrained(folder)
    stored.config.dtype = torch.float32  # as what it is loaded, wherever it is loaded
    stored.config.save_pretrained(folder)
    for processor in task_of(run.plan.task).processors():
        processor.save_pretrained(folder)


def _json(data: Mapping[str, object]) -> str:
    return json.dumps(data, indent=1) + "\n"


def card(recipe: Recipe, measured: ModelRecord) -> str:
    """The text of ``README.md``; ``measured``: what ``training.json`` holds."""
    parts = (
        f"---\nlicense: {recipe.licence.lower()}\nlibrary_name: transformers\n---",
        f"# zoo/{recipe.name}\n\n{recipe.about}.",
        f"## Data\n\n{recipe.data}\n\nExample: {recipe.example}",
        f"## Architecture\n\n{_architecture(recipe, measured)}",
        f"## Scores\n\n{_scores(recipe, measured)}",
        f"## Training\n\n{_training(recipe, measured)}",
        f"## Licence\n\n{recipe.licence}",
        f"## Use\n\n{_use(recipe)}",
    )
    return "\n\n".join(parts) + "\n"


def _architecture(recipe: Recipe, measured: ModelRecord) -> str:
    size = f"{measured['bytes'] / 1e6:.2f} MB in safetensors"
    settings = ", ".join(f"{key} {value}" for key, value in recipe.stages[-1].settings.items())
    return (
        f"`{measured['architecture']}`, {measured['parameters']:,} parameters ({settings}), stored as {recipe.stored}: "
        f"{size}. `heedmap.load` gives float32."
    )


def _scores(recipe: Recipe, measured: ModelRecord) -> str:
    wanted = {name: f"≥ {least:g}" for name, least in recipe.wanted.items()}
    rows = [f"| {name} | {value:.4f} | {wanted.get(name, '')} |" for name, value in measured["scores"].items()]
    below = [name for name, least in recipe.wanted.items() if measured["scores"][name] < least]
    missed = f"\n\n**Below what was aimed at: {', '.join(below)}.**" if below else ""
    head = f"Measured on the first {recipe.tested:,} samples of the test split, with the stored weights."
    return "\n".join((head, "", "| score | measured | aimed at |", "|---|---|---|", *rows)) + missed


def _use(recipe: Recipe) -> str:
    python = f'```python\nimport heedmap\n\nsubject = heedmap.load("zoo/{recipe.name}")\n```'
    shell = f"```bash\nheedmap explain zoo/{recipe.name} {recipe.arguments}\n```"
    return f"{python}\n\n{shell}" if recipe.arguments else python


def _training(recipe: Recipe, measured: ModelRecord) -> str:
    stages = "\n".join(f"{number}. {_stage(stage)}" for number, stage in enumerate(recipe.stages, 1))
    versions = ", ".join(f"{name} {version}" for name, version in measured["versions"].items())
    return (
        f"`heedmap zoo train {recipe.name}`: {measured['seconds'] / 60:.1f} minutes on {recipe.threads} CPU thread(s), "
        f"{measured['steps']:,} steps, seed {recipe.seed}; {versions}. The curve is in `training.json`.\n\n{stages}"
    )


def _stage(stage: Stage) -> str:
    stop = "" if stage.stop_at is None else f"; stops when {stage.watched} is {stage.stop_at:g} twice in a row"
    return (
        f"`{stage.task}`: AdamW, at most {stage.steps:,} steps of {stage.batch}, rate {stage.rate:g}, "
        f"{stage.warmup} steps of warm-up, then a cosine to zero{stop}; the weights with the best {stage.watched} "
        f"on {stage.checked:,} validation samples are kept."
    )
