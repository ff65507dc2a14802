"""What a model says of some inputs, held fixed: the same class, query or token of whatever it is shown afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from heedmap.attention import forward
from heedmap.engine import explain
from heedmap.targets import Function, Similarity, Target, as_target, class_logits

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from heedmap.evaluate.harness.protocol import Contender

MULTI = "multi_label_classification"
"""``problem_type`` of a model that says yes or no to each label."""
LEAST = 1e-6
"""A score nearer to 0 is no measure of others."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What a model says of a batch.

    Attributes:
        subject: the model.
        target: takes the same place of any output for this batch; to be explained.
        places: for each sample the index of what it says in its own logits, flattened; None: the output has no classes.
        scores: the target's value for the batch as it is, (batch,).
    """

    subject: Any
    target: Target
    places: Int[Tensor, " batch"] | None
    scores: Float[Tensor, " batch"]

    def probability(self, inputs: Mapping[str, Any], owners: Int[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        """How much of the answer is left for other inputs; one forward pass.

        The answer's probability; of a model without classes (pairs, embeddings) its score as a multiple of what it was.

        Args:
            inputs: with one row for each of ``owners``, changed but of the same shape.
            owners: for each row the number of the sample in the batch that it was made of.
        """
        output = output_of(self.subject, inputs)
        owners = owners.to(self.scores.device)
        if self.places is None:
            values = self.target.choose(output, self.subject.context(inputs)).values
            return values.float() / self.scores[owners].abs().clamp(min=LEAST)
        logits = class_logits(output, None)
        classes, places = logits.shape[-1], self.places[owners]
        rows = torch.arange(len(logits), device=logits.device)
        own = logits.reshape(len(logits), -1, classes)[rows, places // classes].float()
        return probabilities(self.subject, own)[rows, places % classes]


def held(subject: Any, inputs: Mapping[str, Any], target: Any = None) -> Answer:
    """What ``subject`` says of ``inputs``, by ``target`` (as for :func:`heedmap.explain`; None: its own default).

    Raises:
        TargetError: the target does not fit the output.
    """
    wanted = as_target(subject.resolve_target(target, inputs))
    output = output_of(subject, inputs)
    chosen = wanted.choose(output, subject.context(inputs))
    scores = chosen.values.detach().float()
    if chosen.again is None:
        return Answer(subject, wanted, None, scores)
    logits = class_logits(output, None)
    numbers = torch.arange(logits[0].numel(), device=logits.device).reshape(logits.shape[1:]).expand(logits.shape)
    return Answer(subject, Function(chosen.again), chosen.again(numbers), scores)  # it takes numbers as it takes logits


def explained(subject: Any, inputs: Mapping[str, Any], target: Any, contender: Contender, seed: int) -> Any:
    """The contender's explanation of a batch, for a list of targets a list; ``random`` draws by the seed."""
    options = {"seed": seed} if contender.method == "random" else {}
    return explain(subject, inputs, target=target, method=contender.method, **{**options, **contender.options})


def output_of(subject: Any, inputs: Mapping[str, Any]) -> Any:
    """The model's output without gradient, in eval mode, with a fixed seed; the model is left as it was."""
    return forward.output_of(subject.model, inputs)


def probabilities(subject: Any, logits: Float[Tensor, "rows classes"]) -> Float[Tensor, "rows classes"]:
    """Of each class; where the model says yes or no to each label, of a yes."""
    if getattr(subject.config, "problem_type", None) == MULTI:
        return logits.sigmoid()
    return logits.softmax(-1)


def class_names(subject: Any) -> dict[int, str]:
    """Class index → name; empty where the model has none."""
    own = subject.labels if subject.labels is not None else getattr(subject.config, "id2label", None)
    return {int(index): str(name) for index, name in (own or {}).items()}


def all_class_names(subject: Any, classes: int) -> dict[int, str]:
    """Class index → name, of every class: its number where the model has no name for it."""
    names = class_names(subject)
    return {index: names.get(index, str(index)) for index in range(classes)}


def target_of(places: Sequence[tuple[int, ...]]) -> Target:
    """The target that takes from each sample's logits the score at its place."""
    if not places[0]:
        return Similarity()
    columns = torch.tensor(places).T

    def picked(output: Any) -> torch.Tensor:
        logits = class_logits(output, None)
        rows = torch.arange(len(logits), device=logits.device)
        return logits[(rows, *columns.to(logits.device))]

    return Function(picked)
