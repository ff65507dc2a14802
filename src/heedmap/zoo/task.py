"""What a task is: the functions of a recipe, in a module of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from torch import Tensor, nn

Batch = Mapping[str, "Tensor"]


class Task(Protocol):
    """The functions that a task module has. All of them are functions of their arguments alone."""

    def model(self, settings: Mapping[str, Any], before: nn.Module | None) -> nn.Module:
        """A new model; its random numbers come from torch's generator, which the loop has seeded.

        Args:
            settings: of the stage.
            before: the trained model of the stage before, to take weights from; None in the first stage, and when a
                run is resumed, since then all weights are loaded over it.
        """

    def processors(self) -> Sequence[Any]:
        """What is saved beside the model, each with a ``save_pretrained``: tokenizer, image processor."""

    def batch(self, seed: int, split: str, start: int, count: int) -> Batch:
        """Samples ``start`` to ``start + count`` of ``"train"``, ``"val"`` or ``"test"``; ``"train"`` never ends."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The scalar to minimise on a batch of the training split."""

    def scores(self, model: nn.Module, seed: int, split: str, count: int) -> dict[str, float]:
        """Scores on the first ``count`` samples of a split; the model is in eval mode and gradients are off."""


def task_of(module: str) -> Task:
    """The task in the module of that name."""
    return cast(Task, import_module(module))
