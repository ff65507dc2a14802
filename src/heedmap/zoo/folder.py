"""The folder of a trained model: weights, processors, training record, card, manifest."""

from __future__ import annotations

import copy
import json
import os
import platform
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import torch

from heedmap.common.files import write_atomically
from heedmap.models.names import MANIFEST, manifest
from heedmap.zoo.recipe import Recipe, Stage, task_of
from heedmap.zoo.run import Training

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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
    weights = folder / "model.safetensors"
    return {
        "name": run.recipe.name,
        "architecture": type(run.model).__name__,
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "bytes": weights.stat().st_size,
        "scores": scores_of(run.recipe, type(run.model), folder, run.recipe.tested),
        "steps": sum(_steps(run, stage) for stage in range(len(run.recipe.stages))),
        "seconds": round(run.seconds, 1),
        "seed": run.recipe.seed,
        "versions": _versions(),
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


def _steps(run: Training, stage: int) -> int:
    return int(max(point["step"] for point in run.curve if point["stage"] == stage))


def _versions() -> dict[str, str]:
    import transformers

    return {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__}


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
    rows = [f"| {name} | {value:.4f} | {_wanted(recipe, name)} |" for name, value in measured["scores"].items()]
    below = [name for name, least in recipe.wanted.items() if measured["scores"][name] < least]
    missed = f"\n\n**Below what was aimed at: {', '.join(below)}.**" if below else ""
    head = f"Measured on the first {recipe.tested:,} samples of the test split, with the stored weights."
    return "\n".join((head, "", "| score | measured | aimed at |", "|---|---|---|", *rows)) + missed


def _use(recipe: Recipe) -> str:
    python = f'```python\nimport heedmap\n\nsubject = heedmap.load("zoo/{recipe.name}")\n```'
    shell = f"```bash\nheedmap explain zoo/{recipe.name} {recipe.arguments}\n```"
    return f"{python}\n\n{shell}" if recipe.arguments else python


def _wanted(recipe: Recipe, name: str) -> str:
    return f"≥ {recipe.wanted[name]:g}" if name in recipe.wanted else ""


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
