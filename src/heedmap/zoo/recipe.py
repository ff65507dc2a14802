"""What a recipe is: the data from which the one loop trains a zoo model. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Stage:
    """One training: a model, its data, and how long and how fast it learns.

    Attributes:
        task: module that holds the functions of a :class:`heedmap.zoo.recipe.Task`.
        settings: for the task's ``model``.
        steps: steps of the optimiser.
        batch: samples a step.
        rate: AdamW's greatest learning rate.
        watched: the score, higher is better, by which the best weights are kept.
        warmup: steps over which the rate rises; it falls by a cosine afterwards, to zero.
        slow: start of a parameter's name → factor of its rate.
        weight_decay: of matrices; vectors (biases, norms) have none.
        clip: greatest norm of the gradient.
        every: steps between evaluations; at each a checkpoint is written.
        checked: validation samples of an evaluation, always the first ones.
        stop_at: two evaluations in a row with at least this score end the stage; None: never.
        patience: evaluations without a better score that end the stage; None: any number.
    """

    task: str
    settings: Mapping[str, object]
    steps: int
    batch: int
    rate: float
    watched: str
    warmup: int = 200
    slow: Mapping[str, float] = field(default_factory=dict)
    weight_decay: float = 0.01
    clip: float = 1.0
    every: int = 250
    checked: int = 256
    stop_at: float | None = None
    patience: int | None = None


@dataclass(frozen=True)
class MaskedStage(Stage):
    """A stage that goes on from a shipped model, whose tokens are masked at random; see :mod:`heedmap.zoo.run`.

    Attributes:
        of: the shipped model.
        share: how probable it is that a token is masked.
    """

    of: str = ""
    share: float = 0.1


GENTLE = 5
"""Part of the last stage's rate with which a trained model learns to do without tokens."""


@dataclass(frozen=True)
class Recipe:
    """A zoo model and how it comes about.

    Attributes:
        name: of the model, without ``zoo/``.
        about: what it takes and gives, in a line.
        data: what it learned from, and what is known of the truth; a paragraph of its card.
        example: an example input and the answer, for its card.
        stages: trainings one after the other; each may take over weights from the one before.
        wanted: score on the test split → the least that is aimed at.
        seed: of weights, data and dropout.
        tested: samples of the test split on which the scores are measured.
        stored: dtype of the stored weights; they are loaded as float32.
        threads: of torch, on which the last bits of the weights depend.
        arguments: an example for ``heedmap explain``, such as ``--text "…"``; empty: there is none in words.
        licence: of the weights.
    """

    name: str
    about: str
    data: str
    example: str
    stages: tuple[Stage, ...]
    wanted: Mapping[str, float]
    seed: int = 0
    tested: int = 1000
    stored: str = "float16"
    threads: int = 1
    arguments: str = ""
    licence: str = "MIT"

    def shortened(self, steps: int) -> Recipe:
        """The same recipe with at most ``steps`` steps a stage, the schedule made to fit."""
        return replace(self, stages=tuple(_shortened(stage, min(steps, stage.steps)) for stage in self.stages))

    def masked(self, share: float, steps: int = 500) -> Recipe:
        """How the shipped model learns to do without ``share`` of its tokens, in so many steps of its last stage."""
        last = self.stages[-1]
        stage = MaskedStage(**{f.name: getattr(last, f.name) for f in fields(last)}, of=self.name, share=share)
        stage = replace(stage, steps=steps, rate=last.rate / GENTLE, warmup=steps // 10, every=max(1, steps // 4))
        told = f"{self.about}; fine-tuned with each token masked with a probability of {share:g}, for `heedmap evaluate fidelity`"
        return replace(self, name=f"{self.name}-masked", about=told, stages=(stage,), wanted={})

    @property
    def fingerprint(self) -> str:
        """What must be equal for one run to go on where another stopped."""
        return repr((self.name, self.seed, self.threads, self.stages))


def _shortened(stage: Stage, steps: int) -> Stage:
    return replace(stage, steps=steps, warmup=min(stage.warmup, steps // 5), every=min(stage.every, steps))


Batch = Mapping[str, "Tensor"]


class Processor(Protocol):
    """What is saved beside a model: a tokenizer, an image processor, or both in one."""

    def save_pretrained(self, folder: Path, /) -> object:
        """Write it into a folder."""


class Task(Protocol):
    """The functions that a task module has. All of them are functions of their arguments alone."""

    def model(self, settings: Mapping[str, object], before: PreTrainedModel | None) -> PreTrainedModel:
        """A new model; its random numbers come from torch's generator, which the loop has seeded.

        Args:
            settings: of the stage.
            before: the trained model of the stage before, to take weights from; None in the first stage, and when a
                run is resumed, since then all weights are loaded over it.
        """

    def processors(self) -> Sequence[Processor]:
        """What is saved beside the model."""

    def batch(self, seed: int, split: str, start: int, count: int) -> Batch:
        """Samples ``start`` to ``start + count`` of ``"train"``, ``"val"`` or ``"test"``; ``"train"`` never ends."""

    def loss(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        """The scalar to minimise on a batch of the training split."""

    def scores(self, model: PreTrainedModel, seed: int, split: str, count: int) -> dict[str, float]:
        """Scores on the first ``count`` samples of a split; the model is in eval mode and gradients are off."""


def task_of(module: str) -> Task:
    """The task in the module of that name."""
    return cast(Task, import_module(module))
