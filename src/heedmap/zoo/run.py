"""A training run: model, optimiser, step and curve, and how each moves on.

At the end, random masks on what a model reads while it learns: for F-Fidelity, which asks a model that can do without some
tokens.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, TypedDict

import torch
from torch import Tensor, nn

from heedmap.data.segments import Segment
from heedmap.errors import FileFormatError, InputError, OptionError, TrainingError
from heedmap.evaluate.masking import INPUTS, MASKS, masked, no_words, source
from heedmap.models.loader import load
from heedmap.models.names import PREFIX
from heedmap.zoo.recipe import MaskedStage, Recipe, Stage, Task, task_of

if TYPE_CHECKING:
    from jaxtyping import Bool
    from torch.optim.optimizer import StateDict
    from transformers import PreTrainedModel

    from heedmap.models.model import Model

Point = dict[str, float]
"""``stage`` and ``step`` (whole numbers), ``loss``, and the scores."""


class Best(TypedDict):
    """The best score of a stage so far, and the weights that had it."""

    score: float
    weights: dict[str, Tensor]


class TrainingState(TypedDict):
    """All that the rest of a run depends on, see :class:`Training`."""

    stage: int
    step: int
    over: bool
    seconds: float
    curve: list[Point]
    total: Tensor
    since: int
    best: Best
    model: dict[str, Tensor]
    optimiser: StateDict
    random: Tensor


def rate_factor(stage: Stage, step: int) -> float:
    """The share of the greatest learning rate at ``step``, counted from 0: linear warm-up, then a cosine to zero."""
    if step < stage.warmup:
        return (step + 1) / stage.warmup
    return 0.5 + 0.5 * math.cos(math.pi * (step - stage.warmup) / max(stage.steps - stage.warmup, 1))


def optimiser(model: nn.Module, stage: Stage) -> torch.optim.AdamW:
    """AdamW with a group for each rate and weight decay; a group's ``base`` is its greatest rate."""
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            factor = next((f for start, f in stage.slow.items() if name.startswith(start)), 1.0)
            decay = stage.weight_decay if parameter.dim() > 1 else 0.0
            groups.setdefault((stage.rate * factor, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": p, "base": rate, "lr": rate, "weight_decay": decay} for (rate, decay), p in groups.items()]
    )


def enough(stage: Stage, scores: Sequence[float]) -> bool:
    """Whether the scores of a stage's evaluations, oldest first, say that it can stop early."""
    if stage.stop_at is not None and len(scores) > 1 and min(scores[-2:]) >= stage.stop_at:
        return True
    return stage.patience is not None and len(scores) - 1 - scores.index(max(scores)) >= stage.patience


class Training:
    """One training under way. The data of a step follow from the seed and the step, so a state needs none of them.

    Attributes:
        recipe: what is trained.
        stage: index of the present stage.
        step: steps done in it.
        over: whether the last stage has ended; ``model`` then has the best weights.
        model: of the present stage.
        curve: an entry for each evaluation so far.
        seconds: spent on steps and evaluations so far.

    Args:
        recipe: what is trained.
        state: the :meth:`state` of the run that goes on; None: it begins.
    """

    step: int
    _total: Tensor  # of the losses since the last evaluation
    _since: int  # steps since then
    _best: Best

    def __init__(self, recipe: Recipe, state: TrainingState | None = None) -> None:
        self.recipe = recipe
        self.stage, self.over, self.seconds = 0, False, 0.0
        self.curve: list[Point] = []
        if state is not None:
            self.stage, self.over = state["stage"], state["over"]
            self.seconds, self.curve = state["seconds"], state["curve"]
        self._enter(None)
        if state is not None:
            self.step, self._best = state["step"], state["best"]
            self._total, self._since = state["total"], state["since"]
            self.model.load_state_dict(state["model"])
            self._optimiser.load_state_dict(state["optimiser"])
            torch.set_rng_state(state["random"])

    def state(self) -> TrainingState:
        """All that the rest of the run depends on."""
        return {
            "stage": self.stage,
            "step": self.step,
            "over": self.over,
            "seconds": self.seconds,
            "curve": self.curve,
            "total": self._total,
            "since": self._since,
            "best": self._best,
            "model": self.model.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "random": torch.get_rng_state(),
        }

    @property
    def plan(self) -> Stage:
        """The present stage's part of the recipe."""
        return self.recipe.stages[self.stage]

    @property
    def due(self) -> bool:
        """Whether it is time to :meth:`evaluate`."""
        return self.step % self.plan.every == 0 or self.step == self.plan.steps

    def advance(self) -> None:
        """One step of the optimiser."""
        began = perf_counter()
        batch = self._task.batch(self.recipe.seed, "train", self.step * self.plan.batch, self.plan.batch)
        loss = self._task.loss(self.model, batch)
        self._optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.plan.clip)
        for group in self._optimiser.param_groups:
            group["lr"] = group["base"] * rate_factor(self.plan, self.step)
        self._optimiser.step()
        self.step, self._total, self._since = self.step + 1, self._total + loss.detach(), self._since + 1
        self.seconds += perf_counter() - began

    def evaluate(self) -> Point:
        """The next entry of the curve, on the validation split; the best weights are kept, and a stage may end.

        Raises:
            TrainingError: the loss is not finite.
        """
        began = perf_counter()
        point: Point = {"stage": self.stage, "step": self.step, "loss": self._mean_loss()}
        scores = self._scores()
        self.curve.append({**point, **scores})
        if scores[self.plan.watched] >= self._best["score"]:
            weights = {name: value.clone() for name, value in self.model.state_dict().items()}
            self._best = {"score": scores[self.plan.watched], "weights": weights}
        self.seconds += perf_counter() - began
        here = [entry[self.plan.watched] for entry in self.curve if entry["stage"] == self.stage]
        if self.step == self.plan.steps or enough(self.plan, here):
            self._leave()
        return self.curve[-1]

    def _mean_loss(self) -> float:
        loss = float(self._total) / max(self._since, 1)
        if not math.isfinite(loss):
            raise TrainingError(
                f"{self.recipe.name}: the loss is not finite at step {self.step}; "
                "the last checkpoint is from before: lower the rate in the recipe, and start over with --fresh"
            )
        self._total, self._since = torch.zeros(()), 0
        return loss

    def _scores(self) -> dict[str, float]:
        self.model.eval()
        with torch.no_grad():
            scores = self._task.scores(self.model, self.recipe.seed, "val", self.plan.checked)
        self.model.train()
        return scores

    def _enter(self, before: PreTrainedModel | None) -> None:
        torch.manual_seed(self.recipe.seed + self.stage)
        self._task: Task = task_of(self.plan.task)
        self.model = self._task.model(self.plan.settings, before).train()
        if isinstance(self.plan, MaskedStage):
            begin_masked(self.model, self.plan)
        self._optimiser = optimiser(self.model, self.plan)
        self.step, self._total, self._since = 0, torch.zeros(()), 0
        self._best = {"score": -math.inf, "weights": {}}

    def _leave(self) -> None:
        self.model.load_state_dict(self._best["weights"])
        if self.stage + 1 == len(self.recipe.stages):
            self.over = True
        else:
            self.stage += 1
            self._enter(self.model)


