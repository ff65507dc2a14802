"""The zoo's tasks by deeper models, which are not shipped: is what the zoo's tables say of methods true with depth too?

    python bench/depth.py train NAME        # to .cache/deep/NAME; a run that stopped goes on
    python bench/depth.py measure NAME      # its figures to docs/depth.json, from which bench/which_method.py makes the page

NAME: vit-shapes-12 (twelve layers), bart-dates-6 (six and six).
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import heedmap
from heedmap.zoo import evidence
from heedmap.zoo.recipe import Recipe, task_of
from heedmap.zoo.recipes import BART_DATES, VIT_SHAPES, VIT_SHAPES_SETTINGS
from heedmap.zoo.samples import MATERIALS
from heedmap.zoo.train import train

LAYER = re.compile(r"layers\.\d+$")

_DATES = BART_DATES.stages[0]
_TWELVE = {**VIT_SHAPES_SETTINGS, "num_hidden_layers": 12}
_GUIDED, _LAST = VIT_SHAPES.stages

DEEP: Mapping[str, Recipe] = {
    "bart-dates-6": replace(
        BART_DATES,
        name="bart-dates-6",
        stages=(
            replace(
                _DATES,
                settings={
                    **_DATES.settings,
                    "d_model": 64,
                    "encoder_layers": 6,
                    "decoder_layers": 6,
                    "encoder_ffn_dim": 128,
                    "decoder_ffn_dim": 128,
                },
                steps=3500,
                rate=7e-4,
                warmup=400,
                every=250,
                checked=200,
                stop_at=0.99,
            ),
        ),
        tested=500,
    ),
    "vit-shapes-12": replace(
        VIT_SHAPES,
        name="vit-shapes-12",
        stages=(
            replace(
                _GUIDED,
                task="known.grown",
                settings={**_TWELVE, "patches": 4.0, "outlines": 4.0},
                steps=900,
                batch=16,
                rate=5e-4,
                warmup=100,
                every=100,
                checked=200,
            ),
            replace(
                _LAST,
                task="known.grown",
                settings={**_TWELVE, "patches": 0.0, "outlines": 0.0},
                steps=300,
                batch=16,
                rate=2e-4,
                warmup=30,
                every=100,
                checked=200,
            ),
        ),
        tested=500,
    ),
}
"""Name → recipe: that of the zoo's model with more layers, fewer steps."""


SHALLOW = {"bart-dates-6": "bart-dates", "vit-shapes-12": "vit-shapes"}
"""Deep model → the zoo's model of the same task."""
SAMPLES = {"bart-dates-6": 100, "vit-shapes-12": 25}
"""Of the test split, the first ones."""
TRIED = 200
"""Samples of the test split on which the model is scored with a layer left out."""


def main() -> None:
    """Train or measure."""
    parser = argparse.ArgumentParser(description="The zoo's tasks by deeper models.")
    parser.add_argument("what", choices=("train", "measure"))
    parser.add_argument("name", choices=DEEP)
    parser.add_argument("--work", type=Path, default=Path(".cache/deep"), help="gets the model's folder")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="gets depth.json")
    parser.add_argument("--methods", nargs="+", default=["fast"], help="of measure; the figures of others stay")
    given = parser.parse_args()
    if given.what == "train":
        train(DEEP[given.name], given.work / given.name)
    else:
        measure(given.name, given.work / given.name, given.docs / "depth.json", given.methods)


def measure(name: str, folder: Path, path: Path, methods: Sequence[str]) -> None:
    """The figures of a trained model into ``path``, beside those of others.

    Args:
        name: of :data:`DEEP`.
        folder: of the model.
        path: of the figures.
        methods: see :func:`heedmap.zoo.evidence.measure`; with others than all, the model must have figures already.
    """
    subject = heedmap.load(str(folder))
    data = (
        json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"format": "heedmap-evidence", "models": {}}
    )
    found = evidence.measure(subject, MATERIALS[SHALLOW[name]], SAMPLES[name], print, methods=methods)
    found |= {"refused": list(found["refused"])} if "refused" in found else {}
    before = data["models"].get(name)
    if before and list(methods) != ["fast"]:
        found = evidence.added(before, found) | {fact: before[fact] for fact in ("about", "without")}
    else:
        found |= {"about": _about(folder), "without": without(name, subject.model)}
    data["models"][name] = found
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def _about(folder: Path) -> dict[str, Any]:
    """How it was trained, and what it can do."""
    training = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    return {key: training[key] for key in ("parameters", "scores", "steps", "seconds", "seed", "versions")}


def without(name: str, model: nn.Module) -> dict[str, float]:
    """Score on the test split, with all layers (``all``) and with each layer left out: is the depth made use of?"""
    stage = DEEP[name].stages[-1]
    task, layers = task_of(stage.task), {n: m for n, m in model.named_modules() if LAYER.search(n)}

    def score() -> float:
        with torch.no_grad():
            return round(task.scores(model, DEEP[name].seed, "test", TRIED)[stage.watched], 4)

    scores = {"all": score()}
    for place, layer in layers.items():
        handle = layer.register_forward_hook(_left_out, with_kwargs=True)
        scores[place] = score()
        handle.remove()
    return scores


def _left_out(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    """A layer's output, its first part replaced by what it was given."""
    given = args[0] if args else kwargs["hidden_states"]
    return (given, *output[1:]) if isinstance(output, tuple) else given


if __name__ == "__main__":
    main()
