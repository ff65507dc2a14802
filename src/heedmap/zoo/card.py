"""The card of a model, from its recipe and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heedmap.zoo.recipe import Recipe, Stage


def card(recipe: Recipe, measured: Mapping[str, Any]) -> str:
    """The text of ``README.md``.

    Args:
        recipe: of the model.
        measured: what ``training.json`` holds; see :func:`heedmap.zoo.folder.measured`.
    """
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


def _architecture(recipe: Recipe, measured: Mapping[str, Any]) -> str:
    size = f"{measured['bytes'] / 1e6:.2f} MB in safetensors"
    settings = ", ".join(f"{key} {value}" for key, value in recipe.stages[-1].settings.items())
    return (
        f"`{measured['architecture']}`, {measured['parameters']:,} parameters ({settings}), stored as {recipe.stored}: "
        f"{size}. `heedmap.load` gives float32."
    )


def _scores(recipe: Recipe, measured: Mapping[str, Any]) -> str:
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


def _training(recipe: Recipe, measured: Mapping[str, Any]) -> str:
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