def write_checkpoint(path: Path, fingerprint: str, state: TrainingState) -> None:
    """Write ``state`` (of a run of the recipe with ``fingerprint``) to ``path``, which never holds half of it."""
    beside = path.with_suffix(".part")
    torch.save({"fingerprint": fingerprint, "state": state}, beside)
    os.replace(beside, path)


def read_checkpoint(path: Path, fingerprint: str) -> TrainingState | None:
    """The state of the run that stopped at ``path``; None: there is none.

    Raises:
        FileFormatError: the file is damaged.
        OptionError: it is of another recipe, or of the same with other settings.
    """
    if not path.exists():
        return None
    try:
        checkpoint = torch.load(path, weights_only=True)
        written, state = checkpoint["fingerprint"], checkpoint["state"]
    except Exception as error:  # damage of any kind raises errors of any kind
        raise FileFormatError(f"{path} is damaged ({type(error).__name__}); start over with --fresh") from error
    if written != fingerprint:
        raise OptionError(
            f"{path} is of a run with other settings (another model, --steps, or version of its recipe); "
            "give the same, another --out, or start over with --fresh"
        )
    return state


def begin_masked(model: PreTrainedModel, stage: MaskedStage) -> None:
    """Give a model the shipped weights, and mask what it reads, not what it says, from now on, in training and in scoring.

    Raises:
        InputError: it reads neither words nor boxes nor a picture in patches, or answers a picture in words.
    """
    subject = load(PREFIX + stage.of)
    if subject.kind_row.speaks and "image" in subject.kind_row.takes:
        raise InputError(
            f"{subject.name} answers a picture in words, and its tower is called apart from them, where random masks do not "
            "reach; models that label a picture, or match it to a text, can be given"
        )
    model.load_state_dict(subject.model.state_dict(), strict=False)
    reader = model.get_encoder() if model.config.is_encoder_decoder else model.base_model
    reader.register_forward_pre_hook(RandomMasks(subject, stage.share), with_kwargs=True)


class RandomMasks:
    """A forward pre-hook that masks each token with the same probability, as evaluations mask it.

    Args:
        subject: the shipped model.
        share: how probable it is.
    """

    def __init__(self, subject: Model, share: float) -> None:
        self.subject, self.share = subject, share

    def __deepcopy__(self, memo: dict[int, object]) -> RandomMasks:
        return self

    def __call__(
        self, module: nn.Module, args: tuple[object, ...], keywords: dict[str, object]
    ) -> tuple[tuple[()], dict[str, object]]:
        """What the module is called with, less what is masked; the draws are of torch's generator."""
        inputs = dict(signature(module.forward).bind_partial(*args, **keywords).arguments)
        inputs |= inputs.pop("kwargs", {})
        parts = [name for name in INPUTS if name != "audio" and name in self.subject.kind_row.takes]
        if not parts:
            raise InputError(
                f"{self.subject.name} takes {self.subject.kind_row.about}; random masks are for words, boxes and patches"
            )
        for name in parts:
            _, value = source(self.subject, inputs, name)
            grid: tuple[int, int] | None = None
            if name == "image":
                size = int(getattr(self.subject.config, "patch_size", 1))
                grid = value.shape[-2] // size, value.shape[-1] // size
            keep = torch.rand(len(value), grid[0] * grid[1] if grid else value.shape[1]) >= self.share
            if name == "text":
                keep |= self._fixed(value, inputs.get(MASKS[name]))
            places = torch.arange(keep.shape[1]).expand(len(keep), -1)
            inputs = masked(self.subject, inputs, Segment(name, name, name, keep.float(), places, grid), keep)
        return (), inputs

    def _fixed(self, ids: Tensor, mask: Tensor | None) -> Bool[Tensor, "batch tokens"]:
        """Which tokens of a text stay: padding, and those that are no words."""
        special = torch.isin(ids, torch.tensor(sorted(no_words(self.subject)), dtype=ids.dtype))
        return special if mask is None else special | (mask == 0)
